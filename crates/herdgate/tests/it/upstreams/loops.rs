//! Upstreams that are the gate itself, or lead back to it: found at the first look, refused, and harmless until then. Those that
//! lead back by way of another gate are told of and stay in use. And another gate as an upstream, which is none of that.

use crate::harness::load::{TOKEN, chat};
use crate::harness::{Ask, Gate, Home, Nginx, testkit, until};
use gate_testkit::Setup;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

/// An address that is free, for who must be named before it listens.
fn free() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn home(token: &str) -> Home {
    let home = Home::new().env("AUTH_TOKEN", token);
    std::fs::write(home.path("token"), format!("{TOKEN}\n")).unwrap();
    home
}

/// A table for an upstream that wants this home's token.
fn table(home: &Home, name: &str, url: &str) -> String {
    format!(
        "[[upstream]]\nname = \"{name}\"\nurl = \"{url}\"\ntoken_file = \"{}\"\n",
        home.path("token").display()
    )
}

const SPEEDY: &str = "fleet.probe_interval = \"1s\"\n";

const REFUSED: &str = "is refused: it is this gate itself";

fn is_refused(gate: &Gate<'_>, name: &str) {
    let told = format!("{name} is refused: it is this gate itself, or a gate or proxy that leads back to it");
    gate.running.says("that it leads back", |line| line.contains(&told));
}

#[test]
fn a_proxy_that_leads_back_is_refused_with_and_without_a_key() {
    let at = free();
    for has_key in [true, false] {
        let home = home(TOKEN);
        let Some(nginx) = Nginx::before(&home, &format!("http://{at}"), false, "") else { return };
        let url = nginx.url();
        let text = if has_key { table(&home, "front", &url) } else { format!("upstreams = [\"{url}\"]\n") };
        let home = home.settings(&format!("{SPEEDY}{text}"));
        let gate = home.serve(&["--listen", &at.to_string()]);
        let name = if has_key { "front" } else { &url };
        is_refused(&gate, name);
        let line =
            gate.running.says("what it found", |line| line.starts_with(&format!("  upstream      {name} ")));
        assert!(line.contains("refused: it is this gate itself"), "{line}");
        for ask in [chat(), Ask::get("/api/tags").key(TOKEN), Ask::get("/api/version")] {
            let answer = ask.send(at);
            assert!(answer.status == 503 && answer.text().contains("leads back"), "{answer}");
            assert!(answer.field("x-request-id").is_some());
        }
        assert_eq!(Ask::get("/readyz").send(at).status, 503);
        gate.end();
    }
}

#[test]
fn two_gates_that_lead_to_each_other_serve_what_is_behind_them() {
    let (first, second) =
        (testkit(Setup::default().with_models(&["one"])), testkit(Setup::default().with_models(&["two"])));
    let (a, b) = (free(), free());
    let (home_a, home_b) = (home(TOKEN), home(TOKEN));
    let settings = |home: &Home, name: &str, other: SocketAddr, own: &str| {
        format!(
            "{SPEEDY}{}[[upstream]]\nurl = \"{own}\"\nname = \"own\"\n",
            table(home, name, &format!("http://{other}"))
        )
    };
    let (text_a, text_b) =
        (settings(&home_a, "b", b, &first.url()), settings(&home_b, "a", a, &second.url()));
    let (home_a, home_b) = (home_a.settings(&text_a), home_b.settings(&text_b));
    let gate_a = home_a.serve(&["--listen", &a.to_string()]);
    let gate_b = home_b.serve(&["--listen", &b.to_string()]);
    // What a gate passes on anybody behind it may bring back, so that is no proof: both are told of it, and both stay in use.
    for (gate, other) in [(&gate_a, "b"), (&gate_b, "a")] {
        let told = format!("{other} may lead back to this gate");
        gate.running.says("that it may lead back", |line| line.contains(&told));
    }
    let ask = |at: SocketAddr, model: &str| {
        let body = serde_json::json!({"model": model, "prompt": "x", "stream": false});
        Ask::post("/api/generate", &body).key(TOKEN).send(at)
    };
    for _ in 0..10 {
        for (at, model) in [(a, "one"), (b, "two"), (a, "two"), (b, "one")] {
            assert_eq!(ask(at, model).status, 200, "{model}");
        }
        // Known to nobody; but it ends.
        for answer in [ask(a, "three"), ask(b, "three")] {
            assert!(matches!(answer.status, 404 | 503), "{answer}");
        }
    }
    assert!([&gate_a, &gate_b].iter().all(|gate| !gate.running.err().contains(REFUSED)));
    // Out of the loop, each in its place.
    std::fs::write(home_b.path("herdgate.toml"), format!("{SPEEDY}upstreams = [\"{}\"]\n", second.url()))
        .unwrap();
    until("the first gate to use the second", || (ask(a, "two").status == 200).then_some(()));
    gate_a.end();
    gate_b.end();
}

/// A server that passes for an Ollama without models and brings every mark that it is sent back to a gate, while the gate that
/// sent it waits.
struct Replayer(SocketAddr);

