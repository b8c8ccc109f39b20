//! The end of a stream that broke: what a client of each dialect reads as an error, behind what it has already.
//!
//! The head is out and said 200, so the error must stand in the stream. Written as the stock clients read it: the Ollama
//! clients look for `error` in each line, OpenAI's for `error` in an event's data, Anthropic's for the event `error`. It
//! must never look like the end of a whole answer; cutting the connection behind it is the caller's.

use crate::gate_error::GateError;
use crate::render::{quote, render};
use crate::routes::RouteId;
use crate::tee::{EndReader, Form};
use gate_types::Dialect;

/// What must follow in an answer of `route` of which `passed` saw all that went out, so that its client learns of `error`.
/// Empty where nothing can be said: the answer is no stream, or has its end record already.
///
/// At least `fill` bytes where it is not empty: something that a parser passes over fills up a chunk whose length was
/// announced.
#[must_use]
pub fn ending(
    route: RouteId,
    passed: &EndReader,
    error: &GateError,
    request_id: &str,
    fill: usize,
) -> String {
    if passed.is_whole() {
        return String::new();
    }
    let filled = |used: usize| fill.saturating_sub(used);
    match passed.form() {
        Form::Opaque | Form::Whole => String::new(),
        Form::Lines => {
            let lead = if passed.line_is_open() { "\n" } else { "" };
            let body = render(Dialect::Ollama, error, None).body;
            let blanks = " ".repeat(filled(lead.len() + body.len() + 1));
            format!("{lead}{body}{blanks}\n")
        }
        Form::Events => {
            let lead = match (passed.line_is_open(), passed.event_is_open()) {
                (true, _) => "\n\n",
                (false, true) => "\n",
                (false, false) => "",
            };
            let event = event(route, passed, error, request_id);
            // Empty lines between events mean nothing.
            let blanks = "\n".repeat(filled(lead.len() + event.len()));
            format!("{lead}{event}{blanks}")
        }
    }
}

fn event(route: RouteId, passed: &EndReader, error: &GateError, request_id: &str) -> String {
    match route {
        RouteId::V1Messages => {
            let body = render(Dialect::Anthropic, error, Some(request_id)).body;
            format!("event: error\ndata: {body}\n\n")
        }
        // The event of the Responses API, and within it the object that OpenAI's libraries raise an exception for.
        RouteId::V1Responses => {
            let body = render(Dialect::OpenAi, error, None).body;
            let object = body.strip_suffix('}').unwrap_or(&body);
            let mut event = format!("event: error\ndata: {object},\"type\":\"error\",\"code\":");
            quote(&mut event, error.reason.code());
            event.push_str(",\"message\":");
            quote(&mut event, &error.public);
            event.push_str(&format!(",\"param\":null,\"sequence_number\":{}}}\n\n", passed.records()));
            event
        }
        _ => {
            let body = render(Dialect::OpenAi, error, None).body;
            format!("data: {body}\n\n")
        }
    }
}
