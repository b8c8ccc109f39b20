//! What `/metrics` tells, asked for with a key and at the listener of its own; and the page that lists it.

use crate::house::{House, run};
use crate::wire::{CHAT, get, json, post};
use gate_keys::Key;
use gate_proxy::{metrics_reference, serve_metrics};
use gate_types::{Scope, ScopeSet};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

fn may_manage(key: &mut Key) {
    key.scopes = ScopeSet::of(&[Scope::Manage]);
}

/// The value of the one series that begins so.
pub(crate) fn value(page: &str, series: &str) -> Option<u64> {
    let mut found = page.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = found.next().map(|text| text.parse().unwrap());
    assert_eq!(found.next(), None, "{series} is there twice");
    value
}

/// What their own listener says.
pub(crate) async fn page(house: &House) -> String {
    let (mut near, far) = duplex(1 << 20);
    near.write_all(b"GET /metrics HTTP/1.1\r\nHost: g\r\n\r\n").await.unwrap();
    serve_metrics(&house.shared, &[], far).await;
    let mut answer = String::new();
    near.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn what_happened_is_counted_once() {
    run(async {
        let house = House::new(1);
        let key = house.add_key(may_manage);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        upstream.serve(json(200, "{}")).await;
        client.answer().await;
        client.ask(post("/api/chat", "sk-wrong", CHAT)).await;
        client.ask(get("/nothing", &house.key)).await;
        let gone = house.connect();
        gone.leave().await;
        let answer = client.ask(get("/metrics", &key)).await;
        assert_eq!(answer.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let page = answer.text();
        for (series, expected) in [
            (r#"herdgate_requests_total{route="/api/chat",outcome="done",status="2xx"}"#, 1),
            (r#"herdgate_requests_total{route="/api/chat",outcome="refused",status="4xx"}"#, 1),
            (r#"herdgate_requests_total{route="none",outcome="refused",status="4xx"}"#, 1),
            (r#"herdgate_request_seconds_bucket{route="/api/chat",le="+Inf"}"#, 2),
            (r#"herdgate_request_seconds_count{route="/api/chat"}"#, 2),
            (r#"herdgate_first_byte_seconds_count{route="/api/chat"}"#, 1),
            ("herdgate_queue_seconds_count", 0),
            (r#"herdgate_errors_total{code="unknown_route"}"#, 1),
            (r#"herdgate_auth_failures_total{code="invalid_key"}"#, 1),
            ("herdgate_connections_total", 2),
            ("herdgate_connections", 1),
            (r#"herdgate_upstream_up{upstream="http://up0:11434"}"#, 1),
            (r#"herdgate_upstream_slots{upstream="http://up0:11434"}"#, 64),
            ("herdgate_queue_length", 0),
            ("herdgate_store_degraded", 0),
            (r#"herdgate_upstream_in_flight{upstream="http://up0:11434"}"#, 0),
        ] {
            assert_eq!(value(page, series), Some(expected), "{series}\n{page}");
        }
        for (name, line) in page.lines().filter_map(|line| Some((line.strip_prefix("# TYPE ")?, line))) {
            let name = name.split(' ').next().unwrap();
            assert!(metrics_reference().contains(&format!("| `{name}` |")), "{line}");
        }
    });
}

#[test]
fn metrics_need_the_scope() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        assert_eq!(client.ask(get("/metrics", &house.key)).await.status, 403);
        assert_eq!(client.ask("GET /metrics HTTP/1.1\r\nHost: g\r\n\r\n").await.status, 401);
    });
}

#[test]
fn their_own_listener_has_metrics_and_nothing_else() {
    run(async {
        let house = House::new(1);
        for (request, status, has_body) in [
            ("GET /metrics HTTP/1.1\r\nHost: g\r\n\r\n", "200 OK", true),
            ("GET /metrics?x HTTP/1.0\r\n\r\n", "200 OK", true),
            ("HEAD /metrics HTTP/1.1\r\nHost: g\r\n\r\n", "200 OK", false),
            ("GET /api/tags HTTP/1.1\r\nHost: g\r\n\r\n", "404 Not Found", false),
            ("POST /metrics HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n", "404 Not Found", false),
            ("GET /metrics HTTP/1.1\r\n\r\n", "400 Bad Request", false),
            ("nonsense\r\n\r\n", "400 Bad Request", false),
        ] {
            let (mut near, far) = duplex(1 << 20);
            near.write_all(request.as_bytes()).await.unwrap();
            serve_metrics(&house.shared, &[], far).await;
            let mut answer = String::new();
            near.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {answer}");
            assert_eq!(answer.contains("herdgate_build_info"), has_body, "{request}");
        }
    });
}

#[test]
fn their_own_listener_answers_by_no_name_that_a_web_page_could_have() {
    run(async {
        let house = House::new(1);
        let names = ["metrics.example.org".to_owned()];
        for (host, status) in [
            ("127.0.0.1:9090", "200 OK"),
            ("203.0.113.7:9090", "200 OK"),
            ("[2001:db8::1]:9090", "200 OK"),
            ("localhost:9090", "200 OK"),
            ("gate", "200 OK"),
            ("gate.monitoring.svc.cluster.local:9090", "200 OK"),
            ("Metrics.example.org:9090", "200 OK"),
            ("evil.example:9090", "403 Forbidden"),
            ("127.0.0.1.evil.example:9090", "403 Forbidden"),
            ("metrics.example.org.evil.example", "403 Forbidden"),
            ("metrics.example.org\r\nHost: gate", "400 Bad Request"),
        ] {
            let (mut near, far) = duplex(1 << 20);
            let asked = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n");
            near.write_all(asked.as_bytes()).await.unwrap();
            serve_metrics(&house.shared, &names, far).await;
            let mut answer = String::new();
            near.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{host}: {answer}");
            assert_eq!(answer.contains("herdgate_build_info"), status == "200 OK", "{host}");
            assert_eq!(answer.contains("metrics.names"), status == "403 Forbidden", "{host}");
        }
    });
}

#[test]
fn who_says_nothing_at_their_own_listener_is_sent_away() {
    run(async {
        let house = House::new(1);
        let (_near, far) = duplex(1024);
        let begun = tokio::time::Instant::now();
        serve_metrics(&house.shared, &[], far).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(10));
    });
}

#[test]
fn the_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let made = metrics_reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    let page = std::fs::read_to_string(path).unwrap();
    assert!(page == made, "docs/metrics.md is out of date: run UPDATE_DOCS=1 cargo test -p gate-proxy");
}
