//! What every request must be before anybody looks at what it wants: one host, one path, no field that
//! looks like another. Framing was settled by the
//! protocol that the request came in by.

use crate::downstream::Head;
use crate::host::{bare, name_and_port};
use crate::rules::Rules;
use gate_h1::{H1Error, Version};
use gate_wire::{GateError, Reason};
use std::net::IpAddr;

/// What the request line asks for, as it came. No query has a meaning on any open route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target<'h> {
    pub(crate) path: &'h str,
    /// The path with its query: what the signature of a signed request is over.
    pub(crate) path_and_query: &'h str,
    /// The client takes the gate for its proxy, and may show its key the way it does to proxies.
    pub(crate) is_proxied: bool,
}

/// The path of a target whose form nobody has checked yet: enough to tell in which dialect its sender speaks.
pub(crate) fn likely_path(target: &str) -> &str {
    let path = if target.starts_with('/') { target } else { behind_authority(target) };
    without_query(path)
}

/// A path is short: byte by byte it is looked through sooner than a search has begun.
fn without_query(path: &str) -> &str {
    path.bytes().position(|byte| byte == b'?').map_or(path, |end| &path[..end])
}

fn behind_authority(target: &str) -> &str {
    match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => rest.find('/').map_or("", |start| &rest[start..]),
        _ => target,
    }
}

/// Checks fields that could be taken for others, the host, and the form of the target.
pub(crate) fn check<'h>(rules: &Rules, head: &'h Head) -> Result<Target<'h>, GateError> {
    if head.names_with(b'_').any(is_twin) {
        return Err(bad("a field's name has \"_\" where one that this gate reads has \"-\""));
    }
    let host = host(head)?;
    if head.method() == "CONNECT" {
        return Err(GateError::new(Reason::ProxyTargetRefused));
    }
    let target = head.target();
    let is_proxied = !target.starts_with('/');
    let path_and_query = if is_proxied { absolute(rules, head, target, host)? } else { target };
    let path = without_query(path_and_query);
    Ok(Target { path, path_and_query, is_proxied })
}

/// Fields that the gate or an upstream reads, and what their names begin with.
const READ: [&str; 10] = [
    "content-length",
    "transfer-encoding",
    "content-type",
    "content-encoding",
    "herdgate-hops",
    "x-api-key",
    "x-request-id",
    "x-real-ip",
    "user-agent",
    "proxy-authorization",
];
const READ_FAMILIES: [&str; 3] = ["x-forwarded-", "access-control-", "anthropic-"];

/// Whether other software could take the field for one of [`READ`]: to CGI and its heirs `_` and `-` are the same.
fn is_twin(name: &[u8]) -> bool {
    let is_like = |name: &[u8], read: &str| {
        name.len() == read.len()
            && name
                .iter()
                .zip(read.bytes())
                .all(|(byte, read)| byte.eq_ignore_ascii_case(&read) || (*byte == b'_' && read == b'-'))
    };
    let begins_like = |family: &&str| name.get(..family.len()).is_some_and(|start| is_like(start, family));
    READ.iter().any(|read| is_like(name, read)) || READ_FAMILIES.iter().any(begins_like)
}

/// The one `Host`. HTTP/1.0 may leave it out (RFC 9112, 3.2).
fn host(head: &Head) -> Result<Option<&str>, GateError> {
    let mut hosts = head.all("host");
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_authority(host) => Ok(head.first_text("host")),
        (None, None) if head.version == Version::H10 => Ok(None),
        (None, None) => Err(bad("the request has no Host")),
        (_, Some(_)) => Err(bad("the request has more than one Host")),
        (Some(_), None) => Err(bad("the Host is not a host name or address")),
    }
}

/// `http://host/path`: what clients send that take the gate for their proxy. Its host must be the one of the field, and one
/// for which the gate answers; where it is, nothing is passed on to it. A client that shows its key as to a server has
/// written the gate's own name in full (RFC 9112, 3.2.2), whichever that is.
fn absolute<'h>(
    rules: &Rules,
    head: &Head,
    target: &'h str,
    host: Option<&str>,
) -> Result<&'h str, GateError> {
    let plain = target.strip_prefix("http://").map(|rest| (rest, "80"));
    let Some((rest, usual)) = plain.or_else(|| target.strip_prefix("https://").map(|rest| (rest, "443")))
    else {
        return Err(bad("the request target is not a path"));
    };
    let (authority, path) = match rest.find(['/', '?']) {
        Some(end) if rest.as_bytes()[end] == b'/' => rest.split_at(end),
        _ => return Err(bad("the request target is not a path")),
    };
    let (name, port) = name_and_port(authority);
    let agrees = host.map(name_and_port).is_some_and(|(own, own_port)| {
        own.eq_ignore_ascii_case(name) && own_port.unwrap_or(usual) == port.unwrap_or(usual)
    });
    if !agrees {
        return Err(bad("the request target names another host than Host does"));
    }
    // Nobody asks a proxy for these.
    let is_local = name.eq_ignore_ascii_case("localhost")
        || bare(name).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let has = |field| head.first(field).is_some();
    let is_as_server = !has("proxy-authorization") && (has("authorization") || has("x-api-key"));
    if is_local || is_as_server || rules.door.proxy_names.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        Ok(path)
    } else {
        Err(GateError::new(Reason::ProxyTargetRefused))
    }
}

