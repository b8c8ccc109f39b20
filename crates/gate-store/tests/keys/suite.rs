//! What every `KeyStore` promises, whatever it keeps keys in. An adapter's tests call each of these with a fresh store.

use gate_keys::{
    Act, Change, Key, KeyDigest, KeyId, KeyName, KeyStore, Kind, Mark, Minted, ModelGlob, NewKey, OsEntropy,
    Span, State, StoreError, Verdict, mint,
};
use gate_types::{Scope, ScopeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) fn name(text: &str) -> KeyName {
    KeyName::parse(text).unwrap()
}

/// A moment.
pub(crate) fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(second)
}

pub(crate) fn minted() -> Minted {
    mint(&mut OsEntropy).unwrap()
}

pub(crate) fn new(text: &str, minted: &Minted) -> NewKey {
    NewKey {
        name: name(text),
        mark: minted.mark.clone(),
        scopes: ScopeSet::DEFAULT,
        models: Vec::new(),
        expires: None,
    }
}

fn span(text: &str) -> Span {
    Span::parse(text).unwrap()
}

fn names(keys: &[Key]) -> Vec<&str> {
    keys.iter().map(|key| key.name.as_str()).collect()
}

pub(crate) fn a_key_comes_back_as_it_was_stored(mut store: impl KeyStore) {
    let minted = minted();
    let models = ["qwen3*", "llama3"].map(|text| ModelGlob::parse(text).unwrap()).to_vec();
    let scopes = ScopeSet::of(&[Scope::Manage, Scope::Read]);
    let key = NewKey { models: models.clone(), scopes, expires: Some(500), ..new("a", &minted) };
    let made = store.create(&key, 100).unwrap();
    let shown = store.show(&name("a")).unwrap();
    for key in [&made, &shown[0]] {
        assert_eq!(
            (key.name.as_str(), key.digest, &key.prefix),
            ("a", minted.mark.digest, &minted.mark.prefix)
        );
        assert_eq!((key.scopes, &key.models), (scopes, &models));
        assert_eq!((key.created, key.expires, key.revoked, key.replaced), (100, Some(500), None, None));
        assert_eq!((key.id, key.last_used()), (made.id, None));
    }
    let ring = store.load().unwrap();
    assert!(matches!(ring.check(minted.secret.expose(), 499), Verdict::Valid(_)));
    assert!(matches!(ring.check(minted.secret.expose(), 500), Verdict::Expired(_)));
}

pub(crate) fn a_name_is_taken_until_its_key_is_revoked(mut store: impl KeyStore) {
    let (one, two) = (minted(), minted());
    store.create(&NewKey { expires: Some(200), ..new("a", &one) }, 100).unwrap();
    // Taken while it is valid, and after it has expired too.
    for now in [150, 250] {
        assert!(matches!(store.create(&new("a", &two), now), Err(StoreError::NameTaken(_))));
    }
    assert_eq!(store.list().unwrap().len(), 1);
    store.revoke(&name("a"), 260).unwrap();
    let again = store.create(&new("a", &two), 270).unwrap();
    let shown = store.show(&name("a")).unwrap();
    assert_eq!(shown.iter().map(|key| key.state(300)).collect::<Vec<_>>(), [State::Active, State::Revoked]);
    assert!(again.id > shown[1].id, "a number is never given twice");
}

pub(crate) fn a_revoked_key_is_refused_and_remembered(mut store: impl KeyStore) {
    let minted = minted();
    store.create(&new("a", &minted), 100).unwrap();
    assert_eq!(names(&store.revoke(&name("a"), 110).unwrap()), ["a"]);
    assert!(matches!(store.load().unwrap().check(minted.secret.expose(), 111), Verdict::Revoked(_)));
    assert_eq!(store.show(&name("a")).unwrap()[0].revoked, Some(110));
    assert!(matches!(store.revoke(&name("a"), 120), Err(StoreError::AlreadyRevoked(_))));
    assert!(matches!(
        store.rotate(&name("a"), &minted.mark, span("0s"), 120),
        Err(StoreError::AlreadyRevoked(_))
    ));
}

