//! One upstream as the gate sees it. Pure state; [`crate::Fleet`] alone changes it.

use crate::arrived::Arrived;
use crate::eject::{Failures, Row};
use gate_types::ModelName;

/// What the settings say of one upstream beside the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Its share: one of weight 2 gets twice the requests of one of weight 1, where both could serve. 1 at least.
    pub weight: u32,
    /// So many requests may run a model there at one time; as many as at any other where there is none.
    pub slots: Option<u32>,
    /// Whether it runs models. One that does not is for who names it: nothing else is ever sent there.
    pub is_ollama: bool,
    /// Whether one that runs none is there while it hangs up on what is no WebSocket: they are led to it.
    pub may_hang_up: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Terms { weight: 1, slots: None, is_ollama: true, may_hang_up: false }
    }
}

/// Whether an upstream is thought to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing was heard yet, good or bad.
    Unknown,
    /// It answered last.
    Up,
    /// It could not be reached, or failed several probes in a row.
    Down,
    /// What is sent there comes back to this gate. Nothing is, until a probe shows otherwise.
    Loop,
}

/// One upstream as the gate sees it.
#[derive(Debug, Clone)]
pub struct Upstream {
    pub(crate) health: Health,
    pub(crate) version: Option<String>,
    pub(crate) models: Box<[ModelName]>,
    pub(crate) arrived: Arrived,
    pub(crate) loaded: Box<[ModelName]>,
    pub(crate) in_flight: u32,
    /// Of those in flight, how many run a model.
    pub(crate) running: u32,
    pub(crate) slots: u32,
    pub(crate) terms: Terms,
    pub(crate) failures: u32,
    /// Of requests that run a model.
    pub(crate) row: Row,
    /// Of those that failed for their model alone, and not for the whole upstream; a few, oldest first.
    pub(crate) rows: Vec<(ModelName, Row)>,
    /// The settings name it no more: what it has under way ends there, nothing new comes.
    pub(crate) is_retired: bool,
}

impl Upstream {
    /// One of which nothing is known yet.
    pub(crate) fn unheard(slots: u32) -> Self {
        Upstream {
            health: Health::Unknown,
            version: None,
            models: Box::default(),
            arrived: Arrived::default(),
            loaded: Box::default(),
            in_flight: 0,
            running: 0,
            slots,
            terms: Terms::default(),
            failures: 0,
            row: Row::default(),
            rows: Vec::new(),
            is_retired: false,
        }
    }

    /// Whether it is thought to answer.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health
    }

    /// What its last good probe said in `/api/version`.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The models on its disk by the last list it gave, in order of name. Kept while it is down.
    #[must_use]
    pub fn models(&self) -> &[ModelName] {
        &self.models
    }

    /// The models in its memory by the last list it gave, in order of name. Empty while it is down.
    #[must_use]
    pub fn loaded(&self) -> &[ModelName] {
        &self.loaded
    }

    /// Requests of this gate that it has not finished.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// So many requests may run a model there at one time.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Requests of this gate that run a model there, each in one of its slots.
    #[must_use]
    pub fn running(&self) -> u32 {
        self.running
    }

    /// Its share of the requests that others could serve as well.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.terms.weight
    }

    /// Whether it runs models.
    #[must_use]
    pub fn is_ollama(&self) -> bool {
        self.terms.is_ollama
    }

    /// Whether hanging up on a question is an answer of its.
    #[must_use]
    pub fn may_hang_up(&self) -> bool {
        self.terms.may_hang_up
    }

    /// How busy it is for its weight, and how much room is left before it is busier: an upstream of weight `n` counts as `n`
    /// of weight 1, each of which has as many requests as the others, or one more.
    pub(crate) fn load(&self) -> (u32, u32) {
        match self.terms.weight {
            0 | 1 => (self.in_flight, 1),
            weight => (self.in_flight / weight, weight - self.in_flight % weight),
        }
    }

    /// Whether one more request may run a model there.
    #[must_use]
    pub fn has_free_slot(&self) -> bool {
        self.running < self.slots
    }

    /// Failed probes and connects since it answered last.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether it listed `model` last, or has got it since.
    #[must_use]
    pub fn has(&self, model: &ModelName) -> bool {
        self.models.binary_search(model).is_ok()
    }

    /// Whether a list of its own named `model` last, so that all is known of it that lists say.
    #[must_use]
    pub fn lists(&self, model: &ModelName) -> bool {
        self.has(model) && !self.arrived.has(model)
    }

    /// Whether it has just got `model`, and a list that names it is to be expected.
    #[must_use]
    pub fn awaits(&self, model: &ModelName) -> bool {
        self.arrived.is_new(model)
    }

    /// Whether it holds `model` in memory, so that no load time is spent on it.
    #[must_use]
    pub fn is_warm(&self, model: &ModelName) -> bool {
        self.loaded.binary_search(model).is_ok()
    }

    /// Whether it is asked last, because it failed one request after the other.
    #[must_use]
    pub fn is_ejected(&self) -> bool {
        self.row.is_ejected()
    }

    /// How many models it is asked for last, because these alone failed there one time after the other.
    #[must_use]
    pub fn ejected_models(&self) -> usize {
        self.rows.iter().filter(|(_, row)| row.is_ejected()).count()
    }

    /// Whether it is asked last for this model.
    pub(crate) fn is_ejected_for(&self, model: Option<&ModelName>) -> bool {
        self.row.is_ejected() || self.row_of(model).is_some_and(Row::is_ejected)
    }

    /// The failures in a row that are known of it and of this model there.
    #[must_use]
    pub fn failures_of(&self, model: Option<&ModelName>) -> Failures {
        Failures { upstream: self.row.failures(), model: self.row_of(model).map_or(0, Row::failures) }
    }

    fn row_of(&self, model: Option<&ModelName>) -> Option<&Row> {
        self.rows.iter().find(|(name, _)| Some(name) == model).map(|(_, row)| row)
    }

    /// Takes on another health; what is down has nothing in memory. From a loop only a probe leads out.
    pub(crate) fn turn(&mut self, health: Health) {
        if self.health != Health::Loop {
            self.set(health);
        }
    }

    /// What it was said to have is another's, or nobody's.
    pub(crate) fn forget(&mut self) {
        self.version = None;
        self.models = Box::default();
        self.loaded = Box::default();
        self.arrived.clear();
    }

    pub(crate) fn lose(&mut self, model: &ModelName) {
        let without = |names: &[ModelName]| names.iter().filter(|name| *name != model).cloned().collect();
        (self.models, self.loaded) = (without(&self.models), without(&self.loaded));
        self.arrived.remove(model);
    }

    pub(crate) fn set(&mut self, health: Health) {
        self.health = health;
        if matches!(health, Health::Down | Health::Loop) {
            self.loaded = Box::default();
        }
    }
}
