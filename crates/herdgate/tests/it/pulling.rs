//! Models that the settings want and the local Ollama lacks: pulled in the background, told of to callers until they are
//! there; what cannot be pulled is said once, with the cure. The local Ollama is the test kit, behind a program that the gate
//! starts and that can be killed.

use crate::harness::running::send;
use crate::harness::{Answer, Ask, Gate, Home, testkit, until};
use crate::local::{executable, nothing_on_11434, started};
use gate_testkit::{Cuts, Fault, Ollama, Order, Release, Setup, Then};
use rustix::process::Signal;
use serde_json::json;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

/// The `ollama serve` of these tests: this program once more, which passes every connection on to the test kit.
#[test]
#[ignore = "a program that others start"]
fn ollama_serve() {
    let address = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<SocketAddr>().ok());
    let (Some(listen), Some(kit)) = (address("OLLAMA_HOST"), address("TESTKIT_BEHIND")) else { return };
    eprintln!("level=WARN msg=\"{}\"", std::env::var("OLLAMA_NUM_PARALLEL").unwrap_or_default());
    for client in TcpListener::bind(listen).unwrap().incoming() {
        let (client, kit) = (client.unwrap(), TcpStream::connect(kit).unwrap());
        let pass = |mut from: TcpStream, mut to: TcpStream| {
            std::thread::spawn(move || {
                drop(std::io::copy(&mut from, &mut to));
                drop(to.shutdown(Shutdown::Write));
            })
        };
        pass(client.try_clone().unwrap(), kit.try_clone().unwrap());
        pass(kit, client);
    }
}

/// A home whose local Ollama is this kit, unless a gate would find another.
pub(crate) fn home_with(kit: &Ollama) -> Option<Home> {
    if !nothing_on_11434() {
        return None;
    }
    let home = Home::with_own_program().env("TESTKIT_BEHIND", kit.addr.to_string());
    let tests = std::env::current_exe().unwrap();
    let only = "--exact pulling::ollama_serve --ignored --nocapture";
    let script = format!("#!/bin/sh\n[ \"$*\" = serve ] && exec '{}' {only}\n", tests.display());
    executable(&home.path("bin/ollama"), &script);
    Some(home)
}

pub(crate) fn empty_kit() -> Ollama {
    testkit(Setup::default().with_models(&[]))
}

/// A pull that stands still in its second quarter, until it is released.
pub(crate) fn slow_pull(until: &Release) -> Order {
    Order::once(Fault::HoldAfter { bytes: 500, until: until.clone() }).on("/api/pull")
}

/// A pull that comes to this.
pub(crate) fn failing(error: &str) -> Fault {
    let lines = [json!({"status": "pulling manifest"}), json!({ "error": error })];
    let mut bytes =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
            .to_vec();
    for line in lines {
        let line = format!("{line}\n");
        bytes.extend(format!("{:x}\r\n{line}\r\n", line.len()).bytes());
    }
    bytes.extend(b"0\r\n\r\n");
    Fault::Play { bytes, cuts: Cuts::Whole, then: Then::KeepOpen }
}

fn chat(model: &str, path: &str) -> Ask {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    Ask::post(path, &json!({"model": model, "messages": messages, "stream": false, "max_tokens": 8}))
}

fn pulls(kit: &Ollama) -> usize {
    kit.seen_on("/api/pull").len()
}

#[track_caller]
fn is_pulling(answer: &Answer) -> bool {
    let is = answer.status == 503 && answer.text().contains(" % (");
    if is {
        let wait: u64 = answer.field("retry-after").expect("Retry-After").parse().unwrap();
        assert!((1..=60).contains(&wait), "{answer}");
        assert!(
            answer.text().contains("being pulled") && answer.text().contains(" of 1000000 bytes)"),
            "{answer}"
        );
    }
    is
}

