//! The end of a gate under load, which loses nobody, and what the service manager has to do with it.

use crate::harness::load::{Load, TOKEN, chat, home, slow_ollama};
use crate::harness::{Ask, PATIENCE, testkit, until};
use gate_testkit::{Fault, Order, Setup};
use rustix::process::Signal;
use serde_json::json;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

#[test]
fn everybody_who_was_accepted_is_answered_at_the_end() {
    let ollama = slow_ollama();
    let home = home();
    let mut gate = home.serve(&["--upstream", &ollama.url()]);
    let load = Load::start(gate.address, 40);
    load.goes_on(80);
    let before = load.whole();
    gate.running.signal(Signal::TERM);
    let whole = load.end();
    assert!(whole > before, "nothing ran on");
    let status = gate.running.ended();
    assert_eq!(status.code(), Some(0), "{}", gate.running.err());
    assert_eq!(ollama.seen_on("/api/chat").len(), whole);
}

#[test]
fn what_outlives_the_grace_is_told_and_cut() {
    let ollama = testkit(Setup::default());
    ollama.order(Order::always(Fault::StallAfter { bytes: 600, pause: None }).on("/api/chat"));
    ollama.order(Order::always(Fault::StallAfter { bytes: 0, pause: None }).on("/api/generate"));
    let home = home().settings("[server]\ngrace = \"1s\"\n");
    let mut gate = home.serve(&["--upstream", &ollama.url()]);
    let begun = chat().open(gate.address);
    let waits = {
        let ask = Ask::post("/api/generate", &json!({"model": "demo", "prompt": "x"})).key(TOKEN);
        let to = gate.address;
        std::thread::spawn(move || ask.send(to))
    };
    until("both to be under way", || (ollama.seen_on("/api/generate").len() == 1).then_some(()));
    let signalled = Instant::now();
    gate.running.signal(Signal::TERM);
    let refused = waits.join().unwrap();
    assert!(signalled.elapsed() >= Duration::from_secs(1), "no grace: {:?}", signalled.elapsed());
    assert_eq!((refused.status, refused.field("connection")), (503, Some("close")), "{refused}");
    let cut = begun.rest();
    assert!(cut.cut.is_some(), "a stream that was cut looks whole: {cut}");
    let last = cut.text().lines().last().map(str::to_owned).unwrap_or_default();
    assert!(last.contains("\"error\""), "{cut}");
    assert_eq!(gate.running.ended().code(), Some(0), "{}", gate.running.err());
}

#[test]
fn a_second_signal_ends_it_at_once_and_says_so() {
    let ollama = testkit(Setup::default());
    ollama.order(Order::always(Fault::StallAfter { bytes: 600, pause: None }).on("/api/chat"));
    let home = home();
    let mut gate = home.serve(&["--upstream", &ollama.url()]);
    let begun = chat().open(gate.address);
    gate.running.signal(Signal::INT);
    let line = gate.running.says("that it drains", |line| line.contains("listening no more"));
    assert!(line.contains("Ctrl-C again ends it at once"), "{line}");
    let again = Instant::now();
    gate.running.signal(Signal::INT);
    let cut = begun.rest();
    let last = cut.text().lines().last().map(str::to_owned).unwrap_or_default();
    assert!(cut.cut.is_some() && last.contains("\"shutting_down\""), "{cut}");
    assert_eq!(gate.running.ended().code(), Some(0), "{}", gate.running.err());
    assert!(again.elapsed() < Duration::from_secs(10), "{:?}", again.elapsed());
}

#[test]
fn it_is_not_ready_while_it_ends() {
    let ollama = testkit(Setup::default());
    ollama.order(
        Order::always(Fault::StallAfter { bytes: 600, pause: Some(Duration::from_secs(2)) }).on("/api/chat"),
    );
    let home = home();
    let mut gate = home.serve(&["--upstream", &ollama.url()]);
    let ready = |wire: &mut BufReader<TcpStream>| {
        wire.get_mut().write_all(b"GET /readyz HTTP/1.1\r\nHost: g\r\n\r\n").unwrap();
        let mut answer = String::new();
        while !answer.ends_with("ready") {
            assert!(!wire.fill_buf().unwrap().is_empty(), "{answer}");
            let came = wire.fill_buf().unwrap().to_vec();
            wire.consume(came.len());
            answer.push_str(&String::from_utf8(came).unwrap());
        }
        answer
    };
    let mut kept = BufReader::new(TcpStream::connect(gate.address).unwrap());
    kept.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(ready(&mut kept).starts_with("HTTP/1.1 200 "));
    let running = chat().open(gate.address);
    gate.running.signal(Signal::TERM);
    gate.running.says("that it drains", |line| line.contains("listening no more"));
    // Each core hears of it a moment later; until then the connection is kept.
    let answer = until("it to say so", || Some(ready(&mut kept)).filter(|answer| answer.contains(" 503 ")));
    assert!(answer.contains("Connection: close"), "{answer}");
    running.rest().ok();
    assert_eq!(gate.running.ended().code(), Some(0), "{}", gate.running.err());
}

