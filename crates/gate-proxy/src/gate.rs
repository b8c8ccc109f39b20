//! What a request finds on its way: the state that all cores share, and what each core has for itself.

use crate::clock::unix_now;
use crate::downstream::{Head, Seats};
use crate::drain::Drain;
use crate::held::Allowance;
use crate::lease::Leases;
use crate::metrics::Counter;
use crate::record::{AccessLog, Record};
use crate::rules::Rules;
use crate::shared::Shared;
use crate::slots::InFlight;
use crate::sweep::{Sweep, TICK};
use gate_keys::KeyId;
use gate_policy::{Ask, Chance, Entered};
use gate_types::UpstreamId;
use gate_upstream::Client;
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use tokio::time::Instant;

/// One core's gate.
pub struct Gate {
    /// What all cores share.
    pub shared: Arc<Shared>,
    /// This core's connections to the upstreams.
    pub upstream: Client,
    /// This core's time limits.
    pub sweep: Rc<Sweep>,
    /// Whether this core takes leave of its clients.
    pub drain: Drain,
    /// This core's running requests.
    pub leases: Leases,
    /// What a request has for a head once its answer has begun: nothing, so that a stream does not hold the real one.
    pub(crate) no_head: Rc<Head>,
    /// Where its requests over HTTP/1.1 are served.
    pub(crate) seats: Seats,
    /// This core's part of the room for request bodies.
    pub(crate) allowance: Rc<Allowance>,
    /// Which of the keys that came in clear this core has seen.
    pub(crate) told_clear: RefCell<HashSet<KeyId>>,
    chance: RefCell<Chance>,
    rules: RefCell<OwnRules>,
    /// Where requests that have ended are put down.
    pub(crate) ledger: Rc<Ledger>,
}

/// Where one core puts down the requests that have ended.
pub(crate) struct Ledger {
    pub(crate) shared: Arc<Shared>,
    log: Box<dyn AccessLog>,
    counter: Counter,
}

impl Ledger {
    /// A request has ended.
    pub(crate) fn keep(&self, record: &Record<'_>) {
        self.counter.add(record, &self.shared);
        self.log.take(record);
    }

    /// A connection was let in.
    pub(crate) fn opened(&self) {
        self.counter.opened();
    }

    /// One of them has ended.
    pub(crate) fn closed(&self) {
        self.counter.closed();
    }
}

/// A core's own copy of the rules, so that requests of different cores do not count references at one place.
struct OwnRules {
    of: Arc<Rules>,
    copy: Rc<Rules>,
}

impl OwnRules {
    fn copied(of: &Arc<Rules>) -> Self {
        OwnRules { of: Arc::clone(of), copy: Rc::new(Rules::clone(of)) }
    }
}

impl Gate {
    /// The gate of one core. Each request that ends leaves its record with `log`; `seed` makes the choices among equals
    /// repeatable.
    #[must_use]
    pub fn new(shared: Arc<Shared>, upstream: Client, log: Box<dyn AccessLog>, seed: u64) -> Self {
        let rules = RefCell::new(OwnRules::copied(&shared.rules.load()));
        upstream.set_connect(shared.rules.load().limits.connect);
        let counter = shared.metrics.counter();
        let ledger = Rc::new(Ledger { shared: Arc::clone(&shared), log, counter });
        let sweep = Rc::<Sweep>::default();
        let drain = Drain::new(Rc::clone(&sweep));
        let allowance = Rc::new(Allowance::new(Arc::clone(&shared)));
        let chance = RefCell::new(Chance::seeded(seed));
        let leases = Leases::default();
        Self {
            shared,
            upstream,
            sweep,
            drain,
            leases,
            no_head: Rc::default(),
            seats: Seats::default(),
            allowance,
            told_clear: RefCell::default(),
            chance,
            rules,
            ledger,
        }
    }

    /// Ends this core's running requests whose keys stop being valid, for ever: at once where the keys changed, within a
    /// tick where one expired. One such task runs per core.
    pub async fn tend_leases(&self) {
        let mut changed = self.shared.keys_changed.subscribe();
        // What changed before this task began.
        changed.mark_changed();
        loop {
            match tokio::time::timeout(TICK, changed.changed()).await {
                Ok(Ok(())) => self.leases.review(&self.shared.keys(), unix_now()),
                // An error means that the sender is gone; it lives as long as `self` does.
                Ok(Err(_)) => return,
                Err(_elapsed) => self.leases.expire(unix_now()),
            }
        }
    }

    /// The rules in force now.
    pub(crate) fn rules(&self) -> Rc<Rules> {
        let now = self.shared.rules.load();
        let mut own = self.rules.borrow_mut();
        if !Arc::ptr_eq(&own.of, &now) {
            *own = OwnRules::copied(&now);
            self.upstream.set_connect(now.limits.connect);
            self.upstream.refresh();
        }
        Rc::clone(&own.copy)
    }

    /// A new request comes in.
    pub(crate) fn enter(&self, ask: &Ask<'_>, depth: usize) -> Entered {
        self.shared.slots.enter(ask, depth, &mut self.chance.borrow_mut())
    }

    /// A request gives its slot back and asks for one elsewhere. `None` where too many have done so already.
    pub(crate) fn move_on(&self, left: InFlight, ask: &Ask<'_>, tried: &[UpstreamId]) -> Option<Entered> {
        let now = Instant::now().into_std();
        self.shared.slots.move_on(left, ask, tried, now, &mut self.chance.borrow_mut())
    }
}
