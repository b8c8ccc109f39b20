//! What answers at an address: an Ollama, the engine, a gate, or something else; and what it lets strangers do.

use super::ask::{Heard, Question, Unheard, Way};
use super::tls::{Fault, TlsFacts};
use gate_config::UpstreamUrl;
use gate_upstream::Mark;
use gate_upstream::probe::HOPS;
use http::{HeaderName, HeaderValue, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Characters of what a stranger says of itself.
const SHOWN: usize = 80;
/// How often the time of an answer is taken; the least counts.
const TIMES: usize = 3;

/// What it is.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::doctor) enum What {
    #[default]
    Unknown,
    /// With the version that it tells.
    Ollama(String),
    /// herdgate-engine, as the Ollama that it is like.
    Engine(String),
    /// A gate, with the lowest version behind it where it tells one.
    Gate(Option<String>),
    /// Something that wants a credential before it says anything: its status.
    Guarded(u16),
    /// Ollama's Host check refuses the name that it was called by.
    HostCheck,
    /// A listener in clear that serves nothing, and names a URL in its place.
    Moved(u16, String),
    /// A server of another kind: its status and what it calls itself.
    Other(u16, String),
}

/// Why nothing was heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::doctor) enum Failed {
    Closed,
    NoHttp,
    Silent,
    Other(String),
}

/// What was heard.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Served {
    pub(in crate::doctor) failed: Option<Failed>,
    pub(in crate::doctor) what: What,
    /// Whether TLS is spoken where plain HTTP was tried.
    pub(in crate::doctor) is_tls: bool,
    /// From a question to its answer, on a connection that stood.
    pub(in crate::doctor) micros: Option<u64>,
    /// What its `Server` and `Via` fields say: a proxy between.
    pub(in crate::doctor) server: Option<String>,
    pub(in crate::doctor) via: Option<String>,
    /// Seconds that its clock is ahead of this machine's.
    pub(in crate::doctor) ahead: Option<i64>,
    /// The status of `GET /api/tags` without a key.
    pub(in crate::doctor) keyless: Option<u16>,
    /// What a gate says of itself.
    pub(in crate::doctor) ready: Option<Ready>,
}

/// The answer to `GET /readyz`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Ready {
    pub(in crate::doctor) status: u16,
    pub(in crate::doctor) word: String,
}

/// Shakes hands where it should, and asks what it is.
pub(super) async fn look(way: &Way) -> (Option<TlsFacts>, Served) {
    let mut open = match way.open().await {
        Ok(open) => open,
        Err(unheard) => return unopened(way, unheard).await,
    };
    let tls = open.tls.take();
    let mut first = None;
    if !way.url.tls {
        // What only points to TLS is not shown what it must not hear in clear.
        let heard = way.as_stranger().ask_on(&mut open, &version()).await;
        if let Ok(heard) = &heard
            && let Some(there) = moved(heard)
        {
            return (tls, Served { what: What::Moved(heard.status, there), ..Served::default() });
        }
        if way.trust.fields.is_empty() {
            first = Some(heard);
        } else if let Ok(again) = way.open().await {
            // Who closes behind each answer is asked over another one.
            open = again;
        }
    }
    let first = match first {
        Some(heard) => heard,
        None => way.ask_on(&mut open, &version()).await,
    };
    let mut served = match first {
        Ok(heard) => of(&heard),
        Err(unheard) => Served { failed: Some(failed(unheard)), ..Served::default() },
    };
    // A gate with TLS says so in plain HTTP, too.
    let may_be_tls = matches!(served.what, What::Other(400, _) | What::Gate(None));
    if !way.url.tls && (served.failed.is_some() || may_be_tls) {
        served.is_tls = speaks_tls(way).await;
    }
    if served.failed.is_none() {
        let least = async {
            let mut least = None;
            for _ in 0..TIMES {
                let Ok(heard) = way.ask_on(&mut open, &version()).await else { break };
                let took = u64::try_from(heard.took.as_micros()).unwrap_or(u64::MAX);
                least = Some(least.map_or(took, |least: u64| least.min(took)));
            }
            least
        };
        let stranger = way.as_stranger();
        let tags = Question::get("/api/tags");
        let is_gate = matches!(served.what, What::Gate(_));
        let (least, keyless, ready) = tokio::join!(least, stranger.ask(&tags), ready(&stranger, is_gate));
        served.ready = ready;
        served.micros = least;
        served.keyless = keyless.ok().map(|heard| heard.status);
    }
    (tls, served)
}

