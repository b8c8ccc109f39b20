//! What is asked: reads the body of a known caller and finds the model in it. Nothing has been sent anywhere yet.

use crate::downstream::{BodyError, Downstream, Head};
use crate::gate::Gate;
use crate::outcome::Ended;
use crate::stages::auth::{Caller, permit};
use crate::stages::route::Open;
use crate::trace::Trace;
use gate_types::{ModelName, Scope};
use gate_wire::{BodyKind, Class, GateError, JsonShape, Param, Reason};
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
    gate: &Gate,
    caller: &Caller,
    open: Open,
    down: &mut D,
    trace: &mut Trace,
) -> Result<Call, Ended> {
    uncoded(down.head())?;
    let body = match open.route.body {
        // Passes through when it is sent on.
        BodyKind::Raw => Vec::new(),
        BodyKind::None | BodyKind::Json(_) => down.read_body(gate.limits.body).await.map_err(told)?,
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

/// The model that the body names; every other model in it must be one that the caller may use, too.
fn named(
    open: &Open,
    shape: &JsonShape,
    body: &[u8],
    caller: &Caller,
    trace: &mut Trace,
) -> Result<ModelName, GateError> {
    let facts = gate_wire::request::read(shape, body)
        .map_err(|problem| GateError::new(problem.reason()).saying(problem.to_string()))?;
    let model = facts.model.ok_or_else(|| GateError::unnamed(shape.unnamed))?;
    trace.model = Some(model.short().to_owned());
    allow(&model, &facts.model_as_sent, caller)?;
    let from = facts.from.as_deref().and_then(|from| ModelName::parse(from).ok());
    for other in facts.destination.iter().chain(&from) {
        allow(other, other.short(), caller)?;
    }
    if model.is_cloud() && runs_models(open) {
        permit(caller, Scope::Cloud)?;
    }
    Ok(model)
}

/// Whether the route hands what it was sent to a model, so that a model in the cloud would see it.
fn runs_models(open: &Open) -> bool {
    match open.route.class {
        Class::Needs(Scope::Infer | Scope::Embed | Scope::Read | Scope::Cloud) => true,
        Class::Needs(Scope::Manage) | Class::Public => false,
    }
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
