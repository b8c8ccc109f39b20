//! From the head of an HTTP/2 request to a [`Head`]: it is written as the HTTP/1.1 head that it would be and read by the same
//! strict reader, so that nothing passes here that would be refused there, and every stage sees one form.

use crate::downstream::Head;
use crate::entrance::Entered;
use crate::gate::Gate;
use crate::stages::intake;
use crate::trace;
use ::h2::server::SendResponse;
use bytes::Bytes;
use gate_h1::{Framing, H1Error, HeadScan, Limits, encode};
use http::request::Parts;
use std::rc::Rc;

/// Fields of HTTP/1.1 connections, which have no place here (RFC 9113, section 8.2.2).
const OF_CONNECTIONS: [&str; 5] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// Reads it. `is_whole` says that no body follows.
///
/// # Errors
/// Where the request has no reading, more than one, or goes beyond the limits.
pub(super) fn read(parts: &Parts, is_whole: bool, limits: &Limits) -> Result<Head, H1Error> {
    let mut text = Vec::with_capacity(512);
    write(&mut text, parts, limits)?;
    let head = Head::take(&mut text, &mut HeadScan::default(), limits)?;
    let head = head.filter(|_| text.is_empty());
    let mut head = head.and_then(Rc::into_inner).ok_or(H1Error::Field)?;
    head.framing = match (head.framing, is_whole) {
        (Framing::None | Framing::Length(0), true) => Framing::None,
        // A body was announced and will not come.
        (_, true) => return Err(H1Error::Length),
        (Framing::Length(length), false) => Framing::Length(length),
        // Its end is marked by the protocol.
        (_, false) => Framing::Chunked,
    };
    head.expect_continue = !is_whole && head.first("expect").is_some();
    Ok(head)
}

fn write(out: &mut Vec<u8>, parts: &Parts, limits: &Limits) -> Result<(), H1Error> {
    let path = parts.uri.path_and_query().map(http::uri::PathAndQuery::as_str);
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    // CONNECT has no path.
    let target = path.or(authority).ok_or(H1Error::Target)?;
    encode::request_line(out, parts.method.as_str(), target).map_err(|_unwritable| H1Error::Target)?;
    if let Some(authority) = authority {
        encode::field(out, "host", authority).map_err(|_unwritable| H1Error::Field)?;
    }
    for (name, value) in &parts.headers {
        let name = name.as_str();
        if OF_CONNECTIONS.contains(&name) {
            return Err(H1Error::Field);
        }
        // One that says the same as `:authority` is no second one (RFC 9113, section 8.3.1).
        let is_twin = |authority: &str| value.as_bytes().eq_ignore_ascii_case(authority.as_bytes());
        if name == "host" && authority.is_some_and(is_twin) {
            continue;
        }
        encode::field(out, name, value).map_err(|_unwritable| H1Error::Field)?;
        if out.len() > limits.head {
            return Err(H1Error::HeadTooLarge);
        }
    }
    encode::end_of_head(out);
    Ok(())
}

/// Answers a head that cannot be read.
pub(super) fn refuse(gate: &Gate, entered: &Entered, respond: &mut SendResponse<Bytes>, error: H1Error) {
    trace::unreadable(gate, entered.peer, &intake::unreadable(error), |head, text| {
        // Small enough to wait in the library until the client takes it; one that left is not told.
        if let Ok(mut body) = respond.send_response(super::out::head(head, false, entered.hsts()), false) {
            let _gone = body.send_data(text.into_bytes().into(), true);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Method, Request, Version};

    fn parts(method: Method, uri: &str, fields: &[(&str, &[u8])]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri).version(Version::HTTP_2);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn of(uri: &str, fields: &[(&str, &[u8])], is_whole: bool) -> Result<Head, H1Error> {
        read(&parts(Method::POST, uri, fields), is_whole, &Limits::DEFAULT)
    }

    #[test]
    fn it_reads_as_the_same_request_in_http_1_would() {
        let head =
            of("http://gate:1/api/chat?x", &[("x-api-key", b"k"), ("x-api-key", b"\xe4")], true).unwrap();
        assert_eq!((head.method(), head.target()), ("POST", "/api/chat?x"));
        assert_eq!(head.all("host").collect::<Vec<_>>(), [b"gate:1"]);
        assert_eq!(head.all("x-api-key").collect::<Vec<_>>(), [b"k".as_slice(), b"\xe4"]);
        assert!(head.framing == Framing::None && !head.expect_continue);
        let head = of("http://a/", &[("host", b"A"), ("te", b"trailers")], true).unwrap();
        assert_eq!(head.all("host").count(), 1, "one that says the same");
        let head = of("http://a/", &[("host", b"b")], true).unwrap();
        assert_eq!(head.all("host").count(), 2, "left to the intake to refuse");
        let head = of("/", &[("host", b"b")], true).unwrap();
        assert_eq!(head.all("host").collect::<Vec<_>>(), [b"b"]);
        let head = read(&parts(Method::CONNECT, "a:1", &[]), true, &Limits::DEFAULT).unwrap();
        assert_eq!((head.method(), head.target()), ("CONNECT", "a:1"));
    }

    #[test]
    fn a_body_is_announced_or_ends_with_its_stream() {
        let framing = |length: &[u8], is_whole| {
            of("http://a/", &[("content-length", length)], is_whole).map(|head| head.framing)
        };
        assert_eq!(framing(b"5", false), Ok(Framing::Length(5)));
        assert_eq!(framing(b"0", true), Ok(Framing::None));
        assert_eq!(framing(b"5", true), Err(H1Error::Length));
        assert_eq!(framing(b"+5", false), Err(H1Error::Length));
        let twice = of("http://a/", &[("content-length", b"5"), ("content-length", b"5")], false);
        assert_eq!(twice.unwrap_err(), H1Error::LengthTwice);
        assert_eq!(of("http://a/", &[], false).unwrap().framing, Framing::Chunked);
        assert!(of("http://a/", &[("expect", b"100-continue")], false).unwrap().expect_continue);
        assert_eq!(of("http://a/", &[("expect", b"gold")], false).unwrap_err(), H1Error::Expectation);
    }

    #[test]
    fn what_http_1_refuses_or_this_protocol_forbids_is_refused() {
        for name in OF_CONNECTIONS {
            assert!(of("http://a/", &[(name, b"x")], true).is_err(), "{name}");
        }
        assert_eq!(of("http://a/\u{e4}", &[], true).unwrap_err(), H1Error::Target);
        let long = vec![b'x'; 40_000];
        assert_eq!(of("http://a/", &[("x", &long)], true).unwrap_err(), H1Error::HeadTooLarge);
        let many: Vec<_> = (0..101).map(|_| ("x", b"1".as_slice())).collect();
        assert_eq!(of("http://a/", &many, true).unwrap_err(), H1Error::TooManyFields);
    }
}