#[test]
fn while_it_ends_others_are_refused_and_another_gate_can_listen_there() {
    let ollama = testkit(Setup::default());
    ollama.order(Order::always(Fault::StallAfter { bytes: 600, pause: None }).on("/api/chat"));
    let metrics = "[metrics]\naddress = \"127.0.0.1:0\"\n";
    let first = home().settings(metrics);
    let mut gate = first.serve(&["--upstream", &ollama.url()]);
    let running = chat().open(gate.address);
    gate.running.signal(Signal::TERM);
    let is_refused = || TcpStream::connect(gate.address).err().map(|error| error.kind());
    let how = until("the listener to be closed", is_refused);
    assert_eq!(how, ErrorKind::ConnectionRefused);
    let second = home();
    let address = gate.address.to_string();
    let next = second.begin_at(&address, &["--upstream", &ollama.url()]);
    assert_eq!(next.address, gate.address);
    assert_eq!(Ask::get("/api/tags").key(TOKEN).send(next.address).status, 200);
    // All of it while the request of the first one runs.
    gate.running.signal(Signal::TERM);
    let cut = running.rest();
    let last = cut.text().lines().last().map(str::to_owned).unwrap_or_default();
    assert!(cut.cut.is_some() && last.contains("\"shutting_down\""), "{cut}");
    assert_eq!(gate.running.ended().code(), Some(0), "{}", gate.running.err());
    next.end();
}

/// Waits for the next message to the service manager.
fn told(manager: &UnixDatagram) -> String {
    let mut message = [0; 4096];
    let length = manager.recv(&mut message).unwrap();
    String::from_utf8(message[..length].to_vec()).unwrap()
}

#[test]
fn the_service_manager_is_told() {
    let ollama = testkit(Setup::default());
    let home = home();
    let socket = home.path("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let home = home.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "1000000");
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let mut alive = 0;
    let mut next = |wanted: &str| loop {
        let message = told(&manager);
        if message == "WATCHDOG=1\n" {
            alive += 1;
        } else {
            assert!(message.starts_with(wanted), "{wanted}: {message}");
            return (message, alive);
        }
    };
    next("READY=1\n");
    gate.running.signal(Signal::HUP);
    let (message, _) = next("RELOADING=1\n");
    assert!(message.contains("\nMONOTONIC_USEC="), "{message}");
    next("READY=1\n");
    std::fs::write(home.path("herdgate.toml"), "colour = true\n").unwrap();
    gate.running.signal(Signal::HUP);
    next("RELOADING=1\n");
    let (message, _) = next("READY=1\n");
    assert!(message.contains("STATUS=serving with old settings"), "{message}");
    until("signs of life", || (told(&manager) == "WATCHDOG=1\n").then_some(()));
    gate.running.signal(Signal::TERM);
    let (message, _) = next("STOPPING=1\n");
    assert!(message.contains("\nEXTEND_TIMEOUT_USEC="), "{message}");
    gate.end();
}

#[test]
fn a_socket_that_is_handed_over_outlives_the_gate() {
    let ollama = slow_ollama();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let home = home().settings("[listen]\naddress = \"127.0.0.1:1\"\n");
    let begin = || home.serve_on(&listener, &["--upstream", &ollama.url()]);
    let mut first = begin();
    let load = Load::start(address, 8);
    load.goes_on(16);
    first.signal(Signal::TERM);
    assert_eq!(first.ended().code(), Some(0), "{}", first.err());
    // Who comes now waits for the next gate.
    let mut second = begin();
    load.goes_on(16);
    load.stop();
    second.signal(Signal::TERM);
    assert_eq!(second.ended().code(), Some(0), "{}", second.err());
}
