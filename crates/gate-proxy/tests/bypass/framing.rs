//! HTTP/1.1 framing: RFC 9112 and the known ways to smuggle a request past a proxy.

use crate::rows::{Refused, all_are_refused, refused};

/// What stands between `POST /api/chat HTTP/1.1` with Host and key, and the end of what is sent. The empty line and the
/// body are in it.
const BEHIND: &[(&str, &[u8], u16, &str)] = &[
    (
        "length and chunked",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        400,
        "bad_request",
    ),
    (
        "chunked and length",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    ("two lengths that differ", b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400, "bad_request"),
    ("two equal lengths", b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400, "bad_request"),
    ("a list of lengths", b"Content-Length: 5, 5\r\n\r\nhello", 400, "bad_request"),
    ("a length with a plus", b"Content-Length: +5\r\n\r\nhello", 400, "bad_request"),
    ("a negative length", b"Content-Length: -1\r\n\r\n", 400, "bad_request"),
    ("a length in hexadecimal", b"Content-Length: 0x5\r\n\r\nhello", 400, "bad_request"),
    ("a length above 2^63", b"Content-Length: 9223372036854775808\r\n\r\n", 400, "bad_request"),
    ("a length above 2^64", b"Content-Length: 18446744073709551621\r\n\r\nhello", 400, "bad_request"),
    ("a length that is empty", b"Content-Length:\r\n\r\n", 400, "bad_request"),
    ("a length with a blank in it", b"Content-Length: 1 0\r\n\r\n", 400, "bad_request"),
    ("a length behind a blank before the colon", b"Content-Length : 5\r\n\r\nhello", 400, "bad_request"),
    ("chunked not last", b"Transfer-Encoding: chunked, gzip\r\n\r\n", 400, "bad_request"),
    (
        "another coding first",
        b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        501,
        "unsupported_transfer_coding",
    ),
    ("identity", b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello", 400, "bad_request"),
    ("nearly chunked", b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, "bad_request"),
    ("chunked behind a vertical tab", b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400, "bad_request"),
    ("chunked in quotes", b"Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400, "bad_request"),
    (
        "chunked twice",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    (
        "chunked, then identity",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    ("a coding in a folded line", b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400, "bad_request"),
    (
        "a coding with a blank before the colon",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    ("a bare LF behind a field", b"X: a\nContent-Length: 0\r\n\r\n", 400, "bad_request"),
    ("a bare LF as the empty line", b"Content-Length: 0\r\n\n", 400, "bad_request"),
    ("a bare CR in a value", b"X: a\rContent-Length: 5\r\n\r\n", 400, "bad_request"),
    ("a folded line", b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n", 400, "bad_request"),
    ("a NUL in a value", b"X: a\0b\r\nContent-Length: 0\r\n\r\n", 400, "bad_request"),
    ("a NUL in a name", b"X\0: a\r\nContent-Length: 0\r\n\r\n", 400, "bad_request"),
    ("a name with a blank", b"Content Length: 5\r\n\r\nhello", 400, "bad_request"),
    ("a field without a name", b": 5\r\nContent-Length: 0\r\n\r\n", 400, "bad_request"),
    ("a field without a colon", b"Content-Length\r\n\r\n", 400, "bad_request"),
    ("an unknown expectation", b"Expect: 200-ok\r\nContent-Length: 0\r\n\r\n", 417, "expectation_failed"),
    (
        "a chunk size with a plus",
        b"Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    (
        "a chunk size with 0x",
        b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    (
        "a chunk size that overflows",
        b"Transfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    (
        "a chunk size that is negative",
        b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    (
        "a chunk size behind a blank",
        b"Transfer-Encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    (
        "a chunk line with a bare LF",
        b"Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    (
        "a chunk extension with a bare CR",
        b"Transfer-Encoding: chunked\r\n\r\n5;a\rb\r\nhello\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    (
        "a chunk extension with a line in quotes",
        b"Transfer-Encoding: chunked\r\n\r\n5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    (
        "a chunk longer than its size",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    (
        "a chunk that ends in a bare LF",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n",
        400,
        "bad_request",
    ),
    ("a last chunk in bare LF", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\n\n", 400, "bad_request"),
    (
        "a length in the trailer",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n",
        400,
        "bad_request",
    ),
    (
        "a credential in the trailer",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\nAuthorization: Bearer @ALL@\r\n\r\n",
        400,
        "bad_request",
    ),
    (
        "a request in the trailer",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\nGET / HTTP/1.1\r\n\r\n",
        400,
        "bad_request",
    ),
];

/// Whole heads.
const WHOLE: &[(&str, &[u8], u16, &str)] = &[
    ("a blank before the method", b" POST /api/chat HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
    ("two blanks before the target", b"POST  /api/chat HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
    ("a blank behind the version", b"POST /api/chat HTTP/1.1 \r\nHost: a\r\n\r\n", 400, "bad_request"),
    ("a tab in the request line", b"POST\t/api/chat HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
    ("a blank in the target", b"POST /api/chat x HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
    ("no version", b"POST /api/chat\r\nHost: a\r\n\r\n", 400, "bad_request"),
    ("HTTP/1.2", b"POST /api/chat HTTP/1.2\r\nHost: a\r\n\r\n", 505, "unsupported_http_version"),
    ("HTTP/0.9", b"POST /api/chat HTTP/0.9\r\nHost: a\r\n\r\n", 505, "unsupported_http_version"),
    ("a protocol in lower case", b"POST /api/chat http/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
    ("a target outside of ASCII", b"POST /api/ch\xc3\xa4t HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
    ("a NUL in the target", b"POST /api/chat\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
    ("a fragment in the target", b"POST /api/chat#/api/pull HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
    ("a head in bare LF", b"POST /api/chat HTTP/1.1\nHost: a\n\n", 400, "bad_request"),
    ("a folded first field", b"POST /api/chat HTTP/1.1\r\n Host: a\r\n\r\n", 400, "bad_request"),
    ("chunked in HTTP/1.0", b"POST /api/chat HTTP/1.0\r\nHost: a\r\nx-api-key: @ALL@\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad_request"),
    ("an answer in place of a request", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 400, "bad_request"),
    ("TLS on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "bad_request"),
    ("CONNECT", b"CONNECT gate:443 HTTP/1.1\r\nHost: gate:443\r\nx-api-key: @ALL@\r\n\r\n", 403, "proxy_target_refused"),
];

#[test]
fn framing_has_one_reading() {
    let behind = BEHIND.iter().map(|(what, rest, status, code)| {
        let head = b"POST /api/chat HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer @ALL@\r\n";
        refused(*what, [&head[..], rest].concat(), *status, code)
    });
    let whole = WHOLE.iter().map(|(what, all, status, code)| refused(*what, *all, *status, code));
    let mut rows: Vec<Refused> = behind.chain(whole).collect();
    let long = format!("POST /api/chat?{} HTTP/1.1\r\n", "x".repeat(40_000));
    rows.push(refused("a request line without end", long, 431, "head_too_large"));
    let long = format!("POST /api/chat HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    rows.push(refused("a field without end", long, 431, "head_too_large"));
    let many = format!("POST /api/chat HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(1000));
    rows.push(refused("a thousand fields", many, 431, "head_too_large"));
    let head = "POST /api/chat HTTP/1.1\r\nHost: a\r\nx-api-key: @ALL@\r\nContent-Length: 1048577\r\n\r\n";
    rows.push(refused("a body above the limit", head, 413, "body_too_large"));
    let head = "POST /api/chat HTTP/1.1\r\nHost: a\r\nx-api-key: @ALL@\r\nContent-Length: 5\r\n\r\nhel";
    rows.push(refused("a body that stops", head, 408, "request_timeout"));
    let chunked =
        "POST /api/chat HTTP/1.1\r\nHost: a\r\nx-api-key: @ALL@\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long = format!("{chunked}5;a={}\r\nhello\r\n0\r\n\r\n", "x".repeat(20_000));
    rows.push(refused("a chunk extension without end", long, 413, "body_too_large"));
    let long = format!("{chunked}0\r\n{}\r\n", "X: y\r\n".repeat(20_000));
    rows.push(refused("a trailer without end", long, 431, "head_too_large"));
    assert!(rows.len() >= 65, "{}", rows.len());
    all_are_refused(&rows);
}
