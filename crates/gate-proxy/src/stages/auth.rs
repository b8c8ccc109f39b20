//! Who calls, and whether they may. The only place where a [`Caller`] is made; nothing behind it reads a credential again.
//!
//! A credential comes as `Authorization: Bearer`, `Authorization: Basic` (the token as password) or `x-api-key`; from clients
//! that take the gate for their proxy also as `Proxy-Authorization`; from Ollama's own command line as a signature. Same
//! answer for unknown, expired and revoked keys: only the log knows which it was.
//!
//! A valid key is found in memory and waits for nothing. Before any other that could be one is refused, the store is looked
//! at once more: 401 means a bad key, never a bad store, nor one that was made a moment ago.

mod clear;
mod told;

pub(crate) use clear::Told;

use crate::anonymous::{Keyless, objection};
use crate::clock::unix_now;
use crate::downstream::{Downstream, Head};
use crate::gate::Gate;
use crate::lease::Lease;
use crate::rules::Rules;
use crate::stages::cors::Cors;
use crate::stages::intake::Target;
use crate::trace::Trace;
use gate_keys::{Key, Kind, SIGNATURE_SPAN, SignedRequest, UnixSeconds, Verdict};
use gate_types::{ModelName, Scope};
use gate_wire::{GateError, Reason};
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

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
pub(crate) async fn identify<D: Downstream>(
    gate: &Gate,
    rules: &Rules,
    down: &D,
    target: Target<'_>,
    trace: &mut Trace,
    lease: &Lease<'_>,
) -> Result<Caller, GateError> {
    let now = unix_now();
    let source = down.source();
    let failed = |error| failed(gate, rules, source.address, error);
    let is_keyless = down.entered().way.keyless != Keyless::Closed;
    let shown = match shown(down.head(), target) {
        Err(error) if error.reason == Reason::BadCredentialsForm => return Err(failed(error)),
        Err(error) if error.reason == Reason::NoCredentials => {
            if is_keyless {
                return anonymous(gate, down, trace, lease, error);
            }
            return Err(told::nothing_shown(rules, down.head(), error));
        }
        shown => shown?,
    };
    let verdict = match &shown {
        // What stands there only because a client insists on some key.
        Shown::Token(token) if is_keyless && told::is_placeholder(token) => {
            return anonymous(gate, down, trace, lease, GateError::new(Reason::NoCredentials));
        }
        Shown::Token(token) => {
            if source.is_clear {
                clear::check(rules, source)?;
            }
            gate.shared.keys().check(token, now)
        }
        Shown::Signed(signed) => gate.shared.keys().check_signature(signed, now),
    };
    let key = match verdict {
        Verdict::Valid(key) => key,
        Verdict::Malformed => return Err(failed(told::malformed(gate, &shown, now))),
        // Boxed: who has a key shall not carry the room for it.
        Verdict::Unknown | Verdict::Expired(_) | Verdict::Revoked(_) => {
            Box::pin(look_again(gate, rules, source.address, &shown, verdict, trace)).await?
        }
    };
    trace.key = Some(Arc::clone(&key));
    if let Shown::Signed(signed) = &shown {
        let until = signed.ts().saturating_add(SIGNATURE_SPAN);
        if !gate.shared.replays.admit(key.digest, signed.signature(), source.address, until, now) {
            return Err(failed(GateError::new(Reason::InvalidKey).saying(told::REPLAYED)));
        }
    } else if source.is_clear {
        clear::warn(gate, &key, source);
    }
    Ok(known(key, down, lease, now))
}

/// The request runs by this key from now on.
fn known<D: Downstream>(key: Arc<Key>, down: &D, lease: &Lease<'_>, now: UnixSeconds) -> Caller {
    key.mark_used(now);
    lease.hold(&key);
    down.know();
    Caller { key }
}

