//! Requests with bodies: in one write where they fit, and with the answer watched while they do not.

use gate_upstream::{Ask, UpstreamError};

use crate::played::{self, ID, Played, Then};
use crate::scripted::{Step, serve};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const TOO_LARGE: &str = "HTTP/1.1 413 Payload Too Large\r\nContent-Length: 4\r\n\r\nmuch";
/// More than the socket buffers of both sides hold.
const LARGE: usize = 64 << 20;

fn post(body: &[u8]) -> Ask<'_> {
    Ask { method: "POST", path: "/api/chat", fields: &[], body }
}

#[tokio::test]
async fn head_and_body_go_out_in_one_write() {
    for length in [0, 1, 4096, 4097, 256 << 10] {
        let (stream, seen) = Played::new([OK.as_bytes().to_vec()], Then::Silence);
        let client = played::client([stream]);
        let body = vec![b'b'; length];
        client.send(ID, &post(&body)).await.unwrap();
        let seen = seen.borrow();
        assert_eq!(seen.writes, 1, "{length}");
        let head =
            format!("POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1:11434\r\nContent-Length: {length}\r\n\r\n");
        assert!(seen.bytes.starts_with(head.as_bytes()));
        assert_eq!(seen.bytes.len(), head.len() + length);
        assert!(seen.bytes.ends_with(&body));
    }
}

#[tokio::test]
async fn a_large_body_arrives_whole() {
    let server = serve(vec![vec![Step::Request, Step::Send(OK), Step::Gone]]);
    let client = server.client();
    let body: Vec<u8> = (0..(8 << 20)).map(|at: u32| (at % 251) as u8).collect();
    let answer = client.send(ID, &post(&body)).await.unwrap();
    assert_eq!(answer.read_all(9).await.unwrap(), b"ok");
    assert_eq!(client.idle(ID), 1);
    drop(client);
    assert!(server.saw()[0].bytes.ends_with(&body));
}

#[tokio::test]
async fn an_early_answer_during_an_upload_is_the_answer() {
    // The server answers after the head and goes on reading nothing; the client must not wait for its body to be taken.
    let server = serve(vec![vec![Step::HeadOnly, Step::Send(TOO_LARGE), Step::Gone]]);
    let client = server.client();
    let body = vec![b'b'; LARGE];
    let answer = client.send(ID, &post(&body)).await.unwrap();
    assert_eq!(answer.status(), 413);
    assert_eq!(answer.read_all(9).await.unwrap(), b"much");
    assert_eq!(client.idle(ID), 0, "half a request lies on that connection");
    server.saw();
}

#[tokio::test]
async fn an_early_answer_survives_the_reset_behind_it() {
    // The script ends with the upload unread: the system resets the connection.
    let server = serve(vec![vec![Step::HeadOnly, Step::Send(TOO_LARGE)]]);
    let client = server.client();
    let body = vec![b'b'; LARGE];
    let answer = client.send(ID, &post(&body)).await.unwrap();
    assert_eq!(answer.status(), 413);
    assert_eq!(answer.read_all(9).await.unwrap(), b"much");
    assert_eq!(client.idle(ID), 0);
    server.saw();
}

#[tokio::test]
async fn a_connection_that_dies_in_an_upload_is_told() {
    let server = serve(vec![vec![Step::HeadOnly]]);
    let body = vec![b'b'; LARGE];
    let error = server.client().send(ID, &post(&body)).await.err().unwrap();
    assert!(matches!(error, UpstreamError::ClosedEarly { .. }), "{error}");
    server.saw();
}

#[tokio::test]
async fn an_upload_over_a_dead_connection_is_sent_again_whole() {
    let server = serve(vec![
        vec![Step::Request, Step::Send(OK), Step::HeadOnly],
        vec![Step::Request, Step::Send(OK), Step::Gone],
    ]);
    let client = server.client();
    let body: Vec<u8> = (0..(8 << 20)).map(|at: u32| (at % 251) as u8).collect();
    assert_eq!(client.send(ID, &post(b"{}")).await.unwrap().read_all(9).await.unwrap(), b"ok");
    assert_eq!(client.send(ID, &post(&body)).await.unwrap().read_all(9).await.unwrap(), b"ok");
    assert_eq!(client.counts(ID).retried, 1);
    drop(client);
    assert!(server.saw()[1].bytes.ends_with(&body));
}

#[tokio::test]
async fn a_request_that_cannot_be_written_is_not_sent() {
    let client = played::client([]);
    for (name, value) in [("Host", "evil"), ("A", "b\r\nC: d")] {
        let ask = Ask { method: "POST", path: "/", fields: &[(name, value)], body: b"" };
        let (stream, seen) = Played::new([], Then::Silence);
        let client = played::client([stream]);
        let error = client.send(ID, &ask).await.err().unwrap();
        assert!(matches!(error, UpstreamError::Unsendable { .. }), "{error}");
        assert!(!error.before_first_byte());
        assert!(seen.borrow().bytes.is_empty());
    }
    drop(client);
}
