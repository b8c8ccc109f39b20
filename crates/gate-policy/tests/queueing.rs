//! Who waits and who is next: cases, and rules that hold for any run.

#![expect(clippy::unwrap_used, reason = "a test may")]

use gate_policy::{
    Ask, Chance, Decision, Entered, FAILURES_UNTIL_EJECTED, FIRST_EJECTION, Fleet, Grant, Health,
    Observation, Queue, Standing, Ticket, Verdict, Why, choose,
};
use gate_types::{ModelName, UpstreamId};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

fn name(text: &str) -> ModelName {
    ModelName::parse(text).unwrap()
}

fn ask(model: &ModelName) -> Ask<'_> {
    Ask { model: Some(model), runs_model: true, for_sure: false }
}

fn probed(models: &[&str]) -> Observation {
    let models = models.iter().map(|text| name(text)).collect();
    Observation::Probed { version: "0.32.15".to_owned(), models: Some(models), loaded: None }
}

/// A fleet with its queue, as the gate owns them.
struct Desk {
    fleet: Fleet,
    queue: Queue<&'static str>,
    chance: Chance,
}

impl Desk {
    /// Upstreams with these models and one slot each.
    fn new(models: &[&[&str]]) -> Self {
        let mut fleet = Fleet::new(u16::try_from(models.len()).unwrap(), 1);
        for (id, models) in (0..).map(UpstreamId).zip(models) {
            fleet.apply(id, probed(models));
        }
        Desk { fleet, queue: Queue::default(), chance: Chance::seeded(1) }
    }

    fn enter(&mut self, model: &str, depth: usize) -> Entered {
        self.queue.enter(&mut self.fleet, &ask(&name(model)), depth, &mut self.chance)
    }

    /// One that must wait, and what it is to be called by.
    fn wait(&mut self, model: &str, word: &'static str) -> Ticket {
        let Entered::Waiting(ticket) = self.enter(model, usize::MAX) else {
            unreachable!("{word} need not wait")
        };
        assert_eq!(self.queue.standing(ticket, |left| *left = Some(word)), Standing::Waiting);
        ticket
    }

    fn call(&mut self, freed: Option<UpstreamId>) -> Vec<&'static str> {
        let mut called = Vec::new();
        self.queue.call_next(&mut self.fleet, freed, &mut self.chance, &mut called);
        called
    }

    fn finish(&mut self, id: u16) -> Vec<&'static str> {
        let freed = self.fleet.finish(UpstreamId(id), true);
        if freed { self.call(Some(UpstreamId(id))) } else { Vec::new() }
    }

    /// Where its turn is.
    fn granted(&mut self, ticket: Ticket) -> UpstreamId {
        match self.standing(ticket) {
            Standing::Granted(grant) => grant.id,
            other => unreachable!("{other:?}"),
        }
    }

    fn standing(&mut self, ticket: Ticket) -> Standing {
        self.queue.standing(ticket, |_| {})
    }
}

#[test]
fn the_first_to_come_is_the_first_to_be_served() {
    let mut desk = Desk::new(&[&["m"]]);
    assert!(matches!(desk.enter("m", 0), Entered::Granted(Grant { id: UpstreamId(0), .. })));
    let first = desk.wait("m", "first");
    desk.wait("m", "second");
    assert_eq!(desk.queue.len(), 2);
    assert_eq!(desk.finish(0), ["first"]);
    assert_eq!(desk.granted(first), UpstreamId(0));
    assert_eq!(desk.standing(first), Standing::Ended, "told once");
    assert!(matches!(desk.enter("m", 9), Entered::Waiting(_)), "nobody overtakes");
    assert_eq!(desk.finish(0), ["second"]);
}

#[test]
fn who_can_go_nowhere_does_not_hold_up_those_behind() {
    let mut desk = Desk::new(&[&["a"], &["b"]]);
    for model in ["a", "b"] {
        assert!(matches!(desk.enter(model, 0), Entered::Granted(_)));
    }
    desk.wait("a", "for a");
    desk.wait("b", "for b");
    assert_eq!(desk.finish(1), ["for b"]);
    assert!(desk.queue.len() == 1 && desk.finish(0) == ["for a"]);
}

#[test]
fn a_full_queue_takes_nobody_but_who_need_not_wait() {
    let mut desk = Desk::new(&[&["a"], &["b"]]);
    desk.enter("a", 0);
    assert_eq!(desk.enter("a", 0), Entered::Full);
    desk.wait("a", "one");
    assert_eq!(desk.enter("a", 1), Entered::Full);
    assert!(matches!(desk.enter("b", 1), Entered::Granted(Grant { id: UpstreamId(1), .. })));
}

