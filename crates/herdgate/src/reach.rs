//! How a command reaches a gate: by the admin socket in the data directory of this machine, in the operator's name; or from
//! afar, by its URL and a key.
//!
//! Must never send anything to a socket of somebody else's.

use crate::client::{Access, Gate, InClear, Link};
use crate::server::ShortSocket;
use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use gate_config::Locations;
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, header};
use http_body::Body as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::future::poll_fn;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;
use tokio::net::UnixStream;

/// Bytes of an answer that is read whole, and of one line of an answer.
const WHOLE_BYTES: usize = 32 << 20;
const LINE_BYTES: usize = 4 << 20;

/// How long a command waits for a gate that is told of a change: what it waits for itself has a second.
const TELL_TIME: Duration = Duration::from_secs(2);

/// Which gate a command is for.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct ReachArgs {
    /// A gate that is somewhere else, as https://host or http://host:port [default: the one that runs on the data directory]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// A gate that can be asked.
pub(crate) enum Reach {
    /// The one that runs on this data directory.
    Here(PathBuf),
    Afar(Box<Gate>),
}

impl Reach {
    /// The gate that is meant. Connects to nothing.
    pub(crate) fn of(args: &ReachArgs, places: &Locations, talk: &mut dyn Write) -> anyhow::Result<Self> {
        let Some(url) = &args.url else { return Ok(Reach::Here(places.data.clone())) };
        let gate = Gate::new(url, &args.access)?;
        if gate.is_in_clear() {
            // A closed standard error must not stop a command.
            let _closed =
                writeln!(talk, "warning: the key crosses the network in clear; use an https:// URL");
        }
        Ok(Reach::Afar(Box::new(gate)))
    }

    /// Whether it is on this machine, so that the operator asks.
    pub(crate) fn is_here(&self) -> bool {
        matches!(self, Reach::Here(_))
    }

    /// How it is called.
    pub(crate) fn name(&self) -> String {
        match self {
            Reach::Here(data) => data.display().to_string(),
            Reach::Afar(gate) => gate.url().to_string(),
        }
    }

    /// Asks for one of the routes of the admin socket; only where that is.
    pub(crate) async fn admin(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Answer> {
        match self {
            Reach::Here(data) => at_socket(data, method, path, body).await,
            Reach::Afar(_) => bail!("only where the gate runs"),
        }
    }

    /// Asks for one of the gate's own routes, which any client may ask for.
    pub(crate) async fn gate(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Answer> {
        match self {
            Reach::Here(data) => at_socket(data, method, &format!("/v1/gate{path}"), body).await,
            Reach::Afar(gate) => {
                let link = gate.connect(InClear::Http1).await;
                let link = link.map_err(|why| anyhow!("{}: {why}\nhint: {}", gate.url(), why.hint()))?;
                let (mut parts, body) = request(method, path, body)?.into_parts();
                gate.address(&mut parts, &PathAndQuery::try_from(path)?)?;
                let hint = match gate.url().tls {
                    true => "is that a gate?",
                    false => "is that a gate? One that speaks TLS there is an https:// URL",
                };
                let answer = sent(link, Request::from_parts(parts, body)).await;
                answer.map_err(|failed| strange(&gate.url().to_string(), hint, failed))
            }
        }
    }
}

async fn at_socket(data: &Path, method: Method, path: &str, body: &Value) -> anyhow::Result<Answer> {
    let nobody = || {
        anyhow!(
            "no gate runs on {}\nhint: start it (herdgate serve), name its data directory with --data, or say --url URL for one \
             that is somewhere else",
            data.display()
        )
    };
    let socket = match ShortSocket::of(data) {
        Ok(socket) => socket,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(nobody()),
        Err(error) => return Err(error).with_context(|| data.display().to_string()),
    };
    let stream = match UnixStream::connect(&socket.path).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Err(nobody());
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => bail!(
            "the gate on {} belongs to somebody else\nhint: run this as that user or as root (sudo), or say --url URL with a key",
            data.display()
        ),
        Err(error) => return Err(error).with_context(|| format!("the gate on {}", data.display())),
    };
    check_peer(&stream, data)?;
    let link = Link::begin(TokioIo::new(stream), false).await?;
    let mut request = request(method, path, body)?;
    request.headers_mut().insert(header::HOST, header::HeaderValue::from_static("localhost"));
    sent(link, request).await.map_err(|failed| anyhow!(failed).context("the gate broke off"))
}

/// Sees whose socket it is, before anything is sent: whoever may write to the directory could have put one there.
fn check_peer(stream: &UnixStream, data: &Path) -> anyhow::Result<()> {
    let peer = stream.peer_cred().context("cannot see whose gate this is")?.uid();
    let own = rustix::process::geteuid().as_raw();
    let owner = std::fs::metadata(data).ok().map(|folder| folder.uid());
    if is_trusted(peer, own, owner) {
        return Ok(());
    }
    let socket = data.join(gate_store::ADMIN_SOCKET);
    bail!(
        "{} belongs to user {peer}, and this is user {own}: it is not asked\n\
         hint: if the gate of that user is meant, run this as that user; if not, remove the socket and close its directory to \
         others (chmod 700 {})",
        socket.display(),
        data.display()
    )
}

/// Whether a socket of user `peer` may be asked by user `own`: it is their own or root's; or, for root, that of the directory's
/// owner, as it is where a service has a user of its own.
fn is_trusted(peer: u32, own: u32, owner: Option<u32>) -> bool {
    peer == own || peer == 0 || (own == 0 && Some(peer) == owner)
}

/// Has the gate that runs on this data directory, if there is one, take note of what has changed in its store of keys. It
/// would find out by itself a moment later.
pub(crate) fn tell_of_keys(data: &Path) {
    // Most directories have no gate at the time.
    if !data.join(gate_store::ADMIN_SOCKET).exists() {
        return;
    }
    let look = async {
        let telling = at_socket(data, Method::POST, "/v1/keys/look", &Value::Null);
        tokio::time::timeout(TELL_TIME, telling).await?
    };
    // Nobody there, or an older gate: as good.
    let _told = block_on(look);
}

fn request(method: Method, path: &str, body: &Value) -> anyhow::Result<Request<Full<Bytes>>> {
    let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
    let request =
        Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
    Ok(request.body(Full::new(body))?)
}

async fn sent(mut link: Link<Full<Bytes>>, request: Request<Full<Bytes>>) -> hyper::Result<Answer> {
    let answer = link.send(request).await.map_err(|failed| failed.error)?;
    Ok(Answer { status: answer.status(), body: answer.into_body(), data: Vec::new(), _link: link })
}

/// No answer, in words for whoever wrote the URL. TLS, asked in plain HTTP, answers with an alert, or with nothing at all.
fn strange(url: &str, hint: &str, failed: hyper::Error) -> anyhow::Error {
    if failed.is_parse() {
        return anyhow!("what answers at {url} does not speak HTTP\nhint: {hint}");
    }
    let cause = anyhow!(failed);
    anyhow!("{url}: the connection ended without an answer: {}\nhint: {hint}", cause.root_cause())
}

/// What went wrong at an upstream, for a line that names it already.
pub(crate) fn without_its_name<'e>(error: &'e str, at: &str) -> &'e str {
    error.strip_prefix(at).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(error)
}

