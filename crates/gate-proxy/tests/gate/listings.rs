//! Lists of models: those of all upstreams in one, without what the key may not use.

use crate::house::{House, run};
use crate::wire::{get, json, with_fields};
use gate_keys::ModelGlob;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Counts the warnings of its thread.
#[derive(Clone, Default)]
struct Warnings(Arc<AtomicUsize>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

fn tags(names: &[&str]) -> String {
    let entries: Vec<String> =
        names.iter().map(|name| format!(r#"{{"name":"{name}","model":"{name}","size":1}}"#)).collect();
    json(200, &format!(r#"{{"models":[{}]}}"#, entries.join(",")))
}

fn names(body: &str, list: &str, field: &str) -> Vec<String> {
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let entries = body[list].as_array().unwrap();
    entries.iter().map(|entry| entry[field].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_lists_of_all_upstreams_become_one() {
    run(async {
        let house = House::new(2);
        let mut client = house.connect();
        client.send(get("/api/tags?x=1", &house.key)).await;
        let (mut first, mut second) = (house.accept(0).await, house.accept(1).await);
        let asked = first.serve(tags(&["a:latest", "b:1"])).await;
        assert_eq!(
            asked.head,
            "GET /api/tags HTTP/1.1\r\nHost: up0:11434\r\nAccept: application/json\r\n\r\n"
        );
        second.serve(tags(&["b:1", "c:latest"])).await;
        let answer = client.answer().await;
        assert_eq!(answer.field("content-type"), Some("application/json; charset=utf-8"));
        assert_eq!(names(answer.text(), "models", "name"), ["a:latest", "b:1", "c:latest"]);
        assert_eq!(house.outcome(), ("done".into(), "200".into()));

        client.send(with_fields("HEAD", "/api/tags", &format!("x-api-key: {}\r\n", house.key), "")).await;
        first.serve(tags(&["a:latest"])).await;
        second.serve(tags(&[])).await;
        let head = client.head().await;
        assert_eq!(head.status, 200);
        assert!(head.field("content-length").unwrap().parse::<usize>().unwrap() > 20);
        assert_eq!(client.ask(get("/", "-")).await.status, 200, "no body followed");
    });
}

#[test]
fn a_key_sees_only_what_it_may_use() {
    run(async {
        let house = House::new(1);
        let key = house.add_key(|key| key.models = vec![ModelGlob::parse("qwen*").unwrap()]);
        let mut client = house.connect();
        client.send(get("/api/tags", &key)).await;
        let mut upstream = house.accept(0).await;
        upstream.serve(tags(&["llama3:8b", "qwen3:8b", "acme/qwen:1"])).await;
        assert_eq!(names(client.answer().await.text(), "models", "name"), ["qwen3:8b"]);
        let listed = json(
            200,
            r#"{"object":"list","data":[{"id":"llama3:8b","object":"model"},{"id":"qwen3:8b","object":"model"}]}"#,
        );
        client.send(get("/v1/models", &key)).await;
        upstream.serve(&listed).await;
        assert_eq!(names(client.answer().await.text(), "data", "id"), ["qwen3:8b"]);
        client.send(get("/v1/models/qwen3%3A8b", &key)).await;
        assert!(upstream.serve(&listed).await.head.starts_with("GET /v1/models HTTP/1.1\r\n"));
        assert!(client.answer().await.text().contains(r#""id":"qwen3:8b""#));
        client.send(get("/v1/models/qwen3:9b", &key)).await;
        upstream.serve(&listed).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 404);
        assert!(answer.text().contains(r#""code":"model_not_found""#) && !answer.text().contains("llama"));
    });
}

#[test]
fn a_slow_upstream_is_left_out() {
    run(async {
        let house = House::new(2);
        let mut client = house.connect();
        client.send(get("/api/ps", &house.key)).await;
        let (mut first, mut second) = (house.accept(0).await, house.accept(1).await);
        second.asked().await;
        first.serve(tags(&["a:latest"])).await;
        let start = Instant::now();
        assert_eq!(names(client.answer().await.text(), "models", "name"), ["a:latest"]);
        let waited = start.elapsed();
        assert!(waited >= Duration::from_secs(5) && waited <= Duration::from_secs(6), "{waited:?}");
        assert_eq!(second.closed().await, Duration::ZERO);
    });
}

#[test]
fn a_failing_upstream_is_left_out_but_all_failing_is_a_failure() {
    run(async {
        let house = House::new(2);
        let mut client = house.connect();
        client.send(get("/api/tags", &house.key)).await;
        let (mut first, mut second) = (house.accept(0).await, house.accept(1).await);
        first.serve(json(500, r#"{"error":"x"}"#)).await;
        second.serve(tags(&["a:latest"])).await;
        assert_eq!(names(client.answer().await.text(), "models", "name"), ["a:latest"]);
        client.send(get("/api/tags", &house.key)).await;
        first.serve(json(500, r#"{"error":"x"}"#)).await;
        second.serve(json(500, r#"{"error":"x"}"#)).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 502, "an empty list would be a lie");
        assert_eq!(house.outcome(), ("upstream_failed".into(), "502".into()));
    });
}

#[test]
fn nobody_listening_is_a_failure_until_somebody_is_back() {
    run(async {
        let house = House::new(2);
        house.refuse(0, true);
        house.refuse(1, true);
        let mut client = house.connect();
        let answer = client.ask(get("/api/tags", &house.key)).await;
        assert_eq!((answer.status, answer.field("retry-after")), (502, Some("5")));
        assert!(answer.text().contains("upstream_unreachable"));
        house.refuse(1, false);
        client.send(get("/api/tags", &house.key)).await;
        house.accept(1).await.serve(tags(&["a:latest"])).await;
        assert_eq!(client.answer().await.status, 200, "those that are down are asked where nobody is up");
    });
}

#[test]
fn no_models_are_an_empty_list() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send(get("/v1/models", &house.key)).await;
        house.accept(0).await.serve(json(200, r#"{"object":"list","data":null}"#)).await;
        assert_eq!(client.answer().await.text().trim_end(), r#"{"object":"list","data":[]}"#);
    });
}

#[test]
fn one_that_lists_nonsense_fills_no_log() {
    run(async {
        let house = House::new(3);
        let warnings = Warnings::default();
        let _guard = tracing::subscriber::set_default(warnings.clone());
        let mut client = house.connect();
        let mut upstreams = None;
        for _ in 0..50 {
            client.send(get("/api/tags", &house.key)).await;
            let [first, second, third] = match &mut upstreams {
                Some(upstreams) => upstreams,
                None => {
                    upstreams.insert([house.accept(0).await, house.accept(1).await, house.accept(2).await])
                }
            };
            first.serve(json(200, "nonsense")).await;
            second.serve(json(200, "7")).await;
            third.serve(tags(&["a:latest"])).await;
            assert_eq!(client.answer().await.status, 200);
        }
        let told = warnings.0.load(Ordering::Relaxed);
        // A minute of the real clock may have ended meanwhile.
        assert!((2..=4).contains(&told), "{told} warnings");
    });
}

#[test]
fn a_page_that_is_no_list_is_left_out_and_never_told_as_an_empty_list() {
    run(async {
        let house = House::new(2);
        let mut client = house.connect();
        client.send(get("/api/tags", &house.key)).await;
        let (mut first, mut second) = (house.accept(0).await, house.accept(1).await);
        first.serve(json(200, "<html>please log in</html>")).await;
        second.serve(tags(&["a:latest"])).await;
        assert_eq!(names(client.answer().await.text(), "models", "name"), ["a:latest"]);

        client.send(get("/api/tags", &house.key)).await;
        first.serve(json(200, "<html>please log in</html>")).await;
        second.serve(json(200, "<html>please log in</html>")).await;
        assert_eq!(client.answer().await.status, 502);
    });
}
