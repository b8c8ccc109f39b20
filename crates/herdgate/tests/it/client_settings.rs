//! What `herdgate deploy client` and `herdgate key create --for` print, used as it is: programs run, variables sourced, stacks read by
//! compose, and what files of settings hold tried by a request. Each gate has an Ollama of the test kit behind it.

mod programs;
mod written;

use crate::clients::python;
use crate::harness::{Ask, Gate, Home, leave_out, testkit};
use gate_testkit::{Ollama, Setup};
use serde_json::{Value, json};
use std::fs;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::process::{Command, Output};

const SELF_SIGNED: &str = "[tls]\nself_signed = true\n";
const KINDS: [&str; 10] = [
    "open-webui",
    "n8n",
    "python",
    "javascript",
    "fetch",
    "langchain",
    "continue",
    "claude-code",
    "codex",
    "env",
];

/// Runs `herdgate` as on the machine of a gate whose settings name its address.
#[track_caller]
fn told(gate: &Gate<'_>, home: &Home, words: &[&str]) -> (String, String) {
    let output =
        home.command(words).env("HERDGATE_LISTEN__ADDRESS", gate.address.to_string()).output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap());
    assert!(output.status.success(), "{words:?}: {err}");
    (out, err)
}

/// The settings of a client with a new key in them.
#[track_caller]
fn filled_in(gate: &Gate<'_>, home: &Home, kind: &str) -> String {
    let (out, err) =
        told(gate, home, &["key", "create", &format!("bot-{kind}"), "--for", kind, "--model", "demo"]);
    assert!(!err.contains("sk-hg-"), "{err}");
    out
}

/// A command in a folder, with no proxy of this machine in its way.
fn command(program: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
    for name in ["HERDGATE_KEY", "HERDGATE_KEY_FILE", "OLLAMA_HOST", "OLLAMA_API_KEY", "SSL_CERT_FILE"] {
        command.env_remove(name);
    }
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

#[track_caller]
fn out(output: Output) -> String {
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{err}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// What the model behind the gate answers to everything.
fn answer(ollama: &Ollama) -> String {
    let body = json!({ "model": "demo", "messages": [{ "role": "user", "content": "hi" }], "stream": false });
    let address = ollama.url().split("://").nth(1).unwrap().parse().unwrap();
    let told = Ask::post("/api/chat", &body).send(address).ok().json();
    told["message"]["content"].as_str().unwrap().to_owned()
}

/// What libraries find by themselves in the variables.
const LIBRARIES: &str = r#"
import os, anthropic, ollama, openai
model, messages = os.environ["OLLAMA_MODEL"], [{"role": "user", "content": "hi"}]
print(ollama.chat(model=model, messages=messages).message.content)
print(openai.OpenAI().chat.completions.create(model=model, messages=messages).choices[0].message.content)
print(anthropic.Anthropic().messages.create(model=model, max_tokens=99, messages=messages).content[0].text)
"#;

#[test]
fn variables_lead_libraries_to_the_gate() {
    let runner = match python() {
        Ok(runner) => runner,
        Err(why) => return leave_out(&why),
    };
    let ollama = testkit(Setup::default());
    for settings in ["", SELF_SIGNED] {
        let home = Home::new().settings(settings);
        let gate = home.serve(&["--upstream", &ollama.url()]);
        fs::write(home.path(".env"), filled_in(&gate, &home, "env")).unwrap();
        fs::write(home.path("libraries.py"), LIBRARIES).unwrap();
        let mut shell = command("bash", &home.path(""));
        if !settings.is_empty() {
            shell.env("SSL_CERT_FILE", home.data("tls-ca.pem"));
        }
        let line = "set -aeu; . ./.env; [ \"$OLLAMA_URL\" = \"$OLLAMA_BASE_URL\" ]; exec \"$0\" libraries.py";
        let said = out(shell.args(["-c", line]).arg(&runner.program).output().unwrap());
        assert_eq!(said, format!("{}\n", answer(&ollama)).repeat(3), "{settings}");
    }
}

/// What a file of YAML says, by the reader that Debian has for docker-compose; none where that is not there.
#[track_caller]
fn yaml(text: &[u8]) -> Option<Value> {
    let reader = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)";
    let mut python = Command::new("/usr/bin/python3");
    if !python.args(["-c", "import yaml"]).output().is_ok_and(|tried| tried.status.success()) {
        leave_out("YAML is read by PyYAML (python3-yaml), which is not here");
        return None;
    }
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text).unwrap();
    file.rewind().unwrap();
    let read = Command::new("/usr/bin/python3").args(["-c", reader]).stdin(file).output().unwrap();
    Some(serde_json::from_str(&out(read)).unwrap())
}

