//! Errors on the wire: one function writes a [`GateError`] in the dialect that was asked in.
//!
//! Shapes and types as Ollama v0.32.15 writes them, so that every client's own error handling works. Never Ollama's
//! `signin_url`: it makes clients open a browser. Nothing but `public` goes out.

use crate::gate_error::GateError;
use crate::reason::Reason;
use gate_types::Dialect;
use std::fmt::Write;

/// An error answer without its framing. For HEAD the same, with the body left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The HTTP status.
    pub status: u16,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// Further fields: `WWW-Authenticate`, `Allow`, `Retry-After`.
    pub fields: Vec<(&'static str, String)>,
    /// The body, JSON.
    pub body: String,
}

impl Rendered {
    /// A 401 as a 403 with the same text and code, for a client that keeps the text of a 401 from its user.
    #[must_use]
    pub fn forbidden(mut self) -> Self {
        if self.status == 401 {
            self.status = 403;
            self.fields.retain(|(name, _)| *name != "WWW-Authenticate");
        }
        self
    }
}

/// Writes `error` as `dialect` does. `request_id`, where there is one, is told in Anthropic's shape.
#[must_use]
pub fn render(dialect: Dialect, error: &GateError, request_id: Option<&str>) -> Rendered {
    let status = error.reason.status();
    let mut body = String::with_capacity(160 + error.public.len());
    match dialect {
        Dialect::Ollama => {
            body.push_str("{\"error\":");
            quote(&mut body, &error.public);
            body.push_str(",\"code\":");
            quote(&mut body, error.reason.code());
            body.push('}');
        }
        Dialect::OpenAi => {
            body.push_str("{\"error\":{\"message\":");
            quote(&mut body, &error.public);
            body.push_str(",\"type\":");
            quote(&mut body, openai_type(status));
            body.push_str(",\"param\":null,\"code\":");
            quote(&mut body, error.reason.code());
            body.push_str("}}");
        }
        Dialect::Anthropic => {
            body.push_str("{\"type\":\"error\",\"error\":{\"type\":");
            quote(&mut body, anthropic_type(status));
            body.push_str(",\"message\":");
            quote(&mut body, &error.public);
            body.push('}');
            if let Some(id) = request_id {
                body.push_str(",\"request_id\":");
                quote(&mut body, id);
            }
            body.push('}');
        }
    }
    let content_type = match dialect {
        Dialect::Ollama => "application/json; charset=utf-8",
        Dialect::OpenAi | Dialect::Anthropic => "application/json",
    };
    Rendered { status, content_type, fields: fields(error), body }
}

fn fields(error: &GateError) -> Vec<(&'static str, String)> {
    let mut fields = Vec::new();
    if error.reason.status() == 401 {
        // RFC 9110 section 11.6.1 wants the field on every 401; RFC 6750 section 3 words it.
        let invalid = if error.reason == Reason::InvalidKey { ", error=\"invalid_token\"" } else { "" };
        fields.push(("WWW-Authenticate", format!("Bearer realm=\"herdgate\"{invalid}")));
    }
    if let Some(allow) = error.allow {
        fields.push(("Allow", allow.to_string()));
    }
    if let Some(wait) = error.retry_after {
        let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        fields.push(("Retry-After", whole.max(1).to_string()));
    }
    fields
}

/// As Ollama maps them on `/v1`: what is neither 400 nor 404 is an `api_error`.
fn openai_type(status: u16) -> &'static str {
    match status {
        400 => "invalid_request_error",
        404 => "not_found_error",
        _ => "api_error",
    }
}

fn anthropic_type(status: u16) -> &'static str {
    match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        _ => "api_error",
    }
}

/// Appends `text` as a JSON string (RFC 8259 section 7).
pub(crate) fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            // Line ends to JavaScript, though not to JSON; the others would act on a terminal.
            '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                // Writing to a String cannot fail.
                if write!(out, "\\u{:04x}", u32::from(c)).is_err() {
                    return;
                }
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// The page `docs/errors.md`: every code with status, side, meaning and cure.
#[must_use]
pub fn reference() -> String {
    let mut page = String::from(
        "# Error codes\n\n\
         Made from the code (`cargo run -q -p gate-wire --example errors_page > docs/errors.md`); do not edit.\n\n\
         Whatever the gate itself answers with an error has one of these codes. It stands in `code` beside `error` on\n\
         Ollama's own routes, in `error.code` on OpenAI's; on Anthropic's `/v1/messages`, whose shape has no place for\n\
         it, `error.type` and the text tell the reason. Where the answer has a `Retry-After`, its seconds are named.\n\
         Errors that an upstream answers pass through as they are and are not listed here. Ollama's own command line, which\n\
         hides the text of a 401 from its user and shows that of a 403, gets 403 with the same code wherever 401 is listed.\n\n\
         A stream that breaks off after it began, or whose server ends it without its end record, has told its status\n\
         already. The same object then stands in it as its last line, or as its last event (`event: error` on\n\
         `/v1/responses` and `/v1/messages`), and the connection breaks behind it, so that nobody takes it for whole.\n\n\
         | code | status | whose doing | what it means | what to do |\n|---|---|---|---|---|\n",
    );
    for reason in Reason::ALL.iter().copied() {
        let facts = reason.facts();
        let wait = facts.retry_after.map(|seconds| format!(" (again after {seconds} s)")).unwrap_or_default();
        let row = format!(
            "| `{}` | {}{wait} | {} | {} | {} |\n",
            facts.code,
            facts.status,
            facts.side.as_str(),
            facts.text,
            facts.cure
        );
        page.push_str(&row);
    }
    page
}
