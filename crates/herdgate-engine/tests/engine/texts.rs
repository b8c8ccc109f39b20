//! What requests may ask for, and what they get.

use serde_json::{Value, json};

use crate::models::{self, LLAMA};
use crate::wire::Engine;

fn tiny() -> Engine {
    Engine::start(&[("tiny", models::model(LLAMA))], &["--ctx", "128"])
}

fn generate(engine: &Engine, prompt: &str, options: Value) -> Value {
    let body = json!({"model": "tiny", "prompt": prompt, "stream": false, "raw": true, "options": options});
    engine.ask("/api/generate", &body)
}

#[test]
fn the_same_seed_says_the_same_and_another_does_not() {
    let engine = tiny();
    let say =
        |seed: i64| generate(&engine, "hello", json!({"seed": seed, "num_predict": 30, "temperature": 2.0}));
    let first = say(1);
    assert_eq!(first["response"], say(1)["response"]);
    assert_ne!(first["response"], say(2)["response"]);
    let cold =
        |seed: i64| generate(&engine, "hello", json!({"seed": seed, "num_predict": 30, "temperature": 0}));
    assert_eq!(cold(1)["response"], cold(2)["response"]);
}

#[test]
fn an_answer_ends_at_its_limit() {
    let engine = tiny();
    for most in [1, 2, 17] {
        let answer = generate(&engine, "hello", json!({"num_predict": most, "temperature": 0}));
        assert_eq!((&answer["eval_count"], &answer["done_reason"]), (&json!(most), &json!("length")));
    }
}

#[test]
fn a_stop_string_ends_an_answer_and_is_not_shown() {
    let engine = tiny();
    let whole = generate(&engine, "hello", json!({"num_predict": 60, "temperature": 0}));
    let whole = whole["response"].as_str().unwrap();
    // Any three characters of the middle, streamed: nothing of them may be seen.
    let middle: Vec<(usize, char)> = whole.char_indices().filter(|(_, c)| c.is_ascii_graphic()).collect();
    let at = middle[middle.len() / 2].0;
    let stop: String = whole[at..].chars().take(3).collect();
    let before = &whole[..whole.find(&stop).unwrap()];
    let options = json!({"num_predict": 60, "temperature": 0, "stop": ["never said", stop]});
    let body = json!({"model": "tiny", "prompt": "hello", "raw": true, "options": options});
    let response = engine.post("/api/generate", body.to_string().as_bytes());
    let lines: Vec<Value> = response.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said: String = lines.iter().map(|line| line["response"].as_str().unwrap()).collect();
    assert_eq!(said, before);
    assert_eq!(lines.last().unwrap()["done_reason"], "stop");
}

#[test]
fn more_than_fits_into_the_context_is_cut_or_refused() {
    let engine = tiny();
    let long = "word ".repeat(20_000);
    let answer = generate(&engine, &long, json!({"num_predict": 5, "temperature": 0}));
    assert_eq!(answer["eval_count"], 5);
    assert!(answer["prompt_eval_count"].as_u64().unwrap() < 128);
    let body = json!({"model": "tiny", "prompt": long, "raw": true, "stream": false, "truncate": false});
    let refused = engine.post("/api/generate", body.to_string().as_bytes());
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("the prompt is longer than the context length"), "{}", refused.text());
    let many: Vec<Value> =
        (0..3000).map(|n| json!({"role": "user", "content": format!("question {n}")})).collect();
    let body = json!({"model": "tiny", "messages": many, "stream": false, "options": {"num_predict": 3}});
    assert_eq!(engine.ask("/api/chat", &body)["eval_count"], 3);
}

#[test]
fn every_num_ctx_is_taken_and_bounded() {
    let engine = tiny();
    for num_ctx in [-1i64, 0, 1, 3, 4, 5, 64, 127, 128, 129, 100_000, i64::MAX] {
        let answer = generate(&engine, "hello there", json!({"num_ctx": num_ctx, "num_predict": 3}));
        assert!(answer["eval_count"].as_u64().unwrap() >= 1, "{num_ctx}: {answer}");
    }
}

#[test]
fn a_long_answer_slides_on_or_ends() {
    let engine = tiny();
    let answer = generate(&engine, "hello", json!({"num_predict": 500, "temperature": 0}));
    assert_eq!(answer["eval_count"], 500);
    let body = json!({"model": "tiny", "prompt": "hello", "raw": true, "stream": false, "shift": false,
                      "options": {"num_predict": 500, "temperature": 0}});
    let ended = engine.ask("/api/generate", &body);
    assert_eq!(ended["done_reason"], "length");
    let tokens = ended["eval_count"].as_u64().unwrap() + ended["prompt_eval_count"].as_u64().unwrap();
    assert!((127..=129).contains(&tokens), "{ended}");
}

