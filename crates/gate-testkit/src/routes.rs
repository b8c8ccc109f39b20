//! Ollama's route table and what each route answers. One request in, one script out; nothing is written here.

use std::time::Duration;

use serde_json::{Value, json};

use crate::answer::{Ending, JSON, Kind, Talk, V1_JSON};
use crate::fault;
use crate::listing;
use crate::order::{Failure, Fault};
use crate::request::Head;
use crate::script::{Effect, Form, Reply, Script, Step};
use crate::setup::Setup;
use crate::shared::Shared;
use crate::{embedding, manage};

/// Which way errors are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Ollama,
    OpenAi,
    Anthropic,
}

/// A request as the routes see it.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) path: &'a str,
    pub(crate) dialect: Dialect,
    pub(crate) body: Value,
    /// `model`, or `name` where that is empty.
    pub(crate) model: String,
    pub(crate) setup: Setup,
    pub(crate) ending: Ending,
}

const TEXT: &str = "text/plain";

/// The whole answer to one request, faults included.
pub(crate) fn script(shared: &Shared, head: &Head, body: &[u8]) -> Script {
    let setup = shared.setup().clone();
    let ordered = shared.fault_for(&head.path);
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let named = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    let model = if named("model").is_empty() { named("name") } else { named("model") };
    let mut call =
        Call { path: &head.path, dialect: dialect(&head.path), body, model, setup, ending: Ending::Done };
    let load = call.prepare(ordered.as_ref());
    let reply = match &ordered {
        Some(Fault::Fail(failure)) => call.failure(failure),
        Some(Fault::RunnerDies { .. }) if !call.streams() => call.error(500, crate::answer::RUNNER_DIED),
        _ if call.setup.checks_host && !is_local(head) => Reply::empty(403),
        _ => answer(&call, head),
    };
    let talks = kind(&head.path).is_some() && reply.status == 200;
    let whole_wait = if call.streams() { Duration::ZERO } else { call.pace_of_all() };
    let form = Form {
        http10: head.http10,
        head_only: head.method == "HEAD",
        keeps_open: head.keeps_open,
        pace: if talks { call.setup.pace } else { call.setup.progress_pace },
    };
    let mut before = Vec::new();
    if let Some(load) = load.filter(|_| reply.status == 200 && !call.model.is_empty()) {
        before.push(Step::Wait(load));
        before.push(Step::Happen(Effect::Load(call.model.clone())));
    }
    if talks && !whole_wait.is_zero() {
        before.push(Step::Wait(whole_wait));
    }
    let mut script = fault::apply(ordered, reply, form);
    script.steps.splice(0..0, before);
    script
}

impl Call<'_> {
    /// Lets the order bear on the call; how long the model takes to load, if it must.
    fn prepare(&mut self, ordered: Option<&Fault>) -> Option<Duration> {
        match ordered {
            Some(Fault::RunnerDies { tokens }) => {
                self.ending = Ending::RunnerDied;
                self.setup.tokens = *tokens;
            }
            Some(Fault::GivesUp { tokens }) => {
                self.ending = Ending::GaveUp;
                self.setup.tokens = *tokens;
            }
            Some(Fault::SlowLoad(load)) => return Some(*load),
            _ => {}
        }
        let runs = kind(self.path).is_some() || embedding::is_route(self.path);
        (runs && !self.setup.is_loaded(&self.model)).then_some(self.setup.load_time)
    }

    pub(crate) fn error(&self, status: u16, text: &str) -> Reply {
        error(self.dialect, status, text)
    }

    pub(crate) fn not_found(&self) -> Reply {
        self.error(404, &format!("model '{}' not found", self.model))
    }

    pub(crate) fn not_found_pull_first(&self) -> Reply {
        self.error(404, &format!("model {:?} not found, try pulling it first", self.model))
    }

    fn failure(&self, failure: &Failure) -> Reply {
        match failure {
            Failure::NotFound => self.not_found(),
            Failure::NotFoundPullFirst => self.not_found_pull_first(),
            Failure::Busy => {
                self.error(503, "server busy, please try again.  maximum pending requests exceeded")
            }
            Failure::LoadCrashed => self.error(500, "llama-server process has terminated: exit status 2"),
            Failure::LoadTimedOut => self.error(500, "timed out waiting for llama-server to start"),
            Failure::OutOfMemory => {
                self.error(500, "model requires more system memory (12.0 GiB) than is available (3.1 GiB)")
            }
            Failure::RunnerStopped => self.error(
                500,
                "model runner has unexpectedly stopped, this may be due to resource limitations or an \
                 internal error, check ollama server logs for details",
            ),
            Failure::WrongOption => self.error(500, "option \"num_ctx\" must be of type integer"),
            Failure::Other(status, text) => self.error(*status, text),
        }
    }

    pub(crate) fn streams(&self) -> bool {
        let native = self.path.starts_with("/api/");
        self.body["stream"].as_bool().unwrap_or(native)
    }

    /// `num_predict` and its names elsewhere; zero and less mean "as many as there are".
    fn bound(&self) -> Option<usize> {
        let places =
            [&self.body["options"]["num_predict"], &self.body["max_tokens"], &self.body["max_output_tokens"]];
        let bound = places.into_iter().find_map(Value::as_u64)?;
        usize::try_from(bound).ok().filter(|bound| *bound > 0)
    }

    fn tokens(&self) -> usize {
        self.setup.tokens.min(self.bound().unwrap_or(usize::MAX))
    }

    fn pace_of_all(&self) -> Duration {
        self.setup.pace.saturating_mul(u32::try_from(self.tokens()).unwrap_or(u32::MAX))
    }
}

