//! The queue before the fleet: who waits for a slot, and who is next. First come, first served.
//!
//! Pure: tickets in, grants out; nothing here waits, and what is left behind to call a waiter by (`W`) is handed back, never
//! used. Its owner also owns the live fleet, so that choosing an upstream and taking the slot are one step. Whenever the fleet
//! changed (a full upstream has a slot free again, an upstream came up, a model was found) the owner must ask
//! [`Queue::call_next`]. In return, nobody waits who could be served, and so a newcomer that finds a free slot overtakes nobody
//! who could have used it.
//!
//! Fairness between keys and slots that are learnt will be decided here.

use crate::chance::Chance;
use crate::choose::{Ask, Weighed, Why, Wish, weigh};
use crate::fleet::{Begun, Fleet};
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

/// A request's turn at an upstream: it is with it now, and [`Fleet::finish`] ends that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The request's place in the order.
    pub ticket: Ticket,
    /// The upstream.
    pub id: UpstreamId,
    /// What was known of the upstream.
    pub begun: Begun,
    /// Whether the request was with another upstream before.
    pub is_again: bool,
}

/// What happened to a request that entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// Its turn is now.
    Granted(Grant),
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
    /// Its turn came. Told once.
    Granted(Grant),
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
    called: BTreeMap<Ticket, Result<Grant, Why>>,
}

#[derive(Debug)]
struct Waiter<W> {
    model: Option<ModelName>,
    for_sure: bool,
    tried: Box<[UpstreamId]>,
    /// As the fleet is now.
    wish: Wish,
    call_by: Option<W>,
}

impl<W> Waiter<W> {
    fn ask(&self) -> Ask<'_> {
        Ask { model: self.model.as_ref(), runs_model: true, for_sure: self.for_sure }
    }

    /// Whether a slot that came free at this upstream is any good to it. Looks at that one alone: choosing among all is not
    /// for each of the many who wait, at each of the many slots that come back.
    fn may_use(&self, fleet: &Fleet, freed: UpstreamId) -> bool {
        !self.tried.contains(&freed)
            && fleet.get(freed).is_some_and(|upstream| self.wish.is_met_by(upstream, &self.ask()))
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
        match weigh(fleet, ask, &[], chance) {
            Weighed::Send(id) => Entered::Granted(grant(fleet, ticket, id, ask, false)),
            Weighed::Wait(_) if self.waiting.len() >= depth => Entered::Full,
            Weighed::Wait(wish) => self.wait(ticket, ask, &[], wish),
            Weighed::Reject(why) => Entered::Rejected(why),
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
        match weigh(fleet, ask, tried, chance) {
            Weighed::Send(id) => Entered::Granted(grant(fleet, ticket, id, ask, true)),
            Weighed::Wait(wish) => self.wait(ticket, ask, tried, wish),
            Weighed::Reject(why) => Entered::Rejected(why),
        }
    }

    fn wait(&mut self, ticket: Ticket, ask: &Ask<'_>, tried: &[UpstreamId], wish: Wish) -> Entered {
        let (model, for_sure) = (ask.model.cloned(), ask.for_sure);
        let waiter = Waiter { model, for_sure, tried: tried.into(), wish, call_by: None };
        self.waiting.insert(ticket, waiter);
        Entered::Waiting(ticket)
    }

    /// How it stands with `ticket`. While it waits, `leave_word` sees what was left behind to call it by, and may replace it.
    pub fn standing(&mut self, ticket: Ticket, leave_word: impl FnOnce(&mut Option<W>)) -> Standing {
        match self.called.remove(&ticket) {
            Some(Ok(grant)) => return Standing::Granted(grant),
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
    /// just now goes back; told where others may have waited for that.
    pub fn leave(&mut self, fleet: &mut Fleet, ticket: Ticket) -> Option<UpstreamId> {
        self.waiting.remove(&ticket);
        let unused = self.called.remove(&ticket)?.ok()?;
        fleet.finish(unused.id, true).then_some(unused.id)
    }

    /// Gives what is free to those who wait, the first first, and hands out by what they are to be called. Whoever can go
    /// nowhere yet does not hold up those behind who can. Where a slot at `freed` is all that changed, who cannot use that is
    /// passed over, and nobody is looked at any more once it is taken.
    pub fn call_next(
        &mut self,
        fleet: &mut Fleet,
        mut freed: Option<UpstreamId>,
        chance: &mut Chance,
        call: &mut Vec<W>,
    ) {
        let mut from = Bound::Unbounded;
        while !self.waiting.is_empty() && has_changed(fleet, freed) {
            let mut later = self.waiting.range_mut((from, Bound::Unbounded));
            let next = later.find_map(|(ticket, waiter)| {
                if freed.is_some_and(|id| !waiter.may_use(fleet, id)) {
                    return None;
                }
                match weigh(fleet, &waiter.ask(), &waiter.tried, chance) {
                    Weighed::Send(id) => Some((*ticket, Ok(id))),
                    Weighed::Wait(wish) => {
                        waiter.wish = wish;
                        None
                    }
                    Weighed::Reject(why) => Some((*ticket, Err(why))),
                }
            });
            let Some((ticket, told)) = next else { return };
            if let Some(waiter) = self.waiting.remove(&ticket) {
                let is_again = !waiter.tried.is_empty();
                let told = told.map(|id| grant(fleet, ticket, id, &waiter.ask(), is_again));
                if told.is_ok_and(|grant| grant.begun.is_trial) {
                    // With its trial under way it is asked last again, and those behind may do better elsewhere.
                    freed = None;
                }
                self.called.insert(ticket, told);
                call.extend(waiter.call_by);
            }
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

/// Takes the slot.
fn grant(fleet: &mut Fleet, ticket: Ticket, id: UpstreamId, ask: &Ask<'_>, is_again: bool) -> Grant {
    Grant { ticket, id, begun: fleet.begin(id, ask), is_again }
}

fn has_changed(fleet: &Fleet, freed: Option<UpstreamId>) -> bool {
    freed.is_none_or(|id| fleet.get(id).is_some_and(Upstream::has_free_slot))
}
