//! No upstream given: what the gate starts by itself, what becomes of it when either dies, and what is said where there
//! is nothing to start.

use crate::harness::peer::{engine, ollama};
use crate::harness::running::{Process, send};
use crate::harness::{Answer, Ask, Demo, Gate, Home, PATIENCE, mention, testkit, until};
use gate_testkit::Setup;
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::Digest as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// No answer for so long: nobody is being served.
const STILL: Duration = Duration::from_millis(200);

/// Whether the place where a gate looks for an Ollama is empty. Where it is not, it uses what it finds there.
#[track_caller]
pub(crate) fn nothing_on_11434() -> bool {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, 11434));
    let is_free = TcpStream::connect_timeout(&usual, Duration::from_millis(500)).is_err();
    if !is_free {
        mention("something answers on 127.0.0.1:11434, which every gate without --upstream uses");
    }
    is_free
}

/// A home whose gate has nothing but the engine beside it.
fn home_with_engine() -> Option<Home> {
    if !nothing_on_11434() {
        return None;
    }
    let home = Home::with_own_program();
    home.install_beside(&engine()?, "herdgate-engine");
    Some(home)
}

fn chat(model: &str, question: &str, stream: bool) -> Ask {
    let messages = json!([{"role": "user", "content": question}]);
    let body = json!({"model": model, "messages": messages, "stream": stream, "options": {"temperature": 0}});
    Ask::post("/api/chat", &body)
}

/// What NDJSON says, where it came to its end.
fn said(answer: &Answer) -> Option<String> {
    let lines: Vec<Value> = answer.text().lines().map(serde_json::from_str).collect::<Result<_, _>>().ok()?;
    let done = answer.status == 200 && answer.cut.is_none() && lines.last()?["done"] == true;
    done.then(|| lines.iter().filter_map(|line| line["message"]["content"].as_str()).collect())
}

/// The one process that the gate has started.
#[track_caller]
pub(crate) fn started(gate: &Gate<'_>, name: &str) -> Process {
    let all = gate.running.descendants();
    let found = all.iter().find(|process| name.starts_with(&process.name));
    found.unwrap_or_else(|| panic!("no {name} among {all:?}")).clone()
}

/// Waits until none of them runs any more.
#[track_caller]
pub(crate) fn all_gone(processes: &[Process]) {
    assert!(!processes.is_empty());
    until("the end of all that the gate started", || {
        processes.iter().all(|process| !process.is_alive()).then_some(())
    });
}

#[test]
fn the_engine_beside_it_answers_every_question() {
    let Some(home) = home_with_engine() else { return };
    let gate = home.serve(&[]);
    let line = gate.running.says("what it started", |line| line.starts_with("  started "));
    assert!(line.contains("programs/herdgate-engine"), "{line}");
    let line = gate.running.says("its upstream", |line| line.starts_with("  upstream "));
    assert!(line.contains(Demo::NAME), "{line}");
    for (place, demo) in Demo::all().iter().enumerate() {
        let answer = gate.ask(chat(Demo::NAME, &demo.question, place % 2 == 0)).ok();
        assert_eq!(answer.is_chunked, place % 2 == 0, "{answer}");
        assert_eq!(said(&answer).as_deref(), Some(demo.answer.as_str()), "{}", demo.question);
    }
    let children = gate.running.descendants();
    gate.end();
    all_gone(&children);
}

#[test]
fn an_engine_on_the_path_serves_the_models_of_the_data_directory() {
    if !nothing_on_11434() {
        return;
    }
    let Some(engine) = engine() else { return };
    let home = Home::with_own_program();
    home.install(&engine, "herdgate-engine");
    home.key("a", &[]);
    std::fs::create_dir(home.data("models")).unwrap();
    std::fs::copy(Demo::file(), home.data("models/mine.gguf")).unwrap();
    std::fs::write(home.data("models/broken.gguf"), "GGUF and nothing else").unwrap();
    let key = home.key("b", &[]);
    let mut gate = home.serve(&[]);
    let line = gate.running.says("what it started", |line| line.starts_with("  started "));
    assert!(line.contains("bin/herdgate-engine"), "{line}");
    let demo = Demo::one();
    let answer = chat("mine", &demo.question, false).key(&key).send(gate.address).ok();
    assert_eq!(said(&answer), Some(demo.answer));
    gate.running.says("what is wrong with the other file", |line| line.contains("broken.gguf"));
    let children = gate.running.descendants();
    gate.running.signal(Signal::INT);
    assert_eq!(gate.running.ended().code(), Some(0));
    all_gone(&children);
}