/// An error in the shape of the dialect.
pub(crate) fn error(dialect: Dialect, status: u16, text: &str) -> Reply {
    let kind = match (dialect, status) {
        (_, 400) => "invalid_request_error",
        (_, 404) => "not_found_error",
        (Dialect::Anthropic, 401) => "authentication_error",
        (Dialect::Anthropic, 403) => "permission_error",
        (Dialect::Anthropic, 429) => "rate_limit_error",
        (Dialect::Anthropic, 503 | 529) => "overloaded_error",
        _ => "api_error",
    };
    match dialect {
        Dialect::Ollama => Reply::whole(status, JSON, json!({"error": text}).to_string()),
        Dialect::OpenAi => {
            let body = json!({"error": {"message": text, "type": kind, "param": null, "code": null}});
            Reply::whole(status, V1_JSON, format!("{body}\n"))
        }
        Dialect::Anthropic => {
            let body = json!({"type": "error", "error": {"type": kind, "message": text},
                "request_id": "req_09032ca4a6e3065095134e4d"});
            Reply::whole(status, V1_JSON, format!("{body}\n"))
        }
    }
}

fn dialect(path: &str) -> Dialect {
    match path {
        "/v1/messages" => Dialect::Anthropic,
        _ if path.starts_with("/v1/") => Dialect::OpenAi,
        _ => Dialect::Ollama,
    }
}

fn kind(path: &str) -> Option<Kind> {
    match path {
        "/api/generate" => Some(Kind::Generate),
        "/api/chat" => Some(Kind::Chat),
        "/v1/chat/completions" => Some(Kind::V1Chat),
        "/v1/completions" => Some(Kind::V1Completions),
        "/v1/responses" => Some(Kind::Responses),
        "/v1/messages" => Some(Kind::Messages),
        _ => None,
    }
}

fn answer(call: &Call<'_>, head: &Head) -> Reply {
    let Some(methods) = methods(call.path) else {
        return Reply::whole(404, TEXT, "404 page not found");
    };
    if !methods.split(", ").any(|method| method == head.method) {
        return Reply::whole(405, TEXT, "405 method not allowed").with("Allow", methods);
    }
    if methods.starts_with("POST") && call.body.is_null() && !call.path.starts_with("/api/blobs/") {
        let text = if call.dialect == Dialect::Ollama { "missing request body" } else { "EOF" };
        return call.error(400, text);
    }
    if let Some(kind) = kind(call.path) {
        return talk(call, kind);
    }
    if embedding::is_route(call.path) {
        return embedding::answer(call);
    }
    listing::answer(call).or_else(|| manage::answer(call, &head.method)).unwrap_or_else(|| Reply::empty(200))
}

/// The methods of a known path, as `Allow` lists them.
fn methods(path: &str) -> Option<&'static str> {
    match path {
        "/" | "/api/version" | "/api/tags" => Some("HEAD, GET"),
        "/api/ps" | "/api/status" | "/v1/models" => Some("GET"),
        "/api/delete" => Some("DELETE"),
        "/api/show" | "/api/pull" | "/api/push" | "/api/create" | "/api/copy" | "/api/me" => Some("POST"),
        _ if kind(path).is_some() || embedding::is_route(path) => Some("POST"),
        _ if path.starts_with("/api/blobs/") => Some("POST, HEAD"),
        _ if path.strip_prefix("/v1/models/").is_some_and(|name| !name.contains('/')) => Some("GET"),
        _ => None,
    }
}

fn talk(call: &Call<'_>, kind: Kind) -> Reply {
    if call.setup.find(&call.model).is_none() {
        return call.not_found();
    }
    if let Some(reply) = manage::load_or_unload(call, kind) {
        return reply;
    }
    let tokens = call.tokens();
    let talk = Talk {
        kind,
        model: &call.model,
        tokens,
        bounded: tokens < call.setup.tokens,
        prompt_tokens: words(&call.body),
        usage: call.body["stream_options"]["include_usage"] == json!(true),
        ending: call.ending,
    };
    if call.streams() { talk.stream() } else { talk.whole() }
}

/// A token per word of everything that a model would read.
fn words(body: &Value) -> usize {
    let read = ["prompt", "messages", "system", "input", "instructions"];
    read.iter().map(|key| words_in(&body[*key])).sum::<usize>().max(1)
}

fn words_in(value: &Value) -> usize {
    match value {
        Value::String(text) => text.split_whitespace().count(),
        Value::Array(items) => items.iter().map(words_in).sum(),
        Value::Object(fields) => {
            fields.iter().filter(|(key, _)| *key != "role").map(|(_, value)| words_in(value)).sum()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// The Host and Origin check of an Ollama on loopback, without the machine's own names.
fn is_local(head: &Head) -> bool {
    let name_of = |authority: &str| {
        let bracketed = authority.strip_prefix('[').and_then(|rest| rest.split(']').next());
        bracketed.unwrap_or_else(|| authority.split(':').next().unwrap_or_default()).to_ascii_lowercase()
    };
    let is_local_name = |name: &str| {
        let private = |ip: std::net::IpAddr| match ip {
            std::net::IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_unspecified(),
            std::net::IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified(),
        };
        let suffixes = [".localhost", ".local", ".internal"];
        name.is_empty()
            || name == "localhost"
            || name.parse().is_ok_and(private)
            || suffixes.iter().any(|suffix| name.ends_with(suffix))
    };
    let host = head.host.as_deref().is_none_or(|host| is_local_name(&name_of(host)));
    let origin = head.origin.as_deref().is_none_or(|origin| {
        let authority = origin.split_once("://").map(|(_, rest)| rest);
        authority
            .is_some_and(|authority| ["localhost", "127.0.0.1", "0.0.0.0"].contains(&&*name_of(authority)))
    });
    host && origin
}
