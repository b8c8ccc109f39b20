//! A client of HTTP/2 that takes a request back, or leaves with its connection, in each phase: the upstream's connection
//! closes at once and nothing stays counted. And clients that make an attack of it.

use crate::house::{House, PIPE, run};
use crate::web::{Answer, Coming, Web, request};
use crate::wire::{CHAT, STREAM, Upstream, blob, chunk, json};
use h2::Reason;
use h2::client::Builder;
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Leave {
    Reset,
    Connection,
}

const BOTH: [Leave; 2] = [Leave::Reset, Leave::Connection];

/// What is dropped to leave.
enum UnderWay {
    Coming(Coming),
    Answer(Answer),
}

impl Leave {
    async fn leave(self, mut web: Web, held: UnderWay) {
        match (self, held) {
            (Leave::Reset, UnderWay::Coming(coming)) => coming.reset(),
            (Leave::Reset, UnderWay::Answer(answer)) => answer.reset(),
            (Leave::Connection, _held) => return web.leave().await,
        }
        assert_eq!(web.ask(request("GET", "/", "-"), "").await.status, 200, "the connection goes on");
    }
}

async fn all_is_given_back(house: &House, upstream: &mut Upstream) {
    assert_eq!(upstream.closed().await, Duration::ZERO, "the upstream waited for a timer");
    assert_eq!(house.in_flight(0), 0);
    let record = house.records().into_iter().find(|record| record["status"] == "499").expect("a record");
    assert_eq!(record["outcome"], "cancelled");
}

#[test]
fn while_the_body_is_on_its_way() {
    run(async {
        for how in BOTH {
            let house = House::new(1);
            let mut web = Web::connect(&house).await;
            let mut coming = web.open(request("POST", "/api/chat", &house.key), false).await;
            coming.body.send_data(CHAT.into(), false).unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
            how.leave(web, UnderWay::Coming(coming)).await;
            assert_eq!((house.dialled(0), house.in_flight(0)), (0, 0));
            assert!(house.records().iter().any(|record| record["outcome"] == "cancelled"));
        }
    });
}

#[test]
fn while_the_upstream_takes_the_request_slowly_or_thinks() {
    run(async {
        for (how, room) in BOTH.into_iter().flat_map(|how| [(how, 256), (how, PIPE)]) {
            let house = House::new(1);
            house.narrow(0, room);
            let mut web = Web::connect(&house).await;
            let long = CHAT.replace("hi", &"x".repeat(PIPE / 2));
            let coming = web.send(request("POST", "/api/chat", &house.key), &long).await;
            let mut upstream = house.accept(0).await;
            if room == PIPE {
                upstream.asked().await;
            }
            assert_eq!(house.in_flight(0), 1);
            how.leave(web, UnderWay::Coming(coming)).await;
            all_is_given_back(&house, &mut upstream).await;
        }
    });
}

#[test]
fn in_the_middle_of_an_answer_streamed_or_not() {
    run(async {
        let streamed = [STREAM, &chunk("{\"a\":1}\n")].concat();
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"a\":1}\n".to_owned();
        for (answer, how) in BOTH.into_iter().flat_map(|how| [(&streamed, how), (&whole, how)]) {
            let house = House::new(1);
            let mut web = Web::connect(&house).await;
            let (coming, mut upstream) = web.chat(&house).await;
            upstream.serve(answer).await;
            let mut answer = coming.head().await;
            answer.expect("{\"a\":1}\n").await;
            assert_eq!(house.in_flight(0), 1);
            how.leave(web, UnderWay::Answer(answer)).await;
            all_is_given_back(&house, &mut upstream).await;
        }
    });
}

#[test]
fn while_the_client_takes_nothing() {
    run(async {
        for how in BOTH {
            let house = House::new(1);
            let mut web = Web::connect_with(&house, Builder::new().initial_window_size(1000), PIPE).await;
            let (coming, mut upstream) = web.chat(&house).await;
            upstream.serve(STREAM).await;
            upstream.send_until_stopped(chunk(&"x".repeat(1000)).as_bytes()).await;
            how.leave(web, UnderWay::Coming(coming)).await;
            all_is_given_back(&house, &mut upstream).await;
        }
    });
}

#[test]
fn while_a_listing_is_gathered() {
    run(async {
        for how in BOTH {
            let house = House::new(2);
            let mut web = Web::connect(&house).await;
            let coming = web.send(request("GET", "/api/tags", &house.key), "").await;
            let (mut first, mut second) = (house.accept(0).await, house.accept(1).await);
            first.serve(json(200, r#"{"models":[]}"#)).await;
            second.asked().await;
            how.leave(web, UnderWay::Coming(coming)).await;
            all_is_given_back(&house, &mut second).await;
        }
    });
}

#[test]
fn while_it_uploads() {
    run(async {
        for how in BOTH {
            let house = House::new(1);
            let manage = house.manager();
            let mut web = Web::connect(&house).await;
            let path = blob();
            let head = request("POST", &path, &manage).header("content-length", 1 << 20);
            let mut coming = web.open(head, false).await;
            let mut upstream = house.accept(0).await;
            coming.body.send_data(vec![b'x'; 10_000].into(), false).unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
            how.leave(web, UnderWay::Coming(coming)).await;
            all_is_given_back(&house, &mut upstream).await;
        }
    });
}

#[test]
fn one_that_does_not_answer_pings_is_given_up() {
    run(async {
        let house = House::new(1);
        let mut web = Web::connect(&house).await;
        let (coming, mut upstream) = web.chat(&house).await;
        upstream.asked().await;
        let start = Instant::now();
        // One that lives is asked now and then, and answers.
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(house.in_flight(0), 1);
        // The client's machine stands still: its connection is there and nobody reads.
        let mut wire = std::mem::replace(&mut web.wire, tokio::task::spawn_local(async { Ok(()) }));
        wire.abort();
        let _held = (&mut wire).await;
        upstream.closed().await;
        assert!(start.elapsed() < Duration::from_secs(300 + 55), "{:?}", start.elapsed());
        drop(coming);
    });
}

#[test]
fn requests_that_are_taken_back_by_the_thousand_end_the_connection() {
    run(async {
        let house = House::new(1);
        let mut web = Web::connect(&house).await;
        let mut asked = 0;
        let reason = loop {
            match web.try_open(request("POST", "/api/chat", &house.key), false).await {
                Ok(coming) => coming.reset(),
                Err(error) => break error.reason(),
            }
            asked += 1;
            assert!(asked < 5000, "nobody minds");
            if asked % 10 == 0 {
                // The gate has time to begin each.
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
            }
        };
        assert_eq!(reason, Some(Reason::ENHANCE_YOUR_CALM));
        assert_eq!(house.in_flight(0), 0);
        let mut other = Web::connect(&house).await;
        assert_eq!(other.ask(request("GET", "/", "-"), "").await.status, 200);
    });
}

#[test]
fn one_that_takes_back_a_request_now_and_then_is_served() {
    run(async {
        let house = House::new(1);
        let mut web = Web::connect(&house).await;
        for _ in 0..2000 {
            web.open(request("POST", "/api/chat", &house.key), false).await.reset();
            tokio::time::sleep(Duration::from_millis(120)).await;
        }
        assert_eq!(web.ask(request("GET", "/", "-"), "").await.status, 200);
    });
}
