//! The server's right answers: the shapes of the recordings, and what it remembers.

#![expect(clippy::unwrap_used, reason = "what a test calls may fail the test")]

use std::time::Duration;

use gate_testkit::{Ollama, Setup, recorded, recordings};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Sends one request that asks for the connection's end, and reads to it.
async fn ask(ollama: &Ollama, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(ollama.addr).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost:11434\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Names and types of everything in a body, in order: of JSON, of NDJSON lines, of events; a run of equal shapes once.
fn shape(answer: &str) -> Vec<String> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let kind = head.lines().find(|line| line.starts_with("Content-Type")).unwrap_or_default();
    let mut shapes = vec![format!("{} {kind}", head.lines().next().unwrap())];
    for line in body.lines() {
        let text = line.strip_prefix("data: ").unwrap_or(line);
        let shape = match serde_json::from_str::<Value>(text) {
            Ok(value) if !value.is_number() => names(&value),
            _ if line.starts_with("event: ") || line == "data: [DONE]" => line.to_owned(),
            _ => continue,
        };
        // A delta and its event name alternate: compare with the two before.
        if !shapes.iter().rev().take(2).any(|before| *before == shape) {
            shapes.push(shape);
        }
    }
    shapes
}

fn names(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let fields: Vec<_> = map.iter().map(|(key, value)| format!("{key}:{}", names(value))).collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => format!("[{}]", items.first().map(names).unwrap_or_default()),
        Value::String(_) => "text".to_owned(),
        Value::Number(_) => "number".to_owned(),
        Value::Bool(yes) => yes.to_string(),
        Value::Null => "null".to_owned(),
    }
}

