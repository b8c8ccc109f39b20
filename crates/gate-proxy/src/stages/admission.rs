//! Whose turn it is: chooses an upstream and takes a slot there, waiting for one where none is free. The async shell around
//! the pure queue of `gate-policy`.
//!
//! Requests that run a model need a slot and may have to wait for it: generating, chatting, embedding, in every dialect.
//! Listings, `show`, management and uploads need none: they cost a model server next to nothing, or are an operator's, who must
//! get through while the fleet is busy. A request waits here and not inside Ollama, which forgets those whose clients leave while
//! they wait there. No request waits longer than the settings say, and none waits whose client has left.

use crate::downstream::Downstream;
use crate::gate::Gate;
use crate::outcome::Ended;
use crate::rules::Rules;
use crate::shared::Shared;
use crate::slots::InFlight;
use crate::stages::call::Call;
use crate::trace::Trace;
use gate_policy::{Ask, Entered, Grant, Observation, Standing, Ticket, Why};
use gate_types::{ModelName, Scope, UpstreamId};
use gate_wire::{Answering, Class, GateError, Reason, Route};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// Whether a route runs a model.
pub(crate) fn runs_model(route: &Route) -> bool {
    route.answer == Answering::Forward && matches!(route.class, Class::Needs(Scope::Infer | Scope::Embed))
}

/// Waits for this call's turn. In most cases it comes at once.
pub(crate) async fn wait_turn<D: Downstream>(
    gate: &Gate,
    rules: &Rules,
    call: &Call,
    down: &mut D,
    trace: &mut Trace,
) -> Result<Turn, Ended> {
    let ask = wanted(call, false);
    match gate.enter(&ask, rules.queue.depth) {
        Entered::Granted(grant) => Ok(Turn::new(&gate.shared, grant, ask.runs_model)),
        Entered::Waiting(ticket) => {
            // Boxed: a request that need not wait shall not carry the room for it through its life.
            let waited = Box::pin(wait(gate, ticket, rules.queue.max_wait, down, trace)).await;
            waited.map_err(|unserved| match unserved {
                Unserved::Gone => Ended::Gone,
                Unserved::Late => GateError::new(Reason::QueueTimeout).into(),
                Unserved::Nobody(why) => nobody(gate, why).into(),
            })
        }
        Entered::Full => Err(GateError::new(Reason::QueueFull).into()),
        Entered::Rejected(why) => Err(nobody(gate, why).into()),
    }
}

/// A second try: what is given back, and what is asked for.
pub(crate) struct Again<'t> {
    /// The turn that came to nothing.
    pub(crate) turn: Turn,
    /// Upstreams that were tried, this one among them.
    pub(crate) tried: &'t [UpstreamId],
    /// Whether only an upstream will do that is up and known to have the model.
    pub(crate) for_sure: bool,
}

/// Gives a turn back and waits for one at another upstream, at the old place in the queue. `None` where there is no other,
/// where the time for waiting is over, or where too many requests have been sent twice of late.
pub(crate) async fn wait_again<D: Downstream>(
    gate: &Gate,
    rules: &Rules,
    call: &Call,
    again: Again<'_>,
    down: &mut D,
    trace: &mut Trace,
) -> Result<Option<Turn>, Ended> {
    let ask = wanted(call, again.for_sure);
    match gate.move_on(again.turn.into_held(), &ask, again.tried) {
        Some(Entered::Granted(grant)) => Ok(Some(Turn::new(&gate.shared, grant, ask.runs_model))),
        Some(Entered::Waiting(ticket)) => {
            let left = rules.queue.max_wait.saturating_sub(trace.queued);
            match Box::pin(wait(gate, ticket, left, down, trace)).await {
                Ok(turn) => Ok(Some(turn)),
                Err(Unserved::Gone) => Err(Ended::Gone),
                Err(Unserved::Late | Unserved::Nobody(_)) => Ok(None),
            }
        }
        Some(Entered::Full | Entered::Rejected(_)) | None => Ok(None),
    }
}

