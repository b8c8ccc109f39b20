//! The record of one request, as it is handed to whoever keeps records: every field by name, in a fixed order, without
//! allocating. It never holds a prompt or a credential, and no words of the client's own but the model's name, the name
//! of the request and the path that no route takes, each masked where it could be a key (`docs/records.md`).

use gate_types::ModelName;
use gate_wire::{GateError, Reason, Route, Side};
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How a request ended. The words are a promise to whoever searches their logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The answer went out whole: the upstream's, whatever its status, or the gate's own.
    Done,
    /// The client left before its answer was whole.
    Cancelled,
    /// The gate refused the request: the client's doing.
    Refused,
    /// The gate had no room or time for the request.
    Shed,
    /// No upstream gave an answer.
    UpstreamFailed,
    /// The gate could not serve the request: its own mistake, or the way in which it is set up.
    GateFailed,
    /// The answer had begun, and broke off.
    CutShort,
    /// The key was revoked or expired while the answer was under way.
    Revoked,
    /// The gate ended before the request did.
    ShutDown,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 9] = [
        Outcome::Done,
        Outcome::Cancelled,
        Outcome::Refused,
        Outcome::Shed,
        Outcome::UpstreamFailed,
        Outcome::GateFailed,
        Outcome::CutShort,
        Outcome::Revoked,
        Outcome::ShutDown,
    ];

    /// The word in records and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Cancelled => "cancelled",
            Outcome::Refused => "refused",
            Outcome::Shed => "shed",
            Outcome::UpstreamFailed => "upstream_failed",
            Outcome::GateFailed => "gate_failed",
            Outcome::CutShort => "cut_short",
            Outcome::Revoked => "revoked",
            Outcome::ShutDown => "shut_down",
        }
    }

    /// Of a request that was answered with an error.
    pub(crate) fn of_refusal(error: &GateError) -> Self {
        match (error.reason, error.side) {
            (Reason::ShuttingDown, _) => Outcome::ShutDown,
            (Reason::QueueFull | Reason::QueueTimeout | Reason::BodiesFull, _) => Outcome::Shed,
            (_, Side::Downstream) => Outcome::Refused,
            (_, Side::Upstream) => Outcome::UpstreamFailed,
            (_, Side::Gate) => Outcome::GateFailed,
        }
    }
}