/// The answer of a gate. Dropped early, what it comes from ends.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    body: Incoming,
    data: Vec<u8>,
    _link: Link<Full<Bytes>>,
}

impl Answer {
    /// The answer, where it is one and no refusal.
    pub(crate) async fn ok(self) -> anyhow::Result<Self> {
        if self.status.is_success() {
            return Ok(self);
        }
        let status = self.status;
        let said: Value = serde_json::from_slice(&self.whole().await?).unwrap_or_default();
        Err(refusal(&said).unwrap_or_else(|| anyhow!("the gate answers {status}")))
    }

    /// All of it.
    pub(crate) async fn whole(mut self) -> anyhow::Result<Vec<u8>> {
        while self.more().await? {
            if self.data.len() > WHOLE_BYTES {
                bail!("the answer is far too long");
            }
        }
        Ok(self.data)
    }

    /// All of it, as JSON.
    pub(crate) async fn json(self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.whole().await?).context("the answer is no JSON")
    }

    /// The next line, without its end; none behind the last.
    pub(crate) async fn line(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.data.iter().position(|byte| *byte == b'\n') {
                let rest = self.data.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.data, rest);
                line.pop();
                return Ok(Some(line));
            }
            if !self.more().await? {
                let last = std::mem::take(&mut self.data);
                return Ok((!last.is_empty()).then_some(last));
            }
            if self.data.len() > LINE_BYTES {
                bail!("a line of the answer is far too long");
            }
        }
    }

    async fn more(&mut self) -> anyhow::Result<bool> {
        let Some(frame) = poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await else {
            return Ok(false);
        };
        let data = frame.context("the gate broke off")?.into_data().unwrap_or_default();
        self.data.extend_from_slice(&data);
        Ok(true)
    }
}

/// What a gate says of a failure, with its hint.
pub(crate) fn refusal(said: &Value) -> Option<anyhow::Error> {
    let text = crate::progress::plain(said["error"].as_str()?);
    Some(match said["hint"].as_str() {
        Some(hint) => anyhow!("{text}\nhint: {}", crate::progress::plain(hint)),
        None => anyhow!("{text}"),
    })
}

/// Refuses a choice among the upstreams to who is not on the gate's machine: its open routes name none.
///
/// # Errors
/// Where there is a choice.
pub(crate) fn refuse_choice(is_chosen: bool) -> anyhow::Result<()> {
    if is_chosen {
        bail!(
            "from afar the gate chooses the upstream\nhint: leave out --on and --all, or run this on the gate's own machine"
        );
    }
    Ok(())
}

/// Does it, and tells how it failed.
pub(crate) fn finish(done: anyhow::Result<()>, talk: &mut dyn Write) -> u8 {
    match done {
        Ok(()) => 0,
        Err(error) => {
            // A closed standard error leaves the exit code to tell it. A hint is the last of its lines.
            let _closed = writeln!(talk, "error: {error:#}");
            crate::cli::EXIT_FAILURE
        }
    }
}

/// Runs a command's work to its end.
pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(Box::pin(work))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_of_those_are_asked_who_own_the_gate() {
        for (peer, own, owner, is_asked) in [
            (1000, 1000, Some(1000), true),
            (0, 1000, Some(1000), true),
            (1001, 1000, Some(1000), false),
            (1001, 1000, Some(1001), false),
            (0, 0, Some(1000), true),
            (1000, 0, Some(1000), true),
            (1001, 0, Some(1000), false),
            (1001, 0, Some(0), false),
            (1001, 0, None, false),
        ] {
            assert_eq!(is_trusted(peer, own, owner), is_asked, "{peer} {own} {owner:?}");
        }
    }

    #[test]
    fn an_upstream_is_named_once() {
        let at = "http://10.0.0.1:11434";
        assert_eq!(
            without_its_name("http://10.0.0.1:11434: cannot connect: refused", at),
            "cannot connect: refused"
        );
        assert_eq!(
            without_its_name("http://10.0.0.1:114345: cannot connect", at),
            "http://10.0.0.1:114345: cannot connect"
        );
        assert_eq!(without_its_name("it does not answer", at), "it does not answer");
    }
}
