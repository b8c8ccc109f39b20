//! Who calls, and whether they may. The only place where a [`Caller`] is made; nothing behind it reads a credential again.
//!
//! A credential comes as `Authorization: Bearer`, `Authorization: Basic` (the token as password) or `x-api-key`. Same
//! answer for unknown, expired and revoked keys: only the log knows which it was.

use crate::downstream::{Downstream, Head};
use crate::gate::{Gate, Rules, unix_now};
use crate::lease::Lease;
use crate::trace::Trace;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use gate_keys::{Key, Verdict};
use gate_types::{ModelName, Scope};
use gate_wire::{GateError, Reason};
use std::borrow::Cow;
use std::sync::Arc;
use tokio::time::Instant;

/// What is told of the words that clients and examples put where a key belongs.
const PLACEHOLDER: &str = "this is a placeholder, not a key of this gate; put a real one (sk-hg-…) where your client has it, \
                     for example in OPENAI_API_KEY, ANTHROPIC_AUTH_TOKEN or OLLAMA_API_KEY";

/// Somebody whose key was found valid when the request began.
#[derive(Debug)]
pub(crate) struct Caller {
    key: Arc<Key>,
}

impl Caller {
    /// Whether the key may use `model`.
    pub(crate) fn may_use(&self, model: &ModelName) -> bool {
        self.key.may_use(model)
    }

    /// Whether the key holds `scope`.
    pub(crate) fn holds(&self, scope: Scope) -> bool {
        self.key.has(scope)
    }
}

/// Finds the caller's key.
pub(crate) fn identify<D: Downstream>(
    gate: &Gate,
    rules: &Rules,
    down: &D,
    trace: &mut Trace,
    lease: &Lease<'_>,
) -> Result<Caller, GateError> {
    let now = unix_now();
    let credential = match credential(down.head()) {
        Ok(credential) => credential,
        Err(error) if error.reason == Reason::BadCredentialsForm => {
            return Err(failed(gate, rules, down, error));
        }
        Err(error) => return Err(error),
    };
    let key = match gate.shared.keys().check(credential.as_ref(), now) {
        Verdict::Valid(key) => key,
        Verdict::Expired(key) | Verdict::Revoked(key) => {
            trace.key = Some(key);
            return Err(failed(gate, rules, down, GateError::new(Reason::InvalidKey)));
        }
        // It may be in the store that cannot be read: nobody's failure.
        Verdict::Unknown if gate.shared.store_is_degraded() => {
            return Err(GateError::new(Reason::StoreUnavailable));
        }
        Verdict::Unknown => return Err(failed(gate, rules, down, GateError::new(Reason::InvalidKey))),
        Verdict::Malformed => {
            let error = GateError::new(Reason::InvalidKey);
            let error = if is_placeholder(&credential) { error.saying(PLACEHOLDER) } else { error };
            return Err(failed(gate, rules, down, error));
        }
    };
    key.mark_used(now);
    lease.hold(&key);
    trace.key = Some(Arc::clone(&key));
    Ok(Caller { key })
}

/// What is told of a wrong credential: that it is wrong, or to wait where its address has sent too many.
fn failed<D: Downstream>(gate: &Gate, rules: &Rules, down: &D, error: GateError) -> GateError {
    match gate.shared.failures.count(down.peer(), rules.door.failures, Instant::now().into_std()) {
        Ok(()) => error,
        Err(wait) => GateError::new(Reason::TooManyFailures).again_after(wait).because(error),
    }
}

/// Whether it is a word out of an example. What has all the length of a key is a key that was mistyped.
fn is_placeholder(credential: &[u8]) -> bool {
    let is_meant =
        credential.starts_with(gate_keys::KEY_PREFIX.as_bytes()) && credential.len() >= gate_keys::KEY_LENGTH;
    !is_meant && std::str::from_utf8(credential).is_ok_and(gate_keys::is_dummy)
}

/// Whether the caller's key opens this kind of route.
pub(crate) fn permit(caller: &Caller, scope: Scope) -> Result<(), GateError> {
    if caller.holds(scope) {
        return Ok(());
    }
    Err(GateError::missing_scope(scope))
}

