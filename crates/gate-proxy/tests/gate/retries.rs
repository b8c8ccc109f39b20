//! Upstreams that fail before the first byte of an answer: another one is asked, once, within a budget; and what the client
//! gets where that fails, too.

use crate::house::{House, QUEUE, run};
use crate::wire::{Answer, CHAT, Client, STREAM, Upstream, chunk, json, post, with_fields};
use gate_policy::{Health, Observation, QueueLimits};
use gate_types::{Scope, ScopeSet, UpstreamId};
use std::time::Duration;
use tokio::time::Instant;

pub(crate) const BUSY: &str =
    r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#;
const CRASHED: &str = r#"{"error":"llama-server process has terminated: exit status 2"}"#;
const WRONG_OPTION: &str = r#"{"error":"option \"num_ctx\" must be of type integer"}"#;
const GOOD: &str = r#"{"from":"the other one"}"#;

/// Two upstreams, of which the first is asked first, and a client that has asked.
pub(crate) async fn asked(path: &str) -> (House, Client, Upstream) {
    let house = House::new(2);
    house.probed(0, &["demo"], &["demo"]);
    let mut client = house.connect();
    client.send(post(path, &house.key, CHAT)).await;
    let upstream = house.accept(0).await;
    (house, client, upstream)
}

fn nothing_is_held(house: &House) {
    assert_eq!((house.in_flight(0), house.in_flight(1), house.shared.waiting()), (0, 0, 0));
}

pub(crate) fn told_as_it_was(answer: &Answer, status: u16, body: &str) {
    assert_eq!((answer.status, answer.text()), (status, body));
}

