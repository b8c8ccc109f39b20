//! Who gets in: the refusals word for word, in the dialect of the path that was asked.

use crate::house::{House, run};
use crate::wire::{Answer, CHAT, get, json, post, with_fields};
use gate_keys::ModelGlob;
use gate_types::{Scope, ScopeSet};

/// A path of each dialect that needs the scope `infer`.
const PATHS: [&str; 3] = ["/api/chat", "/v1/chat/completions", "/v1/messages"];

/// The body that each dialect has for an error, in the order of [`PATHS`].
fn bodies(text: &str, code: &str, types: [&str; 2]) -> [String; 3] {
    let text = serde_json::to_string(text).unwrap();
    let [openai, anthropic] = types;
    [
        format!(r#"{{"error":{text},"code":"{code}"}}"#),
        format!(r#"{{"error":{{"message":{text},"type":"{openai}","param":null,"code":"{code}"}}}}"#),
        format!(r#"{{"type":"error","error":{{"type":"{anthropic}","message":{text}}},"request_id":"t-1"}}"#),
    ]
}

/// Asks on each path with these fields; no upstream may hear of it.
async fn refused(house: &House, fields: &str) -> Vec<Answer> {
    let mut answers = Vec::new();
    for path in PATHS {
        answers.push(house.connect().ask(with_fields("POST", path, fields, CHAT)).await);
        assert_eq!(house.outcome().0, "refused");
    }
    assert_eq!(house.dialled(0), 0);
    answers
}

fn check(answers: &[Answer], status: u16, bodies: &[String]) {
    for ((answer, body), path) in answers.iter().zip(bodies).zip(PATHS) {
        assert_eq!((answer.status, answer.text()), (status, body.as_str()), "{path}");
        assert_eq!(answer.field("x-request-id"), Some("t-1"));
        assert!(answer.field("date").is_some());
    }
}

const UNKNOWN: &str = "sk-hg-000000000000000000000000000000000000000";

#[test]
fn three_refusals_for_want_of_a_good_key_in_three_dialects() {
    run(async {
        let house = House::new(1);
        let cases = [
            (
                String::new(),
                "no_credentials",
                "no API key given; send it as \"Authorization: Bearer sk-hg-…\" or as x-api-key",
                "Bearer realm=\"herdgate\"",
            ),
            (
                "Authorization: Digest abc\r\n".into(),
                "bad_credentials_form",
                "the Authorization field is neither \"Bearer KEY\" nor Basic with the key as password; \
                 send \"Authorization: Bearer sk-hg-…\"",
                "Bearer realm=\"herdgate\"",
            ),
            (
                format!("Authorization: Bearer {UNKNOWN}\r\n"),
                "invalid_key",
                "the API key is unknown, expired or revoked; ask the operator of this gate for a new one",
                "Bearer realm=\"herdgate\", error=\"invalid_token\"",
            ),
        ];
        for (fields, code, text, challenge) in cases {
            let answers = refused(&house, &fields).await;
            check(&answers, 401, &bodies(text, code, ["api_error", "authentication_error"]));
            for answer in &answers {
                assert_eq!(answer.field("www-authenticate"), Some(challenge));
            }
        }
    });
}

#[test]
fn unknown_expired_and_revoked_keys_look_the_same_from_outside() {
    run(async {
        let house = House::new(1);
        let expired = house.add_key(|key| key.expires = Some(2));
        let revoked = house.add_key(|key| key.revoked = Some(2));
        let mut seen = Vec::new();
        for (token, key) in [(UNKNOWN.to_owned(), None), (expired, Some("key-2")), (revoked, Some("key-3"))] {
            for field in ["Authorization: Bearer", "x-api-key:"] {
                let answers = refused(&house, &format!("{field} {token}\r\n")).await;
                seen.push(answers.iter().map(Answer::undated).collect::<Vec<_>>());
                let record = house.records().pop().unwrap();
                assert_eq!(record.get("key").map(String::as_str), key, "only the log knows which it was");
            }
        }
        assert!(seen.iter().all(|answers| *answers == seen[0]), "{seen:#?}");
    });
}

#[test]
fn a_key_comes_as_bearer_basic_or_x_api_key() {
    run(async {
        let house = House::new(1);
        let basic = base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            format!("anybody:{}", house.key),
        );
        let mut client = house.connect();
        let mut upstream = None;
        for fields in [
            format!("Authorization: bearer {}\r\n", house.key),
            format!("Authorization: Basic {basic}\r\n"),
            format!("X-API-Key: {}\r\n", house.key),
            format!("X-API-Key: {0}\r\nAuthorization: Bearer {0}\r\n", house.key),
        ] {
            client.send(with_fields("POST", "/v1/messages", &fields, CHAT)).await;
            if upstream.is_none() {
                upstream = Some(house.accept(0).await);
            }
            upstream.as_mut().unwrap().serve(json(200, "{}")).await;
            assert_eq!(client.answer().await.status, 200);
        }
    });
}

#[test]
fn two_different_credentials_are_one_too_many() {
    run(async {
        let house = House::new(1);
        let key = &house.key;
        let bodies = bodies(
            "the request carries more than one credential; send one, or the same in each field",
            "conflicting_credentials",
            ["invalid_request_error", "invalid_request_error"],
        );
        for fields in [
            format!("Authorization: Bearer {key}\r\nAuthorization: Bearer {key}\r\n"),
            format!("Authorization: Bearer {key}\r\nx-api-key: {UNKNOWN}\r\n"),
            format!("x-api-key: {key}\r\nx-api-key: {key}\r\n"),
        ] {
            check(&refused(&house, &fields).await, 400, &bodies);
        }
    });
}

#[test]
fn a_missing_scope_is_named() {
    run(async {
        let house = House::new(1);
        let reader = house.add_key(|key| key.scopes = ScopeSet::of(&[Scope::Read]));
        let bodies = bodies(
            "the API key may not do this: it lacks the scope \"infer\"; whoever keeps the keys can make one that has it",
            "missing_scope",
            ["api_error", "permission_error"],
        );
        check(&refused(&house, &format!("x-api-key: {reader}\r\n")).await, 403, &bodies);
        for (request, scope) in [
            (post("/api/embed", &reader, CHAT), "embed"),
            (post("/v1/embeddings", &reader, CHAT), "embed"),
            (post("/api/pull", &house.key, CHAT), "manage"),
            (get("/api/tags", &house.add_key(|key| key.scopes = ScopeSet::of(&[Scope::Infer]))), "read"),
            (post("/api/chat", &house.key, r#"{"model":"gpt-oss:120b-cloud"}"#), "cloud"),
            (post("/v1/messages", &house.key, r#"{"model":"demo:cloud"}"#), "cloud"),
        ] {
            let answer = house.connect().ask(request).await;
            assert!(
                answer.status == 403 && answer.text().contains(&format!("\\\"{scope}\\\"")),
                "{answer:?}"
            );
        }
        assert_eq!(house.dialled(0), 0);
    });
}

#[test]
fn who_manages_models_cannot_hide_one_of_the_cloud_under_another_name() {
    run(async {
        let house = House::new(1);
        let key = house.add_key(|key| key.scopes = ScopeSet::of(&[Scope::Manage]));
        let mut client = house.connect();
        for (path, body, told) in [
            ("/api/copy", r#"{"source":"demo:cloud","destination":"mine"}"#, "missing_scope"),
            ("/api/copy", r#"{"source":"demo","destination":"x:1b-cloud"}"#, "missing_scope"),
            ("/api/create", r#"{"model":"mine","from":"demo:cloud"}"#, "missing_scope"),
            ("/api/create", r#"{"model":"mine","from":"./secret"}"#, "invalid_model_name"),
        ] {
            let answer = client.ask(post(path, &key, body)).await;
            assert!(answer.text().contains(told), "{path} {body}: {}", answer.text());
        }
        assert_eq!(house.dialled(0), 0);
    });
}

#[test]
fn an_openai_client_without_v1_is_told_in_its_own_shape() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        let answer = client.ask(post("/chat/completions", &house.key, "{}")).await;
        let body: serde_json::Value = serde_json::from_str(answer.text()).unwrap();
        assert_eq!(answer.status, 404);
        assert!(body["error"]["message"].as_str().unwrap().contains("/v1"), "{body}");
        let asked = |house: &House| house.records().last().unwrap()["asked"].clone();
        assert_eq!(asked(&house), "POST /chat/completions");
        client.ask(post("/t/sk-hg-canary/api/chat", &house.key, "{}")).await;
        assert!(!asked(&house).contains("canary"), "{}", asked(&house));
    });
}

#[test]
fn a_cloud_model_needs_the_scope_and_then_is_asked_for() {
    run(async {
        let house = House::new(1);
        let scopes = ScopeSet::of(&[Scope::Infer, Scope::Cloud]);
        let key = house.add_key(move |key| key.scopes = scopes);
        let mut client = house.connect();
        client.send(post("/api/chat", &key, r#"{"model":"demo:cloud"}"#)).await;
        house.accept(0).await.serve(json(200, "{}")).await;
        assert_eq!(client.answer().await.status, 200);
    });
}

#[test]
fn a_model_that_the_key_may_not_use_is_refused_in_every_spelling() {
    run(async {
        let house = House::new(1);
        let key = house.add_key(|key| key.models = vec![ModelGlob::parse("qwen*").unwrap()]);
        let bodies = bodies(
            "the API key may not use the model 'demo'; /api/tags lists those that it may use",
            "model_not_allowed",
            ["api_error", "permission_error"],
        );
        check(&refused(&house, &format!("x-api-key: {key}\r\n")).await, 403, &bodies);
        for body in [
            r#"{"model":"DEMO:latest"}"#,
            r#"{"model":"registry.ollama.ai/library/demo"}"#,
            r#"{"model":"de\u006do"}"#,
        ] {
            let answer = house.connect().ask(post("/api/chat", &key, body)).await;
            assert!(answer.status == 403 && answer.text().contains("model_not_allowed"), "{answer:?}");
        }
        assert_eq!(house.connect().ask(get("/v1/models/demo", &key)).await.status, 403);
        assert_eq!(house.dialled(0), 0);
    });
}

#[test]
fn what_is_not_open_is_unknown_or_another_method_with_a_key_or_without() {
    run(async {
        let house = House::new(1);
        for fields in [String::new(), format!("x-api-key: {}\r\n", house.key)] {
            for (path, place) in [("/api/nothing", 0), ("/v1/nothing", 1), ("/v1/messages/count_tokens", 2)] {
                let answer = house.connect().ask(with_fields("POST", path, &fields, "")).await;
                let bodies = bodies(
                    "nothing is open at this path; it must be written exactly, and only OpenAI clients have a base URL that ends in /v1",
                    "unknown_route",
                    ["not_found_error"; 2],
                );
                assert_eq!((answer.status, answer.text()), (404, bodies[place].as_str()), "{path}");
            }
            for (place, path) in PATHS.iter().enumerate() {
                let answer = house.connect().ask(with_fields("PUT", path, &fields, "")).await;
                let text = "this method is not open at this path; use POST";
                let bodies = bodies(text, "method_not_allowed", ["api_error"; 2]);
                assert_eq!((answer.status, answer.text()), (405, bodies[place].as_str()), "{path}");
                assert_eq!(answer.field("allow"), Some("POST"));
            }
            let answer = house.connect().ask(with_fields("DELETE", "/api/tags", &fields, "")).await;
            assert_eq!((answer.status, answer.field("allow")), (405, Some("HEAD, GET")));
        }
    });
}

#[test]
fn a_strangers_body_is_never_asked_for() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        let fields = "Expect: 100-continue\r\nContent-Length: 900000\r\n\r\n";
        client.send(format!("POST /api/chat HTTP/1.1\r\nHost: g\r\n{fields}")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.field("connection")), (401, Some("close")));
    });
}
