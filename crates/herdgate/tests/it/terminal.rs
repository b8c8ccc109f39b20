//! A gate in somebody's terminal that has started an Ollama by itself: Ctrl-C goes to the whole process group, and nothing
//! that runs may be lost by it.

use crate::harness::running::Process;
use crate::harness::{Ask, Gate, Home, testkit, until};
use gate_testkit::Setup;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// A stream takes more than a second.
const TOKENS: usize = 30;
const PACE: Duration = Duration::from_millis(40);

/// The `ollama serve` of these tests: this program once more, with nothing but this test in it.
#[test]
#[ignore = "a program that others start"]
fn ollama_serve() {
    let Some(listen) = std::env::var("OLLAMA_HOST").ok().and_then(|host| host.parse().ok()) else { return };
    let _ollama = testkit(Setup { listen, ..Setup::default().with_tokens(TOKENS).with_pace(PACE) });
    loop {
        std::thread::park();
    }
}

/// A home with such an Ollama on its PATH, unless a gate would find another.
pub(crate) fn home() -> Option<Home> {
    use std::os::unix::fs::PermissionsExt as _;
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, 11434));
    if TcpStream::connect_timeout(&usual, Duration::from_millis(500)).is_ok() {
        crate::harness::mention(
            "something answers on 127.0.0.1:11434, which every gate without --upstream uses",
        );
        return None;
    }
    let home = Home::with_own_program().in_own_group();
    let program = home.path("bin/ollama");
    let tests = std::env::current_exe().unwrap();
    let only = "--exact terminal::ollama_serve --ignored";
    std::fs::write(&program, format!("#!/bin/sh\n[ \"$*\" = serve ] && exec '{}' {only}\n", tests.display()))
        .unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    Some(home)
}

pub(crate) fn chat(gate: &Gate<'_>) -> Ask {
    let body = json!({"model": "demo", "messages": [{"role": "user", "content": "x"}]});
    Ask::post("/api/chat", &body).key(&gate.first_key())
}

/// The one that the gate started, behind its guard.
#[track_caller]
pub(crate) fn ollama_of(gate: &Gate<'_>) -> Process {
    let all = gate.running.descendants();
    assert_eq!(all.len(), 2, "{all:?}");
    all[1].clone()
}

fn pid(raw: i32) -> Pid {
    Pid::from_raw(raw).unwrap()
}

#[test]
fn ctrl_c_loses_no_stream() {
    let Some(home) = home() else { return };
    let mut gate = home.serve(&[]);
    let ollama = ollama_of(&gate);
    let mut stream = chat(&gate).open(gate.address);
    assert!(stream.piece().unwrap().is_some());
    kill_process_group(pid(gate.running.pid()), Signal::INT).unwrap();
    let lines = stream.rest().ok().lines();
    assert_eq!(lines.last().unwrap()["done"], true, "{lines:?}");
    assert!(lines.len() >= TOKENS, "{lines:?}");
    assert_eq!(gate.running.ended().code(), Some(0), "{}", gate.running.err());
    assert!(!ollama.is_alive());
    let said = gate.running.err();
    assert!(!said.contains("ended by itself") && !said.contains("starting it again"), "{said}");
}

#[test]
fn nothing_is_started_again_at_the_end() {
    let Some(home) = home() else { return };
    let mut gate = home.serve(&[]);
    let ollama = ollama_of(&gate);
    let mut stream = chat(&gate).open(gate.address);
    assert!(stream.piece().unwrap().is_some());
    gate.running.signal(Signal::TERM);
    gate.running.says("that it drains", |line| line.contains("listening no more"));
    kill_process(pid(ollama.pid), Signal::KILL).unwrap();
    let answer = stream.rest();
    assert!(answer.text().contains("\"error\"") && answer.cut.is_some(), "{answer}");
    assert_eq!(gate.running.ended().code(), Some(0), "{}", gate.running.err());
    let said = gate.running.err();
    assert!(said.contains("ended by itself") && !said.contains("starting it again"), "{said}");
}

#[test]
fn a_gate_that_is_killed_leaves_no_ollama() {
    let Some(home) = home() else { return };
    let mut gate = home.serve(&[]);
    let ollama = ollama_of(&gate);
    gate.running.signal(Signal::KILL);
    gate.running.ended();
    until("the end of what it started", || (!ollama.is_alive()).then_some(()));
}
