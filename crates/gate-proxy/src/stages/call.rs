//! What is asked: reads the body of a known caller and finds the model in it. Nothing has been sent anywhere yet.

use crate::downstream::{BodyError, Downstream};
use crate::gate::Gate;
use crate::outcome::Ended;
use crate::stages::auth::Caller;
use crate::stages::route::Open;
use crate::trace::Trace;
use gate_types::ModelName;
use gate_wire::{BodyKind, GateError, JsonShape, Param, Reason};

/// A request that may be sent on: its route, its model and its body, checked.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) open: Open,
    pub(crate) model: Option<ModelName>,
    pub(crate) body: Vec<u8>,
    pub(crate) content_type: Option<String>,
}

/// Reads the body, all of it, and what the gate must know of it.
pub(crate) async fn read<D: Downstream>(
    gate: &Gate,
    caller: &Caller,
    open: Open,
    down: &mut D,
    trace: &mut Trace,
) -> Result<Call, Ended> {
    if let Some(coding) = down.head().first("content-encoding")
        && !coding.eq_ignore_ascii_case(b"identity")
    {
        return Err(GateError::new(Reason::UnsupportedEncoding).into());
    }
    let body = down.read_body(gate.limits.body).await.map_err(told)?;
    let model = match (open.route.body, &open.param) {
        (BodyKind::Json(shape), _) => Some(named(shape, &body, caller, trace)?),
        (BodyKind::None | BodyKind::Raw, Some(Param::Model { name, .. })) => Some(allowed(name.clone(), caller, trace)?),
        (BodyKind::None | BodyKind::Raw, _) => None,
    };
    let content_type = down.head().first("content-type").and_then(|value| std::str::from_utf8(value).ok());
    let content_type = content_type.map(str::to_owned);
    Ok(Call { open, model, body, content_type })
}

/// The model that the body names; every other model in it must be one that the caller may use, too.
fn named(shape: &JsonShape, body: &[u8], caller: &Caller, trace: &mut Trace) -> Result<ModelName, GateError> {
    let facts = gate_wire::request::read(shape, body)
        .map_err(|problem| GateError::new(problem.reason()).saying(problem.to_string()))?;
    let model = facts.model.ok_or_else(|| GateError::unnamed(shape.unnamed))?;
    let from = facts.from.as_deref().and_then(|from| ModelName::parse(from).ok());
    for other in facts.destination.into_iter().chain(from) {
        allowed(other, caller, trace)?;
    }
    allowed(model, caller, trace)
}

fn allowed(model: ModelName, caller: &Caller, trace: &mut Trace) -> Result<ModelName, GateError> {
    trace.model = Some(model.short().to_owned());
    if caller.may_use(&model) { Ok(model) } else { Err(GateError::model_not_allowed(model.short())) }
}

fn told(error: BodyError) -> Ended {
    match error {
        BodyError::Gone => Ended::Gone,
        BodyError::TooLarge(limit) => {
            let text = format!("the request body is longer than {limit} bytes, the limit of this gate");
            GateError::new(Reason::BodyTooLarge).saying(text).into()
        }
        BodyError::TooSlow => GateError::new(Reason::RequestTimeout).into(),
        BodyError::Malformed(error) => GateError::new(Reason::BadRequest).saying(error.to_string()).into(),
    }
}
