//! Every kind, for every way in which a gate may stand and a client may find it, judged by the readers of the formats: JSON, TOML,
//! YAML, Python, JavaScript and a shell. What stock clients do with them is tried in the end-to-end tests.

use super::head::{WIDTH, wrapped};
use super::*;
use crate::deploy::testing::{all, likes, make_of, text};
use crate::deploy::{Base, Made};
use clap::ValueEnum as _;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const PLAIN: &str = "";
const LOOPBACK: &str = "[listen]\naddress = \"127.0.0.1:7860\"\n";
const ADDRESS: &str =
    "[listen]\naddress = \"192.168.1.5:8080\"\n[local]\nmodels = [\"qwen3:8b\", \"other\"]\n";
const OWN: &str = "[tls]\ncert = \"/etc/ssl/gate.pem\"\nkey = \"/etc/ssl/gate.key\"\n";
const SELF_SIGNED: &str = "[tls]\nself_signed = true\n";
const ACME: &str =
    "[listen]\naddress = \":443\"\n[tls]\ndomain = [\"gate.example.com\", \"other.example.com\"]\n";
const BOTH: &str = "[[listen]]\naddress = \":80\"\nredirect = true\n[[listen]]\naddress = \"127.0.0.1:7861\"\ntls = false\n\
                    [[listen]]\naddress = \":7860\"\n[tls]\nself_signed = true\n\
                    [queue]\nmax_wait = \"5m\"\n[[upstream]]\nurl = \"http://gpu1\"\nidle = \"1h\"\nmodels = [\"llama3\"]\n";
const SETTINGS: [&str; 7] = [PLAIN, LOOPBACK, ADDRESS, OWN, SELF_SIGNED, ACME, BOTH];
const GATES: [&str; 4] =
    ["", "--gate=http://gpu", "--gate=https://GPU.example.com/ollama/", "--gate=https://[fd00::1]:7860"];
const OPTIONS: [&[&str]; 2] = [&["", "--model=qwen3:0.6b"], &["", "--ca=/opt/ca.pem"]];

const SECRET: &str = "sk-hg-0123456789abcdefghijklmnopqrstuvwxyzAB";
const COPIED: Option<&str> = Some(COPY);
const COPY: &str = "/etc/herdgate/tls-ca.pem";

/// Address and authority as a client of this kind must have them, or a word of why there are none.
fn expected(
    client: Client,
    settings: &str,
    gate: &str,
    ca: &str,
) -> Result<(&'static str, Option<&'static str>), &'static str> {
    let own = !ca.is_empty();
    let is_self_signed = [SELF_SIGNED, BOTH].contains(&settings);
    let (url, ca) = match (gate, settings, client.is_container()) {
        ("--gate=http://gpu", ..) => ("http://gpu", None),
        ("--gate=https://GPU.example.com/ollama/", ..) => ("https://gpu.example.com/ollama", None),
        ("--gate=https://[fd00::1]:7860", ..) => {
            ("https://[fd00::1]:7860", if is_self_signed { COPIED } else { None })
        }
        (_, PLAIN, true) => ("http://host.docker.internal:7860", None),
        (_, PLAIN, false) | (_, LOOPBACK, false) => ("http://127.0.0.1:7860", None),
        (_, LOOPBACK, true) => return Err("which no container reaches"),
        (_, ADDRESS, _) => ("http://192.168.1.5:8080", None),
        (_, OWN, _) => return Err("which name of the gate's certificate"),
        (_, ACME, _) => ("https://gate.example.com", None),
        (_, _, false) => ("https://127.0.0.1:7860", COPIED),
        (_, _, true) => ("https://host.docker.internal:7860", COPIED),
    };
    match (own, url.starts_with("https")) {
        (true, true) => Ok((url, Some("/opt/ca.pem"))),
        (true, false) => Err("--ca is for a gate that is asked by https://"),
        (false, _) => Ok((url, ca)),
    }
}

fn made(client: Client, settings: &str, words: &[&str]) -> anyhow::Result<Deployment> {
    let file = (!settings.is_empty()).then(|| (PathBuf::from("/srv/herdgate.toml"), settings.to_owned()));
    let words: Vec<&str> =
        [client.word()].into_iter().chain(words.iter().copied().filter(|word| !word.is_empty())).collect();
    make_of("client", file, &[], &words, make)
}

