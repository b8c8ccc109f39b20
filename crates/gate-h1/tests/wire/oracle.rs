//! hyper as the second opinion: what this crate accepts, hyper must read as the same messages.
//!
//! The other direction is not asked for: this crate refuses much that hyper repairs.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use gate_h1::{Framing, Limits, Version, encode};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use proptest::sample::select;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::property::{Message, Side, same_in_any_cut};

/// A message as hyper gave it; names in lower case and sorted, as hyper does not keep their order.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    first: (String, String),
    version: http::Version,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    complete: bool,
}

impl From<&Message> for Seen {
    fn from(message: &Message) -> Self {
        let mut fields = message.fields.clone();
        fields.iter_mut().for_each(|(name, _)| name.make_ascii_lowercase());
        fields.sort_by(|one, other| one.0.cmp(&other.0));
        Self {
            first: message.first.clone(),
            version: match message.version {
                Version::H10 => http::Version::HTTP_10,
                Version::H11 => http::Version::HTTP_11,
            },
            fields,
            body: message.body.clone(),
            complete: message.complete,
        }
    }
}

fn sorted(fields: &http::HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut fields =
        fields.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect::<Vec<_>>();
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    fields
}

async fn body_of(mut body: Incoming) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame.map(|frame| frame.into_data()) {
            Ok(Ok(data)) => bytes.extend_from_slice(&data),
            Ok(Err(_trailers)) => {}
            Err(_) => return (bytes, false),
        }
    }
    (bytes, true)
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

/// All requests that a hyper server reads from a connection with these bytes.
async fn hyper_requests(bytes: &[u8]) -> Vec<Seen> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (mut client, server) = tokio::io::duplex(1 << 20);
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    let service = hyper::service::service_fn(|request: hyper::Request<Incoming>| {
        let seen = Rc::clone(&seen);
        async move {
            let (head, body) = request.into_parts();
            let (body, complete) = body_of(body).await;
            seen.borrow_mut().push(Seen {
                first: (head.method.to_string(), head.uri.to_string()),
                version: head.version,
                fields: sorted(&head.headers),
                body,
                complete,
            });
            Ok::<_, Infallible>(hyper::Response::new(Empty::<Bytes>::new()))
        }
    });
    // A connection that hyper breaks off shows in what is missing from `seen`.
    drop(
        hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(server), service)
            .await,
    );
    drop(client);
    seen.take()
}

/// The final answer that a hyper client reads from these bytes, if it takes them for one.
async fn hyper_response(bytes: &[u8], to_head: bool) -> Option<Seen> {
    let (mut server, client) = tokio::io::duplex(1 << 20);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
    let request = hyper::Request::builder()
        .method(if to_head { "HEAD" } else { "GET" })
        .uri("/")
        .header("host", "a")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let asking = async move {
        let (head, body) = sender.send_request(request).await.ok()?.into_parts();
        let (body, complete) = body_of(body).await;
        Some(Seen {
            first: (String::new(), head.status.as_str().to_owned()),
            version: head.version,
            fields: sorted(&head.headers),
            body,
            complete,
        })
    };
    let answering = async move {
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            if server.read_buf(&mut asked).await.unwrap() == 0 {
                return;
            }
        }
        server.write_all(bytes).await.unwrap();
        server.shutdown().await.unwrap();
    };
    let (seen, (), _) = tokio::join!(asking, answering, connection);
    seen
}

fn compare_requests(bytes: &[u8]) -> usize {
    let ours = same_in_any_cut(Side::Requests, &Limits::DEFAULT, bytes);
    let whole = ours.messages.iter().filter(|message| message.complete).map(Seen::from).collect::<Vec<_>>();
    // hyper refuses targets that its URI type does not take; what stands behind one it never sees.
    let readable = whole.iter().take_while(|seen| reads_alike(&seen.first.1)).count();
    let theirs = run(hyper_requests(bytes));
    assert!(theirs.len() >= readable, "hyper read {theirs:?}\nof {whole:?}\nfrom {}", bytes.escape_ascii());
    for (theirs, ours) in theirs.iter().zip(&whole[..readable]) {
        assert_eq!(theirs, ours, "from {}", bytes.escape_ascii());
    }
    readable
}

