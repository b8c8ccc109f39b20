//! The life of a request, top to bottom. One line per stage; each stage is a file in `stages/`.
//!
//! Each stage's result is the next one's key: without a [`Caller`](crate::stages::auth::Caller) no body is read, without
//! a [`Call`](crate::stages::call::Call) no upstream is asked. Guards are local variables: leaving [`serve`] by any way
//! gives back what was taken. A route of the settings goes the same way as far as the key's scope; from there on its bodies pass
//! unread, to the one upstream that it names. Nothing here may touch a database, wait for a probe, or know which protocol the client speaks.

use crate::downstream::Downstream;
use crate::gate::Gate;
use crate::lease::Lease;
use crate::outcome::{Done, Ended};
use crate::rules::Rules;
use crate::stages::route::Taken;
use crate::stages::{
    admission, answer, attempt, auth, call, cors, extra, hops, intake, own, proxied, redirect, route, show,
};
use crate::trace::Trace;
use gate_wire::{Answering, Class};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;

/// Serves one request to its end: the last byte of the answer, an error told in the caller's dialect, the hang-up, or the
/// end of its lease.
pub(crate) async fn handle<D: Downstream>(gate: &Gate, rules: &Rules, down: &mut D) {
    let mut trace = Trace::begin(gate, down);
    let lease = gate.leases.take();
    let served = {
        let mut serve = pin!(serve(gate, rules, down, &mut trace, &lease));
        poll_fn(|cx| lease.poll(cx, serve.as_mut())).await
    };
    match served {
        Ok(Ok(done)) => trace.end(done),
        Ok(Err(ended)) => Box::pin(trace.fail(down, ended)).await,
        Err(over) => Box::pin(trace.interrupt(down, over)).await,
    }
}

async fn serve<D: Downstream>(
    gate: &Gate,
    rules: &Rules,
    down: &mut D,
    trace: &mut Trace,
    lease: &Lease<'_>,
) -> Result<Done, Ended> {
    let head = Rc::clone(down.head());
    let target = intake::check(rules, &head)?; //                               Host, form of target    400 403
    let _counted = proxied::count(gate, rules, down)?; //                       behind a proxy          429
    if let Some(port) = down.entered().redirect() {
        return Box::pin(redirect::answer(port, &head, target, down, trace)).await; // points to TLS    308 403
    }
    hops::check(gate, &head, trace)?; //                                        what came back          400 503
    if let Some(preflight) = cors::check(rules, &head, target, trace)? {
        return cors::answer(preflight, down, trace).await; //                   pages of other origins  403
    }
    let taken = route::of(rules, &head, target, trace)?; //                     Ollama, …, [[route]]    404 405
    let scope = match taken.class() {
        Class::Needs(scope) => scope,
        Class::Public(greeting) => {
            drop(head); // an answer under way does not hold it
            return own::greet(gate, greeting, down, trace).await; //            `/`, version, health
        }
    };
    if let Taken::Extra(route) = taken {
        extra::check(rules, route, &head, down)?; //                            a WebSocket?            400 403
    }
    let caller = auth::identify(gate, rules, down, target, trace, lease).await; // key -> Caller        400 401 429 503
    let caller = caller.map_err(|error| extra::explained(error, &taken, &head))?;
    auth::permit(&caller, scope)?; //                                           scope                   403
    let route = match taken {
        Taken::BuiltIn(route) => route,
        Taken::Extra(route) => {
            let reply = Box::pin(extra::send(gate, rules, route, &head, target, down, trace)).await?; // 400 413 502 504
            drop(head);
            return Box::pin(extra::answer(rules, route, reply, down, trace)).await; // as it comes
        }
    };
    drop(head);
    let call = call::read(gate, rules, &caller, route, down, trace).await?; //  model, stream           400 403 413
    match call.open.route.answer {
        Answering::Forward => {}
        Answering::Gate => return own::metrics(gate, down, trace).await,
        Answering::Listing => return own::list(gate, &caller, &call, down, trace).await, // merged, filtered
    }
    let tells_less = show::tells_less(&call, &caller);
    let turn = admission::wait_turn(gate, rules, &call, down, trace).await?; // one slot                503
    let live = attempt::send(gate, rules, &caller, &call, turn, down, trace).await?; // fail over        404 502 503
    drop(call); //                                                              with its body
    if tells_less && (200..300).contains(&live.answer.status()) {
        return Box::pin(show::tell(live, &caller, down, trace)).await; //                 `/api/show` without its secrets
    }
    answer::Way::begin(live, trace).stream(down, trace).await //                until the last byte or the hang-up
}
