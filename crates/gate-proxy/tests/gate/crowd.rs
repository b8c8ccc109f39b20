//! Many clients: how many connections there may be, who makes room for whom, and how much of their bodies is held.

use crate::house::{House, LIMITS, PEER, PIPE, run};
use crate::wire::{CHAT, Client, STREAM, blob, chunk, get, json, post, with_fields};
use gate_proxy::{Limits, TurnedAway};
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Whether a client from there would be let in; it leaves at once.
async fn is_let_in(house: &House, from: &str) -> bool {
    let peer: IpAddr = from.parse().unwrap();
    let (near, far) = tokio::io::duplex(PIPE);
    let Some(served) = house.serve_from(peer, crate::house::plain(far)) else { return false };
    drop(near);
    served.await.unwrap();
    true
}

#[test]
fn one_address_has_so_many_connections_and_others_have_theirs() {
    run(async {
        let house = House::with(1, Limits { per_address: 3, ..LIMITS });
        let held: Vec<Client> = (0..3).map(|_| house.connect()).collect();
        assert!(!is_let_in(&house, &PEER.to_string()).await);
        assert!(!is_let_in(&house, &format!("::ffff:{PEER}")).await, "the same, seen by a dual-stack socket");
        assert!(is_let_in(&house, "192.0.2.8").await && is_let_in(&house, "2001:db8::1").await);
        assert_eq!(house.shared.crowd.turned_away(TurnedAway::ByAddress), 2);
        for client in held {
            client.leave().await;
        }
        assert_eq!(house.shared.crowd.open(), 0);
        assert!(is_let_in(&house, &PEER.to_string()).await);
    });
}

#[test]
fn whoever_waited_longest_for_a_request_makes_room() {
    run(async {
        let house = House::with(1, Limits { connections: 3, ..LIMITS });
        let mut busy = house.connect();
        busy.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        upstream.serve(STREAM).await;
        busy.head().await;
        sleep(Duration::from_secs(1)).await;
        let mut served = house.connect();
        assert_eq!(served.ask(get("/", "-")).await.status, 200);
        sleep(Duration::from_secs(1)).await;
        let mut stranger = house.connect();
        sleep(Duration::from_secs(1)).await;

        let mut next = house.connect();
        assert_eq!(served.closed().await, Duration::ZERO);
        assert_eq!(next.ask(get("/", "-")).await.status, 200);
        sleep(Duration::from_secs(1)).await;
        let mut last = house.connect();
        assert_eq!(stranger.closed().await, Duration::ZERO);
        assert_eq!(last.ask(get("/", "-")).await.status, 200);
        assert_eq!(house.shared.crowd.open(), 3);
        let page = crate::metrics::page(&house).await;
        assert_eq!(crate::metrics::value(&page, "herdgate_connections_made_room_total"), Some(2));
        upstream.send(chunk("{}\n")).await;
        busy.expect(chunk("{}\n").as_bytes()).await;
    });
}

