//! What is asked: reads the body of a known caller and finds the model in it. Nothing has been sent anywhere yet.

use crate::downstream::{BodyError, Downstream, Head};
use crate::gate::Gate;
use crate::held::HeldBody;
use crate::outcome::Ended;
use crate::rules::{Manage, Rules};
use crate::shared::Shared;
use crate::stages::allowed::{self, Named};
use crate::stages::auth::Caller;
use crate::stages::intake::unreadable;
use crate::stages::route::Open;
use crate::trace::Trace;
use gate_types::ModelName;
use gate_wire::{BodyKind, GateError, JsonShape, Naming, Param, Reason, Unnamed};
use std::borrow::Cow;

/// A request that may be sent on: its route, its model and its body, checked.
pub(crate) struct Call {
    pub(crate) open: Open,
    pub(crate) model: Option<ModelName>,
    pub(crate) body: HeldBody,
    /// The model as the client spelled it, where it is not worth reading a second time.
    said: Option<Box<str>>,
}

impl Call {
    /// The model as the client spelled it, for the errors that repeat it.
    pub(crate) fn model_as_sent(&self) -> Cow<'_, str> {
        if let Some(said) = &self.said {
            return Cow::Borrowed(said);
        }
        let read = match (self.open.route.body, &self.open.param) {
            // Read a second time rather than kept: hardly any request needs it.
            (BodyKind::Json(shape), _) => {
                gate_wire::request::read(shape, &self.body).ok().map(|facts| facts.model_as_sent)
            }
            (_, Some(Param::Model { as_sent, .. })) => Some(as_sent.as_ref().into()),
            (BodyKind::None | BodyKind::Raw | BodyKind::Form, _) => None,
        };
        read.unwrap_or_default()
    }
}

/// Reads the body, all of it (but that of an upload), and what the gate must know of it.
pub(crate) async fn read<D: Downstream>(
    gate: &Gate,
    rules: &Rules,
    caller: &Caller,
    open: Open,
    down: &mut D,
    trace: &mut Trace,
) -> Result<Call, Ended> {
    uncoded(down.head())?;
    allowed::route(&rules.manage, open.route.id)?;
    let body = match open.route.body {
        // It passes through when it is sent on.
        BodyKind::Raw => HeldBody::default(),
        // One that the route does not know goes nowhere.
        BodyKind::None => {
            down.want_no_body();
            HeldBody::default()
        }
        BodyKind::Json(_) | BodyKind::Form => down.read_body(rules.limits.body).await.map_err(told)?,
    };
    let grounds = Grounds { shared: &gate.shared, manage: &rules.manage, caller, open: &open };
    let (model, said) = match (open.route.body, &open.param) {
        (BodyKind::Json(shape), _) => (grounds.json(shape, &body, trace)?, None),
        (BodyKind::Form, _) => {
            let (model, said) = grounds.form(down.head(), &body, trace)?;
            (Some(model), Some(said))
        }
        (BodyKind::None | BodyKind::Raw, Some(Param::Model { name, as_sent })) => {
            grounds.model(name, as_sent)?;
            (Some(name.clone()), None)
        }
        (BodyKind::None | BodyKind::Raw, _) => (None, None),
    };
    Ok(Call { open, model, body, said })
}

/// The body must be readable as it is.
fn uncoded(head: &Head) -> Result<(), GateError> {
    if head.all("content-encoding").all(|coding| coding.eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    Err(GateError::new(Reason::UnsupportedEncoding))
}

/// All that a refusal depends on.
struct Grounds<'c> {
    shared: &'c Shared,
    manage: &'c Manage,
    caller: &'c Caller,
    open: &'c Open,
}

impl Grounds<'_> {
    /// The model that the body names; every other model in it must be one that the caller may use, too.
    fn json(
        &self,
        shape: &JsonShape,
        body: &[u8],
        trace: &mut Trace,
    ) -> Result<Option<ModelName>, GateError> {
        let facts = gate_wire::request::read(shape, body)?;
        if shape.naming == Naming::Nothing {
            return Ok(None);
        }
        let model = facts.model.ok_or_else(|| GateError::unnamed(shape.unnamed))?;
        trace.model = Some(model.clone());
        self.model(&model, &facts.model_as_sent)?;
        let from = match facts.from.as_deref().filter(|from| !from.is_empty()).map(ModelName::parse) {
            Some(Ok(from)) => Some(from),
            Some(Err(_)) => return Err(GateError::new(Reason::InvalidModelName)),
            None => None,
        };
        for other in facts.destination.iter().chain(&from) {
            self.model(other, other.short())?;
        }
        allowed::asks(self.caller, &facts.asks)?;
        Ok(Some(model))
    }

    /// The model that a form names, and its spelling.
    fn form(&self, head: &Head, body: &[u8], trace: &mut Trace) -> Result<(ModelName, Box<str>), GateError> {
        // No query reaches an upstream. One that names a model is refused all the same: its sender means another call.
        let query = head.target().split_once('?').map_or("", |(_path, query)| query);
        if gate_wire::multipart::query_names_model(query) {
            return Err(GateError::new(Reason::MalformedForm)
                .saying("the model belongs into the form, not into the query"));
        }
        let mut types = head.all("content-type");
        let (Some(content_type), None) = (types.next(), types.next()) else {
            return Err(GateError::new(Reason::MalformedForm).saying("the request needs one Content-Type"));
        };
        let facts = gate_wire::multipart::read(content_type, body)?;
        let model = facts.model.ok_or_else(|| GateError::unnamed(Unnamed::Required))?;
        trace.model = Some(model.clone());
        self.model(&model, &facts.model_as_sent)?;
        Ok((model, facts.model_as_sent.into()))
    }

    fn model(&self, model: &ModelName, as_sent: &str) -> Result<(), GateError> {
        let named = Named { model, as_sent };
        allowed::model(self.shared, self.manage, self.caller, self.open.route.id, &named)
    }
}

/// A body that could not be read, as it is told to its sender.
pub(crate) fn told(error: BodyError) -> Ended {
    match error {
        BodyError::Gone => Ended::Gone,
        BodyError::TooLarge(limit) => {
            let text = format!("the request body is longer than {limit} bytes, the limit of this gate");
            GateError::new(Reason::BodyTooLarge).saying(text).into()
        }
        BodyError::NoRoom => GateError::new(Reason::BodiesFull).into(),
        BodyError::TooSlow => GateError::new(Reason::RequestTimeout).into(),
        BodyError::Malformed(error) => unreadable(error).into(),
    }
}