fn reads_alike(target: &str) -> bool {
    target.parse().is_ok_and(|uri: http::Uri| target == format!("{uri}"))
}

fn compare_responses(bytes: &[u8], to_head: bool) -> bool {
    let ours = same_in_any_cut(Side::Responses { to_head }, &Limits::DEFAULT, bytes);
    let Some(last) = ours.messages.iter().find(|message| !message.first.1.starts_with('1')) else {
        return false;
    };
    if !last.complete || ours.messages.iter().any(|message| message.first.1 == "101") {
        return false;
    }
    let theirs = run(hyper_response(bytes, to_head));
    assert_eq!(theirs, Some(Seen::from(last)), "from {}", bytes.escape_ascii());
    true
}

#[derive(Debug, Clone)]
struct Draft {
    first: String,
    fields: Vec<(String, Vec<u8>)>,
    framing: Framing,
    body: Vec<u8>,
    extension: String,
    trailer: String,
    chunk: usize,
}

impl Draft {
    /// The bytes of the message; `extra` are field lines as they are, right or wrong.
    fn write(&self, extra: &[&str]) -> Vec<u8> {
        let mut out = self.first.clone().into_bytes();
        out.extend_from_slice(b"\r\n");
        for (name, value) in &self.fields {
            encode::field(&mut out, name, value).unwrap();
        }
        match self.framing {
            Framing::Length(_) => encode::content_length(&mut out, self.body.len() as u64),
            Framing::Chunked => encode::chunked(&mut out),
            Framing::None | Framing::UntilClose => {}
        }
        out.extend_from_slice(extra.concat().as_bytes());
        encode::end_of_head(&mut out);
        match self.framing {
            Framing::None => {}
            Framing::Length(_) | Framing::UntilClose => out.extend_from_slice(&self.body),
            Framing::Chunked => {
                for piece in self.body.chunks(self.chunk) {
                    out.extend_from_slice(format!("{:x}{}\r\n", piece.len(), self.extension).as_bytes());
                    out.extend_from_slice(piece);
                    out.extend_from_slice(encode::CHUNK_END);
                }
                out.extend_from_slice(format!("0\r\n{}\r\n", self.trailer).as_bytes());
            }
        }
        out
    }
}

fn draft(first: impl Strategy<Value = String>, framings: Vec<Framing>) -> impl Strategy<Value = Draft> {
    let field = (
        "X-[A-Za-z0-9_.!-]{0,6}",
        prop::collection::vec(select(b"abz09 \t,;=:\"\\/\xe9\xff".to_vec()), 0..12),
    )
        .prop_map(|(name, value)| (name, value.trim_ascii().to_vec()));
    (
        first,
        prop::collection::vec(field, 0..5),
        select(framings),
        prop::collection::vec(select(b"a{}0\r\n ;".to_vec()), 0..40),
        select(vec!["", ";a", ";a=b", ";a=\"b;\\\" c\"", "; x = y"]),
        select(vec!["", "X-Sum: 1\r\n", "A:\r\nB: c d\r\n"]),
        1..40usize,
    )
        .prop_map(|(first, fields, framing, body, extension, trailer, chunk)| Draft {
            first,
            fields,
            framing,
            body,
            extension: extension.to_owned(),
            trailer: trailer.to_owned(),
            chunk,
        })
}

fn request_draft() -> impl Strategy<Value = Draft> {
    let first = ("(GET|POST|PUT|X-[A-Z]{1,3})", "(/[a-zA-Z0-9/._~%?&=:@-]{0,20}|\\*|http://a:1/[a-z?]{0,5})")
        .prop_map(|(method, target)| format!("{method} {target} HTTP/1.1"));
    draft(first, vec![Framing::None, Framing::Length(0), Framing::Chunked])
}

