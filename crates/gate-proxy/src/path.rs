//! The life of a request, top to bottom. One line per stage; each stage is a file in `stages/`.
//!
//! Each stage's result is the next one's key: without a [`Caller`](crate::stages::auth::Caller) no body is read, without
//! a [`Call`](crate::stages::call::Call) no upstream is asked. Guards are local variables: leaving [`serve`] by any way
//! gives back what was taken. Nothing here may touch a database, wait for a probe, or know which protocol the client speaks.

use crate::downstream::Downstream;
use crate::gate::{Gate, Rules};
use crate::outcome::{Done, Ended};
use crate::stages::{admission, answer, attempt, auth, call, intake, own, route};
use crate::trace::Trace;
use gate_wire::Answering;

/// Serves one request to its end: the last byte of the answer, an error told in the caller's dialect, or the hang-up.
pub(crate) async fn handle<D: Downstream>(gate: &Gate, rules: &Rules, down: &mut D) {
    let mut trace = Trace::begin(gate, down);
    match serve(gate, rules, down, &mut trace).await {
        Ok(done) => trace.end(done),
        Err(ended) => trace.fail(down, ended).await,
    }
}

async fn serve<D: Downstream>(
    gate: &Gate,
    rules: &Rules,
    down: &mut D,
    trace: &mut Trace,
) -> Result<Done, Ended> {
    let target = intake::check(down.head())?; //                                Host, form of target    400
    let route = route::of(down.head(), target, trace)?; //                      Ollama, OpenAI, …       404 405
    let Some(scope) = route.scope() else {
        return own::greet(gate, &route, down, trace).await; //                  `/` and `/api/version`
    };
    let caller = auth::identify(gate, down.head(), trace)?; //                  key -> Caller           400 401
    auth::permit(&caller, scope)?; //                                           scope                   403
    let call = call::read(gate, rules, &caller, route, down, trace).await?; //  model, stream           400 403 413
    match call.open.route.answer {
        Answering::Forward => {}
        Answering::Gate => return own::greet(gate, &call.open, down, trace).await, // `/metrics`
        Answering::Listing => return own::list(gate, &caller, &call, down, trace).await, // merged, filtered
    }
    let turn = admission::wait_turn(gate, rules, &call, down, trace).await?; // one slot                503
    let live = attempt::send(gate, rules, &caller, call, turn, down, trace).await?; // fail over         404 502 503
    answer::stream(live, down, trace).await //                                  until the last byte or the hang-up
}
