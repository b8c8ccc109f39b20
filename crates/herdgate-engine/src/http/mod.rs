//! Ollama's API over HTTP: one table of routes, one function that dispatches, one file per group of routes.

mod answer;
mod anthropic;
mod embed;
mod fields;
mod listing;
mod native;
mod openai;
mod refusal;
mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use gate_types::{Dialect, ModelName};
use serde::Serialize;

use crate::file::Purpose;
use crate::roster::{Entry, Roster};
use refusal::{Refusal, reply};

/// What a route gives.
type Reply = Result<Response<Body>, Refusal>;

/// Everything that is served.
pub(crate) fn router(roster: Arc<Roster>) -> Router {
    // Ollama's 404 and 405 are plain text, so the table is our own.
    Router::new().fallback(dispatch).with_state(roster)
}

async fn dispatch(State(roster): State<Arc<Roster>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let dialect = match path {
        "/v1/messages" => Dialect::Anthropic,
        _ if path.starts_with("/v1/") => Dialect::OpenAi,
        _ => Dialect::Ollama,
    };
    let (get, post) = ([Method::HEAD, Method::GET].contains(&head.method), head.method == Method::POST);
    let strictly_get = head.method == Method::GET;
    let served = match path {
        "/" if get => Ok(reply(StatusCode::OK, "text/plain; charset=utf-8", "Ollama is running")),
        "/api/version" if get => listing::version(),
        "/api/tags" if get => listing::tags(&roster),
        "/" | "/api/version" | "/api/tags" => return wrong_method("HEAD, GET"),
        "/api/ps" if strictly_get => listing::ps(&roster),
        "/v1/models" if strictly_get => listing::openai_models(&roster),
        "/api/ps" | "/v1/models" => return wrong_method("GET"),
        "/api/show" if post => listing::show(roster, body).await,
        "/api/generate" if post => native::generate(roster, body).await,
        "/api/chat" if post => native::chat(roster, body).await,
        "/api/embed" if post => embed::embed(roster, body).await,
        "/api/embeddings" if post => embed::embeddings(roster, body).await,
        "/v1/chat/completions" if post => openai::chat(roster, body).await,
        "/v1/completions" if post => openai::completions(roster, body).await,
        "/v1/embeddings" if post => embed::openai(roster, body).await,
        "/v1/messages" if post => anthropic::messages(roster, body).await,
        "/api/show" | "/api/generate" | "/api/chat" | "/api/embed" | "/api/embeddings" => {
            return wrong_method("POST");
        }
        "/v1/chat/completions" | "/v1/completions" | "/v1/embeddings" | "/v1/messages" => {
            return wrong_method("POST");
        }
        _ => match path.strip_prefix("/v1/models/").filter(|name| !name.is_empty() && !name.contains('/')) {
            Some(name) if strictly_get => listing::openai_model(&roster, name),
            Some(_) => return wrong_method("GET"),
            None => return reply(StatusCode::NOT_FOUND, "text/plain", "404 page not found"),
        },
    };
    served.unwrap_or_else(|refusal| refusal.render(dialect))
}

fn wrong_method(allowed: &'static str) -> Response<Body> {
    let mut response = reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "405 method not allowed");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Any of our own answers as JSON; none of them can fail to be written.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|e| format!("{{\"error\":\"unwritable answer: {e}\"}}"))
}

/// `prefix` and 24 random hex digits.
fn random_id(prefix: &str) -> String {
    let mut bytes = [0; 12];
    if getrandom::fill(&mut bytes).is_err() {
        // Ids need not be secret; without an entropy source they merely repeat.
        tracing::warn!("the system gives no random bytes");
    }
    bytes.iter().fold(prefix.to_owned(), |id, byte| id + &format!("{byte:02x}"))
}

/// A name as Ollama writes it in some errors: with host and namespace.
fn full_name(name: &ModelName) -> String {
    let short = name.short();
    match short.matches('/').count() {
        0 => format!("registry.ollama.ai/library/{short}"),
        1 => format!("registry.ollama.ai/{short}"),
        _ => short.to_owned(),
    }
}

fn require_completion(entry: &Entry, model: &str, verb: &str) -> Result<(), Refusal> {
    match entry.facts.purpose {
        Purpose::Completion => Ok(()),
        Purpose::Embedding => Err(Refusal::bad(format!("\"{model}\" does not support {verb}"))),
    }
}
