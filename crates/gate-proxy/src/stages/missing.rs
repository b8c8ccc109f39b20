//! What a caller is told of a model or a route that no upstream has. Decides on words alone: who is asked is decided before.

use crate::gate::Gate;
use crate::pulls;
use crate::stages::allowed;
use crate::stages::auth::Caller;
use crate::stages::call::Call;
use gate_policy::Health;
use gate_types::{ModelName, UpstreamId};
use gate_wire::{GateError, Reason};
use std::time::Duration;

/// Where another try is likely to find it.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What an upstream that answers 404 has not got.
#[derive(Clone, Copy)]
pub(crate) enum Missing {
    Model,
    Route,
}

/// Nobody has it: the client is told which names are near. Where one has it who was not asked, or who has got it since, the next
/// try will find it.
pub(crate) fn not_found(
    gate: &Gate,
    caller: &Caller,
    call: &Call,
    missing: Missing,
    tried: &[UpstreamId],
) -> GateError {
    let (Missing::Model, Some(model)) = (missing, &call.model) else {
        return GateError::new(Reason::UnknownRoute)
            .saying("the model server behind this gate does not have this route");
    };
    let (has_another, has_arrived) = gate.shared.with_fleet(|fleet| {
        let have =
            fleet.iter().filter(|(_, upstream)| upstream.health() == Health::Up && upstream.has(model));
        let (arrived, others): (Vec<_>, Vec<_>) = have.map(|(id, _)| id).partition(|id| tried.contains(id));
        (!others.is_empty(), !arrived.is_empty())
    });
    if has_arrived {
        return pulls::arrived(&call.model_as_sent());
    }
    if has_another {
        return GateError::new(Reason::UpstreamFailed)
            .saying("the model servers that were asked have lost the model; try again")
            .again_after(AGAIN_AFTER);
    }
    unknown(gate, caller, model, &call.model_as_sent())
}

/// The error for a model that no upstream has: that it is on its way, or the nearest names that the caller may use.
pub(crate) fn unknown(gate: &Gate, caller: &Caller, model: &ModelName, as_sent: &str) -> GateError {
    if let Some(told) = gate.shared.pulls.told_of(model, as_sent) {
        return told;
    }
    let known = gate.shared.models(|name| allowed::may_see(&gate.shared, caller, name));
    GateError::model_not_found(as_sent, &gate_wire::nearest(model, &known))
}
