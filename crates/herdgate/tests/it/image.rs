//! Images: built by Buildah from what `herdgate deploy dockerfile` prints, and run as a container engine would, with
//! everything that this machine can do of it (`image/`). What they are made from (a compiler, Distroless, Ollama's image) is
//! stood in for by images of this machine's own files, because tests fetch nothing from registries.

mod build;
mod container;

use crate::harness::peer::{self, workspace};
use crate::harness::{Answer, Ask, Demo, Networks, leave_out, testkit, until};
use build::{Builder, Image};
use container::Container;
use gate_testkit::{Fault, Order, Release, Setup};
use rustix::process::Signal;
use serde_json::json;
use sha2::Digest as _;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the containers' gate is, in their network.
const DOOR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7860);
const BINARY: &str = env!("CARGO_BIN_EXE_herdgate");

/// What the command prints, without any settings.
fn dockerfile(words: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(BINARY);
    command.args(["deploy", "dockerfile"]).args(words).env_clear();
    let made = command.current_dir(folder.path()).env("HOME", folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).unwrap()
}

fn ask(networks: &Networks, ask: &Ask) -> Answer {
    networks.within("box", || ask.send(DOOR))
}

/// Waits until the gate answers.
fn wait_for(networks: &Networks) {
    until("the gate in its container to answer", || {
        networks.within("box", || Ask::get("/healthz").try_open(DOOR).ok().map(|stream| stream.rest()))
    });
}

#[test]
fn the_repositorys_own_image_runs_as_nobody_on_a_root_that_cannot_be_written() {
    let Some(builder) = Builder::new() else { return };
    let Some(networks) = Networks::make(&["box"]) else { return };
    builder.stand_in_for_rust(&[Path::new(BINARY)]);
    builder.stand_in_for_distroless(&[Path::new(BINARY)]);
    let file = workspace().join("Dockerfile");
    let image = builder.build("herdgate", &file, &workspace());
    assert_eq!(image.user, "65532:65532");
    assert_eq!(image.ports, ["7860/tcp"]);
    assert_eq!(image.volumes, ["/data"]);
    assert_eq!(image.health, ["CMD", "/usr/local/bin/herdgate", "health"]);

    // Sockets that are made in a network stay there.
    let ollama = networks.within("box", || testkit(Setup::default()));
    let upstream = format!("HERDGATE_UPSTREAMS=http://{}", ollama.addr);
    let mut container = Container::start(&builder, &image, &networks, &[&upstream], true);
    wait_for(&networks);
    let gate = container.process("herdgate");
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.pid)).unwrap();
    let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert_eq!(line("Uid:"), "Uid:\t65532\t65532\t65532\t65532");
    assert_eq!(line("Groups:").trim_end(), "Groups:");
    assert_eq!(line("CapEff:"), "CapEff:\t0000000000000000");
    assert_eq!(line("NSpid:").split('\t').next_back(), Some("1"), "it is the first process of its container");

    // What Docker does every 30 s, and what somebody asks who waits for an upstream.
    for (words, said) in [(&["health"][..], "ok\n"), (&["health", "--ready"], "ready\n")] {
        let health = until("good health", || {
            let health = container.exec(words);
            (health.0 == 0).then_some(health)
        });
        assert_eq!(health.1, said);
    }
    let chat = Ask::post("/api/generate", &json!({"model": "demo", "prompt": "Hello"}));
    assert_eq!(ask(&networks, &chat).status, 401);
    let (code, key, told) = container.exec(&["key", "create", "alice"]);
    assert_eq!(code, 0, "{told}");
    let answer = until("the new key to be known", || {
        let answer = ask(&networks, &chat.clone().key(key.trim()));
        (answer.status == 200).then_some(answer)
    });
    assert!(answer.is_chunked && answer.lines().last().unwrap()["done"] == true, "{answer}");

    assert_eq!(container.check(&image), 0);

    // As `docker stop` does it: what runs has its time, and the first process of the container ends by itself.
    let held = Release::default();
    ollama.order(Order::once(Fault::HoldAfter { bytes: 400, until: held.clone() }).on("/api/generate"));
    let mut stream = networks.within("box", || chat.clone().key(key.trim()).open(DOOR));
    assert!(stream.piece().unwrap().is_some(), "the stream has begun");
    container.signal_gate(Signal::TERM);
    container.says("that it waits", |line| line.contains("SIGTERM"));
    held.now();
    let rest = stream.rest().ok();
    assert_eq!(rest.lines().last().unwrap()["done"], true, "{rest}");
    assert_eq!(container.ended().code(), Some(0));
    assert!(container.volume("/data").join("herdgate.db").is_file(), "keys are in the volume");
    assert!(!container.root().join("data/herdgate.db").exists(), "and nowhere else");
}