#[test]
fn what_another_upstream_may_do_better_is_asked_there() {
    run(async {
        let plain = |status: u16| {
            format!("HTTP/1.1 {status} Oh\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>")
        };
        let chunked = format!(
            "HTTP/1.1 500 Oh\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{}{}0\r\n\r\n",
            chunk(&CRASHED[..20]),
            chunk(&CRASHED[20..])
        );
        let v1 = r#"{"error":{"message":"timed out waiting for llama-server to start","type":"api_error","param":null,"code":null}}"#;
        for (path, failure) in [
            ("/api/chat", json(503, BUSY)),
            ("/api/embed", json(502, r#"{"error":"bad gateway"}"#)),
            ("/v1/messages", plain(503)),
            ("/api/generate", plain(502)),
            ("/api/generate", json(500, CRASHED)),
            ("/v1/chat/completions", json(500, v1)),
            ("/api/chat", chunked),
            ("/api/show", json(503, BUSY)),
        ] {
            let (house, mut client, mut first) = asked(path).await;
            first.serve(&failure).await;
            let mut second = house.accept(1).await;
            assert_eq!(second.asked().await.body, CHAT.as_bytes(), "the whole request again");
            assert_eq!((house.in_flight(0), house.in_flight(1)), (0, 1), "one slot at a time");
            second.send(json(200, GOOD)).await;
            told_as_it_was(&client.answer().await, 200, GOOD);
            assert_eq!(house.records()[0]["upstream"], "http://up1:11434", "{failure}");
            nothing_is_held(&house);
        }
    });
}

#[test]
fn a_connection_that_ends_before_any_byte_moves_on_one_that_ends_within_an_answer_does_not() {
    run(async {
        let (house, mut client, mut first) = asked("/api/chat").await;
        first.asked().await;
        drop(first);
        house.accept(1).await.serve(json(200, GOOD)).await;
        told_as_it_was(&client.answer().await, 200, GOOD);
        nothing_is_held(&house);

        for begun in ["H", "HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"] {
            let (house, mut client, mut first) = asked("/api/chat").await;
            first.serve(begun).await;
            drop(first);
            client.some().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(house.dialled(1), 0, "after {begun:?}");
        }
    });
}

/// The last that an upstream says, if it says anything, before it closes.
async fn end(mut upstream: Upstream, says: Option<String>) {
    if let Some(says) = says {
        upstream.send(says).await;
    }
}

#[test]
fn the_record_names_the_upstream_whose_failure_is_told() {
    run(async {
        let not_found = || json(404, r#"{"error":"model 'demo' not found"}"#);
        for (path, first_says, second_says, blamed) in [
            ("/api/chat", None, Some(not_found()), 0),
            ("/api/chat", Some(not_found()), None, 1),
            ("/api/chat", None, None, 1),
            ("/api/chat", Some(json(503, "{")), Some(not_found()), 0),
        ] {
            let (house, mut client, mut first) = asked(path).await;
            first.asked().await;
            end(first, first_says).await;
            let mut second = house.accept(1).await;
            second.asked().await;
            end(second, second_says).await;
            let answer = client.answer().await;
            let record = house.records().pop().unwrap();
            assert_eq!(record["upstream"], format!("http://up{blamed}:11434"), "{answer:?} {record:?}");
        }
    });
}

#[test]
fn a_dead_reused_connection_costs_a_fresh_one_and_no_try() {
    run(async {
        let (house, mut client, mut first) = asked("/api/chat").await;
        first.serve(json(200, "{}")).await;
        client.answer().await;
        client.send(post("/api/chat", &house.key, CHAT)).await;
        first.asked().await;
        drop(first);
        let mut fresh = house.accept(0).await;
        fresh.asked().await;
        drop(fresh);
        house.accept(1).await.serve(json(200, GOOD)).await;
        told_as_it_was(&client.answer().await, 200, GOOD);
    });
}

#[test]
fn what_the_client_did_wrong_is_asked_nowhere_else_and_held_against_nobody() {
    run(async {
        for (status, body) in [
            (500, WRONG_OPTION),
            (500, r#"{"error":"an error was encountered while running the model: unexpected EOF"}"#),
            (400, r#"{"error":"invalid think value"}"#),
            (501, r#"{"error":"This server does not support embeddings."}"#),
        ] {
            let (house, mut client, mut first) = asked("/api/chat").await;
            first.serve(json(status, body)).await;
            told_as_it_was(&client.answer().await, status, body);
            assert_eq!(house.dialled(1), 0);
            let up = house.shared.with_fleet(|fleet| {
                let one = fleet.get(UpstreamId(0)).unwrap();
                (one.health(), one.failures(), one.models().len())
            });
            assert_eq!(up, (Health::Up, 0, 1));
            client.send(post("/api/chat", &house.key, CHAT)).await;
            first.serve(json(200, "{}")).await;
            assert_eq!(client.answer().await.status, 200, "its connection is used again");
        }
    });
}

#[test]
fn where_all_fail_the_last_ones_own_words_arrive_as_they_are() {
    run(async {
        let other = BUSY.replace("busy", "as busy as the other");
        for (first_says, second_says, told) in [
            (json(503, BUSY), json(503, &other), (503, other.as_str())),
            (json(500, CRASHED), json(503, BUSY), (503, BUSY)),
            (json(503, BUSY), json(500, CRASHED), (500, CRASHED)),
            (json(503, BUSY), json(500, WRONG_OPTION), (500, WRONG_OPTION)),
            (json(503, BUSY), json(404, r#"{"error":"model 'demo' not found"}"#), (503, BUSY)),
            (json(503, BUSY), "HTTP/1.1 502 Oh\r\nContent-Length: 0\r\n\r\n".to_owned(), (503, BUSY)),
            (json(503, BUSY), String::new(), (503, BUSY)),
        ] {
            let (house, mut client, mut first) = asked("/api/chat").await;
            first.serve(&first_says).await;
            let mut second = house.accept(1).await;
            second.serve(&second_says).await;
            drop(second);
            let answer = client.answer().await;
            told_as_it_was(&answer, told.0, told.1);
            let wait = (told.0 == 503).then_some("5");
            assert_eq!(answer.field("retry-after"), wait, "Ollama never says when to come back");
            assert_eq!((house.dialled(0), house.dialled(1)), (1, 1));
            nothing_is_held(&house);
            client.send(post("/api/chat", &house.key, CHAT)).await;
            first.serve(json(200, "{}")).await;
            assert_eq!(client.answer().await.status, 200, "the first one's connection is used again");
        }
    });
}

#[test]
fn a_single_upstreams_refusal_arrives_as_it_is_with_its_own_time_to_come_back() {
    run(async {
        let long = format!(r#"{{"error":"llama-server process has terminated: {}"}}"#, "x".repeat(5000));
        let chunked = format!(
            "HTTP/1.1 503 Oh\r\nContent-Type: application/json\r\nRetry-After: 77\r\nTransfer-Encoding: chunked\r\n\r\n{}{}0\r\n\r\n",
            chunk(&long[..1000]),
            chunk(&long[1000..])
        );
        for (refusal, status, body, wait) in [
            (chunked, 503, long.as_str(), Some("77")),
            (json(500, &long), 500, long.as_str(), None),
            (json(503, BUSY), 503, BUSY, Some("5")),
        ] {
            let house = House::new(1);
            let mut client = house.connect();
            client.send(post("/api/chat", &house.key, CHAT)).await;
            house.accept(0).await.serve(&refusal).await;
            let answer = client.answer().await;
            told_as_it_was(&answer, status, body);
            assert_eq!(answer.field("retry-after"), wait);
            assert!(refusal.as_bytes().ends_with(&answer.wire), "byte for byte, framing included");
            assert_eq!(house.outcome(), ("done".into(), status.to_string()));
        }
    });
}

#[test]
fn a_refusal_in_no_words_of_ollamas_is_told_in_the_dialect() {
    run(async {
        for refusal in [
            "HTTP/1.1 502 Oh\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
            "HTTP/1.1 503 Oh\r\nContent-Type: application/json\r\nContent-Length: 60\r\n\r\n{\"stall",
        ] {
            let house = House::new(1);
            let mut client = house.connect();
            client.send(post("/v1/messages", &house.key, CHAT)).await;
            let mut upstream = house.accept(0).await;
            upstream.serve(refusal).await;
            let start = Instant::now();
            let answer = client.answer().await;
            assert!(start.elapsed() < Duration::from_secs(4), "a refusal that stalls is not waited for");
            assert_eq!((answer.status, answer.field("retry-after")), (502, Some("5")));
            assert!(
                answer.text().starts_with(r#"{"type":"error","error":{"type":"api_error""#),
                "{}",
                answer.text()
            );
            assert_eq!(house.outcome(), ("upstream_failed".into(), "502".into()));
        }
    });
}

#[test]
fn that_the_one_which_has_the_model_fails_is_told_before_that_another_has_it_not() {
    run(async {
        let house = House::new(2);
        house.probed(1, &["other"], &[]);
        house.refuse(0, true);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        house.accept(1).await.serve(json(404, r#"{"error":"model 'demo' not found"}"#)).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.field("retry-after")), (502, Some("5")));
        assert!(answer.text().contains("upstream_unreachable"), "{}", answer.text());

        let house = House::new(2);
        house.probed(1, &["other"], &[]);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        house.accept(0).await.serve(json(503, BUSY)).await;
        told_as_it_was(&client.answer().await, 503, BUSY);
        assert_eq!(house.dialled(1), 0, "an answer is not risked for a guess");
    });
}

#[test]
fn two_upstreams_at_most_have_one_request() {
    run(async {
        let house = House::new(3);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        for _ in 0..2 {
            any(&house).await.serve(json(503, BUSY)).await;
        }
        told_as_it_was(&client.answer().await, 503, BUSY);
        let dialled: usize = (0..3).map(|place| house.dialled(place)).sum();
        assert_eq!(dialled, 2);

        // Both have lost the model; that a third has it is found at the next try.
        let house = House::new(3);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        for _ in 0..2 {
            any(&house).await.serve(json(404, r#"{"error":"model 'demo' not found"}"#)).await;
        }
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.field("retry-after")), (502, Some("1")), "{}", answer.text());
        client.send(post("/api/chat", &house.key, CHAT)).await;
        any(&house).await.serve(json(200, GOOD)).await;
        told_as_it_was(&client.answer().await, 200, GOOD);
    });
}

async fn any(house: &House) -> Upstream {
    tokio::select! {
        upstream = house.accept(0) => upstream,
        upstream = house.accept(1) => upstream,
        upstream = house.accept(2) => upstream,
    }
}

#[test]
fn what_changes_something_is_sent_once() {
    run(async {
        for failure in [json(503, BUSY), json(502, "{}"), json(500, CRASHED), String::new()] {
            let house = House::new(2);
            house.probed(0, &["demo"], &["demo"]);
            let key = house.add_key(|key| key.scopes = ScopeSet::of(&[Scope::Manage]));
            let mut client = house.connect();
            client.send(post("/api/copy", &key, r#"{"source":"demo","destination":"x"}"#)).await;
            let mut first = house.accept(0).await;
            first.serve(&failure).await;
            drop(first);
            let answer = client.answer().await;
            assert_eq!(answer.field("retry-after"), None, "as it is");
            assert!(failure.is_empty() || failure.ends_with(answer.text()), "{failure}");
            assert_eq!(house.dialled(1), 0, "{failure}");
        }
    });
}

#[test]
fn what_changes_something_is_not_sent_again_over_a_fresh_connection_either() {
    run(async {
        for (method, path, scope, body) in [
            ("DELETE", "/api/delete", Scope::Manage, r#"{"model":"demo"}"#),
            ("POST", "/api/copy", Scope::Manage, r#"{"source":"demo","destination":"x"}"#),
            ("POST", "/api/pull", Scope::Manage, r#"{"model":"demo"}"#),
            ("POST", "/api/experimental/web_search", Scope::Cloud, r#"{"query":"q"}"#),
        ] {
            let house = House::new(1);
            let mut client = house.connect();
            client.send(post("/api/chat", &house.key, CHAT)).await;
            let mut kept = house.accept(0).await;
            kept.serve(json(200, "{}")).await;
            assert_eq!(client.answer().await.status, 200);
            let key = house.add_key(move |key| key.scopes = ScopeSet::of(&[scope]));
            let mut manages = house.connect();
            manages.send(with_fields(method, path, &format!("x-api-key: {key}\r\n"), body)).await;
            let mut fresh = house.accept(0).await;
            assert_eq!(fresh.asked().await.body, body.as_bytes());
            drop(fresh);
            let answer = manages.answer().await;
            assert_eq!(answer.status, 502, "{path}");
            assert!(answer.text().contains(r#""code":"upstream_failed""#), "{}", answer.text());
            assert_eq!(house.dialled(0), 2, "{path}");
            client.send(post("/api/chat", &house.key, CHAT)).await;
            let next = kept.serve(json(200, "{}")).await;
            assert_eq!(next.body, CHAT.as_bytes(), "nothing went over the connection that was kept");
        }
    });
}

#[test]
fn a_second_try_waits_for_a_slot_before_all_who_came_later() {
    run(async {
        let house = House::new(2);
        house.change_rules(|rules| rules.queue = QueueLimits { slots: 1, ..QUEUE });
        house.probed(0, &["demo"], &["demo"]);
        let (mut one, mut two, mut late) = (house.connect(), house.connect(), house.connect());
        one.send(post("/api/chat", &house.key, CHAT)).await;
        let mut first = house.accept(0).await;
        two.send(post("/api/chat", &house.key, CHAT)).await;
        let mut second = house.accept(1).await;
        second.asked().await;
        late.send(post("/api/chat", &house.key, &CHAT.replace("hi", "late"))).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(house.shared.waiting(), 1);
        first.serve(json(500, CRASHED)).await;
        // The late one is not held up by who cannot go there any more.
        let again = first.serve(json(200, "{}")).await;
        assert!(String::from_utf8(again.body).unwrap().contains("late"));
        assert_eq!(late.answer().await.status, 200);
        assert_eq!(house.shared.waiting(), 1);
        house.observe(0, Observation::ConnectFailed);
        late.send(post("/api/chat", &house.key, &CHAT.replace("hi", "later"))).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(house.shared.waiting(), 2);
        second.send(json(200, "{}")).await;
        assert_eq!(two.answer().await.status, 200);
        assert_eq!(second.serve(json(200, GOOD)).await.body, CHAT.as_bytes(), "the one that came first");
        told_as_it_was(&one.answer().await, 200, GOOD);
        second.serve(json(200, "{}")).await;
        assert_eq!(late.answer().await.status, 200);
        nothing_is_held(&house);
    });
}

#[test]
fn a_second_try_that_waits_for_too_long_gets_what_the_first_one_said() {
    run(async {
        let house = House::new(2);
        let max_wait = Duration::from_secs(9);
        house.change_rules(|rules| rules.queue = QueueLimits { slots: 1, max_wait, ..QUEUE });
        house.probed(0, &["demo"], &["demo"]);
        let (mut one, mut two) = (house.connect(), house.connect());
        one.send(post("/api/chat", &house.key, CHAT)).await;
        let mut first = house.accept(0).await;
        two.send(post("/api/chat", &house.key, CHAT)).await;
        let mut second = house.accept(1).await;
        second.asked().await;
        first.serve(json(503, BUSY)).await;
        let start = Instant::now();
        told_as_it_was(&one.answer().await, 503, BUSY);
        assert!(start.elapsed() >= max_wait);
        assert_eq!(house.records()[0]["upstream"], "http://up0:11434");
        assert_eq!((house.in_flight(0), house.shared.waiting()), (0, 0));
    });
}

#[test]
fn nothing_is_tried_again_after_the_first_byte() {
    run(async {
        let (house, mut client, mut first) = asked("/api/chat").await;
        first.serve([STREAM, &chunk(r#"{"error":"llama-server process has terminated"}"#)].concat()).await;
        client.some().await;
        drop(first);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(house.dialled(1), 0);
        nothing_is_held(&house);
    });
}