/// Finds the key that a request without one acts as, at a listener that allows that, from where it does. `error` is what is told
/// else.
#[cold]
fn anonymous<D: Downstream>(
    gate: &Gate,
    down: &D,
    trace: &mut Trace,
    lease: &Lease<'_>,
    error: GateError,
) -> Result<Caller, GateError> {
    let entered = down.entered();
    let Some(anonymous) = &entered.entrance.anonymous else { return Err(error) };
    let is_allowed = matches!(trace.cors, Cors::Any | Cors::Origin(_));
    if let Some(objection) = entered.way.keyless.objection().or_else(|| objection(down.head(), is_allowed)) {
        return Err(error.saying(format!(
            "no API key given; requests without one are served here only where they come straight from a program in the \
             networks that the gate's settings name, and {objection}"
        )));
    }
    let now = unix_now();
    let Some(key) = anonymous.key(&gate.shared.keys(), now) else {
        let cause =
            format!("there is no valid key \"{}\", which insecure_anonymous names", anonymous.acts_as());
        return Err(error
            .saying("no API key given; the one that requests without a key act as here is not valid now")
            .because(cause));
    };
    trace.key = Some(Arc::clone(&key));
    Ok(known(key, down, lease, now))
}

/// Judges a key once more that is not valid as far as is known in memory: after a look at the store, for which unknown,
/// expired and revoked keys wait alike. While the store fails, and for an address that has to wait anyway, there is no look.
/// The client is not watched meanwhile: that would be reading what an unknown caller sends.
async fn look_again(
    gate: &Gate,
    rules: &Rules,
    from: IpAddr,
    shown: &Shown<'_>,
    mut verdict: Verdict,
    trace: &mut Trace,
) -> Result<Arc<Key>, GateError> {
    let shared = &gate.shared;
    let wait = || shared.failures.wait(from, rules.door.failures, Instant::now().into_std());
    let mut is_well = !shared.store.is_degraded();
    let must_wait = if is_well { wait() } else { None };
    if is_well && must_wait.is_none() {
        is_well = shared.store.is_well().await;
        verdict = match shown {
            Shown::Token(token) => shared.keys().check(token, unix_now()),
            Shown::Signed(signed) => shared.keys().find(Kind::Ssh, &signed.key_digest(), unix_now()),
        };
    }
    let refused = match verdict {
        Verdict::Valid(key) => return Ok(key),
        // It may be in the store that cannot be read: nobody's failure.
        Verdict::Unknown if !is_well => return Err(GateError::new(Reason::StoreUnavailable)),
        Verdict::Expired(key) | Verdict::Revoked(key) => {
            trace.key = Some(key);
            told::not_known(shown)
        }
        Verdict::Unknown | Verdict::Malformed => told::not_known(shown),
    };
    Err(match must_wait {
        Some(wait) => too_many(wait, refused),
        None => failed(gate, rules, from, refused),
    })
}

/// What is told of a wrong credential: that it is wrong, or to wait where its address has sent too many.
fn failed(gate: &Gate, rules: &Rules, from: IpAddr, error: GateError) -> GateError {
    match gate.shared.failures.count(from, rules.door.failures, Instant::now().into_std()) {
        Ok(()) => error,
        Err(wait) => too_many(wait, error),
    }
}

fn too_many(wait: Duration, error: GateError) -> GateError {
    GateError::new(Reason::TooManyFailures).again_after(wait).because(error)
}

/// Whether the caller's key opens this kind of route.
pub(crate) fn permit(caller: &Caller, scope: Scope) -> Result<(), GateError> {
    if caller.holds(scope) {
        return Ok(());
    }
    Err(GateError::missing_scope(scope))
}