#[test]
fn an_engine_that_is_killed_under_load_is_back_for_the_next_request() {
    let Some(home) = home_with_engine() else { return };
    let gate = home.serve(&[]);
    let demo = Demo::one();
    let first = started(&gate, "herdgate-engine");
    let (done, killed, answered) = (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let client = |stream: bool| {
            let (gate, demo, done, killed, answered) = (&gate, &demo, &done, &killed, &answered);
            scope.spawn(move || {
                let mut answers = Vec::new();
                while !done.load(Ordering::SeqCst) {
                    let asked_after = killed.load(Ordering::SeqCst);
                    let answer = gate.ask(chat(Demo::NAME, &demo.question, stream));
                    let is_back = asked_after && said(&answer).is_some();
                    answers.push(answer);
                    answered.fetch_add(1, Ordering::SeqCst);
                    // One client that is served again shows that it is over.
                    done.fetch_or(is_back, Ordering::SeqCst);
                }
                answers
            })
        };
        let clients: Vec<_> = (0..6).map(|number| client(number % 2 == 0)).collect();
        until("some load", || (answered.load(Ordering::SeqCst) > 20).then_some(()));
        // Stopped first: what is asked now is running when it dies, however fast the model is.
        send(first.pid, Signal::STOP);
        let mut last = (answered.load(Ordering::SeqCst), Instant::now());
        until("every client to wait for the engine", || {
            let count = answered.load(Ordering::SeqCst);
            if count != last.0 {
                last = (count, Instant::now());
            }
            (last.1.elapsed() > STILL).then_some(())
        });
        send(first.pid, Signal::KILL);
        until("the engine's end", || (!first.is_alive()).then_some(()));
        killed.store(true, Ordering::SeqCst);
        let begun = Instant::now();
        let answers = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        assert!(begun.elapsed() < PATIENCE / 2, "back only after {:?}", begun.elapsed());
        answers
    });
    let failed: Vec<&Answer> =
        answers.iter().filter(|answer| said(answer).as_deref() != Some(&demo.answer)).collect();
    assert!(!failed.is_empty(), "nothing was running when the engine died");
    for answer in failed {
        if answer.status == 200 {
            // Part of it had gone out: the client must see that it is not whole.
            let says_so = answer.text().lines().last().is_some_and(|line| line.contains("\"error\""));
            assert!(answer.cut.is_some() || says_so, "an answer that looks whole: {answer}");
        } else {
            assert!(answer.status == 502 || answer.status == 503, "{answer}");
            let error = answer.json();
            assert!(error["error"].is_string() && error["code"].is_string(), "{answer}");
        }
    }
    let second = started(&gate, "herdgate-engine");
    assert_ne!(second.pid, first.pid);
    assert_eq!(said(&gate.ask(chat(Demo::NAME, &demo.question, true))), Some(demo.answer));
    gate.end();
    all_gone(&[first, second]);
}

#[test]
fn a_gate_that_is_killed_leaves_no_engine() {
    let Some(home) = home_with_engine() else { return };
    let mut gate = home.serve(&[]);
    let engine = started(&gate, "herdgate-engine");
    gate.running.signal(Signal::KILL);
    gate.running.ended();
    all_gone(&[engine]);
}

#[test]
fn an_ollama_on_the_path_comes_first_and_sees_no_secret() {
    let Some(home) = home_with_engine() else { return };
    let token = "canary-in-the-environment";
    let home =
        home.env("AUTH_TOKEN", token).env("HERDGATE_LOG__LEVEL", "debug").env("OLLAMA_KEEP_ALIVE", "7m");
    // A stand-in: what `ollama serve` is asked for, by means of the engine.
    let script = format!(
        "#!/bin/sh\n[ \"$*\" = serve ] || exit 3\nexec '{}' --exit-with-parent --listen \"$OLLAMA_HOST\" --model '{}'\n",
        home.path("programs/herdgate-engine").display(),
        Demo::file().display()
    );
    executable(&home.path("bin/ollama"), &script);
    let gate = home.serve(&[]);
    let line = gate.running.says("what it started", |line| line.starts_with("  started "));
    assert!(line.contains("bin/ollama serve"), "{line}");
    let demo = Demo::one();
    let answer = chat(Demo::NAME, &demo.question, true).key(token).send(gate.address).ok();
    assert_eq!(said(&answer), Some(demo.answer));

    let child = started(&gate, "herdgate-engine");
    let environ = std::fs::read(format!("/proc/{}/environ", child.pid)).unwrap();
    let environ = String::from_utf8(environ).unwrap();
    assert!(!environ.contains("canary") && !environ.contains("HERDGATE_"), "{environ}");
    let of = |name: &str| environ.split('\0').find_map(|pair| pair.strip_prefix(name)).map(str::to_owned);
    let host: SocketAddr = of("OLLAMA_HOST=").unwrap().parse().unwrap();
    assert!(host.ip().is_loopback() && host.port() != 11434, "{host}");
    assert_eq!(of("OLLAMA_KEEP_ALIVE=").as_deref(), Some("7m"), "Ollama's own settings are the user's");
    let children = gate.running.descendants();
    gate.end();
    all_gone(&children);
}

