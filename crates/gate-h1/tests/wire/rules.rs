//! The rules one by one: the tables of `cases`, and what does not fit into a table line.

use gate_h1::H1Error::*;
use gate_h1::{Limits, Parsed, encode, request_head};

use crate::cases::{CHUNKS, REQUEST_FIELDS, REQUEST_LINES, RESPONSES, Want};
use crate::property::{Side, same_in_any_cut};

fn verdict(side: Side, limits: &Limits, bytes: &[u8]) -> Want {
    let reading = same_in_any_cut(side, limits, bytes);
    match (reading.messages.first(), reading.refused) {
        (None, Some(error)) => Err(error),
        (Some(message), None) => Ok(message.framing),
        other => panic!("{other:?} from {}", bytes.escape_ascii()),
    }
}

const ANSWER: Side = Side::Responses { to_head: false };

#[test]
fn request_lines() {
    for (rule, bytes, want) in REQUEST_LINES {
        assert_eq!(verdict(Side::Requests, &Limits::DEFAULT, bytes), *want, "{rule}");
    }
}

#[test]
fn request_fields() {
    for (rule, fields, want) in REQUEST_FIELDS {
        let bytes = [b"POST / HTTP/1.1\r\nHost: a\r\n", *fields, b"\r\n\r\n"].concat();
        assert_eq!(verdict(Side::Requests, &Limits::DEFAULT, &bytes), *want, "{rule}");
    }
}

#[test]
fn responses() {
    for (rule, bytes, want) in RESPONSES {
        assert_eq!(verdict(ANSWER, &Limits::DEFAULT, bytes), *want, "{rule}");
    }
}

#[test]
fn chunks() {
    let next = b"GET /next HTTP/1.1\r\n\r\n";
    for (rule, body, want) in CHUNKS {
        let bytes = [b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", *body, next].concat();
        let reading = same_in_any_cut(Side::Requests, &Limits::DEFAULT, &bytes);
        match want {
            Ok(data) => {
                assert_eq!(reading.refused, None, "{rule}");
                assert_eq!(reading.messages.len(), 2, "{rule}");
                assert_eq!(
                    reading.messages[0].body.escape_ascii().to_string(),
                    data.escape_ascii().to_string()
                );
                assert_eq!(reading.messages[1].first.1, "/next", "{rule}");
            }
            Err(error) => {
                assert_eq!(reading.refused, Some(*error), "{rule}");
                assert!(!reading.messages[0].complete, "{rule}");
            }
        }
    }
}

#[test]
fn answers_to_head_have_no_body_whatever_they_announce() {
    let side = Side::Responses { to_head: true };
    for fields in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", ""] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{fields}\r\nHTTP/1.1 404 Not Found\r\n\r\n");
        let reading = same_in_any_cut(side, &Limits::DEFAULT, bytes.as_bytes());
        assert_eq!(reading.messages.len(), 2, "{fields}");
        assert!(reading.messages[0].complete && reading.messages[0].keep_alive, "{fields}");
    }
}

