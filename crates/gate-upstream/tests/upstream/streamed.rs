//! Bodies that stream: paced by the slower side, given up when their source leaves, and never sent twice.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gate_upstream::{Ask, Client, ClientLimits, Endpoint, Tls, Transport, UploadFraming, UpstreamError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

use crate::played::{self, GET, ID, Played, Then};
use crate::scripted::{Step, client, closed_port, serve};
use crate::source::{After, Pieces, Source, at};

const BLOB: Ask<'_> = Ask { method: "POST", path: "/api/blobs/sha256:0", fields: &[], body: b"" };
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CREATED: &str = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
const MIB: u64 = 1 << 20;
/// What the client may hold at most: its one buffer.
const HELD: u64 = 64 << 10;

fn length(bytes: u64) -> UploadFraming {
    UploadFraming::Length(bytes)
}

fn head(framing: &str) -> String {
    format!("POST /api/blobs/sha256:0 HTTP/1.1\r\nHost: 127.0.0.1:11434\r\n{framing}\r\n\r\n")
}

/// A client whose one connection is this.
fn over(near: DuplexStream) -> Client {
    let near = RefCell::new(Some(near));
    let endpoint = Endpoint::new(false, "127.0.0.1", 11434, "").unwrap();
    let dial = move |_| match near.borrow_mut().take() {
        Some(near) => Ok(Box::new(near) as Box<dyn Transport>),
        None => Err(io::ErrorKind::ConnectionRefused.into()),
    };
    Client::over(vec![endpoint], ClientLimits::default(), Rc::new(dial))
}

/// Takes a body of 64 MiB over a socket with a small receive buffer, and counts what it took.
fn counting(total: u64, took: Arc<AtomicU64>) -> (u16, thread::JoinHandle<()>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(1).unwrap();
    let listener = TcpListener::from(socket);
    let port = listener.local_addr().unwrap().port();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend_from_slice(&byte);
        }
        let mut scratch = vec![0; 64 << 10];
        let mut place = 0;
        while place < total {
            let n = stream.read(&mut scratch).unwrap();
            assert!(n > 0 && scratch[..n] == *at(place, n), "at {place}");
            place += n as u64;
            took.store(place, Ordering::SeqCst);
        }
        stream.write_all(CREATED.as_bytes()).unwrap();
        assert_eq!(stream.read(&mut scratch).unwrap(), 0);
    });
    (port, thread)
}

#[tokio::test]
async fn a_blob_of_64_mib_passes_through_without_being_held() {
    let total = 64 * MIB;
    let took = Arc::new(AtomicU64::new(0));
    let (port, server) = counting(total, Arc::clone(&took));
    let client = client(port);
    let mut source = Source::of(total, After::End);
    let furthest = Rc::new(std::cell::Cell::new(0));
    let ahead = Rc::clone(&furthest);
    source.look = Some(Box::new(move |given| {
        ahead.set(ahead.get().max(given - took.load(Ordering::SeqCst)));
    }));
    let answer = client.upload(ID, &BLOB, length(total), &mut source).await.unwrap();
    assert_eq!(answer.status(), 201);
    assert_eq!(client.idle(ID), 1, "a whole upload leaves its connection in order");
    // Next to all of it lies in the system's send buffer, which ends at 4 MiB.
    assert!(furthest.get() < 8 * MIB, "{}", furthest.get());
    drop((answer, client));
    server.join().unwrap();
}

