//! Requests that nobody should send: each gets an answer, and the engine lives.

use serde_json::{Value, json};

use crate::models::{self, EMBEDDER, LLAMA};
use crate::wire::Engine;

const ROUTES: [&str; 9] = [
    "/api/generate",
    "/api/chat",
    "/api/embed",
    "/api/embeddings",
    "/api/show",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/messages",
];

/// Bodies that are no sound request for any route.
fn bodies() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        "",
        "null",
        "[]",
        "5",
        "\"x\"",
        "{",
        "{}",
        "{\"model\":",
        "{\"model\":\"tiny\",}",
        "\u{feff}{}",
        "{} {}",
        "{'model':'tiny'}",
        "{\"model\":\"tiny\"",
        "\0",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    all.push(b"{\"model\":\"\xff\xfe\"}".to_vec());
    all.push([vec![b'['; 100_000], vec![b']'; 100_000]].concat());
    let whole = json!({
        "model": "tiny", "prompt": "x", "input": "x", "stream": false, "max_tokens": 2,
        "messages": [{"role": "user", "content": "x"}], "options": {"num_predict": 2},
    });
    let values = [
        json!(null),
        json!(-1),
        json!(1e300),
        json!("x"),
        json!([]),
        json!([[]]),
        json!({"a": 1}),
        json!(true),
    ];
    for field in ["model", "prompt", "input", "messages", "options", "max_tokens"] {
        for value in &values {
            let mut body = whole.clone();
            body[field] = value.clone();
            all.push(body.to_string().into_bytes());
        }
    }
    all
}

/// Sound JSON with senseless wishes.
fn wishes() -> Vec<(&'static str, Value)> {
    let mut all = Vec::new();
    let numbers =
        [json!(0), json!(-1), json!(i64::MIN), json!(i64::MAX), json!(1e308), json!(-1e308), json!(1e-320)];
    for option in [
        "num_ctx",
        "num_keep",
        "num_batch",
        "num_predict",
        "seed",
        "top_k",
        "top_p",
        "min_p",
        "temperature",
        "repeat_penalty",
        "repeat_last_n",
        "presence_penalty",
        "frequency_penalty",
        "num_thread",
        "num_gpu",
    ] {
        for number in &numbers {
            let mut options = json!({"num_predict": 3});
            options[option] = number.clone();
            // An answer without limit would be no test of this.
            if option == "num_predict" {
                options["num_ctx"] = json!(8);
            }
            all.push((
                "/api/generate",
                json!({"model": "tiny", "prompt": "hello", "stream": false, "options": options}),
            ));
        }
    }
    for context in [
        json!([-1]),
        json!([i32::MAX]),
        json!([1e20]),
        json!([261]),
        json!([0, 0, 0]),
        json!(vec![5; 100_000]),
    ] {
        all.push((
            "/api/generate",
            json!({"model": "tiny", "prompt": "x", "context": context, "stream": false,
                                          "options": {"num_predict": 2}}),
        ));
    }
    for text in [
        "",
        "\0",
        "\u{0}\u{0}",
        "<|im_end|>",
        "<|endoftext|>",
        "\u{10ffff}",
        &"a".repeat(300_000),
        &"🦙".repeat(5000),
    ] {
        let short = json!({"num_predict": 2});
        all.push((
            "/api/generate",
            json!({"model": "tiny", "prompt": text, "raw": true, "stream": false, "options": short}),
        ));
        all.push(("/api/chat", json!({"model": "tiny", "messages": [{"role": text, "content": text}], "stream": false, "options": short})));
        all.push(("/api/embed", json!({"model": "embedder", "input": [text, text, ""]})));
        all.push(("/api/embed", json!({"model": "tiny", "input": text})));
        all.push(("/api/embeddings", json!({"model": "embedder", "prompt": text})));
        all.push(("/api/generate", json!({"model": "tiny", "prompt": "x", "stream": false, "options": {"stop": [text], "num_predict": 3}})));
    }
    all.push(("/api/embed", json!({"model": "embedder", "input": vec!["x"; 5000]})));
    all.push(("/api/embed", json!({"model": "embedder", "input": vec!["x"; 300], "dimensions": i64::MAX})));
    all
}

#[test]
fn hundreds_of_malformed_requests_are_answered() {
    let models = [("tiny", models::model(LLAMA)), ("embedder", models::model(EMBEDDER))];
    let mut engine = Engine::start(&models, &[]);
    let mut count = 0;
    for route in ROUTES {
        for body in bodies() {
            let response = engine.post(route, &body);
            let sound = matches!(response.status, 200 | 400 | 404 | 500);
            assert!(sound, "{route} {}: {}", String::from_utf8_lossy(&body), response.status);
            if response.status != 200 {
                assert!(!response.json()["error"].is_null(), "{route}: {}", response.text());
            }
            count += 1;
        }
    }
    for (route, body) in wishes() {
        let response = engine.post(route, body.to_string().as_bytes());
        let short: String = body.to_string().chars().take(300).collect();
        assert!(matches!(response.status, 200 | 400 | 500), "{route} {short}: {}", response.status);
        count += 1;
    }
    assert!(count >= 200, "{count}");
    assert!(engine.is_alive());
    let body = json!({"model": "tiny", "prompt": "x", "stream": false, "options": {"num_predict": 2}});
    assert_eq!(engine.ask("/api/generate", &body)["eval_count"], 2);
}

#[test]
fn a_body_without_end_is_refused() {
    let engine = Engine::start(&[("tiny", models::model(LLAMA))], &[]);
    let mut stream = engine.connect();
    use std::io::Write;
    stream
        .write_all(b"POST /api/generate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    let chunk = [b"100000\r\n".to_vec(), vec![b' '; 1 << 20], b"\r\n".to_vec()].concat();
    // The engine may close while we still write.
    for _ in 0..70 {
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    let mut answer = String::new();
    let read = std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut answer);
    assert!(read.is_err() || answer.contains("413"), "{answer}");
}
