//! Keys in a real SQLite file: the promises of every store, and those of a file that others may write, damage or replace.

use crate::suite;
use crate::suite::{minted, name, new};
use gate_keys::{KeyStore, StoreError, Verdict};
use gate_store::{DATABASE_FILE, DataDir, SqliteStore};
use rusqlite::Connection;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

struct Place {
    _root: TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        Place { path: root.path().join("data"), _root: root }
    }

    fn dir(&self) -> DataDir {
        DataDir::open(&self.path).unwrap()
    }

    fn store(&self) -> SqliteStore {
        SqliteStore::open(&self.dir()).unwrap()
    }

    fn file(&self) -> PathBuf {
        self.path.join(DATABASE_FILE)
    }

    /// What opening the database reports, after making sure that the file did not change.
    fn refusal(&self) -> StoreError {
        let before = fs::read(self.file()).unwrap();
        let refusal = SqliteStore::open(&self.dir()).expect_err("the database was taken");
        assert!(fs::read(self.file()).unwrap() == before, "the file was changed");
        refusal
    }
}

/// One test per promise, each with a store of its own.
macro_rules! promises {
    ($($promise:ident),+ $(,)?) => {$(
        #[test]
        fn $promise() {
            let place = Place::new();
            suite::$promise(place.store());
        }
    )+};
}

promises! {
    a_key_comes_back_as_it_was_stored,
    a_name_is_taken_until_its_key_is_revoked,
    a_revoked_key_is_refused_and_remembered,
    an_unknown_name_is_said_to_be_unknown,
    a_rotation_leaves_the_old_secret_its_overlap,
    a_rotation_without_overlap_ends_every_earlier_secret,
    an_overlap_never_outlives_the_key,
    a_revocation_takes_the_overlapping_secrets_along,
    the_latest_use_is_kept,
    a_change_is_of_what_was_named_alone,
    a_change_reaches_the_overlapping_secrets_too,
    an_expired_key_can_be_given_time_and_a_revoked_one_not,
    a_public_key_is_stored_once,
    a_secret_and_a_public_key_do_not_replace_each_other,
    every_change_leaves_its_line,
    keys_are_listed_by_name_the_newest_first,
    names_are_taken_literally,
}

#[test]
fn keys_outlive_the_process_and_no_secret_is_on_disk() {
    let place = Place::new();
    let minted = minted();
    let mut store = place.store();
    store.create(&new("a", &minted), 100).unwrap();
    for entry in fs::read_dir(&place.path).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        let secret = &minted.secret.expose().as_bytes()[10..];
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
    drop(store);
    assert!(matches!(place.store().load().unwrap().check(minted.secret.expose(), 101), Verdict::Valid(_)));
}

#[test]
fn another_process_s_change_is_noticed_once_and_one_s_own_never() {
    let place = Place::new();
    let (mut gate, mut cli) = (place.store(), place.store());
    assert!(gate.look().unwrap(), "nothing was loaded yet");
    gate.load().unwrap();
    assert!(!gate.look().unwrap());
    let id = cli.create(&new("a", &minted()), 100).unwrap().id;
    assert!(gate.look().unwrap());
    gate.load().unwrap();
    assert!(!gate.look().unwrap());
    gate.touch(&[(id, 150)]).unwrap();
    assert!(!gate.look().unwrap());
    cli.revoke(&name("a"), 200).unwrap();
    assert!(gate.look().unwrap());
    assert!(matches!(gate.show(&name("a")).unwrap().as_slice(), [key] if key.revoked == Some(200)));
}

#[test]
fn a_change_that_could_not_be_loaded_is_not_forgotten() {
    let place = filled();
    let mut gate = place.store();
    gate.load().unwrap();
    let other = Connection::open(place.file()).unwrap();
    other.execute("UPDATE keys SET revoked = 150, scopes = 'rule' WHERE name = 'k7'", []).unwrap();
    for _ in 0..2 {
        assert!(gate.look().unwrap());
        assert!(gate.load().is_err());
    }
    other.execute("UPDATE keys SET scopes = 'infer' WHERE name = 'k7'", []).unwrap();
    assert!(gate.look().unwrap());
    assert!(gate.load().unwrap().iter().any(|key| key.revoked == Some(150)));
    assert!(!gate.look().unwrap());
}

#[test]
fn a_first_key_is_made_once_and_only_if_it_could_be_handed_over() {
    let place = Place::new();
    let mut store = place.store();
    let mark = minted().mark;
    let failing = || Err(StoreError::UnknownName(name("canary")));
    assert!(store.create_first(&mark, 100, failing).is_err());
    assert!(store.list().unwrap().is_empty());
    assert_eq!(store.create_first(&mark, 100, || Ok(())).unwrap().unwrap().name.as_str(), "first");
    store.revoke(&name("first"), 150).unwrap();
    let not_asked = || panic!("there were keys already");
    assert!(store.create_first(&minted().mark, 200, not_asked).unwrap().is_none());
}

