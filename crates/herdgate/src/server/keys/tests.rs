//! The keeper, one turn at a time, beside another process's connection to the same database.

use super::*;
use crate::server::access::Enrolled;
use crate::server::rules::rules;
use gate_config::Config;
use gate_keys::{KeyName, Mark, NewKey, OsEntropy, UnixSeconds, mint};
use gate_proxy::NotYet;
use gate_store::{DATABASE_FILE, DataDir};
use gate_types::ScopeSet;
use rusqlite::Connection;
use tempfile::TempDir;

struct Scene {
    root: TempDir,
    keeper: Keeper,
    shared: Shared,
}

impl Scene {
    /// A gate whose store has the one key "known".
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        let mut store = SqliteStore::open(&DataDir::open(root.path()).unwrap()).unwrap();
        store.create(&new_key("known"), 100).unwrap();
        let (keeper, ring) = Keeper::begin(Some(store), Outside::default()).unwrap();
        let rules = rules(&Config::default(), &Enrolled::default()).unwrap();
        let shared = Shared::new(ring, rules, Arc::default(), NotYet::Named);
        Scene { root, keeper, shared }
    }

    /// A turn, as long after now as a moment is that the test thinks of.
    fn turn_after(&mut self, time: Duration) {
        self.keeper.turn(&self.shared, Instant::now() + time);
    }

    fn elsewhere(&self) -> Connection {
        Connection::open(self.root.path().join(DATABASE_FILE)).unwrap()
    }

    /// When the key was last used, as the command line would show it.
    fn saved(&self) -> Option<UnixSeconds> {
        let of_known = "SELECT last_used FROM keys WHERE name = 'known'";
        self.elsewhere().query_row(of_known, [], |row| row.get(0)).unwrap()
    }

    fn use_known(&self, now: UnixSeconds) {
        self.shared.keys().iter().for_each(|key| key.mark_used(now));
    }
}

fn new_key(name: &str) -> NewKey {
    let mark: Mark = mint(&mut OsEntropy).unwrap().mark;
    let name = KeyName::parse(name).unwrap();
    NewKey { name, mark, scopes: ScopeSet::DEFAULT, models: Vec::new(), expires: None }
}

#[test]
fn a_last_use_that_could_not_be_stored_is_stored_when_the_store_is_well_again() {
    let mut scene = Scene::new();
    scene.use_known(500);
    let writer = scene.elsewhere();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    scene.turn_after(SAVE);
    assert!(scene.shared.store.is_degraded());
    assert_eq!(scene.saved(), None);
    writer.execute_batch("COMMIT").unwrap();
    scene.turn_after(2 * SAVE + WRITE);
    assert!(!scene.shared.store.is_degraded());
    assert_eq!(scene.saved(), Some(500), "the key was not used again");
}

#[test]
fn a_last_use_outlives_a_change_of_the_keys_that_comes_before_trouble() {
    let mut scene = Scene::new();
    scene.turn_after(Duration::ZERO);
    scene.use_known(500);
    let writer = scene.elsewhere();
    writer.execute_batch("UPDATE keys SET scopes = 'read'; BEGIN IMMEDIATE").unwrap();
    scene.turn_after(LOOK);
    assert!(scene.shared.store.is_degraded(), "the change was read, nothing could be written");
    assert!(scene.shared.keys().iter().all(|key| key.scopes != ScopeSet::DEFAULT));
    writer.execute_batch("COMMIT").unwrap();
    scene.turn_after(SAVE);
    assert_eq!(scene.saved(), Some(500));
}

#[test]
fn other_settings_lose_no_last_use() {
    let mut scene = Scene::new();
    scene.use_known(500);
    scene.keeper.replace_outside(Outside::default(), &scene.shared);
    scene.turn_after(SAVE);
    assert_eq!(scene.saved(), Some(500));
}

#[test]
fn looks_that_requests_ask_for_come_soon_but_not_at_once_after_another() {
    let mut due = Scene::new().keeper.due;
    let now = Instant::now();
    due.done(now, true, true, false);
    assert_eq!((due.next(true), due.next(false)), (now + REST, now + LOOK));
    due.done(now, false, true, false);
    assert_eq!(due.next(false), now + WRITE, "in trouble");
}