impl Replayer {
    fn against(gate: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        // It ends with the test's process, and holds nothing but a socket.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || Self::serve(stream, gate));
            }
        });
        Replayer(address)
    }

    fn serve(stream: TcpStream, gate: SocketAddr) -> Option<()> {
        let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
        let (mut to, mut path) = (stream, String::new());
        while let Some(Ok(line)) = lines.next() {
            if path.is_empty() {
                path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            } else if let Some(marks) = line.strip_prefix("Herdgate-Hops: ") {
                // The gate may not listen yet.
                let is_up = TcpStream::connect(gate).is_ok();
                for mark in marks.split(',').filter(|_| is_up) {
                    Ask::get("/api/version").field("Herdgate-Hops", mark).send(gate);
                }
            } else if line.is_empty() {
                let body =
                    if path == "/api/version" { r#"{"version":"0.35.0"}"# } else { r#"{"models":[]}"# };
                write!(to, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok()?;
                path.clear();
            }
        }
        Some(())
    }
}

#[test]
fn who_brings_marks_back_from_behind_a_gate_takes_that_gate_out_for_nobody() {
    let healthy = testkit(Setup::default().with_models(&["one"]));
    let at = free();
    let hostile = Replayer::against(at);
    let (inner_home, home) = (home(TOKEN), home(TOKEN));
    let inner =
        inner_home.serve(&["--upstream", &healthy.url(), "--upstream", &format!("http://{}", hostile.0)]);
    let text = table(&home, "inner", &inner.url());
    let home = home.settings(&format!("{SPEEDY}{text}"));
    let gate = home.serve(&["--listen", &at.to_string()]);
    gate.running.says("that it may lead back", |line| line.contains("inner may lead back to this gate"));
    let looks = || healthy.seen_on("/api/tags").len();
    let begun = looks();
    until("more looks, each with its marks brought back", || {
        let body = serde_json::json!({"model": "one", "prompt": "x", "stream": false});
        let answer = Ask::post("/api/generate", &body).key(TOKEN).send(at);
        assert_eq!(answer.status, 200, "{answer}");
        (looks() > begun + 3).then_some(())
    });
    assert_eq!(Ask::get("/readyz").send(at).text(), "ready");
    let said = gate.running.err();
    assert!(!said.contains(REFUSED), "{said}");
    assert_eq!(said.matches("may lead back").count(), 1, "nobody fills a log by it");
    gate.end();
    inner.end();
}

#[test]
fn another_gate_is_an_upstream_like_any_other() {
    let ollama = testkit(Setup::default());
    let (inner_home, outer_home) = (home(TOKEN), home("canary-outer-token-0123456789"));
    let inner = inner_home.serve(&["--upstream", &ollama.url()]);
    let text = table(&outer_home, "inner", &inner.url());
    let outer_home = outer_home.settings(&text);
    let outer = outer_home.serve(&[]);
    let line = outer.running.says("what it found", |line| line.contains("upstream      inner"));
    assert!(line.contains("demo:latest"), "{line}");
    let asked = |ask: Ask| ask.key("canary-outer-token-0123456789").send(outer.address);
    let body = serde_json::json!({"model": "demo", "messages": [{"role": "user", "content": "x"}]});
    let answer = asked(Ask::post("/api/chat", &body)).ok();
    assert!(answer.lines().last().unwrap()["done"] == true);
    assert!(asked(Ask::get("/api/tags")).ok().text().contains("demo:latest"));
    let seen = ollama.seen_on("/api/chat");
    assert!(seen.len() == 1 && !seen[0].holds(TOKEN) && !seen[0].holds("canary"));
    assert_eq!(outer.running.err().matches("is refused").count(), 0);
    outer.end();
    inner.end();
}

#[test]
fn a_client_gets_nothing_by_writing_marks() {
    let ollama = testkit(Setup::default());
    let home = home(TOKEN).settings(SPEEDY);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let mark = "0123456789abcdef0123456789abcdef";
    let with = |marks: &str| chat().field("Herdgate-Hops", marks).send(gate.address);
    assert_eq!(with(mark).status, 200, "nobody's mark");
    assert_eq!(with(&[mark; 15].join(",")).status, 200);
    let far = with(&[mark; 16].join(","));
    assert!(far.status == 503 && far.text().contains("leads back"), "{far}");
    for bad in ["gate", &mark.to_uppercase(), "", &[mark; 17].join(",")] {
        assert_eq!(with(bad).status, 400, "{bad}");
    }
    assert_eq!(chat().send(gate.address).status, 200, "and the upstream is used as before");
    // An Ollama hears nothing of it from those who come by no gate.
    assert!(!ollama.seen_on("/api/chat").last().unwrap().holds("herdgate-hops"));
    // Not even by one that was somebody's: what an upstream's owner reads in its log is nobody's any more.
    let marks = until("two probes", || {
        let seen = ollama.seen_on("/api/version");
        let marks = seen.iter().filter_map(|asked| asked.field("herdgate-hops"));
        Some(marks.collect::<Vec<_>>()).filter(|marks| marks.len() > 1)
    });
    assert_ne!(marks[0], marks[1]);
    assert_eq!(with(&marks[0]).status, 200);
    assert_eq!(with(&marks[0]).status, 200, "and neither the mark nor the upstream is worse for it");
    assert!(!gate.running.err().contains("is refused"), "{}", gate.running.err());
    gate.end();
}

#[test]
fn versions_with_known_holes_are_named_and_what_mends_them() {
    let ollama = testkit(Setup { version: "0.17.0".to_owned(), ..Setup::default() });
    let home = home(TOKEN).settings(SPEEDY);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let line = gate.running.says("its holes", |line| line.contains("Ollama 0.17.0, which has known holes"));
    assert!(line.contains("and 1 more): Ollama 0.35.0 has none of them"), "{line}");
    ollama.change(|setup| setup.version = "0.34.2".to_owned());
    gate.running.says("those of the next", |line| {
        line.contains("Ollama 0.34.2, which has known holes (CVE-2026-103663)")
    });
    ollama.change(|setup| setup.version = "0.35.0".to_owned());
    until("the last version to be seen", || {
        Ask::get("/api/version").send(gate.address).ok().text().contains("0.35.0").then_some(())
    });
    assert!(!gate.running.err().contains("0.35.0, which"), "{}", gate.running.err());
    gate.end();
}
