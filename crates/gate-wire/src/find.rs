//! The look-up in the table of routes: a method and a path as they came, and what is open there.
//!
//! It decodes nothing but the parameter at a path's end, and takes no letter of it over unchecked.

use crate::routes::{Allow, DIGEST_PREFIX, Methods, ROUTES, Route, RouteId, dialect_of, equal};
use gate_types::{Dialect, ModelName};
use std::borrow::Cow;

const MODEL_PREFIX: &str = "/v1/models/";

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
        None => Found::WrongMethod { allow: Allow(Methods::Of(routes)), dialect: dialect_of(path) },
    }
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
    if as_sent.as_bytes().windows(2).any(|pair| pair == b"//") || as_sent.trim().len() != as_sent.len() {
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
