//! The same path over HTTP/2: answers, bodies and bounds. Cancelling is in `h2_cancel`.

use crate::house::{House, LIMITS, PIPE, plain, run};
use crate::limits::is_met;
use crate::web::{Web, request};
use crate::wire::{CHAT, LAST, STREAM, blob, chunk, json, post};
use gate_proxy::{Limits, TICK};
use h2::Reason;
use h2::client::Builder;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep};

#[test]
fn a_request_is_sent_on_as_that_of_http_1_and_answered() {
    run(async {
        let house = House::new(1);
        let mut old = house.connect();
        old.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        let first = upstream.serve(json(200, "{\"a\":1}")).await;
        old.answer().await;

        let mut web = Web::connect(&house).await;
        let head = request("POST", "/api/chat?x=1", &house.key).header("cookie", "secret");
        let asked = tokio::join!(upstream.serve(json(200, "{\"a\":1}")), web.ask(head, CHAT));
        let (second, answer) = asked;
        assert_eq!((second.head, second.body), (first.head, first.body));
        assert_eq!((answer.status, answer.text.as_str()), (200, "{\"a\":1}"));
        assert_eq!(answer.field("content-type"), Some("application/json; charset=utf-8"));
        assert_eq!((answer.field("content-length"), answer.field("x-request-id")), (Some("7"), Some("t-1")));
        assert_eq!(answer.field("date"), Some("Fri, 20 Nov 2026 12:58:10 GMT"));
        assert_eq!(answer.fields.len(), 4, "{:?}", answer.fields);
        assert_eq!(house.outcome(), ("done".into(), "200".into()));
    });
}

#[test]
fn each_piece_is_there_before_the_next_is_sent_and_has_no_framing_in_it() {
    run(async {
        let house = House::new(1);
        let mut web = Web::connect(&house).await;
        let (coming, mut upstream) = web.chat(&house).await;
        upstream.serve(STREAM).await;
        let mut answer = coming.head().await;
        assert_eq!((answer.status, answer.field("content-type")), (200, Some("application/x-ndjson")));
        assert_eq!((answer.field("transfer-encoding"), answer.field("content-length")), (None, None));
        for number in 0..50 {
            let line = format!("{{\"n\":{number}}}\n");
            upstream.send(chunk(&line)).await;
            answer.expect(&line).await;
        }
        upstream.send("6\r\nab").await;
        answer.expect("ab").await;
        let last = "{\"model\":\"demo\",\"done\":true}\n";
        upstream.send(["cde\n\r\n", &chunk(last), LAST].concat()).await;
        answer.expect(&format!("cde\n{last}")).await;
        assert_eq!(answer.some().await, Ok(None));
        assert_eq!(house.in_flight(0), 0);
    });
}

#[test]
fn many_requests_share_a_connection_and_one_too_many_waits() {
    run(async {
        let house = House::with(1, Limits { streams: 3, ..LIMITS });
        let mut web = Web::connect(&house).await;
        assert_eq!(web.ask(request("GET", "/", "-"), "").await.text, "Ollama is running");
        let mut upstreams = Vec::new();
        let mut comings = Vec::new();
        for _ in 0..3 {
            comings.push(web.send(request("POST", "/api/chat", &house.key), CHAT).await);
            upstreams.push(house.accept(0).await);
        }
        let fourth = tokio::time::timeout(Duration::from_secs(1), web.ask(request("GET", "/", "-"), ""));
        assert!(fourth.await.is_err(), "the client was told to wait with it");
        for (number, (coming, upstream)) in comings.into_iter().zip(&mut upstreams).enumerate().rev() {
            upstream.serve(json(200, &number.to_string())).await;
            assert_eq!(coming.head().await.whole().await.text, number.to_string());
        }
        assert_eq!(web.ask(request("GET", "/", "-"), "").await.status, 200);
    });
}

