//! What pages of other origins may do in a browser (the CORS protocol of the Fetch standard), answered by the gate alone:
//! no upstream sees an `Origin`.
//!
//! A preflight is answered here without a key, for browsers send none with it. Origins that the settings do not allow get
//! no preflight and no field that lets a page read an answer; and no credential that a browser attaches by itself counts
//! from there. A key that somebody put into the request does: without a preflight that was no page.

use crate::downstream::{Downstream, Head};
use crate::outcome::{Done, Ended};
use crate::rules::Rules;
use crate::stages::intake::Target;
use crate::trace::{Trace, answer_whole};
use gate_wire::{Allow, Found, GateError, Reason};

/// What pages may send: what the SDKs of Ollama, `OpenAI` and Anthropic do, and what is asked for by one of [`FAMILIES`].
const HEADERS: &str = "authorization, content-type, accept, user-agent, x-requested-with, x-api-key, x-request-id, \
                       openai-beta, openai-organization, openai-project, anthropic-version, anthropic-beta, \
                       anthropic-dangerous-direct-browser-access";
/// Beginnings of field names that SDKs add to from version to version.
const FAMILIES: [&str; 3] = ["x-stainless-", "anthropic-", "openai-"];
/// Fields of a family that one answer allows, and bytes of each.
const MOST_ASKED: usize = 32;
const LONGEST_ASKED: usize = 64;
/// What pages may read beside what every page may.
const EXPOSED: &[u8] = b"x-request-id, retry-after";
/// Seconds for which a browser may keep a preflight's answer: as long as Ollama says.
const MAX_AGE: &[u8] = b"43200";

/// What an answer tells browsers.
#[derive(Debug, Default)]
pub(crate) enum Cors {
    /// Nothing: no page of another origin may read it.
    #[default]
    Nothing,
    /// Nothing either, but another origin would be told something else.
    Varies,
    /// Pages of every origin may read it. Never with a browser's own credentials: the gate does not allow those to anybody.
    Any,
    /// Pages of this origin may read it.
    Origin(Box<[u8]>),
}

impl Cors {
    /// The fields that say so.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let (origin, vary): (Option<&[u8]>, _) = match self {
            Cors::Nothing => (None, false),
            Cors::Varies => (None, true),
            Cors::Any => (Some(b"*"), false),
            Cors::Origin(origin) => (Some(origin), true),
        };
        let vary = vary.then_some(("Vary", b"Origin".as_slice()));
        let exposed = origin.map(|_| ("Access-Control-Expose-Headers", EXPOSED));
        origin.map(|origin| ("Access-Control-Allow-Origin", origin)).into_iter().chain(exposed).chain(vary)
    }
}

/// A preflight that is to be answered.
#[derive(Debug)]
pub(crate) struct Preflight {
    methods: Allow,
}

/// Looks at where the request says that it comes from; a preflight ends here.
pub(crate) fn check(
    rules: &Rules,
    head: &Head,
    target: Target<'_>,
    trace: &mut Trace,
) -> Result<Option<Preflight>, GateError> {
    let allowed = &rules.door.origins;
    if !allowed.is_empty() {
        trace.cors = Cors::Varies;
    }
    let mut origins = head.all("origin");
    let Some(origin) = origins.next() else { return Ok(None) };
    let is_preflight = head.method() == "OPTIONS" && head.first("access-control-request-method").is_some();
    let is_only = origins.next().is_none();
    if is_only && allowed.iter().any(|pattern| pattern.is_any()) {
        trace.cors = Cors::Any;
    } else if is_only && allowed.iter().any(|pattern| pattern.allows(origin)) {
        trace.cors = Cors::Origin(origin.into());
    } else if is_only && is_own(origin, head) {
        return Ok(None);
    } else if is_preflight || is_ambient(head, target) {
        return Err(GateError::new(Reason::OriginNotAllowed));
    }
    if !is_preflight {
        return Ok(None);
    }
    Ok(match gate_wire::find(head.method(), target.path) {
        Found::WrongMethod { allow, .. } => Some(Preflight { methods: allow }),
        Found::Unknown(_) if rules.extra(target.path).is_some() => {
            Some(Preflight { methods: Allow::OF_TEMPLATES })
        }
        Found::Route(..) | Found::Unknown(_) => None,
    })
}

/// Answers a preflight of an allowed origin.
pub(crate) async fn answer<D: Downstream>(
    preflight: Preflight,
    down: &mut D,
    trace: &mut Trace,
) -> Result<Done, Ended> {
    let methods = preflight.methods.to_string();
    let headers = headers(down.head());
    let fields = vec![
        ("Access-Control-Allow-Methods", methods.as_bytes()),
        ("Access-Control-Allow-Headers", headers.as_bytes()),
        ("Access-Control-Max-Age", MAX_AGE),
        ("Vary", b"Access-Control-Request-Headers".as_slice()),
    ];
    answer_whole(down, 204, fields, b"", trace).await
}

/// The fields that a page may send.
fn headers(head: &Head) -> String {
    let mut headers = HEADERS.to_owned();
    let asked = head.all("access-control-request-headers").flat_map(|list| list.split(|byte| *byte == b','));
    let texts = asked.filter_map(|name| std::str::from_utf8(name.trim_ascii()).ok());
    let is_of_family = |name: &&str| {
        let name = name.to_ascii_lowercase();
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        name.len() <= LONGEST_ASKED && is_name && FAMILIES.iter().any(|family| name.starts_with(family))
    };
    for name in texts.filter(is_of_family).take(MOST_ASKED) {
        headers.push_str(", ");
        headers.push_str(&name.to_ascii_lowercase());
    }
    headers
}

/// Whether a page of an origin asks that the settings do not allow and that is not the gate's own.
pub(crate) fn is_foreign(rules: &Rules, head: &Head) -> bool {
    let mut origins = head.all("origin");
    let Some(origin) = origins.next() else { return false };
    let is_allowed = || rules.door.origins.iter().any(|pattern| pattern.is_any() || pattern.allows(origin));
    origins.next().is_some() || !(is_own(origin, head) || is_allowed())
}

/// Whether a page that the gate itself served asks: to a browser that is no other origin.
fn is_own(origin: &[u8], head: &Head) -> bool {
    let host = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    host.is_some_and(|host| head.first("host").is_some_and(|own| own.eq_ignore_ascii_case(host)))
}

/// Whether the request carries a credential of the kind that a browser attaches by itself once it knows it.
fn is_ambient(head: &Head, target: Target<'_>) -> bool {
    let is_basic = |value: &[u8]| value.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic"));
    let is_to_proxy = target.is_proxied && head.first("proxy-authorization").is_some();
    is_to_proxy || head.all("authorization").any(is_basic)
}
