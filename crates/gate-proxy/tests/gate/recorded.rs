//! Recorded answers of real servers, both versions: wherever the network cuts them they arrive as they were, and wherever
//! their server dies, the client is told so in its dialect and sees a broken connection.

use crate::house::{House, run};
use crate::wire::{Answer, CHAT, Client, Upstream, post};
use gate_testkit::{recorded, recordings};
use gate_types::UpstreamId;
use gate_upstream::ClientLimits;
use serde_json::Value;
use std::iter::once;
use std::ops::Range;
use tokio::task::yield_now;

/// A recorded answer.
struct Recording {
    name: String,
    path: &'static str,
    body: &'static str,
    bytes: Vec<u8>,
    /// Where its body begins.
    head: usize,
}

/// The streams of a version, and those whole answers that came in chunks.
fn streams(version: &str) -> Vec<Recording> {
    let names = recordings().unwrap().into_iter().filter(|name| name.starts_with(version));
    let all = names.filter_map(|name| {
        let (path, body) = asked_by(name.rsplit('/').next().unwrap())?;
        let bytes = recorded(&name).unwrap();
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let is_chunked = bytes[..head].windows(7).any(|part| part == b"chunked");
        is_chunked.then_some(Recording { name, path, body, bytes, head })
    });
    all.collect()
}

fn asked_by(name: &str) -> Option<(&'static str, &'static str)> {
    const MODEL: &str = r#"{"model":"demo"}"#;
    let name = name.trim_start_matches("crash-").trim_start_matches("repeat-");
    [
        ("chat-", "/api/chat", CHAT),
        ("generate-", "/api/generate", MODEL),
        ("v1-chat-", "/v1/chat/completions", CHAT),
        ("v1-completions-", "/v1/completions", MODEL),
        ("v1-responses-", "/v1/responses", MODEL),
        ("messages-", "/v1/messages", CHAT),
        ("pull-", "/api/pull", MODEL),
        ("push-", "/api/pull", MODEL),
        ("create-", "/api/create", r#"{"model":"new","from":"demo"}"#),
        ("show", "/api/show", MODEL),
        ("embedder-legacy", "/api/embeddings", MODEL),
    ]
    .into_iter()
    .find_map(|(prefix, path, body)| name.starts_with(prefix).then_some((path, body)))
}

impl Recording {
    /// Asked for by a request that is sent once, over a connection of its own.
    fn is_sent_once(&self) -> bool {
        matches!(self.path, "/api/pull" | "/api/create")
    }

    /// Ends without its end record: a crash or a give-up, other than those that Ollama tells by an error line.
    fn is_broken(&self) -> bool {
        let is_native = self.path.starts_with("/api/");
        self.name.contains("repeat-") || (self.name.contains("crash-") && !is_native)
    }

    /// Where its server dies: at every byte of the body; in the middle of long ones, where one line is like the other, at
    /// every eleventh.
    fn deaths(&self) -> impl Iterator<Item = usize> {
        let (first, length) = (self.head, self.bytes.len());
        let is_long = length > 2500;
        (first..length).filter(move |at| !is_long || *at < first + 600 || *at + 1200 > length || at % 11 == 0)
    }

    /// One JSON object, which came in chunks for its length.
    fn is_json(&self) -> bool {
        matches!(self.path, "/api/show" | "/api/embeddings")
    }
}

/// A client's connection and the upstream's behind it, which live from one answer to the next.
struct Pair<'h> {
    house: &'h House,
    key: &'h str,
    client: Client,
    upstream: Option<Upstream>,
}

impl<'h> Pair<'h> {
    fn new(house: &'h House, key: &'h str) -> Self {
        Pair { house, key, client: house.connect(), upstream: None }
    }

    /// Asks for a recording, and sends pieces of it.
    async fn play(&mut self, what: &Recording, pieces: impl IntoIterator<Item = Range<usize>>) {
        self.client.send(post(what.path, self.key, what.body)).await;
        self.house.asked(0, &mut self.upstream).await;
        let upstream = self.upstream.as_mut().unwrap();
        for piece in pieces {
            upstream.send(&what.bytes[piece]).await;
            yield_now().await;
        }
    }

    /// The same, and the client has it as it was.
    async fn arrives(&mut self, what: &Recording, pieces: impl IntoIterator<Item = Range<usize>>) -> Answer {
        self.play(what, pieces).await;
        let answer = self.client.answer().await;
        assert!(answer.wire == what.bytes[what.head..], "{}: {}", what.name, answer.wire.escape_ascii());
        answer
    }

