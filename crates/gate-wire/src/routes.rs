//! What is open: one table of method, path, dialect, class and handling. `find.rs` looks a path up in it.
//!
//! What the table does not name is closed. The upstream's path comes from here, never from the client's bytes. Paths
//! match byte for byte: no decoding, no normalising; only the two parameters at a path's end take `%2F` and `%3A`.
//! Methods as in Ollama v0.24.0 to v0.32.15, where `HEAD` is open exactly where the table says so.

use crate::find::Param;
use crate::shape::{self, JsonShape};
use gate_types::{Dialect, Scope};
use std::borrow::Cow;
use std::fmt;

/// Names a route in code: in the path's decisions, in records and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteId {
    /// `/`: is anybody there.
    Root,
    /// `/api/version`.
    Version,
    /// `/metrics`: what the gate counts.
    Metrics,
    /// `/healthz`: is the process alive.
    Healthz,
    /// `/readyz`: can requests be served.
    Readyz,
    /// `/api/tags`: the models on disk.
    Tags,
    /// `/api/ps`: the models in memory.
    Ps,
    /// `/api/show`: all about one model.
    Show,
    /// `/api/generate`.
    Generate,
    /// `/api/chat`.
    Chat,
    /// `/api/embed`.
    Embed,
    /// `/api/embeddings`: the older form of [`RouteId::Embed`].
    Embeddings,
    /// `/api/pull`.
    Pull,
    /// `/api/push`.
    Push,
    /// `/api/create`.
    Create,
    /// `/api/copy`.
    Copy,
    /// `/api/delete`.
    Delete,
    /// `/api/blobs/{digest}`: layers for [`RouteId::Create`].
    Blob,
    /// `/v1/models`.
    V1Models,
    /// `/v1/models/{model}`.
    V1Model,
    /// `/v1/chat/completions`.
    V1Chat,
    /// `/v1/completions`.
    V1Completions,
    /// `/v1/embeddings`.
    V1Embeddings,
    /// `/v1/responses`.
    V1Responses,
    /// `/v1/messages`.
    V1Messages,
    /// `/v1/audio/transcriptions`.
    V1Transcriptions,
    /// `/api/me`: the operator's account at ollama.com.
    Me,
    /// `/api/signout`: takes a server's key out of that account.
    Signout,
    /// `/api/experimental/web_search`.
    WebSearch,
    /// `/api/experimental/web_fetch`.
    WebFetch,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Everybody, without a key: the gate answers.
    Public(Greeting),
    /// A key with this scope.
    Needs(Scope),
}

/// What is told to everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// Somebody is there, in Ollama's words.
    Running,
    /// The version that clients may count on.
    Version,
    /// The process is alive.
    Alive,
    /// Whether requests can be served.
    Ready,
}

/// What the request brings.
#[derive(Debug, Clone, Copy)]
pub enum BodyKind {
    /// Nothing that is read or passed on.
    None,
    /// One JSON object, read strictly before anything is sent on.
    Json(&'static JsonShape),
    /// A form of parts (`multipart/form-data`), read strictly before anything is sent on.
    Form,
    /// Bytes that pass through unread.
    Raw,
}

/// Where the answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answering {
    /// The gate answers by itself.
    Gate,
    /// The gate merges what all upstreams list and shows what the key may see.
    Listing,
    /// One upstream answers.
    Forward,
}

/// One open route.
#[derive(Debug)]
pub struct Route {
    /// Its name in code.
    pub id: RouteId,
    /// The method, in upper case.
    pub method: &'static str,
    /// The path as clients ask for it; a final `{…}` stands for a parameter.
    pub path: &'static str,
    /// In which shape its errors are told.
    pub dialect: Dialect,
    /// Who may ask.
    pub class: Class,
    /// What the request brings.
    pub body: BodyKind,
    /// Where the answer comes from.
    pub answer: Answering,
    /// The path to ask upstreams for, without what stands in `{…}`.
    upstream: &'static str,
}

impl Route {
    /// Whether a request to it may change which models an upstream has.
    #[must_use]
    pub fn changes_models(&self) -> bool {
        matches!(self.id, RouteId::Pull | RouteId::Create | RouteId::Copy | RouteId::Delete)
    }

    /// The path to ask an upstream for: the table's, and behind it the checked parameter.
    #[must_use]
    pub fn upstream_path(&self, param: Option<&Param<'_>>) -> Cow<'static, str> {
        match param {
            Some(Param::Digest(digest)) => format!("{}{digest}", self.upstream).into(),
            // The only path with a model is answered from listings.
            Some(Param::Model { .. }) | None => self.upstream.into(),
        }
    }
}

/// The methods that are open on one path; shows itself as the value of an `Allow` field (RFC 9110 section 10.2.1).
#[derive(Debug, Clone, Copy)]
pub struct Allow(pub(crate) Methods);

/// Where they stand.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Methods {
    /// In the table.
    Of(&'static [Route]),
    /// In a list.
    Listed(&'static [&'static str]),
}

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods: Vec<&str> = match self.0 {
            Methods::Of(routes) => routes.iter().map(|route| route.method).collect(),
            Methods::Listed(methods) => methods.to_vec(),
        };
        f.write_str(&methods.join(", "))
    }
}

const GET: &str = "GET";
const HEAD: &str = "HEAD";
const POST: &str = "POST";
const DELETE: &str = "DELETE";