pub(crate) fn an_unknown_name_is_said_to_be_unknown(mut store: impl KeyStore) {
    let mark = minted().mark;
    assert!(matches!(store.show(&name("a")), Err(StoreError::UnknownName(_))));
    assert!(matches!(store.revoke(&name("a"), 1), Err(StoreError::UnknownName(_))));
    assert!(matches!(store.rotate(&name("a"), &mark, span("1h"), 1), Err(StoreError::UnknownName(_))));
    assert!(store.list().unwrap().is_empty());
}

pub(crate) fn a_rotation_leaves_the_old_secret_its_overlap(mut store: impl KeyStore) {
    let (old, fresh) = (minted(), minted());
    let models = vec![ModelGlob::parse("qwen3*").unwrap()];
    store.create(&NewKey { models: models.clone(), expires: Some(90_000), ..new("a", &old) }, 100).unwrap();
    let rotated = store.rotate(&name("a"), &fresh.mark, span("1h"), 1_000).unwrap();
    assert_eq!(
        (rotated.key.created, rotated.key.expires, &rotated.key.models),
        (1_000, Some(90_000), &models)
    );
    assert_eq!((rotated.earlier.expires, rotated.earlier.replaced), (Some(4_600), Some(1_000)));
    let ring = store.load().unwrap();
    for (secret, now, valid) in
        [(&old, 4_599, true), (&old, 4_600, false), (&fresh, 4_600, true), (&fresh, 90_000, false)]
    {
        let verdict = ring.check(secret.secret.expose(), now);
        assert_eq!(matches!(verdict, Verdict::Valid(_)), valid, "{now} {verdict:?}");
    }
    // Still one name, held by the new secret.
    assert!(matches!(store.create(&new("a", &minted()), 5_000), Err(StoreError::NameTaken(_))));
}

pub(crate) fn a_rotation_without_overlap_ends_every_earlier_secret(mut store: impl KeyStore) {
    let secrets = [minted(), minted(), minted()];
    store.create(&new("a", &secrets[0]), 100).unwrap();
    store.rotate(&name("a"), &secrets[1].mark, span("1d"), 200).unwrap();
    store.rotate(&name("a"), &secrets[2].mark, span("0s"), 300).unwrap();
    let ring = store.load().unwrap();
    let valid =
        secrets.each_ref().map(|one| matches!(ring.check(one.secret.expose(), 300), Verdict::Valid(_)));
    assert_eq!(valid, [false, false, true]);
}

pub(crate) fn an_overlap_never_outlives_the_key(mut store: impl KeyStore) {
    store.create(&NewKey { expires: Some(500), ..new("a", &minted()) }, 100).unwrap();
    let rotated = store.rotate(&name("a"), &minted().mark, span("1d"), 200).unwrap();
    assert_eq!(rotated.earlier.expires, Some(500));
    assert!(matches!(store.rotate(&name("a"), &minted().mark, span("1d"), 500), Err(StoreError::Expired(_))));
}

pub(crate) fn a_revocation_takes_the_overlapping_secrets_along(mut store: impl KeyStore) {
    let (old, fresh) = (minted(), minted());
    store.create(&new("a", &old), 100).unwrap();
    store.rotate(&name("a"), &fresh.mark, span("1d"), 200).unwrap();
    let revoked = store.revoke(&name("a"), 300).unwrap();
    assert_eq!(
        revoked.iter().map(|key| key.digest).collect::<Vec<_>>(),
        [fresh.mark.digest, old.mark.digest]
    );
    let ring = store.load().unwrap();
    for secret in [&old, &fresh] {
        assert!(matches!(ring.check(secret.secret.expose(), 300), Verdict::Revoked(_)));
    }
}

