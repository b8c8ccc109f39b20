//! All keys at one moment, as the request path asks for them: in memory, read by every core, never changed.
//!
//! A change in the store makes a new ring; requests under way keep the one that they began with.

use crate::{EnvKey, Key, KeyDigest, Kind, SettingsKey, SignedRequest, State, UnixSeconds, is_well_formed};
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// A snapshot of all keys, revoked and expired ones included.
#[derive(Default)]
pub struct KeyRing {
    /// Those of the store and of the settings.
    stored: HashMap<KeyDigest, Arc<Key>, BuildHasherDefault<FirstBytes>>,
    env: Option<Arc<Key>>,
}

/// What the ring says about a credential. Callers are told the same for all but the first; logs may name the key.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It is this key, and the key opens the gate.
    Valid(Arc<Key>),
    /// It was this key; its time, or the overlap after its rotation, is over.
    Expired(Arc<Key>),
    /// It was this key until somebody revoked it.
    Revoked(Arc<Key>),
    /// It could be a key, and no key that is known here. Where the store of keys fails, that says nothing.
    Unknown,
    /// Not the form of a key, or a signature that is wrong or out of its time: no key in any store.
    Malformed,
}

impl KeyRing {
    /// A ring of stored keys. Where two had one digest, which a store excludes, the later one counts.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Self {
        let stored = keys.into_iter().map(|key| (key.digest, Arc::new(key))).collect();
        KeyRing { stored, env: None }
    }

    /// The same ring and the key that `AUTH_TOKEN` gives.
    #[must_use]
    pub fn with_env(mut self, env: &EnvKey) -> Self {
        self.env = Some(env.key());
        self
    }

    /// The same ring and the keys that stand in the settings. A stored key counts before one of the settings with the same
    /// digest, so that a revoked one stays revoked.
    #[must_use]
    pub fn with_settings(mut self, keys: &[SettingsKey]) -> Self {
        for key in keys {
            let key = key.key();
            self.stored.entry(key.digest).or_insert(key);
        }
        self
    }

    /// The keys of the store alone, without those from outside of it.
    #[must_use]
    pub fn stored_alone(&self) -> Self {
        let stored = self.stored.iter().filter(|(_, key)| key.id.is_stored());
        KeyRing { stored: stored.map(|(digest, key)| (*digest, Arc::clone(key))).collect(), env: None }
    }

    /// The same ring, in which every key that `earlier` knows as revoked is revoked. No command takes a revocation back, so
    /// a store that does is an old copy of itself.
    #[must_use]
    pub fn with_revoked_of(mut self, earlier: &KeyRing) -> Self {
        for (digest, key) in earlier.stored.iter().filter(|(_, key)| key.revoked.is_some()) {
            let place = self.stored.entry(*digest).or_insert_with(|| Arc::clone(key));
            if place.revoked.is_none() {
                *place = Arc::clone(key);
            }
        }
        self
    }

    /// Judges a credential as it was sent. What has not the form of a key is looked up nowhere; only the token of the
    /// environment, which may have any form, is compared with it.
    #[must_use]
    pub fn check(&self, credential: impl AsRef<[u8]>, now: UnixSeconds) -> Verdict {
        let credential = credential.as_ref();
        if is_well_formed(credential) {
            return self.find(Kind::Secret, &KeyDigest::of(credential), now);
        }
        match &self.env {
            Some(env) if env.digest == KeyDigest::of(credential) => Verdict::Valid(Arc::clone(env)),
            _ => Verdict::Malformed,
        }
    }

    /// Whether this is a key, valid or not: then it must not stand where anything may be shown.
    #[must_use]
    pub fn knows(&self, text: impl AsRef<[u8]>) -> bool {
        !matches!(self.check(text, 0), Verdict::Unknown | Verdict::Malformed)
    }

    /// Judges a signed request. The signature is checked before its key is looked for, so that the time that it takes says
    /// nothing about which keys there are. Whether the same signature was seen before is the caller's to know.
    #[must_use]
    pub fn check_signature(&self, signed: &SignedRequest<'_>, now: UnixSeconds) -> Verdict {
        if !signed.is_timely(now) || !signed.is_genuine() {
            return Verdict::Malformed;
        }
        self.find(Kind::Ssh, &signed.key_digest(), now)
    }

    /// Judges a digest. A stored key counts before the token of the environment, so that a revoked one stays revoked.
    #[must_use]
    pub fn find(&self, kind: Kind, digest: &KeyDigest, now: UnixSeconds) -> Verdict {
        let env = || self.env.as_ref().filter(|env| env.digest == *digest);
        let found = self.stored.get(digest).or_else(env).filter(|key| key.kind == kind);
        let Some(key) = found.cloned() else { return Verdict::Unknown };
        match key.state(now) {
            State::Active | State::Overlapping => Verdict::Valid(key),
            State::Expired | State::Replaced => Verdict::Expired(key),
            State::Revoked => Verdict::Revoked(key),
        }
    }

    /// All keys, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.all().map(AsRef::as_ref)
    }

    /// All keys, in no order, to be kept.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.stored.values().chain(&self.env)
    }

    /// The stored keys with a use that their store does not know of yet, for [`crate::KeyStore::touch`]. When that is done,
    /// [`Key::mark_saved`] tells them; until then they are told of again.
    #[must_use]
    pub fn unsaved_uses(&self) -> Vec<(Arc<Key>, UnixSeconds)> {
        let stored = self.stored.values().filter(|key| key.id.is_stored());
        stored.filter_map(|key| Some((Arc::clone(key), key.unsaved_use()?))).collect()
    }

    /// Remembers what the ring before knew of the last uses of these keys: a store that was read may not know it yet.
    pub fn take_over_uses(&self, before: &KeyRing) {
        for (digest, key) in self.stored.iter().filter(|(_, key)| key.id.is_stored()) {
            let earlier = before.stored.get(digest).filter(|earlier| earlier.id == key.id);
            if let Some(when) = earlier.and_then(|earlier| earlier.last_used()) {
                key.mark_used(when);
            }
        }
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let env = if self.env.is_some() { " and env" } else { "" };
        write!(f, "KeyRing({} stored{env})", self.stored.len())
    }
}