#[test]
fn many_first_starts_at_once_make_one_key() {
    let place = Place::new();
    let made: Vec<bool> = std::thread::scope(|scope| {
        let start = || place.store().create_first(&minted().mark, 100, || Ok(())).unwrap().is_some();
        let running: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(made.iter().filter(|made| **made).count(), 1);
    assert_eq!(place.store().list().unwrap().len(), 1);
    let left: Vec<_> = fs::read_dir(&place.path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [DATABASE_FILE], "something was left behind");
}

#[test]
fn two_writers_at_once_lose_nothing() {
    let place = Place::new();
    place.store();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let place = &place;
            scope.spawn(move || {
                let mut store = place.store();
                for number in 0..20 {
                    store.create(&new(&format!("k{writer}-{number}"), &minted()), 100).unwrap();
                }
            });
        }
    });
    assert_eq!(place.store().list().unwrap().len(), 80);
}

fn filled() -> Place {
    let place = Place::new();
    let mut store = place.store();
    for number in 0..200 {
        store.create(&new(&format!("k{number}"), &minted()), 100).unwrap();
    }
    place
}

fn assert_names(refusal: &StoreError, path: &Path, words: &str) {
    let text = refusal.to_string();
    assert!(text.starts_with(&path.display().to_string()), "{text}");
    assert!(text.contains(words), "{text}");
    assert!(refusal.hint().is_some(), "no hint: {text}");
}

#[test]
fn a_file_that_is_no_database_is_refused_untouched() {
    for (bytes, words) in [
        (&b""[..], "cut off after 0 bytes"),
        (&b"SQLite format 3\0"[..], "cut off after 16 bytes"),
        (&[b'x'; 5_000][..], "is not a database of herdgate"),
        (&[0_u8; 5_000][..], "is not a database of herdgate"),
    ] {
        let place = Place::new();
        place.dir();
        fs::write(place.file(), bytes).unwrap();
        assert_names(&place.refusal(), &place.file(), words);
    }
}

#[test]
fn the_database_of_another_program_is_refused_untouched() {
    let place = Place::new();
    place.dir();
    let foreign = Connection::open(place.file()).unwrap();
    foreign.execute_batch("CREATE TABLE keys (a); INSERT INTO keys VALUES (1)").unwrap();
    foreign.close().unwrap();
    assert_names(&place.refusal(), &place.file(), "another program");
}

#[test]
fn a_database_of_a_newer_herdgate_is_refused_untouched() {
    let place = filled();
    let newer = Connection::open(place.file()).unwrap();
    newer.execute_batch("PRAGMA user_version = 99").unwrap();
    newer.close().unwrap();
    assert_names(&place.refusal(), &place.file(), "a newer herdgate (version 99");
}

#[test]
fn a_newer_version_that_is_still_in_the_log_is_seen_too() {
    let place = filled();
    let newer = Connection::open(place.file()).unwrap();
    newer.execute_batch("PRAGMA user_version = 99").unwrap();
    assert_names(&place.refusal(), &place.file(), "version 99");
    drop(newer);
}

#[test]
fn a_damaged_database_is_refused_untouched() {
    let whole = fs::read(filled().file()).unwrap();
    let page = 4_096;
    assert!(whole.len() > 5 * page, "{}", whole.len());
    let cut = whole[..whole.len() - page].to_vec();
    let half = whole[..whole.len() / 2 + 100].to_vec();
    let mut garbled = whole.clone();
    for (place, byte) in garbled.iter_mut().enumerate().skip(page) {
        *byte = (place * 7) as u8;
    }
    for bytes in [cut, half, garbled] {
        let place = Place::new();
        place.dir();
        fs::write(place.file(), &bytes).unwrap();
        let refusal = place.refusal();
        assert!(refusal.to_string().contains(&place.file().display().to_string()), "{refusal}");
        assert!(refusal.hint().is_some_and(|hint| hint.contains("left as it is")), "{refusal:?}");
    }
}

#[test]
fn a_row_that_cannot_be_understood_is_an_error_and_not_left_out() {
    let place = filled();
    let other = Connection::open(place.file()).unwrap();
    other.execute("UPDATE keys SET scopes = 'infer,rule' WHERE name = 'k7'", []).unwrap();
    let problem = place.store().load().unwrap_err().to_string();
    assert!(problem.contains("rule"), "{problem}");
}

#[test]
fn a_link_or_a_directory_in_its_place_is_refused() {
    let place = Place::new();
    place.dir();
    let elsewhere = filled();
    std::os::unix::fs::symlink(elsewhere.file(), place.file()).unwrap();
    assert_names(&place.refusal(), &place.file(), "is a link");
    fs::remove_file(place.file()).unwrap();
    fs::create_dir(place.file()).unwrap();
    let refusal = SqliteStore::open(&place.dir()).unwrap_err();
    assert_names(&refusal, &place.file(), "not a regular file");
}

#[test]
fn a_database_that_another_writer_holds_is_busy_and_not_lost() {
    let place = filled();
    let mut store = place.store();
    let other = Connection::open(place.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Readers go on while somebody writes: that is what the log is for.
    assert_eq!(store.load().unwrap().iter().count(), 200);
    assert!(!store.look().unwrap());
    other.execute_batch("ROLLBACK").unwrap();
    store.create(&new("after", &minted()), 100).unwrap();
}
