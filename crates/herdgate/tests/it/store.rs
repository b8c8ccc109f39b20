//! Trouble with the database of keys, from outside: whatever happens to it, a key that was known keeps its answer, one that
//! is not known is told nothing about itself, from the first request on, and all is well again soon after the database is.

use crate::harness::{Ask, Gate, Home, Running, mention, testkit, until, within};
use gate_testkit::Setup;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How soon after the database is well the gate must be.
const HEALED: Duration = Duration::from_secs(5);
/// Requests with each of four credentials, in each of eight troubles: more than a thousand in all.
const ROUNDS: usize = 32;
/// Strangers in the first moment of a trouble.
const CROWD: usize = 8;

/// A key in the right form that no store ever had.
const STRANGER: &str = "sk-hg-0123456789ABCDEFGHIJKLMNOPQRSTUV2NG9Ws";

/// No limit on wrong credentials: they are what is sent here.
const SETTINGS: &str = "[auth]\nfailures = 100000\n";

struct Scene<'h> {
    home: &'h Home,
    gate: Gate<'h>,
    known: String,
    revoked: String,
    asked: usize,
}

impl<'h> Scene<'h> {
    fn begin(home: &'h Home, upstream: &str) -> Self {
        let (known, revoked) = (home.key("known", &[]), home.key("gone", &[]));
        assert_eq!(home.run(&["key", "revoke", "gone"]).code, 0);
        let gate = home.serve(&["--upstream", upstream]);
        let scene = Scene { home, gate, known, revoked, asked: 0 };
        scene.is_ready("ready");
        scene
    }

    fn state(&self) -> String {
        Ask::get("/readyz").send(self.gate.address).text()
    }

    #[track_caller]
    fn is_ready(&self, word: &str) {
        within(HEALED, word, || self.state().contains(word).then_some(()));
    }

    fn status(&self, key: &str) -> (u16, String) {
        let answer = Ask::get("/api/tags").key(key).send(self.gate.address);
        (answer.status, answer.text())
    }

    /// Nobody is told that a key is unknown.
    #[track_caller]
    fn knows_no_stranger(&self, trouble: &str) {
        let (status, text) = self.status(STRANGER);
        assert_eq!(status, 503, "{trouble}: {text}");
        assert!(text.contains("the store of keys cannot be read"), "{trouble}: {text}");
    }

    /// What everybody is told while the store is degraded. Begins in the moment after it broke, which nobody has told the
    /// gate of, with strangers who all come at once.
    #[track_caller]
    fn holds(&mut self, trouble: &str) {
        std::thread::scope(|scope| {
            for _ in 0..CROWD {
                scope.spawn(|| self.knows_no_stranger(trouble));
            }
            assert_eq!(self.status(&self.known).0, 200, "{trouble}: a known key failed");
        });
        for _ in 0..ROUNDS {
            self.knows_no_stranger(trouble);
            assert_eq!(self.status(&self.known).0, 200, "{trouble}: a known key failed");
            assert_eq!(self.status(&self.revoked).0, 401, "{trouble}: a revoked key");
            assert_eq!(self.status("sk-hg-short").0, 401, "{trouble}: no key at all");
            self.asked += 4;
        }
        assert!(self.state().contains("degraded"), "{trouble} ended by itself");
    }

    /// The command line refuses to change anything, and says why.
    #[track_caller]
    fn refuses_changes(&self, trouble: &str, word: &str) {
        for change in [&["key", "create", "late"][..], &["key", "revoke", "known"]] {
            let told = self.home.run(change);
            assert_eq!((told.code, told.out.as_str()), (1, ""), "{trouble}: {change:?}: {}", told.err);
            assert!(told.err.contains(word) && told.err.contains("hint:"), "{trouble}: {}", told.err);
        }
    }

    /// Well again: every key has its usual answer, and changes are taken.
    #[track_caller]
    fn heals(&self) {
        self.is_ready("ready");
        assert_eq!(self.status(STRANGER).0, 401);
        assert_eq!((self.status(&self.known).0, self.status(&self.revoked).0), (200, 401));
        // The command line is not alone with the database, and leaves its log to the gate.
        let logs = || ["-wal", "-shm"].map(|suffix| fs::metadata(self.database(suffix)).unwrap().ino());
        let before = logs();
        let late = self.home.key("late", &[]);
        self.gate.takes(&late);
        assert_eq!(self.home.run(&["key", "revoke", "late"]).code, 0);
        assert_eq!(logs(), before, "somebody removed the log under the gate");
        until("the key revoked", || (self.status(&late).0 == 401).then_some(()));
        // What was changed is moved from the log into the file: three pages of log are less than a revocation.
        let log = || fs::metadata(self.database("-wal")).map_or(0, |log| log.len());
        until("the change in the file", || (log() < 3 * 4200).then_some(()));
    }

