//! A key that is unknown is called so only after the store was looked at once more, by a look that began after it came.

use crate::house::{FAILURES, House, run};
use crate::wire::{Answer, get, post};
use gate_keys::{Key, Minted, OsEntropy, mint};
use gate_proxy::Look;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

const STRANGER: &str = "sk-hg-0123456789ABCDEFGHIJKLMNOPQRSTUV2NG9Ws";

/// A house with a store, which is looked after by the test.
pub(crate) struct Watched {
    pub(crate) house: House,
    calls: Arc<AtomicUsize>,
    called: Arc<Notify>,
}

impl Watched {
    pub(crate) fn new() -> Self {
        let (house, calls, called) = (House::new(1), Arc::<AtomicUsize>::default(), Arc::<Notify>::default());
        let (counted, told) = (Arc::clone(&calls), Arc::clone(&called));
        house.shared.store.answer_by(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            told.notify_one();
        });
        Watched { house, calls, called }
    }

    /// Sends a request over a connection of its own.
    pub(crate) fn ask(&self, request: String) -> JoinHandle<Answer> {
        let mut client = self.house.connect();
        tokio::task::spawn_local(async move { client.ask(request).await })
    }

    /// Waits until somebody is called who looks at the store.
    pub(crate) async fn called(&self) {
        self.called.notified().await;
    }

    /// How often somebody was.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn begin(&self) -> Look {
        self.house.shared.store.begin()
    }

    pub(crate) fn end(&self, look: Look) {
        self.house.shared.store.end(look);
    }

    /// A key is in the store that the gate has not read yet.
    fn stored(&self, minted: &Minted, shape: impl Fn(&mut Key) + 'static) {
        let mark = minted.mark.clone();
        self.house.add_key(move |key| {
            (key.digest, key.prefix) = (mark.digest, mark.prefix.clone());
            shape(key);
        });
    }
}

/// Everything that can go on does.
async fn rest() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

async fn answer(asked: JoinHandle<Answer>) -> (u16, String) {
    let answer = asked.await.unwrap();
    (answer.status, answer.text().to_owned())
}

#[test]
fn an_unknown_key_waits_for_a_look_and_a_known_one_does_not() {
    run(async {
        let watched = Watched::new();
        let unknown = watched.ask(get("/api/tags", STRANGER));
        watched.called().await;
        let known = watched.ask(post("/api/chat", &watched.house.key, "{}"));
        assert_eq!(answer(known).await.0, 400);
        assert!(watched.house.shared.store.is_wanted() && !unknown.is_finished());
        let look = watched.begin();
        rest().await;
        assert!(
            !watched.house.shared.store.is_wanted() && !unknown.is_finished(),
            "before the look has ended"
        );
        watched.end(look);
        let (status, text) = answer(unknown).await;
        assert!(status == 401 && text.contains("invalid_key"), "{status}: {text}");
        for malformed in ["ollama", "sk-hg-short"] {
            assert_eq!(answer(watched.ask(get("/api/tags", malformed))).await.0, 401, "no store has that");
        }
        assert_eq!(watched.calls(), 1);
    });
}

#[test]
fn a_key_that_the_look_finds_opens_the_gate() {
    run(async {
        let watched = Watched::new();
        let (made, prolonged) = (mint(&mut OsEntropy).unwrap(), mint(&mut OsEntropy).unwrap());
        // The ring is built anew with each key, by what the cell says then.
        let end = Rc::new(Cell::new(Some(2)));
        let shape = Rc::clone(&end);
        watched.stored(&prolonged, move |key| key.expires = shape.get());
        let asked = [&made, &prolonged].map(|minted| {
            let secret = minted.secret.expose();
            watched.ask(post("/api/chat", secret, "{}"))
        });
        watched.called().await;
        rest().await;
        let look = watched.begin();
        end.set(None);
        watched.stored(&made, |_| {});
        watched.end(look);
        for asked in asked {
            let (status, text) = answer(asked).await;
            assert_eq!(status, 400, "let in, with a body that is no call: {text}");
        }
        assert_eq!(watched.calls(), 1);
    });
}

