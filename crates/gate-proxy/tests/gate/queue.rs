//! Waiting for a slot: first come, first served, within bounds; what runs no model does not wait, and who leaves is out.

use crate::house::{House, QUEUE, run};
use crate::wire::{CHAT, Client, LAST, STREAM, Upstream, chunk, get, json, post};
use gate_policy::{Health, Observation, QueueLimits};
use gate_proxy::TICK;
use gate_types::UpstreamId;
use std::time::Duration;
use tokio::time::Instant;

const ONE_SLOT: QueueLimits = QueueLimits { slots: 1, ..QUEUE };

/// A gate whose upstreams have one slot each.
fn house(count: u16, queue: QueueLimits) -> House {
    let house = House::new(count);
    house.change_rules(|rules| rules.queue = queue);
    house
}

/// A request that has the slot: its client, and its upstream before the answer.
async fn busy(house: &House, place: usize) -> (Client, Upstream) {
    let mut client = house.connect();
    client.send(post("/api/chat", &house.key, CHAT)).await;
    let mut upstream = house.accept(place).await;
    upstream.asked().await;
    (client, upstream)
}

/// A request that waits; how many do.
async fn waits(house: &House, request: String) -> (Client, usize) {
    let before = house.shared.waiting();
    let mut client = house.connect();
    client.send(request).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let waiting = house.shared.waiting();
    assert_eq!(waiting, before + 1, "it does not wait");
    (client, waiting)
}

fn nothing_is_held(house: &House, places: usize) {
    assert!((0..places).all(|place| house.in_flight(place) == 0));
    assert_eq!(house.shared.waiting(), 0);
}

#[test]
fn the_next_is_served_when_a_slot_comes_back_in_the_order_of_arrival() {
    run(async {
        let house = house(1, ONE_SLOT);
        let (mut first, mut upstream) = busy(&house, 0).await;
        let mut waiting = Vec::new();
        for n in 1..=3 {
            let body = CHAT.replace("hi", &format!("number {n}"));
            let (client, count) = waits(&house, post("/v1/chat/completions", &house.key, &body)).await;
            assert_eq!(count, n);
            waiting.push(client);
        }
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!((house.dialled(0), house.in_flight(0)), (1, 1), "they wait here and not at the upstream");
        upstream.send(json(200, "{}")).await;
        assert_eq!(first.answer().await.status, 200);
        for (n, mut client) in (1..).zip(waiting) {
            let asked = upstream.serve(json(200, "{}")).await;
            assert!(String::from_utf8(asked.body).unwrap().contains(&format!("number {n}")));
            assert_eq!(client.answer().await.status, 200);
        }
        nothing_is_held(&house, 1);
        let queued: Vec<f64> =
            house.records().iter().map(|record| record["queued_ms"].parse().unwrap()).collect();
        assert_eq!(queued[0], 0.0);
        let waited = queued[1];
        assert!((7000.0..7100.0).contains(&waited), "{waited}");
    });
}

#[test]
fn a_stream_holds_its_slot_to_its_last_byte() {
    run(async {
        let house = house(1, ONE_SLOT);
        let (mut first, mut upstream) = busy(&house, 0).await;
        upstream.send([STREAM, &chunk("{\"a\":1}\n")].concat()).await;
        first.some().await;
        let (mut second, _) = waits(&house, post("/api/chat", &house.key, CHAT)).await;
        upstream.send([&chunk("{\"done\":true}\n"), LAST].concat()).await;
        upstream.serve(json(200, "{}")).await;
        assert_eq!(second.answer().await.status, 200);
    });
}