    fn database(&self, suffix: &str) -> PathBuf {
        self.home.data(&format!("herdgate.db{suffix}"))
    }
}

fn put(bytes: &[u8], at: &Path) {
    let fresh = at.with_extension("fresh");
    fs::write(&fresh, bytes).unwrap();
    fs::set_permissions(&fresh, Permissions::from_mode(0o600)).unwrap();
    fs::rename(fresh, at).unwrap();
}

#[test]
fn a_thousand_requests_while_the_store_is_in_trouble() {
    let ollama = testkit(Setup::default());
    let home = Home::new().settings(SETTINGS);
    let mut scene = Scene::begin(&home, &ollama.url());
    let (file, whole) = (scene.database(""), fs::read(scene.database("")).unwrap());

    for suffix in ["", "-wal", "-shm"] {
        fs::remove_file(scene.database(suffix)).unwrap();
    }
    scene.holds("deleted");
    scene.refuses_changes("deleted", "is gone");
    put(&whole, &file);
    scene.heals();

    let other = Home::new();
    other.key("foreign", &[]);
    let foreign = fs::read(other.data("herdgate.db")).unwrap();
    let garbage = vec![0x5a; 40_000];
    for (bytes, trouble, word) in [
        (&garbage, "garbage", "is not a database of herdgate"),
        (&Vec::new(), "empty", "is cut off after 0 bytes"),
        (&foreign, "another store", "another database"),
    ] {
        let whole = fs::read(&file).unwrap();
        put(bytes, &file);
        scene.holds(trouble);
        scene.refuses_changes(trouble, word);
        assert!(&fs::read(&file).unwrap() == bytes || trouble == "another store", "{trouble} was written to");
        put(&whole, &file);
        scene.heals();
    }

    let settled = fs::read(&file).unwrap();
    fs::write(&file, &garbage).unwrap();
    scene.holds("garbage in place");
    assert!(fs::read(&file).unwrap() == garbage, "the garbage was written to");
    fs::write(&file, settled).unwrap();
    scene.heals();

    for (path, closed, open) in [(file.clone(), 0o400, 0o600), (home.path("data"), 0o500, 0o700)] {
        fs::set_permissions(&path, Permissions::from_mode(closed)).unwrap();
        scene.holds("read-only");
        fs::set_permissions(&path, Permissions::from_mode(open)).unwrap();
        scene.heals();
    }
    fs::set_permissions(&file, Permissions::from_mode(0o400)).unwrap();
    scene.refuses_changes("read-only", "read-only");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();

    let holder = rusqlite::Connection::open(&file).unwrap();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    scene.holds("locked");
    scene.refuses_changes("locked", "locked");
    holder.execute_batch("COMMIT").unwrap();
    drop(holder);
    scene.heals();

    assert!(scene.asked >= 1000, "{}", scene.asked);
    let told = scene.gate.end().err();
    assert_eq!(told.matches("is degraded,").count(), told.matches("is well again").count(), "said once each");
}

#[test]
fn a_file_that_may_not_grow_is_a_full_disk() {
    let ollama = testkit(Setup::default());
    // A write beyond the limit is refused instead of ending the process.
    let home = Home::new().settings(SETTINGS).through("trap '' XFSZ");
    let mut scene = Scene::begin(&home, &ollama.url());
    let gate = Pid::from_raw(scene.gate.running.pid());
    let log = fs::metadata(scene.database("-wal")).unwrap().len();
    let limit = |current| prlimit(gate, Resource::Fsize, Rlimit { current, maximum: None }).unwrap();
    limit(Some(log));
    scene.holds("full");
    limit(None);
    scene.heals();
    scene.gate.end();
}

/// A small file system in memory, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(path: &Path) -> Option<Self> {
        fs::create_dir(path).unwrap();
        let options = ["-t", "tmpfs", "-o", "size=600k,mode=0700", "tmpfs"];
        let mounted = std::process::Command::new("mount").args(options).arg(path).output();
        mounted.is_ok_and(|done| done.status.success()).then(|| SmallDisk(path.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(std::process::Command::new("umount").arg("-l").arg(&self.0).output());
    }
}

