//! The tries at upstreams: send, and move on to another one where this one cannot be reached, breaks off before a byte, is
//! too busy, has not got the model or cannot load it. Ends with the head of an answer; from then on nothing is tried again.
//!
//! Two upstreams at most have a request, within the budget of `gate-policy` for requests sent twice; each try has a slot of its
//! own, and the first one's is given back before the second one's is taken. Management, uploads and what the operator's account
//! pays for are sent once: they move on only where nothing of them was sent.

use crate::downstream::{BodyError, Cut, Downstream, race};
use crate::gate::Gate;
use crate::outcome::Ended;
use crate::rules::Rules;
use crate::stages::admission::{self, Again, Turn, nobody};
use crate::stages::allowed;
use crate::stages::auth::Caller;
use crate::stages::call::{self, Call};
use crate::stages::hops::{self, Onward};
use crate::stages::missing::{self, Missing};
use crate::stages::upload::{self, FromClient};
use crate::trace::Trace;
use gate_policy::{Observation, Why};
use gate_types::{Scope, UpstreamId};
use gate_upstream::probe::HOPS;
use gate_upstream::{Answer, UpstreamError};
use gate_wire::{BodyKind, Class, GateError, Reason};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// So many upstreams have one request, one after the other. What two cannot do a third hardly can, and a request that kills
/// its runner shall not kill them all.
const MOST_UPSTREAMS: usize = 2;
/// Bytes of an upstream's refusal that are read before anybody else is asked, and how long that may take.
const REFUSAL_BYTES: usize = 64 * 1024;
const REFUSAL_TIME: Duration = Duration::from_secs(2);
/// When a client shall come back that was told 503 by an Ollama, which never says when.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
const AGAIN_AFTER_FIELD: (&str, &[u8]) = ("Retry-After", b"5");

/// An upstream's answer under way. Dropping it closes the upstream's connection, which stops the model.
pub(crate) struct Live {
    pub(crate) answer: Answer,
    pub(crate) ended: bool,
    /// A field that the answer should have and has not.
    pub(crate) added: Option<(&'static str, &'static [u8])>,
    /// For how long this upstream may be silent, where that is not as long as any other.
    pub(crate) own_idle: Option<Duration>,
    /// None where the answer was read to its end already.
    _turn: Option<Turn>,
}

impl Live {
    /// The answer of an upstream at which no turn was taken.
    pub(crate) fn without_turn(answer: Answer, own_idle: Option<Duration>) -> Self {
        Live { answer, ended: false, added: None, own_idle, _turn: None }
    }
}

/// Sends `call` to the best upstream that takes it. The call, with its body, is needed no more when the answer begins.
pub(crate) async fn send<D: Downstream>(
    gate: &Gate,
    rules: &Rules,
    caller: &Caller,
    call: &Call,
    mut turn: Turn,
    down: &mut D,
    trace: &mut Trace,
) -> Result<Live, Ended> {
    let mut tried: Vec<UpstreamId> = Vec::new();
    let mut before = None;
    loop {
        trace.upstream = Some(turn.id());
        let setback = match attempt(gate, rules, &turn, call, down, trace).await? {
            Tried::Answered(answer) => {
                let own_idle = rules.own_idle(turn.id());
                return Ok(Live { answer, ended: false, added: None, own_idle, _turn: Some(turn) });
            }
            Tried::Failed(setback) => setback,
        };
        tried.push(turn.id());
        if tried.len() < MOST_UPSTREAMS {
            let again = Again { turn, tried: &tried, for_sure: setback.is_answer() };
            if let Some(next) = admission::wait_again(gate, rules, call, again, down, trace).await? {
                turn = next;
                before = Some(setback);
                continue;
            }
        }
        return told(gate, caller, call, Setback::to_tell(before, setback), &tried, trace);
    }
}

/// Why another upstream shall be asked.
enum Setback {
    /// No connection came about.
    Unreached(UpstreamId, UpstreamError),
    /// The connection ended before any byte of an answer.
    BrokeOff(UpstreamId, UpstreamError),
    /// It has not got what was asked for.
    Missing(UpstreamId, Missing),
    /// It is too busy, or out of order, or could not load the model, and says so itself.
    Said(Answer),
    /// The same, in no words that a client could read.
    Muttered(UpstreamId, u16),
}

impl Setback {
    /// Whose it is.
    fn upstream(&self) -> UpstreamId {
        match self {
            Setback::Unreached(id, _)
            | Setback::BrokeOff(id, _)
            | Setback::Missing(id, _)
            | Setback::Muttered(id, _) => *id,
            Setback::Said(answer) => answer.upstream(),
        }
    }

