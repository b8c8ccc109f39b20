//! What becomes of a WebSocket on a route of an upstream's own.

use crate::extra::{bearer, house};
use crate::house::{House, LIMITS, run};
use crate::wire::{Client, Upstream, get, json};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// What opens a WebSocket, with these fields more.
fn socket(path: &str, fields: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: gate\r\n{fields}Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSet-Cookie: a=b\r\nX-Else: c\r\n\r\n";

/// A WebSocket that stands.
pub(crate) async fn opened(house: &House, key: &str) -> (Client, Upstream) {
    let mut client = house.connect();
    client.send(socket("/tts/live", &bearer(key))).await;
    let mut upstream = house.accept(1).await;
    upstream.asked().await;
    upstream.send(SWITCHED).await;
    client.expect(b"HTTP/1.1 101 Switching Protocols\r\n").await;
    while !client.some().await.ends_with(b"\r\n\r\n") {}
    (client, upstream)
}

#[test]
fn a_websocket_passes_both_ways_until_one_side_ends_it() {
    run(async {
        let house = house();
        let mut client = house.connect();
        let more = format!(
            "{}Sec-WebSocket-Protocol: chat\r\nCookie: a\r\nOrigin: http://gate\r\n",
            bearer(&house.key)
        );
        client.send(socket("/tts/live?lang=de", &more)).await;
        let mut upstream = house.accept(1).await;
        let asked = upstream.asked().await.head;
        assert!(asked.starts_with("GET /tts/live?lang=de HTTP/1.1\r\n"), "{asked}");
        for field in [
            "Connection: Upgrade\r\n",
            "Upgrade: websocket\r\n",
            "Sec-WebSocket-Protocol: chat\r\n",
            "Sec-WebSocket-Version: 13\r\n",
        ] {
            assert_eq!(asked.matches(field).count(), 1, "{field}: {asked}");
        }
        assert!(!asked.contains("ookie") && !asked.contains("rigin") && !asked.contains("sk-hg-"), "{asked}");
        upstream.send([SWITCHED, "first"].concat()).await;
        let answer = String::from_utf8(client.some().await).unwrap();
        let (head, data) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains("\r\nUpgrade: websocket") && head.contains("\r\nConnection: Upgrade"),
            "{head}"
        );
        assert!(
            head.contains("Sec-WebSocket-Accept: s3pP")
                && !head.contains("Cookie")
                && !head.contains("X-Else"),
            "{head}"
        );
        if data.is_empty() {
            client.expect(b"first").await;
        }
        client.send("ping").await;
        upstream.expect(b"ping").await;
        upstream.send("last words").await;
        drop(upstream);
        client.expect(b"last words").await;
        client.closed().await;
        assert_eq!(house.outcome(), ("done".to_owned(), "101".to_owned()));
        assert!(!client.was_reset());
    });
}

#[test]
fn a_websocket_is_refused_with_the_reason() {
    run(async {
        let house = house();
        let key = bearer(&house.key);
        for (request, status, told) in [
            (socket("/tts/live", ""), 401, "a WebSocket shows it when it opens"),
            (socket("/tts/live", &bearer("sk-hg-wrong")), 401, "key"),
            (
                socket("/tts/live", "Sec-WebSocket-Protocol: sk-hg-abc\r\n"),
                401,
                "Sec-WebSocket-Protocol it is not looked for",
            ),
            (
                socket("/tts/live", &format!("{key}Sec-WebSocket-Protocol: a, key.sk-hg-abc\r\n")),
                400,
                "from where the model server would see it",
            ),
            (socket("/tts/live", &format!("{key}Origin: http://elsewhere\r\n")), 403, "origin"),
            (socket("/tts/live", &format!("{key}Origin: null\r\n")), 403, "origin"),
            (socket("/rerank", &key), 400, "lets no WebSocket pass"),
            (socket("/tts/live", &key).replace("HTTP/1.1", "HTTP/1.0"), 400, "over HTTP/1.1"),
            (socket("/tts/live", &key).replace("GET", "POST"), 400, "by a GET"),
            (socket("/tts/live", &key).replace("-Key: ", "-Kex: "), 400, "one Sec-WebSocket-Key"),
            (socket("/tts/live", &format!("{key}Content-Length: 2\r\n")) + "ab", 400, "without a body"),
        ] {
            let answer = house.connect().ask(&request).await;
            assert_eq!(answer.status, status, "{request}: {}", answer.text());
            assert!(answer.text().contains(told), "{}", answer.text());
        }
        assert_eq!(house.dialled(1), 0);
    });
}