/// The same with a key in it.
fn filled_in(client: Client, settings: &str, words: &[&str]) -> String {
    let file = (!settings.is_empty()).then(|| (PathBuf::from("/srv/herdgate.toml"), settings.to_owned()));
    let words: Vec<&str> =
        [client.word()].into_iter().chain(words.iter().copied().filter(|word| !word.is_empty())).collect();
    let kind = |asked: &ClientArgs, ground: &Ground<'_>| {
        let filled = Filled::of(asked.client, &asked.about, ground)?;
        Ok(Deployment::new("client", Base::Here, vec![Made::new("filled", filled.filled_in(SECRET, "bot"))]))
    };
    text(&make_of("client", file, &[], &words, kind).unwrap(), "filled").to_owned()
}

/// What any of them says, whatever it is written in.
#[track_caller]
fn check(client: Client, settings: &str, words: &[&str], text: &str, (url, ca): (&str, Option<&str>)) {
    let about = format!("{client:?} {words:?} {settings}\n{text}");
    assert!(text.contains(url) && !text.contains("0.0.0.0") && !text.contains("[::]"), "{about}");
    let model = match (words[1], settings) {
        ("", ADDRESS) => "qwen3:8b",
        ("", BOTH) => "llama3:latest",
        ("", _) => NO_MODEL,
        (_, _) => "qwen3:0.6b",
    };
    assert!(text.contains(model) || client == Client::OpenWebui, "{about}");
    let (seconds, milliseconds) = if settings == BOTH { ("3930", "3930000") } else { ("660", "660000") };
    assert!(text.contains(if client == Client::ClaudeCode { milliseconds } else { seconds }), "{about}");
    match ca {
        Some(file) => assert!(text.contains(file), "{about}"),
        None => assert!(!text.contains(".pem"), "{about}"),
    }
}

/// Texts for the readers of their formats, by a number and the name of their file.
struct Folder(tempfile::TempDir);

impl Folder {
    fn write(&self, count: usize, name: &str, text: &str) {
        fs::write(self.0.path().join(format!("{count}-{name}")), text).unwrap();
    }

    /// One call of each for all of them.
    fn judge(&self) {
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/src/deploy/client/");
        let folder = self.0.path().to_str().unwrap();
        likes("python3", &[&format!("{here}facts.py"), folder]);
        let node = ["--no-warnings", "--experimental-vm-modules", &format!("{here}facts.mjs"), folder];
        likes("node", &node);
    }

    /// With a key: in a file of its own where it is a program's, and nowhere in the program.
    fn write_filled(&self, count: usize, client: Client, name: &str, filled: &str) {
        let program = filled.split_once("<<'END OF PROGRAM'\n");
        assert_eq!(program.is_some(), matches!(client.row().form, Form::Program { .. }), "{filled}");
        let Some((before, program)) = program else {
            assert!(filled.contains(SECRET) && !filled.contains("HERDGATE_KEY:?"), "{filled}");
            return self.write(count, &format!("filled-{name}"), filled);
        };
        assert!(before.contains(SECRET) && !program.contains(SECRET), "{filled}");
        self.write(count, &format!("filled-{name}.sh"), filled);
        self.write(count, &format!("filled-{name}"), program.split("END OF PROGRAM").next().unwrap());
    }
}

#[test]
fn the_word_of_the_command_line_is_the_one_of_its_row() {
    for client in Client::value_variants() {
        let value = client.to_possible_value().unwrap();
        assert_eq!(client.row().kind, format!("client {}", value.get_name()));
    }
}

#[test]
fn every_kind_for_every_gate() {
    let folder = Folder(tempfile::tempdir().unwrap());
    let shapes = all(&[&GATES, OPTIONS[0], OPTIONS[1]]);
    let every =
        Client::value_variants().iter().flat_map(|client| SETTINGS.map(|settings| (*client, settings)));
    let every =
        every.flat_map(|(client, settings)| shapes.iter().map(move |words| (client, settings, words)));
    for (count, (client, settings, words)) in every.enumerate() {
        let expected = expected(client, settings, words[0], words[2]);
        let (place, deployment) = match (expected, made(client, settings, words)) {
            (Ok(place), Ok(deployment)) => (place, deployment),
            (Err(word), Err(error)) => {
                let error = error.to_string();
                assert!(error.contains(word), "{client:?} {words:?} {settings}: {error}");
                continue;
            }
            (expected, made) => panic!("{client:?} {words:?} {settings}: {expected:?}, {made:?}"),
        };
        let name = Path::new(client.row().path).file_name().unwrap().to_str().unwrap();
        let plain = text(&deployment, name);
        check(client, settings, words, plain, place);
        assert!(!plain.contains("sk-hg-0"), "{plain}");
        folder.write(count, name, plain);
        let filled = filled_in(client, settings, words);
        check(client, settings, words, &filled, place);
        folder.write_filled(count, client, name, &filled);
    }
    folder.judge();
}

