//! Two processes and one database. Locks on a file belong to a process: it loses all of them when it closes any of its
//! handles of the file (fcntl(2)). SQLite knows that of its own; whoever opens the file beside it must know it too. A
//! process that believes itself alone may move the log into the file and remove it when it ends, under whoever still
//! writes (SQLite since 3.51 has a second look at that). In one process none of this can be seen, so the other one here
//! is this very program.

use crate::suite::{at, minted, name, new};
use gate_keys::{KeyStore, State};
use gate_store::{DATABASE_FILE, DataDir, SqliteStore};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const WHERE: &str = "HERDGATE_TEST_STORE";
const WHAT: &str = "HERDGATE_TEST_CHANGE";

/// Does nothing, unless it is the other process: then it does what it is told, as the command line would.
#[test]
fn the_other_process() {
    let Some(path) = std::env::var_os(WHERE).map(PathBuf::from) else { return };
    let what = std::env::var(WHAT).unwrap();
    if what == "lock" {
        let file = File::options().read(true).write(true).open(with(&path, "")).unwrap();
        let locked = fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive);
        return assert_eq!(locked, Err(Errno::AGAIN), "nobody holds a lock");
    }
    let mut store = SqliteStore::open(&DataDir::open(&path).unwrap()).unwrap();
    match what.split_once(' ') {
        None => assert!(!store.list().unwrap().is_empty()),
        Some(("create", text)) => drop(store.create(&new(text, &minted()), 300).unwrap()),
        Some(("revoke", text)) => drop(store.revoke(&name(text), 300).unwrap()),
        Some(("show", text)) => assert_eq!(store.show(&name(text)).unwrap().len(), 1),
        Some(_) => panic!("{what}"),
    }
}

#[track_caller]
fn elsewhere(path: &Path, what: &str) {
    let mut other = Command::new(std::env::current_exe().unwrap());
    other.args(["--exact", "processes::the_other_process"]).env(WHERE, path).env(WHAT, what);
    let done = other.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && out.contains("1 passed"), "{what}: {out}{err}");
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    path.join(format!("{DATABASE_FILE}{suffix}"))
}

/// Opens a store, lets `trouble` have its way with it, and watches how it lives on beside another process.
#[track_caller]
fn heals_with_its_locks(trouble: impl FnOnce(&mut SqliteStore, &Path)) {
    let root = TempDir::new().unwrap();
    let path = root.path().join("data");
    let dir = DataDir::open(&path).unwrap();
    let mut store = SqliteStore::open(&dir).unwrap().with_patience(Duration::from_millis(50));
    drop(dir);
    store.create(&new("known", &minted()), 100).unwrap();
    store.settle().unwrap();
    trouble(&mut store, &path);
    store.look().unwrap();
    store.touch_store(at(200)).unwrap();

    let logs =
        || ["-wal", "-shm"].map(|suffix| fs::metadata(with(&path, suffix)).map(|file| file.ino()).ok());
    let before = logs();
    assert!(before.iter().all(Option::is_some), "{before:?}");
    elsewhere(&path, "lock");
    elsewhere(&path, "list");
    assert_eq!(logs(), before, "another process took itself for the last one");

    // Without a look in between, which would notice that the log is gone.
    store.create(&new("later", &minted()), 250).unwrap();
    elsewhere(&path, "show later");
    elsewhere(&path, "create theirs");
    elsewhere(&path, "revoke known");
    assert_eq!(logs(), before);
    store.touch_store(at(400)).unwrap();
    store.settle().unwrap();
    drop(store);
    let store = SqliteStore::open(&DataDir::open(&path).unwrap()).unwrap();
    let states = ["known", "later", "theirs"].map(|text| store.show(&name(text)).unwrap()[0].state(500));
    assert_eq!(states, [State::Revoked, State::Active, State::Active]);
}

#[test]
fn a_store_that_never_was_in_trouble_keeps_its_locks() {
    heals_with_its_locks(|_, _| {});
}

#[test]
fn a_file_that_was_garbage_for_a_while() {
    heals_with_its_locks(|store, path| {
        let whole = fs::read(with(path, "")).unwrap();
        fs::write(with(path, ""), vec![b'x'; 20_000]).unwrap();
        assert!(store.look().is_err());
        assert!(store.look().is_err());
        fs::write(with(path, ""), whole).unwrap();
    });
}

#[test]
fn a_file_that_was_moved_away_and_back() {
    heals_with_its_locks(|store, path| {
        fs::rename(with(path, ""), with(path, ".aside")).unwrap();
        assert!(store.look().is_err());
        fs::rename(with(path, ".aside"), with(path, "")).unwrap();
    });
}

#[test]
fn a_directory_that_was_moved_away_and_back() {
    heals_with_its_locks(|store, path| {
        fs::rename(path, path.with_extension("aside")).unwrap();
        assert!(store.look().is_err());
        fs::rename(path.with_extension("aside"), path).unwrap();
    });
}

#[test]
fn a_log_that_was_removed() {
    heals_with_its_locks(|store, path| {
        store.touch_store(at(150)).unwrap();
        fs::remove_file(with(path, "-wal")).unwrap();
    });
}

#[test]
fn a_database_that_was_replaced_by_its_copy() {
    heals_with_its_locks(|store, path| {
        fs::copy(with(path, ""), with(path, ".copy")).unwrap();
        fs::rename(with(path, ".copy"), with(path, "")).unwrap();
        store.look().unwrap();
    });
}
