//! The commands that reach a running gate: by the admin socket on its machine, in the operator's name, and from afar with a key.

use crate::harness::home::mode;
use crate::harness::running::Running;
use crate::harness::{Ask, Gate, Home, now, testkit, until};
use crate::pulling::{empty_kit, slow_pull};
use gate_testkit::{Model, Ollama, Release, Seen, Setup};
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::Digest as _;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

fn before<'h>(home: &'h Home, kits: &[&Ollama]) -> Gate<'h> {
    let urls: Vec<String> = kits.iter().map(|kit| kit.url()).collect();
    let args: Vec<&str> = urls.iter().flat_map(|url| ["--upstream", url.as_str()]).collect();
    let gate = home.serve(&args);
    until("the admin socket", || home.data("admin.sock").exists().then_some(()));
    gate
}

/// A row of the table without its blanks.
#[track_caller]
fn row(home: &Home, args: &[&str], name: &str) -> Option<Vec<String>> {
    let told = home.run(&[&["models"], args].concat());
    assert_eq!(told.code, 0, "{}", told.err);
    let line = told.out.lines().find(|line| line.split_whitespace().next() == Some(name))?;
    Some(line.split_whitespace().map(str::to_owned).collect())
}

#[test]
fn the_operator_lists_pulls_and_removes() {
    let kit = testkit(Setup::default());
    let home = Home::new();
    let gate = before(&home, &[&kit]);
    assert_eq!(mode(&home.data("admin.sock")), 0o600);
    let listed = row(&home, &[], "demo:latest").unwrap();
    assert_eq!(listed[1..3], ["967", "kB"], "{listed:?}");
    assert_eq!(listed[3].len(), 12, "{listed:?}");
    assert_eq!(listed[4], "yes", "it is loaded: {listed:?}");
    assert_eq!(listed.last(), Some(&kit.url()));

    let pulled = home.run(&["pull", "qwen3:8b"]);
    assert_eq!(pulled.code, 0, "{}", pulled.err);
    assert!(pulled.err.contains(&format!("pulled qwen3:8b at {}: 1.0 MB in ", kit.url())), "{}", pulled.err);
    assert_eq!(row(&home, &[], "qwen3:8b").unwrap()[4], "no");
    // At once, for callers too.
    let chat = json!({"model": "qwen3:8b", "messages": [{"role": "user", "content": "Hi"}], "stream": false});
    assert_eq!(gate.ask(Ask::post("/api/chat", &chat)).status, 200);
    let as_json = home.run(&["models", "--json"]);
    let told: Value = serde_json::from_str(&as_json.out).unwrap();
    assert_eq!(told["models"].as_array().unwrap().len(), 3, "{told}");

    let removed = home.run(&["rm", "qwen3:8b"]);
    assert_eq!(
        (removed.code, removed.err.trim()),
        (0, format!("removed qwen3:8b from {}", kit.url()).as_str())
    );
    assert_eq!(row(&home, &[], "qwen3:8b"), None);
    let again = home.run(&["rm", "qwen3:8b"]);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("it has no qwen3:8b"), "{}", again.err);
    let wrong = home.run(&["pull", "no name"]);
    assert_eq!(wrong.code, 1);
    assert!(
        wrong.err.contains("\"no name\" is no model's name") && wrong.err.contains("hint: "),
        "{}",
        wrong.err
    );
}

#[test]
fn of_several_upstreams_one_is_named() {
    let (one, two) = (testkit(Setup::default()), empty_kit());
    let home = Home::new();
    let _gate = before(&home, &[&one, &two]);
    let which = home.run(&["pull", "qwen3:8b"]);
    assert_eq!(which.code, 1);
    for part in ["there are 2 upstreams: which one?", "hint: say --on with one of", &two.url(), "or --all"] {
        assert!(which.err.contains(part), "no {part} in {}", which.err);
    }
    let on = two.addr.to_string();
    let pulled = home.run(&["pull", "qwen3:8b", "--on", &on]);
    assert_eq!(pulled.code, 0, "{}", pulled.err);
    assert_eq!((one.seen_on("/api/pull").len(), two.seen_on("/api/pull").len()), (0, 1));
    assert_eq!(row(&home, &[], "qwen3:8b").unwrap().last(), Some(&two.url()));
    assert_eq!(row(&home, &["--on", &one.url()], "qwen3:8b"), None);
    let all = home.run(&["pull", "qwen3:8b", "--all"]);
    assert_eq!(all.code, 0, "{}", all.err);
    assert_eq!(all.err.matches("pulled qwen3:8b at ").count(), 2, "{}", all.err);
    // It cannot be meant for both.
    let which = home.run(&["rm", "qwen3:8b"]);
    assert!(which.code == 1 && which.err.contains("which one?"), "{}", which.err);
    assert_eq!(home.run(&["rm", "qwen3:8b", "--all"]).code, 0);
    assert_eq!(row(&home, &[], "qwen3:8b"), None);
    let nowhere = home.run(&["models", "--on", "gpu9"]);
    assert!(nowhere.code == 1 && nowhere.err.contains("there is no upstream \"gpu9\""), "{}", nowhere.err);
}

