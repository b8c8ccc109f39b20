//! The tries at upstreams: choose one, take a place there, send, and move on to the next where nobody listens or the model
//! is missing. Ends with the head of an answer; from then on nothing is tried again.

use crate::downstream::{BodyError, Downstream};
use crate::gate::{Gate, Rules};
use crate::outcome::Ended;
use crate::stages::admission::{self, Again, Turn, nobody};
use crate::stages::allowed;
use crate::stages::auth::Caller;
use crate::stages::call::{self, Call};
use crate::stages::upload::{self, FromClient};
use crate::trace::Trace;
use gate_policy::{Observation, Why};
use gate_types::{ModelName, Scope, UpstreamId};
use gate_upstream::{Answer, UpstreamError};
use gate_wire::{BodyKind, Class, GateError, Reason};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// Bytes of an upstream's refusal that are read so that its connection can be used again, and how long that may take.
const REFUSAL_BYTES: usize = 64 * 1024;
const REFUSAL_TIME: Duration = Duration::from_secs(2);

/// An upstream's answer under way. Dropping it closes the upstream's connection, which stops the model.
pub(crate) struct Live {
    pub(crate) answer: Answer,
    pub(crate) ended: bool,
    _turn: Turn,
}

/// Sends `call` to the best upstream that takes it. The call, with its body, is over when the answer begins.
pub(crate) async fn send<D: Downstream>(
    gate: &Gate,
    rules: &Rules,
    caller: &Caller,
    call: Call,
    mut turn: Turn,
    down: &mut D,
    trace: &mut Trace,
) -> Result<Live, Ended> {
    let mut tried: Vec<UpstreamId> = Vec::new();
    loop {
        trace.upstream = Some(turn.id());
        let answer = match exchange(gate, rules, turn.id(), &call, down, trace).await {
            Ok(answer) => answer,
            Err(Failed::Gone) => return Err(Ended::Gone),
            Err(Failed::Silent) => return Err(GateError::new(Reason::UpstreamTimeout).into()),
            Err(Failed::Body(error)) => return Err(call::told(error)),
            Err(Failed::Upstream(error)) if error.is_connect() => {
                if !error.is_shortage() {
                    gate.shared.observe(turn.id(), Observation::ConnectFailed);
                }
                tried.push(turn.id());
                let again = Again { turn, tried: &tried, for_sure: false };
                turn = match admission::wait_again(gate, rules, &call, again, down, trace).await? {
                    Some(turn) => turn,
                    None => return Err(nobody(gate, Why::AllTried).because(error).into()),
                };
                continue;
            }
            Err(Failed::Upstream(error)) => {
                gate.shared.doubt();
                return Err(GateError::new(blamed(&error)).because(error).into());
            }
        };
        turn.answered();
        if is_not_for_clients(answer.status()) {
            let said = format!("{} answered {}", gate.shared.upstream_name(turn.id()), answer.status());
            return Err(GateError::new(Reason::UpstreamFailed).because(said).into());
        }
        let Some(missing) = missing(&call, &answer) else {
            return Ok(Live { answer, ended: false, _turn: turn });
        };
        tried.push(turn.id());
        if let (Missing::Model, Some(model)) = (missing, &call.model) {
            gate.shared.observe(turn.id(), Observation::ModelMissing(model.clone()));
            gate.shared.doubt();
        }
        pass_over(answer, down).await?;
        let again = Again { turn, tried: &tried, for_sure: true };
        turn = match admission::wait_again(gate, rules, &call, again, down, trace).await? {
            Some(turn) => turn,
            None => return Err(not_found(gate, caller, &call, missing).into()),
        };
    }
}

enum Failed {
    Gone,
    Silent,
    Body(BodyError),
    Upstream(UpstreamError),
}

/// One try, ended early when the client leaves or the upstream stays silent for too long.
async fn exchange<D: Downstream>(
    gate: &Gate,
    rules: &Rules,
    id: UpstreamId,
    call: &Call,
    down: &mut D,
    trace: &Trace,
) -> Result<Answer, Failed> {
    let path = call.open.route.upstream_path(call.open.param.as_ref());
    let head = Rc::clone(down.head());
    let text = |name| head.first(name).and_then(|value| std::str::from_utf8(value).ok());
    // All that an upstream sees of the client: never its credential, Host, Origin, Referer, Cookie or where it came from.
    let passed = [
        ("Content-Type", text("content-type")),
        ("Accept", text("accept")),
        ("User-Agent", text("user-agent")),
        ("X-Request-Id", Some(trace.id.as_str())),
    ];
    let mut fields = [("", ""); 4];
    let mut count = 0;
    for (name, value) in passed {
        if let Some(value) = value {
            fields[count] = (name, value);
            count += 1;
        }
    }
    let ask = gate_upstream::Ask {
        method: call.open.route.method,
        path: &path,
        fields: &fields[..count],
        body: &call.body,
    };
    down.limit_silence(Some(rules.limits.idle));
    match call.open.route.body {
        BodyKind::Raw => upload(gate, rules, id, &ask, down).await,
        BodyKind::None | BodyKind::Json(_) | BodyKind::Form => race(down, gate.upstream.send(id, &ask)).await,
    }
}

