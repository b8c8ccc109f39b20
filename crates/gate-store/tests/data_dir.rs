//! The data directory in a real file system: who may read it, whose it is, and what is left alone.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test may")]

use gate_keys::{KeyName, KeyStore as _, NewKey, OsEntropy, StoreError, mint};
use gate_store::{DataDir, FIRST_KEY_FILE, SqliteStore};
use gate_types::ScopeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;
use tempfile::TempDir;

fn any_key() -> NewKey {
    NewKey {
        name: KeyName::first(),
        mark: mint(&mut OsEntropy).unwrap().mark,
        scopes: ScopeSet::DEFAULT,
        models: Vec::new(),
        expires: None,
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn refusal(path: &Path) -> String {
    let refusal = DataDir::open(path).expect_err("the directory was taken");
    assert!(refusal.hint().is_some(), "{refusal}");
    refusal.to_string()
}

fn am_root(path: &Path) -> bool {
    fs::metadata(path).unwrap().uid() == 0
}

#[test]
fn a_new_directory_and_everything_in_it_is_private() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("a/b/data");
    let dir = DataDir::open(&path).unwrap();
    let mut store = SqliteStore::open(&dir).unwrap();
    store.create(&any_key(), 100).unwrap();
    dir.write_private(FIRST_KEY_FILE, b"secret\n").unwrap();
    assert_eq!(mode(&path), 0o700);
    let mut seen = 0;
    for entry in fs::read_dir(&path).unwrap() {
        let file = entry.unwrap().path();
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        seen += 1;
    }
    assert_eq!(seen, 4, "the database, its log, its index, and the first key");
    assert!(dir.notes().is_empty(), "{:?}", dir.notes());
}

#[test]
fn what_is_too_open_is_tightened_and_told() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("data");
    let dir = DataDir::open(&path).unwrap();
    SqliteStore::open(&dir).unwrap();
    let key = dir.write_private(FIRST_KEY_FILE, b"secret\n").unwrap();
    set_mode(&path, 0o755);
    set_mode(&key, 0o644);
    let again = DataDir::open(&path).unwrap();
    assert_eq!((mode(&path), mode(&key)), (0o700, 0o600));
    assert_eq!(again.notes().len(), 2, "{:?}", again.notes());
    assert!(again.notes()[0].contains("mode 0755"), "{:?}", again.notes());
    assert!(DataDir::open(&path).unwrap().notes().is_empty());
}

#[test]
fn an_empty_directory_or_one_with_models_is_taken_over() {
    let root = TempDir::new().unwrap();
    set_mode(root.path(), 0o755);
    fs::create_dir(root.path().join("models")).unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    assert_eq!(mode(root.path()), 0o700);
    assert_eq!(dir.notes().len(), 1);
}

#[test]
fn a_directory_of_other_things_is_never_closed() {
    let root = TempDir::new().unwrap();
    let thesis = root.path().join("thesis.txt");
    fs::write(&thesis, "x").unwrap();
    set_mode(&thesis, 0o644);
    set_mode(root.path(), 0o755);
    let reason = refusal(root.path());
    assert!(reason.contains("open to other users (mode 0755)"), "{reason}");
    assert_eq!((mode(root.path()), mode(&thesis)), (0o755, 0o644));
    // Private already, it may be used, but what lies there keeps its mode.
    set_mode(root.path(), 0o700);
    DataDir::open(root.path()).unwrap();
    assert_eq!(mode(&thesis), 0o644);
}

#[test]
fn a_shared_directory_is_never_closed_even_if_it_is_empty() {
    let root = TempDir::new().unwrap();
    set_mode(root.path(), 0o1777);
    refusal(root.path());
    assert_eq!(mode(root.path()), 0o1777);
}

#[test]
fn a_file_in_its_place_is_refused() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("data");
    fs::write(&path, "x").unwrap();
    let reason = refusal(&path);
    assert!(reason.ends_with("is a file, not a directory"), "{reason}");
    let below = DataDir::open(&path.join("below")).unwrap_err().to_string();
    assert!(below.contains("not a directory"), "{below}");
}

#[test]
fn a_link_to_a_directory_is_followed_and_a_dead_one_refused() {
    let root = TempDir::new().unwrap();
    let (real, link) = (root.path().join("real"), root.path().join("link"));
    symlink(&real, &link).unwrap();
    let reason = refusal(&link);
    assert!(reason.contains("leads nowhere"), "{reason}");
    DataDir::open(&real).unwrap();
    let dir = DataDir::open(&link).unwrap();
    assert_eq!(dir.path(), fs::canonicalize(&real).unwrap());
    SqliteStore::open(&dir).unwrap();
}

