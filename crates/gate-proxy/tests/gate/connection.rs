//! A client's connection from request to request: kept, pipelined, or closed, and nothing of one read as the other.

use crate::house::{House, run};
use crate::wire::{CHAT, END, STREAM, chunk, get, json, post, with_fields};
use std::time::Duration;

#[test]
fn pipelined_requests_are_answered_in_order() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        let bodies: Vec<String> =
            (0..3).map(|number| CHAT.replace("hi", &format!("number {number}"))).collect();
        let mut requests: String = bodies.iter().map(|body| post("/api/chat", &house.key, body)).collect();
        requests += &get("/", "-");
        // The last one is cut in the middle of its head.
        let (now, later) = requests.split_at(requests.len() - 20);
        client.send(now).await;
        let mut upstream = house.accept(0).await;
        for (number, body) in bodies.iter().enumerate() {
            let asked = upstream.asked().await;
            assert_eq!(asked.body, body.as_bytes());
            upstream.send(STREAM).await;
            upstream.send([&chunk(&format!("{number}\n")), END].concat()).await;
            assert_eq!(client.answer().await.text(), format!("{number}\n{{\"done\":true}}\n"));
        }
        client.send(later).await;
        assert_eq!(client.answer().await.text(), "Ollama is running");
        assert_eq!(house.dialled(0), 1);
        assert_eq!(house.records().len(), 4);
    });
}

#[test]
fn a_head_may_come_byte_by_byte() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        for byte in post("/api/chat", &house.key, CHAT).bytes() {
            client.send([byte]).await;
            tokio::task::yield_now().await;
        }
        let mut upstream = house.accept(0).await;
        assert_eq!(upstream.serve(json(200, "{}")).await.body, CHAT.as_bytes());
        assert_eq!(client.answer().await.status, 200);
    });
}

#[test]
fn close_is_honoured_and_http_1_0_closes() {
    run(async {
        let house = House::new(1);
        for request in [
            "GET / HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        ] {
            let mut client = house.connect();
            let answer = client.ask(request).await;
            assert_eq!((answer.text(), answer.field("connection")), ("Ollama is running", Some("close")));
            assert_eq!(client.closed().await, Duration::ZERO);
            assert!(!client.was_reset());
        }
    });
}

#[test]
fn a_body_that_nobody_asked_for_is_passed_over_or_ends_the_connection() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        let with_body = with_fields("POST", "/api/chat", "", &get("/api/version", "-"));
        let answer = client.ask(with_body + &get("/", "-")).await;
        assert_eq!((answer.status, answer.field("connection")), (401, None));
        assert_eq!(
            client.answer().await.text(),
            "Ollama is running",
            "what was a body is not taken for a request"
        );

        client.send("POST /api/chat HTTP/1.1\r\nHost: g\r\nContent-Length: 30\r\n\r\n").await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.field("connection")), (401, Some("close")));
        assert!(client.try_send(get("/", "-").as_bytes()).await);
        client.closed().await;
    });
}

#[test]
fn a_waiting_client_is_asked_for_its_body() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        let fields = format!("x-api-key: {}\r\nExpect: 100-continue\r\n", house.key);
        let request = with_fields("POST", "/api/chat", &fields, CHAT);
        let (head, body) = request.split_at(request.len() - CHAT.len());
        client.send(head).await;
        client.expect(b"HTTP/1.1 100 Continue\r\n\r\n").await;
        client.send(body).await;
        let mut upstream = house.accept(0).await;
        let asked = upstream.serve(json(200, "{}")).await;
        assert!(!asked.head.contains("xpect"));
        assert_eq!(client.answer().await.status, 200);

        client.send(&request).await;
        upstream.serve(json(200, "{}")).await;
        assert_eq!(client.answer().await.status, 200, "one that sends at once is not asked");
    });
}

#[test]
fn a_request_that_comes_with_its_end_is_answered_and_closed() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send(get("/", "-")).await;
        client.half_close().await;
        assert_eq!(client.answer().await.text(), "Ollama is running");
        client.closed().await;
        let mut client = house.connect();
        client.send(&get("/", "-")[..10]).await;
        client.half_close().await;
        assert_eq!(client.closed().await, Duration::ZERO, "half a head is no request");
    });
}

#[test]
fn every_answer_has_the_requests_name_and_a_made_one_where_there_is_none() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        let mut names = Vec::new();
        for _ in 0..2 {
            let answer = client.ask("GET /nothing HTTP/1.1\r\nHost: g\r\n\r\n").await;
            names.push(answer.field("x-request-id").unwrap().to_owned());
        }
        assert!(names[0] != names[1] && names.iter().all(|name| name.len() == 16), "{names:?}");
        assert_eq!(house.records()[1]["id"], names[1]);
        let answer = client.ask("GET / HTTP/1.1\r\nHost: g\r\nX-Request-Id: mine.1\r\n\r\n").await;
        assert_eq!(answer.field("x-request-id"), Some("mine.1"));
    });
}

#[test]
fn malformed_bodies_are_told_apart() {
    run(async {
        let house = House::new(1);
        for (body, status, code) in [
            ("", 400, "missing_body"),
            ("{", 400, "malformed_json"),
            (r#"{"model":"demo","MODEL":"other"}"#, 400, "ambiguous_body"),
            (r#"{"model":7}"#, 400, "wrong_type"),
            (r#"{"messages":[]}"#, 400, "model_required"),
        ] {
            let answer = house.connect().ask(post("/api/chat", &house.key, body)).await;
            assert_eq!(answer.status, status, "{body}");
            assert!(answer.text().contains(&format!(r#""code":"{code}""#)), "{body}: {}", answer.text());
        }
        let fields =
            format!("x-api-key: {}\r\nContent-Encoding: identity\r\nContent-Encoding: zstd\r\n", house.key);
        let answer = house.connect().ask(with_fields("POST", "/v1/responses", &fields, CHAT)).await;
        assert_eq!(answer.status, 415);
        assert_eq!(house.dialled(0), 0);
    });
}