#[test]
fn what_the_environment_names_is_pulled_on_a_fresh_start_and_answers() {
    let kit = empty_kit();
    let Some(home) = home_with(&kit) else { return };
    let pulled = Release::default();
    kit.order(slow_pull(&pulled));
    let home = home.env("OLLAMA_MODEL", "qwen3:8b, demo");
    let gate = home.serve(&[]);
    let told: Vec<Answer> = ["/api/chat", "/v1/chat/completions", "/v1/messages"]
        .into_iter()
        .map(|path| {
            until("to be told of the pull", || Some(gate.ask(chat("qwen3:8b", path))).filter(is_pulling))
        })
        .collect();
    assert_eq!(told[0].json()["code"], "model_pulling");
    assert_eq!(told[1].json()["error"]["code"], "model_pulling");
    assert_eq!(told[2].json()["error"]["type"], "overloaded_error");
    let waits = gate.ask(chat("demo", "/api/chat"));
    assert!(
        waits.status == 503 && waits.text().contains("about to be pulled"),
        "one after the other: {waits}"
    );
    let other = gate.ask(chat("else", "/api/chat"));
    assert_eq!((other.status, other.json()["code"].as_str()), (404, Some("model_not_found")), "{other}");
    pulled.now();
    for model in ["qwen3:8b", "demo"] {
        // Never 404 in between.
        until("the model", || {
            let answer = gate.ask(chat(model, "/api/chat"));
            assert!(answer.status == 200 || answer.json()["code"] == "model_pulling", "{answer}");
            (answer.status == 200).then_some(())
        });
        gate.running.says("the end of a pull", |line| line.contains(&format!("pulled {model}")));
    }
    assert_eq!(pulls(&kit), 2);
    let body = &kit.seen_on("/api/pull")[0].body;
    assert_eq!(serde_json::from_slice::<serde_json::Value>(body).unwrap()["model"], "qwen3:8b");
    // What is there is not pulled again.
    gate.end();
    let gate = home.serve(&[]);
    assert_eq!(gate.ask(chat("qwen3:8b", "/api/chat")).status, 200);
    assert_eq!(pulls(&kit), 2);
}

/// Says the same once, and does not ask again.
#[track_caller]
fn fails_once(error: &str, cause: &str, cure: &str, status: u16) {
    let kit = empty_kit();
    let Some(home) = home_with(&kit) else { return };
    kit.order(Order::always(failing(error)).on("/api/pull"));
    let settings = "fleet.probe_interval = \"1s\"\n[local]\nmodels = [\"qwen3:88b\"]\n";
    let home = home.settings(settings).env("OLLAMA_MODEL", "other");
    let gate = home.serve(&[]);
    let line = gate.running.says("why it cannot be pulled", |line| line.contains("cannot pull"));
    for part in ["qwen3:88b", cause, "hint: ", cure, "herdgate pull qwen3:88b"] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    let answer = until("to be told so", || {
        Some(gate.ask(chat("qwen3:88b", "/v1/chat/completions")))
            .filter(|answer| answer.text().contains(cause))
    });
    assert_eq!(answer.status, status, "{answer}");
    // After the first pause, of two seconds, of those that are tried again: by the gate's own clock.
    let looks = || kit.seen_on("/api/version").len();
    let before = looks();
    until("three seconds of looks", || (looks() > before + 3).then_some(()));
    if status != 404 {
        until("the second try", || (pulls(&kit) > 1).then_some(()));
    }
    let lines = gate.running.err().lines().filter(|line| line.contains("cannot pull")).count();
    assert_eq!(lines, 1, "said more than once");
    if status == 404 {
        assert_eq!(pulls(&kit), 1, "asked again");
        // Other settings are a reason to try once more.
        kit.clear_orders();
        let text = format!("{settings}[log]\nlevel = \"debug\"\n");
        std::fs::write(home.path("herdgate.toml"), text).unwrap();
    } else {
        kit.clear_orders();
    }
    until("the model", || (gate.ask(chat("qwen3:88b", "/api/chat")).status == 200).then_some(()));
}

