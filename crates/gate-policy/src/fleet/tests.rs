//! What observations make of the fleet.

use super::*;
use proptest::prelude::*;

const ONE: UpstreamId = UpstreamId(0);

fn name(text: &str) -> ModelName {
    ModelName::parse(text).unwrap()
}

/// What any of them has, each once.
fn names(fleet: &Fleet) -> Vec<ModelName> {
    let all: Vec<_> = fleet.iter().flat_map(|(_, upstream)| upstream.models()).cloned().collect();
    in_order(all).into_vec()
}

fn probed(version: &str, models: &[&str], loaded: &[&str]) -> Observation {
    let names = |list: &[&str]| Some(list.iter().map(|text| name(text)).collect());
    Observation::Probed { version: version.into(), models: names(models), loaded: names(loaded) }
}

#[test]
fn one_failed_probe_of_a_server_that_was_up_is_forgiven() {
    let mut fleet = Fleet::new(1, 64);
    fleet.apply(ONE, probed("0.32.15", &["demo"], &[]));
    fleet.apply(ONE, Observation::ProbeFailed);
    assert_eq!(fleet.get(ONE).unwrap().health(), Health::Up);
    fleet.apply(ONE, Observation::ProbeFailed);
    assert_eq!(fleet.get(ONE).unwrap().health(), Health::Down);
    assert_eq!(fleet.get(ONE).unwrap().failures(), 2);
}

#[test]
fn a_first_failed_probe_and_a_failed_connect_count_at_once() {
    let mut fleet = Fleet::new(2, 64);
    fleet.apply(ONE, Observation::ProbeFailed);
    assert_eq!(fleet.get(ONE).unwrap().health(), Health::Down);
    fleet.apply(UpstreamId(1), probed("1.0.0", &[], &[]));
    fleet.apply(UpstreamId(1), Observation::ConnectFailed);
    assert_eq!(fleet.get(UpstreamId(1)).unwrap().health(), Health::Down);
}

#[test]
fn what_is_down_keeps_its_models_but_nothing_in_memory_and_comes_back() {
    let mut fleet = Fleet::new(1, 64);
    fleet.apply(ONE, probed("0.32.15", &["demo"], &["demo"]));
    fleet.apply(ONE, Observation::ConnectFailed);
    assert!(fleet.get(ONE).unwrap().has(&name("demo")));
    assert!(!fleet.get(ONE).unwrap().is_warm(&name("demo")));
    fleet.apply(ONE, Observation::Answered);
    assert_eq!(fleet.get(ONE).unwrap().health(), Health::Up);
    assert_eq!(fleet.get(ONE).unwrap().failures(), 0);
}

#[test]
fn a_list_that_could_not_be_had_leaves_what_was_known() {
    let mut fleet = Fleet::new(1, 64);
    let part = |models: Option<&str>, loaded: Option<&str>| Observation::Probed {
        version: "0.32.15".into(),
        models: models.map(|text| vec![name(text)]),
        loaded: loaded.map(|text| vec![name(text)]),
    };
    let lists = |fleet: &Fleet| {
        let one = fleet.get(ONE).unwrap();
        (one.models().to_vec(), one.loaded().to_vec())
    };
    fleet.apply(ONE, part(None, None));
    assert_eq!(fleet.get(ONE).unwrap().health(), Health::Up);
    assert_eq!(lists(&fleet), (vec![], vec![]));
    fleet.apply(ONE, part(Some("a"), Some("a")));
    fleet.apply(ONE, part(None, None));
    assert_eq!(lists(&fleet), (vec![name("a")], vec![name("a")]));
    fleet.apply(ONE, part(None, Some("b")));
    assert_eq!(lists(&fleet), (vec![name("a")], vec![name("b")]));
    fleet.apply(ONE, part(Some("b"), None));
    assert_eq!(lists(&fleet), (vec![name("b")], vec![name("b")]));
    fleet.apply(ONE, probed("0.32.15", &[], &[]));
    assert_eq!(lists(&fleet), (vec![], vec![]));
}

#[test]
fn a_model_that_was_not_found_is_forgotten_and_one_that_came_is_known() {
    let mut fleet = Fleet::new(1, 64);
    fleet.apply(ONE, probed("0.32.15", &["b", "a", "a"], &["b"]));
    assert_eq!(names(&fleet), [name("a"), name("b")]);
    fleet.apply(ONE, Observation::ModelMissing(name("b")));
    assert_eq!(names(&fleet), [name("a")]);
    assert!(fleet.get(ONE).unwrap().loaded().is_empty());
    for _ in 0..2 {
        fleet.apply(ONE, Observation::ModelThere(name("B1")));
    }
    assert_eq!(names(&fleet), [name("a"), name("b1")]);
    // An answer and the next list may be from before; the list behind that is not.
    fleet.apply(ONE, Observation::ModelMissing(name("b1")));
    fleet.apply(ONE, probed("0.32.15", &["a"], &[]));
    assert_eq!(names(&fleet), [name("a"), name("b1")]);
    fleet.apply(ONE, probed("0.32.15", &["a"], &[]));
    assert_eq!(names(&fleet), [name("a")]);
    // Nor is that believed for ever where no list comes, and what is removed is gone at once.
    fleet.apply(ONE, Observation::ModelThere(name("c")));
    for _ in 0..2 {
        fleet.apply(ONE, Observation::Probed { version: "0.32.15".into(), models: None, loaded: None });
        assert!(fleet.get(ONE).unwrap().has(&name("c")) && !fleet.get(ONE).unwrap().lists(&name("c")));
    }
    fleet.apply(ONE, Observation::ModelMissing(name("c")));
    assert_eq!(names(&fleet), [name("a")]);
    fleet.apply(ONE, Observation::ModelThere(name("d")));
    fleet.apply(ONE, Observation::ModelGone(name("d")));
    assert_eq!(names(&fleet), [name("a")]);
    assert!(!fleet.get(ONE).unwrap().awaits(&name("d")));
}