    /// The same, and it ended cleanly: its connection is kept, behind those that were kept before.
    async fn ends(&mut self, what: &Recording, pieces: impl IntoIterator<Item = Range<usize>>) {
        let (dialled, kept) = self.connections();
        self.arrives(what, pieces).await;
        let is_fresh = what.is_sent_once() || dialled == 0;
        let most = ClientLimits::default().idle_per_upstream;
        let expected = (dialled + usize::from(is_fresh), (kept + usize::from(is_fresh)).min(most));
        assert_eq!(self.connections(), expected, "{}", what.name);
    }

    /// How many were opened, and how many are kept.
    fn connections(&self) -> (usize, usize) {
        (self.house.dialled(0), self.house.gate().upstream.idle(UpstreamId(0)))
    }
}

/// Without those that ran into the give-up or a crash.
fn good(version: &str) -> Vec<Recording> {
    let mut all = streams(version);
    all.retain(|what| !what.name.contains("repeat-") && !what.name.contains("crash-"));
    assert!(all.len() >= 24, "{} recordings", all.len());
    all
}

fn manager(house: &House) -> String {
    house.add_key(|key| key.scopes = "infer,embed,read,manage".parse().unwrap())
}

fn cut_everywhere(version: &str) {
    run(async {
        let house = House::new(1);
        let key = manager(&house);
        let mut pair = Pair::new(&house, &key);
        for what in good(version) {
            let length = what.bytes.len();
            // Of the long ones many places at once: what the gate knows at one is forgotten long before the next.
            let stride = if length < 1000 { length } else { 307 };
            for first in 1..stride {
                let cuts = (first..length).step_by(stride);
                let ends = cuts.clone().chain([length]);
                pair.ends(&what, [0].into_iter().chain(cuts).zip(ends).map(|(from, to)| from..to)).await;
            }
            pair.ends(&what, (0..length).map(|at| at..at + 1)).await;
        }
    });
}

#[test]
fn answers_of_0_24_0_cut_at_every_byte_arrive_as_they_were() {
    cut_everywhere("0.24.0/");
}

#[test]
fn answers_of_0_32_15_cut_at_every_byte_arrive_as_they_were() {
    cut_everywhere("0.32.15/");
}

fn die_everywhere(version: &str) {
    run(async {
        let house = House::new(1);
        let key = manager(&house);
        for what in good(version) {
            let all = 0..what.bytes.len();
            let whole = Pair::new(&house, &key).arrives(&what, [all]).await;
            for cut in what.deaths() {
                let mut pair = Pair::new(&house, &key);
                pair.play(&what, once(0..cut)).await;
                pair.upstream = None;
                let broken = pair.client.broken().await;
                died(&what, &what.bytes[what.head..cut], whole.text(), &broken);
            }
        }
        assert_eq!(house.in_flight(0), 0);
        assert!(house.records().iter().all(|record| record["status"] == "200"));
    });
}

#[test]
fn an_upstream_0_24_0_that_dies_at_any_byte_is_told_of_in_dialect() {
    die_everywhere("0.24.0/");
}

#[test]
fn an_upstream_0_32_15_that_dies_at_any_byte_is_told_of_in_dialect() {
    die_everywhere("0.32.15/");
}

/// The upstream died after `sent` of a body that would have been `whole`.
fn died(what: &Recording, sent: &[u8], whole: &str, broken: &Answer) {
    let (sent, _) = unchunked(sent);
    let (came, is_torn) = unchunked(&broken.wire);
    let at = || format!("{} dead behind {}: {}", what.name, sent.escape_ascii(), came.escape_ascii());
    assert!(came.starts_with(&sent) && whole.as_bytes().starts_with(&sent), "{}", at());
    if what.is_json() || sent.len() >= whole.trim_end().len() {
        // Nothing can be said in it, or nothing is missing of it; the broken connection is left.
        assert_eq!(came.len(), sent.len(), "{}", at());
        return;
    }
    assert!(!is_torn, "the error stands in a chunk that is whole: {}", at());
    check_told(what.path, &came, &at);
}

