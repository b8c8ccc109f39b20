//! What is open: one table of method, path, dialect, class and handling, and the look-up in it.
//!
//! What the table does not name is closed. The upstream's path comes from here, never from the client's bytes. Paths
//! match byte for byte: no decoding, no normalising; only the two parameters at a path's end take `%2F` and `%3A`.
//! Methods as in Ollama v0.24.0 to v0.32.15, where `HEAD` is open exactly where the table says so.

use crate::shape::{self, JsonShape};
use gate_types::{Dialect, ModelName, Scope};
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

/// What stood in the path where the table has `{…}`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Param<'p> {
    /// `{model}`, as it was meant and as it was spelled (`%2F` and `%3A` decoded).
    Model {
        /// The canonical name.
        name: ModelName,
        /// The spelling, for answers that repeat it.
        as_sent: Cow<'p, str>,
    },
    /// `{digest}`: `sha256:` and 64 hexadecimal digits, as every supported Ollama takes it.
    Digest(Cow<'p, str>),
}

/// The result of a look-up.
#[derive(Debug)]
pub enum Found<'p> {
    /// An open route, with the parameter where its path has one.
    Route(&'static Route, Option<Param<'p>>),
    /// The path is open, but not with this method.
    WrongMethod {
        /// What is open there.
        allow: Allow,
        /// In which shape to say so.
        dialect: Dialect,
    },
    /// Not open, whatever it may be; the dialect is that of its path.
    Unknown(Dialect),
}

/// The methods that are open on one path; shows itself as the value of an `Allow` field (RFC 9110 section 10.2.1).
#[derive(Debug, Clone, Copy)]
pub struct Allow(&'static [Route]);

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, route) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str(", ")?;
            }
            f.write_str(route.method)?;
        }
        Ok(())
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

const MODEL_PREFIX: &str = "/v1/models/";
const DIGEST_PREFIX: &str = "/api/blobs/";

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

/// Looks up what `method` on `path` is. `path` is the target without its query, as it came. Allocates nothing but for
/// paths with a parameter.
#[must_use]
pub fn find<'p>(method: &str, path: &'p str) -> Found<'p> {
    let (routes, param) = match plain(path) {
        Some(routes) => (routes, None),
        None => match with_param(path) {
            Some((routes, param)) => (routes, Some(param)),
            None => return Found::Unknown(dialect_of(path)),
        },
    };
    match routes.iter().find(|route| route.method == method) {
        Some(route) => Found::Route(route, param),
        None => Found::WrongMethod { allow: Allow(routes), dialect: dialect_of(path) },
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

const fn equal(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

/// Where each path begins in [`ROUTES`], by [`slot`]; [`EMPTY`] where none does.
static SLOTS: [u8; SLOT_COUNT] = match slots(FACTOR) {
    Some(slots) => slots,
    None => panic!("two paths in one slot"),
};
const SLOT_COUNT: usize = 128;
const EMPTY: u8 = u8::MAX;
/// The least factor that gives each path a slot of its own, found when the table is compiled.
const FACTOR: usize = {
    let mut factor = 1;
    while slots(factor).is_none() {
        factor += 1;
        assert!(factor < 10_000, "no factor gives each path a slot of its own: more slots are needed");
    }
    factor
};

const fn slot(path: &[u8], factor: usize) -> usize {
    let len = path.len();
    if len == 0 {
        return 0;
    }
    let (last, middle) = (path[len - 1] as usize, path[len / 2] as usize);
    (len * 31 + last + (middle * 256 + last) * factor) % 16_381 % SLOT_COUNT
}

/// None where two paths share a slot.
const fn slots(factor: usize) -> Option<[u8; SLOT_COUNT]> {
    let mut slots = [EMPTY; SLOT_COUNT];
    let mut at = 0;
    while at < ROUTES.len() {
        let path = ROUTES[at].path.as_bytes();
        if at == 0 || !equal(path, ROUTES[at - 1].path.as_bytes()) {
            let slot = slot(path, factor);
            if slots[slot] != EMPTY {
                return None;
            }
            slots[slot] = at as u8;
        }
        at += 1;
    }
    Some(slots)
}

/// The routes of a path that is in the table letter for letter. A `{…}` is no letter that a client may send for itself.
fn plain(path: &str) -> Option<&'static [Route]> {
    let first = usize::from(SLOTS[slot(path.as_bytes(), FACTOR)]);
    let routes = ROUTES.get(first..)?;
    if routes.first()?.path != path || path.ends_with('}') {
        return None;
    }
    Some(of_one_path(routes))
}

fn with_param(path: &str) -> Option<(&'static [Route], Param<'_>)> {
    let (id, param) = if let Some(text) = path.strip_prefix(MODEL_PREFIX) {
        (RouteId::V1Model, model(text)?)
    } else {
        (RouteId::Blob, digest(path.strip_prefix(DIGEST_PREFIX)?)?)
    };
    let first = ROUTES.iter().position(|route| route.id == id)?;
    Some((of_one_path(ROUTES.get(first..)?), param))
}

fn of_one_path(routes: &'static [Route]) -> &'static [Route] {
    let end = routes.iter().position(|route| route.path != routes[0].path).unwrap_or(routes.len());
    &routes[..end]
}

fn model(text: &str) -> Option<Param<'_>> {
    let as_sent = decoded(text)?;
    // No scheme, no blank ends, no empty part: in a path these are somebody else's syntax.
    if as_sent.contains("//") || as_sent.trim().len() != as_sent.len() {
        return None;
    }
    let name = ModelName::parse(&as_sent).ok()?;
    Some(Param::Model { name, as_sent })
}

fn digest(text: &str) -> Option<Param<'_>> {
    let text = decoded(text)?;
    let hex = text.strip_prefix("sha256:").or_else(|| text.strip_prefix("sha256-"))?;
    if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    Some(Param::Digest(if text.as_bytes()[6] == b':' { text } else { format!("sha256:{hex}").into() }))
}

/// Decodes `%2F` and `%3A`, in either case; any other escape makes the path unknown.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(text.into());
    }
    let mut pieces = text.split('%');
    let mut out = String::with_capacity(text.len());
    out.push_str(pieces.next()?);
    for piece in pieces {
        let (code, rest) = piece.split_at_checked(2)?;
        out.push(match code {
            "2F" | "2f" => '/',
            "3A" | "3a" => ':',
            _ => return None,
        });
        out.push_str(rest);
    }
    Some(out.into())
}