#[test]
fn the_lowest_version_is_of_those_that_are_up() {
    let mut fleet = Fleet::new(4, 64);
    assert_eq!(fleet.lowest_version(), None);
    for (id, version) in [(0, "0.9.1"), (1, "0.32.15"), (2, "0.33.0-rc2"), (3, "dev")] {
        fleet.apply(UpstreamId(id), probed(version, &[], &[]));
    }
    assert_eq!(fleet.lowest_version(), Some("0.9.1"));
    fleet.apply(ONE, Observation::ConnectFailed);
    assert_eq!(fleet.lowest_version(), Some("0.32.15"));
}

#[test]
fn out_of_a_loop_only_a_probe_leads() {
    let mut fleet = Fleet::new(1, 64);
    fleet.apply(ONE, probed("0.32.15", &["demo"], &["demo"]));
    fleet.apply(ONE, Observation::Looped);
    assert!(!fleet.get(ONE).unwrap().has(&name("demo")), "what it listed was another's");
    for seen in [
        Observation::Answered,
        Observation::ConnectFailed,
        Observation::ProbeFailed,
        Observation::ModelMissing(name("demo")),
    ] {
        fleet.apply(ONE, seen);
        assert_eq!(fleet.get(ONE).unwrap().health(), Health::Loop);
    }
    assert_eq!(fleet.lowest_version(), None);
    fleet.apply(ONE, probed("0.32.15", &["demo"], &[]));
    assert_eq!(fleet.get(ONE).unwrap().health(), Health::Up);
}

#[test]
fn an_id_of_other_settings_changes_nothing() {
    let mut fleet = Fleet::new(1, 64);
    fleet.start(UpstreamId(7), true);
    fleet.finish(UpstreamId(7), true);
    fleet.apply(UpstreamId(7), Observation::Answered);
    assert_eq!(fleet.len(), 1);
    assert!(fleet.get(UpstreamId(7)).is_none());
}

#[test]
fn who_is_not_named_any_more_is_retired_and_comes_back_unknown() {
    let (one, two, three) = (UpstreamId(0), UpstreamId(1), UpstreamId(2));
    let mut fleet = Fleet::new(2, 64);
    fleet.apply(one, probed("0.32.15", &["a"], &["a"]));
    fleet.apply(two, probed("0.9.1", &["b"], &[]));
    fleet.start(one, true);
    fleet.follow(&[three, two]);
    assert_eq!(fleet.iter().map(|(id, _)| id).collect::<Vec<_>>(), [two, three]);
    assert_eq!((fleet.len(), names(&fleet), fleet.lowest_version()), (2, vec![name("b")], Some("0.9.1")));
    assert_eq!(fleet.get(three).unwrap().health(), Health::Unknown);
    fleet.apply(one, Observation::Answered);
    assert_eq!(fleet.get(one).unwrap().health(), Health::Unknown);
    assert_eq!(fleet.get(one).unwrap().in_flight(), 1, "what runs there goes on");
    fleet.follow(&[one]);
    assert_eq!(fleet.get(one).unwrap().in_flight(), 1);
    assert!(!fleet.get(one).unwrap().has(&name("a")), "what was known of it is old");
    fleet.finish(one, true);
    assert_eq!(fleet.get(one).unwrap().in_flight(), 0);
    fleet.follow(&[]);
    assert!(fleet.is_empty());
}

proptest! {
    #[test]
    fn in_flight_is_what_was_started_and_not_finished(
        steps in prop::collection::vec((0u16..3, any::<bool>(), any::<bool>()), 0..200),
    ) {
        let mut fleet = Fleet::new(3, 64);
        let mut expected = [(0u32, 0u32); 3];
        for (id, starts, runs) in steps {
            let (count, running) = &mut expected[usize::from(id)];
            if starts {
                fleet.start(UpstreamId(id), runs);
                (*count, *running) = (*count + 1, *running + u32::from(runs));
            } else {
                fleet.finish(UpstreamId(id), runs);
                *count = count.saturating_sub(1);
                *running = running.saturating_sub(u32::from(runs));
            }
        }
        for (id, upstream) in fleet.iter() {
            prop_assert_eq!((upstream.in_flight(), upstream.running()), expected[id.index()]);
        }
    }
}
