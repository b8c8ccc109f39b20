//! `herdgate connect`: a gate elsewhere as if it were the Ollama of this machine. What a program sees is what the gate says;
//! what a page of the web sees is a closed door.

mod programs;

use crate::harness::{Answer, Ask, Gate, Home, Running, now, testkit, until};
use gate_testkit::{Fault, Order, Setup};
use rustix::process::Signal;
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Options of a key that may do all that a laptop's Ollama does.
const ALL: &[&str] = &["--scope", "infer,embed,read,manage"];
const TOKEN: &str = "canary-Tr0ub4dor&3-in-the-environment";

/// A `herdgate connect` that listens.
pub(crate) struct Connected {
    pub(crate) address: SocketAddr,
    running: Running,
}

#[track_caller]
pub(crate) fn connect(home: &Home, url: &str, key: &str, args: &[&str]) -> Connected {
    let listen: &[&str] =
        if args.contains(&"--insecure-listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
    let mut command = home.command(&[&["connect", url], listen, args].concat());
    let running = Running::start(command.env("HERDGATE_KEY", key));
    let line = running.says("where it listens", |line| line.starts_with("listening on "));
    let address = line.split(['/', ' ']).find_map(|word| word.parse().ok());
    Connected { address: address.unwrap_or_else(|| panic!("no address in {line:?}")), running }
}

fn chat(stream: bool) -> Ask {
    let messages = json!([{"role": "user", "content": "hi"}]);
    Ask::post("/api/chat", &json!({"model": "demo", "messages": messages, "stream": stream}))
}

/// What must be the same for a program, whichever way it asks.
fn essence(answer: &Answer) -> (u16, Vec<(String, String)>, String, bool) {
    let is_of_one = |name: &str| matches!(name, "date" | "x-request-id" | "connection");
    let mut fields: Vec<_> = answer.fields.iter().filter(|(name, _)| !is_of_one(name)).cloned().collect();
    fields.sort();
    // Anthropic's errors name the request.
    let id = answer.field("x-request-id").unwrap_or("no id");
    (answer.status, fields, answer.text().replace(id, "…"), answer.cut.is_some())
}

#[test]
fn every_answer_is_the_gates_own() {
    let ollama = testkit(Setup::default());
    let home = Home::new().env("AUTH_TOKEN", TOKEN);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let here = connect(&home, &gate.url(), TOKEN, &[]);
    let unknown = json!({"model": "nosuch", "messages": [], "stream": false});
    for ask in [
        Ask::get("/"),
        Ask::new("HEAD", "/"),
        Ask::get("/api/version"),
        Ask::get("/api/tags?x=1"),
        Ask::new("HEAD", "/api/tags"),
        chat(true),
        chat(false),
        Ask::post("/v1/chat/completions", &json!({"model": "demo", "messages": [], "stream": true})),
        Ask::post("/v1/chat/completions", &unknown),
        Ask::post("/v1/messages", &unknown),
        Ask::post("/api/pull", &json!({"model": "qwen3"})),
        Ask::post("/api/chat", &json!({"model": 1})),
        Ask::get("/api/nothing"),
        Ask::new("PATCH", "/api/tags"),
        Ask::post("/api/chat", &json!({"model": "demo", "prompt": "x".repeat(3 << 20)})),
    ] {
        let (direct, through) = (ask.clone().key(TOKEN).send(gate.address), ask.send(here.address));
        assert_eq!(essence(&through), essence(&direct), "{ask:.100?}");
    }
    // Whatever a program takes for its key, and wherever it puts it.
    for (name, value) in
        [("Authorization", "Bearer ollama"), ("X-Api-Key", "sk-x"), ("Authorization", "Basic dTpw")]
    {
        chat(false).field(name, value).send(here.address).ok();
    }
    ollama.order(Order::always(Fault::GivesUp { tokens: 4 }));
    let (direct, through) = (chat(true).key(TOKEN).send(gate.address), chat(true).send(here.address));
    assert_eq!(essence(&through), essence(&direct));
    assert!(through.cut.is_some() && through.text().contains("the model server broke off"), "{through}");
    assert!(!here.running.err().contains(TOKEN));

    // What HTTP/1.0 has no length for is whole where the connection ends; so it must end otherwise.
    let ask = "{\"model\":\"demo\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
    let head = format!("POST /api/chat HTTP/1.0\r\nHost: {}\r\nContent-Length: {}", here.address, ask.len());
    let mut program = TcpStream::connect(here.address).unwrap();
    program.write_all(format!("{head}\r\n\r\n{ask}").as_bytes()).unwrap();
    let end = program.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
    assert_eq!(end.err(), Some(std::io::ErrorKind::ConnectionReset));
}

#[test]
fn a_stream_comes_as_it_is_made_and_a_hang_up_frees_the_model() {
    let setup = Setup::default().with_tokens(100_000).with_pace(Duration::from_millis(20));
    let ollama = testkit(setup);
    let home = Home::new().env("AUTH_TOKEN", TOKEN).settings("[fleet]\nslots = 1\n");
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let here = connect(&home, &gate.url(), TOKEN, &[]);
    let mut stream = chat(true).open(here.address);
    for _ in 0..5 {
        assert!(stream.piece().unwrap().is_some_and(|piece| piece.ends_with(b"\n")));
    }
    drop(stream);
    now(ollama.until_left("/api/chat")).unwrap();

    // And before the first byte.
    ollama.order(Order::always(Fault::StallAfter { bytes: 0, pause: None }).on("/api/generate"));
    let program = TcpStream::connect(here.address).unwrap();
    Ask::post("/api/generate", &json!({"model": "demo", "prompt": "x"})).write_to(&program, here.address);
    until("the request", || (ollama.seen_on("/api/generate").len() == 1).then_some(()));
    drop(program);
    now(ollama.until_left("/api/generate")).unwrap();
    // With one slot, the next could not run if either were still there.
    assert_eq!(chat(true).open(here.address).status, 200);
}

/// Bytes that a process has had in memory at most (`proc(5)`, `VmHWM`).
fn most_memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn who_does_not_read_holds_up_nobody_and_nothing_is_gathered() {
    let ollama = testkit(Setup::default().with_tokens(100_000));
    let home = Home::new().env("AUTH_TOKEN", TOKEN);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let here = connect(&home, &gate.url(), TOKEN, &[]);
    let before = most_memory(here.running.pid());
    let slow = chat(true).open(here.address);
    let quick = chat(true).send(here.address).ok();
    assert!(quick.text().len() > 8 << 20, "{} bytes", quick.text().len());
    let gathered = most_memory(here.running.pid()) - before;
    // A window of HTTP/2 is 2 MB for each of the two streams, and the program itself counts; what was not read is 12 MB.
    assert!(gathered < 7 << 20, "{gathered} bytes");
    assert_eq!(slow.rest().ok().text(), quick.text());
}

#[test]
fn uploads_pass_as_they_come_and_a_refusal_comes_before_their_end() {
    let ollama = testkit(Setup::default());
    let home = Home::new().env("AUTH_TOKEN", TOKEN);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let here = connect(&home, &gate.url(), TOKEN, &[]);
    let begin = |fields: &str| {
        let mut program = TcpStream::connect(here.address).unwrap();
        program.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let head = format!("POST /api/chat HTTP/1.1\r\nHost: {}\r\n{fields}\r\n\r\n", here.address);
        program.write_all(head.as_bytes()).unwrap();
        program
    };
    let told = |mut program: TcpStream| {
        let mut told = [0; 12];
        program.read_exact(&mut told).unwrap();
        String::from_utf8_lossy(&told).into_owned()
    };
    assert_eq!(told(begin("Content-Length: 100000000")), "HTTP/1.1 413");

    let text = json!({"model": "demo", "messages": [{"role": "user", "content": "x".repeat(300_000)}]});
    let text = text.to_string();
    let mut program = begin("Transfer-Encoding: chunked\r\nExpect: 100-continue");
    let mut go = [0; 25];
    program.read_exact(&mut go).unwrap();
    assert_eq!(&go, b"HTTP/1.1 100 Continue\r\n\r\n");
    for piece in text.as_bytes().chunks(70_000) {
        program.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).unwrap();
        program.write_all(&[piece, b"\r\n"].concat()).unwrap();
    }
    program.write_all(b"0\r\n\r\n").unwrap();
    assert_eq!(told(program), "HTTP/1.1 200");
    assert_eq!(
        ollama.seen_on("/api/chat")[0].json()["messages"][0]["content"].as_str().unwrap().len(),
        300_000
    );
}