#[test]
fn a_pull_that_is_left_is_left_by_the_upstream_too() {
    let kit = empty_kit();
    let home = Home::new();
    let gate = before(&home, &[&kit]);
    kit.order(slow_pull(&Release::default()));
    let mut pulling = Running::start(&mut home.command(&["pull", "qwen3:8b"]));
    // Callers hear of a pull by hand as well.
    let chat = json!({"model": "qwen3:8b", "messages": [{"role": "user", "content": "Hi"}], "stream": false});
    until("to be told of it", || {
        let answer = gate.ask(Ask::post("/api/chat", &chat));
        (answer.status == 503 && answer.json()["code"] == "model_pulling").then_some(())
    });
    let shown = home.run(&["models"]);
    assert!(
        shown.err.contains("qwen3:8b at ")
            && shown.err.contains("pulling: ")
            && shown.err.contains(" of 1.0 MB"),
        "{}",
        shown.err
    );
    pulling.signal(Signal::INT);
    assert!(!pulling.ended().success());
    now(kit.until_left("/api/pull")).unwrap();
    until("to be told no longer", || (gate.ask(Ask::post("/api/chat", &chat)).status == 404).then_some(()));
}

#[test]
fn the_socket_of_a_killed_gate_is_taken_over_and_nobody_there_is_said() {
    let kit = testkit(Setup::default());
    let home = Home::new();
    let mut gate = before(&home, &[&kit]);
    gate.running.signal(Signal::KILL);
    gate.running.ended();
    assert!(home.data("admin.sock").exists());
    for command in [&["models"][..], &["pull", "x"], &["rm", "x"], &["run", "x", "Hi"]] {
        let told = home.command(command).stdin(Stdio::null()).output().unwrap();
        let err = String::from_utf8(told.stderr).unwrap();
        assert_eq!(told.status.code(), Some(1));
        assert!(err.contains("error: no gate runs on ") && err.contains("hint: start it"), "{err}");
    }
    let gate = before(&home, &[&kit]);
    until("the new gate", || (home.run(&["models"]).code == 0).then_some(()));
    gate.end();
    assert!(!home.data("admin.sock").exists(), "it is gone with the gate");
}

#[test]
fn one_question_by_argument_and_by_pipe() {
    let kit = testkit(Setup::default());
    let home = Home::new();
    let gate = before(&home, &[&kit]);
    let ask = |args: &[&str], input: &str| {
        let mut command = home.command(&[&["run", "demo"], args].concat());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, out, err) = ask(&["Say", "it"], "behind it\n");
    assert_eq!(code, Some(0), "{err}");
    assert!(!out.trim().is_empty() && out.ends_with('\n'), "{out:?}");
    assert!(err.contains("8 tokens, ") && err.contains(" tokens/s, first after "), "{err}");
    let body = &kit.seen_on("/api/chat")[0].body;
    let sent: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(sent["messages"][0]["content"], "Say it\n\nbehind it");
    // It went the way of every request, in the operator's name.
    gate.running
        .says("its record", |line| line.contains("\"key\":\"operator\"") && line.contains("/api/chat"));
    let (code, _, err) = ask(&[], "");
    assert!(code == Some(1) && err.contains("there is nothing to ask"), "{err}");
    let mut missing = home.command(&["run", "else", "Hi"]);
    let told = missing.stdin(Stdio::null()).output().unwrap();
    let err = String::from_utf8(told.stderr).unwrap();
    assert!(told.status.code() == Some(1) && err.contains("error: model 'else' not found"), "{err}");
}

/// A terminal, and its other end, at which a person sits.
pub(crate) fn terminal() -> (std::fs::File, OwnedFd) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let name = ptsname(&person, Vec::new()).unwrap();
    let path = std::path::PathBuf::from(name.into_string().unwrap());
    let terminal = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    (std::fs::File::from(person), terminal.into())
}

#[test]
fn ctrl_c_stops_the_answer_and_not_the_chat() {
    let kit = testkit(Setup::default().with_tokens(200).with_pace(Duration::from_millis(50)));
    let home = Home::new();
    let _gate = before(&home, &[&kit]);
    let (mut person, stdin) = terminal();
    let mut chat = Running::with_input(&mut home.command(&["run", "demo"]), Stdio::from(stdin));
    chat.says("what it is", |line| line.contains("Chat with demo"));
    person.write_all(b"One\n").unwrap();
    // In the middle of an answer.
    let is_under_way = |one: &Seen| one.target() == "/api/chat" && one.sent > 500 && one.answered.is_none();
    now(kit.until(|seen| seen.iter().any(is_under_way))).unwrap();
    chat.signal(Signal::INT);
    chat.says("that it stopped", |line| line.contains("(stopped)"));
    now(kit.until_left("/api/chat")).unwrap();
    kit.change(|setup| (setup.tokens, setup.pace) = (3, Duration::ZERO));
    person.write_all(b"Two\n").unwrap();
    chat.says("the speed", |line| line.contains("(3 tokens"));
    let seen = kit.seen_on("/api/chat");
    let sent: Value = serde_json::from_slice(&seen[1].body).unwrap();
    let asked: Vec<&str> =
        sent["messages"].as_array().unwrap().iter().map(|one| one["role"].as_str().unwrap()).collect();
    assert_eq!(asked, ["user", "assistant", "user"], "it remembers");
    person.write_all(b"/bye\n").unwrap();
    assert!(chat.ended().success());
}

