//! What is asked: reads the body of a known caller and finds the model in it. Nothing has been sent anywhere yet.

use crate::downstream::{BodyError, Downstream, Head};
use crate::gate::Rules;
use crate::outcome::Ended;
use crate::stages::auth::{Caller, permit};
use crate::stages::route::Open;
use crate::trace::Trace;
use gate_types::{ModelName, Scope};
use gate_wire::{BodyKind, GateError, JsonShape, Param, Reason, RouteId};
use std::borrow::Cow;

/// A request that may be sent on: its route, its model and its body, checked.
pub(crate) struct Call {
    pub(crate) open: Open,
    pub(crate) model: Option<ModelName>,
    pub(crate) body: Vec<u8>,
}

impl Call {
    /// The model as the client spelled it, for the errors that repeat it.
    pub(crate) fn model_as_sent(&self) -> Cow<'_, str> {
        let read = match (self.open.route.body, &self.open.param) {
            // Read a second time rather than kept: hardly any request needs it.
            (BodyKind::Json(shape), _) => {
                gate_wire::request::read(shape, &self.body).ok().map(|facts| facts.model_as_sent)
            }
            (BodyKind::None | BodyKind::Raw, Some(Param::Model { as_sent, .. })) => {
                Some(as_sent.as_ref().into())
            }
            (BodyKind::None | BodyKind::Raw, _) => None,
        };
        read.unwrap_or_default()
    }
}

/// Reads the body, all of it (but that of an upload), and what the gate must know of it.
pub(crate) async fn read<D: Downstream>(
    rules: &Rules,
    caller: &Caller,
    open: Open,
    down: &mut D,
    trace: &mut Trace,
) -> Result<Call, Ended> {
    uncoded(down.head())?;
    let body = match open.route.body {
        // An upload passes through when it is sent on; a body that the route does not know goes nowhere.
        BodyKind::Raw | BodyKind::None => Vec::new(),
        BodyKind::Json(_) => down.read_body(rules.limits.body).await.map_err(told)?,
    };
    let model = match (open.route.body, &open.param) {
        (BodyKind::Json(shape), _) => Some(named(&open, shape, &body, caller, trace)?),
        (BodyKind::None | BodyKind::Raw, Some(Param::Model { name, as_sent })) => {
            allow(name, as_sent, caller)?;
            Some(name.clone())
        }
        (BodyKind::None | BodyKind::Raw, _) => None,
    };
    Ok(Call { open, model, body })
}

/// The body must be readable as it is.
fn uncoded(head: &Head) -> Result<(), GateError> {
    if head.all("content-encoding").all(|coding| coding.eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    Err(GateError::new(Reason::UnsupportedEncoding))
}

/// The model that the body names; every other model in it must be one that the caller may use, too. A model in the cloud
/// needs its scope even to be copied: under another name nobody would see that it leaves the machine.
fn named(
    open: &Open,
    shape: &JsonShape,
    body: &[u8],
    caller: &Caller,
    trace: &mut Trace,
) -> Result<ModelName, GateError> {
    let facts = gate_wire::request::read(shape, body)?;
    let model = facts.model.ok_or_else(|| GateError::unnamed(shape.unnamed))?;
    trace.model = Some(model.short().to_owned());
    allow(&model, &facts.model_as_sent, caller)?;
    let from = match facts.from.as_deref().filter(|from| !from.is_empty()).map(ModelName::parse) {
        Some(Ok(from)) => Some(from),
        Some(Err(_)) => return Err(GateError::new(Reason::InvalidModelName)),
        None => None,
    };
    for other in facts.destination.iter().chain(&from) {
        allow(other, other.short(), caller)?;
    }
    let leaves = [Some(&model), facts.destination.as_ref(), from.as_ref()]
        .into_iter()
        .flatten()
        .any(ModelName::is_cloud);
    if leaves && open.route.id != RouteId::Delete {
        permit(caller, Scope::Cloud)?;
    }
    Ok(model)
}

fn allow(model: &ModelName, as_sent: &str, caller: &Caller) -> Result<(), GateError> {
    if caller.may_use(model) { Ok(()) } else { Err(GateError::model_not_allowed(as_sent)) }
}

/// A body that could not be read, as it is told to its sender.
pub(crate) fn told(error: BodyError) -> Ended {
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
