//! What is different where a route of the settings takes the request, beside the built-in ones: these stages stand in for reading a
//! call, waiting for a turn and trying upstreams.
//!
//! One upstream is named and nobody else asked: what runs there is not known here, so no slot is taken, no model read, and
//! nothing but GET and HEAD sent twice. Bodies pass as they come. `fields` says what of the heads passes, `socket` is what
//! comes of a WebSocket. Nothing in here reads a body, or lets a credential of the client through.

mod fields;
mod socket;

use crate::downstream::{Downstream, Head, race};
use crate::gate::Gate;
use crate::outcome::{Done, Ended};
use crate::rules::{ExtraRoute, Rules};
use crate::stages::answer::Way;
use crate::stages::attempt::{Failed, Live, blamed, upload};
use crate::stages::call;
use crate::stages::hops::{self, Onward};
use crate::stages::intake::Target;
use crate::stages::route::Taken;
use crate::trace::Trace;
use gate_policy::Observation;
use gate_upstream::probe::HOPS;
use gate_upstream::{Answer, Reply};
use gate_wire::{GateError, Reason};
use std::pin::pin;

use fields::Asked;
pub(crate) use fields::begin;

/// What the client of a WebSocket is told that shows no key where it counts.
const NO_KEY_IN_SOCKET: &str = "no API key given; a WebSocket shows it when it opens, as \"Authorization: Bearer sk-hg-…\" or as \
                                x-api-key; in the address or in Sec-WebSocket-Protocol it is not looked for";

/// Whether a WebSocket may be opened here, where one is asked for. Before the key: it is the same for every caller.
pub(crate) fn check<D: Downstream>(
    rules: &Rules,
    route: &ExtraRoute,
    head: &Head,
    down: &D,
) -> Result<(), GateError> {
    if socket::is_wanted(head) { socket::check(rules, route, down) } else { Ok(()) }
}

/// Says more to whom a WebSocket was refused for want of a key.
pub(crate) fn explained(error: GateError, taken: &Taken<'_>, head: &Head) -> GateError {
    match (error.reason, taken) {
        (Reason::NoCredentials, Taken::Extra(_)) if socket::is_wanted(head) => error.saying(NO_KEY_IN_SOCKET),
        _ => error,
    }
}

/// Sends the request on and waits for the head of its answer.
pub(crate) async fn send<D: Downstream>(
    gate: &Gate,
    rules: &Rules,
    route: &ExtraRoute,
    head: &Head,
    target: Target<'_>,
    down: &mut D,
    trace: &mut Trace,
) -> Result<Reply, Ended> {
    fields::hold_no_key(head, target)?;
    trace.upstream = Some(route.upstream);
    let id = trace.id;
    let hops = hops::onward(gate, head, trace, route.upstream);
    let own = [("X-Request-Id", Some(id.as_str())), (HOPS, hops.as_ref().map(Onward::text))];
    let asked = fields::asked(head, target, route, own);
    down.limit_silence(Some(rules.own_idle(route.upstream).unwrap_or(rules.limits.idle)));
    let reply = match socket::is_wanted(head) {
        true => switch(gate, route, &asked, down).await,
        false => exchange(gate, rules, route, &asked, down).await.map(Reply::Answered),
    };
    match reply.map_err(|failed| told(gate, route, failed))? {
        Reply::Answered(answer) => {
            judge(gate, route, &answer)?;
            Ok(Reply::Answered(answer))
        }
        Reply::Switched(line) if socket::is_agreed(head, line.fields()) => Ok(Reply::Switched(line)),
        // What is not handed on is closed.
        Reply::Switched(_) => {
            let name = gate.shared.upstream_name(route.upstream);
            let said = format!("{name} answered 101 to another WebSocket than was asked for");
            Err(GateError::new(Reason::UpstreamFailed).because(said).into())
        }
    }
}

/// Lets the answer pass, or the bytes of a WebSocket, until the end.
pub(crate) async fn answer<D: Downstream>(
    rules: &Rules,
    route: &ExtraRoute,
    reply: Reply,
    down: &mut D,
    trace: &mut Trace,
) -> Result<Done, Ended> {
    let own_idle = rules.own_idle(route.upstream);
    match reply {
        Reply::Switched(line) => socket::Socket::open(line, down, trace, own_idle).run(down, trace).await,
        Reply::Answered(answer) => {
            Way::begin(Live::without_turn(answer, own_idle), trace).stream(down, trace).await
        }
    }
}

/// Sends what is no WebSocket.
async fn exchange<D: Downstream>(
    gate: &Gate,
    rules: &Rules,
    route: &ExtraRoute,
    asked: &Asked<'_>,
    down: &mut D,
) -> Result<Answer, Failed> {
    let (id, ask) = (route.upstream, asked.ask());
    if !down.head().framing.is_empty() && ask.method != "HEAD" {
        return upload(gate, rules, id, &ask, down).await;
    }
    down.want_no_body();
    let answer = match ask.method {
        "GET" | "HEAD" => race(down, pin!(gate.upstream.send(id, &ask))).await?,
        _ => race(down, pin!(gate.upstream.send_once(id, &ask))).await?,
    };
    answer.map_err(Failed::Upstream)
}

/// Asks the upstream for a WebSocket.
async fn switch<D: Downstream>(
    gate: &Gate,
    route: &ExtraRoute,
    asked: &Asked<'_>,
    down: &mut D,
) -> Result<Reply, Failed> {
    let ask = asked.ask();
    let opening = pin!(gate.upstream.switch(route.upstream, &ask, socket::PROTOCOL));
    race(down, opening).await?.map_err(Failed::Upstream)
}

/// No answer came.
fn told(gate: &Gate, route: &ExtraRoute, failed: Failed) -> Ended {
    let error = match failed {
        Failed::Gone => return Ended::Gone,
        Failed::Body(error) => return call::told(error),
        Failed::Silent => GateError::new(Reason::UpstreamTimeout),
        Failed::Upstream(error) if error.is_connect() => {
            if !error.is_shortage() {
                gate.shared.observe(route.upstream, Observation::ConnectFailed);
            }
            GateError::new(Reason::UpstreamUnreachable).because(error)
        }
        Failed::Upstream(error) => {
            gate.shared.doubt();
            GateError::new(blamed(&error)).because(error)
        }
    };
    error.into()
}

/// What is between the gate and its upstream is not for the client: a refusal of the gate's own credential, and a redirect that
/// leads past the gate, by whatever field. One to another path stays behind it.
fn judge(gate: &Gate, route: &ExtraRoute, answer: &Answer) -> Result<(), GateError> {
    if !matches!(answer.status(), 401 | 407) && !fields::leads_away(answer.status(), answer.fields()) {
        return Ok(());
    }
    let said = format!("{} answered {}", gate.shared.upstream_name(route.upstream), answer.status());
    Err(GateError::new(Reason::UpstreamFailed).because(said))
}
