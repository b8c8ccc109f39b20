//! What may happen to a database under a running gate: it is noticed, nothing is written to what is not ours, and what
//! comes back is taken up again.

use crate::suite::{at, minted, name, new};
use gate_keys::{Act, KeyStore, OsEntropy, SettingsKey, StoreError, Verdict, digest_text, mint};
use gate_store::{DATABASE_FILE, DataDir, SqliteStore};
use gate_types::{Scope, ScopeSet};
use rusqlite::Connection;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

struct Place {
    root: TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        Place { path: root.path().join("data"), root }
    }

    fn store(&self) -> SqliteStore {
        SqliteStore::open(&DataDir::open(&self.path).unwrap()).unwrap()
    }

    /// A store as a gate watches it, with one key in it.
    fn watched(&self) -> SqliteStore {
        let mut store = self.store().with_patience(Duration::from_millis(50));
        store.create(&new("known", &minted()), 100).unwrap();
        store.settle().unwrap();
        store.load().unwrap();
        assert!(!store.look().unwrap());
        store.touch_store(at(150)).unwrap();
        store
    }

    fn file(&self, suffix: &str) -> PathBuf {
        self.path.join(format!("{DATABASE_FILE}{suffix}"))
    }

    fn aside(&self) -> PathBuf {
        self.root.path().join("aside")
    }
}

#[track_caller]
fn trouble(store: &mut SqliteStore, words: &str) {
    for _ in 0..2 {
        let error = store.look().unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.hint().is_some(), "{error}");
    }
}

#[track_caller]
fn well_again(store: &mut SqliteStore) {
    store.look().unwrap();
    store.touch_store(at(200)).unwrap();
    let ring = store.load().unwrap();
    assert!(ring.iter().any(|key| key.name == name("known")));
    assert!(!store.look().unwrap());
}

#[test]
fn a_database_that_was_moved_away_and_comes_back() {
    let place = Place::new();
    let mut store = place.watched();
    fs::rename(place.file(""), place.aside()).unwrap();
    trouble(&mut store, "is gone");
    fs::rename(place.aside(), place.file("")).unwrap();
    well_again(&mut store);
}

#[test]
fn a_removed_database_comes_back_as_a_copy() {
    for suffixes in [&["", "-wal", "-shm"][..], &[""], &["", "-wal"]] {
        let place = Place::new();
        let mut store = place.watched();
        fs::copy(place.file(""), place.aside()).unwrap();
        for suffix in suffixes {
            fs::remove_file(place.file(suffix)).unwrap();
        }
        trouble(&mut store, "is gone");
        fs::copy(place.aside(), place.file("")).unwrap();
        well_again(&mut store);
    }
}

#[test]
fn a_log_that_was_removed_is_noticed_and_what_was_settled_is_there() {
    let place = Place::new();
    let mut store = place.watched();
    fs::remove_file(place.file("-wal")).unwrap();
    well_again(&mut store);
    // What another process writes now is seen, though it could not use the removed log.
    place.store().create(&new("later", &minted()), 300).unwrap();
    assert!(store.look().unwrap());
    assert_eq!(store.list().unwrap().len(), 2);
}

#[test]
fn a_removed_directory_comes_back() {
    let place = Place::new();
    let mut store = place.watched();
    fs::rename(&place.path, place.aside()).unwrap();
    trouble(&mut store, "is gone");
    fs::rename(place.aside(), &place.path).unwrap();
    well_again(&mut store);
}

/// Puts `bytes` in the place of the database: in the same file, or in another with its name.
fn replace(place: &Place, bytes: &[u8], in_place: bool) {
    if in_place {
        fs::write(place.file(""), bytes).unwrap();
    } else {
        let fresh = place.root.path().join("fresh");
        fs::write(&fresh, bytes).unwrap();
        fs::rename(fresh, place.file("")).unwrap();
    }
}

#[test]
fn garbage_is_noticed_left_alone_and_forgotten_when_the_database_is_back() {
    for in_place in [false, true] {
        let place = Place::new();
        let mut store = place.watched();
        let whole = fs::read(place.file("")).unwrap();
        let mut bent = whole.clone();
        bent[4096..].fill(0x5a);
        for (bytes, words) in [
            (Vec::new(), "cut off after 0 bytes"),
            (vec![b'x'; 20_000], "not a database of herdgate"),
            (bent, "damaged"),
            (whole[..whole.len() - 4096].to_vec(), "damaged"),
        ] {
            replace(&place, &bytes, in_place);
            let error = store.look().unwrap_err();
            let text = error.to_string();
            assert!(text.contains(words) || text.contains("malformed"), "{in_place}: {text}");
            assert!(store.look().is_err());
            assert!(store.list().is_err() || in_place, "asked of what is not there");
            assert!(fs::read(place.file("")).unwrap() == bytes, "the garbage was written to");
            replace(&place, &whole, in_place);
            well_again(&mut store);
        }
    }
}