#[test]
fn from_afar_with_a_key() {
    let kit = testkit(Setup::default());
    let home = Home::new();
    let boss = home.key("boss", &["--scope", "infer,read,manage"]);
    let guest = home.key("guest", &[]);
    let gate = before(&home, &[&kit]);
    // Another machine: another home.
    let away = Home::new();
    let url = gate.url();
    let run = |key: &str, args: &[&str]| {
        let mut command = away.command(&[args, &["--url", &url]].concat());
        let output = command.env("HERDGATE_KEY", key).stdin(Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, err) = run(&guest, &["models"]);
    assert!(code == Some(0) && out.contains("demo:latest") && out.contains(&url), "{out}{err}");
    let (code, out, err) = run(&guest, &["run", "demo", "Hi"]);
    assert!(code == Some(0) && !out.is_empty() && err.contains("tokens/s"), "{out}{err}");
    let (code, _, err) = run(&guest, &["pull", "qwen3:8b"]);
    assert!(code == Some(1) && err.contains("manage"), "{err}");
    let (code, _, err) = run(&boss, &["pull", "qwen3:8b"]);
    assert!(code == Some(0) && err.contains("pulled qwen3:8b at "), "{err}");
    let (code, _, err) = run(&boss, &["pull", "qwen3:8b", "--all"]);
    assert!(code == Some(1) && err.contains("from afar") && err.contains("hint: "), "{err}");
    let (code, _, err) = run(&boss, &["rm", "qwen3:8b"]);
    assert_eq!((code, err.as_str()), (Some(0), "removed qwen3:8b\n"));
    let (code, _, err) = run("", &["models"]);
    assert!(code == Some(1) && err.contains("no key") && err.contains("HERDGATE_KEY"), "{err}");
    let (code, _, err) = run("sk-hg-wrong", &["models"]);
    assert!(code == Some(1) && err.contains("API key"), "{err}");
}

/// A registry that knows one manifest.
fn registry(manifest: &'static [u8]) -> (u16, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let cert = params.self_signed(&key).unwrap();
    let pem = cert.pem();
    let der = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![cert.der().clone()], der);
    let (port, config) = (listener.local_addr().unwrap().port(), Arc::new(config.unwrap()));
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, socket);
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
                head.push(byte[0]);
            }
            let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
            let (status, body) = match path.as_str() {
                "/v2/library/old/manifests/1b" | "/v2/library/new/manifests/latest" => ("200 OK", manifest),
                _ => ("404 Not Found", &b""[..]),
            };
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            drop(stream.write_all(&[head.as_bytes(), body].concat()));
            stream.conn.send_close_notify();
            drop(stream.flush());
        }
    });
    (port, pem)
}

#[test]
fn what_is_outdated_the_registry_knows() {
    let manifest = br#"{"schemaVersion":2,"layers":[]}"#;
    let (port, pem) = registry(manifest);
    let digest: String = sha2::Sha256::digest(manifest).iter().map(|byte| format!("{byte:02x}")).collect();
    let kit = empty_kit();
    let at = |name: &str| format!("127.0.0.1:{port}/library/{name}");
    kit.change(|setup| {
        setup.models = vec![
            Model::named(&at("old:1b")),
            Model { digest, ..Model::named(&at("new")) },
            Model::named(&at("own")),
        ];
    });
    let home = Home::new();
    std::fs::write(home.path("registry.pem"), pem).unwrap();
    let _gate = before(&home, &[&kit]);
    let mut command: Command = home.command(&["models", "--outdated"]);
    let told = command.env("SSL_CERT_FILE", home.path("registry.pem")).output().unwrap();
    let (out, err) = (String::from_utf8(told.stdout).unwrap(), String::from_utf8(told.stderr).unwrap());
    assert!(told.status.success(), "{err}");
    let newer = |name: &str| {
        let line = out.lines().find(|line| line.starts_with(&at(name))).unwrap_or_else(|| panic!("{out}"));
        line.split_whitespace().rev().nth(1).unwrap().to_owned()
    };
    assert_eq!(
        (newer("old:1b"), newer("new:latest"), newer("own:latest")),
        ("yes".into(), "no".into(), "?".into()),
        "{out}"
    );
    assert!(
        err.contains("own:latest is outdated cannot be told") && err.contains("has none of this name"),
        "{err}"
    );
}
