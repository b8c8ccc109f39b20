//! A body that was looked at before it was read: nobody who reads it afterwards sees a difference.

use crate::played::{GET, ID, Played, Then, body, client, cuts};
use gate_upstream::UpstreamError;

const TEXT: &str = r#"{"error":"server busy"}"#;

fn answers() -> [(String, Then, bool); 5] {
    let head = "HTTP/1.1 503 Oh\r\n";
    let length = format!("{head}Content-Length: 23\r\n\r\n{TEXT}");
    let chunked = format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n7\r\n{}\r\n10\r\n{}\r\n0\r\n\r\n",
        &TEXT[..7],
        &TEXT[7..]
    );
    let closing = format!("{head}Connection: close\r\nContent-Length: 23\r\n\r\n{TEXT}");
    let until_close = format!("{head}\r\n{TEXT}");
    let strays = format!("{length}HTTP/1.1 200 OK\r\n");
    [
        (length, Then::Silence, true),
        (chunked, Then::Silence, true),
        (closing, Then::Silence, false),
        (until_close, Then::End, false),
        (strays, Then::Silence, false),
    ]
}

#[tokio::test]
async fn what_was_looked_at_is_read_as_it_came() {
    for (bytes, then, is_kept) in answers() {
        let end = bytes.rfind("HTTP/1.1 200").filter(|at| *at > 0).unwrap_or(bytes.len());
        let wire = &bytes[bytes.find("\r\n\r\n").unwrap() + 4..end];
        for pieces in cuts(bytes.as_bytes()) {
            let is_whole = pieces.len() == 1;
            for scratch in [1, 5, 4096] {
                let (stream, seen) = Played::new(pieces.clone(), then);
                let client = client([stream]);
                let mut answer = client.send(ID, &GET).await.unwrap();
                assert_eq!(answer.read_ahead(1024).await, TEXT.as_bytes(), "{bytes:?}");
                // Bytes behind the end are seen only where they came along with it.
                if end == bytes.len() || is_whole {
                    assert_eq!(client.idle(ID) == 1, is_kept, "{bytes:?}");
                    assert_eq!(seen.borrow().closed, !is_kept && then != Then::End, "{bytes:?}");
                }
                assert_eq!(answer.read_ahead(1024).await, TEXT.as_bytes(), "a second look");
                let (came, data) = body(&mut answer, scratch).await.unwrap();
                assert_eq!((came.as_slice(), data.as_slice()), (wire.as_bytes(), TEXT.as_bytes()));
            }
        }
    }
}

#[tokio::test]
async fn a_long_body_is_looked_at_to_the_bound_and_goes_on_behind_it() {
    let text = "x".repeat(5000);
    let head = "HTTP/1.1 500 Oh\r\nContent-Length: 5000\r\n\r\n";
    let pieces = [head]
        .into_iter()
        .chain([&text[..]])
        .flat_map(|part| part.as_bytes().chunks(100))
        .map(<[u8]>::to_vec);
    let (stream, _seen) = Played::new(pieces, Then::Silence);
    let client = client([stream]);
    let mut answer = client.send(ID, &GET).await.unwrap();
    let ahead = answer.read_ahead(1000).await;
    assert!((1000..1100).contains(&ahead.len()), "{}", ahead.len());
    assert_eq!(client.idle(ID), 0);
    assert_eq!(body(&mut answer, 777).await.unwrap().0, text.as_bytes());
    assert_eq!(client.idle(ID), 1);
}

#[tokio::test]
async fn a_body_that_breaks_off_says_so_when_it_is_read() {
    for then in [Then::End, Then::Reset] {
        let bytes = "HTTP/1.1 500 Oh\r\nContent-Length: 50\r\n\r\n{\"err";
        let (stream, _seen) = Played::new([bytes.into()], then);
        let client = client([stream]);
        let mut answer = client.send(ID, &GET).await.unwrap();
        assert_eq!(answer.read_ahead(1000).await, b"{\"err");
        let error = body(&mut answer, 100).await.unwrap_err();
        assert!(matches!(error, UpstreamError::ClosedMidBody { .. }), "{error}");
    }
    let bytes = "HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n";
    let (stream, _seen) = Played::new([bytes.into()], Then::Silence);
    let mut answer = client([stream]).send(ID, &GET).await.unwrap();
    assert_eq!(answer.read_ahead(1000).await, b"abc");
    let error = body(&mut answer, 100).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Malformed { .. }), "{error}");
}
