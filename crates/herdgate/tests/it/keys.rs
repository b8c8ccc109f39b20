//! Keys that no store holds, from outside: a key of the settings in a container without a data directory, beside a store,
//! and what becomes of the first key.

use crate::harness::{Ask, Gate, Home, testkit};
use gate_testkit::Setup;
use rustix::process::Signal;
use serde_json::Value;

struct Minted {
    secret: String,
    block: String,
}

fn mint(home: &Home, line: &[&str]) -> Minted {
    let made = home.run(&[&["key", "mint"], line, &["--json"]].concat());
    assert_eq!(made.code, 0, "{}", made.err);
    let made: Value = serde_json::from_str(&made.out).unwrap();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    Minted { secret: text("secret"), block: text("settings") }
}

fn status(gate: &Gate<'_>, key: &str, path: &str) -> u16 {
    Ask::get(path).key(key).send(gate.address).status
}

#[test]
fn a_key_of_the_settings_needs_no_data_directory() {
    let ollama = testkit(Setup::default());
    // No directory can be made below a file.
    let home = Home::new();
    let nowhere = home.path("herdgate.toml").join("data");
    let home = home.env("HERDGATE_DATA", &nowhere);
    let (reader, worker) =
        (mint(&home, &["reader", "--scope", "read"]), mint(&home, &["worker", "--scope", "infer"]));
    let home = home.settings(&format!("{}\n{}", reader.block, worker.block));
    let gate = home.serve(&["--upstream", &ollama.url()]);
    assert_eq!(
        (status(&gate, &reader.secret, "/api/tags"), status(&gate, &worker.secret, "/api/tags")),
        (200, 403)
    );
    let stranger = mint(&home, &["stranger"]).secret;
    assert_eq!(status(&gate, &stranger, "/api/tags"), 401);
    assert_eq!(Ask::get("/readyz").send(gate.address).text().trim(), "ready");
    let said = gate.end().err();
    assert!(said.contains("only the keys of the settings are in force"), "{said}");
    assert!(![&reader, &worker].iter().any(|key| said.contains(&key.secret[6..16])), "{said}");
    let shown = home.run(&["config", "show", "--origin"]).out;
    let digest = reader.block.lines().find(|line| line.starts_with("digest")).unwrap();
    assert!(shown.contains("[[key]] reader") && !shown.contains(digest), "{shown}");
}

#[test]
fn without_a_key_outside_of_the_store_there_must_be_a_store() {
    let home = Home::new();
    let nowhere = home.path("herdgate.toml").join("data");
    let told = home.env("HERDGATE_DATA", nowhere).run(&["serve", "--listen", "127.0.0.1:0", "--no-local"]);
    assert_eq!(told.code, 1, "{}", told.err);
}

#[test]
fn a_key_of_the_settings_stands_beside_those_of_the_store() {
    let ollama = testkit(Setup::default());
    let home = Home::new();
    let minted = mint(&home, &["ci"]);
    let home = home.settings(&minted.block);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let words = "no first key is made: the settings have ci";
    gate.running.says(words, |line| line.contains(words));
    assert!(!home.data("first-key").exists());
    let stored = home.key("ci", &[]);
    gate.takes(&stored);
    assert_eq!(status(&gate, &minted.secret, "/api/tags"), 200);
    let log = home.run(&["key", "log", "ci"]).out;
    assert!(log.contains("settings-add") && log.contains("create"), "{log}");
    gate.end();
    // A second start warns of the two, and finds nothing new in the settings; a third finds the key gone.
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let words = "two keys of one name";
    gate.running.says(words, |line| line.contains(words));
    gate.end();
    let home = home.settings("");
    let gate = home.serve(&["--upstream", &ollama.url()]);
    assert_eq!((status(&gate, &minted.secret, "/api/tags"), status(&gate, &stored, "/api/tags")), (401, 200));
    gate.end();
    let log = home.run(&["key", "log"]).out;
    let acts: Vec<_> = log.lines().skip(1).filter_map(|line| line.split_whitespace().nth(4)).collect();
    assert_eq!(acts, ["settings-add", "create", "settings-remove"], "{log}");
}

#[test]
fn a_short_token_is_warned_of_and_works() {
    let ollama = testkit(Setup::default());
    let home = Home::new().env("AUTH_TOKEN", "hunter2");
    let gate = home.serve(&["--upstream", &ollama.url()]);
    assert_eq!(status(&gate, "hunter2", "/api/tags"), 200);
    let said = gate.end().err();
    assert!(said.contains("the token has 7 characters") && !said.contains("hunter2"), "{said}");
}

#[test]
fn a_reload_changes_the_keys_of_the_settings_and_logs_it() {
    let ollama = testkit(Setup::default());
    let home = Home::new();
    let (old, new) = (mint(&home, &["old"]), mint(&home, &["new", "--scope", "read"]));
    let home = home.settings(&old.block);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let stored = home.key("stored", &[]);
    gate.takes(&stored);
    std::fs::write(home.path("herdgate.toml"), &new.block).unwrap();
    gate.running.signal(Signal::HUP);
    // Nobody is told when a signal was heard; these lines are written once the keys are in force.
    for words in ["key settings-add: new", "key settings-remove: old"] {
        gate.running.says(words, |line| line.contains(words));
    }
    gate.takes(&new.secret);
    let told = [&old.secret, &new.secret, &stored].map(|key| status(&gate, key, "/api/tags"));
    assert_eq!(told, [401, 200, 200]);
    // Wrong ones change nothing, and the problem is told without the digest.
    std::fs::write(home.path("herdgate.toml"), new.block.replace("sha256:", "sha1:")).unwrap();
    gate.running.signal(Signal::HUP);
    gate.running.says("what is wrong", |line| line.contains("no digest of a key"));
    assert_eq!(status(&gate, &new.secret, "/api/tags"), 200);
    let said = gate.end().err();
    let digest = new.block.lines().find_map(|line| line.strip_prefix("digest = \"sha256:")).unwrap();
    assert!(!said.contains(&digest[..16]) && !said.contains(&new.secret[6..16]), "{said}");
}
