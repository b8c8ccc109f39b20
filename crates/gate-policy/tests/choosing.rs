//! Where calls go: a table of cases, and rules that hold for any fleet.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use gate_policy::{
    Ask, Chance, Decision, FAILURES_UNTIL_EJECTED, Fleet, Health, Observation, Verdict, Why, choose,
};
use gate_types::{ModelName, UpstreamId};
use proptest::prelude::*;
use std::time::Instant;

/// More than any case takes, but for those about full upstreams.
const SLOTS: u32 = 100;

/// A call that runs a model.
fn wants(model: Option<&ModelName>) -> Ask<'_> {
    Ask { model, runs_model: true, for_sure: false }
}

fn name(text: &str) -> ModelName {
    ModelName::parse(text).unwrap()
}

fn names(list: &str) -> Vec<ModelName> {
    list.split_whitespace().map(name).collect()
}

/// One upstream from a line `up|down|new|loop; models; loaded; in flight`.
fn fleet(lines: &[&str]) -> Fleet {
    let mut fleet = Fleet::new(u16::try_from(lines.len()).unwrap(), SLOTS);
    for (id, line) in (0..).map(UpstreamId).zip(lines) {
        let [health, models, loaded, in_flight] = line.split(';').map(str::trim).collect::<Vec<_>>()[..]
        else {
            panic!("four fields in {line:?}")
        };
        if health != "new" {
            let version = "0.32.15".to_owned();
            fleet.apply(
                id,
                Observation::Probed { version, models: Some(names(models)), loaded: Some(names(loaded)) },
            );
        }
        if health == "down" {
            fleet.apply(id, Observation::ConnectFailed);
        }
        if health == "loop" {
            fleet.apply(id, Observation::Looped);
        }
        for _ in 0..in_flight.parse::<u32>().unwrap() {
            fleet.start(id, true);
        }
    }
    fleet
}

#[test]
fn the_table() {
    let send = |id| Decision::Send(UpstreamId(id));
    let cases: &[(&str, &[&str], &[u16], Decision)] = &[
        ("the only one", &["up; m; ; 0"], &[], send(0)),
        ("the one that has it", &["up; x; ; 0", "up; m; ; 9"], &[], send(1)),
        ("warm beats less busy", &["up; m; ; 0", "up; m; m; 9"], &[], send(1)),
        ("the less busy of two warm", &["up; m; m; 3", "up; m; m; 2"], &[], send(1)),
        ("the less busy of two cold", &["up; m; ; 3", "up; m; ; 2"], &[], send(1)),
        ("up beats down with the same", &["down; m; ; 0", "up; m; ; 50"], &[], send(1)),
        ("the only holder is tried though down", &["up; x; ; 0", "down; m; ; 0"], &[], send(1)),
        ("then the one that may have got it", &["up; x; ; 0", "down; m; ; 0"], &[1], send(0)),
        ("nobody has it: the less busy", &["up; x; ; 2", "up; y; ; 1"], &[], send(1)),
        ("nobody has it: up before down", &["down; x; ; 0", "up; y; ; 7"], &[], send(1)),
        ("a new one may have it", &["down; x; ; 0", "new; ; ; 0"], &[], send(1)),
        ("all down: still one", &["down; x; ; 0"], &[], send(0)),
        ("a tried one is not tried again", &["up; m; m; 0", "up; m; ; 5"], &[0], send(1)),
        ("all tried", &["up; m; ; 0", "up; m; ; 0"], &[0, 1], Decision::Reject(Why::AllTried)),
        ("what is down before what leads back", &["loop; m; ; 0", "down; ; ; 9"], &[], send(1)),
        ("whatever is left leads back", &["up; m; ; 0", "loop; m; m; 0"], &[0], Decision::Reject(Why::Loop)),
        ("none at all", &[], &[], Decision::Reject(Why::NoUpstream)),
        ("a full one is no candidate", &["up; m; ; 100", "up; m; ; 99"], &[], send(1)),
        (
            "a cold one with a free slot before a warm one without",
            &["up; m; m; 100", "up; m; ; 5"],
            &[],
            send(1),
        ),
        ("the warm one as long as it has one", &["up; m; m; 99", "up; m; ; 5"], &[], send(0)),
        ("no guess while those that have it are full", &["up; m; ; 100", "up; x; ; 0"], &[], Decision::Wait),
        (
            "nothing that is down while those that are up are full",
            &["up; m; ; 100", "down; m; ; 0"],
            &[],
            Decision::Wait,
        ),
        ("those that may have it are full, too", &["up; x; ; 100", "down; x; ; 0"], &[], Decision::Wait),
        ("the full one was tried", &["up; m; ; 100", "up; m; ; 100", "up; m; ; 3"], &[0], send(2)),
    ];
    for (case, lines, tried, expected) in cases {
        let tried: Vec<_> = tried.iter().copied().map(UpstreamId).collect();
        let model = name("m");
        let got = choose(&fleet(lines), &wants(Some(&model)), &tried, &mut Chance::seeded(1));
        assert_eq!(got, *expected, "{case}");
    }
}

