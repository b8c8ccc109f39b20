//! The record of one request: begun with its head, written once, at its end. It never holds a prompt or a credential.

use crate::downstream::{AnswerHead, Downstream, Head};
use crate::gate::Gate;
use crate::outcome::{Done, Ended};
use gate_h1::Framing;
use gate_types::{Dialect, UpstreamId};
use gate_wire::{GateError, Side};
use std::fmt::{self, Write as _};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Instant;

/// A request's name in logs, in its answer and towards the upstream: 16 hex digits, random.
#[derive(Clone, Copy)]
pub(crate) struct RequestId([u8; 16]);

impl RequestId {
    fn new() -> Self {
        // Uniqueness matters, not secrecy: without the OS's randomness the clock alone must do.
        let number = getrandom::u64().unwrap_or_else(|_| crate::gate::unix_now().unsigned_abs());
        let mut digits = [0; 16];
        for (place, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(number >> (4 * place)) as usize & 15];
        }
        Self(digits)
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of a request so far.
pub(crate) struct Trace {
    pub(crate) id: RequestId,
    begun: Instant,
    /// The dialect that errors are told in.
    pub(crate) dialect: Dialect,
    pub(crate) route: &'static str,
    pub(crate) key: Option<Arc<gate_keys::Key>>,
    pub(crate) model: Option<String>,
    pub(crate) upstream: Option<UpstreamId>,
    pub(crate) first_byte: Option<Instant>,
    shared: Arc<crate::gate::Shared>,
}

impl Trace {
    pub(crate) fn begin(gate: &Gate, head: &Head) -> Self {
        let path = head.target().split('?').next().unwrap_or_default();
        Self {
            id: RequestId::new(),
            begun: Instant::now(),
            dialect: gate_wire::routes::dialect_of(path),
            route: "",
            key: None,
            model: None,
            upstream: None,
            first_byte: None,
            shared: Arc::clone(&gate.shared),
        }
    }

    /// The answer went out whole.
    pub(crate) fn end(&self, done: Done) {
        self.write("done", done.status, None);
    }

    /// The request ended otherwise: told to the client, if it is there and has seen nothing yet.
    pub(crate) async fn fail<D: Downstream>(&self, down: &mut D, ended: Ended) {
        match ended {
            Ended::Gone => {
                down.abort();
                self.write("cancelled", 499, None);
            }
            Ended::CutShort(error) => {
                down.abort();
                self.write("upstream_failed", 200, Some(&error));
            }
            Ended::Refused(error) => {
                let rendered = gate_wire::render(self.dialect, &error, Some(self.id.as_str()));
                let status = rendered.status;
                self.tell(down, &rendered).await;
                self.write(if error.side == Side::Downstream { "refused" } else { "failed" }, status, Some(&error));
            }
        }
    }

    async fn tell<D: Downstream>(&self, down: &mut D, rendered: &gate_wire::Rendered) {
        let mut fields: Vec<(&str, &[u8])> = vec![("Content-Type", rendered.content_type.as_bytes())];
        fields.extend(rendered.fields.iter().map(|(name, value)| (*name, value.as_bytes())));
        answer_whole(down, rendered.status, fields, rendered.body.as_bytes(), self).await;
    }

    fn write(&self, outcome: &str, status: u16, error: Option<&GateError>) {
        let took = self.begun.elapsed().as_secs_f64() * 1e3;
        let ttft = self.first_byte.map(|at| (at - self.begun).as_secs_f64() * 1e3);
        tracing::info!(
            target: "herdgate::access",
            id = %self.id,
            key = self.key.as_deref().map(|key| key.name.as_str()),
            route = self.route,
            model = self.model.as_deref(),
            upstream = self.upstream.map(|id| self.shared.upstream_name(id)),
            status,
            outcome,
            ttft_ms = ttft,
            total_ms = took,
            error = error.map(|error| Cause(error).to_string()),
            "request"
        );
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
        f.write_char(' ').and(Ok(()))
    }
}

/// Sends a whole answer: head and body in one write where the client takes it. A client that left is no error here.
pub(crate) async fn answer_whole<'f, D: Downstream>(
    down: &mut D,
    status: u16,
    mut fields: Vec<(&'f str, &'f [u8])>,
    body: &[u8],
    trace: &'f Trace,
) {
    fields.push(("x-request-id", trace.id.as_str().as_bytes()));
    down.begin(&AnswerHead { status, fields: &fields, framing: Framing::Length(body.len() as u64) });
    let mut offered = false;
    let written = poll_fn(|cx| {
        if !offered {
            offered = true;
            if let Err(error) = down.offer(cx, body, &[0..body.len()], true) {
                return std::task::Poll::Ready(Err(error));
            }
        }
        down.poll_flush(cx)
    })
    .await;
    if written.is_err() {
        down.abort();
    }
}
