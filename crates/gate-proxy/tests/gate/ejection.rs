//! An upstream that is up and fails all the same: others are asked first, until a trial shows that it is well again.

use crate::house::{House, run};
use crate::wire::{CHAT, Upstream, get, json, post};
use gate_policy::{FAILURES_UNTIL_EJECTED, FIRST_EJECTION, Observation};
use gate_types::{ModelName, Scope, ScopeSet, UpstreamId};
use std::time::Duration;

const BUSY: &str = r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#;
const CRASHED: &str = r#"{"error":"llama-server process has terminated: exit status 2"}"#;
const OTHER: &str = r#"{"model":"other","messages":[{"role":"user","content":"hi"}]}"#;

/// Two upstreams, the first of which is warm and asked first, with the ends of the gate's connections to them.
struct Pair {
    house: House,
    ends: [Option<Upstream>; 2],
}

impl Pair {
    fn new() -> Self {
        let pair = Pair { house: House::new(2), ends: [None, None] };
        pair.look();
        pair
    }

    /// A probe, which both answer well.
    fn look(&self) {
        self.house.probed(0, &["demo", "other"], &["demo", "other"]);
        self.house.probed(1, &["demo", "other"], &[]);
    }

    /// Asks; the first upstream answers so, or breaks off where that is nothing, the second one well. Who was asked.
    async fn ask(&mut self, body: &str, first: &str) -> &'static str {
        let mut client = self.house.connect();
        client.send(post("/api/chat", &self.house.key, body)).await;
        let asked_first = self.is_asked(0).await;
        if asked_first && first.is_empty() {
            self.ends[0] = None;
        } else if asked_first {
            self.ends[0].as_mut().unwrap().send(first).await;
        }
        let asked_second = self.is_asked(1).await;
        if asked_second {
            self.ends[1].as_mut().unwrap().send(json(200, "{}")).await;
        }
        client.answer().await;
        match (asked_first, asked_second) {
            (true, true) => "both",
            (true, false) => "first",
            (false, true) => "second",
            (false, false) => "nobody",
        }
    }

    async fn is_asked(&mut self, place: usize) -> bool {
        let asked = self.house.asked(place, &mut self.ends[place]);
        tokio::time::timeout(Duration::from_millis(1), asked).await.is_ok()
    }

    /// So many times in a row.
    async fn ask_times(&mut self, times: u16, body: &str, first: &str) -> Vec<&'static str> {
        let mut asked = Vec::new();
        for _ in 0..times {
            asked.push(self.ask(body, first).await);
        }
        asked.dedup();
        asked
    }

    /// Whether the first one is, and how many models there.
    fn ejected(&self) -> (bool, usize) {
        self.house.shared.with_fleet(|fleet| {
            let first = fleet.get(UpstreamId(0)).unwrap();
            (first.is_ejected(), first.ejected_models())
        })
    }
}

#[test]
fn who_fails_time_after_time_is_asked_last_until_a_trial_goes_well() {
    run(async {
        let html = "HTTP/1.1 502 Oh\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
        for failure in [json(503, BUSY).as_str(), html, ""] {
            let mut pair = Pair::new();
            assert_eq!(pair.ask_times(FAILURES_UNTIL_EJECTED, CHAT, failure).await, ["both"], "{failure}");
            assert_eq!(pair.ejected(), (true, 0));
            pair.look();
            for body in [CHAT, OTHER] {
                assert_eq!(pair.ask_times(9, body, failure).await, ["second"], "though a probe goes well");
            }
            tokio::time::sleep(FIRST_EJECTION).await;
            pair.look();
            assert_eq!(pair.ask(CHAT, failure).await, "both", "a trial");
            assert_eq!(pair.ask_times(9, CHAT, failure).await, ["second"], "one");
            tokio::time::sleep(FIRST_EJECTION).await;
            pair.look();
            assert_eq!(pair.ask(CHAT, failure).await, "second", "the second time it takes longer");
            tokio::time::sleep(FIRST_EJECTION).await;
            pair.look();
            assert_eq!(pair.ask_times(9, CHAT, &json(200, "{}")).await, ["first"], "well again");
            assert_eq!(pair.ejected(), (false, 0));
        }
    });
}

#[test]
fn a_model_that_cannot_be_loaded_does_not_count_against_the_others() {
    run(async {
        let mut pair = Pair::new();
        let crash = json(500, CRASHED);
        for _ in 0..FAILURES_UNTIL_EJECTED {
            assert_eq!(pair.ask(CHAT, &crash).await, "both");
            assert_eq!(pair.ask(OTHER, &json(200, "{}")).await, "first");
        }
        assert_eq!(pair.ejected(), (false, 1));
        assert_eq!(pair.ask_times(9, CHAT, &crash).await, ["second"]);
        assert_eq!(pair.ask_times(9, OTHER, &json(200, "{}")).await, ["first"]);
    });
}

