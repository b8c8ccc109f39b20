//! What one core counts: plain numbers that its thread alone writes and a scrape reads, so that counting a request costs
//! no lock and no cache line that two cores fight for.

use crate::record::{Outcome, Record};
use crate::shared::Shared;
use gate_types::ModelName;
use gate_wire::{ROUTES, Reason};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Places for routes: all of the table, and one for what no route takes.
pub(super) const PLACES: usize = ROUTES.len() + 1;
/// Classes of status: none, and `1xx` to `5xx`.
pub(super) const CLASSES: usize = 6;
const OUTCOMES: usize = Outcome::ALL.len();

/// Upper bounds of the histograms' buckets, in milliseconds: from a refusal to the longest answers of large models.
pub(super) const BOUNDS: [u64; 16] =
    [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000];

/// Models that have counts of their own; those beyond count as `other`.
const MOST_MODELS: usize = 256;
/// Routes beside the built-in ones that have counts of their own; those beyond count as `other`.
const MOST_EXTRA: usize = 256;
/// The label of all other models, and of all other routes.
const OTHER: &str = "other";

/// A number that one thread writes and any may read.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    fn add(&self, more: u64) {
        // Only this thread writes: an ordinary addition, without the bus lock of an atomic one.
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How many took how long.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// One per bound, and one for what took longer than the last; not cumulative.
    buckets: [Count; BOUNDS.len() + 1],
    micros: Count,
}

impl Histogram {
    fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.buckets[BOUNDS.partition_point(|bound| bound * 1000 < micros)].add(1);
        self.micros.add(micros);
    }

    pub(super) fn add_to(&self, sum: &mut Times) {
        for (sum, bucket) in sum.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.get();
        }
        sum.micros += self.micros.get();
    }
}

/// A histogram summed over all cores.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    pub(super) buckets: [u64; BOUNDS.len() + 1],
    pub(super) micros: u64,
}

/// The requests of one route.
#[derive(Debug, Default)]
pub(super) struct OfRoute {
    pub(super) requests: [[Count; CLASSES]; OUTCOMES],
    pub(super) total: Histogram,
    pub(super) first_byte: Histogram,
}

impl OfRoute {
    fn add(&self, record: &Record<'_>) {
        let class = usize::from(record.status / 100).min(CLASSES - 1);
        self.requests[record.outcome as usize][class].add(1);
        self.total.add(record.total);
        if let Some(time) = record.ttft {
            self.first_byte.add(time);
        }
    }
}

/// Tokens of one model, those of prompts and those of answers.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    pub(super) prompts: Count,
    pub(super) answers: Count,
}

/// What one core has counted since it started.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(super) routes: Box<[OfRoute]>,
    pub(super) queued: Histogram,
    /// By the place of a reason in [`Reason::ALL`].
    pub(super) reasons: Box<[Count]>,
    pub(super) opened: Count,
    pub(super) closed: Count,
    /// Grows only, and never beyond [`MOST_MODELS`] and one more; locked when a model is seen for the first time.
    pub(super) models: Mutex<Vec<(Box<str>, Arc<Tokens>)>>,
    /// Routes beside the built-in ones; grows only, never beyond [`MOST_EXTRA`] and one more, and is locked when a route is
    /// asked for the first time.
    pub(super) extra: Mutex<Vec<(Arc<str>, Arc<OfRoute>)>>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            routes: std::iter::repeat_with(OfRoute::default).take(PLACES).collect(),
            queued: Histogram::default(),
            reasons: Reason::ALL.iter().map(|_| Count::default()).collect(),
            opened: Count::default(),
            closed: Count::default(),
            models: Mutex::default(),
            extra: Mutex::default(),
        }
    }
}

/// A core's counts, with what only its own thread needs.
pub(crate) struct Counter {
    counts: Arc<Counts>,
    known: RefCell<BTreeMap<Box<str>, Arc<Tokens>>>,
    extra: RefCell<BTreeMap<Arc<str>, Arc<OfRoute>>>,
}

impl Counter {
    pub(crate) fn new(counts: Arc<Counts>) -> Self {
        Self { counts, known: RefCell::default(), extra: RefCell::default() }
    }

    /// A request has ended.
    pub(crate) fn add(&self, record: &Record<'_>, shared: &Shared) {
        let counts = &*self.counts;
        match (record.route, record.extra) {
            (None, Some(template)) => self.extra(template).add(record),
            (route, _) => {
                let place = route.map_or(ROUTES.len(), |route| route.id as usize);
                if let Some(route) = counts.routes.get(place) {
                    route.add(record);
                }
            }
        }
        if !record.queued.is_zero() {
            counts.queued.add(record.queued);
        }
        if let Some(error) = record.error
            && let Some(count) = counts.reasons.get(error.reason as usize)
        {
            count.add(1);
        }
        if let (Some(model), Some(_), _) | (Some(model), _, Some(_)) =
            (record.model, record.tokens_in, record.tokens_out)
        {
            let tokens = self.tokens_of(model, shared);
            tokens.prompts.add(record.tokens_in.unwrap_or(0));
            tokens.answers.add(record.tokens_out.unwrap_or(0));
        }
    }

    /// Where the requests of a route beside the built-in ones are counted. Settings may name others from one reading to the next,
    /// and those beyond the bound are counted together.
    fn extra(&self, template: &Arc<str>) -> Arc<OfRoute> {
        let mut known = self.extra.borrow_mut();
        if let Some(route) = known.get(template) {
            return Arc::clone(route);
        }
        let label = if known.len() < MOST_EXTRA { Arc::clone(template) } else { Arc::from(OTHER) };
        let route = Arc::clone(known.entry(Arc::clone(&label)).or_default());
        let mut all = self.counts.extra.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.iter().any(|(known, _)| *known == label) {
            all.push((label, Arc::clone(&route)));
        }
        route
    }

    /// A client's connection was let in.
    pub(crate) fn opened(&self) {
        self.counts.opened.add(1);
    }

    /// One of them has ended.
    pub(crate) fn closed(&self) {
        self.counts.closed.add(1);
    }

    /// Where the tokens of a model are counted: those of models that no upstream lists, which a client could invent, and
    /// those beyond the bound together.
    fn tokens_of(&self, model: &ModelName, shared: &Shared) -> Arc<Tokens> {
        let mut known = self.known.borrow_mut();
        if let Some(tokens) = known.get(model.short()) {
            return Arc::clone(tokens);
        }
        let is_listed = known.len() < MOST_MODELS
            && shared.with_fleet(|fleet| fleet.iter().any(|(_, upstream)| upstream.has(model)));
        let label = if is_listed { model.short() } else { OTHER };
        if let Some(tokens) = known.get(label) {
            return Arc::clone(tokens);
        }
        let tokens = Arc::new(Tokens::default());
        known.insert(label.into(), Arc::clone(&tokens));
        let mut models = self.counts.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.push((label.into(), Arc::clone(&tokens)));
        tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for micros in [0, 1_000, 1_001, 300_000_000, 300_000_001] {
            histogram.add(Duration::from_micros(micros));
        }
        let mut sum = Times::default();
        histogram.add_to(&mut sum);
        histogram.add_to(&mut sum);
        assert_eq!((sum.buckets[0], sum.buckets[1], sum.buckets[15], sum.buckets[16]), (4, 2, 2, 2));
        assert_eq!(sum.micros, 2 * 600_002_002);
    }
}
