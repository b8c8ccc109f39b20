//! Requests that come by other gates, and those that come back.

use crate::house::{House, run};
use crate::wire::{Asked, CHAT, json, with_fields};
use gate_policy::Health;
use gate_types::UpstreamId;
use gate_upstream::Along;

const FIRST: UpstreamId = UpstreamId(0);

fn chat(house: &House, marks: Option<&str>) -> String {
    let hops = marks.map(|marks| format!("Herdgate-Hops: {marks}\r\n")).unwrap_or_default();
    with_fields("POST", "/api/chat", &format!("Authorization: Bearer {}\r\n{hops}", house.key), CHAT)
}

/// The marks that an upstream was sent.
fn marks(asked: &Asked) -> Option<String> {
    asked.head.lines().find_map(|line| line.strip_prefix("Herdgate-Hops: ")).map(str::to_owned)
}

fn health(house: &House, id: UpstreamId) -> Health {
    house.shared.with_fleet(|fleet| fleet.get(id).unwrap().health())
}

const OTHER: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn what_comes_back_is_refused_and_has_the_way_it_went_looked_at() {
    run(async {
        let house = House::new(1);
        house.gate().upstream.roster().set_gate(FIRST, true);
        let mut client = house.connect();
        client.send(chat(&house, None)).await;
        let mut upstream = house.accept(0).await;
        let mark = marks(&upstream.asked().await).unwrap();
        let mut doubts = house.shared.doubts();
        // Before anything else is looked at: it may have lost its key on the way.
        for marks in [format!("{OTHER},{mark},{OTHER}"), mark.clone()] {
            let request = with_fields("POST", "/api/chat", &format!("Herdgate-Hops: {marks}\r\n"), CHAT);
            let answer = house.connect().ask(request).await;
            assert_eq!(answer.status, 503);
            assert!(answer.text().contains("\"code\":\"upstream_loop\""), "{}", answer.text());
            assert!(!answer.text().contains("up0"), "which one is for the log");
        }
        assert!(house.records()[0]["error"].contains("what was sent to http://up0:11434 came back"));
        assert!(doubts.has_changed().unwrap(), "a prober looks now");
        // Anybody may have read the mark: that alone takes nothing out.
        assert_eq!((health(&house, FIRST), house.gate().upstream.roster().returns(FIRST)), (Health::Up, 0));
        upstream.send(json(200, "{}")).await;
        assert_eq!(client.answer().await.status, 200);
        // And whoever read it in a log has a mark that is nobody's.
        doubts.mark_unchanged();
        client.send(chat(&house, Some(&mark))).await;
        let asked = upstream.serve(json(200, "{}")).await;
        assert!(marks(&asked).unwrap().starts_with(&format!("{mark},")), "passed on like any other");
        assert_eq!(client.answer().await.status, 200);
        assert!(!doubts.has_changed().unwrap());
    });
}

#[test]
fn only_a_mark_that_no_gate_passes_on_counts_against_an_upstream() {
    run(async {
        let house = House::new(1);
        let roster = house.gate().upstream.roster();
        let probe = roster.mark(FIRST, Along::Proof).unwrap();
        let back = |mark: &str| with_fields("GET", "/api/version", &format!("Herdgate-Hops: {mark}\r\n"), "");
        let text = probe.to_string();
        assert_eq!(house.connect().ask(back(&text)).await.status, 503);
        assert_eq!(roster.returns(FIRST), 1);
        drop(probe);
        // The same answer as to a mark that never was one.
        let answers = [house.connect().ask(back(&text)).await, house.connect().ask(back(OTHER)).await];
        assert_eq!(answers[0].status, 200);
        assert_eq!(answers[0].text(), answers[1].text());
        assert_eq!(roster.returns(FIRST), 1);
        // Others have seen what a gate passes on: refused, and no more.
        let listing = roster.mark(FIRST, Along::Listing).unwrap();
        assert_eq!(house.connect().ask(back(&listing.to_string())).await.status, 503);
        assert_eq!((roster.returns(FIRST), roster.suspicions(FIRST)), (1, 1));
    });
}

#[test]
fn a_gate_sends_no_mark_on_that_proves_anything() {
    run(async {
        let house = House::new(1);
        house.gate().upstream.roster().set_gate(FIRST, true);
        let came = format!("Herdgate-Hops: {OTHER}\r\n");
        for (method, path) in [("GET", "/api/version"), ("HEAD", "/api/version"), ("GET", "/"), ("HEAD", "/")]
        {
            let mut client = house.connect();
            client.send(with_fields(method, path, &came, "")).await;
            assert_eq!(client.head().await.status, 200, "{method} {path}");
        }
        assert_eq!(house.dialled(0), 0, "nobody behind this gate saw it");
    });
}

#[test]
fn a_way_that_leads_back_is_not_gone_until_a_probe_finds_it_sound() {
    run(async {
        let house = House::new(2);
        let mut client = house.connect();
        house.observe(0, gate_policy::Observation::Looped);
        for _ in 0..5 {
            client.send(chat(&house, None)).await;
            house.accept(1).await.serve(json(200, "{}")).await;
            assert_eq!(client.answer().await.status, 200);
        }
        house.observe(1, gate_policy::Observation::Looped);
        let answer = client.ask(chat(&house, None)).await;
        assert!(answer.status == 503 && answer.text().contains("upstream_loop"), "{}", answer.text());
        house.probed(0, &["demo"], &[]);
        client.send(chat(&house, None)).await;
        house.accept(0).await.serve(json(200, "{}")).await;
        assert_eq!(client.answer().await.status, 200, "a probe found it sound again");
    });
}

#[test]
fn marks_go_along_and_an_ollama_gets_none() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        for (is_gate, came, count) in
            [(false, None, 0), (false, Some(OTHER), 2), (true, None, 1), (true, Some(OTHER), 2)]
        {
            house.gate().upstream.roster().set_gate(FIRST, is_gate);
            client.send(chat(&house, came)).await;
            let asked = house.accept(0).await.serve(json(200, "{}")).await;
            let sent = marks(&asked).unwrap_or_default();
            let sent: Vec<&str> = sent.split(',').filter(|mark| !mark.is_empty()).collect();
            assert_eq!(sent.len(), count, "{sent:?}");
            assert!(came.is_none_or(|came| sent[0] == came), "{sent:?}");
            let answer = client.answer().await;
            assert!(answer.status == 200 && answer.field("herdgate-hops").is_none());
        }
    });
}
