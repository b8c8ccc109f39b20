//! Routes beside the built-in ones, for upstreams that speak more than Ollama: the life of such a request, from the look-up to
//! the last byte. Looked at only where no built-in route takes the request, so that those pay nothing for it.
//!
//! One upstream is named and nobody else asked: what runs there is not known here, so no slot is taken, no model read, and
//! nothing but GET and HEAD sent twice. Bodies pass as they come. `fields` says what of the heads passes, `socket` is what
//! comes of a WebSocket. Nothing in here reads a body, or lets a credential of the client through.

mod fields;
mod socket;

use crate::downstream::{Downstream, Head, race};
use crate::gate::Gate;
use crate::lease::Lease;
use crate::outcome::{Done, Ended};
use crate::rules::{ExtraRoute, Rules};
use crate::stages::answer::Way;
use crate::stages::attempt::{Failed, Live, blamed, upload};
use crate::stages::hops::{self, Onward};
use crate::stages::intake::{self, Target};
use crate::stages::{auth, call};
use crate::trace::Trace;
use gate_policy::Observation;
use gate_upstream::probe::HOPS;
use gate_upstream::{Answer, Reply};
use gate_wire::{Allow, GateError, Reason};
use std::pin::pin;
use std::rc::Rc;

use fields::Asked;
pub(crate) use fields::begin;

/// What the client of a WebSocket is told that shows no key where it counts.
const NO_KEY_IN_SOCKET: &str = "no API key given; a WebSocket shows it when it opens, as \"Authorization: Bearer sk-hg-…\" or as \
                                x-api-key; in the address or in Sec-WebSocket-Protocol it is not looked for";

/// Serves a request that no built-in route takes. `closed` is what it is told where no other does, either.
pub(crate) async fn serve<D: Downstream>(
    gate: &Gate,
    rules: &Rules,
    closed: GateError,
    head: Rc<Head>,
    down: &mut D,
    trace: &mut Trace,
    lease: &Lease<'_>,
) -> Result<Done, Ended> {
    let target = intake::check(rules, &head)?;
    let route = find(rules, &head, target, closed, trace)?; //                          404 405
    let wants_socket = socket::is_wanted(&head);
    if wants_socket {
        socket::check(rules, route, down)?; //                                          400 403
    }
    let caller = auth::identify(gate, rules, down, target, trace, lease).await;
    let caller = caller.map_err(|error| match error.reason {
        Reason::NoCredentials if wants_socket => error.saying(NO_KEY_IN_SOCKET),
        _ => error,
    })?; //                                                                             400 401 429 503
    auth::permit(&caller, route.scope)?; //                                             403
    fields::hold_no_key(&head, target)?; //                                             400
    trace.upstream = Some(route.upstream);
    let own_idle = rules.own_idle(route.upstream);
    let id = trace.id;
    let hops = hops::onward(gate, &head, trace, route.upstream);
    let asked = fields::asked(
        &head,
        target,
        route,
        [("X-Request-Id", Some(id.as_str())), (HOPS, hops.as_ref().map(Onward::text))],
    );
    down.limit_silence(Some(own_idle.unwrap_or(rules.limits.idle)));
    let reply = match wants_socket {
        true => switch(gate, route, &asked, down).await,
        false => send(gate, rules, route, &asked, down).await.map(Reply::Answered),
    };
    drop(asked);
    drop(hops);
    drop(head); // an answer under way does not hold it
    match reply.map_err(|failed| told(gate, route, failed))? {
        Reply::Switched(line) => socket::Socket::open(line, down, trace, own_idle).run(down, trace).await,
        Reply::Answered(answer) => {
            judge(gate, route, &answer)?; //                                            502
            Way::begin(Live::without_turn(answer, own_idle), trace).stream(down, trace).await
        }
    }
}

/// The route that takes the request.
fn find<'r>(
    rules: &'r Rules,
    head: &Head,
    target: Target<'_>,
    closed: GateError,
    trace: &mut Trace,
) -> Result<&'r ExtraRoute, GateError> {
    if closed.reason != Reason::UnknownRoute {
        return Err(closed);
    }
    let Some(route) = rules.extra(target.path) else { return Err(closed) };
    if !Allow::is_of_templates(head.method()) {
        return Err(GateError::wrong_method(Allow::OF_TEMPLATES));
    }
    trace.takes_extra(route.template.text());
    Ok(route)
}

/// Sends the request on and waits for the head of its answer.
async fn send<D: Downstream>(
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
/// leads past the gate. One to another path stays behind it.
fn judge(gate: &Gate, route: &ExtraRoute, answer: &Answer) -> Result<(), GateError> {
    let stays = || answer.field("location").is_none_or(|to| to.starts_with(b"/") && !to.starts_with(b"//"));
    let is_ours = match answer.status() {
        401 | 407 => true,
        300..=399 => !stays(),
        _ => false,
    };
    if !is_ours {
        return Ok(());
    }
    let said = format!("{} answered {}", gate.shared.upstream_name(route.upstream), answer.status());
    Err(GateError::new(Reason::UpstreamFailed).because(said))
}
