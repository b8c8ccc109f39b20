//! What keys are shown of models, and forms: `/api/show` without its secrets, lists without what leaves the machine,
//! names with slashes, transcriptions.

use crate::house::{House, run};
use crate::wire::{get, json, post, with_fields};
use gate_keys::ModelGlob;
use gate_types::{ModelName, Scope, ScopeSet, UpstreamId};

/// As Ollama v0.32.15 answers, shortened.
const SHOWN: &str = r#"{"license":"l","modelfile":"FROM /var/lib/ollama/models/blobs/sha256-00\nSYSTEM secret","parameters":"temperature                    0","template":"{{- .Prompt }}","system":"secret","details":{"parent_model":"/var/lib/ollama/x","format":"gguf","families":["llama"]},"messages":[{"role":"user","content":"secret"}],"model_info":{"general.architecture":"llama"},"capabilities":["completion"],"modified_at":"2026-11-20T12:58:09.1+01:00"}"#;
const LESS: &str = r#"{"license":"l","parameters":"temperature                    0","template":"{{- .Prompt }}","details":{"parent_model":"","format":"gguf","families":["llama"]},"model_info":{"general.architecture":"llama"},"capabilities":["completion"],"modified_at":"2026-11-20T12:58:09.1+01:00"}"#;

#[test]
fn a_model_is_shown_without_its_secrets_but_to_who_manages_it() {
    run(async {
        let house = House::new(1);
        let both = house.add_key(|key| key.scopes = ScopeSet::of(&[Scope::Read, Scope::Manage]));
        let mut client = house.connect();
        let ask = r#"{"model":"","name":"demo"}"#;
        client.send(post("/api/show", &house.key, ask)).await;
        let mut upstream = house.accept(0).await;
        assert_eq!(upstream.serve(json(200, SHOWN)).await.body, ask.as_bytes());
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text()), (200, LESS));
        assert_eq!(answer.field("content-type"), Some("application/json; charset=utf-8"));
        assert_eq!(house.outcome(), ("done".into(), "200".into()));
        assert_eq!(house.in_flight(0), 0);

        client.send(post("/api/show", &both, r#"{"model":"demo","verbose":true}"#)).await;
        upstream.serve(json(200, SHOWN)).await;
        assert_eq!(client.answer().await.text(), SHOWN);

        client.send(post("/api/show", &house.key, ask)).await;
        upstream.serve(json(400, r#"{"error":"invalid model name"}"#)).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text()), (400, r#"{"error":"invalid model name"}"#));
    });
}

#[test]
fn what_nobody_can_read_is_not_shown() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        for answer in ["<html>", r#"{"modelfile":"FROM /x"#, "[]"] {
            client.send(post("/api/show", &house.key, r#"{"model":"demo"}"#)).await;
            house
                .accept(0)
                .await
                .serve(json(200, answer).replacen("\r\n", "\r\nConnection: close\r\n", 1))
                .await;
            let told = client.answer().await;
            assert_eq!(told.status, 502, "{answer}");
            assert!(!told.text().contains("FROM"));
        }
    });
}

#[test]
fn a_model_that_stands_for_another_is_not_shown_even_where_no_list_told_of_it() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send(post("/api/show", &house.key, r#"{"model":"demo"}"#)).await;
        house
            .accept(0)
            .await
            .serve(json(200, r#"{"remote_host":"https://ollama.com","remote_model":"x"}"#))
            .await;
        let answer = client.answer().await;
        assert!(answer.status == 403 && answer.text().contains("cloud"), "{}", answer.text());
    });
}

#[test]
fn a_client_that_leaves_while_a_model_is_shown_takes_the_upstreams_connection_along() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send(post("/api/show", &house.key, r#"{"model":"demo"}"#)).await;
        let mut upstream = house.accept(0).await;
        upstream.asked().await;
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"a\":").await;
        tokio::task::yield_now().await;
        client.leave().await;
        assert_eq!(upstream.closed().await, std::time::Duration::ZERO);
        assert_eq!((house.in_flight(0), house.outcome().0), (0, "cancelled".into()));
    });
}

