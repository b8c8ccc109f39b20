//! Registries, pushing and what leaves the machine, from outside: the settings are heard, the probes bring what is needed.

use crate::harness::{Ask, Home, testkit, until};
use gate_testkit::{Model, Setup};
use serde_json::{Value, json};

#[test]
fn registries_and_pushing_are_settings() {
    let ollama = testkit(Setup::default());
    for (settings, pull, push) in [
        ("", (403, "registry_not_allowed"), (403, "push_disabled")),
        ("[manage]\npush = true\n", (403, "registry_not_allowed"), (403, "registry_not_allowed")),
        ("[manage]\npush = true\nregistries = [\"models.lan:5000\"]\n", (200, ""), (200, "")),
    ] {
        let home = Home::new().settings(settings);
        let key = home.key("keeper", &["--scope", "manage"]);
        let gate = home.serve(&["--upstream", &ollama.url()]);
        for (path, (status, code)) in [("/api/pull", pull), ("/api/push", push)] {
            let body = json!({"model": "Models.LAN:5000/acme/demo", "stream": false});
            let answer = Ask::post(path, &body).key(&key).send(gate.address);
            assert_eq!(answer.status, status, "{settings} {path}: {answer}");
            assert_eq!(answer.json()["code"].as_str().unwrap_or_default(), code, "{answer}");
        }
        let usual =
            Ask::post("/api/pull", &json!({"model": "qwen3", "stream": false})).key(&key).send(gate.address);
        assert_eq!(usual.status == 200, !settings.contains("registries"), "{usual}");
    }
    assert_eq!(ollama.seen_on("/api/push").len(), 1, "what is refused is not sent");
}

fn names(answer: &Value) -> Vec<&str> {
    answer["models"].as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap()).collect()
}

#[test]
fn a_probe_finds_the_models_that_leave_the_machine() {
    let models = vec![Model::named("demo"), Model::stub("mine")];
    let ollama = testkit(Setup { models, ..Setup::default() });
    let home = Home::new();
    let (plain, cloud) = (home.key("plain", &[]), home.key("cloud", &["--scope", "infer,read,cloud"]));
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let chat = |key: &str| {
        let body = json!({"model": "MINE:local", "messages": [], "stream": false});
        Ask::post("/api/chat", &body).key(key).send(gate.address)
    };
    let refused = until("the probe", || Some(chat(&plain)).filter(|answer| answer.status == 403));
    assert_eq!(refused.json()["code"], "missing_scope", "{refused}");
    let sent = ollama.seen_on("/api/chat").len();
    assert_eq!(chat(&plain).status, 403);
    assert_eq!(ollama.seen_on("/api/chat").len(), sent, "what is refused is not sent");
    assert_eq!(chat(&cloud).status, 200);
    let listed = |key: &str| Ask::get("/api/tags").key(key).send(gate.address).json();
    assert_eq!(names(&listed(&plain)), ["demo:latest"]);
    assert_eq!(names(&listed(&cloud)), ["demo:latest", "mine:latest"]);

    // Made a model of its own, it is one to everybody.
    ollama.change(|setup| setup.models = vec![Model::named("demo"), Model::named("mine")]);
    until("the next probe", || (chat(&plain).status == 200).then_some(()));
}

#[test]
fn show_keeps_its_secrets() {
    let ollama = testkit(Setup::default());
    let home = Home::new();
    let (plain, keeper) = (home.key("plain", &[]), home.key("keeper", &["--scope", "read,manage"]));
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let show =
        |key: &str| Ask::post("/api/show", &json!({"model": "demo"})).key(key).send(gate.address).ok().json();
    let (less, all) = (show(&plain), show(&keeper));
    let mut expected = all.clone();
    for hidden in ["modelfile", "system"] {
        assert!(expected.as_object_mut().unwrap().remove(hidden).is_some());
    }
    assert_eq!(less, expected);
}