#[test]
fn pages_that_were_garbage_are_not_remembered() {
    let place = Place::new();
    let mut store = place.watched();
    store.settle().unwrap();
    let whole = fs::read(place.file("")).unwrap();
    // What another connection writes makes SQLite forget the pages that it has read.
    let mut other = place.store();
    other.create(&new("late", &minted()), 300).unwrap();
    assert!(store.look().unwrap());
    fs::write(place.file(""), vec![b'x'; whole.len()]).unwrap();
    // Between two looks, so that SQLite meets it first.
    let error = store.touch_store(at(300)).unwrap_err();
    store.met(&error);
    fs::write(place.file(""), whole).unwrap();
    well_again(&mut store);
}

#[test]
fn garbage_is_not_written_to_when_the_store_is_closed() {
    let place = Place::new();
    let mut store = place.watched();
    store.create(&new("in-the-log", &minted()), 300).unwrap();
    let garbage = vec![b'x'; 20_000];
    fs::write(place.file(""), &garbage).unwrap();
    assert!(store.look().is_err());
    drop(store);
    assert!(fs::read(place.file("")).unwrap() == garbage);
}

#[test]
fn another_store_is_not_taken_for_this_one() {
    for in_place in [false, true] {
        let (place, other) = (Place::new(), Place::new());
        let mut store = place.watched();
        let whole = fs::read(place.file("")).unwrap();
        drop(other.watched());
        replace(&place, &fs::read(other.file("")).unwrap(), in_place);
        trouble(&mut store, "another database");
        replace(&place, &whole, in_place);
        well_again(&mut store);
    }
}

#[test]
fn a_log_is_not_moved_into_another_store() {
    let (place, other) = (Place::new(), Place::new());
    let mut store = place.watched();
    drop(other.watched());
    let foreign = fs::read(other.file("")).unwrap();
    replace(&place, &foreign, false);
    assert!(
        fs::metadata(place.file("-wal")).unwrap().len() > 0,
        "with which store this is, among other things"
    );
    for _ in 0..2 {
        let error = SqliteStore::open(&DataDir::open(&place.path).unwrap()).unwrap_err();
        assert!(error.to_string().contains("the log of another database"), "{error}");
        assert!(error.hint().unwrap().contains("-wal"));
        assert!(fs::read(place.file("")).unwrap() == foreign, "something was written to it");
        trouble(&mut store, "another database");
    }
    drop(store);
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(place.file(suffix)).unwrap();
    }
    drop(place.store());
}

#[test]
fn a_writer_that_does_not_end_is_trouble_and_keys_stay_readable() {
    let place = Place::new();
    let mut store = place.watched();
    let other = Connection::open(place.file("")).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert!(!store.look().unwrap());
    let error = store.touch_store(at(200)).unwrap_err();
    assert!(error.to_string().contains("locked"), "{error}");
    assert_eq!(store.list().unwrap().len(), 1);
    other.execute_batch("COMMIT").unwrap();
    well_again(&mut store);
}

#[test]
fn a_read_only_file_or_directory_is_trouble() {
    let place = Place::new();
    let mut store = place.watched();
    for (path, closed, open) in [(place.file(""), 0o400, 0o600), (place.path.clone(), 0o500, 0o700)] {
        fs::set_permissions(&path, Permissions::from_mode(closed)).unwrap();
        trouble(&mut store, "read-only");
        fs::set_permissions(&path, Permissions::from_mode(open)).unwrap();
        well_again(&mut store);
    }
}

#[test]
fn the_log_does_not_grow_and_the_file_is_whole() {
    let place = Place::new();
    let mut store = place.watched();
    let log = || fs::metadata(place.file("-wal")).unwrap().len();
    let most = 512 * (4096 + 24) + 32;
    for second in 0..1100 {
        store.look().unwrap();
        store.touch_store(at(second)).unwrap();
        assert!(log() <= most, "{second}: {}", log());
    }
    store.settle().unwrap();
    assert_eq!(log(), 0);
}

#[test]
fn every_touch_is_a_write_however_soon_after_another() {
    let place = Place::new();
    let mut store = place.watched();
    let log = || fs::metadata(place.file("-wal")).unwrap().len();
    for micros in 0..5 {
        let before = log();
        store.touch_store(at(200) + Duration::from_micros(micros)).unwrap();
        assert!(log() > before, "nothing was written");
    }
}

#[test]
fn a_change_in_the_very_tick_of_the_last_look_is_noticed() {
    let place = Place::new();
    let mut store = place.watched();
    let whole = fs::read(place.file("")).unwrap();
    let mut garbage = whole.clone();
    garbage[4096..].fill(0x5a);
    for _ in 0..20 {
        store.settle().unwrap();
        // As long as before, and perhaps with the same time of change.
        fs::write(place.file(""), &garbage).unwrap();
        assert!(store.look().is_err());
        fs::write(place.file(""), &whole).unwrap();
        well_again(&mut store);
    }
}

