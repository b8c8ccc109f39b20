//! Keys that crossed a network in clear: told of once each, or refused. A signature is none: it shows no secret.

use crate::entrance::Source;
use crate::gate::Gate;
use crate::rules::{PlainKeys, Rules};
use gate_keys::{Key, KeyId};
use gate_types::is_public;
use gate_wire::{GateError, Reason};
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Most keys that are remembered; nobody reads more warnings.
const MOST: usize = 1024;

/// The keys that were told of, on all cores.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<HashSet<KeyId>>);

impl Told {
    fn is_first(&self, key: KeyId) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.len() < MOST && told.insert(key)
    }
}

/// Whether a key that came in clear is refused, before anybody looks for it.
pub(super) fn check(rules: &Rules, source: Source) -> Result<(), GateError> {
    let is_refused = match rules.door.plain_keys {
        PlainKeys::Warn => false,
        PlainKeys::RefusePublic => is_public(source.address),
        PlainKeys::Refuse => true,
    };
    if source.is_clear && is_refused { Err(GateError::new(Reason::TlsRequired)) } else { Ok(()) }
}

/// Warns of a valid key that came in clear, the first time that it does.
#[cold]
pub(super) fn warn(gate: &Gate, key: &Key, source: Source) {
    let is_new_here = {
        let mut told = gate.told_clear.borrow_mut();
        told.len() < MOST && told.insert(key.id)
    };
    if is_new_here && gate.shared.told_clear.is_first(key.id) {
        tracing::warn!(
            "the key {} came from {} in clear: whoever listens on the way has it; name a certificate in [tls], or let \
             tls.plain_keys refuse such keys",
            key.name,
            source.address
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_a_setting() {
        let refused = |plain_keys, address: &str, is_clear| {
            let mut rules = Rules::for_tests(&[], &[]);
            rules.door.plain_keys = plain_keys;
            check(&rules, Source { address: address.parse().unwrap(), is_clear }).is_err()
        };
        for (plain_keys, private, public) in [
            (PlainKeys::Warn, false, false),
            (PlainKeys::RefusePublic, false, true),
            (PlainKeys::Refuse, true, true),
        ] {
            assert_eq!(refused(plain_keys, "192.168.1.7", true), private, "{plain_keys:?}");
            assert_eq!(refused(plain_keys, "203.0.113.9", true), public, "{plain_keys:?}");
            assert!(!refused(plain_keys, "203.0.113.9", false), "{plain_keys:?}");
        }
    }

    #[test]
    fn each_key_is_told_of_once_and_not_for_ever() {
        let told = Told::default();
        assert!(told.is_first(KeyId(1)) && !told.is_first(KeyId(1)) && told.is_first(KeyId(2)));
        let most = i64::try_from(MOST).unwrap();
        assert_eq!((3..2 * most).filter(|id| told.is_first(KeyId(*id))).count(), MOST - 2);
    }
}
