//! Answers that break off: told in the answer where there are words for it, visible in the framing always.

use crate::house::{House, run};
use crate::wire::{CHAT, END, LAST, STREAM, chunk, json, post};
use std::time::Duration;
use tokio::time::Instant;

const EVENTS: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const ERROR: &str =
    "{\"error\":\"the model server broke off or did not answer properly\",\"code\":\"upstream_failed\"}";

#[test]
fn an_upstream_that_dies_in_mid_answer_leaves_a_broken_one() {
    run(async {
        let line = "{\"a\":1}\n";
        let length = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: 100\r\n\r\n";
        let close = "HTTP/1.0 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n";
        let told = chunk(&format!("{ERROR}\n"));
        for (answer, version, more) in [
            ([STREAM, &chunk(line)].concat(), "HTTP/1.1", format!("8\r\n{line}\r\n{told}")),
            ([STREAM, &chunk(line)].concat(), "HTTP/1.0", format!("{line}{ERROR}\n")),
            ([close, line].concat(), "HTTP/1.1", format!("8\r\n{line}\r\n{told}")),
            ([close, line].concat(), "HTTP/1.0", format!("{line}{ERROR}\n")),
            // An announced length leaves no room for words.
            ([length, line].concat(), "HTTP/1.1", line.into()),
            // The chunk that broke is filled up, so that every client hands it on.
            ([STREAM, "5\r\nab"].concat(), "HTTP/1.1", {
                let (first, rest) = ("ab\n{\"", &format!("{ERROR}\n")[2..]);
                format!("5\r\n{first}\r\n{}", chunk(rest))
            }),
            ([STREAM, "80\r\nab"].concat(), "HTTP/1.1", {
                let blanks = " ".repeat(0x80 - "ab\n\n".len() - ERROR.len());
                format!("80\r\nab\n{ERROR}{blanks}\n\r\n")
            }),
            // Nobody could wait for so many blanks.
            ([STREAM, "8000000\r\nab"].concat(), "HTTP/1.1", format!("8000000\r\nab\n{ERROR}\n")),
            (
                [STREAM, "2\r\nab"].concat(),
                "HTTP/1.1",
                format!("2\r\nab\r\n{}", chunk(&format!("\n{ERROR}\n"))),
            ),
            (
                [STREAM, "2\r\nab\r"].concat(),
                "HTTP/1.1",
                format!("2\r\nab\r\n{}", chunk(&format!("\n{ERROR}\n"))),
            ),
            (
                [STREAM, "2\r\nab\r\n5"].concat(),
                "HTTP/1.1",
                format!("2\r\nab\r\n{}", chunk(&format!("\n{ERROR}\n"))),
            ),
        ] {
            let house = House::new(1);
            let mut client = house.connect();
            client.send(post("/api/chat", &house.key, CHAT).replace("HTTP/1.1", version)).await;
            let mut upstream = house.accept(0).await;
            upstream.serve(answer).await;
            client.head().await;
            let mut rest = client.some().await;
            drop(upstream);
            rest.extend(client.until_closed().await);
            assert_eq!(rest.escape_ascii().to_string(), more.as_bytes().escape_ascii().to_string());
            assert_eq!(client.was_reset(), version == "HTTP/1.0", "only a reset shows it there");
            assert_eq!(house.outcome(), ("cut_short".into(), "200".into()));
            assert_eq!(house.records()[0]["reason"], "upstream_failed");
            assert_eq!(house.in_flight(0), 0);
        }
    });
}

#[test]
fn framing_that_breaks_in_mid_answer_is_not_passed_on() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        upstream.serve([STREAM, &chunk("{\"a\":1}\n"), "8\r\n{\"b\""].concat()).await;
        client.head().await;
        client.expect(b"8\r\n{\"a\":1}\n\r\n8\r\n{\"b\"").await;
        upstream.send(":2}\n\r\nzz\r\n\r\n").await;
        // Of the read in which it broke nothing is believed; the chunk that was open goes on with the error.
        client.expect(format!("\n{}\r\n", &ERROR[..3]).as_bytes()).await;
        client.expect(chunk(&format!("{}\n", &ERROR[3..])).as_bytes()).await;
        client.closed().await;
        upstream.closed().await;
        assert_eq!(house.outcome().0, "cut_short");
    });
}