#[test]
fn who_leaves_gives_back_even_what_was_given_a_moment_ago() {
    let mut desk = Desk::new(&[&["m"]]);
    desk.enter("m", 0);
    let (first, second) = (desk.wait("m", "first"), desk.wait("m", "second"));
    desk.wait("m", "third");
    assert_eq!(desk.queue.leave(&mut desk.fleet, second), None);
    assert_eq!(desk.finish(0), ["first"]);
    assert_eq!(desk.queue.leave(&mut desk.fleet, first), Some(UpstreamId(0)));
    assert_eq!(desk.call(Some(UpstreamId(0))), ["third"]);
    assert_eq!(desk.fleet.get(UpstreamId(0)).unwrap().running(), 1);
}

#[test]
fn a_second_try_keeps_its_place_and_needs_no_room() {
    let mut desk = Desk::new(&[&["m"], &["m"]]);
    let Entered::Granted(Grant { ticket, id: first, .. }) = desk.enter("m", 0) else { unreachable!() };
    let Entered::Granted(Grant { id: other, .. }) = desk.enter("m", 0) else { unreachable!() };
    let newcomer = desk.wait("m", "newcomer");
    // Its slot goes back before it asks for another one.
    desk.fleet.finish(first, true);
    let again = desk.queue.enter_again(&mut desk.fleet, ticket, &ask(&name("m")), &[first], &mut desk.chance);
    assert_eq!(again, Entered::Waiting(ticket));
    desk.queue.standing(ticket, |left| *left = Some("again"));
    assert_eq!(desk.call(Some(first)), ["newcomer"], "it may go where the other has failed");
    assert_eq!(desk.granted(newcomer), first);
    desk.wait("m", "later");
    assert_eq!(desk.finish(other.0), ["again"], "before all who came after it");
    assert_eq!(desk.granted(ticket), other);
}

#[test]
fn who_waits_hears_of_what_changed() {
    let mut desk = Desk::new(&[&["m"], &["x"]]);
    desk.enter("m", 0);
    desk.wait("m", "one");
    desk.wait("m", "two");
    assert_eq!(desk.call(None), [""; 0]);
    desk.fleet.apply(UpstreamId(1), probed(&["m"]));
    assert_eq!(desk.call(None), ["one"], "another one has got the model");
    desk.fleet.set_slots(2);
    assert_eq!(desk.call(None), ["two"]);
}

#[test]
fn who_waits_for_one_that_is_sure_hears_that_it_is_not() {
    let mut desk = Desk::new(&[&["m"], &["m"]]);
    desk.enter("m", 0);
    desk.enter("m", 0);
    let model = name("m");
    let sure = Ask { for_sure: true, ..ask(&model) };
    let Entered::Waiting(ticket) =
        desk.queue.enter_again(&mut desk.fleet, Ticket::default(), &sure, &[UpstreamId(0)], &mut desk.chance)
    else {
        unreachable!()
    };
    desk.fleet.apply(UpstreamId(1), Observation::ConnectFailed);
    desk.call(None);
    assert_eq!(desk.standing(ticket), Standing::Rejected(Why::AllTried));
}

#[test]
fn a_slot_that_nobody_waits_for_costs_no_choosing() {
    // Two that are equal: whoever chooses between them rolls the dice.
    let mut desk = Desk::new(&[&["m"], &["m"], &["other"]]);
    desk.enter("m", 0);
    desk.enter("m", 0);
    for _ in 0..1000 {
        desk.wait("m", "m");
    }
    desk.enter("other", 0);
    let dice = format!("{:?}", desk.chance);
    assert_eq!(desk.finish(2), [""; 0]);
    assert_eq!(format!("{:?}", desk.chance), dice, "a full one has a slot again, but not for them");
    assert!(!desk.fleet.finish(UpstreamId(2), false), "what ran no model gives no slot back");
    desk.fleet.set_slots(3);
    desk.call(None);
    desk.enter("other", 0);
    assert!(!desk.fleet.finish(UpstreamId(2), true), "one that had slots all the time has nothing new");
    assert_eq!(desk.finish(1), ["m"]);
}

#[test]
fn with_a_trial_under_way_those_behind_are_looked_at_anew() {
    let mut desk = Desk::new(&[&["m"], &["m"]]);
    let begun = Instant::now();
    for id in [UpstreamId(0), UpstreamId(1)] {
        for _ in 0..FAILURES_UNTIL_EJECTED {
            let before = desk.fleet.get(id).unwrap().failures_of(None);
            desk.fleet.failed(id, None, before, begun);
        }
        desk.enter("m", 0);
    }
    desk.fleet.review(UpstreamId(1), begun + FIRST_EJECTION);
    desk.wait("m", "trial");
    desk.wait("m", "behind");
    assert_eq!(desk.finish(0), [""; 0], "the other one is no longer ejected, and worth waiting for");
    assert_eq!(desk.finish(1), ["trial", "behind"]);
}