#[test]
fn an_ollama_that_is_named_in_the_environment_is_used_instead() {
    let kit = testkit(Setup::default());
    let home = Home::with_own_program().env("OLLAMA_HOST", kit.addr.to_string());
    if let Some(engine) = engine() {
        home.install_beside(&engine, "herdgate-engine");
    }
    let gate = home.serve(&[]);
    let line = gate.running.says("its upstream", |line| line.starts_with("  upstream "));
    assert!(line.contains(&kit.url()) && line.contains("demo:latest"), "{line}");
    assert_eq!(gate.running.descendants(), [], "something was started in spite of a given upstream");
    assert!(said(&gate.ask(chat("demo", "Hi", true))).is_some());
}

#[test]
fn the_engine_beside_an_ollama_where_the_settings_say_so() {
    let Some(engine) = engine() else { return };
    let kit = testkit(Setup::default());
    let home = Home::with_own_program()
        .env("OLLAMA_HOST", kit.addr.to_string())
        .settings("[local]\nengine = \"always\"\n");
    home.install_beside(&engine, "herdgate-engine");
    let gate = home.serve(&[]);
    let demo = Demo::one();
    let answer = until("the engine's model", || said(&gate.ask(chat(Demo::NAME, &demo.question, true))));
    assert_eq!(answer, demo.answer);
    assert!(said(&gate.ask(chat("demo", "Hi", true))).is_some());
    let tags = gate.ask(Ask::get("/api/tags")).ok().text();
    assert!(tags.contains("\"demo:latest\"") && tags.contains("\"herdgate-demo:latest\""), "{tags}");
    let children = gate.running.descendants();
    gate.end();
    all_gone(&children);
}

#[test]
fn a_real_ollama_is_started_fed_and_ended() {
    let Some(program) = ollama().filter(|_| nothing_on_11434()) else { return };
    let home = Home::with_own_program();
    home.install(&program, "ollama");
    let models = home.path("ollama-models");
    let home = home.env("OLLAMA_MODELS", models).env("OLLAMA_NO_CLOUD", "1");
    let key = home.key("boss", &["--scope", "infer,read,manage"]);
    let gate = home.serve(&[]);
    let line = gate.running.says("its upstream", |line| line.starts_with("  upstream "));
    assert!(line.contains("no models") && line.contains("herdgate pull NAME"), "{line}");

    // Management is forwarded for those who may: the model goes up through the gate.
    let file = std::fs::read(Demo::file()).unwrap();
    let digest: String = sha2::Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
    let blob = Ask::new("POST", &format!("/api/blobs/sha256:{digest}")).bytes(file).key(&key);
    assert_eq!(blob.send(gate.address).status, 201);
    let files = json!({"demo.gguf": format!("sha256:{digest}")});
    let create = json!({"model": "up", "files": files, "parameters": {"num_thread": 1}});
    let made = Ask::post("/api/create", &create).key(&key).send(gate.address).ok();
    assert_eq!(made.lines().last().unwrap()["status"], "success", "{made}");
    let demo = Demo::one();
    assert_eq!(said(&chat("up", &demo.question, true).key(&key).send(gate.address).ok()), Some(demo.answer));
    let tags = Ask::get("/api/tags").key(&key).send(gate.address).ok().text();
    assert!(tags.contains("\"up:latest\""), "{tags}");

    let children = gate.running.descendants();
    assert!(children.len() > 1, "no runner among {children:?}");
    gate.end();
    all_gone(&children);
}

#[test]
fn with_nothing_to_ask_it_starts_and_says_what_it_looked_for() {
    if !nothing_on_11434() {
        return;
    }
    for (args, looked_for) in [(&[][..], "herdgate-engine"), (&["--no-local"], "--upstream")] {
        let home = Home::with_own_program();
        let gate = home.serve(args);
        let line = gate.running.says("what it lacks", |line| line.starts_with("  warning: no Ollama"));
        assert!(line.contains("127.0.0.1:11434") && line.contains(looked_for), "{line}");
        assert_eq!(Ask::get("/").send(gate.address).ok().text(), "Ollama is running");
        for path in ["/api/chat", "/v1/chat/completions", "/v1/messages"] {
            let messages = json!([{"role": "user", "content": "Hi"}]);
            let answer =
                gate.ask(Ask::post(path, &json!({"model": "demo", "messages": messages, "max_tokens": 8})));
            assert_eq!(answer.status, 503, "{path}: {answer}");
            assert!(
                answer.field("retry-after").is_some_and(|wait| wait.parse::<u32>().is_ok()),
                "{path}: {answer}"
            );
            assert!(answer.text().contains("--upstream"), "{path}: {answer}");
        }
        let answer = gate.ask(Ask::get("/api/tags"));
        assert!(answer.status == 503 && answer.field("retry-after").is_some(), "{answer}");
        assert_eq!(gate.running.descendants(), []);
        gate.end();
    }
}

/// Writes a program.
pub(crate) fn executable(at: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(at, text).unwrap();
    std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o755)).unwrap();
}
