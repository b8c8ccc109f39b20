//! Health without a key, and the end: what runs goes on, what is on its way is answered, what waits is taken leave of.

use crate::house::{House, run};
use crate::metrics::{page, value};
use crate::wire::{CHAT, END, STREAM, chunk, get, post};
use gate_policy::Observation;
use gate_proxy::{Life, Vouched};
use std::time::Duration;
use tokio::time::Instant;

async fn ready(house: &House) -> (u16, String) {
    let answer = house.connect().ask("GET /readyz HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    (answer.status, answer.text().to_owned())
}

/// Without a certificate nobody can shake hands, however well the gate is otherwise.
#[test]
fn a_gate_without_a_certificate_is_not_ready_and_tells_when_one_expires() {
    run(async {
        let house = House::new(1);
        house.shared.certificate.set(Vouched::NotYet);
        assert_eq!(ready(&house).await, (503, "no certificate yet".to_owned()));
        let series = "herdgate_certificate_expiry_timestamp_seconds";
        assert_eq!(value(&page(&house).await, series), Some(0));
        for (until, word) in [(4_000_000_000, "ready"), (1_000_000_000, "degraded")] {
            house.shared.certificate.set(Vouched::For(Life { from: 0, until }));
            assert_eq!(ready(&house).await, (200, word.to_owned()));
            assert_eq!(value(&page(&house).await, series), Some(until));
        }
        house.shared.certificate.set(Vouched::Plain);
        assert_eq!(value(&page(&house).await, series), None);
    });
}

#[test]
fn anybody_may_ask_whether_it_is_alive_and_ready() {
    run(async {
        let house = House::new(2);
        for (path, word) in [("/healthz", "ok"), ("/readyz", "ready")] {
            let answer = house.connect().ask(format!("GET {path} HTTP/1.1\r\nHost: g\r\n\r\n")).await;
            assert_eq!((answer.status, answer.text()), (200, word));
            let mut client = house.connect();
            client.send(format!("HEAD {path} HTTP/1.1\r\nHost: g\r\n\r\n")).await;
            let head = client.head().await;
            assert_eq!((head.status, head.field("content-length")), (200, Some(&*word.len().to_string())));
        }
        house.observe(1, Observation::ConnectFailed);
        assert_eq!(ready(&house).await, (200, "degraded".to_owned()));
        house.observe(0, Observation::ConnectFailed);
        assert_eq!(ready(&house).await, (503, "not ready".to_owned()));
        for place in [0, 1] {
            house.observe(place, Observation::Answered);
        }
        house.shared.store.set_degraded(true);
        assert_eq!(ready(&house).await, (200, "degraded".to_owned()));
        house.shared.store.set_degraded(false);
        assert_eq!(ready(&house).await, (200, "ready".to_owned()));
        house.drain();
        assert_eq!(ready(&house).await, (503, "not ready".to_owned()));
        let alive = house.connect().ask("GET /healthz HTTP/1.1\r\nHost: g\r\n\r\n").await;
        assert_eq!((alive.status, alive.text()), (200, "ok"));
    });
}

#[test]
fn a_gate_that_nobody_stands_behind_is_not_ready() {
    run(async {
        assert_eq!(ready(&House::new(0)).await, (503, "not ready".to_owned()));
    });
}

#[test]
fn a_stream_that_runs_goes_on_to_its_end() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        upstream.serve([STREAM, &chunk("one\n")].concat()).await;
        assert_eq!(client.head().await.status, 200);
        house.drain();
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(20)).await;
            upstream.send(chunk("more\n")).await;
        }
        upstream.send(END).await;
        client.expect([chunk("one\n"), chunk("more\n").repeat(10), END.to_owned()].concat().as_bytes()).await;
        client.closed().await;
        assert_eq!(house.outcome(), ("done".to_owned(), "200".to_owned()));
    });
}

#[test]
fn a_request_whose_answer_has_not_begun_is_told_that_the_connection_closes() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        upstream.asked().await;
        house.drain();
        upstream.send([STREAM, &chunk("x\n"), END].concat()).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
        client.closed().await;
    });
}

#[test]
fn an_idle_connection_has_a_last_call() {
    run(async {
        let house = House::new(1);
        let (mut idle, mut late, mut slow) = (house.connect(), house.connect(), house.connect());
        for client in [&mut idle, &mut late, &mut slow] {
            assert_eq!(client.ask(get("/", "-")).await.field("connection"), None);
        }
        // A head that has begun has its usual time.
        let head = get("/", "-");
        slow.send(&head[..9]).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let begun = Instant::now();
        house.drain();
        tokio::time::sleep(Duration::from_millis(900)).await;
        let answer = late.ask(get("/", "-")).await;
        assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
        idle.closed().await;
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_secs(3)).await;
        slow.send(&head[9..]).await;
        assert_eq!(slow.answer().await.field("connection"), Some("close"));
    });
}

#[test]
fn a_connection_that_comes_during_the_end_has_one_answer() {
    run(async {
        let house = House::new(1);
        house.drain();
        let mut client = house.connect();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let answer = client.ask(get("/", "-")).await;
        assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
        let mut silent = house.connect();
        silent.closed().await;
    });
}
