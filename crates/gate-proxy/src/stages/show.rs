//! `/api/show` for who does not manage models: the one answer of an upstream that is held, so that what it tells of the
//! server's disk and of private prompts can be taken out.

use crate::downstream::{Cut, Downstream, race};
use crate::outcome::{Done, Ended};
use crate::stages::attempt::Live;
use crate::stages::auth::Caller;
use crate::stages::call::Call;
use crate::stages::own::JSON;
use crate::trace::{Trace, answer_whole};
use gate_types::Scope;
use gate_upstream::UpstreamError;
use gate_wire::{GateError, Reason, RouteId};
use std::pin::pin;

/// Bytes of an answer. A model's facts and licences have kilobytes; what is verbose has megabytes and passes by here.
const MOST: usize = 8 << 20;

/// Whether the caller is told less than the upstream tells.
pub(crate) fn tells_less(call: &Call, caller: &Caller) -> bool {
    call.open.route.id == RouteId::Show && !caller.holds(Scope::Manage)
}

/// Sends what is left of the answer.
pub(crate) async fn tell<D: Downstream>(
    live: Live,
    caller: &Caller,
    down: &mut D,
    trace: &mut Trace,
) -> Result<Done, Ended> {
    let Live { answer, .. } = live;
    let failed = |error: UpstreamError| GateError::new(Reason::UpstreamFailed).because(error);
    let body = match race(down, pin!(answer.read_all(MOST))).await {
        Ok(read) => read.map_err(failed)?,
        Err(Cut::Gone) => return Err(Ended::Gone),
        Err(Cut::Silent) => return Err(GateError::new(Reason::UpstreamTimeout).into()),
    };
    let reduced = gate_wire::show::reduce(&body).ok_or_else(|| {
        GateError::new(Reason::UpstreamFailed).because("its answer to /api/show is no object")
    })?;
    // A list of models may be older than the model.
    if reduced.is_stub && !caller.holds(Scope::Cloud) {
        return Err(GateError::missing_scope(Scope::Cloud).into());
    }
    answer_whole(down, 200, vec![JSON], &reduced.body, trace).await
}
