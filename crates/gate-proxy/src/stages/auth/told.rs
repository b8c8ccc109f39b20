//! What is told to whoever is not let in: what was wrong with the credential, and what to do about it. Decides nothing about
//! who is, and tells nobody whether a key is unknown, expired or revoked.

use super::Shown;
use crate::downstream::Head;
use crate::gate::Gate;
use crate::rules::Rules;
use crate::trace::is_ollama_cli;
use gate_keys::{SIGNATURE_SPAN, SignedRequest, State, UnixSeconds, Verdict};
use gate_wire::{GateError, Reason};

/// Of the words that clients and examples put where a key belongs.
const PLACEHOLDER: &str = "this is a placeholder, not a key of this gate; put a real one (sk-hg-…) where your client has it, \
                           for example in OPENAI_API_KEY, ANTHROPIC_AUTH_TOKEN or OLLAMA_API_KEY";
/// Of `Bearer $KEY`, as single quotes leave it.
const VARIABLE: &str = "this is the name of a variable, not its value: no shell has replaced it; put double quotes around it \
                        instead of single ones, or the key itself (sk-hg-…) in its place";
const EMPTY: &str =
    "the key is empty: is the variable set that it is taken from? send \"Authorization: Bearer sk-hg-…\"";
/// Of a signature whose time or form did not come with it.
pub(super) const UNSIGNED: &str = "the Authorization field has the form of a signature but is none of this request: it needs \
                                   the query ?ts=SECONDS, and nothing else there, as Ollama's command line sends it with \
                                   OLLAMA_AUTH=1";
pub(super) const REPLAYED: &str =
    "this signature was used before from another address; each one is good for its first sender alone";

/// Of no credential at all. Ollama's command line cannot be given a field: its user needs to know its two ways.
pub(super) fn nothing_shown(rules: &Rules, head: &Head, error: GateError) -> GateError {
    if head.first("x-api-key").is_some() {
        return error.saying(EMPTY);
    }
    if !is_ollama_cli(head) {
        return error;
    }
    let as_proxy = rules.door.proxy_names.first().map_or_else(String::new, |name| {
        format!(", or with OLLAMA_HOST=http://{name}:80 HTTP_PROXY=http://user:KEY@GATE:PORT")
    });
    error.saying(format!(
        "no API key given; run `ollama` with OLLAMA_AUTH=1 once its ssh key is enrolled at the gate \
         (herdgate key create NAME --ssh-key ~/.ollama/id_ed25519.pub){as_proxy}"
    ))
}

/// Of a field without a token in it.
pub(super) fn no_token(field: Option<&[u8]>) -> GateError {
    let error = GateError::new(Reason::BadCredentialsForm);
    if field.is_some_and(gate_keys::is_empty_credential) { error.saying(EMPTY) } else { error }
}

/// Of a key that is unknown, expired or revoked: the same for all three.
pub(super) fn not_known(shown: &Shown<'_>) -> GateError {
    let error = GateError::new(Reason::InvalidKey);
    match shown {
        Shown::Token(_) => error,
        Shown::Signed(signed) => error.saying(format!(
            "this ssh key ({}) is not enrolled here, or it has expired or was revoked; at the gate: \
             herdgate key create NAME --ssh-key FILE.pub",
            signed.fingerprint()
        )),
    }
}

/// Of what is no key, or is a signature that is wrong or out of its time.
pub(super) fn malformed(gate: &Gate, shown: &Shown<'_>, now: UnixSeconds) -> GateError {
    let error = GateError::new(Reason::InvalidKey);
    match shown {
        Shown::Token(token) if token.starts_with(b"$") => error.saying(VARIABLE),
        Shown::Token(token) if is_placeholder(token) => error.saying(PLACEHOLDER),
        Shown::Token(_) => error,
        Shown::Signed(signed) if signed.is_timely(now) => error.saying(format!(
            "the signature is not one of this request by the ssh key ({}) that it names; does something on the way change \
             the path?",
            signed.fingerprint()
        )),
        Shown::Signed(signed) if is_of_a_valid_key(gate, signed, now) => {
            error.saying(clock_is_off(signed, now))
        }
        Shown::Signed(_) => not_known(shown),
    }
}

/// Whether a signature that is out of its time is a true one, and its key valid now: then its owner's clock is wrong. Of any
/// other key nothing is told that is not told of an unknown one.
fn is_of_a_valid_key(gate: &Gate, signed: &SignedRequest<'_>, now: UnixSeconds) -> bool {
    match gate.shared.keys().check_signature(signed, signed.ts()) {
        Verdict::Valid(key) => matches!(key.state(now), State::Active | State::Overlapping),
        Verdict::Expired(_) | Verdict::Revoked(_) | Verdict::Unknown | Verdict::Malformed => false,
    }
}

fn clock_is_off(signed: &SignedRequest<'_>, now: UnixSeconds) -> String {
    let (by, side) = (signed.ts().abs_diff(now), if signed.ts() < now { "behind" } else { "ahead of" });
    format!(
        "the request was signed {by} seconds {side} this gate's clock, and {SIGNATURE_SPAN} are allowed; set the clocks"
    )
}

/// Whether it is a word out of an example. What has all the length of a key is a key that was mistyped.
pub(super) fn is_placeholder(credential: &[u8]) -> bool {
    let is_meant =
        credential.starts_with(gate_keys::KEY_PREFIX.as_bytes()) && credential.len() >= gate_keys::KEY_LENGTH;
    !is_meant && std::str::from_utf8(credential).is_ok_and(gate_keys::is_dummy)
}
