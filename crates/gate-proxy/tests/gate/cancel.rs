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

/// Every route that runs a model, in all dialects.
const ROUTES: [&str; 8] = [
    "/api/generate",
    "/api/chat",
    "/api/embed",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
];

/// Where a request stands when its client leaves.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// A byte of the body is still to come.
    SendingBody,
    /// All slots are taken.
    Queued,
    /// The upstream takes the request slowly.
    SendingOn,
    /// The upstream has the request, and has said nothing.
    Thinking,
    /// A piece of a stream has come.
    Streaming,
    /// A part of an answer that is not streamed has come.
    Answering,
    /// The client has taken nothing of a stream for a while.
    Standing,
    /// An upstream refused, and how is still being read.
    Refused,
    /// The same, for an upstream that could not load the model.
    Crashed,
    /// An upstream failed, and the slots of the other one are taken.
    QueuedAgain,
    /// An upstream failed, and the other one has the request.
    ThinkingAgain,
}

impl Phase {
    const ALL: [Phase; 11] = [
        Phase::SendingBody,
        Phase::Queued,
        Phase::SendingOn,
        Phase::Thinking,
        Phase::Streaming,
        Phase::Answering,
        Phase::Standing,
        Phase::Refused,
        Phase::Crashed,
        Phase::QueuedAgain,
        Phase::ThinkingAgain,
    ];

    /// A gate in which requests get so far.
    fn house(self) -> House {
        let house = House::new(match self {
            _ if self.is_second() => 2,
            _ => 1,
        });
        house.probed(0, &["demo"], &["demo"]);
        match self {
            Phase::Queued | Phase::QueuedAgain => house.change_rules(|rules| rules.queue.slots = 1),
            Phase::SendingOn => house.narrow(0, 256),
            _ => {}
        }
        house
    }

    /// Takes a request of a new client there. Gives the upstreams' connections that are its own.
    async fn reach(self, house: &House, path: &str) -> (Client, Vec<Upstream>) {
        let mut client = house.connect_with(if matches!(self, Phase::Standing) { 512 } else { PIPE });
        let body = match self {
            Phase::SendingOn => CHAT.replace("hi", &"x".repeat(PIPE / 2)),
            _ => CHAT.to_owned(),
        };
        let request = post(path, &house.key, &body);
        if matches!(self, Phase::SendingBody) {
            client.send(&request[..request.len() - 1]).await;
        } else {
            client.send(request).await;
        }
        let upstreams = match self {
            Phase::SendingBody | Phase::Queued => Vec::new(),
            _ => self.answer(house, &mut client).await,
        };
        // Everybody has done what can be done.
        tokio::time::sleep(Duration::from_millis(1)).await;
        (client, upstreams)
    }

    async fn answer(self, house: &House, client: &mut Client) -> Vec<Upstream> {
        let mut upstream = house.accept(0).await;
        let (missing, crashed) = (json(404, MISSING), json(500, CRASHED));
        match self {
            Phase::SendingBody | Phase::Queued | Phase::SendingOn => {}
            Phase::Thinking => {
                upstream.asked().await;
            }
            Phase::Streaming => {
                upstream.serve([STREAM, &chunk("{\"a\":1}\n")].concat()).await;
                client.some().await;
            }
            Phase::Answering => {
                upstream.serve("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"a\":").await;
                client.some().await;
            }
            Phase::Standing => {
                upstream.serve(STREAM).await;
                upstream.send_until_stopped(chunk(&"x".repeat(1000)).as_bytes()).await;
            }
            Phase::Refused => {
                upstream.serve(&missing[..missing.len() - 5]).await;
            }
            Phase::Crashed => {
                upstream.serve(&crashed[..crashed.len() - 5]).await;
            }
            Phase::QueuedAgain => {
                upstream.serve(crashed).await;
                return Vec::new();
            }
            Phase::ThinkingAgain => {
                upstream.serve(crashed).await;
                upstream = house.accept(1).await;
                upstream.asked().await;
            }
        }
        vec![upstream]
    }

    fn is_second(self) -> bool {
        matches!(self, Phase::QueuedAgain | Phase::ThinkingAgain)
    }

    fn holds(self) -> (u32, usize) {
        match self {
            Phase::SendingBody => (0, 0),
            Phase::Queued | Phase::QueuedAgain => (0, 1),
            _ => (1, 0),
        }
    }
}