pub(crate) fn the_latest_use_is_kept(mut store: impl KeyStore) {
    let (one, two) = (minted(), minted());
    let id = store.create(&new("a", &one), 100).unwrap().id;
    let other = store.create(&new("b", &two), 100).unwrap().id;
    store.touch(&[]).unwrap();
    store.touch(&[(id, 150), (other, 160), (KeyId::ENV, 170), (KeyId(9_999), 170)]).unwrap();
    store.touch(&[(id, 140)]).unwrap();
    let uses: Vec<_> = store.list().unwrap().iter().map(Key::last_used).collect();
    assert_eq!(uses, [Some(150), Some(160)]);
    // What is loaded counts as known: nothing is handed over again.
    let ring = store.load().unwrap();
    assert!(ring.unsaved_uses().is_empty());
}

pub(crate) fn keys_are_listed_by_name_the_newest_first(mut store: impl KeyStore) {
    for text in ["b", "a", "c"] {
        store.create(&new(text, &minted()), 100).unwrap();
    }
    store.rotate(&name("a"), &minted().mark, span("1d"), 200).unwrap();
    let keys = store.list().unwrap();
    assert_eq!(names(&keys), ["a", "a", "b", "c"]);
    assert_eq!(keys[0].state(250), State::Active);
    assert_eq!(keys[1].state(250), State::Overlapping);
}

pub(crate) fn names_are_taken_literally(mut store: impl KeyStore) {
    store.create(&new("a", &minted()), 100).unwrap();
    store.create(&new("A", &minted()), 100).unwrap();
    assert!(matches!(store.show(&name("_")), Err(StoreError::UnknownName(_))));
    store.revoke(&name("A"), 200).unwrap();
    assert_eq!(store.show(&name("a")).unwrap()[0].state(300), State::Active);
}

fn globs(texts: &[&str]) -> Vec<ModelGlob> {
    texts.iter().map(|text| ModelGlob::parse(text).unwrap()).collect()
}

pub(crate) fn a_change_is_of_what_was_named_alone(mut store: impl KeyStore) {
    let models = globs(&["qwen3:*"]);
    let made = store
        .create(&NewKey { models: models.clone(), expires: Some(500), ..new("a", &minted()) }, 100)
        .unwrap();
    let scopes = ScopeSet::of(&[Scope::Read]);
    let set = |store: &mut dyn KeyStore, change| store.set(&name("a"), &change, 200).unwrap();
    let key = set(&mut store, Change { scopes: Some(scopes), ..Change::default() });
    assert_eq!((key.id, key.scopes, &key.models, key.expires), (made.id, scopes, &models, Some(500)));
    let key = set(&mut store, Change { models: Some(globs(&["a", "b"])), ..Change::default() });
    assert_eq!((key.scopes, &key.models, key.expires), (scopes, &globs(&["a", "b"]), Some(500)));
    set(&mut store, Change { expires: Some(None), ..Change::default() });
    set(&mut store, Change { models: Some(Vec::new()), ..Change::default() });
    let key = store.show(&name("a")).unwrap().remove(0);
    assert_eq!((key.scopes, key.models.len(), key.expires), (scopes, 0, None));
    assert!(matches!(store.set(&name("b"), &Change::default(), 200), Err(StoreError::UnknownName(_))));
}

pub(crate) fn a_change_reaches_the_overlapping_secrets_too(mut store: impl KeyStore) {
    let (old, now) = (minted(), minted());
    store.create(&new("a", &old), 100).unwrap();
    store.rotate(&name("a"), &now.mark, span("1d"), 200).unwrap();
    let scopes = ScopeSet::of(&[Scope::Read]);
    let change = Change { scopes: Some(scopes), expires: Some(Some(300)), ..Change::default() };
    store.set(&name("a"), &change, 250).unwrap();
    let ring = store.load().unwrap();
    for secret in [&old, &now] {
        let Verdict::Valid(key) = ring.check(secret.secret.expose(), 299) else { panic!("refused") };
        assert_eq!(key.scopes, scopes);
        assert!(matches!(ring.check(secret.secret.expose(), 300), Verdict::Expired(_)));
    }
}

