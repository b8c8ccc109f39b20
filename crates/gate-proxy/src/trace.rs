//! The record of one request: begun with its head, written once, at its end. It never holds a prompt or a credential.

use crate::downstream::{AnswerHead, Downstream};
use crate::gate::{Gate, Shared};
use crate::outcome::{Done, Ended};
use crate::request_id::RequestId;
use crate::stages::intake;
use gate_h1::Framing;
use gate_types::{Dialect, UpstreamId};
use gate_wire::{GateError, Side};
use std::fmt;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// The status that a record shows for a client that left, as Ollama's own log does.
const LEFT: u16 = 499;

/// Characters of a path that no route takes, in its record.
const STRAY_CHARS: usize = 80;

/// What is known of a request so far.
pub(crate) struct Trace {
    pub(crate) id: RequestId,
    /// Where the client's connection comes from.
    peer: IpAddr,
    begun: Instant,
    /// The dialect that errors are told in.
    pub(crate) dialect: Dialect,
    pub(crate) route: &'static str,
    /// Method and path of a request that no route takes.
    stray: Option<String>,
    pub(crate) key: Option<Arc<gate_keys::Key>>,
    pub(crate) model: Option<String>,
    pub(crate) upstream: Option<UpstreamId>,
    /// The status that the client was told; 0 before that.
    pub(crate) status: u16,
    pub(crate) first_byte: Option<Instant>,
    shared: Arc<Shared>,
    written: bool,
}

impl Trace {
    pub(crate) fn begin<D: Downstream>(gate: &Gate, down: &D) -> Self {
        let head = down.head();
        Self {
            peer: down.peer(),
            id: RequestId::of(head),
            begun: Instant::now(),
            dialect: gate_wire::routes::dialect_of(intake::likely_path(head.target())),
            route: "",
            stray: None,
            key: None,
            model: None,
            upstream: None,
            status: 0,
            first_byte: None,
            shared: Arc::clone(&gate.shared),
            written: false,
        }
    }

    /// Nothing takes the request: its record says what was asked for, cut short, and never a path with a key in it.
    pub(crate) fn unrouted(&mut self, method: &str, path: &str) {
        let shown: String = path.chars().take(STRAY_CHARS).collect();
        let shown = if path.contains(gate_keys::KEY_PREFIX) { "(a path with a key in it)" } else { &shown };
        self.stray = Some(format!("{method} {shown}"));
    }

    /// The answer went out whole.
    pub(crate) fn end(&mut self, done: Done) {
        self.write("done", done.status, None);
    }

    /// The request ended otherwise: told to the client, if it is there and has seen nothing yet.
    pub(crate) async fn fail<D: Downstream>(&mut self, down: &mut D, ended: Ended) {
        match ended {
            Ended::Gone => {
                down.abort();
                self.write("cancelled", LEFT, None);
            }
            Ended::CutShort(error) => {
                down.abort();
                self.write("cut_short", self.status, Some(&error));
            }
            Ended::Refused(error) => {
                let rendered = gate_wire::render(self.dialect, &error, Some(self.id.as_str()));
                // The record tells why the request failed; a client that does not wait for the answer changes nothing.
                let _told = self.tell(down, &rendered).await;
                self.write(verdict(&error), rendered.status, Some(&error));
            }
        }
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

    fn write(&mut self, outcome: &str, status: u16, error: Option<&GateError>) {
        self.written = true;
        let took = milliseconds(self.begun.elapsed());
        let ttft = self.first_byte.map(|at| milliseconds(at - self.begun));
        tracing::info!(
            target: "herdgate::access",
            id = self.id.as_str(),
            client = tracing::field::display(self.peer),
            key = self.key.as_deref().map(|key| key.name.as_str()),
            route = Some(self.route).filter(|route| !route.is_empty()),
            asked = self.stray.as_deref(),
            model = self.model.as_deref(),
            upstream = self.upstream.map(|id| self.shared.upstream_name(id)),
            status,
            outcome,
            ttft_ms = ttft,
            total_ms = took,
            error = error.map(|error| tracing::field::display(Cause(error))),
            "request"
        );
    }
}

impl Drop for Trace {
    /// A request whose task was ended from outside, as at the end of the program, has its record too.
    fn drop(&mut self) {
        if !self.written {
            self.write("aborted", self.status, None);
        }
    }
}

/// Writes the record of a request whose head has no reading.
pub(crate) fn unreadable(id: &RequestId, peer: IpAddr, error: &GateError) {
    tracing::info!(
        target: "herdgate::access",
        id = id.as_str(),
        client = tracing::field::display(peer),
        status = error.reason.status(),
        outcome = verdict(error),
        error = tracing::field::display(Cause(error)),
        "request"
    );
}

/// Milliseconds, to the microsecond.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Whose doing an error was, as records say it.
fn verdict(error: &GateError) -> &'static str {
    match error.side {
        Side::Downstream => "refused",
        Side::Upstream | Side::Gate => "failed",
    }
}

/// An error with all its causes, on one line.
struct Cause<'a>(&'a GateError);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = std::error::Error::source(self.0);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
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
    fields.push(("x-request-id", id.as_str().as_bytes()));
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
