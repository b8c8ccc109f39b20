//! Refusals in the dialect of their path, and what an upstream gets to see of a caller: nothing that names it.

use crate::harness::{Answer, Ask, Gate, Home, testkit, until};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gate_testkit::{Ollama, Setup};
use serde_json::{Value, json};

/// The three dialects, each by the path on which it chats.
const CHATS: [&str; 3] = ["/api/chat", "/v1/chat/completions", "/v1/messages"];

fn chat(path: &str, model: &str) -> Ask {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    Ask::post(path, &json!({"model": model, "messages": messages, "max_tokens": 8}))
}

/// Checks an error's shape in the dialect of `path`, and gives its code (Anthropic's has none: its type) and its text.
#[track_caller]
fn refusal(path: &str, answer: &Answer, status: u16) -> (String, String) {
    assert_eq!((answer.status, &answer.cut), (status, &None), "{path}: {answer}");
    let body = answer.json();
    let word = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{path}: {answer}")).to_owned();
    let kind = answer.field("content-type").unwrap_or_default();
    assert!(kind.starts_with("application/json"), "{path}: {answer}");
    if path.starts_with("/v1/messages") {
        assert_eq!(body["type"], "error", "{answer}");
        (word(&body["error"]["type"]), word(&body["error"]["message"]))
    } else if path.starts_with("/v1") {
        assert!(body["error"]["type"].is_string() && body["error"].get("param").is_some(), "{answer}");
        (word(&body["error"]["code"]), word(&body["error"]["message"]))
    } else {
        (word(&body["code"]), word(&body["error"]))
    }
}

fn gate_before<'h>(home: &'h Home, ollama: &Ollama) -> Gate<'h> {
    home.serve(&["--upstream", &ollama.url()])
}

/// All requests but the gate's own looks.
fn calls(ollama: &Ollama) -> usize {
    ollama.seen().iter().filter(|seen| seen.method() == "POST").count()
}

#[test]
fn three_ways_to_be_unknown() {
    let ollama = testkit(Setup::default());
    let home = Home::new();
    let gate = gate_before(&home, &ollama);
    let key = gate.first_key();
    // The right form and a right check sum, but nobody's.
    let strange = Home::new().key("a", &[]);
    let last = if key.ends_with('0') { "1" } else { "0" };
    let broken = format!("{}{last}", &key[..key.len() - 1]);
    for path in CHATS {
        let refused = |ask: Ask| {
            let answer = ask.send(gate.address);
            let (code, text) = refusal(path, &answer, 401);
            let challenge = answer.field("www-authenticate").unwrap_or_default();
            assert!(challenge.starts_with("Bearer "), "{path}: {answer}");
            assert!(!answer.text().contains(&key[6..]) && !text.contains("signin"), "{path}: {answer}");
            (code, text)
        };
        let none = refused(chat(path, "demo"));
        let form = refused(chat(path, "demo").field("Authorization", &key));
        let digest = refused(chat(path, "demo").field("Authorization", "Digest username=a"));
        let unknown = refused(chat(path, "demo").key(&strange));
        let typo = refused(chat(path, "demo").field("x-api-key", &broken));
        assert_eq!(form, digest);
        assert_eq!(unknown, typo, "an unknown key and a wrong check sum must look alike");
        assert!(
            none.1 != form.1 && form.1 != unknown.1 && none.1 != unknown.1,
            "{none:?} {form:?} {unknown:?}"
        );
        if !path.starts_with("/v1/messages") {
            let codes = [none.0.as_str(), form.0.as_str(), unknown.0.as_str()];
            assert_eq!(codes, ["no_credentials", "bad_credentials_form", "invalid_key"]);
        }
        let twice = chat(path, "demo").key(&key).key(&key).send(gate.address);
        refusal(path, &twice, 400);
        let two = chat(path, "demo").key(&key).field("x-api-key", &strange).send(gate.address);
        refusal(path, &two, 400);
    }
    assert_eq!(calls(&ollama), 0, "somebody unknown reached the upstream");
}