#[tokio::test]
async fn every_route_has_the_shape_of_the_recording() {
    let ollama = Ollama::start().await.unwrap();
    let user = r#""messages":[{"role":"user","content":"How do I cancel a request?"}]"#;
    let prompt = r#""prompt":"How do I cancel a request?""#;
    let input = r#""input":"How do I cancel a request?""#;
    let demo = |fields: &str, more: &str| format!(r#"{{"model":"demo",{fields}{more}}}"#);
    let vectors = |fields: &str| format!(r#"{{"model":"embedder",{fields}}}"#);
    let missing = |fields: &str| format!(r#"{{"model":"nope",{fields}}}"#);
    let (whole, stream) = (r#","stream":false"#, r#","stream":true"#);
    let usage = r#","stream":true,"stream_options":{"include_usage":true}"#;
    let chat = "/v1/chat/completions";
    let cases = [
        ("root-get", "GET", "/", String::new()),
        ("version-get", "GET", "/api/version", String::new()),
        ("tags-one", "GET", "/api/tags", String::new()),
        ("ps-loaded", "GET", "/api/ps", String::new()),
        ("v1-models", "GET", "/v1/models", String::new()),
        ("v1-model-plain", "GET", "/v1/models/demo", String::new()),
        ("v1-model-missing", "GET", "/v1/models/nope", String::new()),
        ("generate-stream", "POST", "/api/generate", demo(prompt, "")),
        ("generate-nonstream", "POST", "/api/generate", demo(prompt, whole)),
        ("generate-load", "POST", "/api/generate", demo(r#""prompt":"""#, "")),
        ("generate-missing", "POST", "/api/generate", missing(prompt)),
        ("chat-stream", "POST", "/api/chat", demo(user, "")),
        ("chat-nonstream", "POST", "/api/chat", demo(user, whole)),
        ("chat-empty", "POST", "/api/chat", demo(r#""messages":[]"#, "")),
        ("embedder-embed", "POST", "/api/embed", vectors(input)),
        ("embedder-embed-empty", "POST", "/api/embed", vectors(r#""input":[]"#)),
        ("embedder-v1", "POST", "/v1/embeddings", vectors(input)),
        ("embed-missing", "POST", "/api/embed", missing(input)),
        ("embedder-legacy", "POST", "/api/embeddings", vectors(prompt)),
        ("v1-embeddings-missing", "POST", "/v1/embeddings", missing(input)),
        ("v1-chat", "POST", chat, demo(user, "")),
        ("v1-chat-stream", "POST", chat, demo(user, stream)),
        ("v1-chat-stream-usage", "POST", chat, demo(user, usage)),
        ("v1-chat-missing", "POST", chat, missing(user)),
        ("v1-completions", "POST", "/v1/completions", demo(prompt, "")),
        ("v1-completions-stream-usage", "POST", "/v1/completions", demo(prompt, usage)),
        ("v1-responses", "POST", "/v1/responses", demo(input, "")),
        ("v1-responses-stream", "POST", "/v1/responses", demo(input, stream)),
        ("messages-nonstream", "POST", "/v1/messages", demo(user, "")),
        ("messages-stream", "POST", "/v1/messages", demo(user, stream)),
        ("messages-missing", "POST", "/v1/messages", missing(user)),
        ("path-unknown", "GET", "/nope", String::new()),
        ("method-post-api-tags", "POST", "/api/tags", "{}".to_owned()),
    ];
    for (name, method, path, body) in cases {
        let real = String::from_utf8(recorded(&format!("0.32.15/{name}")).unwrap()).unwrap();
        let ours = ask(&ollama, method, path, &body).await;
        assert_eq!(shape(&ours), shape(&real), "{name}:\n{ours}");
    }
}

#[tokio::test]
async fn remembers_every_byte_and_when_the_peer_left() {
    let ollama = Ollama::with(Setup::default().with_pace(Duration::from_millis(5)).with_tokens(100_000))
        .await
        .unwrap();
    let mut stream = TcpStream::connect(ollama.addr).await.unwrap();
    let head = "POST /api/generate?x=1 HTTP/1.1\r\nhOst: 127.0.0.1\r\nAuthorization: Bearer secret\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"5\r\n{\"mod\r\n1c\r\nel\":\"demo\",\"prompt\":\"hello\"}\r\n0\r\n\r\n").await.unwrap();
    stream.read_exact(&mut [0; 300]).await.unwrap();
    let before = std::time::Instant::now();
    drop(stream);
    let seen = ollama.until_left("/api/generate").await.unwrap();
    assert_eq!(seen.head, head.as_bytes());
    assert_eq!(seen.json()["prompt"], "hello");
    assert_eq!((seen.method().as_str(), seen.target().as_str()), ("POST", "/api/generate?x=1"));
    assert_eq!(seen.field("AUTHORIZATION").as_deref(), Some("Bearer secret"));
    assert!(seen.holds("bearer SECRET") && seen.holds("hello") && !seen.holds("absent"));
    assert!(seen.complete && seen.answering.is_some() && seen.answered.is_none());
    let took = seen.peer_closed.unwrap().duration_since(before);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused_without_a_body() {
    let ollama = Ollama::start().await.unwrap();
    let cases = [
        ("Host: evil.example\r\n", 403),
        ("Host: localhost\r\nOrigin: https://evil.example\r\n", 403),
        ("Host: localhost\r\nOrigin: http://localhost:3000\r\n", 200),
        ("Host: [::1]:11434\r\n", 200),
        ("Host: gpu1.internal:80\r\n", 200),
    ];
    for (fields, status) in cases {
        let mut stream = TcpStream::connect(ollama.addr).await.unwrap();
        let request = format!("GET /api/version HTTP/1.1\r\n{fields}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{fields}: {answer}");
        assert_eq!(answer.ends_with("\r\n\r\n"), status == 403, "{answer}");
    }
}

#[tokio::test]
async fn the_store_follows_pull_copy_delete_and_unload() {
    let ollama = Ollama::start().await.unwrap();
    let tags = async || ask(&ollama, "GET", "/api/tags", "").await;
    let pulled = ask(&ollama, "POST", "/api/pull", r#"{"model":"qwen3:0.6b"}"#).await;
    assert!(pulled.contains(r#"{"status":"success"}"#));
    assert!(tags().await.contains(r#""name":"qwen3:0.6b""#));
    ask(&ollama, "POST", "/api/copy", r#"{"source":"demo","destination":"other"}"#).await;
    ask(&ollama, "DELETE", "/api/delete", r#"{"model":"","name":"demo"}"#).await;
    let listed = tags().await;
    assert!(
        listed.contains(r#""name":"other:latest""#) && !listed.contains(r#""name":"demo:latest""#),
        "{listed}"
    );
    ask(&ollama, "POST", "/api/generate", r#"{"model":"other"}"#).await;
    assert!(ask(&ollama, "GET", "/api/ps", "").await.contains("other:latest"));
    ask(&ollama, "POST", "/api/generate", r#"{"model":"other","keep_alive":0}"#).await;
    assert!(!ask(&ollama, "GET", "/api/ps", "").await.contains("other:latest"));
}

#[test]
fn recordings_of_both_versions_are_there() {
    let names = recordings().unwrap();
    for version in ["0.24.0", "0.32.15"] {
        for name in ["chat-stream", "messages-stream", "faults/crash-v1-chat-stream", "repeat-chat-stream"] {
            assert!(names.contains(&format!("{version}/{name}")), "{version}/{name}");
        }
    }
    assert!(recorded("0.32.15/no-such").is_err());
}
