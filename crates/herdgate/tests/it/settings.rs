//! Every setting does what it says: the same request with and without it. Where a value is read from is tested with the
//! settings themselves; here they come in by the file and by the environment in turn.

use crate::harness::{Ask, Home, testkit, until};
use gate_testkit::{Fault, Order, Setup};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const TOKEN: &str = "canary-Tr0ub4dor&3-in-the-environment";

fn home() -> Home {
    Home::new().env("AUTH_TOKEN", TOKEN)
}

fn chat(content: &str) -> Ask {
    Ask::post("/api/chat", &json!({"model": "demo", "messages": [{"role": "user", "content": content}]}))
        .key(TOKEN)
}

/// How long a connection that sends `bytes` and nothing more stays open.
fn open_for(to: SocketAddr, bytes: &[u8]) -> Duration {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(bytes).unwrap();
    let begun = Instant::now();
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ended = stream.read_to_end(&mut rest);
    begun.elapsed()
}

#[test]
fn limits_of_size() {
    let ollama = testkit(Setup::default());
    let long = "x".repeat(5000);
    let blob = format!("/api/blobs/sha256:{}", "0".repeat(64));
    for (settings, is_tight) in
        [("", false), ("[limits]\nhead = \"4KiB\"\nbody = \"4KiB\"\nupload = \"1MiB\"\n", true)]
    {
        let home = home().settings(settings);
        let manage = home.key("keeper", &["--scope", "manage"]);
        let gate = home.serve(&["--upstream", &ollama.url()]);
        let head = Ask::get("/api/tags").key(TOKEN).field("X-Long", &long).send(gate.address);
        assert_eq!(head.status, if is_tight { 431 } else { 200 }, "{head}");
        let body = chat(&long).send(gate.address);
        assert_eq!(body.status, if is_tight { 413 } else { 200 }, "{body}");
        let upload = Ask::new("POST", &blob).bytes(vec![7; (1 << 20) + 1]).key(&manage).send(gate.address);
        assert_eq!(upload.status == 413, is_tight, "{upload}");
    }
}

/// Opens a connection, sends `bytes` and says whether the gate keeps it open for a while.
fn is_kept(to: SocketAddr, bytes: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    // A connection that is closed at once may break while this is sent.
    let sent = stream.write_all(bytes);
    let read = stream.read(&mut [0; 4096]);
    let is_open = match read {
        Ok(read) => read > 0,
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    };
    (sent.is_ok() && is_open).then_some(stream)
}