/// The one credential of a request. Two different ones have two readings and are refused.
fn credential(head: &Head) -> Result<Cow<'_, [u8]>, GateError> {
    let authorization = only(head, "authorization")?;
    let api_key = only(head, "x-api-key")?.filter(|key| !key.is_empty());
    let token = authorization.map(from_authorization);
    match (token, api_key) {
        (None, None) => Err(GateError::new(Reason::NoCredentials)),
        (None, Some(key)) => Ok(Cow::Borrowed(key)),
        (Some(Some(token)), None) => Ok(token),
        (Some(Some(token)), Some(key)) if token == key => Ok(token),
        (Some(Some(_)), Some(_)) => Err(GateError::new(Reason::ConflictingCredentials)),
        (Some(None), None) => Err(GateError::new(Reason::BadCredentialsForm)),
        (Some(None), Some(_)) => Err(GateError::new(Reason::ConflictingCredentials)),
    }
}

fn only<'h>(head: &'h Head, name: &'h str) -> Result<Option<&'h [u8]>, GateError> {
    let mut all = head.all(name);
    match (all.next(), all.next()) {
        (first, None) => Ok(first),
        (_, Some(_)) => Err(GateError::new(Reason::ConflictingCredentials)),
    }
}

/// The token of an `Authorization` field, or `None` where it has another form.
fn from_authorization(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = value.split_at(space);
    let rest = rest.trim_ascii();
    if rest.is_empty() {
        return None;
    }
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(Cow::Borrowed(rest));
    }
    if scheme.eq_ignore_ascii_case(b"basic") {
        let unpadded = rest.trim_ascii_end();
        let end = unpadded.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
        let pair = STANDARD_NO_PAD.decode(&unpadded[..end]).ok()?;
        let colon = pair.iter().position(|byte| *byte == b':')?;
        let password = pair[colon + 1..].to_vec();
        return (!password.is_empty()).then_some(Cow::Owned(password));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &str) -> Head {
        Head::parse(&format!("GET /api/tags HTTP/1.1\r\nHost: x\r\n{fields}\r\n"))
    }

    fn outcome(fields: &str) -> Result<Vec<u8>, Reason> {
        credential(&head(fields)).map(Cow::into_owned).map_err(|error| error.reason)
    }

    #[test]
    fn three_forms_of_one_token() {
        for fields in [
            "Authorization: Bearer sk-1\r\n",
            "authorization: bearer   sk-1\r\n",
            "Authorization: Basic dXNlcjpzay0x\r\n",
            "Authorization: Basic OnNrLTE=\r\n",
            "x-api-key: sk-1\r\n",
            "X-Api-Key: sk-1\r\nAuthorization: Bearer sk-1\r\n",
            "Authorization: Bearer sk-1\r\nx-api-key:\r\n",
        ] {
            assert_eq!(outcome(fields), Ok(b"sk-1".to_vec()), "{fields:?}");
        }
    }

    #[test]
    fn no_credential_wrong_form_and_two_of_them_are_told_apart() {
        for (fields, reason) in [
            ("", Reason::NoCredentials),
            ("x-api-key:\r\n", Reason::NoCredentials),
            ("Authorization: sk-1\r\n", Reason::BadCredentialsForm),
            ("Authorization: Bearer\r\n", Reason::BadCredentialsForm),
            ("Authorization: Digest x\r\n", Reason::BadCredentialsForm),
            ("Authorization: Basic %%%\r\n", Reason::BadCredentialsForm),
            ("Authorization: Basic dXNlcg==\r\n", Reason::BadCredentialsForm),
            ("Authorization: Bearer a\r\nAuthorization: Bearer a\r\n", Reason::ConflictingCredentials),
            ("Authorization: Bearer a\r\nx-api-key: b\r\n", Reason::ConflictingCredentials),
            ("x-api-key: a\r\nx-api-key: a\r\n", Reason::ConflictingCredentials),
        ] {
            assert_eq!(outcome(fields), Err(reason), "{fields:?}");
        }
    }
}
