//! A look at an upstream: which version, which models, which of them are loaded.
//!
//! One shot, each question bounded in time and bytes; when to look and what follows from it is decided elsewhere. Reads
//! the fields it needs and ignores all others, because they come and go between Ollama's versions. What an upstream says
//! is shown to people, so control characters never get through.

use std::fmt;
use std::time::Duration;

use gate_types::UpstreamId;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::answer::Answer;
use crate::client::Client;
use crate::error::UpstreamError;
use crate::marks::{Along, Mark};
use crate::request::Ask;

/// For each question; a busy Ollama answered all three within 5 ms, one that starts may take a moment for its listing.
pub const TIME_LIMIT: Duration = Duration::from_secs(5);
/// Bytes of each answer. A listing has about 400 per model.
pub const BYTE_LIMIT: usize = 8 << 20;
const VERSION: &str = "/api/version";
/// Longer than any version or digest; longer names are no model names (350 + 3 × 80 and separators).
const LONGEST_TEXT: usize = 640;

/// Why a question has no answer: one line for the operator, without the endpoint in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(String);

/// The field by which gates know again what they sent: the marks of the gates that a request came by, and in an answer a
/// word to say that a gate gave it.
pub const HOPS: &str = "Herdgate-Hops";

/// What an upstream was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The question came back to this very gate: the upstream is the gate itself, or leads to it. Nothing else is known then.
    pub leads_back: bool,
    /// A listing that it was asked for came back: it may lead to this gate by way of others, or somebody behind it only shows what
    /// it was sent. So it stays in use.
    pub may_lead_back: bool,
    /// It was asked whether anything answers there, and something does. It is no Ollama, so nothing else is known.
    pub is_other: bool,
    /// What `GET /api/version` says. Where that fails, nothing else is asked.
    pub version: Result<String, Reason>,
    /// What `GET /api/tags` lists; its order means nothing.
    pub models: Result<Vec<ModelEntry>, Reason>,
    /// The names that `GET /api/ps` lists. A model that is being loaded is not among them.
    pub loaded: Result<Vec<String>, Reason>,
}

/// A model as an upstream lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelEntry {
    /// As listed: `qwen3:8b`, `user/x:latest`.
    pub name: String,
    /// Bytes on disk; 0 where it is not said.
    pub size: u64,
    /// Bare hexadecimal SHA-256; empty where it is not said.
    pub digest: String,
    /// Whether it only stands for a model elsewhere.
    pub is_stub: bool,
}

/// Asks all three questions, one after the other. The first has a mark that nobody else has seen before, nobody behind another gate
/// ever sees, and that is worth nothing after: so only the upstream itself can bring it back. The others are passed on by gates.
pub async fn probe(client: &Client, id: UpstreamId) -> Probe {
    let before = client.roster().returns(id);
    let asked = {
        let mark = Marked::new(client, id, Along::Proof);
        version(client, id, mark.text()).await
    };
    if client.roster().returns(id) != before {
        return Probe::leading_back();
    }
    let version = match asked {
        Ok(version) => version,
        Err(reason) => return Probe::failed(reason),
    };
    let before = client.roster().suspicions(id);
    let mark = Marked::new(client, id, Along::Listing);
    let (models, loaded) = (models(client, id, mark.text()).await, loaded(client, id, mark.text()).await);
    let may_lead_back = client.roster().suspicions(id) != before;
    Probe { leads_back: false, may_lead_back, is_other: false, version: Ok(version), models, loaded }
}

/// A mark and its text.
struct Marked<'c>(Option<(String, Mark<'c>)>);

impl<'c> Marked<'c> {
    fn new(client: &'c Client, id: UpstreamId, along: Along) -> Self {
        Marked(client.roster().mark(id, along).map(|mark| (mark.to_string(), mark)))
    }

    fn text(&self) -> Option<&str> {
        self.0.as_ref().map(|(text, _)| text.as_str())
    }
}

