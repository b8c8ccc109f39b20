//! Blobs: bodies that no gate could hold pass through as the upstream takes them.

use crate::house::{House, LIMITS, run};
use crate::wire::{Client, chunk, get};
use gate_types::Scope;
use std::time::Duration;

const CREATED: &str = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";

fn path() -> String {
    format!("/api/blobs/sha256-{}", "0123456789abcdef".repeat(4))
}

/// A gate with narrow pipes, and a client that has sent this head of an upload.
async fn begun(upstreams: u16, fields: &str) -> (House, Client) {
    let house = House::new(upstreams);
    (0..upstreams.into()).for_each(|place| house.narrow(place, 4096));
    let key = house.add_key(|key| key.scopes = gate_types::ScopeSet::of(&[Scope::Manage]));
    let mut client = house.connect_with(4096);
    let head = format!("POST {} HTTP/1.1\r\nHost: g\r\nx-api-key: {key}\r\n{fields}\r\n", path());
    client.send(head).await;
    (house, client)
}

#[test]
fn a_blob_passes_through_and_the_slower_side_sets_the_pace() {
    run(async {
        let total = 3 << 20;
        let (house, mut client) = begun(1, &format!("Content-Length: {total}\r\n")).await;
        let mut upstream = house.accept(0).await;
        let taken = client.send_until_stopped(&[b'x'; 1000]).await;
        assert!(taken < 400_000, "nobody took these {taken} bytes: they are held");
        let (asked, ()) = tokio::join!(upstream.asked(), async {
            client.send(vec![b'x'; total - taken]).await;
        });
        let canonical = path().replace("sha256-", "sha256:");
        assert!(asked.head.starts_with(&format!("POST {canonical} HTTP/1.1\r\n")), "{}", asked.head);
        assert_eq!(asked.body.len(), total);
        upstream.send(CREATED).await;
        assert_eq!(client.answer().await.status, 201);
        assert_eq!(client.ask(get("/", "-")).await.status, 200, "the connection is in step");
        assert_eq!(house.in_flight(0), 0);
    });
}

#[test]
fn a_waiting_client_is_asked_once_the_upstream_is_there() {
    run(async {
        let (house, mut client) = begun(2, "Expect: 100-continue\r\nContent-Length: 5\r\n").await;
        client.expect(b"HTTP/1.1 100 Continue\r\n\r\n").await;
        client.send("hello").await;
        let mut upstream = tokio::select! {
            upstream = house.accept(0) => upstream,
            upstream = house.accept(1) => upstream,
        };
        assert_eq!(upstream.serve(CREATED).await.body, b"hello");
        assert_eq!(client.answer().await.status, 201);
    });
}

#[test]
fn a_refused_connection_costs_nothing_of_the_body() {
    run(async {
        let house = House::new(2);
        house.refuse(0, true);
        house.observe(1, gate_policy::Observation::ProbeFailed);
        house.observe(1, gate_policy::Observation::ProbeFailed);
        let key = house.add_key(|key| key.scopes = gate_types::ScopeSet::of(&[Scope::Manage]));
        let mut client = house.connect();
        let head = format!("POST {} HTTP/1.1\r\nHost: g\r\nx-api-key: {key}\r\n", path());
        client.send(format!("{head}Content-Length: 5\r\n\r\nhello")).await;
        assert_eq!(house.accept(1).await.serve(CREATED).await.body, b"hello");
        assert_eq!(client.answer().await.status, 201);
        assert_eq!(house.dialled(0), 1);
    });
}

#[test]
fn an_early_answer_ends_the_upload_and_reaches_the_client() {
    run(async {
        let (house, mut client) = begun(1, "Content-Length: 5000000\r\n").await;
        let mut upstream = house.accept(0).await;
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        let answer = client.head().await;
        assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
        assert!(client.try_send(&[b'x'; 1_000_000]).await, "the client is not reset while it sends");
        client.closed().await;
        assert_eq!((house.in_flight(0), house.outcome()), (0, ("done".into(), "200".into())));
    });
}

#[test]
fn a_client_that_leaves_in_mid_upload_takes_the_upstreams_connection_along() {
    run(async {
        for fields in ["Content-Length: 5000\r\n", "Transfer-Encoding: chunked\r\n"] {
            let (house, mut client) = begun(1, fields).await;
            let mut upstream = house.accept(0).await;
            client.send(chunk(&"x".repeat(100))).await;
            tokio::task::yield_now().await;
            client.leave().await;
            assert_eq!(upstream.closed().await, Duration::ZERO);
            assert_eq!((house.in_flight(0), house.outcome().0), (0, "cancelled".into()));
        }
    });
}

#[test]
fn a_blob_that_is_too_large_is_refused_by_its_length_or_when_it_grows() {
    run(async {
        let (house, mut client) = begun(1, &format!("Content-Length: {}\r\n", LIMITS.upload + 1)).await;
        assert_eq!(client.answer().await.status, 413);
        assert_eq!(house.in_flight(0), 0);

        let (house, mut client) = begun(1, "Transfer-Encoding: chunked\r\n").await;
        let mut upstream = house.accept(0).await;
        let piece = chunk(&"x".repeat(1 << 20));
        let sending = async {
            for _ in 0..=(LIMITS.upload >> 20) {
                assert!(client.try_send(piece.as_bytes()).await);
            }
        };
        tokio::join!(sending, upstream.closed());
        assert_eq!(client.answer().await.status, 413);
        assert_eq!((house.in_flight(0), house.outcome()), (0, ("refused".into(), "413".into())));
    });
}

#[test]
fn an_upload_that_stops_is_given_up() {
    run(async {
        let (house, mut client) = begun(1, "Content-Length: 5000\r\n").await;
        let mut upstream = house.accept(0).await;
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(8)).await;
            client.send("x").await;
        }
        let start = tokio::time::Instant::now();
        assert_eq!(client.answer().await.status, 408);
        assert!(start.elapsed() <= LIMITS.head_time + Duration::from_secs(1), "{:?}", start.elapsed());
        upstream.closed().await;
        assert_eq!(house.in_flight(0), 0);
    });
}

#[test]
fn an_upstream_may_think_about_a_blob_for_longer_than_a_client_may_pause() {
    run(async {
        let (house, mut client) = begun(1, "Content-Length: 5\r\n").await;
        client.send("hello").await;
        let mut upstream = house.accept(0).await;
        assert_eq!(upstream.asked().await.body, b"hello");
        tokio::time::sleep(LIMITS.idle - Duration::from_secs(2)).await;
        upstream.send(CREATED).await;
        assert_eq!(client.answer().await.status, 201);
    });
}
