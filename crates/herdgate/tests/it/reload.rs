//! Settings that change while requests run: all or nothing, and nobody loses anything by it.

use crate::harness::load::{Load, TOKEN, chat, home, slow_ollama};
use crate::harness::{Ask, Gate, Home, testkit, until};
use gate_testkit::{Ollama, Setup};
use rustix::process::Signal;
use std::path::Path;

/// Writes settings as an editor does: another file in the place of the old one.
fn replace(file: &Path, text: &str) {
    let other = file.with_extension("new");
    std::fs::write(&other, text).unwrap();
    std::fs::rename(other, file).unwrap();
}

fn reload(gate: &Gate<'_>, sign: &str) -> String {
    gate.running.signal(Signal::HUP);
    gate.running.says(sign, |line| line.contains(sign))
}

#[test]
fn a_hundred_reloads_under_load_drop_nothing() {
    let (first, second) = (slow_ollama(), slow_ollama());
    let home = home().settings(&format!("upstreams = [\"{}\"]\n", first.url()));
    let gate = home.serve(&[]);
    let load = Load::start(gate.address, 12);
    load.goes_on(12);
    let file = home.path("herdgate.toml");
    for round in 0..100 {
        let upstreams = match round % 4 {
            0 => format!("\"{}\", \"{}\"", first.url(), second.url()),
            1 => format!("\"{}\", \"{}\"", second.url(), first.url()),
            2 => format!("\"{}\"", second.url()),
            _ => format!("\"{}\"", first.url()),
        };
        let depth = 300 + round;
        let text = format!(
            "upstreams = [{upstreams}]\n[queue]\ndepth = {depth}\n[fleet]\nprobe_interval = \"1s\"\n"
        );
        if round % 2 == 0 {
            replace(&file, &text);
        } else {
            std::fs::write(&file, &text).unwrap();
        }
        reload(&gate, &format!("-> {depth}"));
        if round % 10 == 0 {
            load.goes_on(12);
        }
    }
    load.goes_on(24);
    let whole = load.stop();
    assert!(whole >= 150, "only {whole} streams ran meanwhile");
    let asked = |ollama: &Ollama| ollama.seen_on("/api/chat").len();
    assert!(asked(&second) > 10, "the second upstream had {} of {whole}", asked(&second));
    assert_eq!(asked(&first) + asked(&second), whole);
    let before = asked(&second);
    for _ in 0..20 {
        chat().send(gate.address).ok();
    }
    assert_eq!(asked(&second), before, "an upstream that was taken out is asked");
    gate.end();
}

#[test]
fn a_changed_file_is_read_by_itself_and_a_wrong_one_changes_nothing() {
    let ollama = testkit(Setup::default().with_models(&["demo", "other"]));
    let (old, new) = (testkit(Setup::default()), ollama);
    let home = home().settings(&format!("upstreams = [\"{}\"]\n", old.url()));
    let file = home.path("herdgate.toml");
    let gate = home.serve(&[]);
    let models = || {
        Ask::get("/api/tags").key(TOKEN).send(gate.address).json()["models"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(models(), 2);
    let names = || Ask::get("/api/tags").key(TOKEN).send(gate.address).text();
    assert!(!names().contains("other"));

    replace(&file, "upstreams = [\"gpu:x\"]\n[limits]\nhaed = 3\nbody = \"1PiB\"\n");
    let says = |sign: &str| gate.running.says(sign, |line| line.contains(sign));
    says("the old settings stay in force");
    for problem in ["herdgate.toml:1:14", "unknown setting \\\"haed\\\"", "herdgate.toml:4"] {
        assert!(gate.running.err().contains(problem), "{problem}: {}", gate.running.err());
    }
    assert!(!names().contains("other"));

    std::fs::write(
        &file,
        format!("upstreams = [\"{}\"]\n[server]\nthreads = 3\n[log]\nlevel = \"warn\"\n", new.url()),
    )
    .unwrap();
    until("the new upstream", || names().contains("other").then_some(()));
    says("server.threads \\\"auto\\\" -> 3 takes effect at the next start");
    chat().send(gate.address).ok();

    std::fs::remove_file(&file).unwrap();
    says("the settings file is gone");
    assert!(names().contains("other"));
    assert_eq!(Ask::get("/readyz").send(gate.address).text(), "ready");
    let said = gate.end().err();
    assert!(!said.contains("/api/chat"), "a record of a level that is not logged: {said}");
}

#[test]
fn a_dead_upstream_that_comes_by_a_reload_is_told_of() {
    let ollama = testkit(Setup::default());
    let home = home().settings(&format!("upstreams = [\"{}\"]\n", ollama.url()));
    let gate = home.serve(&[]);
    let text = format!("upstreams = [\"{}\", \"http://127.0.0.1:9\"]\n", ollama.url());
    replace(&home.path("herdgate.toml"), &text);
    let line = gate.running.says("that it is down", |line| line.contains("127.0.0.1:9 is down"));
    assert!(line.contains("WARN"), "{line}");
    gate.end();
}

#[test]
fn limits_of_a_running_gate_follow_its_settings() {
    let ollama = testkit(Setup::default());
    let home = home();
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let long =
        || Ask::get("/api/tags").key(TOKEN).field("X-Long", &"x".repeat(5000)).send(gate.address).status;
    assert_eq!(long(), 200);
    std::fs::write(home.path("herdgate.toml"), "[limits]\nhead = \"4KiB\"\n").unwrap();
    let line = reload(&gate, "limits.head");
    assert!(line.contains("32KiB") && line.contains("4KiB"), "{line}");
    assert_eq!(long(), 431);
    // A flag stands over the file, whatever is written there.
    std::fs::write(home.path("herdgate.toml"), "upstreams = [\"http://127.0.0.1:9\"]\n").unwrap();
    reload(&gate, "\\\"4KiB\\\" -> \\\"32KiB\\\"");
    assert_eq!(long(), 200);
    gate.end();
}

#[test]
fn another_token_takes_the_place_of_the_old_one() {
    let ollama = testkit(Setup::default());
    let home = Home::new();
    let file = home.path("token");
    let tokens = ["canary-one-in-a-file-of-its-own", "canary-two-in-a-file-of-its-own"];
    std::fs::write(&file, tokens[0]).unwrap();
    let home = home.env("AUTH_TOKEN_FILE", &file);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let status = |token: &str| Ask::get("/api/tags").key(token).send(gate.address).status;
    assert_eq!(tokens.map(status), [200, 401]);
    std::fs::write(&file, tokens[1]).unwrap();
    reload(&gate, "AUTH_TOKEN is another");
    until("the other token", || (tokens.map(status) == [401, 200]).then_some(()));
    let said = gate.end().err();
    assert!(!said.contains("canary"), "{said}");
}