#[test]
fn what_runs_elsewhere_counts_for_itself_alone() {
    run(async {
        let mut pair = Pair::new();
        let stub = [ModelName::parse("demo").unwrap()];
        pair.house.shared.stubs.learn(UpstreamId(0), &stub);
        pair.house.key = pair.house.add_key(|key| key.scopes = ScopeSet::of(&[Scope::Infer, Scope::Cloud]));
        let failure = json(502, r#"{"error":"bad gateway"}"#);
        pair.ask_times(FAILURES_UNTIL_EJECTED, CHAT, &failure).await;
        assert_eq!(pair.ejected(), (false, 1));
    });
}

#[test]
fn what_is_not_its_fault_never_counts() {
    run(async {
        let mut pair = Pair::new();
        for refusal in [
            json(400, r#"{"error":"invalid think value"}"#),
            json(500, r#"{"error":"option \"num_ctx\" must be of type integer"}"#),
            json(500, r#"{"error":"an error was encountered while running the model: unexpected EOF"}"#),
            json(200, "{}"),
        ] {
            assert_eq!(pair.ask_times(20, CHAT, &refusal).await, ["first"]);
        }
        for _ in 0..20 {
            let mut client = pair.house.connect();
            client.send(post("/api/chat", &pair.house.key, CHAT)).await;
            assert!(pair.is_asked(0).await);
            client.leave().await;
            pair.ends[0] = None;
        }
        assert_eq!(pair.ejected(), (false, 0));
    });
}

#[test]
fn those_that_fail_together_are_one_failure_and_a_success_ends_the_row() {
    run(async {
        let mut pair = Pair::new();
        let (mut clients, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..FAILURES_UNTIL_EJECTED * 2 {
            let mut client = pair.house.connect();
            client.send(post("/api/chat", &pair.house.key, CHAT)).await;
            ends.push(pair.house.accept(0).await);
            clients.push(client);
        }
        for mut end in ends {
            end.serve(json(503, BUSY)).await;
        }
        for client in &mut clients {
            assert!(pair.is_asked(1).await);
            pair.ends[1].as_mut().unwrap().send(json(200, "{}")).await;
            client.answer().await;
        }
        let busy = json(503, BUSY);
        for failures in [FAILURES_UNTIL_EJECTED - 2, FAILURES_UNTIL_EJECTED - 1, FAILURES_UNTIL_EJECTED - 1] {
            assert_eq!(pair.ask_times(failures, CHAT, &busy).await, ["both"]);
            assert_eq!(pair.ask(CHAT, &json(200, "{}")).await, "first");
        }
        assert_eq!(pair.ejected(), (false, 0));
    });
}

#[test]
fn the_last_one_is_asked_whatever_it_does() {
    run(async {
        let mut pair = Pair::new();
        let busy = json(503, BUSY);
        pair.ask_times(FAILURES_UNTIL_EJECTED, CHAT, &busy).await;
        pair.house.observe(1, Observation::ConnectFailed);
        assert_eq!(pair.ask_times(9, CHAT, &busy).await, ["first"], "the other has gone");

        let house = House::new(1);
        let (mut client, mut end) = (house.connect(), None);
        for _ in 0..50 {
            client.send(post("/api/chat", &house.key, CHAT)).await;
            house.asked(0, &mut end).await;
            end.as_mut().unwrap().send(&busy).await;
            assert_eq!(client.answer().await.status, 503);
        }
        let is_ejected = house.shared.with_fleet(|fleet| fleet.get(UpstreamId(0)).unwrap().is_ejected());
        assert!(!is_ejected);
    });
}

#[test]
fn metrics_tell_who_is_ejected() {
    run(async {
        let mut pair = Pair::new();
        pair.ask_times(FAILURES_UNTIL_EJECTED, CHAT, &json(500, CRASHED)).await;
        pair.ask_times(FAILURES_UNTIL_EJECTED, OTHER, &json(503, BUSY)).await;
        let key = pair.house.add_key(|key| key.scopes = ScopeSet::of(&[Scope::Manage]));
        let page = pair.house.connect().ask(get("/metrics", &key)).await;
        for line in [
            r#"herdgate_upstream_ejected{upstream="http://up0:11434"} 1"#,
            r#"herdgate_upstream_ejected_models{upstream="http://up0:11434"} 1"#,
            r#"herdgate_upstream_ejected{upstream="http://up1:11434"} 0"#,
        ] {
            assert!(page.text().lines().any(|told| told == line), "{}", page.text());
        }
    });
}