/// What Ollama sends after its runner was killed: correct framing, and no end record.
#[test]
fn the_end_of_the_framing_does_not_pass_before_the_end_of_the_answer() {
    run(async {
        for cut in 0..=LAST.len() {
            let house = House::new(1);
            let mut client = house.connect();
            client.send(post("/v1/chat/completions", &house.key, CHAT)).await;
            let mut upstream = house.accept(0).await;
            upstream.serve([EVENTS, &chunk("data: {\"id\":\"c\"}\n\n")].concat()).await;
            client.head().await;
            client.expect(chunk("data: {\"id\":\"c\"}\n\n").as_bytes()).await;
            upstream.send(&LAST[..cut]).await;
            tokio::task::yield_now().await;
            upstream.send(&LAST[cut..]).await;
            let told = String::from_utf8(client.until_closed().await).unwrap();
            let (size, rest) = told.split_once("\r\ndata: {\"error\":{\"message\":").unwrap();
            assert_eq!(usize::from_str_radix(size, 16).unwrap() + size.len() + 4, told.len(), "{told}");
            assert!(rest.ends_with("\"code\":\"upstream_failed\"}}\n\n\r\n"), "{told}");
        }
    });
}

#[test]
fn a_stream_that_ended_before_its_first_data_can_still_be_refused() {
    run(async {
        let announced =
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: 0\r\n\r\n".to_owned();
        for empty in [[STREAM, LAST].concat(), announced] {
            let house = House::new(1);
            let mut client = house.connect();
            client.send(post("/api/chat", &house.key, CHAT)).await;
            house.accept(0).await.serve(empty).await;
            let told = client.answer().await;
            assert_eq!((told.status, told.text()), (502, ERROR));
            assert_eq!(house.outcome(), ("upstream_failed".into(), "502".into()));
        }
    });
}

/// An answer of an announced length has no place for an error; its last byte does not come.
#[test]
fn a_stream_of_an_announced_length_without_its_end_is_not_made_whole() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: 8\r\n\r\n";
        house.accept(0).await.serve([head, "{\"a\":1}\n"].concat()).await;
        client.head().await;
        assert_eq!(client.until_closed().await, b"{\"a\":1}");
        assert_eq!(house.outcome().0, "cut_short");
    });
}

/// What Ollama gave up is told by its words alone where they came whole; those pass as they are.
#[test]
fn whole_answers_pass_whatever_they_say() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        for answer in [
            json(200, "{\"message\":{\"content\":\"F\"},\"done\":false}"),
            json(200, ""),
            json(200, "not JSON"),
            json(500, "{\"error\":\"broken\"}"),
            [STREAM.replace("200 OK", "500 X").as_str(), &chunk("{\"a\":1}\n"), LAST].concat(),
            [STREAM, &chunk("{\"error\":\"broken\"}\n"), LAST].concat(),
            [STREAM, &chunk("{\"done\":true}"), LAST].concat(),
            [STREAM, &chunk("{\"done\":true}\n"), "0\r\nX-Trailer: 1\r\n\r\n"].concat(),
        ] {
            upstream.serve(&answer).await;
            let (_, body) = answer.split_once("\r\n\r\n").unwrap();
            assert_eq!(client.wire_of_answer(body.len()).await, body);
            client.send(post("/api/chat", &house.key, CHAT)).await;
        }
    });
}

#[test]
fn tokens_are_recorded() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        let last = "{\"done\":true,\"prompt_eval_count\":26,\"eval_count\":7}\n";
        upstream.serve([STREAM, &chunk(last), LAST].concat()).await;
        client.answer().await;
        let record = house.records().pop().unwrap();
        assert_eq!((&*record["tokens_in"], &*record["tokens_out"]), ("26", "7"));
        client.send(post("/api/chat", &house.key, CHAT)).await;
        upstream.serve([STREAM, END].concat()).await;
        client.answer().await;
        assert!(!house.records().pop().unwrap().contains_key("tokens_in"), "nobody counted");
    });
}

/// A reader who is slow, and not gone, has all that came and then the error.
#[test]
fn a_slow_reader_of_a_broken_answer_misses_nothing() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect_with(256);
        client.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        let lines = chunk(&"{\"message\":{\"content\":\"x\"},\"done\":false}\n".repeat(100));
        upstream.serve([STREAM, &lines].concat()).await;
        drop(upstream);
        client.head().await;
        client.expect(lines.as_bytes()).await;
        client.expect(chunk(&format!("{ERROR}\n")).as_bytes()).await;
        client.closed().await;
    });
}

#[test]
fn a_client_that_takes_nothing_delays_the_end_of_a_broken_answer_only_shortly() {
    run(async {
        let house = House::new(1);
        // Room for the head and the data, and not for the error.
        let mut client = house.connect_with(400);
        client.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        upstream.serve([STREAM, &chunk(&"x".repeat(230))].concat()).await;
        tokio::task::yield_now().await;
        drop(upstream);
        let start = Instant::now();
        while house.records().is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!((1..2).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
        assert_eq!((house.in_flight(0), house.outcome().0), (0, "cut_short".into()));
        client.some().await;
    });
}