/// Starts a gate at an address that one had before.
fn serve_at(home: &Home, address: SocketAddr, upstream: &str) -> Running {
    let listen = address.to_string();
    let running = Running::start(&mut home.command(&["serve", "--listen", &listen, "--upstream", upstream]));
    running.says("what its upstreams are", |line| line.starts_with("  upstream "));
    running
}

#[test]
fn a_gate_that_is_started_again_is_found_again() {
    let ollama = testkit(Setup::default());
    let home = Home::new().env("AUTH_TOKEN", TOKEN);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let address = gate.address;
    let here = connect(&home, &gate.url(), TOKEN, &[]);
    chat(true).send(here.address).ok();
    gate.end();
    let second = serve_at(&home, address, &ollama.url());
    chat(true).send(here.address).ok();
    // Killed, it says no good-bye.
    second.signal(Signal::KILL);
    drop(second);
    let mut third = serve_at(&home, address, &ollama.url());
    chat(true).send(here.address).ok();
    third.signal(Signal::TERM);
    third.ended();

    // One that stays away is told of, once, and so is its return.
    for _ in 0..3 {
        let answer = chat(true).send(here.address);
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (502, &json!("upstream_unreachable")),
            "{answer}"
        );
    }
    let _fourth = serve_at(&home, address, &ollama.url());
    chat(true).send(here.address).ok();
    here.running.says("that it is back", |line| line.contains("answers again"));
    let said = here.running.err();
    assert_eq!(said.matches("cannot be reached").count(), 1, "{said}");
}