/// Asks one that is no Ollama whether it is there: any answer will do, but it must be one. Who takes connections and says
/// nothing, or something else than HTTP, would say nothing else to a request. Who speaks WebSockets alone `may_hang_up`.
pub async fn reach(client: &Client, id: UpstreamId, may_hang_up: bool) -> Probe {
    let before = client.roster().returns(id);
    let mark = Marked::new(client, id, Along::Proof);
    let answered = timeout(TIME_LIMIT, Box::pin(question(client, id, "HEAD", "/", mark.text()))).await;
    if client.roster().returns(id) != before {
        return Probe::leading_back();
    }
    match answered {
        Ok(Ok(_)) => Probe::of_other(),
        Ok(Err(UpstreamError::ClosedEarly { .. })) if may_hang_up => Probe::of_other(),
        Ok(Err(error)) => Probe::failed(unheard(client, id, &error)),
        Err(_) => Probe::failed(Reason(format!("no answer to / within {} s", TIME_LIMIT.as_secs()))),
    }
}

/// Why one that is no Ollama gave no answer, in the operator's words.
fn unheard(client: &Client, id: UpstreamId, error: &UpstreamError) -> Reason {
    let hint = if is_tls(client, id) { "" } else { "; does it want https?" };
    match error {
        UpstreamError::ClosedEarly { .. } => {
            Reason(format!("accepts connections and closes them without an answer to /{hint}"))
        }
        UpstreamError::Malformed { cause, .. } => {
            Reason(format!("its answer to / is no HTTP: {cause}{hint}"))
        }
        UpstreamError::Unasked { what, .. } => Reason(format!("answered / with {what}")),
        UpstreamError::Connect { cause, .. } if cause.kind() == std::io::ErrorKind::ConnectionRefused => {
            Reason("connection refused: nobody listens there".to_owned())
        }
        UpstreamError::Resolve { .. }
        | UpstreamError::Connect { .. }
        | UpstreamError::ConnectTimeout { .. }
        | UpstreamError::Tls { .. }
        | UpstreamError::ClosedMidHead { .. }
        | UpstreamError::ClosedMidBody { .. }
        | UpstreamError::TooLarge { .. }
        | UpstreamError::SourceGone { .. }
        | UpstreamError::SourceLength { .. }
        | UpstreamError::Unsendable { .. }
        | UpstreamError::NoSuchUpstream { .. } => unreached(client, id, "/", error),
    }
}

impl Probe {
    /// What is known of an upstream that is this very gate, or leads to it.
    #[must_use]
    pub fn leading_back() -> Self {
        let reason = "it is this gate itself, or a gate or proxy that leads back to it";
        Probe { leads_back: true, ..Probe::failed(Reason(reason.to_owned())) }
    }

    fn of_other() -> Self {
        Probe { is_other: true, ..Probe::failed(Reason("it is no Ollama".to_owned())) }
    }

    fn failed(reason: Reason) -> Self {
        Probe {
            leads_back: false,
            may_lead_back: false,
            is_other: false,
            models: Err(reason.clone()),
            loaded: Err(reason.clone()),
            version: Err(reason),
        }
    }
}

/// The version. The cheapest sign of life: it touches neither disk nor scheduler. `hops` goes along, here and below, to be known
/// again.
///
/// # Errors
/// The [`Reason`] why there is none.
pub async fn version(client: &Client, id: UpstreamId, hops: Option<&str>) -> Result<String, Reason> {
    #[derive(Deserialize)]
    struct Said {
        version: String,
    }
    let path = VERSION;
    let body = ask(client, id, path, hops).await?;
    match serde_json::from_slice::<Said>(&body) {
        Ok(said) if !said.version.is_empty() && is_plain(&said.version) => Ok(said.version),
        _ => Err(Reason(format!("not an Ollama: its answer to {path} holds no version"))),
    }
}

