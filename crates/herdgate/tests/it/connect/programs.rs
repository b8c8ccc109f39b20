//! Programs that know of no key, as their registries give them: Ollama's own Python client and its command line.

use super::{ALL, connect};
use crate::clients::python;
use crate::harness::{Demo, Home, Peer, leave_out, peer, testkit};
use gate_testkit::Setup;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};

#[test]
fn ollama_for_python_finds_its_ollama() {
    let runner = match python() {
        Ok(runner) => runner,
        Err(why) => return leave_out(&why),
    };
    let ollama = testkit(Setup::default().with_loaded(&["demo"]));
    let home = Home::new();
    let key = home.key("laptop", ALL);
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let here = connect(&home, &gate.url(), &key, &[]);
    let mut command = Command::new(&runner.program);
    command.arg(runner.folder.join("connect_client.py")).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("OLLAMA_HOST", here.address.to_string()).env("MODEL", "demo").env("EMBEDDER", "embedder");
    command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1").env_remove("OLLAMA_API_KEY");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["models"], json!(["demo:latest", "embedder:latest"]));
    assert_eq!(told["loaded"], json!(["demo:latest"]));
    assert_eq!((&told["family"], &told["unknown"]), (&json!("llama"), &json!(404)), "{told}");
    let chat = told["chat"].as_str().unwrap();
    assert!(!chat.is_empty() && !told["generated"].as_str().unwrap().is_empty(), "{told}");
    let together = told["together"].as_array().unwrap();
    assert_eq!(together.len(), 20);
    for parts in together {
        let parts: Vec<&str> = parts.as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
        assert!(parts.len() > 3 && parts.concat() == chat, "{parts:?}");
    }
    assert!(told["vectors"][0].as_u64() > Some(3) && told["vectors"][0] == told["vectors"][1], "{told}");
    let pulled = told["pulled"].as_array().unwrap();
    assert_eq!(pulled.last().unwrap()[0], "success", "{told}");
    assert!(pulled.iter().filter(|part| part[1].as_u64() > Some(0)).count() > 2, "progress: {told}");
}

/// Runs Ollama's command line for this address.
fn ollama(program: &Path, home: &Home, host: &str, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(args).env_clear().env("HOME", home.path("")).env("OLLAMA_HOST", host).env("TERM", "dumb");
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn the_command_line_of_ollama_works_unchanged() {
    let (Some(program), Some(peer)) = (peer::ollama(), Peer::ollama()) else { return };
    let demo = Demo::one();
    let home = Home::new();
    let key = home.key("laptop", ALL);
    let gate = home.serve(&["--upstream", &peer.url()]);
    let here = connect(&home, &gate.url(), &key, &[]);
    let run = |args: &[&str]| said(&ollama(&program, &home, &here.address.to_string(), args));
    assert!(run(&["list"]).contains(Demo::NAME));
    assert!(run(&["show", Demo::NAME]).contains("architecture"));
    assert!(run(&["run", Demo::NAME, &demo.question]).contains(&demo.answer), "run");
    assert!(run(&["ps"]).contains(Demo::NAME), "what was just used is loaded");
    assert!(run(&["stop", Demo::NAME]).is_empty() || !run(&["ps"]).contains("100%"), "stop");
    let missing = ollama(&program, &home, &here.address.to_string(), &["show", "nosuch"]);
    let text = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(!missing.status.success() && text.contains("not found"), "{text}");
}

#[test]
fn the_command_line_of_ollama_shows_the_progress_of_a_pull() {
    let Some(program) = peer::ollama() else { return };
    let kit = testkit(Setup::default());
    let home = Home::new();
    let key = home.key("laptop", ALL);
    let gate = home.serve(&["--upstream", &kit.url()]);
    let here = connect(&home, &gate.url(), &key, &[]);
    let told = said(&ollama(&program, &home, &here.address.to_string(), &["pull", "qwen3"]));
    assert!(told.contains("pulling") && told.contains("success"), "{told}");
    assert_eq!(kit.seen_on("/api/pull").len(), 1);
}
