//! What the gate answers by itself: the public routes, `/metrics`, and listings merged over all upstreams.

use crate::certificate::Vouched;
use crate::clock::{since_1970, unix_now};
use crate::downstream::{Cut, Downstream, race};
use crate::gate::Gate;
use crate::metrics;
use crate::outcome::{Done, Ended};
use crate::stages::allowed;
use crate::stages::auth::Caller;
use crate::stages::call::Call;
use crate::stages::hops::{self, Onward};
use crate::stages::missing;
use crate::trace::{Trace, answer_whole};
use gate_policy::{Health, Observation, Upstream};
use gate_types::{Dialect, ModelName, Scope, UpstreamId};
use gate_upstream::probe::HOPS;
use gate_upstream::{Ask, UpstreamError};
use gate_wire::{GateError, Greeting, Merged, Param, Reason};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

const TEXT: (&str, &[u8]) = ("Content-Type", b"text/plain; charset=utf-8");
/// What is true now must not be answered from a cache later.
const NOT_KEPT: (&str, &[u8]) = ("Cache-Control", b"no-store");
pub(crate) const JSON: (&str, &[u8]) = ("Content-Type", b"application/json; charset=utf-8");
/// Bytes of one upstream's listing. Ollama's largest seen is some kilobytes a model.
const LISTING_BYTES: usize = 8 << 20;
/// A gate that asks learns by this that it asks a gate, so that its requests bring their marks.
const GATE: (&str, &[u8]) = (HOPS, b"gate");
/// How long a listing waits for its slowest upstream. Those that are late are left out.
const LISTING_TIME: Duration = Duration::from_secs(5);

/// Answers the public routes: alive, what clients may count on, and whether requests can be served.
pub(crate) async fn greet<D: Downstream>(
    gate: &Gate,
    greeting: Greeting,
    down: &mut D,
    trace: &mut Trace,
) -> Result<Done, Ended> {
    match greeting {
        Greeting::Running => {
            let fields = if trace.came_by_gate { vec![TEXT, GATE] } else { vec![TEXT] };
            answer_whole(down, 200, fields, b"Ollama is running", trace).await
        }
        Greeting::Version => {
            let version = gate.shared.with_fleet(|fleet| fleet.lowest_version().map(str::to_owned));
            let Some(version) = version else { return Err(nobody_up(gate).into()) };
            let body = serde_json::json!({ "version": version }).to_string();
            let fields = if trace.came_by_gate { vec![JSON, GATE] } else { vec![JSON] };
            answer_whole(down, 200, fields, body.as_bytes(), trace).await
        }
        Greeting::Alive => answer_whole(down, 200, vec![TEXT, NOT_KEPT], b"ok", trace).await,
        Greeting::Ready => {
            let (status, word) = match readiness(gate) {
                Readiness::Ready => (200, "ready"),
                Readiness::Degraded => (200, "degraded"),
                Readiness::NoCertificate => (503, "no certificate yet"),
                Readiness::NotReady => (503, "not ready"),
            };
            answer_whole(down, status, vec![TEXT, NOT_KEPT], word.as_bytes(), trace).await
        }
    }
}

/// Answers `/metrics`.
pub(crate) async fn metrics<D: Downstream>(
    gate: &Gate,
    down: &mut D,
    trace: &mut Trace,
) -> Result<Done, Ended> {
    let fields = vec![("Content-Type", metrics::CONTENT_TYPE.as_bytes())];
    answer_whole(down, 200, fields, metrics::scrape(&gate.shared).as_bytes(), trace).await
}

/// Whether requests can be served now. No details: everybody may ask.
enum Readiness {
    Ready,
    /// They can, with less than there should be: an upstream is down, or the store of keys, or the certificate has expired.
    Degraded,
    /// Clients cannot shake hands.
    NoCertificate,
    /// No upstream answers, or the gate is ending.
    NotReady,
}