#[test]
fn what_needs_no_slot_goes_to_a_full_one() {
    let fleet = fleet(&["up; m; ; 100", "up; x; ; 0"]);
    let model = name("m");
    let ask = Ask { runs_model: false, ..wants(Some(&model)) };
    assert_eq!(choose(&fleet, &ask, &[], &mut Chance::seeded(1)), Decision::Send(UpstreamId(0)));
}

/// Fails so often in a row that it is ejected.
fn eject(fleet: &mut Fleet, id: u16, model: Option<&str>) {
    for n in 1..=FAILURES_UNTIL_EJECTED {
        let model = model.map(name);
        let before = fleet.get(UpstreamId(id)).unwrap().failures_of(model.as_ref());
        let verdict = fleet.failed(UpstreamId(id), model.as_ref(), before, Instant::now());
        let expected = if n < FAILURES_UNTIL_EJECTED { Verdict::AsBefore } else { Verdict::Ejected };
        assert_eq!(verdict, expected);
    }
}

#[test]
fn who_is_ejected_is_asked_after_all_others_of_its_kind() {
    let send = |id| Decision::Send(UpstreamId(id));
    let cases: &[(&str, &[&str], &[u16], Decision)] = &[
        ("a busy, cold one before it", &["up; m; m; 0", "up; m; ; 99"], &[], send(1)),
        ("even if that has to be waited for", &["up; m; m; 0", "up; m; ; 100"], &[], Decision::Wait),
        ("where the other was tried", &["up; m; m; 0", "up; m; ; 0"], &[1], send(0)),
        ("before one that is down", &["up; m; m; 0", "up; m; ; 0", "down; m; ; 0"], &[1], send(0)),
        ("before one that may have the model", &["up; m; m; 0", "up; m; ; 0", "up; x; ; 0"], &[1], send(0)),
    ];
    let model = name("m");
    for (case, lines, tried, expected) in cases {
        let tried: Vec<_> = tried.iter().copied().map(UpstreamId).collect();
        for of_model in [None, Some("m")] {
            let mut fleet = fleet(lines);
            eject(&mut fleet, 0, of_model);
            let decide = |ask| choose(&fleet, &ask, &tried, &mut Chance::seeded(1));
            assert_eq!(decide(wants(Some(&model))), *expected, "{case}");
            let looks = Ask { runs_model: false, ..wants(Some(&model)) };
            assert_eq!(decide(looks), send(0), "what runs no model is not kept from it");
        }
    }
}

#[test]
fn a_model_that_fails_at_one_upstream_says_nothing_of_the_others_there() {
    let mut fleet = fleet(&["up; m n; m n; 0", "up; m n; ; 0"]);
    eject(&mut fleet, 0, Some("m"));
    let (m, n) = (name("m"), name("n"));
    let decide = |model| choose(&fleet, &wants(Some(model)), &[], &mut Chance::seeded(1));
    assert_eq!((decide(&m), decide(&n)), (Decision::Send(UpstreamId(1)), Decision::Send(UpstreamId(0))));
    let one = fleet.get(UpstreamId(0)).unwrap();
    assert_eq!((one.is_ejected(), one.ejected_models()), (false, 1));
}

#[test]
fn nobody_is_ejected_where_nobody_else_could_serve() {
    for (lines, model) in [
        (&["up; m; m; 0"][..], None),
        (&["up; m; m; 0", "down; m; ; 0"], None),
        (&["up; m; m; 0", "up; x; ; 0"], Some("m")),
    ] {
        let (mut fleet, model) = (fleet(lines), model.map(name));
        for _ in 0..100 {
            let before = fleet.get(UpstreamId(0)).unwrap().failures_of(model.as_ref());
            let verdict = fleet.failed(UpstreamId(0), model.as_ref(), before, Instant::now());
            assert_eq!(verdict, Verdict::AsBefore);
        }
    }
}

#[test]
fn where_it_must_be_sure_nobody_is_guessed_at() {
    let model = name("m");
    let ask = Ask { for_sure: true, ..wants(Some(&model)) };
    let decide = |lines: &[&str]| choose(&fleet(lines), &ask, &[UpstreamId(0)], &mut Chance::seeded(1));
    let nobody = Decision::Reject(Why::AllTried);
    assert_eq!(decide(&["up; m; ; 0", "up; x; ; 0", "down; m; ; 0", "new; ; ; 0"]), nobody);
    assert_eq!(decide(&["up; m; ; 0", "up; m; ; 0"]), Decision::Send(UpstreamId(1)));
    assert_eq!(decide(&["up; m; ; 0", "up; m; ; 100"]), Decision::Wait);
}