#[test]
fn lists_hide_what_leaves_the_machine_from_keys_without_the_scope() {
    run(async {
        let house = House::new(1);
        house.shared.stubs.learn(UpstreamId(0), &[ModelName::parse("known").unwrap()]);
        let cloud = house.add_key(|key| key.scopes = ScopeSet::of(&[Scope::Read, Scope::Cloud]));
        let tags = r#"{"models":[{"name":"big:120b-cloud","remote_host":"https://ollama.com:443"},{"name":"demo:latest"},{"name":"fresh:latest","remote_host":"https://ollama.com:443","remote_model":"x"},{"name":"known:latest"}]}"#;
        let v1 = r#"{"object":"list","data":[{"id":"big:120b-cloud"},{"id":"demo:latest"},{"id":"known:latest"}]}"#;
        let mut client = house.connect();
        client.send(get("/api/tags", &house.key)).await;
        let mut upstream = house.accept(0).await;
        upstream.serve(json(200, tags)).await;
        assert_eq!(client.answer().await.text(), r#"{"models":[{"name":"demo:latest"}]}"#);
        client.send(get("/v1/models", &house.key)).await;
        upstream.serve(json(200, v1)).await;
        assert_eq!(
            client.answer().await.text(),
            "{\"object\":\"list\",\"data\":[{\"id\":\"demo:latest\"}]}\n"
        );
        client.send(get("/api/tags", &cloud)).await;
        upstream.serve(json(200, tags)).await;
        assert_eq!(client.answer().await.text(), tags);
        client.send(get("/v1/models/known", &cloud)).await;
        upstream.serve(json(200, v1)).await;
        assert_eq!(client.answer().await.text(), "{\"id\":\"known\"}\n");
        for name in ["known", "big:120b-cloud", "demo:cloud"] {
            let answer = client.ask(get(&format!("/v1/models/{name}"), &house.key)).await;
            assert!(answer.status == 403 && answer.text().contains("\\\"cloud\\\""), "{}", answer.text());
        }
    });
}

#[test]
fn a_name_with_slashes_is_found_plain_and_escaped_and_only_there() {
    run(async {
        let house = House::new(1);
        let list = json(200, r#"{"object":"list","data":[{"id":"hf.co/acme/x:q4","object":"model"}]}"#);
        let mut client = house.connect();
        let mut upstream = None;
        for path in ["hf.co/acme/x:q4", "hf.co%2Facme%2Fx%3Aq4", "HF.co%2facme/x:Q4"] {
            client.send(get(&format!("/v1/models/{path}"), &house.key)).await;
            if upstream.is_none() {
                upstream = Some(house.accept(0).await);
            }
            let asked = upstream.as_mut().unwrap().serve(&list).await;
            assert!(asked.head.starts_with("GET /v1/models HTTP/1.1\r\n"), "{}", asked.head);
            let answer = client.answer().await;
            assert!(
                answer.status == 200 && answer.text().contains(r#""object":"model""#),
                "{}",
                answer.text()
            );
        }
        let limited = house.add_key(|key| key.models = vec![ModelGlob::parse("qwen3:*").unwrap()]);
        let answer = client.ask(get("/v1/models/hf.co%2Facme%2Fx:q4", &limited)).await;
        assert!(answer.status == 403 && answer.text().contains("model_not_allowed"), "{}", answer.text());
        let answer = client.ask(post("/v1%2Fmessages", &house.key, "{}")).await;
        assert_eq!(answer.status, 404);
    });
}

const FORM: &str = "multipart/form-data; boundary=xYzZY";

fn form(model: &str) -> String {
    format!(
        "--xYzZY\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--xYzZY\r\n\
         Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\nRIFF\0\x01\r\n--xYz\r\n--xYzZY--\r\n"
    )
}

#[test]
fn a_transcription_goes_on_as_it_came() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        let fields = format!("x-api-key: {}\r\nContent-Type: {FORM}\r\n", house.key);
        client
            .send(with_fields("POST", "/v1/audio/transcriptions?language=de", &fields, &form("Demo")))
            .await;
        let asked = house.accept(0).await.serve(json(200, r#"{"text":"hello"}"#)).await;
        assert!(asked.head.starts_with("POST /v1/audio/transcriptions HTTP/1.1\r\n"), "{}", asked.head);
        assert!(asked.head.contains(&format!("\r\nContent-Type: {FORM}\r\n")), "{}", asked.head);
        assert_eq!(asked.body, form("Demo").as_bytes());
        assert_eq!(client.answer().await.text(), r#"{"text":"hello"}"#);
        assert_eq!(house.records().pop().unwrap()["model"], "demo:latest");
    });
}

#[test]
fn a_transcription_with_two_readings_reaches_nobody() {
    run(async {
        let house = House::new(1);
        let limited = house.add_key(|key| key.models = vec![ModelGlob::parse("qwen3:*").unwrap()]);
        let embeds = house.add_key(|key| key.scopes = ScopeSet::of(&[Scope::Embed, Scope::Read]));
        let with = |key: &str, kind: &str| format!("x-api-key: {key}\r\n{kind}");
        let usual = format!("Content-Type: {FORM}\r\n");
        let mut client = house.connect();
        let path = "/v1/audio/transcriptions";
        for (path, fields, body, status, code) in [
            (path, with(&limited, &usual), form("demo"), 403, "model_not_allowed"),
            (path, with(&embeds, &usual), form("demo"), 403, "missing_scope"),
            (path, with(&house.key, &usual), form("demo:cloud"), 403, "missing_scope"),
            (path, with(&house.key, &usual), form(""), 400, "model_required"),
            (path, with(&house.key, &usual), form("../x"), 400, "invalid_model_name"),
            (path, with(&house.key, ""), form("demo"), 400, "malformed_form"),
            (path, with(&house.key, &format!("{usual}{usual}")), form("demo"), 400, "malformed_form"),
            (
                path,
                with(&house.key, "Content-Type: application/json\r\n"),
                r#"{"model":"demo"}"#.into(),
                400,
                "malformed_form",
            ),
            (
                path,
                with(&house.key, &format!("{usual}Content-Encoding: zstd\r\n")),
                form("demo"),
                415,
                "unsupported_encoding",
            ),
            (
                "/v1/audio/transcriptions?model=demo",
                with(&house.key, &usual),
                form("demo"),
                400,
                "malformed_form",
            ),
            (
                "/v1/audio/transcriptions?a=b&%6Dodel=qwen3",
                with(&house.key, &usual),
                form("demo"),
                400,
                "malformed_form",
            ),
            (
                path,
                with(&house.key, &usual),
                form("demo").replace("name=\"file\"", "name=\"model\""),
                400,
                "malformed_form",
            ),
            (
                path,
                with(&house.key, &usual),
                format!("{}{}", form("demo"), form("nope")),
                400,
                "malformed_form",
            ),
        ] {
            let answer = client.ask(with_fields("POST", path, &fields, &body)).await;
            assert_eq!(answer.status, status, "{fields}{body}: {}", answer.text());
            assert!(answer.text().contains(&format!("\"code\":\"{code}\"")), "{body}: {}", answer.text());
        }
        assert_eq!(house.dialled(0), 0);
    });
}