#[derive(Debug, Clone)]
enum Step {
    Enter(usize),
    /// The n-th of those that run ends.
    Finish(usize),
    /// The n-th of those that run goes to another upstream.
    Again(usize),
    /// The n-th of those that run fails, by its upstream's fault or by its model's there.
    Fail(usize, bool),
    /// The n-th of those that run is served.
    Serve(usize),
    /// Time goes by.
    Look(u16),
    /// The n-th of those that wait leaves.
    Leave(usize),
    Up(u16, Vec<&'static str>),
    Down(u16),
}

const MODELS: [&str; 3] = ["a", "b", "c"];
const UPSTREAMS: u16 = 3;

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..MODELS.len()).prop_map(Step::Enter),
        4 => any::<usize>().prop_map(Step::Finish),
        1 => any::<usize>().prop_map(Step::Again),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(n, of_model)| Step::Fail(n, of_model)),
        1 => any::<usize>().prop_map(Step::Serve),
        2 => (0..UPSTREAMS).prop_map(Step::Look),
        1 => any::<usize>().prop_map(Step::Leave),
        1 => (0..UPSTREAMS, prop::sample::subsequence(MODELS.to_vec(), 0..=3))
            .prop_map(|(id, models)| Step::Up(id, models)),
        1 => (0..UPSTREAMS).prop_map(Step::Down),
    ]
}

/// What a run must keep, beside the machine itself.
struct Run {
    desk: Desk,
    slots: u32,
    depth: usize,
    /// Those that run: where, for what, and what they tried before.
    running: Vec<(Grant, usize, Vec<UpstreamId>)>,
    now: Instant,
    waiting: BTreeMap<Ticket, (usize, Vec<UpstreamId>)>,
    entered: usize,
    ended: usize,
}

impl Run {
    fn take(&mut self, step: Step) {
        let freed = match step {
            Step::Enter(model) => {
                self.enter(model);
                return;
            }
            Step::Finish(_) | Step::Again(_) | Step::Fail(..) | Step::Serve(_) if self.running.is_empty() => {
                return;
            }
            Step::Finish(n) => {
                let (Grant { id, .. }, ..) = self.running.swap_remove(n % self.running.len());
                self.ended += 1;
                if !self.desk.fleet.finish(id, true) {
                    return;
                }
                Some(id)
            }
            Step::Fail(n, of_model) => {
                let (Grant { id, begun, .. }, model, _) = self.running[n % self.running.len()];
                let model = of_model.then(|| name(MODELS[model]));
                let verdict = self.desk.fleet.failed(id, model.as_ref(), begun.failures, self.now);
                self.judged(verdict);
                self.take(Step::Finish(n));
                return;
            }
            Step::Serve(n) => {
                let (Grant { id, .. }, model, _) = self.running[n % self.running.len()];
                let verdict = self.desk.fleet.served(id, Some(&name(MODELS[model])));
                self.judged(verdict);
                return;
            }
            Step::Look(id) => {
                self.now += Duration::from_secs(7);
                self.desk.fleet.review(UpstreamId(id), self.now);
                None
            }
            Step::Again(n) => {
                let (Grant { ticket, id, .. }, model, mut tried) =
                    self.running.swap_remove(n % self.running.len());
                tried.push(id);
                let freed = self.desk.fleet.finish(id, true);
                self.again(ticket, model, tried);
                if !freed {
                    return;
                }
                Some(id)
            }
            Step::Leave(_) if self.waiting.is_empty() => return,
            Step::Leave(n) => {
                let ticket = *self.waiting.keys().nth(n % self.waiting.len()).unwrap();
                self.waiting.remove(&ticket);
                assert_eq!(self.desk.queue.leave(&mut self.desk.fleet, ticket), None);
                self.ended += 1;
                return;
            }
            Step::Up(id, models) => {
                self.desk.fleet.apply(UpstreamId(id), probed(&models));
                None
            }
            Step::Down(id) => {
                self.desk.fleet.apply(UpstreamId(id), Observation::ConnectFailed);
                None
            }
        };
        self.call(freed);
    }

