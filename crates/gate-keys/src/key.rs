//! A key as it is kept: everything about it but the secret.

use crate::{KeyDigest, KeyName, Kind, ModelGlob, Span, UnixSeconds};
use gate_types::{ModelName, Scope, ScopeSet};
use std::sync::atomic::{AtomicI64, Ordering};

/// The number of a stored key. Never given twice, so a name that is used again is still another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub i64);

impl KeyId {
    /// The key that `AUTH_TOKEN` gives. It is in no store; stored keys count from 1.
    pub const ENV: KeyId = KeyId(0);

    /// The number of a key of the settings: below zero, and the same for as long as its digest is.
    #[must_use]
    pub fn of_settings(digest: &KeyDigest) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
        KeyId(-1 - (i64::from_be_bytes([a, b, c, d, e, f, g, h]) & i64::MAX >> 1))
    }

    /// Whether a store has it.
    #[must_use]
    pub const fn is_stored(self) -> bool {
        self.0 > 0
    }
}

/// One secret and what it may do.
#[derive(Debug)]
pub struct Key {
    /// Its number in the store.
    pub id: KeyId,
    /// What people call it. Two keys share a name only where one has replaced the other or was revoked.
    pub name: KeyName,
    /// How it is shown to the gate.
    pub kind: Kind,
    /// What is kept of the secret, or the digest of the public key.
    pub digest: KeyDigest,
    /// What people are shown of it: the first characters of a secret, the fingerprint of a public key. Empty where the
    /// key comes from outside of the store.
    pub prefix: String,
    /// What it may do.
    pub scopes: ScopeSet,
    /// Which models it may use; an empty list means every model.
    pub models: Vec<ModelGlob>,
    /// When it was made.
    pub created: UnixSeconds,
    /// From when on it is refused, if ever.
    pub expires: Option<UnixSeconds>,
    /// When it was revoked.
    pub revoked: Option<UnixSeconds>,
    /// When a rotation put another secret under this name.
    pub replaced: Option<UnixSeconds>,
    used: LastUse,
}

/// What a key is good for at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It opens the gate.
    Active,
    /// Replaced by a rotation and still opening the gate until its overlap ends.
    Overlapping,
    /// Replaced by a rotation, and its overlap is over.
    Replaced,
    /// Its time is over.
    Expired,
    /// Somebody revoked it.
    Revoked,
}

impl State {
    /// The word for it in tables and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Active => "active",
            State::Overlapping => "overlapping",
            State::Replaced => "replaced",
            State::Expired => "expired",
            State::Revoked => "revoked",
        }
    }

    /// Whether a key in this state opens the gate.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        matches!(self, State::Active | State::Overlapping)
    }
}

impl Key {
    /// A key that was never used and is neither revoked nor replaced.
    #[must_use]
    pub fn new(id: KeyId, name: KeyName, mark: crate::Mark, scopes: ScopeSet, created: UnixSeconds) -> Self {
        Key {
            id,
            name,
            kind: mark.kind,
            digest: mark.digest,
            prefix: mark.prefix,
            scopes,
            models: Vec::new(),
            created,
            expires: None,
            revoked: None,
            replaced: None,
            used: LastUse::never(),
        }
    }

    /// What the key is good for at `now`. Revoked counts before expired.
    #[must_use]
    pub fn state(&self, now: UnixSeconds) -> State {
        let ended = self.expires.is_some_and(|end| now >= end);
        match (self.revoked, self.replaced) {
            (Some(_), _) => State::Revoked,
            (None, Some(_)) if ended => State::Replaced,
            (None, Some(_)) => State::Overlapping,
            (None, None) if ended => State::Expired,
            (None, None) => State::Active,
        }
    }

    /// Whether the key holds `scope`.
    #[must_use]
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(scope)
    }

    /// Whether the key may use `model`, as far as its patterns go.
    #[must_use]
    pub fn may_use(&self, model: &ModelName) -> bool {
        self.models.is_empty() || self.models.iter().any(|glob| glob.matches(model))
    }

    /// When the key was last used, as far as is known here.
    #[must_use]
    pub fn last_used(&self) -> Option<UnixSeconds> {
        self.used.last()
    }

    /// Takes over a last use that was stored.
    #[must_use]
    pub fn with_last_used(mut self, when: Option<UnixSeconds>) -> Self {
        self.used = LastUse::stored(when);
        self
    }

    /// Remembers that the key was used at `now`. Cheap: writes once a second at most, takes no lock, loses no later use.
    pub fn mark_used(&self, now: UnixSeconds) {
        self.used.mark(now);
    }

    /// The last use, where no store knows of it yet.
    pub(crate) fn unsaved_use(&self) -> Option<UnixSeconds> {
        self.used.unsaved()
    }

    /// A store knows of the use at `when`, and of none that was later.
    pub fn mark_saved(&self, when: UnixSeconds) {
        self.used.mark_saved(when);
    }

    /// The moment at which a secret ends that is replaced at `now`: after the overlap, but never later than it would have.
    #[must_use]
    pub fn end_after(&self, overlap: Span, now: UnixSeconds) -> UnixSeconds {
        let end = overlap.after(now);
        self.expires.map_or(end, |own| own.min(end))
    }
}