/// Takes the eight bytes that a digest offers as they are. What is in the table comes from random keys only, so nobody
/// outside can choose what collides there.
#[derive(Default)]
struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Entropy, KeyId, KeyName, Mark, Minted, NoEntropy, OsEntropy, mint};
    use gate_types::{ScopeSet, Secret};
    use proptest::prelude::*;

    fn stored(minted: &Minted, id: i64) -> Key {
        Key::new(KeyId(id), KeyName::first(), minted.mark.clone(), ScopeSet::DEFAULT, 0)
    }

    fn env(token: &str) -> EnvKey {
        EnvKey::new(&Secret::new(token.to_owned())).unwrap()
    }

    #[test]
    fn the_token_of_the_environment_may_have_any_form() {
        let ring = KeyRing::default().with_env(&env("let me in, please"));
        let Verdict::Valid(key) = ring.check("let me in, please", 5) else { panic!("refused") };
        assert_eq!((key.name.as_str(), key.id, key.scopes), ("env", KeyId::ENV, ScopeSet::DEFAULT));
        assert!(matches!(ring.check("let me in, pleasf", 5), Verdict::Malformed));
        assert!(matches!(ring.check("", 5), Verdict::Malformed));
        assert!(matches!(KeyRing::default().check("let me in, please", 5), Verdict::Malformed));
    }

    #[test]
    fn a_token_in_the_form_of_a_key_works_too() {
        let minted = mint(&mut OsEntropy).unwrap();
        let ring = KeyRing::default().with_env(&env(minted.secret.expose()));
        assert!(matches!(ring.check(minted.secret.expose(), 5), Verdict::Valid(_)));
    }

    #[test]
    fn a_revoked_key_stays_revoked_even_as_the_token() {
        let minted = mint(&mut OsEntropy).unwrap();
        let mut revoked = stored(&minted, 1);
        revoked.revoked = Some(3);
        let ring = KeyRing::new([revoked]).with_env(&env(minted.secret.expose()));
        assert!(matches!(ring.check(minted.secret.expose(), 5), Verdict::Revoked(_)));
        assert!(ring.knows(minted.secret.expose()), "it is a secret still");
        assert!(!ring.knows(mint(&mut OsEntropy).unwrap().secret.expose()) && !ring.knows("an id"));
    }

    fn in_settings(minted: &Minted, name: &str) -> SettingsKey {
        let text = crate::digest_text(&minted.mark);
        SettingsKey::new(KeyName::parse(name).unwrap(), &text, ScopeSet::DEFAULT, Vec::new()).unwrap()
    }

    #[test]
    fn a_key_of_the_settings_opens_the_gate_unless_the_store_revoked_it() {
        let (minted, other) = (mint(&mut OsEntropy).unwrap(), mint(&mut OsEntropy).unwrap());
        let keys = [in_settings(&minted, "ci"), in_settings(&other, "bot")];
        let ring = KeyRing::default().with_settings(&keys);
        let Verdict::Valid(key) = ring.check(minted.secret.expose(), 5) else { panic!("refused") };
        assert_eq!((key.name.as_str(), ring.iter().count()), ("ci", 2));
        key.mark_used(9);
        assert!(ring.unsaved_uses().is_empty(), "a store has no such key");
        let mut revoked = stored(&minted, 1);
        revoked.revoked = Some(3);
        let ring = KeyRing::new([revoked]).with_settings(&keys);
        assert!(matches!(ring.check(minted.secret.expose(), 5), Verdict::Revoked(_)));
        assert!(matches!(ring.check(other.secret.expose(), 5), Verdict::Valid(_)));
    }

    #[test]
    fn the_keys_of_the_store_are_told_from_those_of_outside() {
        let (minted, other) = (mint(&mut OsEntropy).unwrap(), mint(&mut OsEntropy).unwrap());
        let ring = KeyRing::new([stored(&minted, 1)])
            .with_settings(&[in_settings(&other, "ci")])
            .with_env(&env("let me in, please"));
        assert_eq!(ring.iter().count(), 3);
        let alone = ring.stored_alone();
        assert_eq!(alone.iter().map(|key| key.id).collect::<Vec<_>>(), [KeyId(1)]);
        assert!(matches!(alone.check(minted.secret.expose(), 5), Verdict::Valid(_)));
        assert!(matches!(alone.check("let me in, please", 5), Verdict::Malformed));
    }

    #[test]
    fn an_older_copy_of_a_store_takes_no_revocation_back() {
        let (one, two) = (mint(&mut OsEntropy).unwrap(), mint(&mut OsEntropy).unwrap());
        let revoked = |minted, id| {
            let mut key = stored(minted, id);
            key.revoked = Some(3);
            key
        };
        let before = KeyRing::new([revoked(&one, 1), revoked(&two, 2)]);
        let after = KeyRing::new([stored(&one, 1)]).with_revoked_of(&before);
        assert!(matches!(after.check(one.secret.expose(), 5), Verdict::Revoked(_)));
        assert!(matches!(after.check(two.secret.expose(), 5), Verdict::Revoked(_)));
    }

    #[test]
    fn uses_are_gathered_for_stored_keys_alone() {
        let minted = mint(&mut OsEntropy).unwrap();
        let ring = KeyRing::new([stored(&minted, 7)]).with_env(&env("a long enough token"));
        for credential in [minted.secret.expose(), "a long enough token"] {
            let Verdict::Valid(key) = ring.check(credential, 9) else { panic!("refused") };
            key.mark_used(9);
        }
        let uses = ring.unsaved_uses();
        let told: Vec<_> = uses.iter().map(|(key, when)| (key.id, *when)).collect();
        assert_eq!(told, [(KeyId(7), 9)]);
        uses.iter().for_each(|(key, when)| key.mark_saved(*when));
        assert!(ring.unsaved_uses().is_empty());
    }

    #[test]
    fn a_new_ring_knows_the_uses_of_the_one_before() {
        let (minted, again) = (mint(&mut OsEntropy).unwrap(), mint(&mut OsEntropy).unwrap());
        let before = KeyRing::new([stored(&minted, 7), stored(&again, 8)]);
        before.iter().for_each(|key| key.mark_used(9));
        // The second is another key by now, of another store.
        let after = KeyRing::new([stored(&minted, 7).with_last_used(Some(4)), stored(&again, 3)]);
        after.take_over_uses(&before);
        let told: Vec<_> = after.unsaved_uses().iter().map(|(key, when)| (key.id, *when)).collect();
        assert_eq!(told, [(KeyId(7), 9)]);
    }

    #[test]
    fn debug_shows_no_key() {
        let minted = mint(&mut OsEntropy).unwrap();
        let ring = KeyRing::new([stored(&minted, 1)]).with_env(&env("canary-canary"));
        assert_eq!(format!("{ring:?}"), "KeyRing(1 stored and env)");
        let verdict = format!("{:?}", ring.check("canary-canary", 1));
        assert!(!verdict.contains("canary"), "{verdict}");
        let verdict = format!("{:?}", ring.check(minted.secret.expose(), 1));
        assert!(!verdict.contains(&minted.secret.expose()[10..]), "{verdict}");
    }

    struct Counter(u64);

    impl Entropy for Counter {
        fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
            for byte in bytes {
                self.0 =
                    self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (self.0 >> 33) as u8;
            }
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn a_verdict_is_the_state_of_the_very_key(
            seed in any::<u64>(),
            ends in proptest::collection::vec((proptest::option::of(0_i64..20), proptest::option::of(0_i64..20)), 0..12),
            now in 0_i64..20,
        ) {
            let mut chance = Counter(seed);
            let made: Vec<Minted> = ends.iter().map(|_| mint(&mut chance).unwrap()).collect();
            let keys = made.iter().zip(&ends).enumerate().map(|(id, (minted, &(expires, revoked)))| {
                let mut key = stored(minted, id as i64);
                (key.expires, key.revoked) = (expires, revoked);
                key
            });
            let ring = KeyRing::new(keys);
            for (id, (minted, (expires, revoked))) in made.iter().zip(&ends).enumerate() {
                let verdict = ring.check(minted.secret.expose(), now);
                let (key, sound) = match &verdict {
                    Verdict::Revoked(key) => (key, revoked.is_some()),
                    Verdict::Expired(key) => (key, revoked.is_none() && expires.is_some_and(|end| end <= now)),
                    Verdict::Valid(key) => (key, revoked.is_none() && expires.is_none_or(|end| end > now)),
                    Verdict::Unknown | Verdict::Malformed => panic!("a stored key was not found"),
                };
                prop_assert!(sound, "{verdict:?}");
                prop_assert_eq!(key.id, KeyId(id as i64));
            }
            let stranger = mint(&mut chance).unwrap();
            prop_assert!(matches!(ring.check(stranger.secret.expose(), now), Verdict::Unknown));
            prop_assert_eq!(Mark::of(&stranger.secret), stranger.mark);
        }
    }
}