    fn enter(&mut self, model: usize) {
        let waiting = self.desk.queue.len();
        match self.desk.enter(MODELS[model], self.depth) {
            Entered::Granted(grant) => {
                self.entered += 1;
                self.granted(grant, model, Vec::new());
            }
            Entered::Waiting(ticket) => {
                assert!(waiting < self.depth, "above the depth");
                self.entered += 1;
                self.waiting.insert(ticket, (model, Vec::new()));
            }
            Entered::Full => assert!(waiting >= self.depth),
            Entered::Rejected(_) => unreachable!("there is always somebody"),
        }
    }

    fn again(&mut self, ticket: Ticket, model: usize, tried: Vec<UpstreamId>) {
        let model_name = name(MODELS[model]);
        let desk = &mut self.desk;
        match desk.queue.enter_again(&mut desk.fleet, ticket, &ask(&model_name), &tried, &mut desk.chance) {
            Entered::Granted(grant) => {
                assert_eq!(grant.ticket, ticket);
                self.granted(grant, model, tried);
            }
            Entered::Waiting(same) => {
                assert_eq!(same, ticket);
                self.waiting.insert(ticket, (model, tried));
            }
            Entered::Full => unreachable!("it is no newcomer"),
            Entered::Rejected(_) => self.ended += 1,
        }
    }

    fn judged(&mut self, verdict: Verdict) {
        if verdict != Verdict::AsBefore {
            self.call(None);
        }
    }

    fn granted(&mut self, grant: Grant, model: usize, tried: Vec<UpstreamId>) {
        let (fleet, id) = (&self.desk.fleet, grant.id);
        assert!(!tried.contains(&id));
        let chosen = fleet.get(id).unwrap();
        let wanted = name(MODELS[model]);
        let better = fleet.iter().any(|(other, upstream)| {
            !tried.contains(&other) && upstream.health() == Health::Up && upstream.has(&wanted)
        });
        assert!(!better || chosen.health() == Health::Up, "one that is down before one that is up");
        self.running.push((grant, model, tried));
    }

    fn call(&mut self, freed: Option<UpstreamId>) {
        self.desk.call(freed);
        let mut served = Vec::new();
        for (ticket, (model, tried)) in std::mem::take(&mut self.waiting) {
            match self.desk.standing(ticket) {
                Standing::Waiting => {
                    self.waiting.insert(ticket, (model, tried));
                }
                Standing::Granted(grant) => {
                    served.push((ticket, model, tried.clone()));
                    self.granted(grant, model, tried);
                }
                Standing::Rejected(_) => self.ended += 1,
                Standing::Ended => unreachable!("a ticket that waits has not ended"),
            }
        }
        for (ticket, model, tried) in served {
            let overtaken = self.waiting.iter().any(|(earlier, (other, tried_there))| {
                *earlier < ticket && *other == model && *tried_there == tried
            });
            assert!(!overtaken, "a later one of two that want the same was served");
        }
    }

    fn check(&self) {
        for (_, upstream) in self.desk.fleet.iter() {
            assert!(upstream.running() <= self.slots, "above the slots");
        }
        let running: u32 = self.desk.fleet.iter().map(|(_, upstream)| upstream.running()).sum();
        assert_eq!(running as usize, self.running.len(), "nobody runs unknown");
        assert_eq!(self.waiting.len(), self.desk.queue.len());
        for (model, tried) in self.waiting.values() {
            let model = name(MODELS[*model]);
            let decision = choose(&self.desk.fleet, &ask(&model), tried, &mut Chance::seeded(0));
            assert_eq!(decision, Decision::Wait, "one waits who could be served");
        }
        assert_eq!(self.entered, self.ended + self.running.len() + self.waiting.len());
    }
}

proptest! {
    #[test]
    fn rules_of_the_queue(
        slots in 1u32..4,
        depth in 0usize..6,
        models in prop::collection::vec(prop::sample::subsequence(MODELS.to_vec(), 0..=3), UPSTREAMS as usize),
        steps in prop::collection::vec(any_step(), 0..200),
        seed: u64,
    ) {
        let models: Vec<&[&str]> = models.iter().map(Vec::as_slice).collect();
        let mut desk = Desk::new(&models);
        desk.fleet.set_slots(slots);
        desk.chance = Chance::seeded(seed);
        let mut run = Run {
            desk, slots, depth, running: Vec::new(), now: Instant::now(), waiting: BTreeMap::new(), entered: 0, ended: 0,
        };
        for step in steps {
            run.take(step);
            run.check();
        }
        // However it stands: once everybody who runs ends, everybody who waits is served, and nothing is left behind.
        while !run.running.is_empty() {
            run.take(Step::Finish(0));
            run.check();
        }
        prop_assert_eq!(run.desk.queue.len(), 0, "somebody starves");
        prop_assert_eq!(run.entered, run.ended);
    }
}