async fn ready(stranger: &Way, is_gate: bool) -> Option<Ready> {
    if !is_gate {
        return None;
    }
    let heard = stranger.ask(&Question::get("/readyz")).await.ok()?;
    Some(Ready { status: heard.status, word: short(String::from_utf8_lossy(&heard.body).trim()) })
}

impl Way {
    /// The same without the credentials of the settings.
    pub(super) fn as_stranger(&self) -> Self {
        let mut stranger = self.clone();
        stranger.trust.fields.clear();
        stranger
    }
}

/// Ollama's own question, with the mark by which a gate says that it is one.
fn version() -> Question {
    let mark = "0".repeat(Mark::LENGTH);
    let mut question = Question::get("/api/version");
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(HOPS), HeaderValue::try_from(mark)) {
        question.fields.push((name, value));
    }
    question
}

/// The URL that it sends clients to, where that is the same over TLS.
fn moved(heard: &Heard) -> Option<String> {
    let location = heard.field(header::LOCATION).filter(|_| matches!(heard.status, 301 | 302 | 307 | 308))?;
    let base = location.strip_suffix("/api/version")?;
    let url = UpstreamUrl::parse(base).ok().filter(|url| url.tls)?;
    Some(url.to_string())
}

async fn unopened(way: &Way, unheard: Unheard) -> (Option<TlsFacts>, Served) {
    match unheard {
        Unheard::Tls(facts) => {
            let mut facts = *facts;
            if matches!(facts.fault, Some(Fault::NoTls | Fault::Closed | Fault::Silent)) {
                let mut plain = way.as_stranger();
                plain.url.tls = false;
                facts.is_plain = plain.ask(&version()).await.is_ok();
            }
            (Some(facts), Served::default())
        }
        other => (None, Served { failed: Some(failed(other)), ..Served::default() }),
    }
}

async fn speaks_tls(way: &Way) -> bool {
    let mut other = way.as_stranger();
    other.url.tls = true;
    match other.open().await {
        Ok(_open) => true,
        Err(Unheard::Tls(facts)) => {
            !matches!(facts.fault, Some(Fault::NoTls | Fault::Closed | Fault::Silent))
        }
        Err(_) => false,
    }
}

pub(super) fn failed(unheard: Unheard) -> Failed {
    match unheard {
        Unheard::Closed => Failed::Closed,
        Unheard::NoHttp => Failed::NoHttp,
        Unheard::Silent => Failed::Silent,
        Unheard::Connect(why) | Unheard::Other(why) => Failed::Other(why),
        Unheard::Tls(_) => Failed::Other("TLS failed".to_owned()),
    }
}

fn of(heard: &Heard) -> Served {
    let said: Value = serde_json::from_slice(&heard.body).unwrap_or_default();
    let version = said["version"].as_str().map(short).filter(|version| !version.is_empty());
    let is_gate = heard.field(HOPS).is_some() || said["code"].as_str().is_some_and(|code| !code.is_empty());
    let server = heard.field(header::SERVER).map(short);
    let what = match (heard.status, version) {
        (_, version) if is_gate => What::Gate(version),
        (200, Some(version)) => match version.strip_suffix("-herdgate") {
            Some(level) => What::Engine(level.to_owned()),
            None => What::Ollama(version),
        },
        // An Ollama on loopback (its Host check): 403 with nothing in it.
        (403, _) if heard.body.is_empty() && server.is_none() => What::HostCheck,
        (401 | 403 | 407, _) => What::Guarded(heard.status),
        (status, _) => What::Other(status, server.clone().unwrap_or_default()),
    };
    Served {
        what,
        server,
        via: heard.field(header::VIA).map(short),
        ahead: ahead(heard),
        ..Served::default()
    }
}

/// How far its `Date` (RFC 9110, section 6.6.1) is ahead.
fn ahead(heard: &Heard) -> Option<i64> {
    let date = httpdate::parse_http_date(heard.field(header::DATE)?).ok()?;
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (there, here) = (seconds(date), seconds(SystemTime::now()));
    i64::try_from(there).ok()?.checked_sub(i64::try_from(here).ok()?)
}

fn short(text: &str) -> String {
    crate::progress::plain(text).chars().take(SHOWN).collect()
}
