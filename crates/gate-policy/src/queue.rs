//! The queue before the fleet: who waits for a slot, and who is next. First come, first served.
//!
//! Pure: tickets in, grants out; nothing here waits, and what is left behind to call a waiter by (`W`) is handed back, never
//! used. Its owner also owns the live fleet, so that choosing an upstream and taking the slot are one step. Whenever the fleet
//! changed (a slot came back, an upstream came up, a model was found) the owner must ask [`Queue::call_next`]. In return, nobody waits
//! who could be served, and so a newcomer that finds a free slot overtakes nobody who could have used it.
//!
//! Fairness between keys and slots that are learnt will be decided here.

use crate::chance::Chance;
use crate::choose::{Ask, Decision, Why, choose};
use crate::fleet::Fleet;
use crate::upstream::Upstream;
use gate_types::{ModelName, UpstreamId};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

/// The bounds of running and waiting, each a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Requests of this gate that run a model at one upstream at one time.
    pub slots: u32,
    /// For how long a request may wait for a slot, over all its tries.
    pub max_wait: Duration,
    /// How many requests may wait at one time.
    pub depth: usize,
}

/// A request's place in the order of arrival. Kept when it goes to a second upstream: it does not go to the end then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticket(u64);

/// What happened to a request that entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// It is with this upstream now: [`Fleet::finish`] ends that.
    Granted(Ticket, UpstreamId),
    /// It waits: ask [`Queue::standing`], or [`Queue::leave`].
    Waiting(Ticket),
    /// It would have to wait, and as many wait as may.
    Full,
    /// There is nobody to wait for.
    Rejected(Why),
}

/// How it stands with a request that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It waits.
    Waiting,
    /// Its turn came; it is with this upstream now, and [`Fleet::finish`] ends that. Told once.
    Granted(UpstreamId),
    /// Those that it waited for are no more. Told once.
    Rejected(Why),
    /// It was told how it ended, or left.
    Ended,
}

/// The queue.
#[derive(Debug)]
pub struct Queue<W> {
    last: Ticket,
    waiting: BTreeMap<Ticket, Waiter<W>>,
    /// Those whose wait has ended and who were not told yet.
    called: BTreeMap<Ticket, Result<UpstreamId, Why>>,
}

#[derive(Debug)]
struct Waiter<W> {
    model: Option<ModelName>,
    for_sure: bool,
    tried: Box<[UpstreamId]>,
    call_by: Option<W>,
}

impl<W> Waiter<W> {
    fn ask(&self) -> Ask<'_> {
        Ask { model: self.model.as_ref(), runs_model: true, for_sure: self.for_sure }
    }
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Queue { last: Ticket(0), waiting: BTreeMap::new(), called: BTreeMap::new() }
    }
}

impl<W> Queue<W> {
    /// A new request: served at once where it can be, else the last in line.
    pub fn enter(&mut self, fleet: &mut Fleet, ask: &Ask<'_>, depth: usize, chance: &mut Chance) -> Entered {
        self.last.0 += 1;
        let ticket = self.last;
        match choose(fleet, ask, &[], chance) {
            Decision::Send(id) => {
                fleet.start(id, ask.runs_model);
                Entered::Granted(ticket, id)
            }
            Decision::Wait if self.waiting.len() >= depth => Entered::Full,
            Decision::Wait => self.wait(ticket, ask, &[]),
            Decision::Reject(why) => Entered::Rejected(why),
        }
    }

    /// A request that must go to another upstream than those in `tried`, whose slots it has given back. It waits where its
    /// ticket says, before all who came later, and is no newcomer to a full queue: there are never more of these than slots.
    pub fn enter_again(
        &mut self,
        fleet: &mut Fleet,
        ticket: Ticket,
        ask: &Ask<'_>,
        tried: &[UpstreamId],
        chance: &mut Chance,
    ) -> Entered {
        match choose(fleet, ask, tried, chance) {
            Decision::Send(id) => {
                fleet.start(id, ask.runs_model);
                Entered::Granted(ticket, id)
            }
            Decision::Wait => self.wait(ticket, ask, tried),
            Decision::Reject(why) => Entered::Rejected(why),
        }
    }

    fn wait(&mut self, ticket: Ticket, ask: &Ask<'_>, tried: &[UpstreamId]) -> Entered {
        let waiter =
            Waiter { model: ask.model.cloned(), for_sure: ask.for_sure, tried: tried.into(), call_by: None };
        self.waiting.insert(ticket, waiter);
        Entered::Waiting(ticket)
    }

    /// How it stands with `ticket`. While it waits, `leave_word` sees what was left behind to call it by, and may replace it.
    pub fn standing(&mut self, ticket: Ticket, leave_word: impl FnOnce(&mut Option<W>)) -> Standing {
        match self.called.remove(&ticket) {
            Some(Ok(id)) => return Standing::Granted(id),
            Some(Err(why)) => return Standing::Rejected(why),
            None => {}
        }
        match self.waiting.get_mut(&ticket) {
            Some(waiter) => {
                leave_word(&mut waiter.call_by);
                Standing::Waiting
            }
            None => Standing::Ended,
        }
    }

    /// A request that waits goes, for whatever reason: its client left, or it waited for too long. A slot that it was given
    /// just now goes back, and is told.
    pub fn leave(&mut self, fleet: &mut Fleet, ticket: Ticket) -> Option<UpstreamId> {
        self.waiting.remove(&ticket);
        let freed = self.called.remove(&ticket)?.ok()?;
        fleet.finish(freed, true);
        Some(freed)
    }

    /// Gives what is free to those who wait, the first first, and hands out by what they are to be called. Whoever can go
    /// nowhere yet does not hold up those behind who can. Where a slot at `freed` is all that changed, nobody is looked at
    /// any more once it is taken.
    pub fn call_next(
        &mut self,
        fleet: &mut Fleet,
        freed: Option<UpstreamId>,
        chance: &mut Chance,
        call: &mut Vec<W>,
    ) {
        let mut from = Bound::Unbounded;
        while !self.waiting.is_empty() && has_changed(fleet, freed) {
            let mut later = self.waiting.range((from, Bound::Unbounded));
            let next = later.find_map(|(ticket, waiter)| {
                let told = match choose(fleet, &waiter.ask(), &waiter.tried, chance) {
                    Decision::Send(id) => Ok(id),
                    Decision::Wait => return None,
                    Decision::Reject(why) => Err(why),
                };
                Some((*ticket, told))
            });
            let Some((ticket, told)) = next else { return };
            if let Ok(id) = told {
                fleet.start(id, true);
            }
            call.extend(self.waiting.remove(&ticket).and_then(|waiter| waiter.call_by));
            self.called.insert(ticket, told);
            from = Bound::Excluded(ticket);
        }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

fn has_changed(fleet: &Fleet, freed: Option<UpstreamId>) -> bool {
    freed.is_none_or(|id| fleet.get(id).is_some_and(Upstream::has_free_slot))
}
