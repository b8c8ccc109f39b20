//! What becomes known of one request on its way: begun with its head, written as a record once, at its end. It never
//! holds a prompt or a credential.

use crate::downstream::{AnswerHead, Downstream, Head};
use crate::gate::{Gate, Ledger};
use crate::lease::Over;
use crate::outcome::{Done, Ended};
use crate::passed::Passed;
use crate::record::{self, Outcome, Record};
use crate::request_id::RequestId;
use crate::stages::cors::Cors;
use crate::stages::intake;
use gate_h1::Framing;
use gate_types::{Dialect, ModelName, UpstreamId};
use gate_wire::{GateError, Reason, Route};
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

/// The status that a record shows for a client that left, as Ollama's own log does.
const LEFT: u16 = 499;

/// How long the last words of a broken answer wait for a client that takes nothing: its upstream and its slot are free
/// already, and whoever revoked a key or ends the gate does not want to wait.
const ENDING_TIME: Duration = Duration::from_secs(1);

/// What a record says of an answer that carries its own error.
const TOLD: &str = "the answer ended with an error of the upstream's own";

/// A request that no built-in route takes.
enum Stray {
    /// Method and path of one that no other takes, either.
    Asked(String),
    /// The template of the route that takes it.
    Extra(Arc<str>),
}

/// What is known of a request so far.
pub(crate) struct Trace {
    ledger: Rc<Ledger>,
    pub(crate) id: RequestId,
    /// Where the client is: its own address, where a proxy that is believed has told it, else that of its connection.
    client: IpAddr,
    /// Whose certificate the client has shown.
    certificate: Option<Rc<str>>,
    begun: Instant,
    /// The dialect that errors are told in.
    pub(crate) dialect: Dialect,
    pub(crate) route: Option<&'static Route>,
    /// What there is to say where no built-in route takes the request.
    stray: Option<Stray>,
    pub(crate) key: Option<Arc<gate_keys::Key>>,
    pub(crate) model: Option<ModelName>,
    pub(crate) upstream: Option<UpstreamId>,
    /// The status that the client was told; 0 before that.
    pub(crate) status: u16,
    /// Whether it came by another gate.
    pub(crate) came_by_gate: bool,
    /// How long it waited for its turn.
    pub(crate) queued: Duration,
    /// What the answer tells browsers.
    pub(crate) cors: Cors,
    pub(crate) first_byte: Option<Instant>,
    /// What has gone out of an upstream's answer; none before it began, and where the gate answers by itself.
    pub(crate) passed: Option<Passed>,
    /// Tokens of the prompt, as the upstream counted them.
    pub(crate) tokens_in: Option<u64>,
    /// Tokens of the answer, as the upstream counted them.
    pub(crate) tokens_out: Option<u64>,
    written: bool,
}

impl Trace {
    pub(crate) fn begin<D: Downstream>(gate: &Gate, down: &D) -> Self {
        let head = down.head();
        let id = RequestId::of(head, |id| gate.shared.keys().knows(id));
        let dialect = gate_wire::routes::dialect_of(intake::likely_path(head.target()));
        let mut trace = Self::new(gate, down.source().address, id, dialect);
        trace.certificate.clone_from(&down.entered().certificate);
        trace
    }

    fn new(gate: &Gate, client: IpAddr, id: RequestId, dialect: Dialect) -> Self {
        Self {
            ledger: Rc::clone(&gate.ledger),
            client,
            certificate: None,
            id,
            begun: Instant::now(),
            dialect,
            route: None,
            stray: None,
            key: None,
            model: None,
            upstream: None,
            status: 0,
            came_by_gate: false,
            queued: Duration::ZERO,
            cors: Cors::default(),
            first_byte: None,
            passed: None,
            tokens_in: None,
            tokens_out: None,
            written: false,
        }
    }

    /// Nothing takes the request: its record says what was asked for, as far as that is safe to say.
    pub(crate) fn unrouted(&mut self, method: &str, path: &str) {
        self.stray = Some(Stray::Asked(record::asked(method, path)));
    }

    /// A route beside the built-in ones takes the request.
    pub(crate) fn takes_extra(&mut self, template: &Arc<str>) {
        self.stray = Some(Stray::Extra(Arc::clone(template)));
    }

    /// Whether one does.
    pub(crate) fn is_extra(&self) -> bool {
        matches!(self.stray, Some(Stray::Extra(_)))
    }

    /// The answer went out whole. One that the upstream itself ended with an error, behind a status that promised
    /// success, went out as it came, but is not called done.
    pub(crate) fn end(&mut self, done: Done) {
        if self.passed.as_ref().is_some_and(Passed::has_failed) {
            let error = GateError::new(Reason::UpstreamFailed).because(TOLD);
            return self.write(Outcome::CutShort, done.status, Some(&error));
        }
        self.write(Outcome::Done, done.status, None);
    }

    /// The request ended otherwise: told to the client, if it is there and has seen nothing yet.
    pub(crate) async fn fail<D: Downstream>(&mut self, down: &mut D, ended: Ended) {
        match ended {
            Ended::Gone => {
                down.abort();
                self.write(Outcome::Cancelled, LEFT, None);
            }
            Ended::CutShort(error) => self.cut(down, &error, Outcome::CutShort).await,
            Ended::Refused(error) => {
                let rendered = gate_wire::render(self.dialect, &error, Some(self.id.as_str()));
                let rendered = if is_ollama_cli(down.head()) { rendered.forbidden() } else { rendered };
                // The record tells why the request failed; a client that does not wait for the answer changes nothing.
                let _told = self.tell(down, &rendered).await;
                self.write(Outcome::of_refusal(&error), rendered.status, Some(&error));
            }
        }
    }