    /// Whether the upstream answered, so that a wild guess at another one could only make the answer worse.
    fn is_answer(&self) -> bool {
        match self {
            Setback::Unreached(..) | Setback::BrokeOff(..) => false,
            Setback::Missing(..) | Setback::Said(_) | Setback::Muttered(..) => true,
        }
    }

    /// Which of two the client is told: the last, but an upstream's own words before silence, and that one which has the model
    /// fails before that another one has not got it.
    fn to_tell(before: Option<Self>, last: Self) -> Self {
        match (before, last) {
            (
                Some(said @ Setback::Said(_)),
                Setback::Unreached(..) | Setback::BrokeOff(..) | Setback::Muttered(..),
            ) => said,
            (Some(Setback::Missing(..)) | None, last) => last,
            (Some(before), Setback::Missing(..)) => before,
            (Some(_), last) => last,
        }
    }
}

/// The outcome of one try.
enum Tried {
    /// Whatever it says is for the client.
    Answered(Answer),
    Failed(Setback),
}

/// One try at the upstream whose turn it is.
async fn attempt<D: Downstream>(
    gate: &Gate,
    rules: &Rules,
    turn: &Turn,
    call: &Call,
    down: &mut D,
    trace: &Trace,
) -> Result<Tried, Ended> {
    // Boxed, here and below: a stream shall not carry for minutes the room that its beginning took.
    match Box::pin(exchange(gate, rules, turn.id(), call, down, trace)).await {
        Ok(answer) if answer.status() < 300 => {
            turn.served(call.model.as_ref());
            Ok(Tried::Answered(answer))
        }
        Ok(answer) => Box::pin(judge(gate, turn, call, answer, down)).await,
        Err(Failed::Gone) => Err(Ended::Gone),
        Err(Failed::Silent) => Err(GateError::new(Reason::UpstreamTimeout).into()),
        Err(Failed::Body(error)) => Err(call::told(error)),
        Err(Failed::Upstream(error)) if error.is_connect() => {
            if !error.is_shortage() {
                gate.shared.observe(turn.id(), Observation::ConnectFailed);
                turn.failed(None);
            }
            Ok(Tried::Failed(Setback::Unreached(turn.id(), error)))
        }
        Err(Failed::Upstream(error)) => {
            gate.shared.doubt();
            let blamed = blamed(&error);
            if blamed == Reason::UpstreamFailed {
                turn.failed(None);
            }
            if error.before_first_byte() && is_repeatable(call) {
                return Ok(Tried::Failed(Setback::BrokeOff(turn.id(), error)));
            }
            Err(GateError::new(blamed).because(error).into())
        }
    }
}

/// Whether it may be sent again though an upstream may have worked on it, to the same one or to another: what only asks may; what
/// changes something or costs money may not.
fn is_repeatable(call: &Call) -> bool {
    matches!(call.open.route.class, Class::Needs(Scope::Infer | Scope::Embed | Scope::Read))
}

/// Whether an answer is for the client, or another upstream is to be asked. What has to be read for that stays in the answer.
async fn judge<D: Downstream>(
    gate: &Gate,
    turn: &Turn,
    call: &Call,
    mut answer: Answer,
    down: &mut D,
) -> Result<Tried, Ended> {
    // Ollama's own errors are JSON, but for the 404 of a route that it has not got; others are of something before it.
    let is_json = answer.field("content-type").is_some_and(|kind| kind.starts_with(b"application/json"));
    let status = answer.status();
    if is_json || !matches!(status, 502 | 503) {
        turn.answered();
    }
    match status {
        // Between the gate and its upstream: a client would take it for its own, and Ollama's 401 shows the operator's key.
        300..=399 | 401 | 407 => {
            let said = format!("{} answered {status}", gate.shared.upstream_name(turn.id()));
            Err(GateError::new(Reason::UpstreamFailed).because(said).into())
        }
        404 if is_repeatable(call) && call.model.is_some() => {
            let what = if is_json { Missing::Model } else { Missing::Route };
            if let (Missing::Model, Some(model)) = (what, &call.model) {
                gate.shared.observe(turn.id(), Observation::ModelMissing(model.clone()));
                gate.shared.doubt();
            }
            look_ahead(&mut answer, down).await?;
            Ok(Tried::Failed(Setback::Missing(turn.id(), what)))
        }
        502 | 503 if is_repeatable(call) => {
            gate.shared.doubt();
            // What fails elsewhere, beyond the upstream, says nothing of its own models.
            let elsewhere = call.model.as_ref().filter(|model| allowed::leaves(&gate.shared, model));
            turn.failed(elsewhere);
            let whole = look_ahead(&mut answer, down).await?;
            Ok(Tried::Failed(match whole {
                Some(_) if is_json => Setback::Said(answer),
                _ => Setback::Muttered(turn.id(), status),
            }))
        }
        500 if is_repeatable(call) && is_json => Ok(match look_ahead(&mut answer, down).await? {
            Some(said) if gate_wire::is_load_failure(&said) => {
                turn.failed(call.model.as_ref());
                Tried::Failed(Setback::Said(answer))
            }
            _ => Tried::Answered(answer),
        }),
        _ => Ok(Tried::Answered(answer)),
    }
}

