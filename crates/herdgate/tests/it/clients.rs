//! The clients that people already have, as their registries give them, through the gate: chat, stream, vectors, lists,
//! their own errors for a wrong key and an unknown model, and what they make of a stream that breaks off. The scripts are in `tools/clients`.

use crate::harness::peer::workspace;
use crate::harness::{Demo, Home, Peer, leave_out, testkit};
use gate_testkit::installed::run;
use gate_testkit::{Fault, Order, Setup};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn ollama_for_python() {
    with_script("ollama_client.py", |told| {
        has_vectors(told);
        assert!(told["show"].is_string(), "{told}");
    });
}

#[test]
fn ollama_for_javascript() {
    with_script("ollama_client.mjs", |told| {
        has_vectors(told);
        assert!(told["show"].is_string(), "{told}");
    });
}

#[test]
fn openai_for_python() {
    with_script("openai_client.py", |told| {
        has_vectors(told);
        assert_eq!(told["show"], "model", "{told}");
        assert!(told["tokens"].as_u64() > Some(3), "{told}");
    });
}

#[test]
fn anthropic_for_python() {
    with_script("anthropic_client.py", |told| {
        assert_eq!(told["bearer"], told["chat"], "the key as a bearer token: {told}");
        assert_eq!(told["stop"], "end_turn", "{told}");
        assert!(told["tokens"].as_u64() > Some(3), "{told}");
    });
}

/// Ollama ends such a stream without a word; every client must raise what the gate says behind it.
#[test]
fn a_stream_whose_model_gives_up_is_an_error_to_every_client() {
    for (script, installed) in [("broken_streams.py", python()), ("broken_streams.mjs", javascript())] {
        let runner = match installed {
            Ok(runner) => runner,
            Err(why) => {
                leave_out(&why);
                continue;
            }
        };
        let ollama = testkit(Setup::default());
        ollama.order(Order::always(Fault::GivesUp { tokens: 4 }));
        let home = Home::new();
        let gate = home.serve(&["--upstream", &ollama.url()]);
        let mut command = Command::new(&runner.program);
        command.arg(runner.folder.join(script)).env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("HERDGATE_URL", gate.url()).env("HERDGATE_KEY", gate.first_key());
        command.env("MODEL", "demo").env("EMBEDDER", "demo").env("QUESTION", "x").env("WRONG_KEY", "x");
        command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}:\n{errors}");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        for (route, told) in told.as_object().unwrap() {
            let text = told["text"].as_str().unwrap_or_default();
            assert!(text.contains("the model server broke off"), "{script}, {route}: {told}");
            assert!(told["parts"].as_u64() >= Some(4), "{script}, {route}: {told}");
        }
    }
}

/// Runs a script before each server that has the demo model and checks what every client can do, then the rest.
#[track_caller]
fn with_script(script: &str, check: impl Fn(&Value)) {
    let installed = if script.ends_with(".py") { python() } else { javascript() };
    let runner = match installed {
        Ok(runner) => runner,
        Err(why) => return leave_out(&why),
    };
    let demo = Demo::one();
    for peer in Peer::with_the_demo() {
        let home = Home::new();
        let gate = home.serve(&["--upstream", &peer.url()]);
        let mut command = Command::new(&runner.program);
        command.arg(runner.folder.join(script)).env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("HERDGATE_URL", gate.url()).env("HERDGATE_KEY", gate.first_key());
        command.env("WRONG_KEY", Home::new().key("a", &[])).env("QUESTION", &demo.question);
        command.env("MODEL", peer.model()).env("EMBEDDER", peer.embedder());
        // A proxy of this machine has no business on loopback.
        command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script} before {}:\n{errors}", peer.name());
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(told["chat"], demo.answer.as_str(), "{}", peer.name());
        assert_eq!(told["stream"], demo.answer.as_str(), "{}", peer.name());
        assert!(told["parts"].as_u64() > Some(3), "no stream: {told}");
        assert_eq!(told["models"], serde_json::json!(["herdgate-demo:latest"]), "{}", peer.name());
        let refused = |what: &str, status: u16, word: &str| {
            let text = told[what]["text"].as_str().unwrap_or_default();
            assert!(told[what]["status"] == status && text.contains(word), "{what}: {told}");
        };
        refused("wrong_key", 401, "the API key is unknown");
        refused("unknown_model", 404, "did you mean herdgate-demo?");
        check(&told);
    }
}

/// Two vectors of one length for two texts.
fn has_vectors(told: &Value) {
    let [Some(one), Some(two)] = [0, 1].map(|place| told["vectors"][place].as_u64()) else {
        panic!("{told}")
    };
    assert!(one == two && one > 3 && told["vectors"][2].is_null(), "{told}");
}

/// What runs the scripts of one language, and where they lie.
pub(crate) struct Runner {
    pub(crate) program: PathBuf,
    pub(crate) folder: PathBuf,
}

pub(crate) fn python() -> Result<Runner, String> {
    virtual_python("python", "requirements.txt")
}

pub(crate) fn langchain() -> Result<Runner, String> {
    virtual_python("langchain", "requirements-langchain.txt")
}

fn virtual_python(name: &str, requirements: &str) -> Result<Runner, String> {
    let requirements = scripts().join(requirements);
    let pinned = fs::read_to_string(&requirements).unwrap();
    let folder = installed(name, &pinned, |folder| {
        run(Command::new("python3").args(["-m", "venv"]).arg(folder.join("venv")))?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir", "-r"];
        run(Command::new(folder.join("venv/bin/python")).args(pip).arg(&requirements))
    })?;
    Ok(Runner { program: folder.join("venv/bin/python"), folder: scripts() })
}

pub(crate) fn javascript() -> Result<Runner, String> {
    let pinned = fs::read_to_string(scripts().join("package.json")).unwrap();
    // Modules are looked for where the scripts lie, so they go with them.
    let texts = ["ollama_client.mjs", "broken_streams.mjs"]
        .map(|script| (script, fs::read_to_string(scripts().join(script)).unwrap()));
    let wanted = texts.iter().fold(pinned.clone(), |all, (_, text)| all + text);
    let folder = installed("javascript", &wanted, |folder| {
        fs::write(folder.join("package.json"), &pinned).unwrap();
        for (script, text) in &texts {
            fs::write(folder.join(script), text).unwrap();
        }
        let npm = ["install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"];
        run(Command::new("npm").args(npm).current_dir(folder))
    })?;
    Ok(Runner { program: "node".into(), folder })
}

fn scripts() -> PathBuf {
    workspace().join("tools/clients")
}

/// A folder under the target directory in which `install` was done once for these pinned versions.
fn installed(
    name: &str,
    pinned: &str,
    install: impl Fn(&Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    gate_testkit::installed::installed(&all, name, pinned, install)
}
