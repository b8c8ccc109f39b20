//! The fleet: what the gate knows of each upstream, and how it learns it.
//!
//! Pure state. Probes and finished attempts hand in an [`Observation`]; [`Fleet::apply`] makes the next state. In
//! flight, and the slots taken, are counted by [`Fleet::start`] and [`Fleet::finish`]. Nothing here waits, asks a clock or
//! rolls a dice.

use crate::choose::Ask;
use crate::eject::Failures;
use crate::upstream::{Health, Terms, Upstream};
use crate::version;
use gate_types::{ModelName, UpstreamId};

/// So many failed probes in a row take an upstream that was up out of the healthy ones. One alone may be a busy moment.
pub const PROBES_UNTIL_DOWN: u32 = 2;

/// Something that was seen of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// A probe was answered; a part that failed is `None`, and what was known of it stays.
    Probed {
        /// `/api/version`.
        version: String,
        /// `/api/tags`.
        models: Option<Vec<ModelName>>,
        /// `/api/ps`.
        loaded: Option<Vec<ModelName>>,
    },
    /// A probe of one that is no Ollama was answered.
    Reached,
    /// A probe got no answer, or a wrong one.
    ProbeFailed,
    /// What was sent there came back to this gate.
    Looped,
    /// A request found nobody listening, or no way there.
    ConnectFailed,
    /// A request was answered, with whatever status that is not the upstream's own failure.
    Answered,
    /// A request for this model was answered "not found": the list is out of date.
    ModelMissing(ModelName),
    /// It has this model from now on, whatever an answer or a list says that was asked for before.
    ModelThere(ModelName),
}

/// What is known of an upstream when a request is sent there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Begun {
    /// It was up.
    pub was_up: bool,
    /// What failed there last.
    pub failures: Failures,
    /// The request shows whether who was ejected is well again.
    pub(crate) is_trial: bool,
}

/// All upstreams of the settings. Those that the settings named once and no more are kept behind their ids, retired: what is
/// under way there is counted to its end.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    pub(crate) upstreams: Vec<Upstream>,
    slots: u32,
}

impl Fleet {
    /// A fleet of `count` upstreams of which nothing is known; their ids are 0 to `count - 1`, each has so many slots.
    #[must_use]
    pub fn new(count: u16, slots: u32) -> Self {
        Fleet { upstreams: (0..count).map(|_| Upstream::unheard(slots)).collect(), slots }
    }

    /// From now on each upstream has so many slots, but for those that have their own number. Where more are taken, none is
    /// given until enough came back.
    pub fn set_slots(&mut self, slots: u32) {
        self.slots = slots;
        for upstream in &mut self.upstreams {
            upstream.slots = upstream.terms.slots.unwrap_or(slots);
        }
    }

    /// From now on this holds for these upstreams, and nothing in particular for any other.
    pub fn set_terms(&mut self, terms: &[(UpstreamId, Terms)]) {
        for (id, upstream) in (0..).map(UpstreamId).zip(&mut self.upstreams) {
            let own = terms.iter().find(|(of, _)| *of == id);
            upstream.terms = own.map_or_else(Terms::default, |(_, terms)| *terms);
            upstream.slots = upstream.terms.slots.unwrap_or(self.slots);
            if !upstream.terms.is_ollama {
                upstream.forget();
            }
        }
    }

    /// From now on the settings name these upstreams. Of those that are new, or back, nothing is known; the others go on
    /// as they were; what is not among them is retired.
    pub fn follow(&mut self, named: &[UpstreamId]) {
        let len = named.iter().map(|id| id.index() + 1).max().unwrap_or(0);
        let slots = self.slots;
        while self.upstreams.len() < len {
            self.upstreams.push(Upstream { is_retired: true, ..Upstream::unheard(slots) });
        }
        for (id, upstream) in (0..).map(UpstreamId).zip(&mut self.upstreams) {
            let is_named = named.contains(&id);
            if upstream.is_retired == is_named {
                let Upstream { in_flight, running, slots, terms, .. } = *upstream;
                *upstream =
                    Upstream { in_flight, running, terms, is_retired: !is_named, ..Upstream::unheard(slots) };
            }
        }
    }

    /// How many upstreams there are, whatever their health.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is no upstream.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The upstream of this id, retired or not; `None` for an id that never was.
    #[must_use]
    pub fn get(&self, id: UpstreamId) -> Option<&Upstream> {
        self.upstreams.get(id.index())
    }

    /// All upstreams with their ids, in the order in which the settings came to name them.
    pub fn iter(&self) -> impl Iterator<Item = (UpstreamId, &Upstream)> {
        (0..).map(UpstreamId).zip(&self.upstreams).filter(|(_, upstream)| !upstream.is_retired)
    }

