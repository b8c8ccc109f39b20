//! A client that leaves stops the model: not only the connection to the model server, but the work behind it.

use crate::harness::{Ask, Home, Peer, until};
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;

/// Clock ticks that a process has run; a hundredth of a second each (`proc(5)`, fields 14 and 15 of `stat`).
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// The process that runs the models of the Ollama at this address: it has its environment and is called a runner.
fn runner_of(address: SocketAddr) -> Option<u32> {
    let holds = |path: String, what: &str| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.split(|byte| *byte == 0).any(|word| word == what.as_bytes())
    };
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut runners = pids.filter(|pid: &u32| {
        holds(format!("/proc/{pid}/environ"), &format!("OLLAMA_HOST={address}"))
            && (holds(format!("/proc/{pid}/cmdline"), "runner")
                || holds(format!("/proc/{pid}/cmdline"), "--model"))
    });
    runners.next()
}

#[test]
fn a_real_runner_is_quiet_at_the_next_token() {
    let Some(peer) = Peer::ollama() else { return };
    let home = Home::new();
    let gate = home.serve(&["--upstream", &peer.url()]);
    // A list that must be longer than anybody waits for keeps the model from ending by itself.
    let endless = json!({"type": "array", "items": {"type": "integer"}, "minItems": 1500});
    let messages = json!([{"role": "user", "content": "Count."}]);
    for stream in [true, false] {
        let body = json!({
            "model": peer.model(), "messages": messages, "stream": stream, "format": endless,
            "options": {"num_predict": 1_000_000, "num_ctx": 16_384},
        });
        let ask = Ask::post("/api/chat", &body).key(&gate.first_key());
        let (left, address) = (std::net::TcpStream::connect(gate.address).unwrap(), gate.address);
        ask.write_to(&left, address);
        let runner = until("the runner", || runner_of(peer.address()));
        let before = ticks(runner);
        until("the model at work", || (ticks(runner) > before + 20).then_some(()));
        drop(left);
        // A token of this model takes some milliseconds; the machine may have more to do than that.
        std::thread::sleep(Duration::from_millis(300));
        let settled = ticks(runner);
        std::thread::sleep(Duration::from_millis(700));
        let more = ticks(runner) - settled;
        assert!(more <= 2, "stream {stream}: the runner worked on for {more} of 70 ticks");
    }
}