#[test]
fn recorded_crashes_end_in_dialect_or_pass_with_ollamas_own_error() {
    run(async {
        let house = House::new(1);
        let key = manager(&house);
        let mut broken = 0;
        for what in streams("0.24.0/").into_iter().chain(streams("0.32.15/")) {
            let all = 0..what.bytes.len();
            let mut pair = Pair::new(&house, &key);
            if what.is_broken() {
                broken += 1;
                pair.play(&what, [all.clone()]).await;
                let (came, is_torn) = unchunked(&pair.client.broken().await.wire);
                let (sent, _) = unchunked(&what.bytes[what.head..]);
                assert!(came.starts_with(&sent) && !is_torn, "{}", what.name);
                check_told(what.path, &came, &|| what.name.clone());
                assert_eq!(house.outcome(), ("cut_short".into(), "200".into()), "{}", what.name);
            } else if what.name.contains("crash-") {
                let answer = pair.arrives(&what, [all]).await;
                assert_eq!(answer.text().matches("\"error\":").count(), 1);
                assert_eq!(house.outcome(), ("cut_short".into(), "200".into()), "{}", what.name);
                pair.arrives(&what, once(0..what.bytes.len())).await;
            }
        }
        assert_eq!(broken, 2 * (6 + 4), "give-ups and silent crashes of both versions");
    });
}

/// The data of a body of chunks, and whether it ends within a chunk.
fn unchunked(mut wire: &[u8]) -> (Vec<u8>, bool) {
    let mut data = Vec::new();
    while let Some(end) = wire.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&wire[..end]).unwrap(), 16).unwrap();
        let there = &wire[end + 2..];
        data.extend_from_slice(&there[..size.min(there.len())]);
        let Some(rest) = there.get(size..).and_then(|rest| rest.strip_prefix(b"\r\n")) else {
            return (data, true);
        };
        wire = rest;
    }
    (data, !wire.is_empty())
}

/// Every line or event of a broken stream is whole but for the one that the break tore, none is an end record, and the last
/// is the error.
fn check_told(path: &str, data: &[u8], at: &dyn Fn() -> String) {
    let data = std::str::from_utf8(data).unwrap();
    let is_native = path.starts_with("/api/");
    let mut records: Vec<&str> = data.split(if is_native { "\n" } else { "\n\n" }).collect();
    assert!(records.pop().is_some_and(|rest| rest.trim().is_empty()), "ends within a record: {}", at());
    records.retain(|record| !record.trim().is_empty());
    let last = records.pop().and_then(|last| record(is_native, last));
    check_error(path, &last.unwrap_or_else(|| panic!("no error at the end: {}", at())));
    let torn = records.last().is_some_and(|last| record(is_native, last).is_none());
    records.truncate(records.len() - usize::from(torn));
    for text in records.iter().rev().take(2) {
        let fields = record(is_native, text).unwrap_or_else(|| panic!("torn before its end: {}", at()));
        assert!(!is_end(&fields), "an end record in a broken answer: {}", at());
    }
}

fn record(is_native: bool, text: &str) -> Option<Value> {
    if is_native {
        return serde_json::from_str(text).ok();
    }
    let data = text.lines().find_map(|line| line.strip_prefix("data: "))?;
    if data == "[DONE]" { Some("[DONE]".into()) } else { serde_json::from_str(data).ok() }
}

fn is_end(record: &Value) -> bool {
    let ends = ["response.completed", "message_stop"];
    *record == "[DONE]"
        || record["done"] == true
        || record["status"] == "success"
        || record["type"].as_str().is_some_and(|kind| ends.contains(&kind))
}

/// What the gate says, as the clients of each dialect read it.
fn check_error(path: &str, told: &Value) {
    let error = &told["error"];
    match path {
        "/v1/messages" => {
            assert_eq!(told["type"], "error");
            assert_eq!(error["type"], "api_error");
            assert_eq!(told["request_id"], "t-1");
        }
        "/v1/responses" => {
            assert_eq!(told["type"], "error");
            assert_eq!((&told["code"], &told["message"]), (&error["code"], &error["message"]));
            assert!(told["sequence_number"].is_u64(), "{told}");
            assert_eq!(error["code"], "upstream_failed");
        }
        "/v1/chat/completions" | "/v1/completions" => {
            assert_eq!((&error["type"], &error["code"]), (&"api_error".into(), &"upstream_failed".into()));
            assert!(error["message"].is_string(), "{told}");
        }
        _ => {
            assert!(error.is_string(), "{told}");
            assert_eq!(told["code"], "upstream_failed");
        }
    }
}
