//! Every route that names a model, in every spelling of one that the key may not use.

use crate::rows::{Refused, all_are_refused, call, refused, with};
use gate_wire::{BodyKind, Naming, Param, ROUTES};

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
        let bodies: &[&str] = match route.body {
            BodyKind::Json(shape) => match shape.naming {
                Naming::Nothing => continue,
                Naming::Model => &[r#"{"model":"@"}"#],
                Naming::ModelNative => &[r#"{"model":"@"}"#, r#"{"model":"@","name":""}"#],
                Naming::ModelOrName => &[r#"{"model":"@"}"#, r#"{"name":"@"}"#, r#"{"model":"","name":"@"}"#],
                Naming::SourceAndDestination => &[
                    r#"{"source":"@","destination":"qwen3:1b"}"#,
                    r#"{"source":"qwen3:8b","destination":"@"}"#,
                ],
            },
            BodyKind::None | BodyKind::Form | BodyKind::Raw => continue,
        };
        routes += 1;
        let from = [r#"{"model":"qwen3:1b","from":"@"}"#];
        let more: &[&str] = if route.path == "/api/create" { &from } else { &[] };
        for body in bodies.iter().chain(more) {
            for spelling in SPELLINGS {
                let body = body.replace('@', spelling);
                let send = call(route.method, route.path, "@QWEN@", body.as_bytes());
                rows.push(refused(format!("{} {body}", route.path), send, 403, "model_not_allowed"));
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