/// What somebody gets who has nothing but the image: an answer.
#[test]
fn the_image_with_the_engine_answers_from_its_demo_model() {
    let Some(builder) = Builder::new() else { return };
    let Some(networks) = Networks::make(&["box"]) else { return };
    let Some(engine) = peer::engine() else { return };
    let programs = [Path::new(BINARY), &engine];
    builder.stand_in_for_rust(&programs);
    builder.stand_in_for_distroless(&programs);
    let file = builder.place("Dockerfile");
    std::fs::write(&file, dockerfile(&["--with=engine"])).unwrap();
    let image = builder.build("herdgate-engine", &file, &workspace());
    assert_eq!((image.user.as_str(), &image.volumes[..]), ("65532:65532", &["/data".to_owned()][..]));
    let mut container =
        Container::start(&builder, &image, &networks, &["AUTH_TOKEN=my_secure_token_123"], true);
    wait_for(&networks);
    let engine = container.process("herdgate-engine");
    let status = std::fs::read_to_string(format!("/proc/{}/status", engine.pid)).unwrap();
    assert!(
        status.contains("Uid:\t65532\t65532") && status.contains("CapEff:\t0000000000000000"),
        "{status}"
    );
    let demo = Demo::one();
    let body = json!({"model": Demo::NAME, "messages": [{"role": "user", "content": demo.question}], "stream": false});
    let chat = Ask::post("/api/chat", &body).key("my_secure_token_123");
    let answer =
        until("the demo model", || Some(ask(&networks, &chat)).filter(|answer| answer.status == 200));
    assert_eq!(answer.json()["message"]["content"], demo.answer.as_str(), "{answer}");
    assert_eq!(container.check(&image), 0);
    container.signal_gate(Signal::TERM);
    assert_eq!(container.ended().code(), Some(0));
    assert!(!engine.is_alive(), "the engine ends with its container");
}

/// Ollama's image with the gate in it, and networks to run it in.
fn with_ollama(builder: &Builder) -> Image {
    builder.stand_in_for_debian();
    let context = tempfile::tempdir().unwrap();
    std::fs::copy(BINARY, context.path().join("herdgate")).unwrap();
    let file = context.path().join("Dockerfile");
    std::fs::write(&file, dockerfile(&["--with", "ollama", "--binary", "herdgate"])).unwrap();
    builder.build("herdgate-ollama", &file, context.path())
}

fn generate(prompt: &str, model: &str, stream: bool) -> Ask {
    Ask::post("/api/generate", &json!({"model": model, "prompt": prompt, "stream": stream}))
}

#[test]
fn the_image_with_ollama_keeps_what_the_container_it_replaces_promises() {
    let Some(builder) = Builder::new() else { return };
    let Some(networks) = Networks::make(&["box"]) else { return };
    let Some(testkit) = testkit_program() else { return };
    builder.stand_in_for_ollama(&testkit);
    let image = with_ollama(&builder);
    assert_eq!(
        image.ports,
        ["11434/tcp", "7860/tcp"],
        "Ollama's own image names its port, which is closed here"
    );
    assert_eq!(image.volumes, ["/data", "/root/.ollama"]);

    // docker run -p 7860:7860 -e AUTH_TOKEN=… -e OLLAMA_MODEL=llama2:7b
    let variables = ["AUTH_TOKEN=my_secure_token_123", "OLLAMA_MODEL=llama2:7b"];
    let mut container = Container::start(&builder, &image, &networks, &variables, false);
    wait_for(&networks);
    let ollama = container.process("testkit-ollama");
    let asked = |stream: bool| generate("Why is the sky blue?", "llama2:7b", stream);
    // No field, a field of another form, a token that is wrong: 401 each, with a body of JSON.
    for wrong in
        [asked(true), asked(true).field("Authorization", "my_secure_token_123"), asked(true).key("another")]
    {
        let answer = ask(&networks, &wrong);
        assert_eq!(answer.status, 401, "{answer}");
        assert!(answer.json()["error"].is_string(), "{answer}");
    }
    // The model is pulled once the container runs, and who asks for it meanwhile is told so.
    let mut told = BTreeSet::new();
    let whole = until("the model that OLLAMA_MODEL names", || {
        let answer = ask(&networks, &asked(false).key("my_secure_token_123"));
        if answer.status != 200 {
            told.insert((answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned()));
        }
        (answer.status == 200).then_some(answer)
    });
    assert!(told.contains(&(503, "model_pulling".to_owned())), "{told:?}");
    assert!(whole.json()["done"] == true, "{whole}");
    let stream = ask(&networks, &asked(true).key("my_secure_token_123"));
    assert!(stream.is_chunked && stream.lines().len() > 1, "{stream}");
    assert!(stream.lines().last().unwrap()["done"] == true, "{stream}");
    let tags = ask(&networks, &Ask::get("/api/tags").key("my_secure_token_123"));
    assert!(tags.text().contains("llama2:7b"), "{tags}");
    // Ollama is on loopback of the container, on a port of the gate's choice: 11434 is nobody's.
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, 11434));
    assert!(networks.within("box", || Ask::get("/").try_open(usual).is_err()));
    assert_eq!(container.check(&image), 0);
    let (code, key, said) = container.exec(&["key", "create", "app"]);
    assert_eq!(code, 0, "{said}");
    container.signal_gate(Signal::TERM);
    assert_eq!(container.ended().code(), Some(0));
    assert!(!ollama.is_alive(), "Ollama ends with its container");

    // Another container on the same volumes, as after an update: models and keys are what they were.
    assert!(container.volume("/root/.ollama").join("models/llama2:7b").is_file());
    let volumes = container.volumes().clone();
    let variables = ["AUTH_TOKEN=my_secure_token_123", "OLLAMA_MODEL=llama2:7b"];
    let container = Container::start_on(&volumes, &builder, &image, &networks, &variables, false);
    wait_for(&networks);
    let whole = until("an answer", || {
        let answer = ask(&networks, &asked(false).key(key.trim()));
        assert_ne!(answer.status, 401, "the key is in /data: {answer}");
        let text = answer.text();
        assert!(!text.contains("model_pulling"), "the model is in the volume: {text}");
        (answer.status == 200).then_some(answer)
    });
    assert!(whole.json()["done"] == true, "{whole}");
    assert_eq!(container.check(&image), 0);
}