#[tokio::test]
async fn a_slow_upstream_sets_the_pace() {
    let total = MIB + 1;
    for framing in [length(total), UploadFraming::Chunked] {
        let (near, mut far) = tokio::io::duplex(4096);
        let client = over(near);
        let mut source = Source::of(total, After::End);
        let given = Rc::clone(&source.given);
        let server = async {
            let mut wire = 0;
            let mut tail = Vec::new();
            let mut scratch = [0; 1000];
            loop {
                // Everybody else gets on until they can no further.
                for _ in 0..8 {
                    tokio::task::yield_now().await;
                }
                let n = far.read(&mut scratch).await.unwrap();
                wire += n as u64;
                assert!(given.get() <= wire + 4096 + HELD, "{} given, {wire} read", given.get());
                tail.extend_from_slice(&scratch[..n]);
                tail.drain(..tail.len().saturating_sub(8));
                let whole = match framing {
                    UploadFraming::Length(_) => wire == head("Content-Length: 1048577").len() as u64 + total,
                    UploadFraming::Chunked => tail.ends_with(b"\r\n0\r\n\r\n"),
                };
                if whole {
                    break far.write_all(CREATED.as_bytes()).await.unwrap();
                }
            }
        };
        let (answer, ()) = tokio::join!(client.upload(ID, &BLOB, framing, &mut source), server);
        assert_eq!(answer.unwrap().status(), 201);
        assert_eq!(given.get(), total);
    }
}

#[tokio::test]
async fn a_slow_source_is_waited_for_and_its_bytes_are_not() {
    let (near, mut far) = tokio::io::duplex(4096);
    let client = over(near);
    let mut source = Source::of(5, After::Silence);
    let expected = [head("Content-Length: 6").as_bytes(), at(0, 5)].concat();
    let mut came = vec![0; expected.len()];
    tokio::select! {
        _ = client.upload(ID, &BLOB, length(6), &mut source) => panic!("there is no answer"),
        read = far.read_exact(&mut came) => assert_eq!(read.unwrap(), expected.len()),
    }
    assert_eq!(came, expected);
}