    /// Those of them that run models.
    pub fn ollamas(&self) -> impl Iterator<Item = (UpstreamId, &Upstream)> {
        self.iter().filter(|(_, upstream)| upstream.terms.is_ollama)
    }

    /// Takes in what was seen of upstream `id`. A retired one's changes nothing, nor does an id that never was.
    pub fn apply(&mut self, id: UpstreamId, seen: Observation) {
        let known = self.upstreams.get_mut(id.index()).filter(|upstream| !upstream.is_retired);
        let Some(upstream) = known else { return };
        match seen {
            Observation::Probed { version, models, loaded } => {
                upstream.version = Some(version);
                if let Some(models) = models {
                    // Asked for before the pull ended, perhaps: what it brought is missing from the next list but one at most.
                    let arrived = std::mem::take(&mut upstream.arrived);
                    upstream.models = in_order(models.into_iter().chain(arrived).collect());
                }
                if let Some(loaded) = loaded {
                    upstream.loaded = in_order(loaded);
                }
                upstream.failures = 0;
                upstream.set(Health::Up);
            }
            Observation::Reached => {
                upstream.failures = 0;
                upstream.set(Health::Up);
            }
            Observation::Looped => {
                upstream.forget();
                upstream.set(Health::Loop);
            }
            Observation::ProbeFailed => {
                upstream.failures = upstream.failures.saturating_add(1);
                if upstream.health != Health::Up || upstream.failures >= PROBES_UNTIL_DOWN {
                    upstream.turn(Health::Down);
                }
            }
            Observation::ConnectFailed => {
                upstream.failures = upstream.failures.saturating_add(1);
                upstream.turn(Health::Down);
            }
            Observation::Answered => {
                upstream.failures = 0;
                upstream.turn(Health::Up);
            }
            Observation::ModelMissing(model) => {
                upstream.failures = 0;
                upstream.turn(Health::Up);
                // An answer from before the pull ended, perhaps; the next list knows.
                if !upstream.arrived.contains(&model) {
                    upstream.models = without(&upstream.models, &model);
                    upstream.loaded = without(&upstream.loaded, &model);
                }
            }
            Observation::ModelThere(model) => {
                let known = upstream.models.iter().cloned();
                upstream.models = in_order(known.chain([model.clone()]).collect());
                upstream.arrived.push(model);
            }
        }
    }

    /// One more request is with upstream `id`, in one of its slots where it runs a model.
    pub fn start(&mut self, id: UpstreamId, runs_model: bool) {
        if let Some(upstream) = self.upstreams.get_mut(id.index()) {
            upstream.in_flight = upstream.in_flight.saturating_add(1);
            upstream.running = upstream.running.saturating_add(u32::from(runs_model));
        }
    }

    /// The same, and what is known there of what is asked for.
    pub(crate) fn begin(&mut self, id: UpstreamId, ask: &Ask<'_>) -> Begun {
        self.start(id, ask.runs_model);
        let Some(upstream) = self.upstreams.get_mut(id.index()) else { return Begun::default() };
        let was_up = upstream.health == Health::Up;
        if !ask.runs_model {
            return Begun { was_up, ..Begun::default() };
        }
        let mut is_trial = upstream.row.begin();
        for (_, row) in upstream.rows.iter_mut().filter(|(name, _)| Some(name) == ask.model) {
            is_trial |= row.begin();
        }
        Begun { was_up, is_trial, failures: upstream.failures_of(ask.model) }
    }

    /// One request fewer is with upstream `id`; its slot is free again. Never below none. Returns whether a slot is free
    /// there now and none was before: only then has anything changed for those who wait.
    pub fn finish(&mut self, id: UpstreamId, runs_model: bool) -> bool {
        let Some(upstream) = self.upstreams.get_mut(id.index()) else { return false };
        let was_full = !upstream.has_free_slot();
        upstream.in_flight = upstream.in_flight.saturating_sub(1);
        upstream.running = upstream.running.saturating_sub(u32::from(runs_model));
        was_full && upstream.has_free_slot()
    }

    /// The lowest version among the upstreams that are up: what a client may count on wherever its request lands.
    ///
    /// Versions that are no numbers (`dev`) count only where there is nothing else.
    #[must_use]
    pub fn lowest_version(&self) -> Option<&str> {
        self.iter()
            .filter(|(_, upstream)| upstream.health == Health::Up)
            .filter_map(|(_, upstream)| upstream.version())
            .min_by(|a, b| version::compare(a, b))
    }
}

fn in_order(mut names: Vec<ModelName>) -> Box<[ModelName]> {
    names.sort_unstable();
    names.dedup();
    names.into()
}

fn without(names: &[ModelName], gone: &ModelName) -> Box<[ModelName]> {
    names.iter().filter(|name| *name != gone).cloned().collect()
}

#[cfg(test)]
mod tests {
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
}
