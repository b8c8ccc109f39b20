//! Answers on their way: piece by piece, byte for byte, and visibly broken where they break.

use crate::house::{House, run};
use crate::wire::{CHAT, END, STREAM, chunk, get, post};
use std::time::Duration;

#[test]
fn each_chunk_is_there_before_the_next_is_sent() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        upstream.serve([STREAM, &chunk("{\"a\":1}\n")].concat()).await;
        let first = String::from_utf8(client.some().await).unwrap();
        assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{first}");
        assert!(
            first.ends_with("\r\n\r\n8\r\n{\"a\":1}\n\r\n"),
            "head and first chunk come together: {first}"
        );
        for number in 0..50 {
            let chunk = chunk(&format!("{{\"n\":{number}}}\n"));
            upstream.send(&chunk).await;
            client.expect(chunk.as_bytes()).await;
        }
        assert_eq!(house.in_flight(0), 1);
        upstream.send(END).await;
        client.expect(END.as_bytes()).await;
        let next = client.ask("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
        assert_eq!(next.text(), "Ollama is running", "the connection goes on");
        assert_eq!(house.in_flight(0), 0);
    });
}

#[test]
fn a_head_without_a_body_yet_is_passed_on_at_once() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        upstream.serve(STREAM).await;
        let head = client.head().await;
        assert_eq!((head.status, head.field("content-type")), (200, Some("application/x-ndjson")));
        assert_eq!(house.in_flight(0), 1);
    });
}

#[test]
fn a_client_of_http_1_0_gets_the_data_alone_and_then_the_end() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT).replace("HTTP/1.1", "HTTP/1.0")).await;
        let mut upstream = house.accept(0).await;
        upstream.serve([STREAM, &chunk("{\"a\":1}\n"), &chunk("{\"b\":2}\n")].concat()).await;
        let head = client.head().await;
        assert_eq!((head.field("transfer-encoding"), head.field("connection")), (None, Some("close")));
        client.expect(b"{\"a\":1}\n{\"b\":2}\n").await;
        upstream.send(chunk("c\n")).await;
        client.expect(b"c\n").await;
        upstream.send(END).await;
        client.expect(b"{\"done\":true}\n").await;
        assert_eq!(client.closed().await, Duration::ZERO);
        assert!(!client.was_reset());
        assert_eq!(house.outcome().0, "done");
    });
}

#[test]
fn an_answer_that_lasts_until_the_close_is_put_into_chunks() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        upstream.serve("HTTP/1.0 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\nfirst\n").await;
        client.head().await;
        client.expect(b"6\r\nfirst\n\r\n").await;
        upstream.send("second, longer\n").await;
        client.expect(b"f\r\nsecond, longer\n\r\n").await;
        upstream.send("{\"done\":true}\n").await;
        drop(upstream);
        client.expect(END.as_bytes()).await;
        assert_eq!(client.ask(get("/", "-")).await.status, 200);
    });
}

#[test]
fn an_upstream_that_dies_before_the_first_byte_of_a_body_is_told_of() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        for answer in ["", "HTTP/1.1 200", STREAM, "nonsense\r\n\r\n"] {
            client.send(post("/api/chat", &house.key, CHAT)).await;
            let mut upstream = house.accept(0).await;
            upstream.serve(answer).await;
            drop(upstream);
            let told = client.answer().await;
            assert_eq!(told.status, 502, "{answer:?}");
            assert!(told.text().contains(r#""code":"upstream_failed""#), "{}", told.text());
            assert!(!told.text().contains("up0"), "which upstream it was is nobody's business");
            assert_eq!(house.outcome(), ("upstream_failed".into(), "502".into()));
        }
    });
}

/// A request whose task is ended from outside, as when the gate ends.
#[test]
fn an_answer_under_way_when_the_gate_ends_is_broken_too() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT).replace("HTTP/1.1", "HTTP/1.0")).await;
        let mut upstream = house.accept(0).await;
        upstream.serve([STREAM, &chunk("{\"a\":1}\n")].concat()).await;
        client.head().await;
        client.some().await;
        client.end_task().await;
        assert!(client.was_reset());
        upstream.closed().await;
        assert_eq!(house.in_flight(0), 0);
        assert_eq!(house.outcome(), ("shut_down".into(), "200".into()));
    });
}

#[test]
fn a_slow_reader_stops_the_upstream_and_loses_nothing() {
    run(async {
        let house = House::new(1);
        house.narrow(0, 4096);
        let mut client = house.connect_with(4096);
        client.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        upstream.serve(STREAM).await;
        let piece = chunk(&"x".repeat(1013));
        let taken = upstream.send_until_stopped(piece.as_bytes()).await;
        assert!(taken <= 3 * 4096 + piece.len(), "the gate took {taken} bytes that nobody read");
        client.head().await;
        let mut came = 0;
        while came < taken {
            let more = client.some().await.len();
            assert!(more > 0, "the answer ended after {came} of {taken} bytes");
            came += more;
        }
        assert_eq!(came, taken);
        client.leave().await;
        upstream.closed().await;
        assert_eq!(house.in_flight(0), 0);
    });
}