/// The same, as far as it goes without a registry: the model comes by the gate instead of from there.
#[test]
fn a_real_ollama_in_the_image_keeps_its_models_over_a_restart() {
    let Some(builder) = Builder::new() else { return };
    let Some(networks) = Networks::make(&["box"]) else { return };
    let Some(ollama) = peer::ollama() else { return };
    builder.image_of_ollama(&ollama);
    let image = with_ollama(&builder);
    let variables = ["AUTH_TOKEN=my_secure_token_123", "OLLAMA_MODEL=herdgate-demo", "OLLAMA_NO_CLOUD=1"];
    let mut container = Container::start(&builder, &image, &networks, &variables, false);
    wait_for(&networks);
    let demo = Demo::one();
    let asked = |stream: bool| generate(&demo.question, Demo::NAME, stream);
    for wrong in [asked(true), asked(true).field("Authorization", "Basic eDp5"), asked(true).key("another")] {
        assert_eq!(ask(&networks, &wrong).status, 401);
    }
    container.process("ollama");
    let (code, key, said) = container.exec(&["key", "create", "boss", "--scope", "infer,read,manage"]);
    assert_eq!(code, 0, "{said}");
    let key = key.trim();
    let file = std::fs::read(Demo::file()).unwrap();
    let digest: String = sha2::Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
    let blob = Ask::new("POST", &format!("/api/blobs/sha256:{digest}")).bytes(file).key(key);
    until("Ollama to take the model", || (ask(&networks, &blob).status == 201).then_some(()));
    let files = json!({"demo.gguf": format!("sha256:{digest}")});
    let create = json!({"model": Demo::NAME, "files": files, "parameters": {"num_thread": 1}});
    let made = ask(&networks, &Ask::post("/api/create", &create).key(key)).ok();
    assert_eq!(made.lines().last().unwrap()["status"], "success", "{made}");
    for _ in 0..2 {
        let stream = until("an answer of the model", || {
            Some(ask(&networks, &asked(true).key("my_secure_token_123")))
                .filter(|answer| answer.status == 200)
        });
        assert!(stream.is_chunked && stream.lines().len() > 1, "{stream}");
        let said: String = stream.lines().iter().filter_map(|line| line["response"].as_str()).collect();
        assert_eq!(said, demo.answer);
        assert_eq!(container.check(&image), 0);
        container.signal_gate(Signal::TERM);
        assert_eq!(container.ended().code(), Some(0));
        let volumes = container.volumes().clone();
        container = Container::start_on(&volumes, &builder, &image, &networks, &variables, false);
        wait_for(&networks);
    }
}

#[test]
fn without_a_token_the_log_says_where_the_first_key_lies() {
    let Some(builder) = Builder::new() else { return };
    let Some(networks) = Networks::make(&["box"]) else { return };
    let Some(testkit) = testkit_program() else { return };
    builder.stand_in_for_ollama(&testkit);
    let image = with_ollama(&builder);
    let container = Container::start(&builder, &image, &networks, &[], false);
    let line = container.says("where the first key lies", |line| line.contains("/data/first-key"));
    assert!(!line.contains("sk-hg-"), "{line}");
    wait_for(&networks);
    let key = std::fs::read_to_string(container.volume("/data").join("first-key")).unwrap();
    let tags = Ask::get("/api/tags").key(key.trim());
    assert_ne!(ask(&networks, &tags).status, 401, "the key of the file is one");
    until("the models of its Ollama", || (ask(&networks, &tags).status == 200).then_some(()));
}

/// The test kit as a program, which a build of the workspace leaves beside the gate.
fn testkit_program() -> Option<PathBuf> {
    let program = Path::new(BINARY).with_file_name("testkit-ollama");
    if program.is_file() {
        return Some(program);
    }
    leave_out(&format!("there is no {}: cargo build -p gate-testkit", program.display()));
    None
}