fn readiness(gate: &Gate) -> Readiness {
    let (up, down) = gate.shared.with_fleet(|fleet| {
        // Where one at least runs models, none of the others makes up for that.
        let has_ollama = fleet.ollamas().next().is_some();
        let serves = |upstream: &Upstream| upstream.is_ollama() || !has_ollama;
        let is_down = |upstream: &Upstream| matches!(upstream.health(), Health::Down | Health::Loop);
        let is_up = |upstream: &Upstream| upstream.health() == Health::Up && serves(upstream);
        let count =
            |is: &dyn Fn(&Upstream) -> bool| fleet.iter().filter(|(_, upstream)| is(upstream)).count();
        (count(&is_up), count(&is_down))
    });
    let vouched = gate.shared.certificate.get();
    let is_expired = matches!(vouched, Vouched::For(life) if life.is_over(since_1970().as_secs()));
    if up == 0 || gate.drain.has_begun() {
        Readiness::NotReady
    } else if vouched == Vouched::NotYet {
        Readiness::NoCertificate
    } else if down > 0 || is_expired || gate.shared.store.is_degraded() {
        Readiness::Degraded
    } else {
        Readiness::Ready
    }
}

/// Answers a listing: asks every upstream that is up, merges what they say, shows what the key may use.
pub(crate) async fn list<D: Downstream>(
    gate: &Gate,
    caller: &Caller,
    call: &Call,
    down: &mut D,
    trace: &mut Trace,
) -> Result<Done, Ended> {
    let listings = gather(gate, call, down, trace).await?;
    let bodies: Vec<&[u8]> = listings.iter().map(|(_, body)| body.as_slice()).collect();
    let visible = |name: &ModelName, is_stub: bool| {
        (!is_stub || caller.holds(Scope::Cloud)) && allowed::may_see(&gate.shared, caller, name)
    };
    let body = match (&call.open.param, call.open.route.dialect) {
        (Some(Param::Model { name, as_sent }), _) => {
            let found = gate_wire::v1_model(&bodies, name, as_sent);
            found.ok_or_else(|| missing::unknown(gate, caller, name, as_sent))?
        }
        (Some(Param::Digest(_)) | None, Dialect::OpenAi) => {
            merged(gate, &listings, gate_wire::merge_v1_models(&bodies, &visible))?
        }
        (Some(Param::Digest(_)) | None, Dialect::Ollama | Dialect::Anthropic) => {
            merged(gate, &listings, gate_wire::merge_models(&bodies, &visible))?
        }
    };
    answer_whole(down, 200, vec![JSON], body.as_bytes(), trace).await
}

/// The merged listing. Bodies that are no listing are left out, which is told of once a minute; where there is no other, the
/// upstreams have failed.
fn merged(gate: &Gate, of: &[(UpstreamId, Vec<u8>)], listing: Merged) -> Result<String, GateError> {
    for (id, _) in listing.unreadable.iter().filter_map(|place| of.get(*place)) {
        if gate.shared.nonsense.is_due(id.index(), unix_now()) {
            let name = gate.shared.upstream_name(*id);
            tracing::warn!(
                "{name} answers with something that is no list of models: it is left out of lists"
            );
        }
    }
    if !of.is_empty() && listing.unreadable.len() == of.len() {
        return Err(GateError::new(Reason::UpstreamFailed)
            .because("the upstreams answered with something that is no list of models"));
    }
    Ok(listing.body)
}