/// By file of what herdgate says today, so that a change of it is seen; `UPDATE_GOLDEN=1` writes them.
#[test]
fn what_they_say_is_what_it_was() {
    let gate = "--gate=https://gate.example.com:7860";
    let ways = [
        ("plain", PLAIN, ""),
        ("own certificate", OWN, gate),
        ("self-signed", SELF_SIGNED, gate),
        ("ACME", ACME, ""),
    ];
    for client in Client::value_variants() {
        let said: String = ways
            .iter()
            .map(|(way, settings, gate)| {
                let deployment = made(*client, settings, &[gate, "--model=qwen3:8b"]).unwrap();
                let notes: String = deployment.notes.iter().map(|note| format!("note: {note}\n")).collect();
                format!("==== {way}\n{}{notes}", deployment.files[0].text)
            })
            .chain([format!(
                "==== with a key\n{}",
                filled_in(*client, SELF_SIGNED, &[gate, "--model=qwen3:8b"])
            )])
            .collect();
        let file = format!("{}/src/deploy/client/golden/{}.txt", env!("CARGO_MANIFEST_DIR"), client.word());
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&file, &said).unwrap();
        }
        let golden = fs::read_to_string(&file).unwrap_or_default();
        assert!(golden == said, "{file} says something else; UPDATE_GOLDEN=1 writes it anew:\n{said}");
    }
}

#[test]
fn json_and_toml_hold_what_their_clients_read() {
    let words = ["--gate=https://gate.example.com:7860", "--model=qwen3:8b"];
    let json: Value = serde_json::from_str(&filled_in(Client::ClaudeCode, SELF_SIGNED, &words)).unwrap();
    assert_eq!(json["env"]["ANTHROPIC_BASE_URL"], "https://gate.example.com:7860");
    assert_eq!(json["env"]["ANTHROPIC_AUTH_TOKEN"], SECRET);
    assert_eq!(json["env"]["NODE_EXTRA_CA_CERTS"], COPY);
    assert_eq!(json["model"], "qwen3:8b");
    let plain: Value =
        serde_json::from_str(&made(Client::ClaudeCode, SELF_SIGNED, &words).unwrap().files[0].text).unwrap();
    assert!(plain["env"]["ANTHROPIC_AUTH_TOKEN"].is_null() && plain["apiKeyHelper"].is_string(), "{plain}");
    let toml: toml::Table = filled_in(Client::Codex, SELF_SIGNED, &words).parse().unwrap();
    let provider = &toml["model_providers"][toml["model_provider"].as_str().unwrap()];
    assert_eq!(provider["base_url"].as_str(), Some("https://gate.example.com:7860/v1"));
    assert_eq!(provider["experimental_bearer_token"].as_str(), Some(SECRET));
    assert_eq!(
        (toml["model"].as_str(), toml["model_context_window"].as_integer()),
        (Some("qwen3:8b"), Some(65_536))
    );
}

/// What a text says it was run with is what the end-to-end tests install.
#[test]
fn the_versions_that_are_named_are_those_that_are_run() {
    let read = |name: &str| {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/clients").join(name))
            .unwrap()
    };
    let package: Value = serde_json::from_str(&read("package.json")).unwrap();
    let of_node = |name: &str| format!("{name} {}", package["dependencies"][name].as_str().unwrap());
    let of_python = |file: &str, name: &str| {
        let version =
            read(file).lines().find_map(|line| line.strip_prefix(&format!("{name}==")).map(str::to_owned));
        format!("{name} {}", version.unwrap())
    };
    for (client, run) in [
        (Client::Python, of_python("requirements.txt", "ollama")),
        (Client::Env, of_python("requirements.txt", "ollama")),
        (Client::Langchain, of_python("requirements-langchain.txt", "langchain-ollama")),
        (Client::Javascript, of_node("ollama")),
        (Client::Javascript, of_node("undici")),
        (Client::Fetch, of_node("undici")),
    ] {
        let text = made(client, PLAIN, &[]).unwrap().files[0].text.clone();
        assert!(text.contains(&run), "{run} is not in\n{text}");
    }
}