/// The tables of the first schema, as they were, with one key.
fn of_the_first_schema(path: &Path) {
    let old = Connection::open(path).unwrap();
    old.execute_batch(
        "PRAGMA application_id = 0x68646774;
         PRAGMA journal_mode = wal;
         CREATE TABLE keys (
            id        INTEGER PRIMARY KEY AUTOINCREMENT,
            name      TEXT    NOT NULL,
            digest    BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
            prefix    TEXT    NOT NULL,
            scopes    TEXT    NOT NULL,
            models    TEXT    NOT NULL,
            created   INTEGER NOT NULL,
            expires   INTEGER,
            revoked   INTEGER,
            replaced  INTEGER,
            last_used INTEGER
         ) STRICT;
         CREATE UNIQUE INDEX keys_live_name ON keys (name) WHERE revoked IS NULL AND replaced IS NULL;
         CREATE INDEX keys_name ON keys (name, id);
         PRAGMA user_version = 1;",
    )
    .unwrap();
    let key = mint(&mut OsEntropy).unwrap();
    old.execute(
        "INSERT INTO keys (name, digest, prefix, scopes, models, created) VALUES ('known', ?1, ?2, 'infer', 'a,b', 7)",
        (key.mark.digest.as_bytes(), &key.mark.prefix),
    )
    .unwrap();
    old.execute(
        "INSERT INTO keys (name, digest, prefix, scopes, models, created, revoked) VALUES ('gone', ?1, 'p', 'read', '', 7, 8)",
        [[9_u8; 32]],
    )
    .unwrap();
}

#[test]
fn a_database_of_the_first_schema_is_brought_up_to_date_with_its_keys() {
    let place = Place::new();
    drop(DataDir::open(&place.path).unwrap());
    of_the_first_schema(&place.file(""));
    let mut store = place.store();
    let keys = store.list().unwrap();
    let told: Vec<_> = keys.iter().map(|key| (key.name.as_str(), key.kind.as_str(), key.revoked)).collect();
    assert_eq!(told, [("gone", "secret", Some(8)), ("known", "secret", None)]);
    assert_eq!((keys[1].scopes, keys[1].models.len()), (ScopeSet::of(&[Scope::Infer]), 2));
    let id = store.id();
    // It is watched like any other, before and after its new tables are in the file.
    store.load().unwrap();
    store.look().unwrap();
    store.settle().unwrap();
    well_again(&mut store);
    drop(store);
    assert_eq!(place.store().id(), id);
    let other = Place::new();
    drop(DataDir::open(&other.path).unwrap());
    of_the_first_schema(&other.file(""));
    assert_ne!(other.store().id(), id);
}

#[test]
fn a_migration_that_cannot_be_done_changes_nothing() {
    let place = Place::new();
    drop(DataDir::open(&place.path).unwrap());
    of_the_first_schema(&place.file(""));
    let other = Connection::open(place.file("")).unwrap();
    other.execute_batch("CREATE TABLE audit (x INTEGER)").unwrap();
    let refused = SqliteStore::open(&DataDir::open(&place.path).unwrap()).unwrap_err();
    assert!(matches!(refused, StoreError::Storage { .. }), "{refused}");
    let version: i64 = other.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    let has_kind = other.prepare("SELECT kind FROM keys").is_ok();
    assert_eq!((version, has_kind), (1, false));
}

#[test]
fn changes_are_logged_with_who_made_them() {
    let place = Place::new();
    let mut store = place.store().by("alice\u{1b}[1m");
    store.create(&new("a", &minted()), 100).unwrap();
    assert_eq!(store.log(0).unwrap()[0].who, "alice[1m");
    let mut gate = place.store();
    assert!(gate.create_first(&minted().mark, 200, || Ok(())).unwrap().is_none());
    assert_eq!(gate.log(0).unwrap().len(), 1);
}

#[test]
fn keys_of_the_settings_are_logged_when_they_are_other_than_before() {
    let place = Place::new();
    let mut store = place.store();
    let key = |text: &str, minted: &gate_keys::Minted, scopes: &[Scope]| {
        SettingsKey::new(name(text), &digest_text(&minted.mark), ScopeSet::of(scopes), Vec::new()).unwrap()
    };
    let (one, two) = (minted(), minted());
    let mut note = |keys: &[SettingsKey], at| store.note_settings(keys, at).unwrap();
    note(&[key("ci", &one, &[Scope::Read]), key("bot", &two, &[Scope::Infer])], 100);
    note(&[key("ci", &one, &[Scope::Read]), key("bot", &two, &[Scope::Infer])], 200);
    note(&[key("ci", &one, &[Scope::Manage])], 300);
    note(&[], 400);
    note(&[], 500);
    note(&[key("ci", &one, &[Scope::Manage])], 600);
    let lines = store.log(0).unwrap();
    let told: Vec<_> = lines.iter().map(|line| (line.at, line.act, line.name.as_str())).collect();
    let wanted = [
        (100, Act::SettingsAdd, "ci"),
        (100, Act::SettingsAdd, "bot"),
        (300, Act::SettingsSet, "ci"),
        (300, Act::SettingsRemove, "bot"),
        (400, Act::SettingsRemove, "ci"),
        (600, Act::SettingsAdd, "ci"),
    ];
    assert_eq!(told, wanted);
    assert!(lines.iter().all(|line| line.who == "settings"));
    assert!(matches!(store.load().unwrap().check(one.secret.expose(), 1), Verdict::Unknown));
}
