//! Upstreams that are not there, or have not got the model: who is asked next, and what the client is told at the end. Those
//! that are there and fail are in `retries.rs`.

use crate::house::{HINT, House, run};
use crate::wire::{CHAT, get, json, post};
use gate_keys::ModelGlob;
use gate_policy::{Health, Observation};
use gate_proxy::NotYet;
use gate_types::{ModelName, UpstreamId};
use std::time::Duration;

const MISSING: &str = r#"{"error":"model 'demo' not found"}"#;

fn health(house: &House, place: u16) -> Health {
    house.shared.with_fleet(|fleet| fleet.get(UpstreamId(place)).unwrap().health())
}

#[test]
fn a_refused_connection_moves_on_to_the_next() {
    run(async {
        let house = House::new(2);
        house.probed(0, &["demo"], &["demo"]);
        house.refuse(0, true);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        house.accept(1).await.serve(json(200, r#"{"from":1}"#)).await;
        assert_eq!(client.answer().await.text(), r#"{"from":1}"#);
        assert_eq!(house.records()[0]["upstream"], "http://up1:11434");
        assert_eq!((health(&house, 0), health(&house, 1)), (Health::Down, Health::Up));
        assert!((0..2).all(|place| house.in_flight(place) == 0));
    });
}

#[test]
fn where_nobody_listens_the_client_is_told_when_to_come_back() {
    run(async {
        let house = House::new(3);
        (0..3).for_each(|place| house.refuse(place, true));
        let mut client = house.connect();
        for (path, body) in [
            (
                "/api/chat",
                r#"{"error":"no model server could be reached; it may be starting, so try again in a moment","code":"upstream_unreachable"}"#,
            ),
            (
                "/v1/chat/completions",
                r#"{"error":{"message":"no model server could be reached; it may be starting, so try again in a moment","type":"api_error","param":null,"code":"upstream_unreachable"}}"#,
            ),
        ] {
            let answer = client.ask(post(path, &house.key, CHAT)).await;
            assert_eq!((answer.status, answer.text()), (502, body));
            assert_eq!(answer.field("retry-after"), Some("5"));
            assert_eq!(house.outcome(), ("upstream_failed".into(), "502".into()));
        }
        let record = &house.records()[0];
        assert!(record["error"].contains("connection refused"), "the log says why: {record:?}");
        let dialled: usize = (0..3).map(|place| house.dialled(place)).sum();
        assert_eq!(dialled, 4, "two were asked for each request");
    });
}

#[test]
fn who_may_have_ended_a_started_model_server_is_not_told_to_come_back() {
    run(async {
        let house = House::new(1);
        house.shared.follow(&[UpstreamId(0)], &[], NotYet::Starting(vec![UpstreamId(0)]));
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        drop(house.accept(0).await);
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.field("retry-after")), (502, None), "{}", answer.text());
        assert!(answer.text().contains(r#""code":"upstream_failed""#), "{}", answer.text());
        // Who comes after that can have done nothing to it.
        house.refuse(0, true);
        let answer = client.ask(post("/api/chat", &house.key, CHAT)).await;
        assert!(answer.status == 503 && answer.field("retry-after").is_some(), "{}", answer.text());
        assert!(answer.text().contains(r#""code":"loading""#), "{}", answer.text());
    });
}

#[test]
fn an_upstream_that_was_down_is_up_again_once_it_answers() {
    run(async {
        let house = House::new(1);
        house.refuse(0, true);
        let mut client = house.connect();
        assert_eq!(client.ask(post("/api/chat", &house.key, CHAT)).await.status, 502);
        assert_eq!(health(&house, 0), Health::Down);
        house.refuse(0, false);
        client.send(post("/api/chat", &house.key, CHAT)).await;
        house.accept(0).await.serve(json(200, "{}")).await;
        assert_eq!(client.answer().await.status, 200);
        assert_eq!(health(&house, 0), Health::Up);
    });
}

#[test]
fn without_any_upstream_the_client_is_told_what_to_do() {
    run(async {
        let house = House::new(0);
        let mut client = house.connect();
        for request in [
            post("/api/chat", &house.key, CHAT),
            get("/api/tags", &house.key),
            get("/api/version", &house.key),
        ] {
            let answer = client.ask(request).await;
            assert_eq!(answer.status, 503);
            assert_eq!(answer.text(), format!(r#"{{"error":"{HINT}","code":"no_upstream"}}"#));
            assert!(answer.field("retry-after").is_some());
        }
    });
}

#[test]
fn a_model_that_one_upstream_has_lost_is_asked_for_at_another() {
    run(async {
        let house = House::new(2);
        house.probed(0, &["demo"], &["demo"]);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        let mut first = house.accept(0).await;
        first.serve(json(404, MISSING)).await;
        let mut second = house.accept(1).await;
        let asked = second.serve(json(200, r#"{"from":1}"#)).await;
        assert_eq!(asked.body, CHAT.as_bytes(), "the whole request again");
        assert_eq!(client.answer().await.text(), r#"{"from":1}"#);

        client.send(post("/api/chat", &house.key, CHAT)).await;
        second.serve(json(200, r#"{"from":1}"#)).await;
        assert_eq!(client.answer().await.status, 200, "the first one is known not to have it any more");
        house.probed(0, &["demo"], &["demo"]);
        client.send(post("/api/chat", &house.key, CHAT)).await;
        first.serve(json(200, r#"{"from":0}"#)).await;
        assert_eq!(client.answer().await.status, 200, "the refusal did not cost the connection");
    });
}

#[test]
fn a_missing_model_is_told_as_ollama_does_with_the_nearest_names_that_the_key_may_use() {
    run(async {
        let house = House::new(2);
        house.probed(0, &["qwen3:8b", "qwen3:32b", "secret-qwen3"], &[]);
        house.probed(1, &["gemma3:4b"], &[]);
        let key = house.add_key(|key| key.models = vec![ModelGlob::parse("qwen3*").unwrap()]);
        let mut client = house.connect();
        client.send(post("/api/chat", &key, r#"{"model":"Qwen3:14b"}"#)).await;
        let mut upstream = accept_any(&house).await;
        upstream.serve(json(404, r#"{"error":"model 'Qwen3:14b' not found"}"#)).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 404);
        let text = answer.text();
        assert!(text.starts_with(r#"{"error":"model 'Qwen3:14b' not found"#), "{text}");
        assert!(text.contains("qwen3:8b") && text.contains("qwen3:32b"), "{text}");
        assert!(!text.contains("secret") && !text.contains("gemma"), "{text}");
        assert!(text.ends_with(r#","code":"model_not_found"}"#), "{text}");
        assert_eq!(house.dialled(0) + house.dialled(1), 1, "where none is known to have it, one is asked");
        assert_eq!(house.outcome().0, "refused");
    });
}

async fn accept_any(house: &House) -> crate::wire::Upstream {
    tokio::select! {
        upstream = house.accept(0) => upstream,
        upstream = house.accept(1) => upstream,
    }
}

#[test]
fn a_refusal_that_stalls_is_not_waited_for() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        upstream
            .serve("HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n")
            .await;
        let start = tokio::time::Instant::now();
        assert_eq!(client.answer().await.status, 404);
        assert!(start.elapsed() < Duration::from_secs(4));
        upstream.closed().await;
    });
}

#[test]
fn a_route_that_an_old_upstream_lacks_is_no_missing_model() {
    run(async {
        let house = House::new(2);
        house.probed(0, &["demo"], &["demo"]);
        let plain = "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 18\r\n\r\n404 page not found";
        let mut client = house.connect();
        client.send(post("/v1/responses", &house.key, CHAT)).await;
        let mut first = house.accept(0).await;
        first.serve(plain).await;
        let mut second = house.accept(1).await;
        second.serve(plain).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 404);
        assert!(answer.text().contains(r#""code":"unknown_route""#), "{}", answer.text());
        client.send(post("/api/chat", &house.key, CHAT)).await;
        first.serve(json(200, "{}")).await;
        assert_eq!(client.answer().await.status, 200, "it still counts as having the model");
    });
}

#[test]
fn a_404_to_a_manager_passes_as_it_is() {
    run(async {
        let house = House::new(2);
        let key = house.add_key(|key| key.scopes = "manage".parse().unwrap());
        house.probed(0, &["demo"], &["demo"]);
        let mut client = house.connect();
        client.send(post("/api/copy", &key, r#"{"source":"demo","destination":"x"}"#)).await;
        let body = r#"{"error":"model \"demo\" not found"}"#;
        house.accept(0).await.serve(json(404, body)).await;
        assert_eq!(client.answer().await.text(), body);
        assert_eq!(house.dialled(1), 0);
    });
}

#[test]
fn a_model_that_comes_while_its_upstream_says_no_is_not_unknown() {
    run(async {
        let house = House::new(1);
        house.probed(0, &["other"], &[]);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        house.observe(0, Observation::ModelThere(ModelName::parse("demo").unwrap()));
        upstream.serve(json(404, MISSING)).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(
            answer.text(),
            r#"{"error":"the model 'demo' has just been pulled; try again","code":"model_pulling"}"#
        );
        assert_eq!(answer.field("retry-after"), Some("2"));
        client.send(post("/api/chat", &house.key, CHAT)).await;
        upstream.serve(json(200, r#"{"from":0}"#)).await;
        assert_eq!(client.answer().await.text(), r#"{"from":0}"#);
    });
}