/// What a request shows to be let in.
enum Shown<'h> {
    /// A key, or what is meant for one.
    Token(Cow<'h, [u8]>),
    /// A signature by an enrolled key.
    Signed(Box<SignedRequest<'h>>),
}

/// The one credential of a request. Two different ones have two readings and are refused.
fn shown<'h>(head: &'h Head, target: Target<'h>) -> Result<Shown<'h>, GateError> {
    let authorization = only(head, "authorization")?;
    // What is meant for a proxy counts where the client takes the gate for one.
    let to_proxy = if target.is_proxied { only(head, "proxy-authorization")? } else { None };
    let api_key = only(head, "x-api-key")?.filter(|key| !key.is_empty());
    if let Some(authorization) = authorization.filter(|value| SignedRequest::is_one(value)) {
        if to_proxy.is_some() || api_key.is_some() {
            return Err(GateError::new(Reason::ConflictingCredentials));
        }
        let (method, text) = (head.method().as_bytes(), target.path_and_query.as_bytes());
        let signed = SignedRequest::read(method, text, authorization);
        return signed
            .map(|signed| Shown::Signed(Box::new(signed)))
            .ok_or_else(|| GateError::new(Reason::BadCredentialsForm).saying(told::UNSIGNED));
    }
    let fields = [authorization, to_proxy].into_iter().flatten().map(gate_keys::token_of);
    let mut all = fields.chain(api_key.map(|key| Some(Cow::Borrowed(key))));
    let Some(first) = all.next() else { return Err(GateError::new(Reason::NoCredentials)) };
    if all.any(|other| other.is_none() || other != first) {
        return Err(GateError::new(Reason::ConflictingCredentials));
    }
    first.map(Shown::Token).ok_or_else(|| told::no_token(authorization.or(to_proxy)))
}

fn only<'h>(head: &'h Head, name: &'h str) -> Result<Option<&'h [u8]>, GateError> {
    let mut all = head.all(name);
    match (all.next(), all.next()) {
        (first, None) => Ok(first),
        (_, Some(_)) => Err(GateError::new(Reason::ConflictingCredentials)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &str) -> Head {
        Head::parse(&format!("GET /api/tags HTTP/1.1\r\nHost: x\r\n{fields}\r\n"))
    }

    fn outcome(fields: &str) -> Result<Vec<u8>, Reason> {
        outcome_as(false, fields)
    }

    fn outcome_as(is_proxied: bool, fields: &str) -> Result<Vec<u8>, Reason> {
        let target = Target { path: "/api/tags", path_and_query: "/api/tags?ts=5", is_proxied };
        match shown(&head(fields), target) {
            Ok(Shown::Token(token)) => Ok(token.into_owned()),
            Ok(Shown::Signed(signed)) => Ok(format!("signed at {}", signed.ts()).into_bytes()),
            Err(error) => Err(error.reason),
        }
    }

    #[test]
    fn a_proxys_client_shows_its_key_as_to_a_proxy() {
        let basic = "Proxy-Authorization: Basic dXNlcjpzay0x\r\n";
        assert_eq!(outcome_as(true, basic), Ok(b"sk-1".to_vec()));
        assert_eq!(outcome(basic), Err(Reason::NoCredentials), "it was meant for another");
        let both = format!("{basic}Authorization: Bearer sk-1\r\nx-api-key: sk-1\r\n");
        assert_eq!(outcome_as(true, &both), Ok(b"sk-1".to_vec()));
        for more in
            ["Authorization: Bearer sk-2\r\n", "Authorization: Digest x\r\n", "x-api-key: sk-2\r\n", basic]
        {
            let conflict = Err(Reason::ConflictingCredentials);
            assert_eq!(outcome_as(true, &format!("{basic}{more}")), conflict, "{more}");
        }
        assert_eq!(outcome_as(true, "Proxy-Authorization: Digest x\r\n"), Err(Reason::BadCredentialsForm));
    }

    #[test]
    fn a_signature_is_told_by_its_form_and_stands_alone() {
        let wire = "AAAAC3NzaC1lZDI1NTE5AAAAIL7CyxrZXxbCZdHv/aiIzyXR63hLT0NB3+Syy5c3UuNB";
        let sent = format!("Authorization: {wire}:{}==\r\n", "A".repeat(86));
        assert_eq!(outcome(&sent), Ok(b"signed at 5".to_vec()));
        assert_eq!(outcome(&format!("{sent}x-api-key: sk-1\r\n")), Err(Reason::ConflictingCredentials));
        let damaged = sent.replace("AAAAC3", "BAAAC3");
        assert_eq!(outcome(&damaged), Err(Reason::BadCredentialsForm));
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