/// The listings of all upstreams that answer, in the order of the settings; an error where none does.
async fn gather<D: Downstream>(
    gate: &Gate,
    call: &Call,
    down: &mut D,
    trace: &Trace,
) -> Result<Vec<(UpstreamId, Vec<u8>)>, Ended> {
    let whom = whom_to_ask(gate);
    if whom.is_empty() {
        return Err(nobody_up(gate).into());
    }
    let path = call.open.route.upstream_path(None);
    let head = Rc::clone(down.head());
    let hops = |id| hops::onward(gate, &head, trace, id);
    let mut asked: Vec<_> =
        whom.iter().map(|id| Asked::Waiting(Box::pin(ask_one(gate, *id, &path, hops(*id))))).collect();
    down.limit_silence(Some(LISTING_TIME));
    let all = poll_fn(|cx| {
        let mut is_waiting = false;
        for one in &mut asked {
            is_waiting |= one.poll(cx).is_pending();
        }
        if is_waiting { Poll::Pending } else { Poll::Ready(()) }
    });
    match race(down, pin!(all)).await {
        Err(Cut::Gone) => return Err(Ended::Gone),
        // The slow ones are left out.
        Ok(()) | Err(Cut::Silent) => {}
    }
    let (mut listings, mut failed) = (Vec::new(), None);
    for (one, id) in asked.into_iter().zip(whom) {
        match one {
            Asked::Told(Ok(listing)) => listings.push((id, listing)),
            Asked::Told(Err(error)) => {
                if matches!(&error, Unlisted::Upstream(error) if error.is_connect()) {
                    gate.shared.observe(id, Observation::ConnectFailed);
                }
                failed = Some(error);
            }
            Asked::Waiting(_) => {}
        }
    }
    match (listings.is_empty(), failed) {
        (false, _) => Ok(listings),
        (true, Some(error)) => Err(gate.shared.none_yet().unwrap_or_else(|| error.told()).into()),
        (true, None) => Err(GateError::new(Reason::UpstreamTimeout).into()),
    }
}

/// Those that are not known to be down; all of them where that leaves none, for one may be back.
fn whom_to_ask(gate: &Gate) -> Vec<UpstreamId> {
    gate.shared.with_fleet(|fleet| {
        let is_up = |(_, upstream): &(UpstreamId, &Upstream)| match upstream.health() {
            Health::Up | Health::Unknown => true,
            Health::Down | Health::Loop => false,
        };
        let any_up = fleet.ollamas().any(|one| is_up(&one));
        let may_be = |(_, upstream): &(UpstreamId, &Upstream)| upstream.health() != Health::Loop;
        fleet
            .ollamas()
            .filter(|one| if any_up { is_up(one) } else { may_be(one) })
            .map(|(id, _)| id)
            .collect()
    })
}

/// Why an upstream gave no listing.
enum Unlisted {
    Upstream(UpstreamError),
    Status(u16),
}

impl Unlisted {
    fn told(self) -> GateError {
        match self {
            Unlisted::Upstream(error) if error.is_connect() => {
                GateError::new(Reason::UpstreamUnreachable).because(error)
            }
            Unlisted::Upstream(error) => GateError::new(Reason::UpstreamFailed).because(error),
            Unlisted::Status(status) => {
                GateError::new(Reason::UpstreamFailed).because(format!("its listing had the status {status}"))
            }
        }
    }
}

enum Asked<F> {
    Waiting(Pin<Box<F>>),
    Told(Result<Vec<u8>, Unlisted>),
}

impl<F: Future<Output = Result<Vec<u8>, Unlisted>>> Asked<F> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Asked::Waiting(future) = self {
            match future.as_mut().poll(cx) {
                Poll::Ready(told) => *self = Asked::Told(told),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }
}

/// One upstream's listing.
async fn ask_one(
    gate: &Gate,
    id: UpstreamId,
    path: &str,
    hops: Option<Onward<'_>>,
) -> Result<Vec<u8>, Unlisted> {
    let fields = [("Accept", "application/json"), (HOPS, hops.as_ref().map_or("", Onward::text))];
    let fields = if hops.is_some() { &fields[..] } else { &fields[..1] };
    let ask = Ask { method: "GET", path, fields, body: b"" };
    let answer = gate.upstream.send(id, &ask).await.map_err(Unlisted::Upstream)?;
    let status = answer.status();
    let body = answer.read_all(LISTING_BYTES).await.map_err(Unlisted::Upstream)?;
    if status == 200 { Ok(body) } else { Err(Unlisted::Status(status)) }
}

fn nobody_up(gate: &Gate) -> GateError {
    let leads_back = |(_, upstream): (UpstreamId, &Upstream)| upstream.health() == Health::Loop;
    let only_loops =
        gate.shared.with_fleet(|fleet| fleet.ollamas().next().is_some() && fleet.ollamas().all(leads_back));
    let reason = if only_loops { Reason::UpstreamLoop } else { Reason::UpstreamUnreachable };
    gate.shared.none_yet().unwrap_or_else(|| GateError::new(reason))
}
