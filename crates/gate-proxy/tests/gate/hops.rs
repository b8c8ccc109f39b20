//! Requests that come by other gates, and those that come back.

use crate::house::{House, run};
use crate::wire::{CHAT, json, with_fields};
use gate_policy::Health;
use gate_types::UpstreamId;

const FIRST: UpstreamId = UpstreamId(0);

fn chat(house: &House, marks: Option<&str>) -> String {
    let hops = marks.map(|marks| format!("Herdgate-Hops: {marks}\r\n")).unwrap_or_default();
    with_fields("POST", "/api/chat", &format!("Authorization: Bearer {}\r\n{hops}", house.key), CHAT)
}

fn mark(house: &House, id: UpstreamId) -> String {
    house.gate().upstream.roster().mark(id).unwrap().to_owned()
}

#[test]
fn what_comes_back_is_refused_and_so_is_the_way_it_went() {
    run(async {
        let house = House::new(2);
        let mut client = house.connect();
        let other = "0123456789abcdef0123456789abcdef";
        let marks = format!("{other},{},{other}", mark(&house, FIRST));
        // Before anything else is looked at: it may have lost its key on the way.
        for marks in [marks.as_str(), &mark(&house, FIRST)] {
            let request = with_fields("POST", "/api/chat", &format!("Herdgate-Hops: {marks}\r\n"), CHAT);
            let answer = client.ask(request).await;
            assert_eq!(answer.status, 503);
            assert!(answer.text().contains("\"code\":\"upstream_loop\""), "{}", answer.text());
            assert!(!answer.text().contains("up0"), "which one is for the log");
        }
        assert!(house.records()[0]["error"].contains("what was sent to http://up0:11434 came back"));
        let health = |id| house.shared.with_fleet(|fleet| fleet.get(id).unwrap().health());
        assert_eq!((health(FIRST), health(UpstreamId(1))), (Health::Loop, Health::Up));
        assert_eq!(house.gate().upstream.roster().returns(FIRST), 2);
        // The other one serves.
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
        let came = "0123456789abcdef0123456789abcdef";
        let both = format!("{came},{}", mark(&house, FIRST));
        for (is_gate, marks, expected) in [
            (false, None, None),
            (false, Some(came), Some(both.clone())),
            (true, None, Some(mark(&house, FIRST))),
            (true, Some(came), Some(both.clone())),
        ] {
            house.gate().upstream.roster().set_gate(FIRST, is_gate);
            client.send(chat(&house, marks)).await;
            let asked = house.accept(0).await.serve(json(200, "{}")).await;
            let sent = asked.head.lines().find_map(|line| line.strip_prefix("Herdgate-Hops: "));
            assert_eq!(sent.map(str::to_owned), expected);
            let answer = client.answer().await;
            assert!(answer.status == 200 && answer.field("herdgate-hops").is_none());
        }
    });
}