#[tokio::test]
async fn chunks_are_framed_exactly() {
    let cases: [(&[&'static [u8]], &str); 6] = [
        (&[b""], "0\r\n\r\n"),
        (&[b"GGUF"], "4\r\nGGUF\r\n0\r\n\r\n"),
        (&[b"GGUF", b""], "4\r\nGGUF\r\n0\r\n\r\n"),
        (&[b"a", b"0123456789abcdef", b"z"], "1\r\na\r\n10\r\n0123456789abcdef\r\n1\r\nz\r\n0\r\n\r\n"),
        (&[b"", b"a", b"", b"", b"b"], "1\r\na\r\n1\r\nb\r\n0\r\n\r\n"),
        (&[b"\r\n0\r\n\r\n"], "7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n"),
    ];
    for (pieces, expected) in cases {
        let (near, mut far) = tokio::io::duplex(7);
        let client = over(near);
        let expected = [&head("Transfer-Encoding: chunked"), expected].concat();
        let server = async {
            let mut came = vec![0; expected.len()];
            far.read_exact(&mut came).await.unwrap();
            far.write_all(CREATED.as_bytes()).await.unwrap();
            (came, far)
        };
        let mut source = Pieces::of(pieces);
        let (answer, (came, mut far)) =
            tokio::join!(client.upload(ID, &BLOB, UploadFraming::Chunked, &mut source), server);
        assert_eq!(String::from_utf8(came).unwrap(), expected);
        assert_eq!(answer.unwrap().status(), 201);
        drop(client);
        assert_eq!(far.read_to_end(&mut Vec::new()).await.unwrap(), 0, "nothing came behind it");
    }
}

#[tokio::test]
async fn a_full_piece_is_one_chunk_and_goes_out_in_one_write() {
    let (stream, seen) = Played::new([CREATED.as_bytes().to_vec()], Then::Silence);
    let client = played::client([stream]);
    let mut source = Source::of(HELD, After::End);
    client.upload(ID, &BLOB, UploadFraming::Chunked, &mut source).await.unwrap();
    let seen = seen.borrow();
    let head = head("Transfer-Encoding: chunked");
    let expected = [head.as_bytes(), b"10000\r\n", at(0, 65536), b"\r\n0\r\n\r\n"].concat();
    assert!(seen.bytes == expected);
    assert_eq!(seen.writes, 1);
}

#[tokio::test]
async fn a_length_is_kept_whenever_the_source_says_its_end() {
    for (total, after) in [
        (0, After::Silence),
        (1, After::End),
        (1, After::LateEnd),
        (200_000, After::End),
        (65536, After::LateEnd),
    ] {
        let (stream, seen) = Played::new([CREATED.as_bytes().to_vec()], Then::Silence);
        let client = played::client([stream]);
        let mut source = Source::of(total, after);
        let sent = client.upload(ID, &BLOB, length(total), &mut source).await;
        assert_eq!(sent.unwrap().status(), 201);
        let mut expected = head(&format!("Content-Length: {total}")).into_bytes();
        (0..total).for_each(|place| expected.extend_from_slice(at(place, 1)));
        assert!(seen.borrow().bytes == expected, "{total}");
        assert_eq!(client.idle(ID), 1);
    }
}

#[tokio::test]
async fn a_source_that_disagrees_with_its_length_never_completes_a_body() {
    for (announced, given, told) in [
        (10, 9, "10 bytes were announced and only 9 came"),
        (200_000, 65536, "200000 bytes were announced and only 65536 came"),
        (200_000, 0, "200000 bytes were announced and only 0 came"),
        (10, 11, "10 bytes were announced and at least 11 came"),
        (65536, 65537, "65536 bytes were announced and at least 65537 came"),
    ] {
        let (stream, seen) = Played::new([CREATED.as_bytes().to_vec()], Then::Silence);
        let client = played::client([stream]);
        let mut source = Source::of(given, After::LateEnd);
        let error = client.upload(ID, &BLOB, length(announced), &mut source).await.err().unwrap();
        assert!(matches!(error, UpstreamError::SourceLength { .. }), "{error}");
        assert!(error.is_source() && !error.is_connect() && !error.before_first_byte());
        assert!(error.to_string().ends_with(told), "{error}");
        let seen = seen.borrow();
        let head = head(&format!("Content-Length: {announced}"));
        assert!((seen.bytes.len() as u64) < head.len() as u64 + announced);
        assert!(seen.closed);
        assert_eq!(client.idle(ID), 0);
    }
}

#[tokio::test]
async fn an_early_answer_ends_the_upload() {
    for (status, answer) in [
        (400, "HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nok"),
        (409, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\nok"),
        (413, "HTTP/1.1 413 Payload Too Large\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        (201, "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok"),
    ] {
        // The source has as much as anybody takes, or nothing for the moment.
        for (total, after) in [(u64::MAX, After::End), (3, After::Silence)] {
            // The server reads no further, reads everything, or is gone with the upload unread: a reset.
            let scripts = [
                vec![Step::HeadOnly, Step::Send(answer)],
                vec![Step::HeadOnly, Step::Send(answer), Step::Gone],
            ];
            for script in scripts {
                let server = serve(vec![script]);
                let client = server.client();
                let mut source = Source::of(total, after);
                let given = Rc::clone(&source.given);
                let answer = client.upload(ID, &BLOB, UploadFraming::Chunked, &mut source).await.unwrap();
                assert_eq!(answer.status(), status);
                let taken = given.get();
                assert_eq!(answer.read_all(9).await.unwrap(), b"ok");
                assert_eq!(given.get(), taken, "taken behind the answer");
                assert_eq!(client.idle(ID), 0, "half a request lies on that connection");
                server.saw();
            }
        }
    }
}

#[tokio::test]
async fn an_early_answer_is_seen_even_where_nobody_ever_waits() {
    let (stream, seen) = Played::new([CREATED.as_bytes().to_vec()], Then::Silence);
    let client = played::client([stream.without_waits()]);
    let mut source = Source::of(u64::MAX, After::End);
    let answer = client.upload(ID, &BLOB, UploadFraming::Chunked, &mut source).await.unwrap();
    assert_eq!(answer.status(), 201);
    assert!(seen.borrow().bytes.len() as u64 <= 2 * MIB);
    assert!(seen.borrow().closed);
}

#[tokio::test]
async fn a_source_that_dies_half_way_closes_the_connection() {
    for framing in [length(8 * MIB), UploadFraming::Chunked] {
        let server = serve(vec![vec![Step::HeadOnly, Step::Gone]]);
        let client = server.client();
        let mut source = Source::of(4 * MIB, After::Gone);
        let error = client.upload(ID, &BLOB, framing, &mut source).await.err().unwrap();
        assert!(matches!(error, UpstreamError::SourceGone { .. }), "{error}");
        assert!(error.is_source() && !error.is_connect() && !error.before_first_byte());
        let gone = server.saw()[0].gone.unwrap();
        let took = gone.saturating_duration_since(source.left.get().unwrap());
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}

#[tokio::test]
async fn a_source_may_leave_while_nothing_is_wanted_of_it() {
    // The upstream takes nothing more; then it has all and does not answer.
    for total in [MIB, 100] {
        let (near, mut far) = tokio::io::duplex(4096);
        let client = over(near);
        let mut source = Source::of(total, After::End);
        source.leaves_at = Some(20);
        let error = client.upload(ID, &BLOB, length(total), &mut source).await.err().unwrap();
        assert!(matches!(error, UpstreamError::SourceGone { .. }), "{error}");
        assert!(far.write_all(b"x").await.is_err(), "the connection is closed");
    }
    // The connection is still being opened: the server says nothing to the TLS handshake.
    let server = serve(vec![vec![Step::Gone]]);
    let endpoint = Endpoint::new(true, "127.0.0.1", server.port, "").unwrap();
    let client = Client::new(vec![endpoint], Tls::system(), ClientLimits::default());
    let mut source = Source::of(1, After::End);
    source.leaves_at = Some(20);
    let error = client.upload(ID, &BLOB, length(1), &mut source).await.err().unwrap();
    assert!(matches!(error, UpstreamError::SourceGone { .. }), "{error}");
    assert_eq!(source.given.get(), 0);
    server.saw();
}

#[tokio::test]
async fn dropping_an_upload_closes_the_servers_socket() {
    let server = serve(vec![vec![Step::HeadOnly, Step::Gone]]);
    let client = server.client();
    let mut source = Source::of(MIB, After::Silence);
    let uploading = client.upload(ID, &BLOB, length(2 * MIB), &mut source);
    assert!(timeout(Duration::from_millis(50), uploading).await.is_err());
    let left = Instant::now();
    let gone = server.saw()[0].gone.unwrap();
    assert!(gone.saturating_duration_since(left) < Duration::from_secs(2));
}

#[tokio::test]
async fn an_upstream_that_dies_in_an_upload_is_told_and_not_asked_again() {
    // With and without a pooled connection that could be taken, or could have been stale.
    let server = serve(vec![vec![Step::Request, Step::Send(OK), Step::Gone], vec![Step::HeadOnly]]);
    let client = server.client();
    assert_eq!(client.send(ID, &GET).await.unwrap().read_all(9).await.unwrap(), b"ok");
    let mut source = Source::of(64 * MIB, After::End);
    let error = client.upload(ID, &BLOB, length(64 * MIB), &mut source).await.err().unwrap();
    assert!(matches!(error, UpstreamError::ClosedEarly { .. }), "{error}");
    assert!(!error.is_source() && !error.is_connect());
    let counts = client.counts(ID);
    assert_eq!((counts.opened, counts.reused, counts.retried), (2, 0, 0));
    assert_eq!(client.idle(ID), 1, "the pool was left alone");
    drop(client);
    server.saw();
}

#[tokio::test]
async fn nothing_is_taken_from_the_source_before_there_is_a_connection() {
    let mut source = Source::of(9, After::End);
    let client = client(closed_port());
    let error = client.upload(ID, &BLOB, length(9), &mut source).await.err().unwrap();
    assert!(error.is_connect(), "{error}");

    let expect = Ask { fields: &[("Expect", "100-continue")], ..BLOB };
    let twice = Ask { body: b"GGUF", ..BLOB };
    for ask in [expect, twice] {
        let error = client.upload(ID, &ask, length(9), &mut source).await.err().unwrap();
        assert!(matches!(error, UpstreamError::Unsendable { .. }), "{error}");
    }
    assert_eq!(source.given.get(), 0);
    assert_eq!(client.counts(ID).opened, 0);
}