/// The models on the upstream's disk.
///
/// # Errors
/// The [`Reason`] why there is no list; an empty list is none.
pub async fn models(client: &Client, id: UpstreamId, hops: Option<&str>) -> Result<Vec<ModelEntry>, Reason> {
    let entries: Vec<Entry> = list(client, id, "/api/tags", hops).await?;
    Ok(entries.into_iter().filter_map(Entry::checked).collect())
}

/// The names of the models in memory.
///
/// # Errors
/// The [`Reason`] why there is no list; an empty list is none.
pub async fn loaded(client: &Client, id: UpstreamId, hops: Option<&str>) -> Result<Vec<String>, Reason> {
    let entries: Vec<Entry> = list(client, id, "/api/ps", hops).await?;
    Ok(entries.into_iter().filter_map(Entry::checked).map(|entry| entry.name).collect())
}

/// `name` and `model` are equal in every version so far; either is enough.
#[derive(Deserialize)]
struct Entry {
    name: Option<String>,
    model: Option<String>,
    size: Option<u64>,
    digest: Option<String>,
    remote_host: Option<String>,
    remote_model: Option<String>,
}

impl Entry {
    /// None without a name that can be shown.
    fn checked(self) -> Option<ModelEntry> {
        let plain = |text: &String| !text.is_empty() && is_plain(text);
        let name = self.name.filter(plain).or(self.model.filter(plain))?;
        let says = |text: Option<String>| text.is_some_and(|text| !text.is_empty());
        Some(ModelEntry {
            is_stub: says(self.remote_host) || says(self.remote_model),
            name,
            size: self.size.unwrap_or(0),
            digest: self.digest.filter(plain).unwrap_or_default(),
        })
    }
}

async fn list<T: DeserializeOwned>(
    client: &Client,
    id: UpstreamId,
    path: &str,
    hops: Option<&str>,
) -> Result<Vec<T>, Reason> {
    #[derive(Deserialize)]
    struct Listing<T> {
        models: Option<Vec<T>>,
    }
    let body = ask(client, id, path, hops).await?;
    let listing: Listing<T> = serde_json::from_slice(&body)
        // Without the library's text: that would quote what the upstream said.
        .map_err(|error| Reason(format!("its answer to {path} is no listing (column {})", error.column())))?;
    Ok(listing.models.unwrap_or_default())
}

async fn ask(client: &Client, id: UpstreamId, path: &str, hops: Option<&str>) -> Result<Vec<u8>, Reason> {
    let exchange = async {
        let answer = question(client, id, "GET", path, hops).await;
        let answer = answer.map_err(|error| unreached(client, id, path, &error))?;
        if answer.status() != 200 {
            return Err(refused(client, id, path, answer.status()));
        }
        answer.read_all(BYTE_LIMIT).await.map_err(|error| unreached(client, id, path, &error))
    };
    match timeout(TIME_LIMIT, Box::pin(exchange)).await {
        Ok(answered) => answered,
        Err(_) => Err(Reason(format!("no answer to {path} within {} s", TIME_LIMIT.as_secs()))),
    }
}

/// Sends a question, and learns from its answer whether a gate is there.
async fn question(
    client: &Client,
    id: UpstreamId,
    method: &str,
    path: &str,
    hops: Option<&str>,
) -> Result<Answer, UpstreamError> {
    let fields =
        [("Accept", "application/json"), ("User-Agent", "herdgate"), (HOPS, hops.unwrap_or_default())];
    let fields = if hops.is_some() { &fields[..] } else { &fields[..2] };
    let answer = client.send(id, &Ask { method, path, fields, body: b"" }).await?;
    if matches!(path, VERSION | "/") {
        // Who refuses may be a proxy before another gate: only an answer shows that there is none.
        let is_gate = answer.field(HOPS).is_some();
        if is_gate || answer.status() == 200 {
            client.roster().set_gate(id, is_gate);
        }
    }
    Ok(answer)
}

