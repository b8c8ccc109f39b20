//! What every request must be before anybody looks at what it wants: one host, one path. Framing was settled by the
//! protocol that the request came in by.

use crate::downstream::Head;
use gate_h1::{H1Error, Version};
use gate_wire::{GateError, Reason};

/// The path of a request, as it came, and nothing else of its target: queries have no meaning on any open route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target<'h> {
    pub(crate) path: &'h str,
}

/// The path of a target whose form nobody has checked yet: enough to tell in which dialect its sender speaks.
pub(crate) fn likely_path(target: &str) -> &str {
    let path = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => rest.find('/').map_or("", |start| &rest[start..]),
        _ => target,
    };
    path.split_once('?').map_or(path, |(path, _query)| path)
}

/// Checks host and form of the target.
pub(crate) fn check(head: &Head) -> Result<Target<'_>, GateError> {
    let host = host(head)?;
    let target = head.target();
    let path = if target.starts_with('/') { target } else { absolute(target, host)? };
    Ok(Target { path: path.split_once('?').map_or(path, |(path, _query)| path) })
}

/// The one `Host`. HTTP/1.0 may leave it out (RFC 9112, 3.2).
fn host(head: &Head) -> Result<Option<&str>, GateError> {
    let mut hosts = head.all("host");
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_authority(host) => Ok(std::str::from_utf8(host).ok()),
        (None, None) if head.version == Version::H10 => Ok(None),
        (None, None) => Err(bad("the request has no Host")),
        (_, Some(_)) => Err(bad("the request has more than one Host")),
        (Some(_), None) => Err(bad("the Host is not a host name or address")),
    }
}

/// `http://host/path`: what clients send that take the gate for their proxy. Its host must be the one of the field.
fn absolute<'h>(target: &'h str, host: Option<&str>) -> Result<&'h str, GateError> {
    let rest = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
    let Some(rest) = rest else { return Err(bad("the request target is not a path")) };
    let (authority, path) = match rest.find(['/', '?']) {
        Some(end) if rest.as_bytes()[end] == b'/' => rest.split_at(end),
        _ => return Err(bad("the request target is not a path")),
    };
    if host.is_some_and(|host| host.eq_ignore_ascii_case(authority)) {
        Ok(path)
    } else {
        Err(bad("the request target names another host than Host does"))
    }
}

/// Host and port as RFC 3986 writes them, loosely: letters, digits, `.-_:[]%`; no user, no path.
fn is_authority(host: &[u8]) -> bool {
    !host.is_empty()
        && host.len() <= 255
        && host.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]%".contains(byte))
}

fn bad(what: &'static str) -> GateError {
    GateError::new(Reason::BadRequest).saying(what)
}

/// What is wrong with a head that could not be read.
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

    fn path(text: &str) -> Result<String, String> {
        let head = Head::parse(&text.replace('\n', "\r\n"));
        check(&head).map(|target| target.path.to_owned()).map_err(|error| error.public.into_owned())
    }

    #[test]
    fn the_path_without_its_query() {
        assert_eq!(path("GET /api/tags?x=1 HTTP/1.1\nHost: a\n\n"), Ok("/api/tags".into()));
        assert_eq!(path("GET /api/tags HTTP/1.0\n\n"), Ok("/api/tags".into()));
        assert_eq!(path("GET http://gate:1/api/tags?q HTTP/1.1\nHost: GATE:1\n\n"), Ok("/api/tags".into()));
    }

    #[test]
    fn the_likely_path_is_found_in_every_form_of_target() {
        for (target, path) in [
            ("/v1/models?x=http://a/b", "/v1/models"),
            ("http://gate:1/v1/models?x", "/v1/models"),
            ("https://gate", ""),
            ("*", "*"),
            ("gate:443", "gate:443"),
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
            "CONNECT a:1 HTTP/1.1\nHost: a:1\n\n",
            "GET ftp://a/ HTTP/1.1\nHost: a\n\n",
        ] {
            assert!(path(text).is_err(), "{text:?}");
        }
    }
}
