//! Every wait and every size has a bound, and the bound is told.

use crate::house::{House, LIMITS, run};
use crate::wire::{CHAT, END, STREAM, chunk, get, json, post};
use gate_proxy::TICK;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Met at the limit or a little later, as coarse as the sweep is.
pub(crate) fn is_met(start: Instant, limit: Duration) {
    let waited = start.elapsed();
    assert!(waited >= limit && waited <= limit + 2 * TICK, "{waited:?} instead of {limit:?}");
}

#[test]
fn a_head_that_is_too_large() {
    run(async {
        let house = House::new(1);
        for field in ["X-Long: ".to_owned() + &"x".repeat(40_000), "X: 1\r\n".repeat(101)] {
            let mut client = house.connect();
            let answer = client.ask(format!("GET / HTTP/1.1\r\nHost: g\r\n{field}\r\n\r\n")).await;
            assert_eq!(answer.status, 431);
            assert!(answer.text().contains(r#""code":"head_too_large""#), "{}", answer.text());
            assert_eq!(answer.field("connection"), Some("close"));
            assert!(answer.field("date").is_some() && answer.field("x-request-id").is_some());
            client.leave().await;
            let record = house.records().pop().unwrap();
            assert_eq!((record["status"].as_str(), record["outcome"].as_str()), ("431", "refused"));
        }
    });
}

#[test]
fn a_head_with_two_readings() {
    run(async {
        let house = House::new(1);
        for (fields, status) in [
            ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400),
            ("Transfer-Encoding: gzip, chunked\r\n", 501),
            ("Expect: gold\r\n", 417),
            ("X : 1\r\n", 400),
        ] {
            let mut client = house.connect();
            let answer = client.ask(format!("POST /api/chat HTTP/1.1\r\nHost: g\r\n{fields}\r\n")).await;
            assert_eq!((answer.status, answer.field("connection")), (status, Some("close")), "{fields}");
            client.closed().await;
        }
        let mut client = house.connect();
        assert_eq!(client.ask("PRI * HTTP/2.0\r\nHost: g\r\n\r\n").await.status, 505);
    });
}

#[test]
fn a_body_that_is_too_large_by_its_length() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        let head = format!(
            "POST /api/chat HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {}\r\nExpect: 100-continue\r\n\
             Content-Length: {}\r\n\r\n",
            house.key,
            LIMITS.body + 1
        );
        let answer = client.ask(head).await;
        assert_eq!((answer.status, answer.field("connection")), (413, Some("close")));
        assert!(answer.text().contains(r#""code":"body_too_large""#), "{}", answer.text());
        assert_eq!(house.dialled(0), 0);
    });
}

#[test]
fn a_chunked_body_that_grows_too_large_and_its_sender_still_sees_the_answer() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        let head = "POST /api/chat HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n";
        client.send(format!("{head}Authorization: Bearer {}\r\n\r\n", house.key)).await;
        let piece = chunk(&"x".repeat(60_000));
        for _ in 0..40 {
            assert!(client.try_send(piece.as_bytes()).await, "the gate reads on for a while");
        }
        assert_eq!(client.answer().await.status, 413);
        client.closed().await;
        assert_eq!(house.dialled(0), 0);
    });
}

#[test]
fn a_refused_upload_of_any_ordinary_size_ends_with_the_answer_and_not_a_reset() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send("POST /api/chat HTTP/1.1\r\nHost: g\r\nContent-Length: 5000000\r\n\r\n").await;
        for _ in 0..50 {
            assert!(client.try_send(&[b'x'; 100_000]).await);
        }
        assert_eq!(client.answer().await.status, 401);
        client.closed().await;
    });
}

#[test]
fn one_who_sends_for_ever_after_a_refusal_is_cut_off() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send("POST /api/chat HTTP/1.1\r\nHost: g\r\nContent-Length: 900000000\r\n\r\n").await;
        let start = Instant::now();
        while client.try_send(b"x").await {
            sleep(Duration::from_secs(1)).await;
        }
        assert!(start.elapsed() <= Duration::from_secs(12), "{:?}", start.elapsed());
    });
}

#[test]
fn a_new_connection_has_the_heads_time_in_all_however_slowly_it_drips() {
    run(async {
        let house = House::new(1);
        for drips in [false, true] {
            let start = Instant::now();
            let mut client = house.connect();
            if drips {
                for byte in "GET / HTTP".bytes() {
                    sleep(Duration::from_millis(900)).await;
                    client.send([byte]).await;
                }
            }
            client.closed().await;
            is_met(start, LIMITS.head_time);
        }
        assert!(house.records().is_empty(), "no request was made");
    });
}

