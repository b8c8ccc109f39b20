//! Why a pull failed: what Ollama says about it, sorted by what helps. Pure.
//!
//! Ollama tells errors as texts of Go's libraries. Those that are known here were recorded from v0.24.0 and v0.32.15 or stand in
//! its source (`server/images.go`, `server/download.go`); one that is not known counts as one that may pass.

use crate::progress::plain;
use gate_types::ModelName;
use gate_upstream::UpstreamError;
use std::fmt;

/// A pull that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::server) struct Trouble {
    pub(in crate::server) cause: Cause,
    /// In whose words it was told.
    said: String,
}

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Cause {
    /// The registry has no such model, or it is no name at all.
    NoSuchModel,
    /// The registry does not give it out, or it is none that Ollama runs.
    Refused,
    /// It is for a newer Ollama.
    TooNew,
    /// The upstream's disk is full.
    DiskFull,
    /// The upstream may not write there.
    NotWritable,
    /// It has no models to pull: it is no Ollama.
    NoPulling,
    /// The upstream cannot reach the registry.
    Away,
    /// Nothing was ever heard of the upstream.
    Unreached,
    /// It does not let the gate in.
    NoEntry,
    /// The upstream went away meanwhile.
    Broken,
    /// Something else.
    Other,
}

impl Cause {
    /// Each of them, in their order.
    const ALL: [Self; 11] = [
        Cause::NoSuchModel,
        Cause::Refused,
        Cause::TooNew,
        Cause::DiskFull,
        Cause::NotWritable,
        Cause::NoPulling,
        Cause::Away,
        Cause::Unreached,
        Cause::NoEntry,
        Cause::Broken,
        Cause::Other,
    ];

    /// Whether the same may succeed later without anybody doing anything.
    pub(in crate::server) fn may_pass(self) -> bool {
        match self {
            Cause::Away | Cause::Unreached | Cause::Broken | Cause::Other => true,
            Cause::NoSuchModel
            | Cause::Refused
            | Cause::TooNew
            | Cause::DiskFull
            | Cause::NotWritable
            | Cause::NoEntry
            | Cause::NoPulling => false,
        }
    }

    /// For callers, who need not know of the operator's machines.
    pub(in crate::server) fn public(self) -> &'static str {
        match self {
            Cause::NoSuchModel => "its registry has no model of this name",
            Cause::Refused => "its registry does not give it out",
            Cause::TooNew => "it needs a newer Ollama",
            Cause::DiskFull => "the disk for models is full",
            Cause::NotWritable => "the folder for models cannot be written to",
            Cause::NoPulling => "the local server does not pull models",
            Cause::Away => "its registry cannot be reached",
            Cause::Unreached => "the server that is to pull it cannot be reached",
            Cause::NoEntry => "the server that is to pull it does not let the gate in",
            Cause::Broken => "the server that pulls it is away",
            Cause::Other => "it has failed",
        }
    }

    /// The one that callers are told of in these words.
    pub(in crate::server) fn of(public: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.public() == public)
    }

    /// What to do about it.
    pub(in crate::server) fn cure(self, model: &ModelName) -> String {
        match self {
            Cause::NoSuchModel if model.registry() == "registry.ollama.ai" => {
                "check the name and the tag: https://ollama.com/library lists them".to_owned()
            }
            Cause::NoSuchModel => format!("check the name: {} has none like it", model.registry()),
            Cause::Refused => {
                "the registry's words say why; a model that needs an account is pulled on the upstream itself".to_owned()
            }
            Cause::TooNew => "install a newer Ollama there".to_owned(),
            Cause::DiskFull => {
                "make room (herdgate rm NAME), or keep models on a larger disk (local.models_dir)".to_owned()
            }
            Cause::NotWritable => {
                "give the user that Ollama runs as the right to write there, or name another folder (local.models_dir)"
                    .to_owned()
            }
            Cause::NoPulling => {
                "install Ollama; herdgate-engine serves the .gguf files in its folder of models".to_owned()
            }
            Cause::Away => "check the network and the proxy (HTTPS_PROXY) of the machine that Ollama runs on".to_owned(),
            Cause::Unreached => {
                "does it run, and is its address right? `herdgate models` shows which servers answer".to_owned()
            }
            Cause::NoEntry => {
                "compare the credential of its [[upstream]] (token_file, or headers) with the one that is wanted there".to_owned()
            }
            Cause::Broken => "the log says why the server ended; Ollama goes on where it stopped".to_owned(),
            Cause::Other => "Ollama's own log may say more (HERDGATE_LOG=debug shows it)".to_owned(),
        }
    }
}

impl Trouble {
    /// What an upstream answered with `status`, or wrote into its stream.
    pub(in crate::server) fn told(status: u16, text: &str) -> Self {
        Self { cause: cause(status, &text.to_ascii_lowercase()), said: plain(text) }
    }

    /// No connection came to be, or one broke off.
    pub(in crate::server) fn failed(error: &UpstreamError) -> Self {
        let cause = if error.is_connect() { Cause::Unreached } else { Cause::Broken };
        Self { cause, said: plain(&error.to_string()) }
    }

