//! A key that stops being valid ends what runs by it, wherever that is; other requests go on.

use crate::house::{House, run};
use crate::wire::{CHAT, END, LAST, STREAM, chunk, get, json, post};
use gate_types::{Scope, ScopeSet};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// A key of `house` and the switch that revokes it.
struct Revocable {
    key: String,
    revoked: Rc<Cell<bool>>,
}

impl Revocable {
    fn new(house: &House, scopes: ScopeSet) -> Self {
        let revoked = Rc::new(Cell::new(false));
        let seen = Rc::clone(&revoked);
        let key = house.add_key(move |key| {
            key.scopes = scopes;
            key.revoked = seen.get().then_some(2);
        });
        Self { key, revoked }
    }

    fn revoke(&self, house: &House) {
        self.revoked.set(true);
        house.add_key(|_| {});
    }
}

#[test]
fn a_stream_ends_with_its_key_and_its_neighbour_goes_on() {
    run(async {
        let house = House::new(1);
        let doomed = Revocable::new(&house, ScopeSet::DEFAULT);
        let (mut one, mut other) = (house.connect(), house.connect());
        one.send(post("/api/chat", &doomed.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        upstream.serve([STREAM, &chunk("{\"a\":1}\n")].concat()).await;
        one.head().await;
        one.expect(chunk("{\"a\":1}\n").as_bytes()).await;
        other.send(post("/api/chat", &house.key, CHAT)).await;
        let mut beside = house.accept(0).await;
        beside.serve([STREAM, &chunk("{\"b\":1}\n")].concat()).await;
        other.head().await;

        doomed.revoke(&house);
        let took = upstream.closed().await;
        assert!(took < Duration::from_secs(1), "the model went on for {took:?}");
        let mut rest = Vec::new();
        loop {
            match one.some().await {
                more if more.is_empty() => break,
                more => rest.extend(more),
            }
        }
        assert!(!rest.ends_with(LAST.as_bytes()), "it looks whole: {}", rest.escape_ascii());
        let told = String::from_utf8(rest).unwrap();
        let says = "{\"error\":\"the API key is unknown, expired or revoked";
        assert!(
            told.contains(says) && told.contains("\"code\":\"invalid_key\"}\n"),
            "in its dialect: {told}"
        );
        let record = house.records().pop().unwrap();
        assert!(record["error"].contains("revoked"), "{record:?}");
        assert_eq!((record["outcome"].as_str(), record["status"].as_str()), ("revoked", "200"));

        beside.send(END).await;
        other.expect([&chunk("{\"b\":1}\n"), END].concat().as_bytes()).await;
        assert_eq!(house.in_flight(0), 0);
    });
}

#[test]
fn what_has_no_answer_yet_is_told_why() {
    run(async {
        let house = House::new(1);
        let doomed = Revocable::new(&house, ScopeSet::of(&[Scope::Infer, Scope::Manage]));
        let mut waiting = house.connect();
        waiting.send(post("/v1/chat/completions", &doomed.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        upstream.asked().await;
        let mut sending = house.connect();
        let head = format!("POST /api/chat HTTP/1.1\r\nHost: g\r\nx-api-key: {}\r\n", doomed.key);
        sending.send(format!("{head}Content-Length: 50\r\n\r\n{{\"model\":")).await;
        let mut uploading = house.connect();
        let path = format!("/api/blobs/sha256-{}", "0123456789abcdef".repeat(4));
        let head = format!("POST {path} HTTP/1.1\r\nHost: g\r\nx-api-key: {}\r\n", doomed.key);
        uploading.send(format!("{head}Content-Length: 50\r\n\r\nhalf")).await;
        let mut blob = house.accept(0).await;

        doomed.revoke(&house);
        for client in [&mut waiting, &mut sending, &mut uploading] {
            let answer = client.answer().await;
            assert!(answer.status == 401 && answer.text().contains("invalid_key"), "{answer:?}");
        }
        upstream.closed().await;
        blob.closed().await;
        assert_eq!(house.in_flight(0), 0);
    });
}

#[test]
fn the_time_that_one_waited_in_the_queue_is_told_however_it_ends() {
    run(async {
        let house = House::new(1);
        house.change_rules(|rules| rules.queue.slots = 1);
        let doomed = Revocable::new(&house, ScopeSet::DEFAULT);
        let mut busy = house.connect();
        busy.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        upstream.asked().await;
        let (mut one, mut other) = (house.connect(), house.connect());
        one.send(post("/api/chat", &doomed.key, CHAT)).await;
        other.send(post("/api/chat", &house.key, CHAT)).await;
        tokio::time::sleep(Duration::from_secs(7)).await;
        doomed.revoke(&house);
        assert_eq!(one.answer().await.status, 401);
        other.end_task().await;
        let records = house.records();
        for (record, outcome) in records.iter().zip(["refused", "shut_down"]) {
            assert_eq!(record["outcome"], outcome);
            let queued: f64 = record["queued_ms"].parse().unwrap();
            assert!((7000.0..7100.0).contains(&queued), "{record:?}");
        }
        assert_eq!((records.len(), house.shared.waiting()), (2, 0));
        let manage = house.add_key(|key| key.scopes = ScopeSet::of(&[Scope::Manage]));
        let page = house.connect().ask(get("/metrics", &manage)).await;
        for line in [
            "herdgate_queue_seconds_count 2\n",
            r#"herdgate_requests_total{route="/api/chat",outcome="shut_down",status="none"} 1"#,
        ] {
            assert!(page.text().contains(line), "{line}\n{}", page.text());
        }
    });
}

#[test]
fn at_the_end_of_the_grace_every_request_ends() {
    run(async {
        let house = House::new(1);
        let mut waiting = house.connect();
        waiting.send(post("/v1/messages", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        upstream.asked().await;
        house.gate().leases.end_all();
        let answer = waiting.answer().await;
        assert_eq!((answer.status, answer.field("retry-after")), (503, Some("5")), "{answer:?}");
        assert!(answer.text().contains("overloaded_error"), "{}", answer.text());
        upstream.closed().await;
    });
}

#[test]
fn a_prolonged_key_and_another_set_of_keys_disturb_nobody() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        upstream.asked().await;
        for _ in 0..3 {
            house.add_key(|_| {});
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        upstream.send(json(200, "{}")).await;
        assert_eq!(client.answer().await.status, 200);
        assert_eq!(client.ask(get("/", "-")).await.status, 200);
    });
}
