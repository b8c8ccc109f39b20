//! Which route the request takes. The table of the built-in ones is in `gate-wire`, that of the settings in the rules, which are
//! looked at only where no built-in one takes it; here the answer becomes a route or an error.

use crate::downstream::Head;
use crate::rules::{ExtraRoute, Rules};
use crate::stages::intake::Target;
use crate::trace::Trace;
use gate_types::Dialect;
use gate_wire::{Allow, Class, Found, GateError, Param, Reason, Route};
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

/// What takes the request.
#[derive(Debug)]
pub(crate) enum Taken<'r> {
    /// A route of Ollama's, or of one of its dialects.
    BuiltIn(Open),
    /// One of the settings.
    Extra(&'r ExtraRoute),
}

impl Taken<'_> {
    /// What a caller needs.
    pub(crate) fn class(&self) -> Class {
        match self {
            Taken::BuiltIn(open) => open.route.class,
            Taken::Extra(route) => Class::Needs(route.scope),
        }
    }
}

/// Looks the request up.
pub(crate) fn of<'r>(
    rules: &'r Rules,
    head: &Head,
    target: Target<'_>,
    trace: &mut Trace,
) -> Result<Taken<'r>, GateError> {
    match gate_wire::find(head.method(), target.path) {
        Found::Route(route, param) => {
            trace.dialect = route.dialect;
            trace.route = Some(route);
            Ok(Taken::BuiltIn(Open { route, param: param.map(owned) }))
        }
        Found::WrongMethod { allow, dialect } => {
            trace.dialect = dialect;
            trace.unrouted(head.method(), target.path);
            Err(GateError::wrong_method(allow))
        }
        Found::Unknown(dialect) => {
            let lacks_v1 = OPENAI_WITHOUT_V1.contains(&target.path);
            trace.dialect = if lacks_v1 { Dialect::OpenAi } else { dialect };
            extra(rules, head, target, trace)
        }
    }
}

/// Looks it up among the routes of the settings.
fn extra<'r>(
    rules: &'r Rules,
    head: &Head,
    target: Target<'_>,
    trace: &mut Trace,
) -> Result<Taken<'r>, GateError> {
    let Some(route) = rules.extra(target.path) else {
        trace.unrouted(head.method(), target.path);
        return Err(GateError::new(Reason::UnknownRoute));
    };
    if !Allow::is_of_templates(head.method()) {
        trace.unrouted(head.method(), target.path);
        return Err(GateError::wrong_method(Allow::OF_TEMPLATES));
    }
    trace.takes_extra(route.template.text());
    Ok(Taken::Extra(route))
}

/// The parameter without its borrow of the head, which is needed no more when the body is read.
fn owned(param: Param<'_>) -> Param<'static> {
    match param {
        Param::Model { name, as_sent } => Param::Model { name, as_sent: Cow::Owned(as_sent.into_owned()) },
        Param::Digest(digest) => Param::Digest(Cow::Owned(digest.into_owned())),
    }
}