#[test]
fn where_all_are_busy_a_new_one_is_closed() {
    run(async {
        let house = House::with(1, Limits { connections: 2, ..LIMITS });
        let mut clients = [house.connect(), house.connect()];
        let mut upstreams = Vec::new();
        for client in &mut clients {
            client.send(post("/api/chat", &house.key, CHAT)).await;
            upstreams.push(house.accept(0).await);
        }
        assert!(!is_let_in(&house, "192.0.2.8").await);
        assert_eq!(house.shared.crowd.turned_away(TurnedAway::ByAll), 1);
        house.change_rules(|rules| rules.limits.per_address = 2);
        assert!(!is_let_in(&house, &PEER.to_string()).await);
        let page = crate::metrics::page(&house).await;
        for (series, expected) in [
            ("herdgate_connections_total", 2),
            ("herdgate_connections", 2),
            (r#"herdgate_connections_turned_away_total{limit="connections"}"#, 1),
            (r#"herdgate_connections_turned_away_total{limit="per_address"}"#, 1),
            ("herdgate_connections_made_room_total", 0),
        ] {
            assert_eq!(crate::metrics::value(&page, series), Some(expected), "{series}\n{page}");
        }
        for (client, upstream) in clients.iter_mut().zip(&mut upstreams) {
            upstream.serve(json(200, "{}")).await;
            assert_eq!(client.answer().await.status, 200, "nobody was disturbed");
        }
        assert!(is_let_in(&house, "192.0.2.8").await);
    });
}

#[test]
fn a_body_that_has_no_room_is_not_taken_for_another_one() {
    run(async {
        let house = House::with(1, Limits { held: 1 << 20, ..LIMITS });
        let mut thinking = house.connect();
        thinking.send(post("/api/chat", &house.key, &long_chat(1_030_000))).await;
        let mut upstream = house.accept(0).await;
        upstream.asked_somehow().await;
        // Both are there before the first is looked at.
        let request = post("/api/chat", &house.key, &long_chat(25_000));
        let mut client = house.connect();
        client.send([request.as_str(), &request, &get("/", "-")].concat()).await;
        for _ in 0..2 {
            let answer = client.answer().await;
            assert_eq!(answer.status, 503, "{}", answer.text());
            assert!(answer.text().contains(r#""code":"bodies_full""#), "{}", answer.text());
        }
        assert_eq!(client.answer().await.text(), "Ollama is running");
    });
}

/// A chat of about so many bytes.
fn long_chat(bytes: usize) -> String {
    CHAT.replace("hi", &"x".repeat(bytes))
}

#[test]
fn what_is_announced_and_not_sent_keeps_nobody_out() {
    run(async {
        let house = House::with(1, Limits { held: 1 << 20, ..LIMITS });
        let mut announcers = Vec::new();
        for _ in 0..20 {
            let mut client = house.connect();
            let request = post("/api/chat", &house.key, &long_chat(900_000));
            client.send(&request[..request.len() - 900_000]).await;
            announcers.push(client);
        }
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, &long_chat(900_000))).await;
        let mut upstream = house.accept(0).await;
        upstream.serve(json(200, "{}")).await;
        assert_eq!(client.answer().await.status, 200);
    });
}

#[test]
fn all_held_bodies_together_have_a_bound() {
    run(async {
        let house = House::with(2, Limits { held: 2 << 20, ..LIMITS });
        let body = long_chat(900_000);
        let chunked = {
            let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n";
            let head = format!("{head}Authorization: Bearer {}\r\n\r\n", house.key);
            let pieces: String =
                body.as_bytes().chunks(50_000).map(|piece| chunk(str::from_utf8(piece).unwrap())).collect();
            head + &pieces + "0\r\n\r\n"
        };
        let whole = post("/v1/chat/completions", &house.key, &body);
        for request in [whole, chunked] {
            // One whose upstream thinks, and one that never sends its last byte.
            let mut thinking = house.connect();
            thinking.send(&request).await;
            let mut upstream = tokio::select! {
                upstream = house.accept(0) => upstream,
                upstream = house.accept(1) => upstream,
            };
            upstream.asked_somehow().await;
            let mut unfinished = house.connect();
            unfinished.send(&request[..request.len() - 10]).await;
            let mut refused = house.connect();
            assert!(refused.try_send(request.as_bytes()).await);
            let answer = refused.answer().await;
            assert_eq!((answer.status, answer.field("retry-after")), (503, Some("2")));
            assert!(answer.text().contains(r#""code":"bodies_full""#), "{}", answer.text());
            assert_eq!(house.connect().ask(get("/", "-")).await.status, 200, "others are served");

            // The body of the first is given back with the head of its answer, not with its last byte.
            upstream.send(STREAM).await;
            thinking.head().await;
            let mut again = house.connect();
            again.send(&request).await;
            drop(upstream);
            let mut upstream = tokio::select! {
                upstream = house.accept(0) => upstream,
                upstream = house.accept(1) => upstream,
            };
            upstream.asked_somehow().await;
            upstream.send(json(200, "{}")).await;
            assert_eq!(again.answer().await.status, 200);
            unfinished.leave().await;
            drop(upstream);
        }
        assert!(house.shared.held_bytes() < 200_000, "{} are still counted", house.shared.held_bytes());
    });
}

#[test]
fn a_body_that_dribbles_is_given_up() {
    run(async {
        let house = House::with(1, Limits { body_rate: 1024, ..LIMITS });
        let manage = house.manager();
        let blob = &blob();
        for (path, key) in [("/api/chat", &house.key), (blob, &manage)] {
            for (every, is_slow) in [(Duration::from_secs(2), true), (Duration::from_millis(100), false)] {
                let mut client = house.connect();
                let start = Instant::now();
                let body = long_chat(50_000);
                let fields = format!("Authorization: Bearer {key}\r\n");
                let request = with_fields("POST", path, &fields, &body);
                let (head, body) = request.as_bytes().split_at(request.len() - body.len());
                client.send(head).await;
                let mut upstream = None;
                for piece in body.chunks(200) {
                    if path == blob && upstream.is_none() {
                        upstream = Some(house.accept(0).await);
                    }
                    client.try_send(piece).await;
                    sleep(every).await;
                    if is_slow && start.elapsed() > Duration::from_secs(25) {
                        break;
                    }
                }
                if !is_slow {
                    let mut upstream = match upstream {
                        Some(upstream) => upstream,
                        None => house.accept(0).await,
                    };
                    upstream.serve(json(200, "{}")).await;
                }
                assert_eq!(client.answer().await.status, if is_slow { 408 } else { 200 }, "{path}");
                client.leave().await;
            }
        }
    });
}