#[test]
fn a_connection_may_rest_but_a_begun_head_must_come() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.ask(get("/", "-")).await;
        let start = Instant::now();
        client.closed().await;
        is_met(start, LIMITS.keep_alive);

        let mut client = house.connect();
        client.ask(get("/", "-")).await;
        sleep(LIMITS.keep_alive - Duration::from_secs(1)).await;
        assert_eq!(client.ask(get("/", "-")).await.status, 200);
        sleep(Duration::from_secs(30)).await;
        client.send("GET").await;
        let start = Instant::now();
        client.closed().await;
        is_met(start, LIMITS.head_time);
    });
}

#[test]
fn a_body_may_come_slowly_but_not_stop() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        let request = post("/api/chat", &house.key, CHAT);
        let (head, body) = request.split_at(request.len() - CHAT.len());
        client.send(head).await;
        for byte in body[..20].bytes() {
            sleep(Duration::from_secs(8)).await;
            client.send([byte]).await;
        }
        let start = Instant::now();
        let answer = client.answer().await;
        is_met(start, LIMITS.head_time);
        assert_eq!(answer.status, 408);
        assert!(answer.text().contains(r#""code":"request_timeout""#));
        assert_eq!(house.outcome(), ("refused".into(), "408".into()));
    });
}

#[test]
fn an_upstream_that_is_silent_for_too_long_before_its_answer() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        let start = Instant::now();
        client.send(post("/v1/chat/completions", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        upstream.asked().await;
        let answer = client.answer().await;
        is_met(start, LIMITS.idle);
        assert_eq!(answer.status, 504);
        assert!(answer.text().contains(r#""code":"upstream_timeout""#), "{}", answer.text());
        upstream.closed().await;
        assert_eq!((house.in_flight(0), house.outcome()), (0, ("upstream_failed".into(), "504".into())));
        assert_eq!(client.ask(get("/", "-")).await.status, 200, "the client's connection is sound");
    });
}

#[test]
fn silence_in_mid_answer_cuts_but_any_progress_counts() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        upstream.serve(STREAM).await;
        client.head().await;
        let piece = chunk("x\n");
        for _ in 0..5 {
            sleep(LIMITS.idle - Duration::from_secs(2)).await;
            upstream.send(&piece).await;
            client.expect(piece.as_bytes()).await;
        }
        let start = Instant::now();
        let told = String::from_utf8(client.some().await).unwrap();
        is_met(start, LIMITS.idle);
        assert!(told.contains(r#""code":"upstream_timeout"}"#), "{told}");
        client.closed().await;
        upstream.closed().await;
        assert_eq!(house.outcome(), ("cut_short".into(), "200".into()));
    });
}

#[test]
fn a_client_that_takes_nothing_is_given_up_but_a_slow_one_is_served() {
    run(async {
        let house = House::new(1);
        house.narrow(0, 1024);
        let mut client = house.connect_with(1024);
        client.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        upstream.serve(STREAM).await;
        let piece = chunk(&"x".repeat(507));
        upstream.send_until_stopped(piece.as_bytes()).await;
        client.head().await;
        client.some().await;
        for _ in 0..2 {
            sleep(LIMITS.idle - Duration::from_secs(5)).await;
            client.some().await;
        }
        assert_eq!(house.in_flight(0), 1);
        upstream.send_until_stopped(piece.as_bytes()).await;
        let start = Instant::now();
        upstream.closed().await;
        is_met(start, LIMITS.idle - Duration::from_secs(1));
        assert_eq!((house.in_flight(0), house.outcome().0), (0, "cancelled".into()));
    });
}

#[test]
fn the_silence_of_one_request_is_not_held_against_the_next() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        let mut upstream = None;
        for _ in 0..3 {
            client.send(post("/api/chat", &house.key, CHAT)).await;
            if upstream.is_none() {
                upstream = Some(house.accept(0).await);
            }
            let upstream = upstream.as_mut().unwrap();
            upstream.asked().await;
            sleep(LIMITS.idle - Duration::from_secs(2)).await;
            upstream.send([STREAM, END].concat()).await;
            assert_eq!(client.answer().await.status, 200);
            sleep(Duration::from_secs(50)).await;
            // Idle upstream connections live for a minute.
        }
        client.send(post("/api/chat", &house.key, CHAT)).await;
        upstream.unwrap().serve(json(200, "{}")).await;
        assert_eq!(client.answer().await.status, 200);
    });
}
