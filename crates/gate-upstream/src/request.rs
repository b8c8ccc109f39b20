//! The head of a request as the upstream gets it: the client's own fields first, then the caller's.
//!
//! What decides about framing or the connection is written here and taken from nobody: a caller's field of such a name
//! is refused, never merged.

use gate_h1::{encode, same_name};

use crate::access::Access;
use crate::endpoint::Endpoint;
use crate::upload::UploadFraming;

/// What is asked of an upstream.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// `GET`, `POST`, …; not `CONNECT`.
    pub method: &'a str,
    /// The path behind the endpoint's base, with its query if it has one: `/api/chat`.
    pub path: &'a str,
    /// Further fields. The client writes `Host`, `Content-Length` and, for uploads, `Transfer-Encoding` itself and
    /// refuses these, `Connection`, `Expect`, `Upgrade` and `TE` here.
    pub fields: &'a [(&'a str, &'a str)],
    /// The body; it is borrowed until the answer's head is there, because a dead pooled connection is replaced.
    /// Empty for [`Client::upload`](crate::Client::upload).
    pub body: &'a [u8],
}

const UNWRITABLE: &str = "a part of its head has a byte that would change its meaning";

/// Bytes of a usual head: room that need not grow.
const USUAL: usize = 512;

/// Whether only the client may write a field of this name: it decides where messages begin and end.
pub(crate) fn is_own(name: &str) -> bool {
    // The lengths first: nearly every field is passed over with one comparison.
    let own = match name.len() {
        2 => "te",
        4 => "host",
        6 => "expect",
        7 => "upgrade",
        10 => "connection",
        14 => "content-length",
        17 => "transfer-encoding",
        _ => return false,
    };
    same_name(name.as_bytes(), own.as_bytes())
}

/// Writes the head into `out`, which is empty.
pub(crate) fn write_head(
    out: &mut Vec<u8>,
    endpoint: &Endpoint,
    access: &Access,
    ask: &Ask<'_>,
) -> Result<(), &'static str> {
    write_fields(out, endpoint, access, ask)?;
    // RFC 9110, section 8.6: where the method expects content, even none is announced.
    if !ask.body.is_empty() || matches!(ask.method, "POST" | "PUT" | "PATCH") {
        encode::content_length(out, ask.body.len() as u64);
    }
    encode::end_of_head(out);
    Ok(())
}

/// Writes the head of a request to speak `protocol` over this connection, into `out`, which is empty.
pub(crate) fn write_switch_head(
    out: &mut Vec<u8>,
    endpoint: &Endpoint,
    access: &Access,
    ask: &Ask<'_>,
    protocol: &str,
) -> Result<(), &'static str> {
    write_fields(out, endpoint, access, ask)?;
    encode::field(out, "Connection", "Upgrade").map_err(|_| UNWRITABLE)?;
    encode::field(out, "Upgrade", protocol).map_err(|_| UNWRITABLE)?;
    encode::end_of_head(out);
    Ok(())
}

/// Writes the head of an upload into `out`, which is empty.
pub(crate) fn write_upload_head(
    out: &mut Vec<u8>,
    endpoint: &Endpoint,
    access: &Access,
    ask: &Ask<'_>,
    framing: UploadFraming,
) -> Result<(), &'static str> {
    if !ask.body.is_empty() {
        return Err("it has a whole body and one that streams");
    }
    write_fields(out, endpoint, access, ask)?;
    match framing {
        UploadFraming::Length(length) => encode::content_length(out, length),
        UploadFraming::Chunked => encode::chunked(out),
    }
    encode::end_of_head(out);
    Ok(())
}

/// The request line and all fields but those of the framing.
fn write_fields(
    out: &mut Vec<u8>,
    endpoint: &Endpoint,
    access: &Access,
    ask: &Ask<'_>,
) -> Result<(), &'static str> {
    out.reserve(USUAL);
    if ask.method == "CONNECT" || !ask.path.starts_with('/') {
        return Err("no such method or path can be sent");
    }
    let unwritable = |_| UNWRITABLE;
    if endpoint.base().is_empty() {
        encode::request_line(out, ask.method, ask.path).map_err(unwritable)?;
    } else {
        encode::request_line(out, ask.method, &[endpoint.base(), ask.path].concat()).map_err(unwritable)?;
    }
    encode::field(out, "Host", endpoint.authority()).map_err(unwritable)?;
    for (name, value) in ask.fields {
        if is_own(name) {
            return Err("it brings a field that only the client writes");
        }
        // What the upstream is shown by the settings is not a caller's to say.
        if access.writes(name) {
            continue;
        }
        encode::field(out, name, value).map_err(unwritable)?;
    }
    out.extend_from_slice(access.lines().as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(base: &str, ask: Ask<'_>) -> Result<String, &'static str> {
        let endpoint = Endpoint::new(false, "::1", 11434, base).unwrap();
        let mut out = Vec::new();
        write_head(&mut out, &endpoint, &Access::default(), &ask).map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_head_has_the_upstreams_host_and_the_bodys_length() {
        let ask = Ask { method: "POST", path: "/api/chat", fields: &[("Accept", "*/*")], body: b"{}" };
        assert_eq!(
            written("/x", ask).unwrap(),
            "POST /x/api/chat HTTP/1.1\r\nHost: [::1]:11434\r\nAccept: */*\r\nContent-Length: 2\r\n\r\n"
        );
        let ask = Ask { method: "GET", path: "/api/tags?a=b", fields: &[], body: b"" };
        assert_eq!(written("", ask).unwrap(), "GET /api/tags?a=b HTTP/1.1\r\nHost: [::1]:11434\r\n\r\n");
        let ask = Ask { method: "POST", path: "/", fields: &[], body: b"" };
        assert_eq!(
            written("", ask).unwrap(),
            "POST / HTTP/1.1\r\nHost: [::1]:11434\r\nContent-Length: 0\r\n\r\n"
        );
        let ask = Ask { method: "DELETE", path: "/api/delete", fields: &[], body: b"{}" };
        assert!(written("", ask).unwrap().contains("Content-Length: 2\r\n"));
    }

    #[test]
    fn nothing_that_changes_the_framing_gets_in() {
        for name in ["host", "Content-Length", "transfer-encoding", "CONNECTION", "Expect", "upgrade", "te"] {
            let ask = Ask { method: "GET", path: "/", fields: &[(name, "1")], body: b"" };
            assert!(written("", ask).is_err(), "{name}");
        }
        for (name, value) in [("a", "b\r\nc: d"), ("a", "b\0"), ("a b", "c"), ("", "c"), ("a:", "c")] {
            let ask = Ask { method: "GET", path: "/", fields: &[(name, value)], body: b"" };
            assert!(written("", ask).is_err(), "{name:?}: {value:?}");
        }
        for (method, path) in
            [("GET", ""), ("GET", "x"), ("GET", "/a b"), ("GET", "/a\r\n"), ("G T", "/"), ("CONNECT", "/")]
        {
            let ask = Ask { method, path, fields: &[], body: b"" };
            assert!(written("", ask).is_err(), "{method:?} {path:?}");
        }
    }
}