#[test]
fn a_wrong_name_is_said_once() {
    let error = "pull model manifest: file does not exist";
    fails_once(error, "its registry has no model of this name", "https://ollama.com/library", 404);
}

#[test]
fn a_full_disk_is_said_once() {
    let error = "max retries exceeded: write /m/blobs/sha256-1-partial: no space left on device";
    fails_once(error, "the disk for models is full", "herdgate rm NAME", 404);
}

#[test]
fn a_network_that_is_away_is_said_once_and_awaited() {
    let error = "pull model manifest: Get \"https://registry.ollama.ai/v2/library/qwen3/manifests/88b\": dial tcp: \
                 lookup registry.ollama.ai: no such host";
    fails_once(error, "its registry cannot be reached", "HTTPS_PROXY", 503);
}

#[test]
fn upstreams_that_were_named_are_not_filled() {
    let kit = empty_kit();
    let home = Home::new().env("OLLAMA_MODEL", "qwen3:8b");
    let gate = home.serve(&["--upstream", &kit.url()]);
    gate.running.says("that nothing is pulled", |line| {
        line.contains("qwen3:8b") && line.contains("is not pulled") && line.contains("named")
    });
    assert_eq!(gate.ask(chat("qwen3:8b", "/api/chat")).status, 404);
    assert_eq!(pulls(&kit), 0);
}

#[test]
fn a_restart_of_the_local_ollama_is_told_and_its_pull_goes_on() {
    let kit = empty_kit();
    let Some(home) = home_with(&kit) else { return };
    kit.order(slow_pull(&Release::default()));
    let home = home
        .settings("[local]\nmodels = [\"qwen3:8b\"]\n[local.env]\nOLLAMA_NUM_PARALLEL = 3\nOLLAMA_KEEP_ALIVE = \"9m\"\n[log]\nlevel = \"debug\"\n")
        .env("OLLAMA_KEEP_ALIVE", "1m");
    let gate = home.serve(&[]);
    let line =
        gate.running.says("what Ollama wrote", |line| line.contains("ollama | ") && line.contains("WARN"));
    assert!(line.contains("msg=\\\"3\\\"") || line.contains("msg=\"3\""), "{line}");
    until("the pull", || Some(gate.ask(chat("qwen3:8b", "/api/chat"))).filter(is_pulling));
    let first = tests_program(&gate);
    let environ = std::fs::read_to_string(format!("/proc/{first}/environ")).unwrap();
    assert!(environ.split('\0').any(|pair| pair == "OLLAMA_KEEP_ALIVE=9m"), "{environ}");

    send(first, Signal::KILL);
    // Whatever is asked meanwhile is answered, and says when to come back; but for the one that may have been there as it ended.
    let (mut was_away, mut broke_off) = (false, 0);
    until("the model", || {
        let answer = gate.ask(chat("qwen3:8b", "/api/chat"));
        if answer.json()["code"] == "upstream_failed" {
            broke_off += 1;
            assert!(broke_off == 1 && answer.status == 502, "{answer}");
        } else if answer.status != 200 {
            assert_eq!(answer.status, 503, "{answer}");
            assert!(answer.field("retry-after").is_some(), "{answer}");
            was_away |= answer.json()["code"] == "loading";
        }
        (answer.status == 200).then_some(())
    });
    assert!(was_away, "nobody saw it away");
    assert_eq!(pulls(&kit), 2, "it went on with the pull");
    assert_ne!(tests_program(&gate), first);
}

/// The process of the stand-in that the gate has started.
#[track_caller]
fn tests_program(gate: &Gate<'_>) -> i32 {
    let tests = std::env::current_exe().unwrap();
    // Names of processes end after 15 bytes (proc(5)).
    let name = tests.file_name().unwrap().to_string_lossy().into_owned();
    started(gate, &name).pid
}