#[test]
fn the_number_of_connections() {
    let ollama = testkit(Setup::default());
    ollama.order(Order::always(Fault::StallAfter { bytes: 0, pause: None }).on("/api/generate"));
    let home = home().env("HERDGATE_LIMITS__CONNECTIONS", "2").env("HERDGATE_SERVER__THREADS", "1");
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let get = b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n";
    // Two that rest; a third takes the place of the first.
    let mut first = is_kept(gate.address, get).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    let _second = is_kept(gate.address, get).unwrap();
    let third = is_kept(gate.address, get).unwrap();
    first.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(first.read(&mut [0; 1]).unwrap(), 0, "the one that rested longest made room");
    drop(third);
    // Two that are busy; a third is closed.
    let body = json!({"model": "demo", "prompt": "x"}).to_string();
    let busy = format!(
        "POST /api/generate HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let busy: Vec<_> = (0..2).map(|_| is_kept(gate.address, busy.as_bytes()).unwrap()).collect();
    until("both to be busy", || (ollama.seen_on("/api/generate").len() == 2).then_some(()));
    assert!(is_kept(gate.address, get).is_none());
    drop(busy);
    until("a place", || is_kept(gate.address, get));
    gate.running.says("why it closes connections", |line| line.contains("limits.connections is reached"));
}

#[test]
fn the_number_of_connections_of_one_address() {
    let ollama = testkit(Setup::default());
    let home = home().settings("[limits]\nper_address = 2\n");
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let get = b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n";
    let held: Vec<_> = (0..2).map(|_| is_kept(gate.address, get).unwrap()).collect();
    assert!(is_kept(gate.address, get).is_none());
    drop(held);
    until("a place", || is_kept(gate.address, get));
    gate.running.says("why it closes connections", |line| line.contains("limits.per_address"));
}

#[test]
fn how_much_is_held_and_how_slowly_it_may_come() {
    let ollama = testkit(Setup::default());
    for (settings, is_tight) in [
        ("[timeouts]\nhead = \"1s\"\n[limits]\nbody_rate = \"0B\"\n", false),
        ("[timeouts]\nhead = \"1s\"\n[limits]\nheld = \"1MiB\"\nbody_rate = \"1KiB\"\n", true),
    ] {
        let home = home().settings(settings);
        let gate = home.serve(&["--upstream", &ollama.url()]);
        let held = chat(&"x".repeat(2 << 20)).send(gate.address);
        assert_eq!(held.status, if is_tight { 503 } else { 200 }, "{held}");

        let mut slow = TcpStream::connect(gate.address).unwrap();
        slow.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let body = json!({"model": "demo", "messages": [{"role": "user", "content": "x"}], "stream": false})
            .to_string();
        let body = body.replace('x', &"x".repeat(30 - body.len() % 30));
        let head = format!(
            "POST /api/chat HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        slow.write_all(head.as_bytes()).unwrap();
        let mut answer = vec![0; 12];
        let mut status = 0;
        // A few bytes each 0.3 s: longer in all than two stretches of a second.
        for piece in body.as_bytes().chunks(body.len() / 15) {
            slow.write_all(piece).unwrap();
            if slow.read_exact(&mut answer).is_ok() {
                status = String::from_utf8_lossy(&answer[9..]).parse().unwrap();
                break;
            }
        }
        assert_eq!(status, if is_tight { 408 } else { 200 });
    }
}

#[test]
fn the_number_of_threads() {
    let ollama = testkit(Setup::default());
    for threads in ["1", "3"] {
        let home = home().env("HERDGATE_SERVER__THREADS", threads);
        let gate = home.serve(&["--upstream", &ollama.url()]);
        // A thread takes its name once it runs, which may be after the first answer.
        let cores = || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", gate.running.pid())).unwrap();
            let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
            names.filter(|name| name.starts_with("core-")).count().to_string()
        };
        until("a thread for each core", || (cores() == threads).then_some(()));
    }
}

#[test]
fn limits_of_time() {
    let ollama = testkit(Setup::default());
    ollama.order(Order::always(Fault::StallAfter { bytes: 0, pause: None }).on("/api/generate"));
    let times = "[timeouts]\nhead = \"1s\"\nkeep_alive = \"2s\"\nidle = \"3s\"\n";
    let home = home().settings(times);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let address = gate.address;
    let resting = b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n";
    let silent = Ask::post("/api/generate", &json!({"model": "demo", "prompt": "x"})).key(TOKEN);
    std::thread::scope(|scope| {
        let head = scope.spawn(|| open_for(address, b"GET / HT"));
        let rest = scope.spawn(|| open_for(address, resting));
        let begun = Instant::now();
        assert_eq!(silent.send(address).status, 504);
        let idle = begun.elapsed();
        let (head, rest) = (head.join().unwrap(), rest.join().unwrap());
        // Never early; late by the coarse clock and a busy machine.
        for (what, took, limit) in [("head", head, 1), ("keep_alive", rest, 2), ("idle", idle, 3)] {
            assert!(
                took >= Duration::from_secs(limit) && took < Duration::from_secs(limit + 8),
                "{what}: {took:?}"
            );
        }
    });
}

#[test]
fn what_is_logged_and_how() {
    let ollama = testkit(Setup::default());
    for (level, format) in [("info", "json"), ("info", "text"), ("warn", "json")] {
        let home = home().env("HERDGATE_LOG__LEVEL", level).env("HERDGATE_LOG__FORMAT", format);
        let gate = home.serve(&["--upstream", &ollama.url()]);
        let id = "a-name-of-my-own.7";
        Ask::get("/api/tags").key(TOKEN).field("X-Request-Id", id).send(gate.address).ok();
        let err = gate.end().err();
        let record = err.lines().find(|line| line.contains(id));
        assert_eq!(record.is_some(), level == "info", "{err}");
        let is_json = record.is_some_and(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
        assert_eq!(is_json, level == "info" && format == "json", "{err}");
    }
}

#[test]
fn how_often_upstreams_are_looked_at() {
    let ollama = testkit(Setup::default());
    let home = home().env("HERDGATE_FLEET__PROBE_INTERVAL", "1s");
    let _gate = home.serve(&["--upstream", &ollama.url()]);
    let looks = || ollama.seen_on("/api/version").len();
    until("four looks", || (looks() >= 4).then_some(()));
}

#[test]
fn metrics_have_a_listener_of_their_own() {
    let ollama = testkit(Setup::default());
    let home = home().env("HERDGATE_METRICS__ADDRESS", "127.0.0.1:0");
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let line = gate.running.says("where metrics are", |line| line.starts_with("  metrics at "));
    let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()?.parse().ok()).unwrap();
    Ask::get("/api/tags").key(TOKEN).send(gate.address).ok();
    let counted = "herdgate_requests_total{route=\"/api/tags\",outcome=\"done\",status=\"2xx\"} 1";
    // A request counts when it has ended, which is just after its answer was seen.
    until("a count", || Ask::get("/metrics").send(address).ok().text().contains(counted).then_some(()));
    assert_eq!(Ask::get("/api/tags").key(TOKEN).send(address).status, 404);
    assert_eq!(
        Ask::get("/metrics").key(TOKEN).send(gate.address).status,
        403,
        "no key from the environment manages"
    );
}

#[test]
fn how_many_run_and_how_many_wait() {
    let busy = || {
        let ollama = testkit(Setup::default());
        ollama.order(Order::once(Fault::StallAfter { bytes: 0, pause: None }).on("/api/generate"));
        ollama
    };
    let first = || Ask::post("/api/generate", &json!({"model": "demo", "prompt": "x"})).key(TOKEN);
    for (settings, status) in [
        ("", 200),
        ("[fleet]\nslots = 1\n[queue]\nmax_wait = \"1s\"\n", 503),
        ("[fleet]\nslots = 1\n[queue]\ndepth = 0\n", 503),
    ] {
        let ollama = busy();
        let home = home().settings(settings);
        let gate = home.serve(&["--upstream", &ollama.url()]);
        std::thread::scope(|scope| {
            let held = scope.spawn(|| first().send(gate.address));
            until("the first request", || (ollama.seen_on("/api/generate").len() == 1).then_some(()));
            let begun = Instant::now();
            let answer = chat("hi").send(gate.address);
            let took = begun.elapsed();
            assert_eq!(answer.status, status, "{settings}: {answer}");
            assert_eq!(answer.field("retry-after").is_some(), status == 503);
            if settings.contains("max_wait") {
                assert!(
                    answer.text().contains("queue_timeout") && took >= Duration::from_secs(1),
                    "{answer}"
                );
            } else if settings.contains("depth") {
                assert!(answer.text().contains("queue_full"), "{answer}");
            }
            drop(ollama);
            held.join().unwrap();
        });
    }
}

#[test]
fn who_waits_is_called_on_whatever_core_a_slot_comes_back() {
    let ollama = testkit(Setup::default());
    let home = home()
        .env("HERDGATE_SERVER__THREADS", "4")
        .env("HERDGATE_FLEET__SLOTS", "1")
        .env("HERDGATE_QUEUE__MAX_WAIT", "1m");
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let to = gate.address;
    let told: Vec<(u16, Duration)> = std::thread::scope(|scope| {
        let ask = || {
            let begun = Instant::now();
            (chat("hi").send(to).status, begun.elapsed())
        };
        let running: Vec<_> = (0..60).map(|_| scope.spawn(ask)).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    // Who is not called waits until its time is over.
    assert!(told.iter().all(|(status, took)| *status == 200 && *took < Duration::from_secs(30)), "{told:?}");
}