/// Keeps records: writes them to a log, or gathers them for a test. Called once per request, on its core's thread.
pub trait AccessLog {
    /// Takes one record in. Must not wait.
    fn take(&self, record: &Record<'_>);
}

/// Takes the fields of a record, in their order; what is not known is left out.
pub trait Fields {
    /// A text.
    fn text(&mut self, name: &'static str, value: &str);
    /// A text without quotes, backslashes and control characters.
    fn plain(&mut self, name: &'static str, value: &str);
    /// An address.
    fn address(&mut self, name: &'static str, value: IpAddr);
    /// A text that is put together only now.
    fn shown(&mut self, name: &'static str, value: fmt::Arguments<'_>);
    /// A number.
    fn number(&mut self, name: &'static str, value: u64);
    /// A time, in milliseconds to the microsecond.
    fn millis(&mut self, name: &'static str, value: Duration);
}

/// What is known of a request that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    pub(crate) id: &'a str,
    pub(crate) client: IpAddr,
    pub(crate) certificate: Option<&'a str>,
    pub(crate) key: Option<&'a str>,
    pub(crate) route: Option<&'static Route>,
    /// The template of a route beside the built-in ones.
    pub(crate) extra: Option<&'a Arc<str>>,
    pub(crate) asked: Option<&'a str>,
    pub(crate) model: Option<&'a ModelName>,
    pub(crate) upstream: Option<&'a str>,
    pub(crate) status: u16,
    pub(crate) outcome: Outcome,
    pub(crate) queued: Duration,
    pub(crate) ttft: Option<Duration>,
    pub(crate) total: Duration,
    pub(crate) tokens_in: Option<u64>,
    pub(crate) tokens_out: Option<u64>,
    pub(crate) error: Option<&'a GateError>,
}

impl Record<'_> {
    /// The names of all fields, in order.
    pub const FIELDS: [&'static str; 17] = [
        "id",
        "client",
        "certificate",
        "key",
        "route",
        "asked",
        "model",
        "upstream",
        "status",
        "outcome",
        "queued_ms",
        "ttft_ms",
        "total_ms",
        "tokens_in",
        "tokens_out",
        "reason",
        "error",
    ];

    /// Hands every known field to `fields`.
    pub fn visit<F: Fields>(&self, fields: &mut F) {
        fields.plain("id", self.id);
        fields.address("client", self.client);
        optional(fields, "certificate", self.certificate);
        optional(fields, "key", self.key);
        if let Some(route) = self.route {
            fields.plain("route", route.path);
        } else if let Some(template) = self.extra {
            fields.plain("route", template);
        }
        optional(fields, "asked", self.asked);
        optional(fields, "model", self.model.map(|model| masked(model.short())).as_deref());
        optional(fields, "upstream", self.upstream);
        fields.number("status", self.status.into());
        fields.plain("outcome", self.outcome.as_str());
        fields.millis("queued_ms", self.queued);
        if let Some(ttft) = self.ttft {
            fields.millis("ttft_ms", ttft);
        }
        fields.millis("total_ms", self.total);
        for (name, tokens) in [("tokens_in", self.tokens_in), ("tokens_out", self.tokens_out)] {
            if let Some(tokens) = tokens {
                fields.number(name, tokens);
            }
        }
        if let Some(error) = self.error {
            fields.plain("reason", error.reason.code());
            let causes = Causes(error);
            if !causes.is_empty() {
                fields.shown("error", format_args!("{causes}"));
            }
        }
    }
}

fn optional<F: Fields>(fields: &mut F, name: &'static str, value: Option<&str>) {
    if let Some(value) = value {
        fields.text(name, value);
    }
}

/// What the log may know of an error: its causes, on one line. A text that was put together for the client may repeat
/// what the client sent, and stays out of it; a fixed one does not.
struct Causes<'a>(&'a GateError);

impl Causes<'_> {
    fn fixed(&self) -> Option<&'static str> {
        match &self.0.public {
            Cow::Borrowed(text) => Some(text),
            Cow::Owned(_) => None,
        }
    }

    fn is_empty(&self) -> bool {
        self.fixed().is_none() && self.0.source.is_none()
    }
}

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        if let Some(text) = self.fixed() {
            f.write_str(text)?;
            between = ": ";
        }
        let mut cause = std::error::Error::source(self.0);
        while let Some(error) = cause {
            write!(f, "{between}{error}")?;
            between = ": ";
            cause = error.source();
        }
        Ok(())
    }
}

/// So many letters and digits in one run, of both kinds, look like a key or a token and not like a name.
const SECRET_RUN: usize = 20;
/// What keys begin with: this gate's, and those of the services whose clients speak to it.
const SECRET_START: &str = "sk-";

/// `text` without what could be a key that was put in the wrong place.
pub(crate) fn masked(text: &str) -> Cow<'_, str> {
    let is_harmless = text.len() < SECRET_RUN
        && !text.as_bytes().windows(SECRET_START.len()).any(|part| part == SECRET_START.as_bytes());
    let parts = || text.split_inclusive(['/', ':', '@', ' ']);
    if is_harmless || !parts().any(is_secret) {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len());
    for part in parts() {
        if is_secret(part) {
            kept.push_str("***");
            kept.extend(part.chars().next_back().filter(|last| "/:@ ".contains(*last)));
        } else {
            kept.push_str(part);
        }
    }
    Cow::Owned(kept)
}

fn is_secret(part: &str) -> bool {
    let is_mixed = |run: &str| {
        run.len() >= SECRET_RUN
            && run.bytes().any(|byte| byte.is_ascii_digit())
            && run.bytes().any(|byte| byte.is_ascii_alphabetic())
    };
    part.starts_with(SECRET_START)
        || (part.len() >= SECRET_RUN && part.split(|sign: char| !sign.is_ascii_alphanumeric()).any(is_mixed))
}

