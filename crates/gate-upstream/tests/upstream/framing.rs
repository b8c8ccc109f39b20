//! Where an answer ends, however its bytes are cut, and whether its connection may be used again.

use gate_h1::{Framing, H1Error};
use gate_upstream::{Ask, UpstreamError};

use crate::played::{GET, HEAD, ID, Played, Then, body, client, cuts};

struct Case {
    ask: Ask<'static>,
    head: &'static str,
    wire: &'static str,
    data: &'static str,
    status: u16,
    framing: Framing,
    pooled: bool,
}

const CHUNKED: Case = Case {
    ask: GET,
    head: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    wire: "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    data: "hello world",
    status: 200,
    framing: Framing::Chunked,
    pooled: true,
};

const CASES: [Case; 12] = [
    CHUNKED,
    Case {
        wire: "00005;a=b;c=\"d;\\\"\"\r\nhello\r\nA\r\n0123456789\r\n0\r\nX-Sum: 1\r\nX-More:\r\n\r\n",
        data: "hello0123456789",
        ..CHUNKED
    },
    Case { wire: "0\r\n\r\n", data: "", ..CHUNKED },
    Case {
        head: "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nA: b\r\n\r\n",
        wire: "gone!",
        data: "gone!",
        status: 404,
        framing: Framing::Length(5),
        ..CHUNKED
    },
    Case {
        head: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        wire: "",
        data: "",
        framing: Framing::Length(0),
        ..CHUNKED
    },
    Case {
        head: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\n",
        wire: "end",
        data: "end",
        framing: Framing::Length(3),
        pooled: false,
        ..CHUNKED
    },
    Case {
        head: "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n",
        wire: "old",
        data: "old",
        framing: Framing::Length(3),
        pooled: false,
        ..CHUNKED
    },
    Case {
        head: "HTTP/1.1 200 OK\r\n\r\n",
        wire: "until the end",
        data: "until the end",
        framing: Framing::UntilClose,
        pooled: false,
        ..CHUNKED
    },
    Case {
        ask: HEAD,
        head: "HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n",
        wire: "",
        data: "",
        status: 200,
        framing: Framing::None,
        pooled: true,
    },
    Case {
        ask: HEAD,
        head: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        wire: "",
        data: "",
        status: 200,
        framing: Framing::None,
        pooled: true,
    },
    Case {
        head: "HTTP/1.1 204 No Content\r\n\r\n",
        wire: "",
        data: "",
        status: 204,
        framing: Framing::None,
        ..CHUNKED
    },
    Case {
        head: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        wire: "ok",
        data: "ok",
        framing: Framing::Length(2),
        ..CHUNKED
    },
];

#[tokio::test]
async fn every_framing_ends_where_it_must_however_it_is_cut() {
    for case in CASES {
        let bytes = [case.head, case.wire].concat();
        let then = if case.framing == Framing::UntilClose { Then::End } else { Then::Silence };
        for pieces in cuts(bytes.as_bytes()) {
            for scratch in [1, 7, 65536] {
                let (stream, seen) = Played::new(pieces.clone(), then);
                let client = client([stream]);
                let mut answer = client.send(ID, &case.ask).await.unwrap();
                assert_eq!(answer.status(), case.status);
                assert_eq!(answer.framing(), case.framing);
                let (wire, data) = body(&mut answer, scratch).await.unwrap();
                assert_eq!(String::from_utf8(wire).unwrap(), case.wire, "{pieces:?}");
                assert_eq!(String::from_utf8(data).unwrap(), case.data, "{pieces:?}");
                assert_eq!(client.idle(ID), usize::from(case.pooled), "{bytes}");
                assert_eq!(seen.borrow().closed, !case.pooled, "{bytes}");
            }
        }
    }
}

#[tokio::test]
async fn the_end_is_told_again_and_the_fields_stay() {
    let bytes = b"HTTP/1.1 200 OK\r\nX-A:\t one \r\nx-a: two: 3\r\nX-Empty:\r\nContent-Length: 2\r\n\r\nok";
    let (stream, _) = Played::new([bytes.to_vec()], Then::Silence);
    let client = client([stream]);
    let mut answer = client.send(ID, &GET).await.unwrap();
    body(&mut answer, 64).await.unwrap();
    assert_eq!(body(&mut answer, 64).await.unwrap(), (vec![], vec![]));
    let fields: Vec<_> = answer.fields().collect();
    assert_eq!(
        fields,
        [
            (b"X-A".as_slice(), b"one".as_slice()),
            (b"x-a".as_slice(), b"two: 3".as_slice()),
            (b"X-Empty".as_slice(), b"".as_slice()),
            (b"Content-Length".as_slice(), b"2".as_slice())
        ]
    );
    assert_eq!(answer.field("x-A"), Some(b"one".as_slice()));
    assert_eq!(answer.field("x-b"), None);
}

