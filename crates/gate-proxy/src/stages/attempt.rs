//! The tries at upstreams: choose one, take a place there, send, and move on to the next where nobody listens. Ends with
//! the head of an answer; from then on nothing is tried again.

use crate::downstream::Downstream;
use crate::gate::{Flight, Gate};
use crate::outcome::Ended;
use crate::stages::auth::Caller;
use crate::stages::call::Call;
use crate::trace::Trace;
use gate_policy::{Ask, Fleet, Observation, Why};
use gate_types::{ModelName, UpstreamId};
use gate_upstream::{Answer, UpstreamError};
use gate_wire::{GateError, Reason};
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// Bytes of an upstream's error that are read in order to tell it better.
const ERROR_BYTES: usize = 64 * 1024;
/// What a client is told to wait where an upstream may just be starting.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// An upstream's answer under way. Dropping it closes the upstream's connection, which stops the model.
pub(crate) struct Live {
    pub(crate) answer: Answer,
    pub(crate) ended: bool,
    pub(crate) idle: Duration,
    _flight: Flight,
}

/// Sends `call` to the best upstream that takes it.
pub(crate) async fn send<D: Downstream>(
    gate: &Gate,
    caller: &Caller,
    call: &Call,
    down: &mut D,
    trace: &mut Trace,
) -> Result<Live, Ended> {
    let ask = Ask { model: call.model.as_ref() };
    let mut tried: Vec<UpstreamId> = Vec::new();
    let mut last = None;
    loop {
        let flight = match gate.take_flight(&ask, &tried) {
            Ok(flight) => flight,
            Err(why) => return Err(nobody(gate, why, last).into()),
        };
        trace.upstream = Some(flight.id);
        match exchange(gate, flight.id, call, down, trace).await {
            Ok(answer) => {
                let missing = call.model.as_ref().filter(|_| answer.status() == 404);
                if let Some(model) = missing {
                    gate.shared.observe(flight.id, Observation::ModelMissing(model.clone()));
                    gate.shared.look_again.notify_waiters();
                    tried.push(flight.id);
                    let elsewhere = |fleet: &Fleet| fleet.iter().any(|(id, up)| !tried.contains(&id) && up.has(model));
                    if gate.shared.with_fleet(elsewhere) {
                        continue;
                    }
                    return Err(not_found(gate, caller, model, answer).await.into());
                }
                return Ok(Live { answer, ended: false, idle: gate.limits.idle, _flight: flight });
            }
            Err(Failed::Gone) => return Err(Ended::Gone),
            Err(Failed::Silent) => return Err(GateError::new(Reason::UpstreamTimeout).into()),
            Err(Failed::Upstream(error)) if error.is_connect() => {
                gate.shared.observe(flight.id, Observation::ConnectFailed);
                tried.push(flight.id);
                last = Some(error);
            }
            Err(Failed::Upstream(error)) => {
                gate.shared.look_again.notify_waiters();
                return Err(GateError::new(Reason::UpstreamFailed).because(error).into());
            }
        }
    }
}

enum Failed {
    Gone,
    Silent,
    Upstream(UpstreamError),
}

/// One try, ended early when the client leaves or the upstream stays silent for too long.
async fn exchange<D: Downstream>(
    gate: &Gate,
    id: UpstreamId,
    call: &Call,
    down: &mut D,
    trace: &Trace,
) -> Result<Answer, Failed> {
    let path = call.open.route.upstream_path(call.open.param.as_ref());
    let mut fields = [("", ""); 4];
    let mut count = 0;
    let agent = down.head().first("user-agent").and_then(|value| std::str::from_utf8(value).ok()).map(str::to_owned);
    let accept = down.head().first("accept").and_then(|value| std::str::from_utf8(value).ok()).map(str::to_owned);
    let wanted = [
        ("Content-Type", call.content_type.as_deref()),
        ("Accept", accept.as_deref()),
        ("User-Agent", agent.as_deref()),
        ("X-Request-Id", Some(trace.id.as_str())),
    ];
    for (name, value) in wanted {
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
    down.limit_silence(Some(gate.limits.idle));
    let mut sending = pin!(gate.upstream.send(id, &ask));
    poll_fn(|cx| {
        if let Poll::Ready(sent) = sending.as_mut().poll(cx) {
            return Poll::Ready(sent.map_err(Failed::Upstream));
        }
        if down.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Failed::Gone));
        }
        down.poll_silent(cx).map(|()| Err(Failed::Silent))
    })
    .await
}

/// No upstream is left to try.
fn nobody(gate: &Gate, why: Why, last: Option<UpstreamError>) -> GateError {
    match (why, last) {
        (Why::NoUpstream, _) => GateError::new(Reason::NoUpstream)
            .saying(gate.shared.no_upstream_hint.clone())
            .again_after(RETRY_AFTER),
        (Why::AllTried, Some(error)) => {
            GateError::new(Reason::UpstreamUnreachable).because(error).again_after(RETRY_AFTER)
        }
        (Why::AllTried, None) => GateError::new(Reason::UpstreamUnreachable).again_after(RETRY_AFTER),
    }
}

/// The upstream has not got the model: its list is looked at again, and the client is told which names are near.
async fn not_found(gate: &Gate, caller: &Caller, model: &ModelName, answer: Answer) -> GateError {
    let is_json = answer.field("content-type").is_some_and(|kind| kind.starts_with(b"application/json"));
    // Of the answer only its connection is of use: read to the end, it goes back to the pool.
    let _text = answer.read_all(ERROR_BYTES).await;
    if !is_json {
        // An Ollama that has no such route says so in plain text.
        return GateError::new(Reason::UnknownRoute).saying("the upstream's version of Ollama does not have this route");
    }
    gate.shared.with_fleet(|fleet| {
        let known = fleet.names().into_iter().filter(|name| caller.may_use(name));
        GateError::model_not_found(model.short(), &gate_wire::nearest(model, known))
    })
}