#[test]
fn revoked_and_expired_keys_take_the_same_way_and_the_same_time() {
    run(async {
        let watched = Watched::new();
        let revoked = watched.house.add_key(|key| key.revoked = Some(2));
        let expired = watched.house.add_key(|key| key.expires = Some(2));
        let mut told = Vec::new();
        for (number, key) in [STRANGER, &revoked, &expired].into_iter().enumerate() {
            let asked = watched.ask(get("/api/tags", key));
            watched.called().await;
            assert_eq!(watched.calls(), number + 1);
            let look = watched.begin();
            watched.end(look);
            told.push(answer(asked).await);
        }
        assert!(told.iter().all(|answer| answer == &told[0] && answer.0 == 401), "{told:?}");
    });
}

#[test]
fn a_store_that_the_look_finds_in_trouble_is_nobodys_failure() {
    run(async {
        let watched = Watched::new();
        let revoked = watched.house.add_key(|key| key.revoked = Some(2));
        for _ in 0..2 * FAILURES {
            let asked = watched.ask(get("/api/tags", STRANGER));
            watched.called().await;
            let look = watched.begin();
            watched.house.shared.store.set_degraded(true);
            watched.end(look);
            let (status, text) = answer(asked).await;
            assert!(status == 503 && text.contains("store_unavailable"), "{status}: {text}");
            watched.house.shared.store.set_degraded(false);
        }
        let asked = [STRANGER, &revoked].map(|key| watched.ask(get("/api/tags", key)));
        watched.called().await;
        rest().await;
        // Noticed by a look that nobody asked for: nobody waits for another.
        watched.house.shared.store.set_degraded(true);
        let [unknown, revoked] = asked;
        assert_eq!((answer(unknown).await.0, answer(revoked).await.0), (503, 401), "a revoked key is known");
        let calls = watched.calls();
        assert_eq!(answer(watched.ask(get("/api/tags", STRANGER))).await.0, 503);
        assert_eq!(watched.calls(), calls, "what is known to fail is not looked at");
    });
}

#[test]
fn nobody_waits_for_longer_than_a_second() {
    run(async {
        let watched = Watched::new();
        let begun = Instant::now();
        let asked = watched.ask(get("/api/tags", STRANGER));
        watched.called().await;
        let never_ends = watched.begin();
        let (status, text) = answer(asked).await;
        assert!(status == 503 && text.contains("store_unavailable"), "{status}: {text}");
        assert_eq!(begun.elapsed().as_secs(), 1);
        watched.end(never_ends);
    });
}

#[test]
fn an_address_with_too_many_failures_costs_no_look() {
    run(async {
        let watched = Watched::new();
        let mut client = watched.house.connect();
        for _ in 0..FAILURES {
            assert_eq!(client.ask(get("/api/tags", "wrong")).await.status, 401);
        }
        let revoked = watched.house.add_key(|key| key.revoked = Some(2));
        for key in [STRANGER, &revoked] {
            assert_eq!(client.ask(get("/api/tags", key)).await.status, 429);
        }
        assert_eq!(watched.calls(), 0);
        tokio::time::advance(Duration::from_secs(61)).await;
        let asked = watched.ask(get("/api/tags", STRANGER));
        watched.called().await;
        let look = watched.begin();
        watched.end(look);
        assert_eq!(answer(asked).await.0, 401, "a new minute");
    });
}

#[test]
fn one_look_answers_all_who_asked_before_it_began_and_nobody_else() {
    run(async {
        let watched = Watched::new();
        let first: Vec<_> = (0..10).map(|_| watched.ask(get("/api/tags", STRANGER))).collect();
        watched.called().await;
        rest().await;
        assert_eq!(watched.calls(), 1, "one call for all of them");
        let look = watched.begin();
        let late = watched.ask(get("/api/tags", STRANGER));
        watched.called().await;
        watched.end(look);
        for asked in first {
            assert_eq!(answer(asked).await.0, 401);
        }
        rest().await;
        assert!(!late.is_finished(), "it came after that look had begun");
        let look = watched.begin();
        watched.end(look);
        assert_eq!(answer(late).await.0, 401);
        assert_eq!(watched.calls(), 2);
    });
}