#[test]
fn looking_makes_nothing() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("data");
    assert!(DataDir::find(&path).unwrap().is_none());
    assert!(!path.exists());
    assert!(!SqliteStore::exists(&DataDir::open(&path).unwrap()));
}

#[test]
fn a_private_file_is_replaced_whole_and_links_are_not_followed() {
    let root = TempDir::new().unwrap();
    let dir = DataDir::open(&root.path().join("data")).unwrap();
    let outside = root.path().join("outside");
    fs::write(&outside, "untouched").unwrap();
    symlink(&outside, dir.path().join(FIRST_KEY_FILE)).unwrap();
    assert!(dir.read_private(FIRST_KEY_FILE).is_err());
    let path = dir.write_private(FIRST_KEY_FILE, b"one").unwrap();
    dir.write_private(FIRST_KEY_FILE, b"two").unwrap();
    assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched");
    assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("two", 0o600));
    assert_eq!(dir.read_private(FIRST_KEY_FILE).unwrap().unwrap().expose(), "two");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something was left behind");
    dir.remove(FIRST_KEY_FILE).unwrap();
    dir.remove(FIRST_KEY_FILE).unwrap();
    assert!(dir.read_private(FIRST_KEY_FILE).unwrap().is_none());
}

#[test]
fn no_name_leads_out_of_the_directory() {
    let root = TempDir::new().unwrap();
    let dir = DataDir::open(&root.path().join("data")).unwrap();
    for name in ["", ".", "..", "../x", "a/b", "/etc/x"] {
        assert!(matches!(dir.write_private(name, b"x"), Err(StoreError::Storage { .. })), "{name}");
    }
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
}

/// A directory of user 65534, as a service has it, if this process may make one.
fn service_dir(root: &TempDir) -> Option<std::path::PathBuf> {
    let path = root.path().join("service");
    fs::create_dir(&path).unwrap();
    set_mode(&path, 0o700);
    if !am_root(&path) {
        eprintln!("skipped: only root can make files for another user");
        return None;
    }
    chown(&path, Some(65_534), Some(65_534)).unwrap();
    Some(path)
}

#[test]
fn what_root_makes_for_a_service_belongs_to_the_service() {
    let root = TempDir::new().unwrap();
    let Some(path) = service_dir(&root) else { return };
    let dir = DataDir::open(&path).unwrap();
    let mut store = SqliteStore::open(&dir).unwrap();
    store.create(&any_key(), 100).unwrap();
    dir.write_private(FIRST_KEY_FILE, b"secret\n").unwrap();
    let mut seen = 0;
    for entry in fs::read_dir(&path).unwrap() {
        let file = entry.unwrap().path();
        let stat = fs::symlink_metadata(&file).unwrap();
        assert_eq!(
            (stat.uid(), stat.gid(), stat.mode() & 0o7777),
            (65_534, 65_534, 0o600),
            "{}",
            file.display()
        );
        seen += 1;
    }
    assert_eq!(seen, 4);
}

#[test]
fn what_root_left_behind_is_given_to_the_service() {
    let root = TempDir::new().unwrap();
    let Some(path) = service_dir(&root) else { return };
    SqliteStore::open(&DataDir::open(&path).unwrap()).unwrap();
    let database = path.join(gate_store::DATABASE_FILE);
    chown(&database, Some(0), Some(0)).unwrap();
    let dir = DataDir::open(&path).unwrap();
    assert_eq!(fs::metadata(&database).unwrap().uid(), 65_534);
    assert_eq!(dir.notes().len(), 1, "{:?}", dir.notes());
}

#[test]
fn a_service_cannot_make_root_give_files_away() {
    let root = TempDir::new().unwrap();
    let Some(path) = service_dir(&root) else { return };
    let shadow = root.path().join("shadow");
    fs::write(&shadow, "root's").unwrap();
    set_mode(&shadow, 0o644);
    // A second name of root's file, and a link to it, under names that herdgate would own.
    fs::hard_link(&shadow, path.join(FIRST_KEY_FILE)).unwrap();
    symlink(&shadow, path.join("herdgate.db-wal")).unwrap();
    DataDir::open(&path).unwrap();
    let stat = fs::metadata(&shadow).unwrap();
    assert_eq!((stat.uid(), stat.mode() & 0o7777), (0, 0o644));
}

#[test]
fn a_pipe_does_not_stop_anything() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("data");
    DataDir::open(&path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(path.join(FIRST_KEY_FILE)).status().unwrap();
    assert!(made.success());
    let dir = DataDir::open(&path).unwrap();
    assert!(dir.read_private(FIRST_KEY_FILE).is_err());
}