pub(crate) fn an_expired_key_can_be_given_time_and_a_revoked_one_not(mut store: impl KeyStore) {
    let minted = minted();
    store.create(&NewKey { expires: Some(200), ..new("a", &minted) }, 100).unwrap();
    let later = Change { expires: Some(Some(900)), ..Change::default() };
    store.set(&name("a"), &later, 300).unwrap();
    assert!(matches!(store.load().unwrap().check(minted.secret.expose(), 300), Verdict::Valid(_)));
    store.revoke(&name("a"), 400).unwrap();
    assert!(matches!(store.set(&name("a"), &later, 500), Err(StoreError::AlreadyRevoked(_))));
}

fn public_key(text: &str) -> Mark {
    let digest = KeyDigest::of(text);
    Mark { kind: Kind::Ssh, digest, prefix: digest.fingerprint() }
}

pub(crate) fn a_public_key_is_stored_once(mut store: impl KeyStore) {
    let with = |text: &str, mark| NewKey { mark, ..new(text, &minted()) };
    let key = store.create(&with("a", public_key("one")), 100).unwrap();
    assert_eq!((key.kind, &key.prefix), (Kind::Ssh, &KeyDigest::of("one").fingerprint()));
    assert_eq!(store.show(&name("a")).unwrap()[0].kind, Kind::Ssh);
    let again = store.create(&with("b", public_key("one")), 200).unwrap_err();
    assert!(matches!(&again, StoreError::Enrolled { name: known, is_revoked: false } if *known == name("a")));
    store.rotate(&name("a"), &public_key("two"), span("0s"), 250).unwrap();
    store.revoke(&name("a"), 300).unwrap();
    let again = store.create(&with("b", public_key("two")), 400).unwrap_err();
    assert!(matches!(again, StoreError::Enrolled { is_revoked: true, .. }), "{again}");
}

pub(crate) fn a_secret_and_a_public_key_do_not_replace_each_other(mut store: impl KeyStore) {
    store.create(&new("a", &minted()), 100).unwrap();
    store.create(&NewKey { mark: public_key("one"), ..new("b", &minted()) }, 100).unwrap();
    let (secret, public) = (minted().mark, public_key("two"));
    let refused = store.rotate(&name("a"), &public, span("0s"), 200).unwrap_err();
    assert!(matches!(refused, StoreError::OtherKind { kind: Kind::Secret, .. }), "{refused}");
    let refused = store.rotate(&name("b"), &secret, span("0s"), 200).unwrap_err();
    assert!(matches!(refused, StoreError::OtherKind { kind: Kind::Ssh, .. }), "{refused}");
    assert!(store.list().unwrap().iter().all(|key| key.state(200) == State::Active));
}

pub(crate) fn every_change_leaves_its_line(mut store: impl KeyStore) {
    let minted_one = minted();
    store.create(&NewKey { models: globs(&["qwen3:*"]), ..new("a", &minted_one) }, 100).unwrap();
    store.set(&name("a"), &Change { expires: Some(Some(900)), ..Change::default() }, 200).unwrap();
    let rotated = store.rotate(&name("a"), &minted().mark, span("1h"), 300).unwrap();
    assert!(store.create(&new("a", &minted()), 350).is_err(), "no change, no line");
    store.revoke(&name("a"), 400).unwrap();
    let lines = store.log(0).unwrap();
    let acts: Vec<_> = lines.iter().map(|line| (line.act, line.at, line.expires)).collect();
    let wanted = [
        (Act::Create, 100, None),
        (Act::Set, 200, Some(900)),
        (Act::Rotate, 300, Some(900)),
        (Act::Revoke, 400, Some(900)),
    ];
    assert_eq!(acts, wanted);
    assert!(
        lines.iter().all(|line| line.name == name("a") && line.models == "qwen3:*" && !line.who.is_empty())
    );
    assert_eq!((lines[2].key, lines[3].key), (rotated.key.id, rotated.key.id));
    assert_eq!(store.log(lines[1].id).unwrap(), lines[2..]);
    let digest = format!("{:?}", minted_one.mark.digest);
    let shown = format!("{lines:?}");
    assert!(!shown.contains(&minted_one.secret.expose()[6..12]) && !shown.contains(&digest), "{shown}");
}