#[test]
fn a_conversation_goes_on_from_its_tokens() {
    let engine = tiny();
    let first = json!({"model": "tiny", "prompt": "hello", "stream": false, "options": {"num_predict": 4}});
    let first = engine.ask("/api/generate", &first);
    let context = first["context"].as_array().unwrap();
    assert_eq!(context.len() as u64, first["prompt_eval_count"].as_u64().unwrap() + 4);
    let next = json!({"model": "tiny", "prompt": "more", "context": context, "stream": false,
                      "options": {"num_predict": 1}});
    let next = engine.ask("/api/generate", &next);
    assert_eq!(&next["context"].as_array().unwrap()[..context.len()], &context[..]);
}

#[test]
fn cached_beginnings_change_no_answer() {
    let engine = Engine::start(&[("tiny", models::model(LLAMA))], &["--parallel", "1"]);
    let options = json!({"num_predict": 20, "temperature": 0});
    let prompts = ["hello there", "hello the other", "hel", "hello there", "something else"];
    let first: Vec<Value> =
        prompts.iter().map(|prompt| generate(&engine, prompt, options.clone())["response"].clone()).collect();
    for (prompt, answer) in prompts.iter().zip(&first).rev() {
        assert_eq!(&generate(&engine, prompt, options.clone())["response"], answer, "{prompt}");
    }
}

#[test]
fn a_model_is_loaded_kept_and_unloaded_as_asked() {
    let engine = Engine::start(&[("a", models::model(LLAMA)), ("b", models::model(LLAMA))], &[]);
    let loaded = || -> Vec<String> {
        let all = engine.get("/api/ps").json();
        all["models"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap().to_owned()).collect()
    };
    assert!(loaded().is_empty());
    let done = engine.ask("/api/generate", &json!({"model": "a"}));
    assert_eq!(done["done_reason"], "load");
    engine.ask("/api/chat", &json!({"model": "b", "messages": [], "keep_alive": -1}));
    assert_eq!(loaded(), ["b:latest", "a:latest"]);
    let expires = engine.get("/api/ps").json()["models"][0]["expires_at"].as_str().unwrap()[..4].to_owned();
    assert!(expires.parse::<u32>().unwrap() > 2200, "{expires}");
    let done = engine.ask("/api/generate", &json!({"model": "a", "keep_alive": 0}));
    assert_eq!(done["done_reason"], "unload");
    until(|| loaded() == ["b:latest"]);
    // A request with keep_alive 0 unloads after itself.
    let body =
        json!({"model": "b", "prompt": "x", "stream": false, "keep_alive": 0, "options": {"num_predict": 1}});
    engine.ask("/api/generate", &body);
    until(|| loaded().is_empty());
}

/// Waits for what must come soon.
pub(crate) fn until(mut so: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !so() {
        assert!(std::time::Instant::now() < end, "it did not come");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn all_spellings_of_a_name_find_the_model() {
    let engine = tiny();
    for name in
        ["tiny", "tiny:latest", "TINY", "library/tiny", "registry.ollama.ai/library/tiny:latest", " tiny "]
    {
        assert_eq!(engine.ask("/api/generate", &json!({"model": name}))["model"], name);
    }
    for name in ["tiny:other", "x/tiny", "", "tiny:"] {
        let body = json!({"model": name, "prompt": "x"}).to_string();
        let response = engine.post("/api/generate", body.as_bytes());
        assert_eq!(response.status, 404);
        assert_eq!(response.json(), json!({"error": format!("model '{name}' not found")}));
    }
}

#[test]
fn what_is_not_offered_is_refused_by_name() {
    let engine = tiny();
    let messages = json!([{"role": "user", "content": "x"}]);
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    for (path, field, value, told) in [
        ("/api/chat", "format", json!("json"), "structured output"),
        ("/api/chat", "format", json!({"type": "object"}), "structured output"),
        ("/api/chat", "think", json!(true), "\\\"tiny\\\" does not support thinking"),
        (
            "/api/chat",
            "tools",
            tools.clone(),
            "registry.ollama.ai/library/tiny:latest does not support tools",
        ),
        ("/api/chat", "logprobs", json!(true), "logprobs"),
        ("/v1/chat/completions", "tools", tools.clone(), "does not support tools"),
        ("/v1/chat/completions", "response_format", json!({"type": "json_object"}), "structured output"),
        ("/v1/chat/completions", "reasoning_effort", json!("high"), "does not support thinking"),
        ("/v1/messages", "tools", tools, "does not support tools"),
    ] {
        let mut body = json!({"model": "tiny", "messages": messages, "max_tokens": 4});
        body[field] = value;
        let response = engine.post(path, body.to_string().as_bytes());
        assert_eq!(response.status, 400, "{path} {field}");
        assert!(response.text().contains(told), "{}", response.text());
    }
    // What asks for nothing is no reason to refuse.
    let body = json!({"model": "tiny", "messages": messages, "stream": false, "think": false, "tools": [],
                      "format": "", "logprobs": false, "options": {"num_predict": 1}});
    engine.ask("/api/chat", &body);
}