fn response_draft() -> impl Strategy<Value = Draft> {
    let first = (select(vec![200, 201, 206, 400, 404, 499, 503]), "[A-Za-z ]{0,10}")
        .prop_map(|(status, reason)| format!("HTTP/1.1 {status} {reason}"));
    draft(first, vec![Framing::Length(0), Framing::Chunked, Framing::UntilClose])
}

/// Field lines that decide about framing and the connection, right and wrong ones.
fn extra() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(
        select(vec![
            "Content-Length: 3\r\n",
            "Content-Length: 3, 3\r\n",
            "content-length:  0\t\r\n",
            "Content-Length: +1\r\n",
            "Content_Length: 7\r\n",
            "Transfer-Encoding: chunked\r\n",
            "transfer-encoding: Chunked \r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Connection: close\r\n",
            "Connection: keep-alive, X-A\r\n",
            "Connection: content-length\r\n",
            "Expect: 100-continue\r\n",
            "X-Fold: a\r\n b\r\n",
            "Trailer: X-Sum\r\n",
            "TE: trailers\r\n",
        ]),
        0..3,
    )
}

/// Replaces, inserts or removes a byte somewhere.
fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8, u8)>> {
    let bytes = b"\r\n\0 \t:;,+-0159afx\"H/\x7f\x80".to_vec();
    prop::collection::vec((any::<prop::sample::Index>(), 0..3u8, select(bytes)), 0..3)
}

fn damaged(mut bytes: Vec<u8>, damage: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
    for (index, kind, byte) in damage {
        let at = index.index(bytes.len());
        match kind {
            0 => bytes[at] = *byte,
            1 => bytes.insert(at, *byte),
            _ => drop(bytes.remove(at)),
        }
    }
    bytes
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn well_formed_requests_are_read_as_written(drafts in prop::collection::vec(request_draft(), 1..4)) {
        let bytes = drafts.iter().flat_map(|draft| draft.write(&[])).collect::<Vec<_>>();
        prop_assert_eq!(compare_requests(&bytes), drafts.len());
        let ours = same_in_any_cut(Side::Requests, &Limits::DEFAULT, &bytes);
        prop_assert_eq!(ours.used, bytes.len());
        for (message, draft) in ours.messages.iter().zip(&drafts) {
            let sent = if draft.framing == Framing::None { &[][..] } else { &draft.body };
            prop_assert_eq!(&message.body, sent);
        }
    }

    #[test]
    fn well_formed_responses_are_read_as_written(draft in response_draft(), to_head: bool) {
        let bytes = draft.write(&[]);
        prop_assert!(compare_responses(&bytes, false));
        let head = bytes.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        let end = if to_head { head } else { bytes.len() };
        prop_assert!(compare_responses(&bytes[..end], to_head));
        let ours = same_in_any_cut(Side::Responses { to_head: false }, &Limits::DEFAULT, &bytes);
        prop_assert_eq!(&ours.messages[0].body, &draft.body);
    }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn hyper_reads_accepted_requests_alike(
        one in request_draft(), extra in extra(), two in request_draft(), damage in damage(), old: bool
    ) {
        let mut bytes = [one.write(&extra), two.write(&[])].concat();
        if old {
            let minor = bytes.windows(6).position(|word| word == b"HTTP/1").unwrap() + 7;
            bytes[minor] = b'0';
        }
        compare_requests(&damaged(bytes, &damage));
    }

    #[test]
    fn hyper_reads_accepted_responses_alike(
        draft in response_draft(),
        extra in extra(),
        status in select(vec!["", "100", "103", "204", "304"]),
        damage in damage(),
        to_head: bool,
    ) {
        let mut bytes = Vec::new();
        if !status.is_empty() {
            bytes.extend_from_slice(format!("HTTP/1.1 {status} x\r\nX: y\r\n\r\n").as_bytes());
        }
        bytes.extend_from_slice(&draft.write(&extra));
        compare_responses(&damaged(bytes, &damage), to_head);
    }
}