const MISSING: &str = r#"{"error":"model 'demo' not found"}"#;
const CRASHED: &str = r#"{"error":"llama-server process has terminated: exit status 2"}"#;

/// Requests that have all slots.
async fn take_slots(house: &House, places: usize) -> Vec<(Client, Upstream)> {
    let mut busy = Vec::new();
    for place in 0..places {
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(place).await;
        upstream.asked().await;
        busy.push((client, upstream));
    }
    busy
}

#[test]
fn in_every_phase_and_dialect() {
    run(async {
        for phase in Phase::ALL {
            for (path, how) in ROUTES.into_iter().flat_map(|path| BOTH.map(|how| (path, how))) {
                let house = phase.house();
                let mut busy = match phase {
                    Phase::Queued => take_slots(&house, 1).await,
                    Phase::QueuedAgain => {
                        // The first upstream is free again for the request in question.
                        let mut busy = take_slots(&house, 2).await;
                        let (mut client, mut upstream) = busy.remove(0);
                        upstream.send(json(200, "{}")).await;
                        client.answer().await;
                        client.leave().await;
                        drop(upstream);
                        busy
                    }
                    _ => Vec::new(),
                };
                let (others, records) = (busy.len() as u32, house.records().len());
                let (client, mut upstreams) = phase.reach(&house, path).await;
                let held = || house.in_flight(0) + if phase.is_second() { house.in_flight(1) } else { 0 };
                let (running, waiting) = phase.holds();
                assert_eq!((held(), house.shared.waiting()), (running + others, waiting), "{phase:?}");

                how.leave(client).await;

                for upstream in &mut upstreams {
                    assert_eq!(upstream.closed().await, Duration::ZERO, "{phase:?} {path}: not at once");
                }
                assert_eq!((held(), house.shared.waiting()), (others, 0), "{phase:?} {path}");
                assert_eq!(house.outcome(), ("cancelled".into(), "499".into()), "{phase:?} {path}");
                assert_eq!(house.records().len(), records + 1);
                for (client, upstream) in &mut busy {
                    upstream.send(json(200, "{}")).await;
                    assert_eq!(client.answer().await.status, 200, "the others noticed nothing");
                }
                assert_eq!(held(), 0);
            }
        }
    });
}

#[test]
fn of_many_that_wait_only_those_who_stay_are_served() {
    run(async {
        let house = House::new(1);
        house.change_rules(|rules| rules.queue.slots = 1);
        let mut busy = take_slots(&house, 1).await;
        let mut waiting = Vec::new();
        for n in 0..20 {
            let mut client = house.connect();
            client.send(post("/api/chat", &house.key, &CHAT.replace("hi", &format!("number {n}.")))).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            waiting.push(client);
        }
        assert_eq!(house.shared.waiting(), 20);
        let (leaving, staying): (Vec<_>, Vec<_>) =
            waiting.into_iter().enumerate().partition(|(n, _)| n % 3 != 1);
        for (_, client) in leaving {
            client.leave().await;
        }
        let (mut first, mut upstream) = busy.remove(0);
        upstream.send(json(200, "{}")).await;
        first.answer().await;
        for (n, mut client) in staying {
            let asked = upstream.serve(json(200, "{}")).await;
            assert!(String::from_utf8(asked.body).unwrap().contains(&format!("number {n}.")));
            client.answer().await;
        }
        assert_eq!((house.in_flight(0), house.shared.waiting(), house.dialled(0)), (0, 0, 1));
    });
}

/// The slot comes back and its next owner leaves at the same moment: whoever waits behind it gets it.
#[test]
fn who_is_called_and_leaves_hands_its_turn_on() {
    run(async {
        let house = House::new(1);
        house.change_rules(|rules| rules.queue.slots = 1);
        let mut busy = take_slots(&house, 1).await;
        let (mut second, mut third) = (house.connect(), house.connect());
        for client in [&mut second, &mut third] {
            client.send(post("/api/chat", &house.key, CHAT)).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (first, mut upstream) = busy.remove(0);
        // None of these waits, so the gate learns of both at one turn.
        drop(first);
        second.half_close().await;
        upstream.closed().await;
        house.accept(0).await.serve(json(200, "{}")).await;
        assert_eq!(third.answer().await.status, 200);
        second.some().await;
        assert_eq!((house.in_flight(0), house.shared.waiting()), (0, 0));
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