/// Host and port as RFC 3986 writes them, loosely: letters, digits, `.-_:[]%`; no user, no path.
fn is_authority(host: &[u8]) -> bool {
    !host.is_empty()
        && host.len() <= 255
        && host.iter().all(|byte| {
            matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'.' | b'-' | b'_' | b':' | b'[' | b']' | b'%')
        })
}

fn bad(what: &'static str) -> GateError {
    GateError::new(Reason::BadRequest).saying(what)
}

/// What is wrong with a head that could not be read, or with the framing of a body.
pub(crate) fn unreadable(error: H1Error) -> GateError {
    let reason = match error.status() {
        413 => Reason::BodyTooLarge,
        414 | 431 => Reason::HeadTooLarge,
        417 => Reason::ExpectationFailed,
        501 => Reason::UnsupportedTransferCoding,
        505 => Reason::UnsupportedHttpVersion,
        _ => Reason::BadRequest,
    };
    GateError::new(reason).saying(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        Head::parse(&text.replace('\n', "\r\n"))
    }

    fn path(text: &str) -> Result<String, Reason> {
        let rules = Rules::for_tests(&["ollama"], &[]);
        check(&rules, &head(text)).map(|target| target.path.to_owned()).map_err(|error| error.reason)
    }

    #[test]
    fn the_path_without_its_query() {
        assert_eq!(path("GET /api/tags?x=1 HTTP/1.1\nHost: a\n\n"), Ok("/api/tags".into()));
        assert_eq!(path("GET /api/tags HTTP/1.0\n\n"), Ok("/api/tags".into()));
    }

    #[test]
    fn a_target_in_full_must_name_a_host_that_the_gate_answers_for() {
        let ask = |target: &str, host: &str| path(&format!("GET {target} HTTP/1.1\nHost: {host}\n\n"));
        for (target, host) in [
            ("http://ollama:80/api/tags", "ollama:80"),
            ("http://ollama/api/tags?q", "OLLAMA:80"),
            ("http://Ollama:11434/api/tags", "ollama:11434"),
            ("https://ollama/api/tags", "ollama:443"),
            ("http://localhost:7860/api/tags", "localhost:7860"),
            ("http://[::1]:7860/api/tags", "[::1]:7860"),
            ("http://[::1]/api/tags", "[::1]"),
            ("http://127.0.0.1/api/tags", "127.0.0.1"),
        ] {
            assert_eq!(ask(target, host), Ok("/api/tags".into()), "{target}");
        }
        for (target, host) in [
            ("http://example.org/", "example.org"),
            ("http://ollama.example.org/", "ollama.example.org"),
            ("http://192.0.2.1/", "192.0.2.1"),
            ("http://169.254.169.254/latest", "169.254.169.254"),
        ] {
            assert_eq!(ask(target, host), Err(Reason::ProxyTargetRefused), "{target}");
        }
        for (target, host) in [
            ("http://ollama:80/", "example.org"),
            ("http://example.org/", "ollama"),
            ("http://ollama:80/", "ollama:81"),
            ("http://user@ollama/", "ollama"),
            ("ftp://ollama/", "ollama"),
            ("http://ollama?x", "ollama"),
        ] {
            assert_eq!(ask(target, host), Err(Reason::BadRequest), "{target}");
        }
        let tunnel = path("CONNECT ollama:80 HTTP/1.1\nHost: ollama:80\n\n");
        assert_eq!(tunnel, Err(Reason::ProxyTargetRefused));
    }

    #[test]
    fn names_that_others_take_for_ours_are_refused() {
        for name in [
            "content_length",
            "Transfer_Encoding",
            "X_API-KEY",
            "x_request_id",
            "x_forwarded_for",
            "X-Forwarded_Host",
        ] {
            let text = format!("GET / HTTP/1.1\nHost: a\n{name}: 1\n\n");
            assert_eq!(path(&text), Err(Reason::BadRequest), "{name}");
        }
        let others =
            ["x_other: 1", "x_session: 1", "x_api_ke_: 1", "x_api_key_of: 1", "x-other: a_b", "_: 1"];
        for field in others.into_iter().chain(["x-api-key: sk_1"]) {
            assert!(path(&format!("GET / HTTP/1.1\nHost: a\n{field}\n\n")).is_ok(), "{field}");
        }
    }

    #[test]
    fn the_likely_path_is_found_in_every_form_of_target() {
        for (target, path) in [
            ("/v1/models?x=http://a/b", "/v1/models"),
            ("http://gate:1/v1/models?x", "/v1/models"),
            ("https://gate", ""),
            ("*", "*"),
            ("gate:443", "gate:443"),
            ("x/y://z/v1/models", "x/y://z/v1/models"),
        ] {
            assert_eq!(likely_path(target), path);
        }
    }

    #[test]
    fn what_has_no_single_host_is_refused() {
        for text in [
            "GET / HTTP/1.1\n\n",
            "GET / HTTP/1.1\nHost: a\nHost: a\n\n",
            "GET / HTTP/1.1\nHost:\n\n",
            "GET / HTTP/1.1\nHost: user@a\n\n",
            "GET / HTTP/1.1\nHost: a/b\n\n",
            "GET http://b/ HTTP/1.1\nHost: a\n\n",
            "GET http://a HTTP/1.1\nHost: a\n\n",
            "OPTIONS * HTTP/1.1\nHost: a\n\n",
            "GET ftp://a/ HTTP/1.1\nHost: a\n\n",
        ] {
            assert!(path(text).is_err(), "{text:?}");
        }
    }
}