/// What a refusal says; none where its end does not come. Its connection can be used again.
async fn look_ahead<D: Downstream>(answer: &mut Answer, down: &mut D) -> Result<Option<Vec<u8>>, Ended> {
    down.limit_silence(Some(REFUSAL_TIME));
    match race(down, pin!(answer.read_ahead(REFUSAL_BYTES))).await {
        Ok(said) => Ok(Some(said)),
        Err(Cut::Gone) => Err(Ended::Gone),
        Err(Cut::Silent) => Ok(None),
    }
}

/// What the client gets where nobody could serve it.
fn told(
    gate: &Gate,
    caller: &Caller,
    call: &Call,
    setback: Setback,
    tried: &[UpstreamId],
    trace: &mut Trace,
) -> Result<Live, Ended> {
    trace.upstream = Some(setback.upstream());
    match setback {
        Setback::Said(answer) => {
            let says_when = answer.field("retry-after").is_some();
            let added = (answer.status() == 503 && !says_when).then_some(AGAIN_AFTER_FIELD);
            Ok(Live { answer, ended: false, added, own_idle: None, _turn: None })
        }
        Setback::Muttered(id, status) => {
            let said = format!("{} answered {status}", gate.shared.upstream_name(id));
            Err(GateError::new(Reason::UpstreamFailed).again_after(AGAIN_AFTER).because(said).into())
        }
        // What the gate started it starts again, within seconds. Of what broke off nobody is told to come back: that request
        // may be what ended it.
        Setback::Unreached(id, error) if gate.shared.has_started(id) => {
            Err(GateError::new(Reason::Loading).because(error).into())
        }
        Setback::Unreached(_, error) => Err(nobody(gate, Why::AllTried).because(error).into()),
        Setback::BrokeOff(_, error) => Err(GateError::new(Reason::UpstreamFailed).because(error).into()),
        Setback::Missing(_, what) => Err(missing::not_found(gate, caller, call, what, tried).into()),
    }
}

pub(crate) enum Failed {
    Gone,
    Silent,
    Body(BodyError),
    Upstream(UpstreamError),
}

impl From<Cut> for Failed {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Gone => Failed::Gone,
            Cut::Silent => Failed::Silent,
        }
    }
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
    let text = |name| head.first_text(name);
    // All that an upstream sees of the client: never its credential, Host, Origin, Referer, Cookie or where it came from.
    let passed = [
        ("Content-Type", text("content-type")),
        ("Accept", text("accept")),
        ("User-Agent", text("user-agent")),
        ("X-Request-Id", Some(trace.id.as_str())),
    ];
    let hops = hops::onward(gate, &head, trace, id);
    let mut fields = [("", ""); 5];
    let mut count = 0;
    for (name, value) in passed.into_iter().chain([(HOPS, hops.as_ref().map(Onward::text))]) {
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
    down.limit_silence(Some(rules.own_idle(id).unwrap_or(rules.limits.idle)));
    match call.open.route.body {
        BodyKind::Raw => upload(gate, rules, id, &ask, down).await,
        BodyKind::None | BodyKind::Json(_) | BodyKind::Form if is_repeatable(call) => {
            race(down, pin!(gate.upstream.send(id, &ask))).await?.map_err(Failed::Upstream)
        }
        BodyKind::None | BodyKind::Json(_) | BodyKind::Form => {
            race(down, pin!(gate.upstream.send_once(id, &ask))).await?.map_err(Failed::Upstream)
        }
    }
}

/// One try with a body that passes through as it comes. Nothing of it is taken before the upstream is connected.
pub(crate) async fn upload<D: Downstream>(
    gate: &Gate,
    rules: &Rules,
    id: UpstreamId,
    ask: &gate_upstream::Ask<'_>,
    down: &mut D,
) -> Result<Answer, Failed> {
    let mut source = FromClient::new(down, rules.limits.upload, rules.own_idle(id));
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

/// Whose doing an error other than a failed connect is.
pub(crate) fn blamed(error: &UpstreamError) -> Reason {
    let is_ours = matches!(error, UpstreamError::Unsendable { .. } | UpstreamError::NoSuchUpstream { .. });
    if is_ours || error.is_source() { Reason::Internal } else { Reason::UpstreamFailed }
}