#[test]
fn without_a_model_health_and_load_decide() {
    let fleet = fleet(&["down; m; ; 0", "up; m; m; 3", "up; ; ; 2"]);
    assert_eq!(choose(&fleet, &Ask::default(), &[], &mut Chance::seeded(1)), Decision::Send(UpstreamId(2)));
}

#[test]
fn equals_share_evenly() {
    let fleet = fleet(&["up; m; ; 1", "up; m; ; 1", "up; m; ; 1"]);
    let (model, mut chance) = (name("m"), Chance::seeded(42));
    let mut got = [0; 3];
    for _ in 0..3_000 {
        let Decision::Send(id) = choose(&fleet, &wants(Some(&model)), &[], &mut chance) else {
            panic!("three are up")
        };
        got[id.index()] += 1;
    }
    assert!(got.iter().all(|count| (850..1150).contains(count)), "{got:?}");
}

const MODELS: [&str; 3] = ["a", "b", "c"];

prop_compose! {
    fn any_upstream()(
        steps in prop::collection::vec(any_observation(), 0..5),
        in_flight in 0u32..4,
    ) -> (Vec<Observation>, u32) {
        (steps, in_flight)
    }
}

fn some_models() -> impl Strategy<Value = Vec<ModelName>> {
    prop::sample::subsequence(MODELS.to_vec(), 0..=3).prop_map(|list| list.into_iter().map(name).collect())
}

fn any_observation() -> impl Strategy<Value = Observation> {
    prop_oneof![
        3 => (prop::option::of(some_models()), prop::option::of(some_models())).prop_map(|(models, loaded)| {
            Observation::Probed { version: "0.32.15".to_owned(), models, loaded }
        }),
        1 => Just(Observation::ProbeFailed),
        1 => Just(Observation::ConnectFailed),
        1 => Just(Observation::Answered),
        1 => Just(Observation::Looped),
        1 => prop::sample::select(&MODELS[..]).prop_map(|model| Observation::ModelMissing(name(model))),
    ]
}

proptest! {
    #[test]
    fn rules_of_choosing(
        upstreams in prop::collection::vec(any_upstream(), 0..6),
        model in prop::option::of(prop::sample::select(&MODELS[..])),
        tried in prop::collection::vec(0u16..8, 0..4),
        seed: u64,
    ) {
        let mut fleet = Fleet::new(u16::try_from(upstreams.len()).unwrap(), SLOTS);
        for (id, (seen, in_flight)) in (0..).map(UpstreamId).zip(upstreams) {
            for observation in seen {
                fleet.apply(id, observation);
            }
            for _ in 0..in_flight {
                fleet.start(id, true);
            }
        }
        let tried: Vec<_> = tried.into_iter().map(UpstreamId).collect();
        let model = model.map(name);
        let decision = choose(&fleet, &wants(model.as_ref()), &tried, &mut Chance::seeded(seed));
        prop_assert_eq!(
            decision,
            choose(&fleet, &wants(model.as_ref()), &tried, &mut Chance::seeded(seed)),
            "the same seed decides the same"
        );
        let open: Vec<_> = fleet.iter().filter(|(id, _)| !tried.contains(id)).collect();
        let Decision::Send(id) = decision else {
            prop_assert!(open.iter().all(|(_, other)| other.health() == Health::Loop));
            prop_assert_eq!(decision == Decision::Reject(Why::NoUpstream), fleet.is_empty());
            return Ok(());
        };
        let open: Vec<_> = open.into_iter().filter(|(_, other)| other.health() != Health::Loop).collect();
        prop_assert!(!tried.contains(&id), "never one that was tried");
        let chosen = fleet.get(id).unwrap();
        prop_assert!(chosen.health() != Health::Loop, "never one that leads back");
        let is_up = |upstream: &gate_policy::Upstream| upstream.health() != Health::Down;
        let Some(model) = model else {
            prop_assert!(is_up(chosen) || open.iter().all(|(_, other)| !is_up(other)), "up before down");
            return Ok(());
        };
        let holders: Vec<_> = open.iter().filter(|(_, other)| is_up(other) && other.has(&model)).collect();
        if !holders.is_empty() {
            prop_assert!(is_up(chosen) && chosen.has(&model), "one that is up and has it");
            let warm: Vec<_> = holders.iter().filter(|(_, other)| other.is_warm(&model)).collect();
            prop_assert!(chosen.is_warm(&model) || warm.is_empty(), "warm before cold");
            let rivals = if warm.is_empty() { holders.iter().collect() } else { warm };
            let least = rivals.iter().map(|(_, other)| other.in_flight()).min().unwrap();
            prop_assert_eq!(chosen.in_flight(), least, "fewest in flight among equals");
        } else if !open.iter().any(|(_, other)| other.has(&model)) {
            prop_assert!(is_up(chosen) || open.iter().all(|(_, other)| !is_up(other)), "nobody has it: up before down");
        }
    }
}
