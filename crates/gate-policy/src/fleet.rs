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
    /// It has this model no more: it was removed there.
    ModelGone(ModelName),
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
                if let Some(mut models) = models {
                    models.extend(upstream.arrived.listed(&models));
                    upstream.models = in_order(models);
                } else {
                    upstream.arrived.looked();
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
                if !upstream.arrived.is_new(&model) {
                    upstream.lose(&model);
                }
            }
            Observation::ModelGone(model) => upstream.lose(&model),
            Observation::ModelThere(model) => {
                let known = upstream.models.iter().cloned();
                upstream.models = in_order(known.chain([model.clone()]).collect());
                upstream.arrived.add(model);
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

#[cfg(test)]
mod tests;