#[test]
fn an_upstream_that_opens_none_is_heard_and_one_that_opens_something_else_is_not() {
    run(async {
        let house = house();
        let mut client = house.connect();
        client.send(socket("/tts/live", &bearer(&house.key))).await;
        house.accept(1).await.serve(json(426, "{\"error\":\"no\"}")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.text()), (426, "{\"error\":\"no\"}"));
        assert_eq!(client.ask(get("/", "-")).await.status, 200, "still HTTP");

        client.send(socket("/tts/live", &bearer(&house.key))).await;
        house.accept(1).await.serve(SWITCHED.replace("WebSocket", "h2c")).await;
        assert_eq!(client.answer().await.status, 502);
        // Nor one that answers another key, or takes a protocol that nobody offered.
        for answer in [
            SWITCHED.replace("s3pP", "S3pP"),
            SWITCHED.replace("Set-Cookie: a=b", "Sec-WebSocket-Protocol: chat"),
        ] {
            let mut client = house.connect();
            client.send(socket("/tts/live", &bearer(&house.key))).await;
            let mut upstream = house.accept(1).await;
            upstream.serve(answer).await;
            assert_eq!(client.answer().await.status, 502);
            upstream.closed().await;
        }
        // Nor one that nobody had asked for.
        client.send(get("/tts/live", &house.key)).await;
        house.accept(1).await.serve(SWITCHED).await;
        assert_eq!(client.answer().await.status, 502);
    });
}

#[test]
fn a_websocket_ends_with_its_key_with_silence_and_with_the_gate() {
    run(async {
        let house = house();
        let revoked = Rc::new(Cell::new(false));
        let seen = Rc::clone(&revoked);
        let key = house.add_key(move |key| key.revoked = seen.get().then_some(2));
        let (mut client, mut upstream) = opened(&house, &key).await;
        revoked.set(true);
        house.add_key(|_| {});
        assert!(upstream.closed().await < Duration::from_secs(1));
        client.closed().await;
        assert_eq!(house.outcome(), ("revoked".to_owned(), "101".to_owned()));

        let (mut client, mut upstream) = opened(&house, &house.key).await;
        // What moves in either direction keeps it.
        for _ in 0..3 {
            tokio::time::sleep(LIMITS.idle * 2 / 3).await;
            client.send("a").await;
            upstream.expect(b"a").await;
            tokio::time::sleep(LIMITS.idle * 2 / 3).await;
            upstream.send("b").await;
            client.expect(b"b").await;
        }
        let took = upstream.closed().await;
        assert!(took >= LIMITS.idle && took < LIMITS.idle + Duration::from_secs(3), "{took:?}");
        client.closed().await;
        assert_eq!(house.outcome().0, "cut_short");

        let (mut client, mut upstream) = opened(&house, &house.key).await;
        house.drain();
        client.send("still").await;
        upstream.expect(b"still").await;
        house.gate().leases.end_all();
        upstream.closed().await;
        client.closed().await;
        assert_eq!(house.outcome().0, "shut_down");
    });
}

#[test]
fn who_takes_nothing_of_a_websocket_holds_up_the_other_side() {
    run(async {
        let house = house();
        let mut client = house.connect_with(4096);
        house.narrow(1, 4096);
        client.send(socket("/tts/live", &bearer(&house.key))).await;
        let mut upstream = house.accept(1).await;
        upstream.serve(SWITCHED).await;
        client.expect(b"HTTP/1.1 101").await;
        while !client.some().await.ends_with(b"\r\n\r\n") {}
        let forth = client.send_until_stopped(&[b'x'; 1000]).await;
        assert!(forth < 200_000, "{forth} bytes that nobody took are held");
        let back = upstream.send_until_stopped(&[b'y'; 1000]).await;
        assert!(back < 200_000, "{back} bytes that nobody took are held");
    });
}