#[test]
fn all_three_credentials_are_taken_everywhere() {
    let ollama = testkit(Setup::default());
    let home = Home::new();
    let gate = gate_before(&home, &ollama);
    let key = gate.first_key();
    let basic = format!("Basic {}", STANDARD.encode(format!("anybody:{key}")));
    for path in CHATS {
        chat(path, "demo").key(&key).send(gate.address).ok();
        chat(path, "demo").field("x-api-key", &key).send(gate.address).ok();
        chat(path, "demo").key(&key).field("x-api-key", &key).send(gate.address).ok();
        chat(path, "demo").field("Authorization", &basic).send(gate.address).ok();
        chat(path, "demo").field("authorization", &format!("bearer {key}")).send(gate.address).ok();
    }
}

#[test]
fn what_a_key_may_not_do() {
    let ollama = testkit(Setup::default());
    let home = Home::new();
    let gate = gate_before(&home, &ollama);
    let reader = home.key("reader", &["--scope", "read"]);
    let narrow = home.key("narrow", &["--models", "qwen3*"]);
    gate.takes(&narrow);
    for path in CHATS {
        let anthropic = path.starts_with("/v1/messages");
        let (code, text) = refusal(path, &chat(path, "demo").key(&reader).send(gate.address), 403);
        assert_eq!(code, if anthropic { "permission_error" } else { "missing_scope" });
        assert!(text.contains("infer"), "the scope is not named: {text}");
        let (code, text) = refusal(path, &chat(path, "demo").key(&narrow).send(gate.address), 403);
        assert_eq!(code, if anthropic { "permission_error" } else { "model_not_allowed" });
        assert!(text.contains("demo"), "{text}");
    }
    let pull = Ask::post("/api/pull", &json!({"model": "demo"})).key(&gate.first_key()).send(gate.address);
    let (code, text) = refusal("/api/pull", &pull, 403);
    assert!(code == "missing_scope" && text.contains("manage"), "{code} {text}");
    // `infer` does not include the embedding routes.
    let talker = home.key("talker", &["--scope", "infer"]);
    gate.takes(&talker);
    for (path, input) in [("/api/embed", "input"), ("/api/embeddings", "prompt"), ("/v1/embeddings", "input")]
    {
        let ask = Ask::post(path, &json!({"model": "embedder", input: "Hi"})).key(&talker);
        let (_, text) = refusal(path, &ask.send(gate.address), 403);
        assert!(text.contains("embed"), "{text}");
    }
    assert_eq!(calls(&ollama), 0);
    // What a key may not use, it does not see either.
    let listed = Ask::get("/api/tags").key(&narrow).send(gate.address).ok().json();
    assert_eq!(listed["models"], json!([]));
    let listed = Ask::get("/v1/models").key(&narrow).send(gate.address).ok().json();
    assert_eq!(listed["data"], json!([]));
}

#[test]
fn what_is_not_open_and_what_is_no_method() {
    let ollama = testkit(Setup::default());
    let home = Home::new();
    let gate = gate_before(&home, &ollama);
    let key = gate.first_key();
    for path in [
        "/nothing",
        "/api/nothing",
        "/api/chat/",
        "//api/chat",
        "/api/%63hat",
        "/API/chat",
        "/v1",
        "/v1/nothing",
        "/v1/chat/completions/",
        "/v1/messages/count_tokens",
    ] {
        refusal(path, &Ask::get(path).key(&key).send(gate.address), 404);
        refusal(path, &Ask::get(path).send(gate.address), 404);
    }
    for path in CHATS {
        let answer = Ask::get(path).key(&key).send(gate.address);
        refusal(path, &answer, 405);
        assert_eq!(answer.field("allow"), Some("POST"), "{answer}");
    }
    let answer = Ask::new("DELETE", "/api/tags").key(&key).send(gate.address);
    refusal("/api/tags", &answer, 405);
    assert_eq!(answer.field("allow"), Some("HEAD, GET"));
    assert_eq!(calls(&ollama), 0);
}