/// When a key was last used, and how much of that a store knows. Shared by all cores that see the key.
#[derive(Debug)]
struct LastUse {
    seen: AtomicI64,
    saved: AtomicI64,
}

const NEVER: i64 = i64::MIN;

impl LastUse {
    const fn never() -> Self {
        LastUse { seen: AtomicI64::new(NEVER), saved: AtomicI64::new(NEVER) }
    }

    fn stored(when: Option<UnixSeconds>) -> Self {
        let at = when.unwrap_or(NEVER);
        LastUse { seen: AtomicI64::new(at), saved: AtomicI64::new(at) }
    }

    fn last(&self) -> Option<UnixSeconds> {
        Some(self.seen.load(Ordering::Relaxed)).filter(|&at| at != NEVER)
    }

    fn mark(&self, now: UnixSeconds) {
        // Reading first keeps the cache line shared between cores for the rest of the second.
        if self.seen.load(Ordering::Relaxed) < now {
            self.seen.fetch_max(now, Ordering::Relaxed);
        }
    }

    fn unsaved(&self) -> Option<UnixSeconds> {
        let seen = self.seen.load(Ordering::Relaxed);
        (self.saved.load(Ordering::Relaxed) < seen).then_some(seen)
    }

    fn mark_saved(&self, when: UnixSeconds) {
        self.saved.fetch_max(when, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OsEntropy, mint};

    fn key() -> Key {
        let mark = mint(&mut OsEntropy).unwrap().mark;
        Key::new(KeyId(1), KeyName::first(), mark, ScopeSet::DEFAULT, 100)
    }

    #[test]
    fn states() {
        let with = |expires, revoked, replaced| Key { expires, revoked, replaced, ..key() };
        for (key, before, after) in [
            (with(None, None, None), State::Active, State::Active),
            (with(Some(200), None, None), State::Active, State::Expired),
            (with(Some(200), Some(150), None), State::Revoked, State::Revoked),
            (with(Some(200), None, Some(150)), State::Overlapping, State::Replaced),
            (with(Some(200), Some(160), Some(150)), State::Revoked, State::Revoked),
        ] {
            assert_eq!(key.state(199), before, "{key:?}");
            assert_eq!(key.state(200), after, "{key:?}");
        }
        for (state, word, opens) in [
            (State::Active, "active", true),
            (State::Overlapping, "overlapping", true),
            (State::Replaced, "replaced", false),
            (State::Expired, "expired", false),
            (State::Revoked, "revoked", false),
        ] {
            assert_eq!((state.as_str(), state.is_valid()), (word, opens));
        }
    }

    #[test]
    fn a_key_holds_its_scopes_alone() {
        assert!(key().has(Scope::Infer) && key().has(Scope::Read));
        assert!(!key().has(Scope::Manage) && !key().has(Scope::Cloud));
    }

    #[test]
    fn keys_from_outside_are_in_no_store() {
        assert!(KeyId(1).is_stored());
        assert!(!KeyId::ENV.is_stored());
        for digest in [[0; 32], [0x7f; 32], [0x80; 32], [0xff; 32]] {
            let settings = KeyId::of_settings(&KeyDigest::from_bytes(digest));
            assert!(!settings.is_stored() && settings != KeyId::ENV, "{settings:?}");
        }
    }

    #[test]
    fn models_are_all_or_those_that_a_pattern_means() {
        let qwen = ModelName::parse("qwen3:8b").unwrap();
        assert!(key().may_use(&qwen));
        let models = vec![ModelGlob::parse("llama*").unwrap(), ModelGlob::parse("qwen3:*").unwrap()];
        assert!(Key { models, ..key() }.may_use(&qwen));
        let models = vec![ModelGlob::parse("llama*").unwrap()];
        assert!(!Key { models, ..key() }.may_use(&qwen));
    }

    #[test]
    fn a_use_is_handed_over_until_it_is_saved() {
        assert_eq!((key().last_used(), key().unsaved_use()), (None, None), "a new key was never used");
        let key = key().with_last_used(Some(50));
        assert_eq!(key.unsaved_use(), None);
        key.mark_used(120);
        key.mark_used(110);
        assert_eq!(key.last_used(), Some(120));
        assert_eq!((key.unsaved_use(), key.unsaved_use()), (Some(120), Some(120)));
        key.mark_used(130);
        key.mark_saved(120);
        assert_eq!(key.unsaved_use(), Some(130), "the later one is not saved yet");
        key.mark_saved(130);
        assert_eq!(key.unsaved_use(), None);
    }

    #[test]
    fn an_overlap_never_prolongs_a_key() {
        let day = Span::parse("1d").unwrap();
        assert_eq!(key().end_after(day, 1_000), 87_400);
        assert_eq!(Key { expires: Some(2_000), ..key() }.end_after(day, 1_000), 2_000);
    }
}