#[test]
fn a_restart_under_load_fails_nobody() {
    let ollama = testkit(Setup::default());
    let home = Home::new().env("AUTH_TOKEN", TOKEN);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let address = gate.address;
    let here = connect(&home, &gate.url(), TOKEN, &[]);
    let over = AtomicBool::new(false);
    let done = std::thread::scope(|scope| {
        let programs: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut done = 0;
                    while !over.load(Ordering::Relaxed) {
                        let answer = chat(true).send(here.address);
                        assert!(answer.status == 200 && answer.cut.is_none(), "after {done}: {answer}");
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        let seen = || ollama.seen_on("/api/chat").len();
        until("requests before", || (seen() > 100).then_some(()));
        gate.end();
        let between = seen();
        let second = serve_at(&home, address, &ollama.url());
        until("requests after", || (seen() > between + 100).then_some(()));
        over.store(true, Ordering::Relaxed);
        let done: usize = programs.into_iter().map(|program| program.join().unwrap()).sum();
        drop(second);
        done
    });
    assert_eq!(ollama.seen_on("/api/chat").len(), done, "each was sent once");
}

#[test]
fn pages_of_the_web_are_strangers_by_whatever_name_they_come() {
    let ollama = testkit(Setup::default());
    let home = Home::new().env("AUTH_TOKEN", TOKEN);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let here = connect(&home, &gate.url(), TOKEN, &[]);
    let port = here.address.port();
    until("the look at the start", || here.running.err().contains("takes the key").then_some(()));
    let before = gate.running.err().lines().count();
    // The page's own name was made to mean this machine; to its browser that is one origin.
    let rebound = format!("rebound.example:{port}");
    for (name, value) in [
        ("Host", rebound.as_str()),
        ("Host", "localhost"),
        ("Host", "localhost:1"),
        ("Origin", "https://page.example"),
        ("Origin", "null"),
        ("Origin", &format!("http://{rebound}")),
        ("Sec-Fetch-Site", "cross-site"),
    ] {
        for ask in [chat(false), Ask::get("/api/tags"), Ask::get("/"), Ask::new("OPTIONS", "/api/chat")] {
            let answer =
                ask.field("Access-Control-Request-Method", "POST").field(name, value).send(here.address);
            assert_eq!(answer.status, 403, "{name}: {value}: {answer}");
            assert_eq!(answer.json()["code"], "origin_not_allowed", "{answer}");
            assert_eq!(answer.field("access-control-allow-origin"), None, "{answer}");
        }
    }
    assert!(ollama.seen_on("/api/chat").is_empty());
    assert_eq!(gate.running.err().lines().count(), before, "the gate hears nothing of them");
    let said = here.running.err();
    assert_eq!(said.matches("was refused").count(), 2, "once for each kind: {said}");

    // A page that a program of this machine serves may, as with Ollama.
    let page = "http://localhost:3000";
    let asked =
        Ask::new("OPTIONS", "/api/chat").field("Origin", page).field("Access-Control-Request-Method", "POST");
    let answer = asked.field("Access-Control-Request-Headers", "content-type").open(here.address);
    let allowed = ("access-control-allow-headers".to_owned(), "content-type".to_owned());
    assert!(answer.status == 204 && answer.fields.contains(&allowed), "{answer:?}");
    let answer = chat(true).field("Origin", page).send(here.address).ok();
    assert_eq!(answer.field("access-control-allow-origin"), Some(page));
}

#[test]
fn a_gate_with_an_authority_of_its_own() {
    let ollama = testkit(Setup::default());
    let home = Home::new().env("AUTH_TOKEN", TOKEN).settings("[tls]\nself_signed = true\n");
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let ca = home.data("tls-ca.pem");
    let url = |name: &str| format!("https://{name}:{}", gate.address.port());
    for name in ["localhost", "127.0.0.1"] {
        let here = connect(&home, &url(name), TOKEN, &["--ca", ca.to_str().unwrap()]);
        here.running.says("that the gate takes the key", |line| line.contains("takes the key"));
        assert_eq!(chat(true).send(here.address).ok().lines().last().unwrap()["done"], true);
    }
    // Where nobody vouches for it, no key is shown, and it is said once what to do.
    let pair = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    std::fs::write(home.path("other.pem"), pair.cert.pem()).unwrap();
    for (args, hint) in
        [(&[][..], "say --ca tls-ca.pem"), (&["--ca", "other.pem"], "take the file from the gate anew")]
    {
        let here = connect(&home, &url("localhost"), TOKEN, args);
        for _ in 0..3 {
            let answer = chat(true).send(here.address);
            assert!(answer.status == 502 && answer.text().contains("certificate"), "{answer}");
        }
        here.running.says("the cure", |line| line.starts_with("hint: ") && line.contains(hint));
        assert_eq!(here.running.err().matches("is not to be trusted").count(), 1, "{}", here.running.err());
    }
    let plain = connect(&home, &gate.url(), TOKEN, &[]);
    let answer = chat(true).send(plain.address);
    assert!(answer.status == 403 && answer.text().contains("write https:// in the address"), "{answer}");
    plain.running.says("the cure", |line| line.contains("is an https:// URL"));
}

#[test]
fn a_gate_that_refuses_is_told_on_the_terminal_once() {
    let ollama = testkit(Setup::default());
    let home = Home::new().env("AUTH_TOKEN", TOKEN);
    let gate: Gate<'_> = home.serve(&["--upstream", &ollama.url()]);
    let wrong = Home::new().key("a", &[]);
    let here = connect(&home, &gate.url(), &wrong, &[]);
    here.running.says("that the key is bad", |line| line.contains("refuses the key (401"));
    for _ in 0..3 {
        let (direct, through) = (chat(true).key(&wrong).send(gate.address), chat(true).send(here.address));
        assert_eq!(essence(&through), essence(&direct));
    }
    assert_eq!(here.running.err().matches("refuses the key").count(), 1, "{}", here.running.err());
    assert!(here.running.err().contains("hint: whoever runs the gate"), "{}", here.running.err());

    let here = connect(&home, &gate.url(), TOKEN, &[]);
    for _ in 0..3 {
        let pull = Ask::post("/api/pull", &json!({"model": "qwen3"})).send(here.address);
        assert_eq!(pull.json()["code"], "missing_scope", "{pull}");
    }
    here.running.says("what was refused", |line| line.contains("refuses POST /api/pull (403)"));
    assert_eq!(here.running.err().matches("/api/pull").count(), 1, "{}", here.running.err());
    assert!(!here.running.err().contains(TOKEN) && !here.running.err().contains(&wrong));
}

#[test]
fn what_is_wrong_with_the_arguments_is_said_with_a_cure() {
    let home = Home::new().env("HERDGATE_KEY", "sk-hg-canary");
    let key = home.path("key");
    std::fs::write(&key, "sk-hg-canary").unwrap();
    for (args, why, hint) in [
        (&["gate:7860"][..], "neither http:// nor https://", "write it like"),
        (&["http://gate", "--listen", "0.0.0.0:0"], "can be reached by others", "--insecure-listen"),
        (&["http://gate", "--key-file", "key"], "others may read it", "chmod 600"),
        (&["http://gate", "--ca", "key"], "--ca is for https://", "write it like"),
        (&["https://gate", "--ca", "key"], "holds no certificate", "tls-ca.pem"),
    ] {
        let ended = home.run(&[&["connect"], args].concat());
        assert_eq!(ended.code, 64, "{}", ended.err);
        assert!(
            ended.err.contains(why) && ended.err.contains("\nhint: ") && ended.err.contains(hint),
            "{}",
            ended.err
        );
        assert!(!ended.err.contains("canary"), "{}", ended.err);
    }
    let ended = Home::new().run(&["connect", "http://gate"]);
    assert!(ended.code == 64 && ended.err.contains("there is no key"), "{}", ended.err);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _taken = std::net::TcpListener::bind(taken).unwrap();
    let ended = home.run(&["connect", "http://gate", "--listen", &taken.to_string()]);
    assert!(ended.code == 1 && ended.err.contains("another program has this port"), "{}", ended.err);
}

#[test]
fn a_listener_for_others_is_insisted_on_and_warned_of() {
    let ollama = testkit(Setup::default());
    let home = Home::new().env("AUTH_TOKEN", TOKEN);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let mut here = connect(
        &home,
        &gate.url(),
        TOKEN,
        &["--insecure-listen", "0.0.0.0:0", "--name", "host.docker.internal"],
    );
    here.running.says("what that means", |line| line.contains("everybody who reaches this address"));
    let to = SocketAddr::from(([127, 0, 0, 1], here.address.port()));
    for (host, status) in [("host.docker.internal:8080", 200), ("192.0.2.1:1", 200), ("rebound.example", 403)]
    {
        assert_eq!(chat(false).field("Host", host).send(to).status, status, "{host}");
    }
    here.running.signal(Signal::TERM);
    assert!(here.running.ended().success());
    // A name is nobody's address: what it means is known when it is asked for.
    let away = connect(&home, "http://nosuch.invalid", TOKEN, &[]);
    away.running.says("that the key is in clear", |line| line.contains("cross the network in clear"));
    away.running.says("that there is no such name", |line| line.contains("cannot be looked up"));
}