#[test]
fn a_full_queue_is_told_at_once_in_every_dialect() {
    run(async {
        let house = house(1, QueueLimits { depth: 1, ..ONE_SLOT });
        let _first = busy(&house, 0).await;
        let _second = waits(&house, post("/api/chat", &house.key, CHAT)).await;
        let text = "too many requests are waiting for a model; try again in a moment";
        for (path, body) in [
            ("/api/generate", format!(r#"{{"error":"{text}","code":"queue_full"}}"#)),
            ("/api/embed", format!(r#"{{"error":"{text}","code":"queue_full"}}"#)),
            (
                "/v1/completions",
                format!(
                    r#"{{"error":{{"message":"{text}","type":"api_error","param":null,"code":"queue_full"}}}}"#
                ),
            ),
            (
                "/v1/messages",
                format!(
                    r#"{{"type":"error","error":{{"type":"overloaded_error","message":"{text}"}},"request_id":"t-1"}}"#
                ),
            ),
        ] {
            let start = Instant::now();
            let answer = house.connect().ask(post(path, &house.key, CHAT)).await;
            assert_eq!((answer.status, answer.text()), (503, body.as_str()), "{path}");
            assert_eq!(answer.field("retry-after"), Some("5"));
            assert_eq!(start.elapsed(), Duration::ZERO);
        }
        assert_eq!(house.shared.waiting(), 1);
    });
}

#[test]
fn who_waits_for_too_long_is_told_in_every_dialect() {
    run(async {
        let max_wait = Duration::from_secs(12);
        let house = house(1, QueueLimits { max_wait, ..ONE_SLOT });
        let _first = busy(&house, 0).await;
        for path in ["/api/chat", "/v1/responses", "/v1/messages"] {
            let start = Instant::now();
            let (mut client, _) = waits(&house, post(path, &house.key, CHAT)).await;
            let answer = client.answer().await;
            let waited = start.elapsed();
            assert!(waited >= max_wait && waited <= max_wait + 2 * TICK, "{waited:?}");
            assert_eq!((answer.status, answer.field("retry-after")), (503, Some("5")));
            let text = answer.text();
            assert!(text.contains("no model server became free in time"), "{text}");
            let told = if path == "/v1/messages" { "overloaded_error" } else { "queue_timeout" };
            assert!(text.contains(told), "{text}");
            assert_eq!(house.outcome().1, "503");
            assert_eq!(client.ask(get("/", "-")).await.status, 200, "the connection is in step");
        }
        assert_eq!((house.shared.waiting(), house.in_flight(0)), (0, 1));
    });
}

#[test]
fn a_depth_of_none_lets_nobody_wait() {
    run(async {
        let house = house(1, QueueLimits { depth: 0, ..ONE_SLOT });
        let (mut first, mut upstream) = busy(&house, 0).await;
        assert_eq!(house.connect().ask(post("/api/chat", &house.key, CHAT)).await.status, 503);
        upstream.send(json(200, "{}")).await;
        assert_eq!(first.answer().await.status, 200);
        first.send(post("/api/chat", &house.key, CHAT)).await;
        upstream.serve(json(200, "{}")).await;
        assert_eq!(first.answer().await.status, 200, "a free slot needs no waiting");
    });
}

#[test]
fn a_request_for_another_upstream_does_not_wait_behind_one_that_must() {
    run(async {
        let house = house(2, ONE_SLOT);
        house.probed(1, &["other"], &[]);
        let _first = busy(&house, 0).await;
        let _second = waits(&house, post("/api/chat", &house.key, CHAT)).await;
        let mut third = house.connect();
        third.send(post("/api/chat", &house.key, r#"{"model":"other"}"#)).await;
        house.accept(1).await.serve(json(200, "{}")).await;
        assert_eq!(third.answer().await.status, 200);
        assert_eq!(house.shared.waiting(), 1, "and the one that has not got the model is no way out");
    });
}

#[test]
fn what_runs_no_model_passes_a_full_queue() {
    run(async {
        let house = house(1, QueueLimits { depth: 0, ..ONE_SLOT });
        let manage = house.add_key(|key| key.scopes = "manage".parse().unwrap());
        let _first = busy(&house, 0).await;
        for (request, body) in [
            (get("/api/tags", &house.key), r#"{"models":[]}"#),
            (get("/v1/models", &house.key), r#"{"object":"list","data":[]}"#),
            (post("/api/show", &house.key, r#"{"model":"demo"}"#), r#"{"details":{}}"#),
            (post("/api/copy", &manage, r#"{"source":"demo","destination":"x"}"#), "{}"),
        ] {
            let mut client = house.connect();
            client.send(request).await;
            house.accept(0).await.serve(json(200, body)).await;
            assert_eq!(client.answer().await.status, 200);
        }
        assert_eq!(house.in_flight(0), 1);
    });
}

#[test]
fn an_upstream_that_comes_up_takes_those_who_wait() {
    run(async {
        let house = house(2, ONE_SLOT);
        house.observe(1, Observation::ConnectFailed);
        let _first = busy(&house, 0).await;
        let (mut second, _) = waits(&house, post("/api/chat", &house.key, CHAT)).await;
        assert_eq!(house.shared.with_fleet(|fleet| fleet.get(UpstreamId(1)).unwrap().health()), Health::Down);
        house.probed(1, &["demo"], &[]);
        house.accept(1).await.serve(json(200, "{}")).await;
        assert_eq!(second.answer().await.status, 200);
    });
}

#[test]
fn more_slots_by_new_rules_are_used_at_once() {
    run(async {
        let house = house(1, ONE_SLOT);
        let _first = busy(&house, 0).await;
        let (mut second, _) = waits(&house, post("/api/chat", &house.key, CHAT)).await;
        house.change_rules(|rules| rules.queue = QUEUE);
        house.accept(0).await.serve(json(200, "{}")).await;
        assert_eq!(second.answer().await.status, 200);
    });
}

#[test]
fn the_clients_own_bytes_do_not_prolong_its_waiting() {
    run(async {
        let max_wait = Duration::from_secs(5);
        let house = house(1, QueueLimits { max_wait, ..ONE_SLOT });
        let _first = busy(&house, 0).await;
        let start = Instant::now();
        let (mut client, _) = waits(&house, post("/api/chat", &house.key, CHAT)).await;
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            client.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        }
        assert_eq!(client.answer().await.status, 503);
        assert!(start.elapsed() <= max_wait + 2 * TICK);
        for _ in 0..4 {
            assert_eq!(client.answer().await.status, 200);
        }
    });
}
