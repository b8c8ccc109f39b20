//! Who has shown no valid key and takes nothing: what waits for them ends within the time of a head, and their connections
//! make room for others meanwhile.

use crate::house::{House, LIMITS, PEER, PIPE, plain, run};
use crate::limits::is_met;
use crate::web::{Coming, Web, request};
use crate::wire::{CHAT, STREAM, chunk, get, post};
use gate_proxy::{Limits, TICK};
use h2::client::Builder;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A gate that has room for one connection.
fn for_one() -> House {
    House::with(1, Limits { connections: 1, ..LIMITS })
}

/// Whether a further client would be let in.
fn has_room(house: &House) -> bool {
    house.serve_from(PEER, plain(tokio::io::duplex(PIPE).1)).is_some()
}

#[test]
fn one_who_pipelines_and_never_reads_is_given_up() {
    run(async {
        let house = House::new(1);
        for request in [get("/", "-"), get("/api/tags", "-"), get("/api/tags", &house.key.to_uppercase())] {
            let mut client = house.connect_with(2048);
            let start = Instant::now();
            while client.try_send(request.as_bytes()).await {}
            is_met(start, LIMITS.head_time);
        }
    });
}

#[test]
fn one_whose_key_was_revoked_is_a_stranger() {
    run(async {
        let house = House::new(1);
        let revoked = house.add_key(|key| key.revoked = Some(2));
        let mut client = house.connect_with(2048);
        let start = Instant::now();
        while client.try_send(get("/api/tags", &revoked).as_bytes()).await {}
        is_met(start, LIMITS.head_time);
    });
}

#[test]
fn one_with_a_key_has_the_time_of_an_answer() {
    run(async {
        let house = for_one();
        // Refused for want of a scope, by a caller who is known.
        let request = get("/metrics", &house.key);
        let mut client = house.connect_with(2048);
        let start = Instant::now();
        client.send_until_stopped(request.as_bytes()).await;
        assert!(!has_room(&house), "it is busy");
        while client.try_send(request.as_bytes()).await {}
        is_met(start, LIMITS.idle);
    });
}

#[test]
fn one_who_sips_at_an_answer_has_no_more_time_for_it() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect_with(8);
        client.send(get("/", "-")).await;
        let start = Instant::now();
        while house.records().is_empty() {
            assert!(!client.some().await.is_empty());
            sleep(Duration::from_millis(900)).await;
        }
        is_met(start, LIMITS.head_time);
        assert_eq!(house.outcome().0, "cancelled");
    });
}

#[test]
fn one_who_takes_nothing_makes_room() {
    run(async {
        for request in [get("/", "-"), post("/api/chat", "-", CHAT), "GET nothing\r\n\r\n".into()] {
            let house = for_one();
            let mut client = house.connect_with(16);
            client.send_until_stopped(request.as_bytes()).await;
            assert!(has_room(&house), "{request}");
            assert_eq!(house.shared.crowd.made_room(), 1);
            sleep(Duration::from_millis(1)).await;
            assert_eq!(house.shared.crowd.open(), 0, "it is gone at once");
        }
    });
}

#[test]
fn one_who_was_refused_and_sends_on_makes_room() {
    run(async {
        let house = for_one();
        let mut client = house.connect();
        client.send("POST /api/chat HTTP/1.1\r\nHost: g\r\nContent-Length: 900000000\r\n\r\n").await;
        for _ in 0..3 {
            assert!(client.try_send(&[b'x'; 1000]).await);
            sleep(Duration::from_secs(1)).await;
        }
        assert!(has_room(&house));
        sleep(Duration::from_millis(1)).await;
        assert!(!client.try_send(b"x").await, "it was cut off at once");
    });
}

/// A client of HTTP/2 that opens no window for any answer.
async fn closed_window(house: &House) -> Web {
    Web::connect_with(house, Builder::new().initial_window_size(0), PIPE).await
}

/// Requests of every kind that a stranger gets an answer to.
async fn ask_in_many_ways(web: &mut Web, count: usize) -> Vec<Coming> {
    let mut comings = Vec::new();
    for number in 0..count {
        comings.push(match number % 3 {
            0 => web.send(request("GET", "/", "-"), "").await,
            1 => web.send(request("POST", "/api/chat", "wrong"), CHAT).await,
            _ => web.open(request("POST", "/nothing", "wrong"), false).await,
        });
    }
    comings
}

#[test]
fn requests_of_http_2_whose_answers_nobody_takes_end_in_time() {
    run(async {
        let house = House::new(1);
        let mut web = closed_window(&house).await;
        let comings = ask_in_many_ways(&mut web, 128).await;
        sleep(LIMITS.head_time).await;
        assert_eq!(house.records().len(), 0, "they have their time");
        sleep(2 * TICK).await;
        assert_eq!(house.records().len(), 128);
        for coming in comings {
            let mut answer = coming.head().await;
            assert!(answer.some().await.is_err(), "no end that looks whole");
        }
    });
}

#[test]
fn one_of_http_2_who_takes_nothing_makes_room_while_no_key_was_shown() {
    run(async {
        let house = for_one();
        let mut web = closed_window(&house).await;
        let _comings = ask_in_many_ways(&mut web, 9).await;
        sleep(Duration::from_secs(1)).await;
        assert!(has_room(&house));
        let start = Instant::now();
        assert_eq!(web.closed().await, None, "a friendly goodbye");
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(house.shared.crowd.made_room(), 1);
    });
}

#[test]
fn one_of_http_2_who_has_shown_a_key_is_busy_while_it_asks() {
    run(async {
        let house = for_one();
        let mut web = Web::connect(&house).await;
        // A stranger's request that waits before, and one behind.
        let _before = web.open(request("POST", "/", "-"), false).await;
        let (coming, mut upstream) = web.chat(&house).await;
        upstream.serve([STREAM, &chunk("{}\n")].concat()).await;
        let mut answer = coming.head().await;
        answer.expect("{}\n").await;
        let _behind = web.open(request("POST", "/", "-"), false).await;
        for _ in 0..100 {
            sleep(Duration::from_secs(1)).await;
            assert!(!has_room(&house));
        }
        upstream.send(chunk("{}\n")).await;
        answer.expect("{}\n").await;
        answer.reset();
        sleep(Duration::from_secs(1)).await;
        assert!(has_room(&house), "it rests");
    });
}
