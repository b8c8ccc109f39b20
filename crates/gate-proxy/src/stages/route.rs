//! Which route the request takes. The table is in `gate-wire`; here its answer becomes a route or an error.

use crate::downstream::Head;
use crate::stages::intake::Target;
use crate::trace::Trace;
use gate_types::Dialect;
use gate_wire::{Found, GateError, Param, Reason, Route};
use std::borrow::Cow;

/// What OpenAI clients ask for whose base URL lacks `/v1`: their commonest mistake, told in the shape that they show.
const OPENAI_WITHOUT_V1: [&str; 5] =
    ["/chat/completions", "/completions", "/embeddings", "/responses", "/models"];

/// An open route, with the parameter of its path where it has one.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) route: &'static Route,
    pub(crate) param: Option<Param<'static>>,
}

/// Looks the request up in the route table.
pub(crate) fn of(head: &Head, target: Target<'_>, trace: &mut Trace) -> Result<Open, GateError> {
    match gate_wire::find(head.method(), target.path) {
        Found::Route(route, param) => {
            trace.dialect = route.dialect;
            trace.route = Some(route);
            Ok(Open { route, param: param.map(owned) })
        }
        Found::WrongMethod { allow, dialect } => {
            trace.dialect = dialect;
            trace.unrouted(head.method(), target.path);
            Err(GateError::wrong_method(allow))
        }
        Found::Unknown(dialect) => {
            let lacks_v1 = OPENAI_WITHOUT_V1.contains(&target.path);
            trace.dialect = if lacks_v1 { Dialect::OpenAi } else { dialect };
            trace.unrouted(head.method(), target.path);
            Err(GateError::new(Reason::UnknownRoute))
        }
    }
}

/// The parameter without its borrow of the head, which is needed no more when the body is read.
fn owned(param: Param<'_>) -> Param<'static> {
    match param {
        Param::Model { name, as_sent } => Param::Model { name, as_sent: Cow::Owned(as_sent.into_owned()) },
        Param::Digest(digest) => Param::Digest(Cow::Owned(digest.into_owned())),
    }
}