#[tokio::test]
async fn bytes_behind_an_answer_close_its_connection() {
    for (ask, bytes, wire) in [
        (GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok!", "ok"),
        (
            GET,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n",
            "0\r\n\r\n",
        ),
        (GET, "HTTP/1.1 204 No Content\r\n\r\n{}", ""),
        (HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", ""),
    ] {
        for scratch in [1, 64] {
            let (stream, seen) = Played::new([bytes.as_bytes().to_vec()], Then::Silence);
            let client = client([stream]);
            let mut answer = client.send(ID, &ask).await.unwrap();
            let (came, _) = body(&mut answer, scratch).await.unwrap();
            assert_eq!(String::from_utf8(came).unwrap(), wire);
            assert_eq!(client.idle(ID), 0);
            assert!(seen.borrow().closed);
        }
    }
}

#[tokio::test]
async fn bytes_that_come_later_are_never_the_next_answer() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
    let strays = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother".to_vec();
    let (first, first_seen) = Played::new([answer.clone(), strays], Then::Silence);
    let (second, _) = Played::new([answer], Then::Silence);
    let client = client([first.without_waits(), second]);
    assert_eq!(client.send(ID, &GET).await.unwrap().read_all(99).await.unwrap(), b"ok");
    assert_eq!(client.idle(ID), 1);
    assert_eq!(client.send(ID, &GET).await.unwrap().read_all(99).await.unwrap(), b"ok");
    assert!(first_seen.borrow().closed);
    assert_eq!(client.counts(ID).reused, 0);
}

#[tokio::test]
async fn what_is_no_answer_is_an_error_and_closes() {
    for (bytes, cause) in [
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", H1Error::StatusLine),
        ("\x15\x03\x01\0\x02\x02\x46", H1Error::NotHttp),
        ("HTTP/1.1 200 OK\nContent-Length: 2\n\nok", H1Error::BareLf),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
            H1Error::LengthAndCoding,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n", H1Error::LengthTwice),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", H1Error::Field),
        ("HTTP/2.0 200 OK\r\n\r\n", H1Error::Version),
    ] {
        let (stream, seen) = Played::new([bytes.as_bytes().to_vec()], Then::Silence);
        let client = client([stream]);
        let error = client.send(ID, &GET).await.err().unwrap();
        assert!(!error.before_first_byte() && !error.is_connect());
        assert!(error.to_string().starts_with("http://127.0.0.1:11434: malformed answer: "), "{error}");
        assert!(matches!(error, UpstreamError::Malformed { cause: found, .. } if found == cause), "{error}");
        assert!(seen.borrow().closed);
    }
}

#[tokio::test]
async fn a_head_without_an_end_is_bounded() {
    let line = b"X-Long: 0123456789012345678901234567890123456789012345678901234567890123456789\r\n".to_vec();
    let pieces = std::iter::once(b"HTTP/1.1 200 OK\r\n".to_vec()).chain(std::iter::repeat_n(line, 4000));
    let (stream, _) = Played::new(pieces, Then::Silence);
    let error = client([stream]).send(ID, &GET).await.err().unwrap();
    assert!(matches!(error, UpstreamError::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn interim_answers_are_bounded_and_nothing_is_upgraded() {
    let interim = b"HTTP/1.1 102 Processing\r\n\r\n".to_vec();
    let (stream, _) = Played::new(std::iter::repeat_n(interim, 100), Then::Silence);
    let error = client([stream]).send(ID, &GET).await.err().unwrap();
    assert!(matches!(error, UpstreamError::Unasked { .. }), "{error}");

    let upgrade = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n".to_vec();
    let (stream, _) = Played::new([upgrade], Then::Silence);
    let error = client([stream]).send(ID, &GET).await.err().unwrap();
    assert!(error.to_string().contains("101 Switching Protocols"), "{error}");
}

#[tokio::test]
async fn a_broken_body_is_an_error_at_once_and_stays_one() {
    for (body_bytes, then, expected) in [
        ("5\r\nhell", Then::End, "in the middle of its answer"),
        ("5\r\nhell", Then::Reset, "in the middle of its answer: connection reset"),
        ("5\r\nhello\r\n", Then::End, "in the middle of its answer"),
        ("5\r\nhello\r\n0\r\n", Then::End, "in the middle of its answer"),
        ("5\r\nhelloX", Then::Silence, "malformed answer"),
        ("-5\r\nhello", Then::Silence, "malformed answer"),
        ("5\nhello", Then::Silence, "malformed answer"),
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body_bytes}").into_bytes();
        for pieces in cuts(&bytes) {
            let (stream, seen) = Played::new(pieces, then);
            let client = client([stream]);
            let mut answer = client.send(ID, &GET).await.unwrap();
            let error = body(&mut answer, 64).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{body_bytes:?}: {error}");
            assert!(!error.before_first_byte());
            assert!(seen.borrow().closed);
            assert!(body(&mut answer, 64).await.is_err());
            assert_eq!(client.idle(ID), 0);
        }
    }
}

#[tokio::test]
async fn an_answer_cut_short_of_its_length_is_an_error() {
    let (stream, _) = Played::new([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhell".to_vec()], Then::End);
    let answer = client([stream]).send(ID, &GET).await.unwrap();
    let error = answer.read_all(100).await.unwrap_err();
    assert!(matches!(error, UpstreamError::ClosedMidBody { .. }), "{error}");
}

#[tokio::test]
async fn what_is_longer_than_the_reader_allows_is_refused() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nhello world",
    ] {
        let (stream, seen) = Played::new([bytes.as_bytes().to_vec()], Then::Silence);
        let answer = client([stream]).send(ID, &GET).await.unwrap();
        let error = answer.read_all(10).await.unwrap_err();
        assert!(matches!(error, UpstreamError::TooLarge { limit: 10, .. }), "{error}");
        assert!(seen.borrow().closed);
    }
    let bytes = CHUNKED.head.to_owned() + CHUNKED.wire;
    let (stream, _) = Played::new([bytes.into_bytes()], Then::Silence);
    let client = client([stream]);
    assert_eq!(client.send(ID, &GET).await.unwrap().read_all(11).await.unwrap(), b"hello world");
    assert_eq!(client.idle(ID), 1);
}
