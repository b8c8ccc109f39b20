//! Many callers at once.

use serde_json::{Value, json};

use crate::models::{self, SLOW};
use crate::wire::{Engine, demo_file};

/// The demo model's questions with the answers that it has learned.
fn questions() -> Vec<(String, String)> {
    let file = demo_file().with_file_name("questions.jsonl");
    let text = std::fs::read_to_string(file).unwrap();
    let read = |line: &str| {
        let pair: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| pair[key].as_str().unwrap().to_owned();
        (text("question"), text("answer"))
    };
    text.lines().map(read).collect()
}

#[test]
fn twenty_clients_get_every_answer_exactly() {
    let engine = Engine::demo(&[]);
    let questions = questions();
    assert!(questions.len() >= 60, "{} questions", questions.len());
    std::thread::scope(|scope| {
        for client in 0..20 {
            let (engine, questions) = (&engine, &questions);
            scope.spawn(move || {
                let turned = questions.iter().cycle().skip(client * 3).take(60);
                for (at, (question, answer)) in turned.enumerate() {
                    assert_eq!(&asked(engine, question, at + client), answer, "{question}");
                }
            });
        }
    });
}

/// Asks in turn through each way there is.
fn asked(engine: &Engine, question: &str, way: usize) -> String {
    let messages = json!([{"role": "user", "content": question}]);
    let cold = json!({"temperature": 0});
    match way % 4 {
        0 => {
            let body = json!({"model": "demo", "messages": messages, "stream": false, "options": cold});
            engine.ask("/api/chat", &body)["message"]["content"].as_str().unwrap().to_owned()
        }
        1 => {
            let body = json!({"model": "demo", "prompt": question, "options": cold});
            let response = engine.post("/api/generate", body.to_string().as_bytes());
            let lines = response.text();
            let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            lines.map(|line| line["response"].as_str().unwrap().to_owned()).collect()
        }
        2 => {
            let body = json!({"model": "demo", "messages": messages, "temperature": 0});
            let answer = engine.ask("/v1/chat/completions", &body);
            answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
        }
        _ => {
            let body = json!({"model": "demo", "messages": messages, "temperature": 0, "max_tokens": 200});
            engine.ask("/v1/messages", &body)["content"][0]["text"].as_str().unwrap().to_owned()
        }
    }
}

#[test]
fn a_full_line_is_told_with_ollamas_503() {
    let engine = Engine::start(&[("slow", models::model(SLOW))], &["--parallel", "1", "--queue", "1"]);
    let body = json!({"model": "slow", "prompt": "hello", "raw": true, "options": {"temperature": 0, "num_predict": -1}});
    let long = crate::wire::post("/api/generate", body.to_string().as_bytes());
    let start = || {
        use std::io::Write;
        let mut stream = engine.connect();
        stream.write_all(&long).unwrap();
        stream
    };
    // One in the slot: its first byte shows that it is there. One in the line.
    let first = start();
    std::io::Read::read_exact(&mut (&first), &mut [0; 64]).unwrap();
    let second = start();
    let text = "server busy, please try again.  maximum pending requests exceeded";
    crate::texts::until(|| {
        let body = json!({"model": "slow", "prompt": "x", "stream": false, "options": {"num_predict": 1}});
        let response =
            engine.post("/api/embed", json!({"model": "slow", "input": "x"}).to_string().as_bytes());
        if response.status != 503 {
            return false;
        }
        assert_eq!(response.json(), json!({"error": text}));
        let response = engine.post("/api/generate", body.to_string().as_bytes());
        assert_eq!((response.status, response.json()), (503, json!({"error": text})));
        true
    });
    let body =
        json!({"model": "slow", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}).to_string();
    let openai = engine.post("/v1/chat/completions", body.as_bytes());
    assert_eq!((openai.status, openai.json()["error"]["message"].as_str()), (503, Some(text)));
    let anthropic = engine.post("/v1/messages", body.as_bytes());
    assert_eq!(
        (anthropic.status, anthropic.json()["error"]["type"].as_str()),
        (503, Some("overloaded_error"))
    );
    // When both have left, there is room again.
    drop((first, second));
    crate::texts::until(|| {
        let body = json!({"model": "slow", "prompt": "x", "stream": false, "options": {"num_predict": 1}});
        engine.post("/api/generate", body.to_string().as_bytes()).status == 200
    });
}

#[test]
fn a_caller_that_reads_slowly_holds_up_nobody() {
    let engine = Engine::start(&[("slow", models::model(SLOW))], &["--parallel", "2"]);
    let body = json!({"model": "slow", "prompt": "hello", "raw": true, "options": {"temperature": 0, "num_predict": -1}});
    let mut lazy = engine.connect();
    std::io::Write::write_all(&mut lazy, &crate::wire::post("/api/generate", body.to_string().as_bytes()))
        .unwrap();
    for _ in 0..3 {
        let body = json!({"model": "slow", "prompt": "x", "stream": false,
                          "options": {"temperature": 0, "num_predict": 20}});
        assert_eq!(engine.ask("/api/generate", &body)["eval_count"], 20);
    }
}
