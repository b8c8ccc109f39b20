//! Pages in browsers: who may ask, what they may read, and that no upstream hears of it.

use crate::house::{House, run};
use crate::wire::{Answer, CHAT, LAST, STREAM, chunk, get, json, with_fields};
use gate_types::OriginPattern;

const OURS: &str = "https://app.example";
const EVIL: &str = "https://evil.example";

/// A gate that lets pages of two kinds of origins in.
fn house() -> House {
    let house = House::new(1);
    house.change_rules(|rules| {
        let origins = [OURS, "http://localhost:*"].map(|text| OriginPattern::parse(text).unwrap());
        rules.door.origins = origins.to_vec();
    });
    house
}

fn preflight(path: &str, origin: &str, fields: &str) -> String {
    let method = "Access-Control-Request-Method: POST\r\n";
    format!("OPTIONS {path} HTTP/1.1\r\nHost: gate\r\nOrigin: {origin}\r\n{method}{fields}\r\n")
}

fn allowed(answer: &Answer) -> Option<&str> {
    assert!(!answer.names().contains(&"access-control-allow-credentials".to_owned()), "{answer:?}");
    answer.field("access-control-allow-origin")
}

#[test]
fn a_preflight_is_answered_without_a_key_on_every_open_route() {
    run(async {
        let house = house();
        let mut client = house.connect();
        let asked = "Access-Control-Request-Headers: authorization,X-Stainless-Future, anthropic-new,x-evil,bad name\r\n";
        for (path, methods) in [
            ("/api/chat", "POST"),
            ("/api/tags", "HEAD, GET"),
            ("/v1/chat/completions", "POST"),
            ("/v1/messages", "POST"),
            ("/v1/models/hf.co%2Fa%2Fb", "GET"),
            ("/api/delete", "DELETE"),
        ] {
            client.send(preflight(path, "http://localhost:5173", asked)).await;
            let answer = client.head().await;
            assert_eq!((answer.status, allowed(&answer)), (204, Some("http://localhost:5173")), "{path}");
            assert_eq!(answer.field("access-control-allow-methods"), Some(methods));
            assert_eq!(answer.field("access-control-max-age"), Some("43200"));
            let headers = answer.field("access-control-allow-headers").unwrap();
            let has = |name: &str| headers.split(", ").any(|one| one == name);
            for name in [
                "authorization",
                "content-type",
                "x-api-key",
                "openai-beta",
                "anthropic-version",
                "anthropic-dangerous-direct-browser-access",
                "x-stainless-future",
                "anthropic-new",
            ] {
                assert!(has(name), "{name} is not in {headers}");
            }
            assert!(!headers.contains("evil") && !headers.contains("bad"), "{headers}");
        }
        assert_eq!(house.dialled(0), 0);
    });
}

#[test]
fn a_strange_origin_gets_no_preflight_and_can_read_nothing() {
    run(async {
        let house = house();
        let mut client = house.connect();
        for origin in [EVIL, "null", "http://localhost:1@evil.example", "https://app.example.evil.example"] {
            let answer = client.ask(preflight("/api/chat", origin, "")).await;
            assert_eq!((answer.status, allowed(&answer)), (403, None), "{origin}");
            assert!(answer.text().contains("origin_not_allowed"), "{}", answer.text());
        }
        let twice = preflight("/api/chat", OURS, &format!("Origin: {EVIL}\r\n"));
        assert_eq!(client.ask(twice).await.status, 403);
        // What a browser attaches by itself is no key from there; what somebody put in came from no page.
        let pair =
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("u:{}", house.key));
        let fields = format!("Origin: {EVIL}\r\nAuthorization: Basic {pair}\r\n");
        let answer = client.ask(with_fields("POST", "/api/chat", &fields, CHAT)).await;
        assert!(answer.status == 403 && answer.text().contains("origin_not_allowed"), "{answer:?}");
        let fields = format!("Origin: {EVIL}\r\nAuthorization: Bearer {}\r\n", house.key);
        client.send(with_fields("POST", "/api/chat", &fields, CHAT)).await;
        let asked = house.accept(0).await.serve(json(200, "{}")).await;
        assert!(!asked.head.contains("rigin"), "{}", asked.head);
        let answer = client.answer().await;
        assert_eq!((answer.status, allowed(&answer), answer.field("vary")), (200, None, Some("Origin")));
    });
}

