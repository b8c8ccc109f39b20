//! Callers that leave, and the engine's own end.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::models::{self, SLOW};
use crate::wire::{Engine, post};

/// CPU time that a process has used, in clock ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn used_in(pid: u32, time: Duration) -> u64 {
    let before = ticks(pid);
    std::thread::sleep(time);
    ticks(pid) - before
}

/// However little of the machine it gets.
fn wait_until_it_works(engine: &Engine) {
    let before = ticks(engine.pid());
    crate::texts::until(|| ticks(engine.pid()) > before + 5);
}

fn is_idle(engine: &Engine) -> bool {
    used_in(engine.pid(), Duration::from_millis(300)) == 0
}

#[test]
fn the_engine_stops_computing_when_the_caller_leaves() {
    let engine = Engine::start(&[("slow", models::model(SLOW))], &["--threads", "1"]);
    let endless = json!({"temperature": 0, "num_predict": -1});
    for stream in [true, false] {
        let body =
            json!({"model": "slow", "prompt": "hello", "raw": true, "stream": stream, "options": endless});
        let mut caller = engine.connect();
        caller.write_all(&post("/api/generate", body.to_string().as_bytes())).unwrap();
        if stream {
            caller.read_exact(&mut [0; 2000]).unwrap();
        }
        wait_until_it_works(&engine);
        let left = Instant::now();
        drop(caller);
        crate::texts::until(|| is_idle(&engine));
        assert!(left.elapsed() < Duration::from_secs(3), "stream {stream}: {:?}", left.elapsed());
    }
    // While the prompt is being read, too.
    let body = json!({"model": "slow", "prompt": "word ".repeat(4000), "raw": true, "options": endless});
    let mut caller = engine.connect();
    caller.write_all(&post("/api/generate", body.to_string().as_bytes())).unwrap();
    wait_until_it_works(&engine);
    drop(caller);
    crate::texts::until(|| is_idle(&engine));
    let body = json!({"model": "slow", "prompt": "x", "stream": false, "options": {"num_predict": 2}});
    assert_eq!(engine.ask("/api/generate", &body)["eval_count"], 2);
}

#[test]
fn sigterm_ends_it_at_once_and_cleanly() {
    let mut engine = Engine::start(&[("slow", models::model(SLOW))], &[]);
    let body = json!({"model": "slow", "prompt": "hello", "raw": true, "options": {"temperature": 0, "num_predict": -1}});
    let mut caller = engine.connect();
    caller.write_all(&post("/api/generate", body.to_string().as_bytes())).unwrap();
    caller.read_exact(&mut [0; 200]).unwrap();
    let asked = Instant::now();
    let killed = std::process::Command::new("kill").arg(engine.pid().to_string()).status().unwrap();
    assert!(killed.success());
    let status = engine.child().wait().unwrap();
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    let mut rest = Vec::new();
    drop(caller.read_to_end(&mut rest));
    assert!(!String::from_utf8_lossy(&rest).contains("\"done\":true"));
}

#[test]
fn it_does_not_outlive_its_parent() {
    let mut engine = Engine::start(&[("slow", models::model(SLOW))], &[]);
    drop(engine.child().stdin.take());
    assert_eq!(engine.child().wait().unwrap().code(), Some(0));
}