#[test]
fn answers_without_a_body() {
    run(async {
        let house = House::new(1);
        let mut web = Web::connect(&house).await;
        let answer = web.ask(request("HEAD", "/", "-"), "").await;
        assert_eq!((answer.status, answer.text.as_str()), (200, ""));
        assert!(answer.field("date").is_some());
        let manage = house.manager();
        let coming = web.send(request("DELETE", "/api/delete", &manage), r#"{"model":"demo"}"#).await;
        let mut upstream = house.accept(0).await;
        upstream.serve("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        let answer = coming.head().await.whole().await;
        assert_eq!((answer.status, answer.field("content-length")), (200, Some("0")));
    });
}

#[test]
fn errors_are_told_in_the_dialect_of_the_route() {
    run(async {
        let house = House::new(1);
        let mut web = Web::connect(&house).await;
        for (head, body, status, code) in [
            (request("POST", "/v1/chat/completions", "wrong"), CHAT, 401, "invalid_key"),
            (request("POST", "/api/chat", &house.key), "{", 400, "malformed_json"),
            (request("POST", "/nothing", &house.key), CHAT, 404, "unknown_route"),
            (request("GET", "/api//tags", &house.key), "", 404, "unknown_route"),
            (request("PUT", "/api/chat", &house.key), "", 405, "method_not_allowed"),
            (request("GET", "/", "-").header("host", "other"), "", 400, "bad_request"),
            (request("GET", "/", "-").header("x-long", "x".repeat(33_000)), "", 431, "head_too_large"),
            (request("POST", "/", "-").header("content-length", "007x"), "", 400, "bad_request"),
            (request("POST", "/", "-").header("expect", "gold"), CHAT, 417, "expectation_failed"),
            (
                request("POST", "/api/chat", &house.key).header("content-encoding", "br"),
                CHAT,
                415,
                "unsupported_encoding",
            ),
        ] {
            let coming = web.send(head, body).await;
            match coming.try_head().await {
                Ok(answer) => {
                    let answer = answer.whole().await;
                    assert_eq!(answer.status, status, "{code}: {}", answer.text);
                    assert!(answer.text.contains(&format!(r#""code":"{code}""#)), "{}", answer.text);
                    assert!(answer.field("x-request-id").is_some());
                }
                // The library refuses some by itself.
                Err(error) => {
                    assert_eq!((error.reason(), code), (Some(Reason::PROTOCOL_ERROR), "bad_request"))
                }
            }
        }
        assert_eq!(house.dialled(0), 0);
        assert_eq!(web.ask(request("GET", "/", "-"), "").await.status, 200, "the connection is sound");
    });
}

#[test]
fn an_answer_that_breaks_off_is_reset_and_the_connection_goes_on() {
    run(async {
        let house = House::new(1);
        let mut web = Web::connect(&house).await;
        let (coming, mut upstream) = web.chat(&house).await;
        upstream.serve([STREAM, &chunk("{\"a\":1}\n")].concat()).await;
        let mut answer = coming.head().await;
        answer.expect("{\"a\":1}\n").await;
        upstream.send(chunk("{\"b\":2}\n")).await;
        drop(upstream);
        let mut rest = String::new();
        let end = loop {
            match answer.some().await {
                Ok(Some(more)) => rest += &more,
                end => break end,
            }
        };
        let (before, error) = rest.split_at(8);
        assert_eq!(before, "{\"b\":2}\n", "what came before is not lost");
        assert!(
            error.starts_with("{\"error\":") && error.ends_with("\"code\":\"upstream_failed\"}\n"),
            "{error}"
        );
        assert_eq!(end, Err(Some(Reason::INTERNAL_ERROR)), "never an end that looks whole");
        assert_eq!(house.in_flight(0), 0);
        assert_eq!(web.ask(request("GET", "/", "-"), "").await.status, 200);

        house.refuse(0, true);
        let answer = web.ask(request("POST", "/v1/chat/completions", &house.key), CHAT).await;
        assert_eq!(answer.status, 502, "{answer:?}");
        assert!(answer.text.starts_with(r#"{"error":{"message""#), "{}", answer.text);
        assert!(answer.text.contains(r#""code":"upstream_unreachable""#), "{}", answer.text);
    });
}

#[test]
fn a_slow_reader_stops_the_upstream_and_loses_nothing() {
    run(async {
        let house = House::new(1);
        house.narrow(0, 4096);
        let mut web =
            Web::connect_with(&house, Builder::new().initial_connection_window_size(1 << 20), PIPE).await;
        let (coming, mut upstream) = web.chat(&house).await;
        upstream.serve(STREAM).await;
        let piece = chunk(&"x".repeat(1013));
        let taken = upstream.send_until_stopped(piece.as_bytes()).await;
        // The client's window of 64 KiB, and what one read took beyond it.
        assert!(taken <= 65_535 + 65_536 + 2 * 4096 + 20_000, "the gate took {taken} bytes that nobody read");
        let other = web.ask(request("GET", "/", "-"), "").await;
        assert_eq!(other.status, 200, "others are not held up");
        let mut answer = coming.head().await;
        let mut came = 0;
        let data = taken / piece.len() * 1013;
        while came < data {
            came += answer.some().await.unwrap().expect("the answer ended").len();
        }
        let more = upstream.send_until_stopped(piece.as_bytes()).await;
        assert!(more > 0, "it goes on where the client reads");
        answer.reset();
        upstream.closed().await;
        assert_eq!(house.in_flight(0), 0);
    });
}

#[test]
fn a_client_that_takes_nothing_is_given_up() {
    run(async {
        let house = House::new(1);
        house.narrow(0, 1024);
        let mut web = Web::connect(&house).await;
        let (coming, mut upstream) = web.chat(&house).await;
        upstream.serve(STREAM).await;
        upstream.send_until_stopped(chunk(&"x".repeat(1000)).as_bytes()).await;
        let answer = coming.head().await;
        let start = Instant::now();
        upstream.closed().await;
        assert!(start.elapsed() <= LIMITS.idle + 2 * TICK, "{:?}", start.elapsed());
        assert_eq!((house.in_flight(0), house.outcome().0), (0, "cancelled".into()));
        drop(answer);
    });
}

#[test]
fn bodies_have_their_bounds() {
    run(async {
        let house = House::with(1, Limits { body_rate: 1024, ..LIMITS });
        let mut web = Web::connect(&house).await;
        let long = LIMITS.body + 1;
        let announced = request("POST", "/api/chat", &house.key).header("content-length", long);
        let answer = web.open(announced, false).await.head().await.whole().await;
        assert_eq!((answer.status, answer.text.contains("body_too_large")), (413, true));

        let mut coming = web.open(request("POST", "/api/chat", &house.key), false).await;
        coming.body.send_data(vec![b' '; long].into(), true).unwrap();
        assert_eq!(coming.head().await.status, 413);

        for (path, every) in [("/api/chat", Duration::from_secs(60)), ("/api/chat", Duration::from_secs(3))] {
            let mut coming = web.open(request("POST", path, &house.key), false).await;
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(40)
                && coming.body.send_data("x".into(), false).is_ok()
            {
                sleep(every).await;
            }
            let answer = coming.head().await.whole().await;
            assert_eq!((answer.status, answer.text.contains("request_timeout")), (408, true));
        }
        assert_eq!(house.dialled(0), 0);
    });
}

#[test]
fn bodies_that_nobody_reads_do_not_use_up_the_connection() {
    run(async {
        let house = House::new(1);
        let mut web = Web::connect(&house).await;
        let body = "x".repeat(60_000);
        for _ in 0..20 {
            assert_eq!(web.ask(request("POST", "/api/chat", "wrong"), &body).await.status, 401);
        }
        let body = CHAT.replace("hi", &"x".repeat(300_000));
        for _ in 0..3 {
            let coming = web.send(request("POST", "/api/chat", &house.key), &body).await;
            let mut upstream = house.accept(0).await;
            let asked =
                upstream.serve(json(200, "{}").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).await;
            assert_eq!(asked.body, body.as_bytes());
            assert_eq!(coming.head().await.status, 200);
        }
    });
}

#[test]
fn a_blob_passes_through_and_the_slower_side_sets_the_pace() {
    run(async {
        let house = House::new(1);
        house.narrow(0, 4096);
        let manage = house.manager();
        let mut web = Web::connect(&house).await;
        let path = blob();
        let total = 3 << 20;
        let head =
            request("POST", &path, &manage).header("content-length", total).header("expect", "100-continue");
        let mut coming = web.open(head, false).await;
        coming.body.reserve_capacity(total);
        let mut upstream = house.accept(0).await;
        let mut sent = 0;
        while let Ok(Some(Ok(room))) = tokio::time::timeout(
            Duration::from_secs(1),
            std::future::poll_fn(|cx| coming.body.poll_capacity(cx)),
        )
        .await
        {
            sent += room;
            coming.body.send_data(vec![b'x'; room].into(), sent == total).unwrap();
        }
        assert!(sent < 500_000, "nobody took these {sent} bytes: they are held");
        let (asked, ()) = tokio::join!(upstream.asked(), async {
            while sent < total {
                let room = std::future::poll_fn(|cx| coming.body.poll_capacity(cx)).await.unwrap().unwrap();
                sent += room;
                coming.body.send_data(vec![b'x'; room].into(), sent == total).unwrap();
            }
        });
        assert_eq!(asked.body.len(), total);
        upstream.send("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(coming.head().await.status, 201);
    });
}

#[test]
fn a_connection_may_rest_but_must_begin_in_time() {
    run(async {
        let house = House::new(1);
        // The preface alone, and its first half, dripping.
        for preface in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HTT"] {
            let (mut near, far) = tokio::io::duplex(PIPE);
            house.serve(plain(far));
            let start = Instant::now();
            for byte in preface.bytes() {
                near.write_all(&[byte]).await.unwrap();
                sleep(Duration::from_millis(300)).await;
            }
            let mut rest = Vec::new();
            near.read_to_end(&mut rest).await.unwrap();
            assert!(start.elapsed() <= LIMITS.head_time + Duration::from_secs(4), "{:?}", start.elapsed());
        }
        let mut web = Web::connect(&house).await;
        assert_eq!(web.ask(request("GET", "/", "-"), "").await.status, 200);
        let start = Instant::now();
        assert_eq!(web.closed().await, None, "a friendly goodbye");
        is_met(start, LIMITS.keep_alive);
        assert_eq!(house.shared.crowd.open(), 0);
    });
}

#[test]
fn one_that_rests_makes_room_for_others() {
    run(async {
        let house = House::with(1, Limits { connections: 1, ..LIMITS });
        let mut web = Web::connect(&house).await;
        web.ask(request("GET", "/", "-"), "").await;
        let mut next = house.connect();
        assert_eq!(next.ask(crate::wire::get("/", "-")).await.status, 200);
        let start = Instant::now();
        assert_eq!(web.closed().await, None);
        assert_eq!(start.elapsed(), Duration::ZERO);
    });
}

#[test]
fn at_the_end_what_runs_is_finished_and_the_connection_closes() {
    run(async {
        let house = House::new(1);
        let mut web = Web::connect(&house).await;
        let (coming, mut upstream) = web.chat(&house).await;
        upstream.asked().await;
        house.drain();
        sleep(Duration::from_secs(5)).await;
        upstream.send(json(200, "{}")).await;
        assert_eq!(coming.head().await.whole().await.text, "{}");
        let start = Instant::now();
        assert_eq!(web.closed().await, None);
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    });
}

#[test]
fn a_gate_that_is_ended_leaves_no_answer_that_looks_whole() {
    run(async {
        let house = House::new(1);
        let mut web = Web::connect(&house).await;
        let (coming, mut upstream) = web.chat(&house).await;
        upstream.serve([STREAM, &chunk("{\"a\":1}\n")].concat()).await;
        let mut answer = coming.head().await;
        answer.expect("{\"a\":1}\n").await;
        web.end_task();
        assert!(answer.some().await.is_err());
        upstream.closed().await;
        assert_eq!(house.in_flight(0), 0);
    });
}
