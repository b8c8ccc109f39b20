//! The engine's answers beside those of a real Ollama 0.32.15, recorded in `../golden/`.
//!
//! Compared: status, content type, `Allow`, framing (length or chunks, a line or an event per chunk), the order of the
//! fields, their names and types, and for errors the text. Values differ, as the models do.

use std::path::Path;

use serde_json::Value;

use crate::models::{self, EMBEDDER};
use crate::wire::{Engine, Response, demo_file};

/// Where the engine answers otherwise, with the reason. The README explains them.
const DIFFERENT: &[(&str, &str)] = &[
    ("embed-string", "the engine embeds with every model, as Ollama 0.24 does"),
    ("embed-list-empty-string", "the engine embeds with every model, as Ollama 0.24 does"),
    ("v1-embeddings", "the engine embeds with every model, as Ollama 0.24 does"),
    ("generate-format-json", "structured output is not offered"),
    ("v1-chat-json-object", "structured output is not offered"),
    ("v1-chat-logprobs", "logprobs are not offered"),
    ("generate-images", "images are refused in the engine's own words, not in llama-server's"),
    ("chat-images", "images are refused in the engine's own words, not in llama-server's"),
    ("generate-bad-template", "the engine has no Go templates"),
    ("json-malformed-2", "syntax errors are told in the engine's own words, with line and column"),
];

fn golden(name: &str) -> (Vec<u8>, Response) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let request = std::fs::read(dir.join(format!("{name}.req"))).unwrap();
    let bytes = std::fs::read(dir.join(format!("{name}.res"))).unwrap();
    let is_head = request.starts_with(b"HEAD ");
    (request, Response::read(&mut bytes.as_slice(), is_head))
}

/// A value's shape: names, order and types.
fn shape(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "text".into(),
        Value::Array(all) => {
            let mut shapes: Vec<String> = all.iter().map(shape).collect();
            shapes.dedup();
            format!("[{}]", shapes.join(","))
        }
        Value::Object(map) => {
            let fields = map.iter().map(|(key, value)| match key.as_str() {
                // What a file says of itself is the file's.
                "model_info" => format!("{key}:{}", if value.is_object() { "facts" } else { "?" }),
                _ => format!("{key}:{}", shape(value)),
            });
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
    }
}

/// One chunk: the shapes of its lines or events.
fn chunk_shape(chunk: &str, kind: &str) -> String {
    let json = |text: &str| {
        serde_json::from_str::<Value>(text).map_or_else(|_| text.to_owned(), |value| shape(&value))
    };
    match kind {
        "application/x-ndjson" => chunk.lines().map(json).collect::<Vec<_>>().join("\n"),
        "text/event-stream" => {
            let lines = chunk.lines().map(|line| match line.strip_prefix("data: ") {
                Some(data) => format!("data: {}", json(data)),
                None => line.to_owned(),
            });
            lines.collect::<Vec<_>>().join("\n")
        }
        _ => json(chunk),
    }
}

/// Everything that is compared, as text, so that a difference reads well.
fn picture(response: &Response) -> String {
    let kind = response.field("content-type").unwrap_or("none");
    let is_stream = matches!(kind, "application/x-ndjson" | "text/event-stream");
    // v1 sends some of its errors with a charset and some without; which is which says nothing.
    let shown_kind = if response.status >= 400 { kind.trim_end_matches("; charset=utf-8") } else { kind };
    let mut lines = vec![format!("{} {shown_kind}", response.status)];
    for name in ["allow", "cache-control"] {
        // The recorded server sends it before it knows that there will be no stream.
        if let Some(value) = response.field(name).filter(|_| response.status < 400 || name == "allow") {
            lines.push(format!("{name}: {value}"));
        }
    }
    if is_stream {
        assert!(response.is_chunked);
        let shapes = response.chunks.iter().map(|chunk| {
            let chunk = String::from_utf8(chunk.clone()).unwrap();
            let end = if kind == "text/event-stream" { "\n\n" } else { "\n" };
            assert!(chunk.ends_with(end), "a chunk ends inside a line or event: {chunk:?}");
            chunk_shape(&chunk, kind)
        });
        lines.extend(shapes);
        lines.dedup();
    } else if response.status >= 400 {
        lines.push(without_id(&response.text()));
    } else {
        lines.push(chunk_shape(response.text().trim_end_matches('\n'), kind));
    }
    lines.join("\n")
}