#[test]
fn comments_are_wrapped_and_what_is_copied_is_not() {
    let long = "word ".repeat(40);
    let command = format!("`sudo install {}`", "x".repeat(WIDTH));
    let lines = wrapped(&format!("{long}{command} end"));
    let (short, whole): (Vec<&String>, Vec<&String>) = lines.iter().partition(|line| line.len() <= WIDTH);
    assert_eq!((short.len(), whole), (3, vec![&command]), "{lines:?}");
    assert_eq!(lines.join(" "), format!("{long}{command} end"));
    for client in Client::value_variants().iter().filter(|client| **client != Client::ClaudeCode) {
        let text = made(*client, SELF_SIGNED, &["--gate=https://gate.example.com:7860"]).unwrap().files[0]
            .text
            .clone();
        let head = text.lines().take_while(|line| line.starts_with(['#', '/']));
        let too_long =
            head.filter(|line| line.chars().count() > WIDTH + 5 && !line.contains('`')).collect::<Vec<_>>();
        assert!(too_long.is_empty(), "{client:?}: {too_long:?}");
        // A command that goes on in the next line is none that can be copied.
        let is_cut = |line: &&str| {
            line.starts_with(['#', '/'])
                && ["herdgate", "connect", "install", "--gate", "--ca", "--model", "--for"]
                    .iter()
                    .any(|word| line.ends_with(&format!(" {word}")))
        };
        let cut: Vec<&str> = text.lines().filter(is_cut).collect();
        assert!(cut.is_empty(), "{client:?}: {cut:?}");
    }
}

#[test]
fn the_context_is_the_one_that_the_settings_give_to_ollama() {
    let settings = "[local]\nenv = { OLLAMA_CONTEXT_LENGTH = \"131072\" }\n";
    for client in [Client::Codex, Client::ClaudeCode] {
        assert!(filled_in(client, settings, &[]).contains("131072"));
    }
}

#[test]
fn a_gate_that_cannot_be_told_is_asked_for() {
    let refuse = "[tls]\nplain_keys = \"refuse\"\n";
    for (client, settings, words, said) in [
        (Client::Env, "[listen]\naddress = \":0\"\n", "", "chosen at its start"),
        (Client::N8n, refuse, "", "lets no key in by it"),
        (Client::Env, refuse, "--gate=http://gpu:7860", "lets no key in by it"),
        (Client::Env, "", "--gate=gpu:7860", "neither http:// nor https://"),
        (Client::Env, "", "--gate=http://0.0.0.0:7860", "every address of a machine"),
        (Client::Env, "", "--gate=http://[::]:7860", "every address of a machine"),
        (Client::Env, "", "--gate=http://u:secret@gpu:7860", "credentials"),
        (Client::Env, "", "--gate=http://gpu:7860/v1", "which programs add by themselves"),
        (Client::Env, "", "--gate=http://gpu:7860/a'b", "hint: "),
        (Client::Env, "", "--model=a b", "--model \"a b\""),
        (Client::Env, "", "--ca=/etc/ca.pem", "asked by https://"),
        (Client::Python, SELF_SIGNED, "--ca=/etc/a'b.pem", "cannot be written down safely"),
    ] {
        let error =
            made(client, settings, &[words]).map(|made| made.files[0].text.clone()).unwrap_err().to_string();
        assert!(error.contains(said) && !error.contains("secret"), "{words} {settings}: {error}");
    }
    // From this machine no key crosses a network.
    assert!(made(Client::Env, refuse, &[]).is_ok());
}

#[test]
fn a_key_of_some_models_is_given_one_of_them() {
    for (settings, words, patterns, model) in [
        (PLAIN, "", &["qwen3:*", "llama3"][..], Ok("OLLAMA_MODEL=llama3:latest\n")),
        (PLAIN, "", &["qwen3:*"], Ok("OLLAMA_MODEL=PUT-A-MODEL-HERE\n")),
        (ADDRESS, "", &["qwen3:*"], Ok("OLLAMA_MODEL=qwen3:8b\n")),
        (ADDRESS, "", &["llama3"], Ok("OLLAMA_MODEL=llama3:latest\n")),
        (PLAIN, "--model=qwen3:8b", &["qwen3:*"], Ok("OLLAMA_MODEL=qwen3:8b\n")),
        (PLAIN, "--model=qwen3:8b", &["llama3"], Err("none of those that --models")),
    ] {
        let patterns: Vec<ModelGlob> = patterns.iter().map(|text| ModelGlob::parse(text).unwrap()).collect();
        let kind = |asked: &ClientArgs, ground: &Ground<'_>| {
            let filled = Filled::of(asked.client, &asked.about, ground)?.among(&patterns)?;
            Ok(Deployment::new(
                "client",
                Base::Here,
                vec![Made::new("filled", filled.filled_in(SECRET, "bot"))],
            ))
        };
        let file = Some((PathBuf::from("/srv/herdgate.toml"), settings.to_owned()));
        let words: Vec<&str> = ["env", words].into_iter().filter(|word| !word.is_empty()).collect();
        let made = make_of("client", file, &[], &words, kind).map(|made| made.files[0].text.clone());
        match (model, made) {
            (Ok(line), Ok(text)) => assert!(text.contains(line), "{text}"),
            (Err(word), Err(error)) => assert!(error.to_string().contains(word), "{error}"),
            (model, made) => panic!("{model:?}, {made:?}"),
        }
    }
}
