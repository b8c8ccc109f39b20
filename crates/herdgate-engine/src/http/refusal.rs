//! Errors as Ollama words them, in the dialect of the route.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use gate_types::Dialect;
use serde_json::json;

/// A request that gets no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The status.
    pub(super) status: StatusCode,
    /// The text, for the client.
    pub(super) text: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Refusal {
        Refusal { status, text: text.into() }
    }

    /// 400.
    pub(super) fn bad(text: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, text)
    }

    /// 500.
    pub(super) fn broken(text: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    /// 404, as most routes say it.
    pub(super) fn no_model(name: &str) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, format!("model '{name}' not found"))
    }

    /// 404, as the embedding routes say it.
    pub(super) fn no_model_to_embed(name: &str) -> Refusal {
        if name.is_empty() {
            return Refusal::no_model(name);
        }
        Refusal::new(StatusCode::NOT_FOUND, format!("model \"{name}\" not found, try pulling it first"))
    }

    /// 503: the line is full.
    pub(super) fn busy() -> Refusal {
        let text = "server busy, please try again.  maximum pending requests exceeded";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    /// The whole answer.
    pub(super) fn render(&self, dialect: Dialect) -> Response<Body> {
        let (kind, body) = match dialect {
            Dialect::Ollama => (JSON_UTF8, json!({"error": self.text}).to_string()),
            Dialect::OpenAi => (JSON, openai_error(self) + "\n"),
            Dialect::Anthropic => (JSON, anthropic_error(self) + "\n"),
        };
        reply(self.status, kind, body)
    }
}

/// What native routes send.
pub(super) const JSON_UTF8: &str = "application/json; charset=utf-8";
/// What `/v1` sends.
pub(super) const JSON: &str = "application/json";

/// An answer of one piece.
pub(super) fn reply(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

pub(super) fn openai_error(refusal: &Refusal) -> String {
    let kind = match refusal.status.as_u16() {
        400 => "invalid_request_error",
        404 => "not_found_error",
        _ => "api_error",
    };
    json!({"error": {"message": refusal.text, "type": kind, "param": null, "code": null}}).to_string()
}

pub(super) fn anthropic_error(refusal: &Refusal) -> String {
    let kind = match refusal.status.as_u16() {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        _ => "api_error",
    };
    let id = super::random_id("req_");
    json!({"type": "error", "error": {"type": kind, "message": refusal.text}, "request_id": id}).to_string()
}