fn without_id(text: &str) -> String {
    match text.split_once("\"request_id\":\"req_") {
        Some((before, _)) => format!("{before}\"request_id\":…"),
        None => text.trim_end().to_owned(),
    }
}

/// Plays a recorded request to the engine and compares the answers; gives the difference.
fn compare(engine: &Engine, name: &str) -> Option<String> {
    let (request, recorded) = golden(name);
    let (theirs, ours) = (picture(&recorded), picture(&engine.send(&request)));
    (theirs != ours).then(|| format!("== {name}\n-- Ollama\n{theirs}\n-- engine\n{ours}\n"))
}

fn compare_all(engine: &Engine, names: &[&str]) {
    let differences: Vec<String> = names.iter().filter_map(|name| compare(engine, name)).collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn demo() -> (&'static str, Vec<u8>) {
    ("demo", std::fs::read(demo_file()).unwrap())
}

/// All recorded requests but those that need a certain state of the server.
fn stateless() -> Vec<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let staged =
        ["tags-one", "tags-head", "ps-empty", "ps-loaded", "generate-load", "generate-unload", "chat-unload"];
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .filter_map(|file| Some(file.unwrap().file_name().to_str()?.strip_suffix(".req")?.to_owned()))
        .filter(|name| !staged.contains(&name.as_str()))
        .collect();
    names.sort();
    names
}

#[test]
fn answers_have_the_shape_of_ollamas() {
    let engine = Engine::start(&[demo(), ("embedder", models::model(EMBEDDER))], &[]);
    let names = stateless();
    assert!(names.len() > 100, "{}", names.len());
    let known = |name: &str| DIFFERENT.iter().any(|(different, _)| *different == name);
    let same: Vec<&str> = names.iter().map(String::as_str).filter(|name| !known(name)).collect();
    compare_all(&engine, &same);
}

#[test]
fn the_list_of_differences_is_true() {
    let engine = Engine::start(&[demo(), ("embedder", models::model(EMBEDDER))], &[]);
    for (name, reason) in DIFFERENT {
        assert!(
            compare(&engine, name).is_some(),
            "{name} is the same by now; it was thought different: {reason}"
        );
    }
}

#[test]
fn a_servers_states_have_the_shape_of_ollamas() {
    // Two models, so that neither is loaded at the start.
    let engine = Engine::start(&[demo(), ("embedder", models::model(EMBEDDER))], &[]);
    compare_all(&engine, &["ps-empty", "generate-load", "ps-loaded", "generate-unload", "chat-unload"]);
    let one = Engine::demo(&[]);
    compare_all(&one, &["tags-one", "tags-head"]);
}

#[test]
fn shown_differs_only_where_the_readme_says() {
    let engine = Engine::start(&[demo()], &[]);
    for name in ["show", "show-name-field"] {
        let (request, recorded) = golden(name);
        let (theirs, ours) = (recorded.json(), engine.send(&request).json());
        let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&theirs), names(&ours));
        for field in ["details", "tensors", "capabilities"] {
            assert_eq!(shape(&theirs[field]), shape(&ours[field]), "{field}");
        }
        let common = [
            "general.architecture",
            "general.parameter_count",
            "llama.context_length",
            "tokenizer.ggml.model",
        ];
        for fact in common {
            assert_eq!(shape(&theirs["model_info"][fact]), shape(&ours["model_info"][fact]), "{fact}");
        }
        assert!(ours["model_info"]["tokenizer.ggml.tokens"].is_null());
    }
}
