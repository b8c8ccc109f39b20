//! A client that leaves, in each phase of a request: the upstream's connection closes at once, which stops the model, and
//! nothing stays counted as in flight. A half-close counts as leaving, as it does in Ollama.

use crate::house::{House, PIPE, run};
use crate::wire::{CHAT, Client, STREAM, Upstream, chunk, get, json, post};
use std::time::Duration;

/// Both ways to leave.
#[derive(Debug, Clone, Copy)]
enum Leave {
    Close,
    HalfClose,
}

const BOTH: [Leave; 2] = [Leave::Close, Leave::HalfClose];

impl Leave {
    async fn leave(self, mut client: Client) {
        match self {
            Leave::Close => client.leave().await,
            Leave::HalfClose => {
                client.half_close().await;
                while !client.some().await.is_empty() {}
            }
        }
    }
}

async fn all_is_given_back(house: &House, upstream: &mut Upstream) {
    assert_eq!(upstream.closed().await, Duration::ZERO, "the upstream waited for a timer");
    assert_eq!(house.in_flight(0), 0);
    assert_eq!(house.outcome(), ("cancelled".into(), "499".into()));
    assert_eq!(house.records().len(), 1);
}

#[test]
fn while_the_body_is_on_its_way() {
    run(async {
        for how in BOTH {
            let house = House::new(1);
            let mut client = house.connect();
            let request = post("/api/chat", &house.key, CHAT);
            client.send(&request[..request.len() - 1]).await;
            tokio::task::yield_now().await;
            how.leave(client).await;
            assert_eq!((house.dialled(0), house.in_flight(0)), (0, 0));
            assert_eq!(house.outcome().0, "cancelled");
        }
    });
}

#[test]
fn while_the_upstream_takes_the_request_slowly() {
    run(async {
        for how in BOTH {
            let house = House::new(1);
            house.narrow(0, 256);
            let mut client = house.connect();
            let long = CHAT.replace("hi", &"x".repeat(PIPE / 2));
            client.send(post("/api/chat", &house.key, &long)).await;
            let mut upstream = house.accept(0).await;
            assert_eq!(house.in_flight(0), 1);
            how.leave(client).await;
            all_is_given_back(&house, &mut upstream).await;
        }
    });
}

#[test]
fn while_the_upstream_thinks() {
    run(async {
        for how in BOTH {
            let house = House::new(1);
            let mut client = house.connect();
            client.send(post("/api/chat", &house.key, CHAT)).await;
            let mut upstream = house.accept(0).await;
            upstream.asked().await;
            assert_eq!(house.in_flight(0), 1);
            how.leave(client).await;
            all_is_given_back(&house, &mut upstream).await;
        }
    });
}

#[test]
fn in_the_middle_of_an_answer_streamed_or_not() {
    run(async {
        let streamed = [STREAM, &chunk("{\"a\":1}\n")].concat();
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"a\":".to_owned();
        for (answer, how) in BOTH.into_iter().flat_map(|how| [(&streamed, how), (&whole, how)]) {
            let house = House::new(1);
            let mut client = house.connect();
            client.send(post("/api/chat", &house.key, CHAT)).await;
            let mut upstream = house.accept(0).await;
            upstream.serve(answer).await;
            client.some().await;
            assert_eq!(house.in_flight(0), 1);
            how.leave(client).await;
            all_is_given_back(&house, &mut upstream).await;
        }
    });
}

#[test]
fn while_the_client_takes_nothing() {
    run(async {
        for how in BOTH {
            let house = House::new(1);
            let mut client = house.connect_with(512);
            client.send(post("/api/chat", &house.key, CHAT)).await;
            let mut upstream = house.accept(0).await;
            upstream.serve(STREAM).await;
            upstream.send_until_stopped(chunk(&"x".repeat(1000)).as_bytes()).await;
            how.leave(client).await;
            all_is_given_back(&house, &mut upstream).await;
        }
    });
}

#[test]
fn while_a_refusal_is_passed_over() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        let refusal = json(404, r#"{"error":"model 'demo' not found"}"#);
        upstream.serve(&refusal[..refusal.len() - 5]).await;
        tokio::task::yield_now().await;
        client.leave().await;
        all_is_given_back(&house, &mut upstream).await;
    });
}

#[test]
fn while_a_listing_is_gathered() {
    run(async {
        let house = House::new(2);
        let mut client = house.connect();
        client.send(get("/api/tags", &house.key)).await;
        let (mut first, mut second) = (house.accept(0).await, house.accept(1).await);
        first.serve(json(200, r#"{"models":[]}"#)).await;
        second.asked().await;
        client.leave().await;
        all_is_given_back(&house, &mut second).await;
    });
}

#[test]
fn by_sending_more_ahead_than_is_kept() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        upstream.asked().await;
        // Beyond this it could not be seen leaving: it is cut off as if it had left.
        let _cut_off = client.try_send("G".repeat(70_000).as_bytes()).await;
        all_is_given_back(&house, &mut upstream).await;
    });
}

#[test]
fn after_pipelining_a_second_request() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        let request = post("/api/chat", &house.key, CHAT);
        client.send([request.as_str(), request.as_str()].concat()).await;
        let mut upstream = house.accept(0).await;
        upstream.serve(STREAM).await;
        client.some().await;
        client.leave().await;
        all_is_given_back(&house, &mut upstream).await;
        assert_eq!(house.dialled(0), 1, "nobody waits for the second one");
    });
}