/// One try with a body that passes through as it comes. Nothing of it is taken before the upstream is connected.
async fn upload<D: Downstream>(
    gate: &Gate,
    rules: &Rules,
    id: UpstreamId,
    ask: &gate_upstream::Ask<'_>,
    down: &mut D,
) -> Result<Answer, Failed> {
    let mut source = FromClient::new(down, rules.limits.upload);
    let framing = source.framing().map_err(Failed::Body)?;
    match gate.upstream.upload(id, ask, framing, &mut source).await {
        Ok(answer) => Ok(answer),
        Err(error) => Err(match source.into_failure() {
            Some(upload::Failed::Body(BodyError::Gone)) => Failed::Gone,
            Some(upload::Failed::Body(error)) => Failed::Body(error),
            Some(upload::Failed::Silent) => Failed::Silent,
            None => Failed::Upstream(error),
        }),
    }
}

/// Waits for an upstream, but not longer than the client does and than the limit of silence allows.
async fn race<D: Downstream, T>(
    down: &mut D,
    upstream: impl Future<Output = Result<T, UpstreamError>>,
) -> Result<T, Failed> {
    let mut upstream = pin!(upstream);
    poll_fn(|cx| {
        if let Poll::Ready(told) = upstream.as_mut().poll(cx) {
            return Poll::Ready(told.map_err(Failed::Upstream));
        }
        if down.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Failed::Gone));
        }
        down.poll_silent(cx).map(|()| Err(Failed::Silent))
    })
    .await
}

/// A redirection or a demand for credentials is between the gate and its upstream: a client would take it for its own, and
/// Ollama's 401 shows the operator's public key.
fn is_not_for_clients(status: u16) -> bool {
    matches!(status, 300..=399 | 401 | 407)
}

/// Whose doing an error other than a failed connect is.
fn blamed(error: &UpstreamError) -> Reason {
    let is_ours = matches!(error, UpstreamError::Unsendable { .. } | UpstreamError::NoSuchUpstream { .. });
    if is_ours || error.is_source() { Reason::Internal } else { Reason::UpstreamFailed }
}

/// What an upstream that answers 404 has not got.
#[derive(Clone, Copy)]
enum Missing {
    Model,
    Route,
}

/// What is missing there, where another upstream may have it. Answers to management routes pass as they are.
fn missing(call: &Call, answer: &Answer) -> Option<Missing> {
    let manages = matches!(call.open.route.class, Class::Needs(Scope::Manage));
    if answer.status() != 404 || call.model.is_none() || manages {
        return None;
    }
    // An Ollama without the route says so in plain text.
    let is_json = answer.field("content-type").is_some_and(|kind| kind.starts_with(b"application/json"));
    Some(if is_json { Missing::Model } else { Missing::Route })
}

/// Reads a refusal to its end, so that its connection goes back to the pool. Its text is of no use.
async fn pass_over<D: Downstream>(answer: Answer, down: &mut D) -> Result<(), Ended> {
    down.limit_silence(Some(REFUSAL_TIME));
    match race(down, answer.read_all(REFUSAL_BYTES)).await {
        Err(Failed::Gone) => Err(Ended::Gone),
        Ok(_) | Err(Failed::Silent | Failed::Body(_) | Failed::Upstream(_)) => Ok(()),
    }
}

/// Nobody has it: the client is told which names are near.
fn not_found(gate: &Gate, caller: &Caller, call: &Call, missing: Missing) -> GateError {
    let (Missing::Model, Some(model)) = (missing, &call.model) else {
        return GateError::new(Reason::UnknownRoute)
            .saying("the model server behind this gate does not have this route");
    };
    unknown_model(gate, caller, model, &call.model_as_sent())
}

/// The error for a model that no upstream has, with the nearest names that the caller may use.
pub(crate) fn unknown_model(gate: &Gate, caller: &Caller, model: &ModelName, as_sent: &str) -> GateError {
    let known = gate.shared.models(|name| allowed::may_see(&gate.shared, caller, name));
    GateError::model_not_found(as_sent, &gate_wire::nearest(model, &known))
}