/// Segments, and characters of a segment, that are shown of a path.
const SHOWN_SEGMENTS: usize = 8;
const SHOWN_SEGMENT: usize = 24;

/// A path that no route takes, as its record shows it: words are kept, whatever else stands between two slashes (names,
/// numbers, a key in the wrong place) is a star.
pub(crate) fn asked(method: &str, path: &str) -> String {
    let mut shown = String::with_capacity(80);
    let is_method = method.len() <= 8 && method.bytes().all(|byte| byte.is_ascii_uppercase());
    shown.push_str(if is_method { method } else { "*" });
    shown.push(' ');
    for (place, segment) in path.split('/').enumerate() {
        if place > SHOWN_SEGMENTS {
            shown.push_str("/…");
            break;
        }
        if place > 0 {
            shown.push('/');
        }
        shown.push_str(if is_word(segment) { segment } else { "*" });
    }
    shown
}

fn is_word(segment: &str) -> bool {
    let is_version =
        segment.strip_prefix('v').is_some_and(|digits| digits.len() <= 2 && is_all(digits, b"0123456789"));
    let letters = |byte: u8| byte.is_ascii_alphabetic() || b"-_.".contains(&byte);
    is_version
        || (segment.len() <= SHOWN_SEGMENT
            && segment.bytes().all(letters)
            && !segment.starts_with(SECRET_START))
}

fn is_all(text: &str, of: &[u8]) -> bool {
    text.bytes().all(|byte| of.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_a_key_is_masked_and_names_of_models_are_not() {
        for name in [
            "demo",
            "qwen3:30b-a3b-instruct-2507-q4_K_M",
            "hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M",
            "registry.example/abcdefghijklmnopqrstuvwxyz:latest",
        ] {
            assert_eq!(masked(name), name);
        }
        assert_eq!(masked("sk-hg-0123456789abcdefABCDEF0123456789abcdef"), "***");
        assert_eq!(masked("a/sk-ant-x:latest"), "a/***:latest");
        assert_eq!(masked("a/7Qm2Xf0cVb9sLk4TzW8eRj6N:latest"), "a/***:latest");
    }

    #[test]
    fn paths_show_words_alone() {
        assert_eq!(asked("GET", "/v1/threads/thread_aB3dE5"), "GET /v1/threads/*");
        assert_eq!(asked("POST", "/api/generate/"), "POST /api/generate/");
        assert_eq!(asked("sk-hg-x", "/7Qm2Xf0cVb9sLk4TzW8eRj6N"), "* /*");
        assert_eq!(asked("GET", &"/a".repeat(50)), format!("GET {}/…", "/a".repeat(8)));
        assert_eq!(asked("GET", "*"), "GET *");
    }

    #[test]
    fn words_of_the_client_stay_out_of_the_error() {
        let told = GateError::model_not_found("my secret plan", &[]).because("no upstream lists it");
        assert_eq!(Causes(&told).to_string(), "no upstream lists it");
        let fixed = GateError::new(Reason::UpstreamFailed).because("broken pipe");
        assert_eq!(Causes(&fixed).to_string(), format!("{}: broken pipe", Reason::UpstreamFailed.text()));
        assert!(Causes(&GateError::model_not_allowed("my secret plan")).is_empty());
    }

    #[test]
    fn the_page_names_every_field_and_every_outcome() {
        let page = include_str!("../../../docs/records.md");
        let first = |line: &str| line.strip_prefix("| `")?.split_once('`').map(|(word, _)| word.to_owned());
        let told: Vec<String> = page.lines().filter_map(first).collect();
        let outcomes = Outcome::ALL.map(Outcome::as_str);
        let known: Vec<&str> =
            ["timestamp", "level"].into_iter().chain(Record::FIELDS).chain(outcomes).collect();
        assert_eq!(told, known);
    }
}
