//! What a data directory is for more than one process: locked by one gate at a time, copied while it is written to, and
//! opened folder by folder for whoever takes a backup of it.

#![expect(clippy::unwrap_used, reason = "a test may")]

use gate_keys::{KeyName, KeyStore as _, NewKey, OsEntropy, mint};
use gate_store::{DATABASE_FILE, DataDir, DatabaseCopy, SqliteStore, examine_copy, is_in_use};
use gate_types::ScopeSet;
use std::fs;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

fn key(name: &str) -> NewKey {
    NewKey {
        name: KeyName::parse(name).unwrap(),
        mark: mint(&mut OsEntropy).unwrap().mark,
        scopes: ScopeSet::DEFAULT,
        models: Vec::new(),
        expires: None,
    }
}

fn place() -> (TempDir, DataDir) {
    let root = TempDir::new().unwrap();
    let dir = DataDir::open(&root.path().join("data")).unwrap();
    (root, dir)
}

#[test]
fn a_directory_has_one_gate_and_is_handed_over_without_a_gap() {
    let (_root, dir) = place();
    assert_eq!(is_in_use(dir.path()), None);
    let first = dir.lock().unwrap().unwrap();
    let own = std::process::id();
    assert_eq!(is_in_use(dir.path()), Some(Some(own)));
    let refusal = dir.lock().unwrap_err();
    assert!(
        refusal.to_string().contains(&format!("in use by a gate that runs (process {own})")),
        "{refusal}"
    );
    assert!(refusal.hint().is_some());

    let handed = first.as_fd().try_clone_to_owned().unwrap();
    let second = dir.lock_handed_over(handed).unwrap();
    drop(first);
    assert!(dir.lock().is_err(), "free while it is handed over");
    drop(second);
    assert_eq!(is_in_use(dir.path()), None);
    dir.lock().unwrap().unwrap();
}

#[test]
fn the_lock_of_another_directory_is_not_taken_over() {
    let ((_one, dir), (_two, other)) = (place(), place());
    let lock = dir.lock().unwrap().unwrap();
    let _other = other.lock().unwrap().unwrap();
    let handed = lock.as_fd().try_clone_to_owned().unwrap();
    assert!(other.lock_handed_over(handed).is_err());
}

#[test]
fn a_copy_says_what_is_in_it_and_leaves_nothing_behind() {
    let (_root, dir) = place();
    assert!(DatabaseCopy::of(&dir).unwrap().is_none());
    let mut store = SqliteStore::open(&dir).unwrap();
    for count in 0..10 {
        store.create(&key(&format!("k{count}")), 100).unwrap();
    }
    // Another process would keep it open; in this one, opening the directory would take away its locks.
    drop(store);
    let copy = DatabaseCopy::of(&dir).unwrap().unwrap();
    SqliteStore::open(&dir).unwrap().create(&key("late"), 100).unwrap();
    let mut bytes = Vec::new();
    copy.open().unwrap().read_to_end(&mut bytes).unwrap();
    let facts = examine_copy(dir.path(), &bytes).unwrap();
    assert_eq!((facts, facts.keys), (copy.facts(), 10));
    drop(copy);
    let left: Vec<_> =
        dir.entries().unwrap().into_iter().filter(|entry| entry.name.ends_with(".tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
    for cut in [0, 99, 4096, bytes.len() - 4096] {
        assert!(examine_copy(dir.path(), &bytes[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn what_belongs_to_a_gate_is_told_from_what_lies_about() {
    let (_root, dir) = place();
    let store = SqliteStore::open(&dir).unwrap();
    store.adopt(&dir).unwrap();
    let _lock = dir.lock().unwrap();
    dir.folder("models").unwrap();
    dir.folder("before-x").unwrap();
    fs::write(dir.path().join("thesis.txt"), "x").unwrap();
    symlink("/etc/passwd", dir.path().join("first-key")).unwrap();
    assert_eq!(dir.belongings().unwrap(), ["store-id"]);
    let replaceable = dir.replaceable().unwrap();
    assert!(
        replaceable.contains(&DATABASE_FILE.to_owned()) && replaceable.contains(&"thesis.txt".to_owned())
    );
    assert!(!replaceable.iter().any(|name| name == "models" || name == "before-x" || name == "gate.lock"));
}

#[test]
fn files_are_written_below_and_no_link_is_followed() {
    let (root, dir) = place();
    dir.write_below("acme/account/key.json", &mut &b"secret"[..]).unwrap();
    let mut text = String::new();
    dir.open_below("acme/account/key.json").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "secret");
    let outside = root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, dir.path().join("link")).unwrap();
    for path in ["link/x", "../x", "a/../../x", "/x", "a//x", ""] {
        assert!(dir.write_below(path, &mut &b"x"[..]).is_err(), "{path}");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(dir.room().unwrap() > 0);
    dir.remove_folder("acme").unwrap();
    assert!(dir.open_below("acme/account/key.json").is_err());
}