/// The stack as docker-compose reads it; none where it is not there.
#[track_caller]
fn composed(folder: &Path) -> Option<Result<Value, String>> {
    match command("docker-compose", folder).arg("config").output() {
        Ok(read) if read.status.success() => yaml(&read.stdout).map(Ok),
        Ok(read) => Some(Err(String::from_utf8_lossy(&read.stderr).into_owned())),
        Err(error) => {
            leave_out(&format!("docker-compose: {error}"));
            None
        }
    }
}

#[test]
fn compose_reads_variables_as_a_shell_does() {
    let ollama = testkit(Setup::default());
    let home = Home::new();
    let gate = home.serve(&["--upstream", &ollama.url()]);
    fs::write(home.path(".env"), filled_in(&gate, &home, "env")).unwrap();
    let stack = "services:\n  app:\n    image: app\n    environment:\n      URL: ${OLLAMA_URL}\n      MODEL: ${OLLAMA_MODEL}\n      \
                 KEY: ${OPENAI_API_KEY}\n";
    fs::write(home.path("compose.yaml"), stack).unwrap();
    let Some(stack) = composed(&home.path("")) else { return };
    let app = &stack.unwrap()["services"]["app"]["environment"];
    assert_eq!((app["URL"].as_str(), app["MODEL"].as_str()), (Some(&*gate.url()), Some("demo")), "{app}");
    Ask::get("/api/tags").key(app["KEY"].as_str().unwrap()).send(gate.address).ok();
}

#[test]
fn stacks_hold_address_and_key_where_their_programs_look() {
    let ollama = testkit(Setup::default());
    let home = Home::new();
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let url = gate.url();
    for kind in ["open-webui", "n8n"] {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write(
            "compose.yaml",
            &format!("services:\n  {kind}:\n    image: {kind}\n    environment:\n      OWN: kept\n"),
        );
        let read = || {
            let stack = composed(folder.path())?;
            Some(stack.map(|stack| {
                let held = stack["services"][kind]["environment"].clone();
                assert_eq!(held["OWN"], "kept", "{held}");
                let json = |name: &str| serde_json::from_str(held[name].as_str().unwrap()).unwrap();
                if kind == "n8n" {
                    let credential: Value = json("CREDENTIALS_OVERWRITE_DATA");
                    (credential["ollamaApi"]["baseUrl"].clone(), credential["ollamaApi"]["apiKey"].clone())
                } else {
                    let connections: Value = json("OLLAMA_API_CONFIGS");
                    (held["OLLAMA_BASE_URLS"].clone(), connections["0"]["key"].clone())
                }
            }))
        };
        // Loopback is nothing to a container; somebody says what is.
        let words = ["deploy", "client", kind, "--gate", &url];
        write("compose.override.yaml", &told(&gate, &home, &words).0);
        let Some(without) = read() else { return };
        assert!(without.unwrap_err().contains("HERDGATE_KEY"), "{kind}: the key is asked for");
        write(".env", &format!("HERDGATE_KEY={}\n", gate.first_key()));
        assert_eq!(read().unwrap().unwrap(), (json!(url), json!(gate.first_key())), "{kind}");
        let words = ["key", "create", kind, "--for", kind, "--gate", &url];
        write("compose.override.yaml", &told(&gate, &home, &words).0);
        write(".env", "");
        let (address, key) = read().unwrap().unwrap();
        assert_eq!(address, url.as_str(), "{kind}");
        for path in ["/api/tags", "/api/version", "/api/ps"] {
            Ask::get(path).key(key.as_str().unwrap()).send(gate.address).ok();
        }
        let vectors = json!({ "model": "embedder", "input": "a" });
        Ask::post("/api/embed", &vectors).key(key.as_str().unwrap()).send(gate.address).ok();
    }
}

#[test]
fn files_of_settings_hold_an_address_and_a_field_that_the_gate_takes() {
    let ollama = testkit(Setup::default());
    let home = Home::new();
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let messages = json!([{ "role": "user", "content": "hi" }]);
    let asked = |url: &str, path: &str, field: (&str, &str), body: &Value| {
        let rest = url.strip_prefix(&gate.url()).unwrap_or_else(|| panic!("{url}"));
        Ask::post(&format!("{rest}{path}"), body).field(field.0, field.1).send(gate.address).ok().json()
    };
    let toml: toml::Table = filled_in(&gate, &home, "codex").parse().unwrap();
    let provider = &toml["model_providers"]["herdgate"];
    assert_eq!(provider["wire_api"].as_str(), Some("responses"));
    let bearer = format!("Bearer {}", provider["experimental_bearer_token"].as_str().unwrap());
    let body = json!({ "model": toml["model"].as_str(), "input": "hi" });
    asked(provider["base_url"].as_str().unwrap(), "/responses", ("Authorization", &bearer), &body);

    let claude: Value = serde_json::from_str(&filled_in(&gate, &home, "claude-code")).unwrap();
    let env = &claude["env"];
    let bearer = format!("Bearer {}", env["ANTHROPIC_AUTH_TOKEN"].as_str().unwrap());
    let body =
        json!({ "model": env["ANTHROPIC_DEFAULT_HAIKU_MODEL"], "max_tokens": 9, "messages": messages });
    asked(env["ANTHROPIC_BASE_URL"].as_str().unwrap(), "/v1/messages", ("Authorization", &bearer), &body);

    let Some(file) = yaml(filled_in(&gate, &home, "continue").as_bytes()) else { return };
    let model = &file["models"][0];
    let bearer = model["requestOptions"]["headers"]["Authorization"].as_str().unwrap();
    let body = json!({ "model": model["model"], "messages": messages, "stream": false });
    asked(model["apiBase"].as_str().unwrap(), "/api/chat", ("Authorization", bearer), &body);
}

