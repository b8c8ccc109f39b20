//! Which upstream is asked: one that has the model, loaded before cold, then the one with the fewest requests in flight.

use crate::house::{House, run};
use crate::wire::{CHAT, Client, json, post};

/// Starts a request and tells which upstream got it.
async fn asked(house: &House, body: &str) -> (Client, usize) {
    let before: Vec<u32> = (0..3).map(|place| house.in_flight(place)).collect();
    let mut client = house.connect();
    client.send(post("/api/chat", &house.key, body)).await;
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        if let Some(place) = (0..3).find(|&place| house.in_flight(place) > before[place]) {
            return (client, place);
        }
    }
}

#[test]
fn the_one_that_has_the_model_loaded() {
    run(async {
        let house = House::new(3);
        house.probed(2, &["demo"], &["demo"]);
        for _ in 0..5 {
            let (client, place) = asked(&house, CHAT).await;
            assert_eq!(place, 2);
            client.leave().await;
        }
    });
}

#[test]
fn one_that_has_the_model_at_all() {
    run(async {
        let house = House::new(3);
        house.probed(1, &["demo", "qwen3:8b"], &[]);
        let mut kept = Vec::new();
        for _ in 0..4 {
            let (client, place) = asked(&house, r#"{"model":"qwen3:8b"}"#).await;
            assert_eq!(place, 1, "however much it has to do");
            kept.push(client);
        }
    });
}

#[test]
fn the_one_with_the_fewest_in_flight() {
    run(async {
        let house = House::new(3);
        let mut kept = Vec::new();
        for round in 1..=4 {
            for _ in 0..3 {
                kept.push(asked(&house, CHAT).await);
            }
            assert!((0..3).all(|place| house.in_flight(place) == round), "all have the same load");
        }
        let (client, place) = kept.swap_remove(4);
        client.leave().await;
        assert_eq!(asked(&house, CHAT).await.1, place, "the one that got rid of a request");
    });
}

#[test]
fn a_place_is_free_again_when_the_answer_is_out() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        client.send(post("/api/chat", &house.key, CHAT)).await;
        let mut upstream = house.accept(0).await;
        upstream.asked().await;
        assert_eq!(house.in_flight(0), 1);
        upstream.send(json(200, "{}")).await;
        client.answer().await;
        assert_eq!(house.in_flight(0), 0);
    });
}
