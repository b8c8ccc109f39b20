//! Wrong credentials: so many a minute are told that they are wrong. Nobody else notices.

use crate::house::{FAILURES, House, run};
use crate::wire::{Answer, get, post, with_fields};
use std::time::Duration;

const WELL_FORMED: &str = "sk-hg-0123456789ABCDEFGHIJKLMNOPQRSTUV2NG9Ws";

fn without_key(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: g\r\nx-request-id: t-1\r\n\r\n")
}

#[test]
fn the_one_too_many_is_told_to_wait_and_a_valid_key_passes() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        for _ in 0..3 * FAILURES {
            assert_eq!(client.ask(without_key("/api/tags")).await.status, 401, "no key is no wrong key");
        }
        let bearers = ["wrong", WELL_FORMED, "ollama"].map(|key| format!("Authorization: Bearer {key}\r\n"));
        let mut wrong = bearers.to_vec();
        wrong.push("Authorization: Digest x\r\n".to_owned());
        for number in 0..FAILURES {
            let asked = with_fields("GET", "/api/tags", &wrong[number % 4], "");
            assert_eq!(client.ask(asked).await.status, 401);
        }
        tokio::time::advance(Duration::from_secs(20)).await;
        for wrong in wrong {
            let answer = client.ask(with_fields("GET", "/v1/models", &wrong, "")).await;
            assert_eq!((answer.status, answer.field("retry-after")), (429, Some("40")));
            assert!(answer.text().contains("too_many_failures"), "{}", answer.text());
        }
        assert_eq!(client.ask(post("/api/chat", &house.key, "{}")).await.status, 400, "a valid key passes");
        assert_eq!(client.ask(without_key("/api/tags")).await.status, 401, "without a key as before");
        tokio::time::advance(Duration::from_secs(41)).await;
        assert_eq!(client.ask(get("/api/tags", "wrong")).await.status, 401, "a new minute");
    });
}

#[test]
fn a_placeholder_is_called_one() {
    run(async {
        let house = House::new(1);
        let mut client = house.connect();
        for token in ["ollama", "ollama-local", "sk-xxxxxxxx", "sk-hg-…", "YOUR_API_KEY"] {
            for path in ["/api/tags", "/v1/models"] {
                let answer = client.ask(get(path, token)).await;
                assert_eq!(answer.status, 401);
                let text = answer.text();
                assert!(text.contains("placeholder") && text.contains("invalid_key"), "{token}: {text}");
            }
        }
    });
}

#[test]
fn while_the_store_is_degraded_an_unknown_key_may_be_a_good_one() {
    run(async {
        let house = House::new(1);
        let revoked = house.add_key(|key| key.revoked = Some(2));
        let mut client = house.connect();
        house.shared.store.set_degraded(true);
        for _ in 0..2 * FAILURES {
            let answer = client.ask(get("/api/tags", WELL_FORMED)).await;
            assert_eq!((answer.status, answer.field("retry-after")), (503, Some("5")));
            assert!(answer.text().contains("store_unavailable"), "{}", answer.text());
        }
        let told = async |client: &mut crate::wire::Client, key: &str| -> Answer {
            client.ask(get("/api/tags", key)).await
        };
        assert_eq!(told(&mut client, "malformed").await.status, 401, "503s were no failures");
        assert_eq!(told(&mut client, &revoked).await.status, 401, "a revoked key is known");
        assert_eq!(client.ask(post("/api/chat", &house.key, "{}")).await.status, 400);
        house.shared.store.set_degraded(false);
        assert_eq!(told(&mut client, WELL_FORMED).await.status, 401);
    });
}