    /// The request was ended from outside: told as an error before its answer began, and cut short after that.
    pub(crate) async fn interrupt<D: Downstream>(&mut self, down: &mut D, over: Over) {
        let error = GateError::new(over.reason());
        if self.status == 0 {
            return self.fail(down, error.into()).await;
        }
        let outcome = match over {
            Over::Key => Outcome::Revoked,
            Over::Gate => Outcome::ShutDown,
        };
        self.cut(down, &error, outcome).await;
    }

    async fn cut<D: Downstream>(&mut self, down: &mut D, error: &GateError, outcome: Outcome) {
        self.say_cut(down, error).await;
        down.abort();
        self.write(outcome, self.status, Some(error));
    }

    async fn tell<D: Downstream>(
        &mut self,
        down: &mut D,
        rendered: &gate_wire::Rendered,
    ) -> Result<Done, Ended> {
        let mut fields: Vec<(&str, &[u8])> = vec![("Content-Type", rendered.content_type.as_bytes())];
        fields.extend(rendered.fields.iter().map(|(name, value)| (*name, value.as_bytes())));
        answer_whole(down, rendered.status, fields, rendered.body.as_bytes(), self).await
    }

    /// Says in the answer itself that it breaks off, where its dialect has words for that. A client that does not take
    /// them in time sees the broken connection alone.
    async fn say_cut<D: Downstream>(&self, down: &mut D, error: &GateError) {
        let Some(ending) = self.passed.as_ref().and_then(|passed| passed.ending(error, self.id.as_str()))
        else {
            return;
        };
        down.limit_silence(Some(ENDING_TIME));
        let mut is_offered = false;
        poll_fn(|cx| {
            loop {
                if ready!(down.poll_flush(cx)).is_err() || is_offered {
                    return Poll::Ready(());
                }
                is_offered = true;
                if down.offer(cx, &ending.wire, &ending.pieces, false).is_err() {
                    return Poll::Ready(());
                }
            }
        })
        .await;
    }

    fn write(&mut self, outcome: Outcome, status: u16, error: Option<&GateError>) {
        self.written = true;
        if let Some(tokens) = self.passed.as_ref().and_then(Passed::tokens) {
            self.tokens_in = Some(tokens.prompt);
            self.tokens_out = Some(tokens.completion);
        }
        let (extra, asked) = match &self.stray {
            None => (None, None),
            Some(Stray::Asked(asked)) => (None, Some(asked.as_str())),
            Some(Stray::Extra(template)) => (Some(template), None),
        };
        self.ledger.keep(&Record {
            id: self.id.as_str(),
            client: self.client,
            certificate: self.certificate.as_deref(),
            key: self.key.as_deref().map(|key| key.name.as_str()),
            route: self.route,
            extra,
            asked,
            model: self.model.as_ref(),
            upstream: self.upstream.map(|id| self.ledger.shared.upstream_name(id)),
            status,
            outcome,
            queued: self.queued,
            ttft: self.first_byte.map(|at| at.saturating_duration_since(self.begun)),
            total: self.begun.elapsed(),
            tokens_in: self.tokens_in,
            tokens_out: self.tokens_out,
            error,
        });
        // Whatever came of it: what an upstream has is asked anew, so that what leaves the house from now on is known.
        if self.route.is_some_and(Route::changes_models) {
            self.ledger.shared.doubt();
        }
    }
}

impl Drop for Trace {
    /// A request whose task was ended from outside, as at the end of the program, has its record too.
    fn drop(&mut self) {
        if !self.written {
            let outcome = if std::thread::panicking() { Outcome::GateFailed } else { Outcome::ShutDown };
            self.write(outcome, self.status, None);
        }
    }
}

/// Whether Ollama's own command line asks: it shows its user the text of a 403 but not of a 401.
pub(crate) fn is_ollama_cli(head: &Head) -> bool {
    head.first("user-agent").is_some_and(|agent| agent.starts_with(b"ollama/"))
}

/// Tells a client whose head has no reading, in the plainest form; its record is written. There is no path, so it is told in
/// Ollama's dialect.
pub(crate) fn unreadable<T>(
    gate: &Gate,
    peer: IpAddr,
    error: &GateError,
    tell: impl FnOnce(&AnswerHead<'_>, String) -> T,
) -> T {
    let mut trace = Trace::new(gate, peer, RequestId::fresh(), Dialect::Ollama);
    let rendered = gate_wire::render(trace.dialect, error, None);
    trace.write(Outcome::of_refusal(error), rendered.status, Some(error));
    let fields = [("Content-Type", rendered.content_type.as_bytes()), ("x-request-id", trace.id.as_bytes())];
    let framing = Framing::Length(rendered.body.len() as u64);
    tell(&AnswerHead { status: rendered.status, fields: &fields, framing }, rendered.body)
}

/// Sends a whole answer: head and body in one write where the client takes it.
pub(crate) async fn answer_whole<D: Downstream>(
    down: &mut D,
    status: u16,
    mut fields: Vec<(&str, &[u8])>,
    body: &[u8],
    trace: &mut Trace,
) -> Result<Done, Ended> {
    trace.status = status;
    let id = trace.id;
    fields.push(("x-request-id", id.as_bytes()));
    fields.extend(trace.cors.fields());
    down.begin(&AnswerHead { status, fields: &fields, framing: Framing::Length(body.len() as u64) });
    let mut is_offered = false;
    let written = poll_fn(|cx| {
        if !is_offered {
            is_offered = true;
            if let Err(error) = down.offer(cx, body, std::slice::from_ref(&(0..body.len())), true) {
                return Poll::Ready(Err(error));
            }
        }
        down.poll_flush(cx)
    })
    .await;
    if written.is_err() {
        down.abort();
        return Err(Ended::Gone);
    }
    Ok(Done { status })
}