#[test]
fn answers_errors_and_streams_can_be_read_by_pages_that_may() {
    run(async {
        let house = house();
        let mut client = house.connect();
        let fields = format!("Origin: {OURS}\r\nAuthorization: Bearer {}\r\n", house.key);
        client.send(with_fields("POST", "/api/chat", &fields, CHAT)).await;
        let mut upstream = house.accept(0).await;
        let asked = upstream.serve([STREAM, &chunk("{\"done\":true}\n"), LAST].concat()).await;
        assert!(!asked.head.contains(OURS), "{}", asked.head);
        let stream = client.answer().await;
        let wrong =
            client.ask(with_fields("POST", "/v1/messages", &format!("Origin: {OURS}\r\n"), CHAT)).await;
        let unknown = client.ask(with_fields("POST", "/api/none", &fields, "")).await;
        let greeting = client.ask(with_fields("GET", "/", &fields, "")).await;
        for (answer, status) in [(stream, 200), (wrong, 401), (unknown, 404), (greeting, 200)] {
            assert_eq!((answer.status, allowed(&answer)), (status, Some(OURS)));
            assert_eq!(answer.field("vary"), Some("Origin"));
            assert_eq!(answer.field("access-control-expose-headers"), Some("x-request-id, retry-after"));
        }
        let answer = client.ask(preflight("/api/none", OURS, "")).await;
        assert_eq!((answer.status, allowed(&answer)), (404, Some(OURS)));
    });
}

#[test]
fn the_gates_own_pages_and_programs_need_nothing() {
    run(async {
        let house = house();
        let mut client = house.connect();
        let answer = client.ask(with_fields("GET", "/", "Origin: http://gate\r\n", "")).await;
        assert_eq!((answer.status, allowed(&answer)), (200, None));
        let answer = client.ask(get("/", "-")).await;
        assert_eq!((answer.status, allowed(&answer)), (200, None));
        // To a browser its own page is no other origin: what it attaches by itself counts.
        let pair =
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("u:{}", house.key));
        for (origin, status) in [("http://gate", 400), ("https://GATE", 400), ("http://gate:1", 403)] {
            let fields = format!("Origin: {origin}\r\nAuthorization: Basic {pair}\r\n");
            let answer = client.ask(with_fields("POST", "/api/chat", &fields, "{}")).await;
            assert_eq!(
                (answer.status, allowed(&answer)),
                (status, None),
                "{origin}: 400 for want of a model"
            );
        }
        // A preflight has an origin and a method that it asks for; nothing else is one.
        let method = "Access-Control-Request-Method: GET\r\n";
        for fields in ["", method, &format!("Origin: {OURS}\r\n")] {
            let answer = client.ask(with_fields("OPTIONS", "/api/chat", fields, "")).await;
            assert_eq!((answer.status, answer.field("allow")), (405, Some("POST")), "{fields}");
        }
        let fields = format!("Origin: {EVIL}\r\n{method}");
        let answer = client.ask(with_fields("GET", "/", &fields, "")).await;
        assert_eq!((answer.status, allowed(&answer)), (200, None));
    });
}

#[test]
fn with_a_star_every_page_may_ask_and_by_default_none() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        let answer = client.ask(preflight("/api/chat", OURS, "")).await;
        assert_eq!((answer.status, allowed(&answer), answer.field("vary")), (403, None, None));
        house.change_rules(|rules| rules.door.origins = vec![OriginPattern::parse("*").unwrap()]);
        for origin in [OURS, EVIL, "null"] {
            client.send(preflight("/api/chat", origin, "")).await;
            let answer = client.head().await;
            assert_eq!((answer.status, allowed(&answer)), (204, Some("*")), "{origin}");
        }
        let answer = client.ask(with_fields("GET", "/", &format!("Origin: {EVIL}\r\n"), "")).await;
        assert_eq!((answer.status, allowed(&answer)), (200, Some("*")));
    });
}