/// A status other than 200, in the operator's words.
fn refused(client: &Client, id: UpstreamId, path: &str, status: u16) -> Reason {
    let host = client.endpoint(id).map_or("", |endpoint| endpoint.host());
    let has_credential = client.roster().access(id).is_some_and(|access| access.has_credential());
    Reason(match status {
        300..400 => format!("answers {status} to {path}: give the address that it redirects to"),
        400 if !is_tls(client, id) => {
            format!("not an Ollama: answered 400 to {path}; does it want https?")
        }
        400 => format!(
            "answers 400 to {path}: does it want a certificate? Name client_cert and client_key in its [[upstream]]"
        ),
        401 | 407 => {
            if has_credential {
                format!(
                    "answers {status} to {path}: it does not take the credential of its [[upstream]]; compare token_file, or \
                     headers, with what is wanted there"
                )
            } else {
                format!(
                    "answers {status} to {path}: it wants a credential; give one in its [[upstream]]: token_file, or headers"
                )
            }
        }
        403 if has_credential => format!(
            "answers 403 to {path}: what stands in front of it does not take the credential of its [[upstream]], or its Host \
             check refuses \"{host}\"; compare token_file, or headers, with what is wanted there"
        ),
        403 => format!(
            "answers 403 to {path}: its Host check refuses \"{host}\"; name it by IP address or localhost, or set OLLAMA_HOST there"
        ),
        404 | 405 => format!("not an Ollama: answered {status} to {path}"),
        _ => format!("answers {status} to {path}"),
    })
}

/// A failed exchange, in the operator's words.
fn unreached(client: &Client, id: UpstreamId, path: &str, error: &UpstreamError) -> Reason {
    let host = client.endpoint(id).map_or("", |endpoint| endpoint.host());
    Reason(match error {
        UpstreamError::Resolve { cause, .. } => format!("the name {host} does not resolve: {cause}"),
        UpstreamError::Connect { cause, .. } => match cause.kind() {
            std::io::ErrorKind::ConnectionRefused => {
                "connection refused: is Ollama running there?".to_owned()
            }
            _ => format!("cannot connect: {cause}"),
        },
        UpstreamError::ConnectTimeout { after, .. } => {
            format!("no connection within {} ms: wrong address, or a firewall between?", after.as_millis())
        }
        UpstreamError::Tls { cause, .. } => match cause.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::InvalidMessage(_)) => {
                "no TLS is spoken there: Ollama itself wants http, not https".to_owned()
            }
            Some(rustls::Error::InvalidCertificate(why)) => format!("its certificate is not trusted: {why}"),
            _ => format!("TLS: {cause}"),
        },
        UpstreamError::ClosedEarly { .. } => {
            let hint = if is_tls(client, id) { "" } else { "; does it want https?" };
            format!("closed the connection without an answer to {path}{hint}")
        }
        UpstreamError::ClosedMidHead { .. } | UpstreamError::ClosedMidBody { .. } => {
            format!("closed the connection in the middle of its answer to {path}")
        }
        UpstreamError::Malformed { cause, .. } => {
            let hint = if is_tls(client, id) { "" } else { "; does it want https?" };
            format!("not an Ollama: {cause}{hint}")
        }
        UpstreamError::Unasked { what, .. } => format!("not an Ollama: answered {path} with {what}"),
        UpstreamError::TooLarge { limit, .. } => {
            format!("its answer to {path} is longer than {limit} bytes")
        }
        UpstreamError::SourceGone { .. }
        | UpstreamError::SourceLength { .. }
        | UpstreamError::Unsendable { .. }
        | UpstreamError::NoSuchUpstream { .. } => error.to_string(),
    })
}

fn is_tls(client: &Client, id: UpstreamId) -> bool {
    client.endpoint(id).is_some_and(|endpoint| endpoint.is_tls())
}

/// Fit to be shown: not too long, nothing that moves a cursor or turns the direction of writing. All that is read here
/// is ASCII in a real Ollama.
fn is_plain(text: &str) -> bool {
    text.len() <= LONGEST_TEXT && text.bytes().all(|b| b.is_ascii_graphic())
}

impl Reason {
    /// The line.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
