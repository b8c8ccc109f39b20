//! Vectors: any number of texts, any length, every kind of model.

use serde_json::{Value, json};

use crate::models::{self, BERT, EMBEDDER, LLAMA, Shape};
use crate::wire::Engine;

fn vectors(answer: &Value) -> Vec<Vec<f64>> {
    serde_json::from_value(answer["embeddings"].clone()).unwrap()
}

fn nearness(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn one_to_thirty_three_texts_give_each_its_own_vector() {
    for shape in [EMBEDDER, Shape { both_ways: true, ..EMBEDDER }, BERT, LLAMA] {
        let engine = Engine::start(&[("m", models::model(shape))], &[]);
        let texts: Vec<String> = (0..33).map(|n| format!("text number {n} {}", "x".repeat(n))).collect();
        let single: Vec<Vec<f64>> = texts
            .iter()
            .map(|text| vectors(&engine.ask("/api/embed", &json!({"model": "m", "input": text}))).remove(0))
            .collect();
        for count in 1..=33 {
            let answer = engine.ask("/api/embed", &json!({"model": "m", "input": texts[..count]}));
            let all = vectors(&answer);
            assert_eq!(all.len(), count);
            for (vector, alone) in all.iter().zip(&single) {
                assert!((nearness(vector, vector) - 1.0).abs() < 1e-5);
                assert!(nearness(vector, alone) > 0.9999, "{count}: {}", nearness(vector, alone));
            }
        }
        assert!(nearness(&single[0], &single[32]) < 0.9999);
    }
}

#[test]
fn long_texts_are_cut_or_refused() {
    let engine = Engine::start(&[("m", models::model(EMBEDDER))], &[]);
    let long = "word ".repeat(100_000);
    let cut = engine.ask("/api/embed", &json!({"model": "m", "input": [long, "b"]}));
    assert_eq!(cut["prompt_eval_count"], 257);
    assert_eq!(vectors(&cut).len(), 2);
    for (path, key, status) in [("/api/embed", "input", 400), ("/api/embeddings", "prompt", 500)] {
        let body = json!({"model": "m", key: long, "truncate": false}).to_string();
        let refused = engine.post(path, body.as_bytes());
        let text = json!({"error": "the input length exceeds the context length"});
        assert_eq!((refused.status, refused.json()), (status, text));
    }
}

#[test]
fn an_embedding_model_embeds_and_does_nothing_else() {
    let engine = Engine::start(&[("m", models::model(EMBEDDER))], &[]);
    let tags = engine.get("/api/tags").json();
    assert_eq!(tags["models"][0]["capabilities"], json!(["embedding"]));
    let body =
        json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "prompt": "x"}).to_string();
    for (path, verb) in [("/api/chat", "chat"), ("/api/generate", "generate")] {
        let refused = engine.post(path, body.as_bytes());
        let text = json!({"error": format!("\"m\" does not support {verb}")});
        assert_eq!((refused.status, refused.json()), (400, text));
    }
    assert_eq!(
        engine.ask("/api/embed", &json!({"model": "m", "input": "x", "dimensions": 4}))["embeddings"][0]
            .as_array()
            .unwrap()
            .len(),
        4
    );
}

#[test]
fn both_encodings_hold_the_same_numbers() {
    let engine = Engine::start(&[("m", models::model(EMBEDDER))], &[]);
    let ask = |form: &str| {
        let body = json!({"model": "m", "input": ["hello"], "encoding_format": form, "dimensions": 5});
        engine.ask("/v1/embeddings", &body)["data"][0]["embedding"].clone()
    };
    let floats: Vec<f32> = serde_json::from_value(ask("float")).unwrap();
    let text = ask("base64");
    let decoded = decode(text.as_str().unwrap());
    assert_eq!(
        decoded.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect::<Vec<_>>(),
        floats
    );
}

fn decode(text: &str) -> Vec<u8> {
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    for four in text.as_bytes().chunks(4) {
        let value = |byte: &u8| letters.find(char::from(*byte)).unwrap_or(0) as u32;
        let number = four.iter().fold(0, |n, byte| n << 6 | value(byte));
        let bytes = number.to_be_bytes();
        let padding = four.iter().filter(|byte| **byte == b'=').count();
        out.extend(&bytes[1..4 - padding]);
    }
    out
}