fn wanted(call: &Call, for_sure: bool) -> Ask<'_> {
    Ask { model: call.model.as_ref(), runs_model: runs_model(call.open.route), for_sure }
}

/// Why a request got no turn.
enum Unserved {
    Gone,
    Late,
    Nobody(Why),
}

/// Waits until its turn comes, but not longer than the client does, and for `limit` at most.
async fn wait<D: Downstream>(
    gate: &Gate,
    ticket: Ticket,
    limit: Duration,
    down: &mut D,
    trace: &mut Trace,
) -> Result<Turn, Unserved> {
    let shared = Arc::clone(&gate.shared);
    let mut waiting =
        Waiting { shared, ticket, is_over: false, begun: Instant::now(), queued: &mut trace.queued };
    down.limit_silence(Some(limit));
    poll_fn(|cx| {
        // First of all: nobody is connected to for who has left.
        if down.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Unserved::Gone));
        }
        let standing = gate.shared.slots.standing(ticket, cx.waker());
        waiting.is_over = standing != Standing::Waiting;
        match standing {
            // What runs no model does not wait.
            Standing::Granted(grant) => Poll::Ready(Ok(Turn::new(&gate.shared, grant, true))),
            Standing::Rejected(why) => Poll::Ready(Err(Unserved::Nobody(why))),
            Standing::Ended => Poll::Ready(Err(Unserved::Late)),
            Standing::Waiting => down.poll_silent(cx).map(|()| Err(Unserved::Late)),
        }
    })
    .await
}

/// The error where there is no upstream to send to.
pub(crate) fn nobody(gate: &Gate, why: Why) -> GateError {
    gate.shared.none_yet().unwrap_or_else(|| match why {
        Why::NoUpstream => GateError::new(Reason::NoUpstream),
        Why::Loop => GateError::new(Reason::UpstreamLoop),
        Why::AllTried => GateError::new(Reason::UpstreamUnreachable),
    })
}

/// A request that waits; leaves the queue when dropped, and puts down how long it was there.
struct Waiting<'t> {
    shared: Arc<Shared>,
    ticket: Ticket,
    is_over: bool,
    begun: Instant,
    queued: &'t mut Duration,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        *self.queued += self.begun.elapsed();
        if !self.is_over {
            self.shared.slots.leave(self.ticket);
        }
    }
}

/// A request's turn: the upstream that was chosen, and its slot there. Given back when dropped; then the next is called.
#[derive(Debug)]
pub(crate) struct Turn {
    shared: Arc<Shared>,
    held: InFlight,
    is_over: bool,
}

impl Turn {
    fn new(shared: &Arc<Shared>, grant: Grant, runs_model: bool) -> Self {
        Turn { shared: Arc::clone(shared), held: InFlight { grant, runs_model }, is_over: false }
    }

    /// The upstream.
    pub(crate) fn id(&self) -> UpstreamId {
        self.held.grant.id
    }

    /// The upstream answered: where it was thought to be down, it is not.
    pub(crate) fn answered(&self) {
        if !self.held.grant.begun.was_up {
            self.shared.observe(self.id(), Observation::Answered);
        }
    }

    /// The upstream does what it was asked for. News only where something had failed.
    pub(crate) fn served(&self, model: Option<&ModelName>) {
        self.answered();
        if !self.held.grant.begun.failures.is_none() {
            self.shared.served(self.id(), model);
        }
    }

    /// The upstream failed by its own fault, or with this model alone. Counts only where a model was to run: one that lists its
    /// models well may fail with all of them.
    pub(crate) fn failed(&self, model: Option<&ModelName>) {
        if self.held.runs_model {
            self.shared.failed(&self.held.grant, model);
        }
    }

    /// For who gives it back in one step with asking for another one.
    fn into_held(mut self) -> InFlight {
        self.is_over = true;
        self.held
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.is_over {
            self.shared.slots.finish(self.held);
        }
    }
}