#[test]
fn a_key_for_a_client_may_do_what_that_client_asks_and_is_shown_once() {
    let ollama = testkit(Setup::default());
    let home = Home::new();
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let words = ["key", "create", "one", "--for", "fetch", "--json"];
    let (text, err) = told(&gate, &home, &words);
    let made: Value = serde_json::from_str(&text).unwrap();
    let secret = made["secret"].as_str().unwrap();
    assert_eq!(made["scopes"], json!(["infer"]), "{made}");
    assert!(made["settings"].as_str().unwrap().contains(secret) && !err.contains(secret), "{made} {err}");
    let chat = json!({ "model": "demo", "messages": [], "stream": false });
    assert_eq!(Ask::post("/api/chat", &chat).key(secret).send(gate.address).status, 200);
    assert_eq!(Ask::get("/api/tags").key(secret).send(gate.address).status, 403);
    let (_, err) = told(&gate, &home, &["key", "create", "two", "--for", "continue"]);
    assert!(err.contains("infer,embed,read") && err.contains("what continue asks for"), "{err}");
    let (_, err) = told(&gate, &home, &["key", "create", "three", "--for", "env", "--scope", "read"]);
    assert!(err.contains("scopes     read\n") && !err.contains("asks for"), "{err}");
}

#[test]
fn what_is_wrong_is_told_before_there_is_a_key() {
    let home = Home::new().settings("[tls]\ncert = \"/etc/ssl/gate.pem\"\nkey = \"/etc/ssl/gate.key\"\n");
    for (words, said) in [
        (&["--for", "emacs"][..], "claude-code"),
        (&["--for", "python"], "--gate https://NAME:7860"),
        (&["--gate", "https://gate.example.com"], "none is named"),
        (
            &["--for", "env", "--gate", "https://g", "--models", "qwen3:*", "--model", "llama3"],
            "add it to --models",
        ),
        (&["--for", "env", "--ssh-key", "x.pub"], "cannot be used with"),
    ] {
        let failed = home.run(&[&["key", "create", "bot"], words].concat());
        assert_eq!((failed.code, failed.out.as_str()), (64, ""), "{words:?}: {}", failed.err);
        assert!(failed.err.contains(said), "{words:?}: {}", failed.err);
    }
    let unknown = home.run(&["deploy", "client", "emacs"]);
    assert_eq!(unknown.code, 64);
    assert!(KINDS.iter().all(|kind| unknown.err.contains(kind)), "{}", unknown.err);
    assert!(home.run(&["key", "list"]).out.is_empty());
}

#[test]
fn variables_are_a_part_of_a_file_and_the_rest_is_left_as_it_is() {
    let home = Home::new();
    let own = "OWN=1\n# mine\nHERDGATE_KEY=sk-hg-mine";
    fs::write(home.path(".env"), own).unwrap();
    let words = ["deploy", "client", "env", "--model", "qwen3:8b", "--write", "--yes"];
    let written = home.run(&words);
    assert_eq!(written.code, 0, "{}", written.err);
    let text = fs::read_to_string(home.path(".env")).unwrap();
    assert!(text.starts_with(own) && text.contains("\nOLLAMA_URL=http://127.0.0.1:7860\n"), "{text}");
    assert!(home.run(&words).err.contains("nothing was changed"));
    let other = home.run(&["deploy", "client", "env", "--model", "llama3", "--write", "--yes"]);
    assert_eq!(other.code, 0, "{}", other.err);
    let text = fs::read_to_string(home.path(".env")).unwrap();
    assert!(
        text.contains("OLLAMA_MODEL=llama3\n") && !text.contains("qwen3:8b") && text.starts_with(own),
        "{text}"
    );
    let back = home.run(&["deploy", "client", "env", "--undo", "--yes"]);
    assert_eq!(
        (back.code, fs::read_to_string(home.path(".env")).unwrap().as_str()),
        (0, own),
        "{}",
        back.err
    );
}