#[test]
fn keeping_alive() {
    let cases = [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: Keep-Alive, CLOSE\r\n", false),
        ("1.1", "Connection: x\r\nConnection: y ,close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.1", "Connection: upgrade\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ];
    for (version, fields, want) in cases {
        let request = format!("GET / HTTP/{version}\r\n{fields}\r\n");
        let answer = format!("HTTP/{version} 200 OK\r\n{fields}Content-Length: 0\r\n\r\n");
        let until_close = format!("HTTP/{version} 200 OK\r\n{fields}\r\n");
        for (side, bytes, want) in
            [(Side::Requests, request, want), (ANSWER, answer, want), (ANSWER, until_close, false)]
        {
            let reading = same_in_any_cut(side, &Limits::DEFAULT, bytes.as_bytes());
            assert_eq!(reading.messages[0].keep_alive, want, "{bytes}");
        }
    }
}

#[test]
fn waiting_for_continue() {
    let cases = [
        ("1.1", "Expect: 100-Continue\r\nContent-Length: 5\r\n", true),
        ("1.1", "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", true),
        ("1.1", "Expect: 100-continue\r\nContent-Length: 0\r\n", false),
        ("1.1", "Expect: 100-continue\r\n", false),
        ("1.0", "Expect: 100-continue\r\nContent-Length: 5\r\n", false),
        ("1.1", "Content-Length: 5\r\n", false),
    ];
    for (version, fields, want) in cases {
        let bytes = format!("POST / HTTP/{version}\r\n{fields}\r\n");
        let Ok(Parsed::Done(head, _)) = request_head(bytes.as_bytes(), &Limits::DEFAULT) else {
            panic!("{bytes}");
        };
        assert_eq!(head.expect_continue, want, "{bytes}");
    }
}

#[test]
fn bounds_hold_to_the_byte() {
    let limits = Limits { head: 40, fields: 2, chunk_line: 8, extensions: 10, trailer: 12 };
    let head = |target: usize, fields: &str| format!("GET {} HTTP/1.1\r\n{fields}\r\n", "/".repeat(target));
    let body = |body: &str| format!("POST / HTTP/1.1\r\n{CODING}\r\n{body}");
    const CODING: &str = "Transfer-Encoding: chunked\r\n";
    let limits_for_bodies = Limits { head: 100, ..limits };
    let cases = [
        (limits, head(23, ""), None),
        (limits, head(24, ""), Some(HeadTooLarge)),
        (limits, head(40, ""), Some(LineTooLong)),
        (limits, head(1, "A: b\r\nC: d\r\n"), None),
        (limits, head(1, "A:\r\nC:\r\nE:\r\n"), Some(TooManyFields)),
        (limits_for_bodies, body("1;234567\r\na\r\n0\r\n\r\n"), None),
        (limits_for_bodies, body("1;2345678\r\na\r\n0\r\n\r\n"), Some(ExtensionsTooLarge)),
        (limits_for_bodies, body("000000001\r\na\r\n0\r\n\r\n"), Some(ExtensionsTooLarge)),
        (limits_for_bodies, body("1;2345\r\na\r\n1;2345\r\na\r\n0\r\n\r\n"), None),
        (limits_for_bodies, body("1;2345\r\na\r\n1;23456\r\na\r\n0\r\n\r\n"), Some(ExtensionsTooLarge)),
        (limits_for_bodies, body("0\r\nA: 345678\r\n\r\n"), Some(TrailerTooLarge)),
        (limits_for_bodies, body("0\r\nA: 34567\r\n\r\n"), None),
        (limits_for_bodies, body("0\r\nA:\r\nB:\r\n\r\n"), None),
        (limits_for_bodies, body("0\r\nA:\r\nB:\r\nC:\r\n\r\n"), Some(TrailerTooLarge)),
    ];
    for (limits, bytes, want) in cases {
        let reading = same_in_any_cut(Side::Requests, &limits, bytes.as_bytes());
        assert_eq!(reading.refused, want, "{bytes}");
        assert_eq!(
            reading.messages.last().is_some_and(|message| message.complete),
            want.is_none(),
            "{bytes}"
        );
    }
}

/// Every byte value in every kind of place, against the RFC's grammar spelled out.
#[test]
fn every_byte_in_every_place() {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    for byte in 0..=255u8 {
        let places: [(&str, &[u8], &[u8], bool); 6] = [
            ("method", b"G", b"T / HTTP/1.1\r\n\r\n", token(byte)),
            ("first byte", b"", b"ET / HTTP/1.1\r\n\r\n", token(byte)),
            ("target", b"GET /", b" HTTP/1.1\r\n\r\n", (b'!'..=b'~').contains(&byte) && byte != b'#'),
            // A colon in a name only makes the name shorter.
            ("name", b"GET / HTTP/1.1\r\nX", b"Y: v\r\n\r\n", token(byte) || byte == b':'),
            ("value", b"GET / HTTP/1.1\r\nX: a", b"b\r\n\r\n", byte == b'\t' || byte >= b' ' && byte != 0x7f),
            ("version", b"GET / HTTP/1.", b"\r\n\r\n", byte == b'0' || byte == b'1'),
        ];
        for (place, before, behind, allowed) in places {
            let bytes = [before, &[byte], behind].concat();
            let verdict = verdict(Side::Requests, &Limits::DEFAULT, &bytes);
            assert_eq!(verdict.is_ok(), allowed, "{place} with {byte:#04x}: {verdict:?}");
        }
        let mut out = Vec::new();
        assert_eq!(
            encode::field(&mut out, "X", [b'a', byte, b'b']).is_ok(),
            byte == b'\t' || byte >= b' ' && byte != 0x7f
        );
        assert_eq!(
            encode::request_line(&mut out, "GET", &format!("/{}", char::from(byte))).is_ok(),
            (b'!'..=b'~').contains(&byte) && byte != b'#'
        );
    }
}

#[test]
fn statuses_that_a_client_sees() {
    let cases = [
        (NotHttp, 400),
        (LengthAndCoding, 400),
        (Coding, 400),
        (ExtensionsTooLarge, 413),
        (LineTooLong, 414),
        (Expectation, 417),
        (HeadTooLarge, 431),
        (TooManyFields, 431),
        (TrailerTooLarge, 431),
        (CodingUnsupported, 501),
        (Version, 505),
    ];
    for (error, status) in cases {
        assert_eq!(error.status(), status, "{error}");
        assert!(!encode::reason(status).is_empty());
    }
}

#[test]
fn a_body_that_ends_early_is_never_taken_for_whole() {
    for (bytes, side) in [
        (&b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhell"[..], Side::Requests),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", Side::Requests),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", Side::Requests),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", ANSWER),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello", ANSWER),
    ] {
        let reading = same_in_any_cut(side, &Limits::DEFAULT, bytes);
        assert_eq!(reading.refused, None);
        assert!(!reading.messages[0].complete, "{}", bytes.escape_ascii());
    }
}

#[test]
fn repeated_fields_stay_visible() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nTE: x , trailers\r\nhOST:\tb \r\nte: gzip\r\n\r\n";
    let Ok(Parsed::Done(head, _)) = request_head(bytes, &Limits::DEFAULT) else { panic!("a whole head") };
    let fields = &head.fields;
    assert_eq!(fields.get("HOST"), Some(&b"a"[..]));
    assert_eq!(fields.all("host").collect::<Vec<_>>(), [b"a", b"b"]);
    assert_eq!(fields.get("hos"), None);
    assert_eq!(fields.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["Host", "TE", "hOST", "te"]);
    assert!(fields.has_token("te", "Trailers") && fields.has_token("te", "gzip"));
    assert!(!fields.has_token("te", "zip") && !fields.has_token("host", "trailers"));
    assert_eq!(fields.len(), 4);
}

#[test]
fn secrets_stay_out_of_debug() {
    let bytes = b"GET / HTTP/1.1\r\nAuthorization: Bearer hidden\r\n\r\n";
    let parsed = request_head(bytes, &Limits::DEFAULT).unwrap();
    let printed = format!("{parsed:?}");
    assert!(printed.contains("Authorization") && !printed.contains("hidden"), "{printed}");
}