#[test]
fn a_full_disk_is_trouble_until_there_is_room_again() {
    let ollama = testkit(Setup::default());
    let home = Home::new().settings(SETTINGS);
    let Some(_disk) = SmallDisk::at(&home.path("data")) else {
        return mention("a really full disk: a file system cannot be mounted here");
    };
    let mut scene = Scene::begin(&home, &ollama.url());
    let ballast = home.data("models");
    // As much as there is room for.
    let filled = fs::write(&ballast, vec![0; 1 << 20]).is_err();
    assert!(filled, "the disk is larger than it should be");
    scene.holds("full");
    scene.refuses_changes("full", "full");
    fs::remove_file(&ballast).unwrap();
    scene.heals();
    scene.gate.end();
    // Without a gate there is no index of the log, and no room to make one.
    assert!(fs::write(&ballast, vec![0; 1 << 20]).is_err());
    for args in [&["key", "list"][..], &["key", "log"], &["serve", "--listen", "127.0.0.1:0"]] {
        let told = home.run(args);
        assert_eq!((told.code, told.out.as_str()), (1, ""), "{args:?}: {}", told.err);
        assert!(told.err.ends_with("\nhint: make room on the disk\n"), "{args:?}: {}", told.err);
        let reason = told.err.lines().rev().nth(1).unwrap();
        assert!(
            reason.ends_with("herdgate.db: cannot read the database: no storage space"),
            "{args:?}: {reason}"
        );
    }
}

#[test]
fn a_new_key_is_valid_in_its_first_request() {
    let ollama = testkit(Setup::default());
    let home = Home::new().settings(SETTINGS);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let status = |key: &str| Ask::get("/api/tags").key(key).send(gate.address).status;
    for number in 0..8 {
        assert_eq!(status(&home.key(&format!("bot-{number}"), &[])), 200, "{number}");
    }
    let rotated = home.run(&["key", "rotate", "bot-0"]);
    assert_eq!(status(rotated.out.trim()), 200, "{}", rotated.err);
    let short = home.key("short", &["--expires", "1s"]);
    until("the end of the key", || (status(&short) == 401).then_some(()));
    let set = home.run(&["key", "set", "short", "--expires", "1d"]);
    assert_eq!((set.code, status(&short)), (0, 200), "{}", set.err);
    gate.end();
}

#[test]
fn a_restart_takes_another_store_and_says_so() {
    let ollama = testkit(Setup::default());
    let home = Home::new();
    let old = home.key("old", &[]);
    home.serve(&["--upstream", &ollama.url()]).end();
    let other = Home::new();
    let new = other.key("new", &[]);
    put(&fs::read(other.data("herdgate.db")).unwrap(), &home.data("herdgate.db"));
    let told = home.run(&["key", "list"]);
    assert_eq!(told.code, 1, "{}", told.out);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let words = "another database than at the last start";
    gate.running.says(words, |line| line.contains(words));
    assert_eq!(Ask::get("/api/tags").key(&new).send(gate.address).status, 200);
    assert_eq!(Ask::get("/api/tags").key(&old).send(gate.address).status, 401);
    assert_eq!(home.run(&["key", "list"]).code, 0);
    gate.end();
}

#[test]
fn a_change_of_a_key_is_in_force_and_in_the_log_of_the_gate() {
    let ollama = testkit(Setup::default());
    let home = Home::new();
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let secret = home.key("bot", &["--scope", "infer"]);
    gate.takes(&secret);
    let status = || Ask::get("/api/tags").key(&secret).send(gate.address).status;
    assert_eq!(status(), 403);
    assert_eq!(home.run(&["key", "set", "bot", "--scope", "read"]).code, 0);
    within(Duration::from_secs(1), "the scope in force", || (status() == 200).then_some(()));
    assert_eq!(home.run(&["key", "revoke", "bot"]).code, 0);
    within(Duration::from_secs(1), "the end of the key", || (status() == 401).then_some(()));
    for words in ["key create: bot", "key set: bot", "key revoke: bot"] {
        gate.running.says(words, |line| line.contains(words));
    }
    let log = home.run(&["key", "log", "--json"]);
    let lines: Value = serde_json::from_str(&log.out).unwrap();
    let acts: Vec<_> = lines.as_array().unwrap().iter().map(|line| line["act"].as_str().unwrap()).collect();
    assert_eq!(acts, ["first", "create", "set", "revoke"], "{}", log.out);
    let told = [log.out.as_str(), &gate.running.err(), &home.run(&["key", "log"]).out].concat();
    assert!(!told.contains(&secret[6..16]), "a secret in the log");
    let end: Running = gate.end();
    assert!(!end.err().contains(&secret[6..16]));
}