#[test]
fn a_wrong_body_and_an_unknown_model() {
    let ollama = testkit(Setup::default());
    let home = Home::new();
    let gate = gate_before(&home, &ollama);
    let key = gate.first_key();
    for path in CHATS {
        let malformed = Ask::post(path, &Value::Null).key(&key);
        refusal(path, &malformed.send(gate.address), 400);
        let (code, text) = refusal(path, &chat(path, "deno").key(&key).send(gate.address), 404);
        assert!(
            text.contains("deno") && text.contains("not found") && text.contains("demo"),
            "{code} {text}"
        );
    }
    let narrow = home.key("narrow", &["--models", "embed*"]);
    gate.takes(&narrow);
    let answer = chat("/api/chat", "embeder").key(&narrow).send(gate.address);
    assert!(answer.text().contains("embedder"), "{answer}");
    let other = home.key("other", &["--models", "deno"]);
    gate.takes(&other);
    let answer = chat("/api/chat", "deno").key(&other).send(gate.address);
    let (_, text) = refusal("/api/chat", &answer, 404);
    assert!(!text.contains("demo"), "a name that the key may not use was told: {text}");
}

#[test]
fn two_doors_are_open_to_everybody() {
    let ollama = testkit(Setup::default());
    let home = Home::new();
    let gate = gate_before(&home, &ollama);
    for path in ["/", "/api/version"] {
        let got = Ask::get(path).send(gate.address).ok();
        let head = Ask::new("HEAD", path).send(gate.address).ok();
        assert_eq!(head.field("content-length"), Some(got.text().len().to_string().as_str()), "{head}");
        assert_eq!(head.text(), "");
    }
    assert_eq!(Ask::get("/").send(gate.address).text(), "Ollama is running");
    assert_eq!(Ask::get("/api/version").send(gate.address).json(), json!({"version": "0.32.15"}));
}

#[test]
fn nothing_that_names_the_caller_reaches_the_upstream() {
    let ollama = testkit(Setup::default());
    let home = Home::new();
    let gate = gate_before(&home, &ollama);
    let key = gate.first_key();
    let (infer, embed) =
        (json!({"model": "demo", "prompt": "Hi"}), json!({"model": "embedder", "input": "Hi"}));
    let old = json!({"model": "embedder", "prompt": "Hi"});
    let asks = CHATS.map(|path| chat(path, "demo")).into_iter().chain([
        Ask::get("/api/tags?canary=9"),
        Ask::get("/v1/models"),
        Ask::get("/api/ps"),
        Ask::post("/api/show", &json!({"model": "demo"})),
        Ask::post("/api/generate?canary=9", &infer),
        Ask::post("/v1/completions", &infer),
        Ask::post("/v1/responses", &json!({"model": "demo", "input": "Hi"})),
        Ask::post("/api/embed", &embed),
        Ask::post("/api/embeddings", &old),
        Ask::post("/v1/embeddings", &embed),
    ]);
    let mut sent = 0;
    for ask in asks {
        let ask = ask
            .field("Host", "canary-host.example")
            .field("Origin", "http://canary-origin.example")
            .field("Referer", "http://canary-referer.example/")
            .field("Cookie", "session=canary-cookie")
            .field("Forwarded", "for=canary-forwarded")
            .field("X-Forwarded-For", "canary-for")
            .field("X-Forwarded-Host", "canary-forwarded-host")
            .field("X-Forwarded-Proto", "canary-proto")
            .field("X-Real-IP", "canary-ip")
            .field("Proxy-Authorization", "Basic canary")
            .field("x-api-key", &key)
            .key(&key);
        let answer = ask.send(gate.address);
        assert_eq!(answer.status, 200, "{ask:?}: {answer}");
        sent += 1;
    }
    assert_eq!(sent, 13);
    let seen = until("all of them upstream", || {
        let seen = ollama.seen();
        (seen.iter().filter(|one| one.answered.is_some() && one.method() == "POST").count() >= 10)
            .then_some(seen)
    });
    for one in &seen {
        let head = String::from_utf8_lossy(&one.head).into_owned();
        assert!(!one.holds("canary"), "{head}");
        assert!(!one.holds(&key) && !one.holds(&key[6..]), "the key went on:\n{head}");
        assert_eq!(one.field("host"), Some(ollama.addr.to_string()), "{head}");
        for name in ["authorization", "x-api-key", "origin", "referer", "cookie", "forwarded", "x-real-ip"] {
            assert_eq!(one.field(name), None, "{head}");
        }
        let forwarded =
            one.fields().into_iter().find(|(name, _)| name.to_ascii_lowercase().starts_with("x-forwarded"));
        assert_eq!(forwarded, None, "{head}");
        assert!(!one.target().contains('?'), "a query went on: {head}");
    }
}
