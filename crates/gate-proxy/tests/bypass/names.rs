//! Every route that names a model, in every spelling of one that the key may not use.

use crate::rows::{Refused, all_are_refused, call, refused, with};
use gate_wire::{BodyKind, Naming, Param, ROUTES, Reading};

/// One model to Ollama.
const SPELLINGS: [&str; 9] = [
    "llama3",
    "llama3:latest",
    "LLAMA3",
    "library/llama3",
    "registry.ollama.ai/library/llama3:latest",
    "https://registry.ollama.ai/library/llama3",
    " llama3 ",
    "llama3:local",
    "l\\u006cama3",
];

/// Near misses of `qwen3:*`.
const NEAR: [&str; 8] = [
    "qwen3.example.com/x/y",
    "qwen3-coder:30b",
    "qwen33",
    "qwen3/x",
    "acme/qwen3",
    "hf.co/qwen3/x",
    "xqwen3",
    "qwen",
];

#[test]
fn a_key_uses_its_own_models_alone_on_every_route_and_in_every_spelling() {
    let mut rows: Vec<Refused> = Vec::new();
    let mut routes = 0;
    for route in ROUTES {
        let BodyKind::Json(shape) = route.body else { continue };
        let bodies: &[&str] = match shape.naming {
            Naming::Nothing => continue,
            Naming::Model => &[r#"{"model":"@"}"#],
            Naming::ModelNative => &[r#"{"model":"@"}"#, r#"{"model":"@","name":""}"#],
            Naming::ModelOrName => &[r#"{"model":"@"}"#, r#"{"name":"@"}"#, r#"{"model":"","name":"@"}"#],
            Naming::SourceAndDestination => {
                &[r#"{"source":"@","destination":"qwen3:1b"}"#, r#"{"source":"qwen3:8b","destination":"@"}"#]
            }
        };
        routes += 1;
        let from = [r#"{"model":"qwen3:1b","from":"@"}"#];
        let more: &[&str] = if route.path == "/api/create" { &from } else { &[] };
        for body in bodies.iter().chain(more) {
            for spelling in SPELLINGS {
                // A name that a model is stored under has no blanks around it.
                let is_name =
                    shape.reading == Reading::Asked || spelling != " llama3 " || from.contains(body);
                let (status, code) =
                    if is_name { (403, "model_not_allowed") } else { (400, "invalid_model_name") };
                let body = body.replace('@', spelling);
                let send = call(route.method, route.path, "@QWEN@", body.as_bytes());
                rows.push(refused(format!("{} {body}", route.path), send, status, code));
            }
        }
    }
    assert_eq!(routes, 15, "a new route that names a model needs a look");
    for near in NEAR {
        let body = format!("{{\"model\":\"{near}\"}}");
        rows.push(refused(
            body.clone(),
            call("POST", "/api/chat", "@QWEN@", body.as_bytes()),
            403,
            "model_not_allowed",
        ));
    }
    for spelling in [
        "llama3",
        "LLAMA3:latest",
        "library/llama3",
        "library%2Fllama3",
        "registry.ollama.ai%2flibrary%2fllama3%3Alatest",
    ] {
        let path = format!("/v1/models/{spelling}");
        assert!(matches!(
            gate_wire::find("GET", &path),
            gate_wire::Found::Route(_, Some(Param::Model { .. }))
        ));
        let send = with("GET", &path, "x-api-key: @QWEN@\r\n", b"");
        rows.push(refused(path, send, 403, "model_not_allowed"));
    }
    assert!(rows.len() >= 200, "{}", rows.len());
    all_are_refused(&rows);
}

/// What a key for `demo` and `demo:1b` alone asks for: the ending makes another model of it, here or elsewhere.
const OTHERS: &[(&str, &str)] = &[
    ("/api/chat", r#"{"model":"demo:cloud"}"#),
    ("/api/chat", r#"{"model":"demo:1b:cloud"}"#),
    ("/v1/chat/completions", r#"{"model":"demo:1b-cloud"}"#),
    ("/api/show", r#"{"name":"demo:cloud"}"#),
    ("/api/pull", r#"{"model":"demo:cloud"}"#),
    ("/api/pull", r#"{"name":"demo:1b:cloud"}"#),
    ("/api/pull", r#"{"model":"demo:1b-CLOUD"}"#),
    ("/api/delete", r#"{"model":"demo:cloud"}"#),
    ("/api/delete", r#"{"model":"demo:1b:cloud"}"#),
    ("/api/delete", r#"{"name":" demo:Cloud "}"#),
    ("/api/push", r#"{"model":"demo:local"}"#),
    ("/api/push", r#"{"model":"demo:cloud"}"#),
    ("/api/create", r#"{"model":"demo:local","from":"demo"}"#),
    ("/api/create", r#"{"name":"demo:LOCAL","from":"demo"}"#),
    ("/api/create", r#"{"model":"demo:cloud","from":"demo"}"#),
    ("/api/create", r#"{"model":"demo","from":"demo:cloud"}"#),
    ("/api/create", r#"{"model":"demo","from":"demo:1b:cloud"}"#),
    ("/api/copy", r#"{"source":"demo:local","destination":"demo:1b"}"#),
    ("/api/copy", r#"{"source":"demo:cloud","destination":"demo:1b"}"#),
    ("/api/copy", r#"{"source":"demo:1b","destination":"demo:local"}"#),
    ("/api/copy", r#"{"source":"demo:1b","destination":"demo:cloud"}"#),
];

/// What names no model on its route, whoever asks.
const NO_NAMES: &[(&str, &str)] = &[
    ("/api/chat", r#"{"model":"demo:1b-cloud:local"}"#),
    ("/api/chat", r#"{"model":"demo:local-cloud"}"#),
    ("/api/chat", r#"{"model":"demo: cloud"}"#),
    ("/api/chat", r#"{"model":"https://demo"}"#),
    ("/api/pull", r#"{"model":"demo:local:cloud"}"#),
    ("/api/pull", r#"{"model":"https://acme/demo"}"#),
    ("/api/delete", r#"{"model":"demo:1b-cloud:local"}"#),
    ("/api/push", r#"{"model":"demo:1b:local"}"#),
    ("/api/push", r#"{"model":" demo"}"#),
    ("/api/create", r#"{"model":"demo:1b:cloud","from":"demo"}"#),
    ("/api/create", r#"{"model":"demo:1b:local","from":"demo"}"#),
    ("/api/create", r#"{"model":"demo","from":"demo:1b-cloud:local"}"#),
    ("/api/copy", r#"{"source":"demo:1b:local","destination":"demo"}"#),
    ("/api/copy", r#"{"source":"demo","destination":"demo:1b:local"}"#),
];

#[test]
fn what_the_endings_mean_on_a_route_is_what_is_decided_on() {
    let method = |path: &str| if path == "/api/delete" { "DELETE" } else { "POST" };
    let row = |key: &str, path: &str, body: &str, status, code| {
        refused(format!("{path} {body}"), call(method(path), path, key, body.as_bytes()), status, code)
    };
    let others = OTHERS.iter().map(|(path, body)| row("@DEMO@", path, body, 403, "model_not_allowed"));
    let no_names = NO_NAMES.iter().map(|(path, body)| row("@ALL@", path, body, 400, "invalid_model_name"));
    all_are_refused(&others.chain(no_names).collect::<Vec<_>>());
}
