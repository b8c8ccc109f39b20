//! The live fleet and the queue before it, under the one short lock that all cores share: choosing an upstream and taking a
//! slot there are one step.
//!
//! What is decided is decided in `gate-policy`; who is called is woken here, after the lock was given back. Nothing here
//! waits, and no lock is held across a wait. A request that need not wait comes by twice: once in, once out.

use gate_policy::{
    Ask, Chance, Entered, Fleet, Grant, Queue, QueueLimits, RetryBudget, Standing, Ticket, Verdict,
};
use gate_types::UpstreamId;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

/// A request's own place at an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InFlight {
    pub(crate) grant: Grant,
    /// Whether it runs a model, and so takes one of the upstream's slots.
    pub(crate) runs_model: bool,
}

/// What all cores share of the upstreams.
#[derive(Debug)]
pub(crate) struct Slots {
    live: Mutex<Live>,
}

#[derive(Debug)]
struct Live {
    fleet: Fleet,
    queue: Queue<Waker>,
    budget: RetryBudget,
    /// For those who are called; who need not wait brings that of its core.
    chance: Chance,
}

impl Slots {
    pub(crate) fn new(upstreams: u16, limits: QueueLimits) -> Self {
        let live = Live {
            fleet: Fleet::new(upstreams, limits.slots),
            queue: Queue::default(),
            budget: RetryBudget::default(),
            chance: Chance::seeded(0),
        };
        Slots { live: Mutex::new(live) }
    }

    /// Reads the fleet.
    pub(crate) fn with_fleet<T>(&self, read: impl FnOnce(&Fleet) -> T) -> T {
        read(&self.lock().fleet)
    }

    /// How many requests wait for a slot.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().queue.len()
    }

    /// Changes what is known of the fleet, and calls those who waited for that.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Fleet)) {
        let mut live = self.lock();
        change(&mut live.fleet);
        live.call(None).wake(live);
    }

    /// Takes in how a request went, and calls those who waited for what follows.
    pub(crate) fn judge(&self, judge: impl FnOnce(&mut Fleet) -> Verdict) -> Verdict {
        let mut live = self.lock();
        let verdict = judge(&mut live.fleet);
        if verdict != Verdict::AsBefore {
            live.call(None).wake(live);
        }
        verdict
    }

    /// A new request comes in.
    pub(crate) fn enter(&self, ask: &Ask<'_>, depth: usize, chance: &mut Chance) -> Entered {
        let mut live = self.lock();
        let Live { fleet, queue, budget, .. } = &mut *live;
        let entered = queue.enter(fleet, ask, depth, chance);
        if matches!(entered, Entered::Granted(_)) {
            budget.earn();
        }
        entered
    }

    /// A request gives its slot back and asks for one at another upstream. `None` where too many have done so already.
    pub(crate) fn move_on(
        &self,
        left: InFlight,
        ask: &Ask<'_>,
        tried: &[UpstreamId],
        now: Instant,
        chance: &mut Chance,
    ) -> Option<Entered> {
        let mut live = self.lock();
        let Live { fleet, queue, budget, .. } = &mut *live;
        let InFlight { grant: Grant { ticket, id, .. }, runs_model } = left;
        let has_freed = fleet.finish(id, runs_model);
        let entered = budget.allows(now).then(|| queue.enter_again(fleet, ticket, ask, tried, chance));
        if matches!(entered, Some(Entered::Granted(_) | Entered::Waiting(_))) {
            budget.spend();
        }
        if has_freed {
            live.call(Some(id)).wake(live);
        }
        entered
    }

    /// How it stands with a request that waits, which is called by `waker`.
    pub(crate) fn standing(&self, ticket: Ticket, waker: &Waker) -> Standing {
        let mut live = self.lock();
        let standing = live.queue.standing(ticket, |left| match left {
            Some(left) => left.clone_from(waker),
            None => *left = Some(waker.clone()),
        });
        if matches!(standing, Standing::Granted(grant) if !grant.is_again) {
            live.budget.earn();
        }
        standing
    }

    /// A request that waits goes.
    pub(crate) fn leave(&self, ticket: Ticket) {
        let mut live = self.lock();
        let Live { fleet, queue, .. } = &mut *live;
        if let Some(freed) = queue.leave(fleet, ticket) {
            live.call(Some(freed)).wake(live);
        }
    }

    /// A request has ended: its slot is free for the next.
    pub(crate) fn finish(&self, held: InFlight) {
        let mut live = self.lock();
        if live.fleet.finish(held.grant.id, held.runs_model) {
            live.call(Some(held.grant.id)).wake(live);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        // Each change is whole before the lock is given back, so that a panic elsewhere leaves it sound.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    fn call(&mut self, freed: Option<UpstreamId>) -> Called {
        let mut called = Vec::new();
        self.queue.call_next(&mut self.fleet, freed, &mut self.chance, &mut called);
        Called(called)
    }
}

/// Those whose turn has come.
#[must_use]
struct Called(Vec<Waker>);

impl Called {
    /// Wakes them, once the lock is given back.
    fn wake(self, live: MutexGuard<'_, Live>) {
        drop(live);
        self.0.into_iter().for_each(Waker::wake);
    }
}