    /// The upstream broke off.
    pub(in crate::server) fn broken(text: impl fmt::Display) -> Self {
        Self { cause: Cause::Broken, said: plain(&text.to_string()) }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.cause.public(), self.said)
    }
}

fn cause(status: u16, text: &str) -> Cause {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    // A full disk is wrapped into words about the network that it happened at.
    if says(&["no space left", "not enough space", "disk quota exceeded", "enospc"]) {
        return Cause::DiskFull;
    }
    if says(&["permission denied", "read-only file system"]) && !says(&["dial "]) {
        return Cause::NotWritable;
    }
    if says(&["requires a newer version of ollama"]) {
        return Cause::TooNew;
    }
    if says(&["manifest: file does not exist", "invalid model name", "repository not found"]) {
        return Cause::NoSuchModel;
    }
    match registry_status(text) {
        Some(404) => return Cause::NoSuchModel,
        Some(408 | 425 | 429) => return Cause::Other,
        Some(400..=499) => return Cause::Refused,
        _ => {}
    }
    // Ollama itself asks nobody who they are: this is what stands in front of it.
    if matches!(status, 401 | 403 | 407) {
        return Cause::NoEntry;
    }
    if says(&["unauthorized", "access denied"]) {
        return Cause::Refused;
    }
    let network = [
        "dial ",
        "lookup ",
        "no such host",
        "proxyconnect",
        "connection re",
        "network is unreachable",
        "no route to host",
        "timeout",
        "timed out",
        "tls: ",
        "x509: ",
        "eof",
        "max retries exceeded",
    ];
    match status {
        404 | 405 | 501 => Cause::NoPulling,
        _ if says(&network) => Cause::Away,
        _ => Cause::Other,
    }
}

/// What the registry answered: `pull model manifest: 401: …`.
fn registry_status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("manifest: ")?;
    let (digits, _) = rest.split_once(':')?;
    digits.parse().ok().filter(|status| (400..600).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ollama_says_is_sorted_by_what_helps() {
        let rows = [
            (200, "pull model manifest: file does not exist", Cause::NoSuchModel),
            (400, "invalid model name", Cause::NoSuchModel),
            (200, "pull model manifest: 404: {\"error\":\"Not Found\"}", Cause::NoSuchModel),
            (200, "pull model manifest: 401: {\"error\":\"Invalid username or password.\"}", Cause::Refused),
            (
                200,
                "pull model manifest: 400: {\"error\":\"Repository is not GGUF or is not compatible with llama.cpp\"}",
                Cause::Refused,
            ),
            (200, "pull model manifest: 429: too many requests", Cause::Other),
            (200, "pull model manifest: 503: upstream", Cause::Other),
            (
                200,
                "pull model manifest: 412: \n\nThe model you are attempting to pull requires a newer version of Ollama.",
                Cause::TooNew,
            ),
            (200, "max retries exceeded: write /m/blobs/sha256-1: no space left on device", Cause::DiskFull),
            (500, "mkdir /srv/.ollama: permission denied", Cause::NotWritable),
            (
                200,
                "pull model manifest: Get \"https://registry.ollama.ai/v2/library/x/manifests/cloud\": proxyconnect tcp: dial tcp 127.0.0.1:9: connect: connection refused",
                Cause::Away,
            ),
            (
                200,
                "pull model manifest: Get \"https://x/v2/\": dial tcp: lookup x on 127.0.0.11:53: no such host",
                Cause::Away,
            ),
            (200, "max retries exceeded: unexpected EOF", Cause::Away),
            (200, "digest mismatch, file must be downloaded again: want a, got b", Cause::Other),
            (404, "404 page not found", Cause::NoPulling),
            (401, "it answered 401", Cause::NoEntry),
            (403, "access denied", Cause::NoEntry),
            (200, "unauthorized", Cause::Refused),
        ];
        for (status, text, cause) in rows {
            assert_eq!(Trouble::told(status, text).cause, cause, "{text}");
        }
    }

    #[test]
    fn only_what_somebody_must_mend_is_not_tried_again() {
        assert!(Cause::ALL.iter().enumerate().all(|(place, cause)| *cause as usize == place), "each of them");
        assert_eq!(Cause::ALL.len(), Cause::Other as usize + 1, "the last is the last");
        let passing = [Cause::Away, Cause::Unreached, Cause::Broken, Cause::Other];
        for cause in Cause::ALL {
            assert_eq!(cause.may_pass(), passing.contains(&cause), "{cause:?}");
        }
    }

    #[test]
    fn a_server_that_was_never_reached_has_not_gone_away() {
        let cause = std::io::ErrorKind::ConnectionRefused.into();
        let trouble =
            Trouble::failed(&UpstreamError::Connect { at: "http://a:1".into(), cause, addresses: 1 });
        assert!(
            trouble.to_string().starts_with("the server that is to pull it cannot be reached (http://a:1: ")
        );
        let cure = trouble.cause.cure(&ModelName::parse("demo").unwrap());
        assert!(cure.contains("does it run") && !cure.contains("where it stopped"), "{cure}");
    }

    #[test]
    fn it_is_told_in_one_line() {
        let told = Trouble::told(200, "a\nb: no space left on device").to_string();
        assert_eq!(told, "the disk for models is full (a b: no space left on device)");
    }
}
