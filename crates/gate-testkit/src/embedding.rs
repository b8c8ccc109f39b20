//! The three embedding routes. Vectors depend on the text alone: equal texts, equal vectors.

use serde_json::{Value, json};

use crate::answer::{JSON, V1_JSON, fnv};
use crate::routes::Call;
use crate::script::Reply;

const DIMENSIONS: u64 = 16;

pub(crate) fn is_route(path: &str) -> bool {
    matches!(path, "/api/embed" | "/api/embeddings" | "/v1/embeddings")
}

pub(crate) fn answer(call: &Call<'_>) -> Reply {
    let Some(model) = call.setup.find(&call.model) else { return call.not_found_pull_first() };
    let embeds = model.embeds;
    let input = if call.path == "/api/embeddings" { &call.body["prompt"] } else { &call.body["input"] };
    let texts: Vec<&str> = match input {
        Value::Null => Vec::new(),
        Value::String(text) if text.is_empty() => Vec::new(),
        Value::String(text) => vec![text],
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().filter_map(Value::as_str).collect()
        }
        _ => return call.error(400, "invalid input type"),
    };
    if !embeds && !texts.is_empty() {
        let status = if call.path == "/api/embeddings" { 500 } else { 501 };
        return call.error(status, "This server does not support embeddings. Start it with `--embeddings`");
    }
    let vectors: Vec<Vec<f64>> = texts.iter().map(|text| vector(text)).collect();
    let words: usize = texts.iter().map(|text| text.split_whitespace().count() + 2).sum();
    match call.path {
        "/api/embeddings" => {
            let vector = vectors.into_iter().next().unwrap_or_default();
            Reply::whole(200, JSON, json!({"embedding": vector}).to_string())
        }
        "/api/embed" => {
            let mut body = json!({"model": call.model, "embeddings": vectors});
            if !texts.is_empty() {
                body["total_duration"] = json!(6_353_396);
                body["load_duration"] = json!(1_028_102);
                body["prompt_eval_count"] = json!(words);
            }
            Reply::whole(200, JSON, body.to_string())
        }
        _ if texts.is_empty() => call.error(400, "invalid input"),
        _ => v1(call, &vectors, words),
    }
}

fn v1(call: &Call<'_>, vectors: &[Vec<f64>], words: usize) -> Reply {
    let data: Vec<Value> = vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| json!({"object": "embedding", "embedding": vector, "index": index}))
        .collect();
    let body = json!({"object": "list", "data": data, "model": call.model,
        "usage": {"prompt_tokens": words, "total_tokens": words}});
    Reply::whole(200, V1_JSON, format!("{body}\n"))
}

/// Sixteen numbers of length one in sum.
fn vector(text: &str) -> Vec<f64> {
    let raw: Vec<f64> = (0..DIMENSIONS)
        .map(|place| {
            let bits = u32::try_from(fnv(text.as_bytes(), place + 1) >> 40).unwrap_or_default();
            f64::from(bits) / f64::from(1_u32 << 23) - 1.0
        })
        .collect();
    let length = raw.iter().map(|one| one * one).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    // Eight digits, as a 32-bit float prints.
    raw.into_iter().map(|one| (one / length * 1e8).round() / 1e8).collect()
}