/// Everything that is open. Routes of one path stand together.
pub static ROUTES: &[Route] = &[
    public(RouteId::Root, HEAD, "/", Greeting::Running),
    public(RouteId::Root, GET, "/", Greeting::Running),
    public(RouteId::Version, HEAD, "/api/version", Greeting::Version),
    public(RouteId::Version, GET, "/api/version", Greeting::Version),
    metrics(HEAD),
    metrics(GET),
    public(RouteId::Healthz, HEAD, "/healthz", Greeting::Alive),
    public(RouteId::Healthz, GET, "/healthz", Greeting::Alive),
    public(RouteId::Readyz, HEAD, "/readyz", Greeting::Ready),
    public(RouteId::Readyz, GET, "/readyz", Greeting::Ready),
    list(RouteId::Tags, HEAD, "/api/tags"),
    list(RouteId::Tags, GET, "/api/tags"),
    list(RouteId::Ps, GET, "/api/ps"),
    call(RouteId::Show, POST, "/api/show", Scope::Read, &shape::SHOW),
    call(RouteId::Generate, POST, "/api/generate", Scope::Infer, &shape::GENERATE),
    call(RouteId::Chat, POST, "/api/chat", Scope::Infer, &shape::CHAT),
    call(RouteId::Embed, POST, "/api/embed", Scope::Embed, &shape::EMBED),
    call(RouteId::Embeddings, POST, "/api/embeddings", Scope::Embed, &shape::EMBEDDINGS),
    call(RouteId::Pull, POST, "/api/pull", Scope::Manage, &shape::PULL),
    call(RouteId::Push, POST, "/api/push", Scope::Manage, &shape::PUSH),
    call(RouteId::Create, POST, "/api/create", Scope::Manage, &shape::CREATE),
    call(RouteId::Copy, POST, "/api/copy", Scope::Manage, &shape::COPY),
    call(RouteId::Delete, DELETE, "/api/delete", Scope::Manage, &shape::DELETE),
    blob(HEAD, BodyKind::None),
    blob(POST, BodyKind::Raw),
    list(RouteId::V1Models, GET, "/v1/models"),
    list(RouteId::V1Model, GET, "/v1/models/{model}"),
    call(RouteId::V1Chat, POST, "/v1/chat/completions", Scope::Infer, &shape::V1),
    call(RouteId::V1Completions, POST, "/v1/completions", Scope::Infer, &shape::V1),
    call(RouteId::V1Embeddings, POST, "/v1/embeddings", Scope::Embed, &shape::V1_EMBEDDINGS),
    call(RouteId::V1Responses, POST, "/v1/responses", Scope::Infer, &shape::V1),
    call(RouteId::V1Messages, POST, "/v1/messages", Scope::Infer, &shape::V1),
    forward(RouteId::V1Transcriptions, POST, "/v1/audio/transcriptions", Scope::Infer, BodyKind::Form),
    forward(RouteId::Me, POST, "/api/me", Scope::Cloud, BodyKind::None),
    forward(RouteId::Signout, POST, "/api/signout", Scope::Cloud, BodyKind::None),
    call(RouteId::WebSearch, POST, "/api/experimental/web_search", Scope::Cloud, &shape::WEB),
    call(RouteId::WebFetch, POST, "/api/experimental/web_fetch", Scope::Cloud, &shape::WEB),
];

pub(crate) const DIGEST_PREFIX: &str = "/api/blobs/";

const fn public(id: RouteId, method: &'static str, path: &'static str, greeting: Greeting) -> Route {
    own(id, method, path, Class::Public(greeting))
}

const fn metrics(method: &'static str) -> Route {
    own(RouteId::Metrics, method, "/metrics", Class::Needs(Scope::Manage))
}

const fn own(id: RouteId, method: &'static str, path: &'static str, class: Class) -> Route {
    let (dialect, body, answer) = (dialect_of(path), BodyKind::None, Answering::Gate);
    Route { id, method, path, dialect, class, body, answer, upstream: path }
}

const fn list(id: RouteId, method: &'static str, path: &'static str) -> Route {
    let (class, answer) = (Class::Needs(Scope::Read), Answering::Listing);
    let upstream = if matches!(id, RouteId::V1Model) { "/v1/models" } else { path };
    Route { id, method, path, dialect: dialect_of(path), class, body: BodyKind::None, answer, upstream }
}

const fn call(
    id: RouteId,
    method: &'static str,
    path: &'static str,
    scope: Scope,
    shape: &'static JsonShape,
) -> Route {
    forward(id, method, path, scope, BodyKind::Json(shape))
}

const fn forward(
    id: RouteId,
    method: &'static str,
    path: &'static str,
    scope: Scope,
    body: BodyKind,
) -> Route {
    let (class, answer) = (Class::Needs(scope), Answering::Forward);
    Route { id, method, path, dialect: dialect_of(path), class, body, answer, upstream: path }
}

const fn blob(method: &'static str, body: BodyKind) -> Route {
    Route {
        id: RouteId::Blob,
        method,
        path: "/api/blobs/{digest}",
        dialect: Dialect::Ollama,
        class: Class::Needs(Scope::Manage),
        body,
        answer: Answering::Forward,
        upstream: DIGEST_PREFIX,
    }
}

/// The dialect in which a path is spoken of, open or not.
#[must_use]
pub const fn dialect_of(path: &str) -> Dialect {
    let path = path.as_bytes();
    if starts_with(path, b"/v1/messages") {
        Dialect::Anthropic
    } else if starts_with(path, b"/v1") {
        Dialect::OpenAi
    } else {
        Dialect::Ollama
    }
}

const fn starts_with(text: &[u8], prefix: &[u8]) -> bool {
    match text.split_at_checked(prefix.len()) {
        Some((start, _)) => equal(start, prefix),
        None => false,
    }
}

pub(crate) const fn equal(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}
