//! https upstreams, against a real TLS server with a certificate made for the test.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gate_upstream::{
    Ask, Client, ClientLimits, Endpoint, Tls, UploadFraming, UpstreamError, config_with, probe,
};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::played::{GET, ID};
use crate::source::{After, Source, at};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[derive(Clone, Copy, PartialEq)]
enum Ending {
    /// Waits for the client to close.
    Wait,
    /// Says over TLS that this was all.
    Proper,
    /// Just closes: as an attacker would who cuts an answer short.
    Cut,
}

struct Server {
    port: u16,
    roots: RootCertStore,
    thread: JoinHandle<Vec<String>>,
}

/// Serves one connection: for each answer a request is read first. Gives what was read, the server name and the protocol.
fn serve(name: &str, answers: Vec<&'static str>, ending: Ending) -> Server {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), socket);
        let mut saw = Vec::new();
        let mut scratch = vec![0; 1 << 20];
        for answer in answers {
            let Some(request) = read_request(&mut stream, &mut scratch) else { return saw };
            saw.push(request);
            stream.write_all(answer.as_bytes()).unwrap();
        }
        let alpn = stream.conn.alpn_protocol().unwrap().to_vec();
        saw.push(String::from_utf8(alpn).unwrap());
        match ending {
            Ending::Wait => while stream.read(&mut scratch).is_ok_and(|n| n > 0) {},
            Ending::Proper => {
                stream.conn.send_close_notify();
                stream.flush().unwrap();
            }
            Ending::Cut => {}
        }
        saw
    });
    Server { port, roots, thread }
}

/// One read, or as many as it takes where a chunked body follows. None where the handshake fails.
fn read_request(stream: &mut impl Read, scratch: &mut [u8]) -> Option<String> {
    let mut request = String::new();
    while request.is_empty() || request.contains("chunked") && !request.ends_with("\r\n0\r\n\r\n") {
        let n = stream.read(scratch).ok()?;
        request.push_str(std::str::from_utf8(&scratch[..n]).unwrap());
    }
    Some(request)
}

fn client(server: &Server, host: &str) -> Client {
    let endpoint = Endpoint::new(true, host, server.port, "").unwrap();
    let tls = Tls::with(config_with(server.roots.clone()).unwrap());
    Client::new(vec![endpoint], tls, ClientLimits::default())
}

#[tokio::test]
async fn requests_go_over_one_checked_tls_connection() {
    for host in ["localhost", "127.0.0.1"] {
        let server = serve(host, vec![OK, OK], Ending::Wait);
        let client = client(&server, host);
        for _ in 0..2 {
            assert_eq!(client.send(ID, &GET).await.unwrap().read_all(9).await.unwrap(), b"ok");
        }
        assert_eq!(client.counts(ID).opened, 1);
        assert_eq!(client.counts(ID).reused, 1);
        drop(client);
        let request = format!("GET /api/tags HTTP/1.1\r\nHost: {host}:{}\r\n\r\n", server.port);
        assert_eq!(server.thread.join().unwrap(), [request.clone(), request, "http/1.1".to_owned()]);
    }
}

#[tokio::test]
async fn head_and_body_go_out_over_tls() {
    let server = serve("localhost", vec![OK], Ending::Wait);
    let client = client(&server, "localhost");
    let ask = Ask { method: "POST", path: "/api/chat", fields: &[], body: b"{\"model\":\"demo\"}" };
    assert_eq!(client.send(ID, &ask).await.unwrap().read_all(9).await.unwrap(), b"ok");
    drop(client);
    let saw = server.thread.join().unwrap();
    assert!(saw[0].ends_with("Content-Length: 16\r\n\r\n{\"model\":\"demo\"}"), "{saw:?}");
}

#[tokio::test]
async fn an_upload_streams_over_tls() {
    let server = serve("localhost", vec![OK, OK], Ending::Wait);
    let client = client(&server, "localhost");
    let ask = Ask { method: "POST", path: "/api/blobs/sha256:0", fields: &[], body: b"" };
    let mut source = Source::of(1 << 20, After::End);
    source.most = 50_000;
    let answer = client.upload(ID, &ask, UploadFraming::Chunked, &mut source).await.unwrap();
    assert_eq!(answer.read_all(9).await.unwrap(), b"ok");
    // In order, too: the next request goes over the same connection.
    assert_eq!(client.send(ID, &GET).await.unwrap().read_all(9).await.unwrap(), b"ok");
    drop(client);
    let saw = server.thread.join().unwrap();
    let mut expected = format!(
        "POST /api/blobs/sha256:0 HTTP/1.1\r\nHost: localhost:{}\r\nTransfer-Encoding: chunked\r\n\r\n",
        server.port
    );
    for place in (0..1 << 20).step_by(50_000) {
        let n = 50_000.min((1 << 20) - place);
        let data = std::str::from_utf8(at(place as u64, n)).unwrap();
        expected.push_str(&format!("{n:x}\r\n{data}\r\n"));
    }
    assert!(saw[0] == expected + "0\r\n\r\n");
}

#[tokio::test]
async fn what_tls_holds_back_does_not_wait_for_the_source() {
    let server = serve("localhost", vec!["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], Ending::Wait);
    let client = client(&server, "localhost");
    let ask = Ask { method: "POST", path: "/api/blobs/sha256:0", fields: &[], body: b"" };
    let mut source = Source::of(3, After::Silence);
    let answer = client.upload(ID, &ask, UploadFraming::Length(9), &mut source).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(client.idle(ID), 0);
    drop((answer, client));
    server.thread.join().unwrap();
}

#[tokio::test]
async fn a_certificate_that_does_not_prove_the_name_is_refused() {
    // Another authority, then another name.
    let server = serve("localhost", vec![OK], Ending::Wait);
    let stranger = serve("localhost", vec![OK], Ending::Wait);
    let other = serve("gpu1.internal", vec![OK], Ending::Wait);
    for (client, words) in [
        (
            Client::new(
                vec![Endpoint::new(true, "localhost", server.port, "").unwrap()],
                Tls::with(config_with(stranger.roots.clone()).unwrap()),
                ClientLimits::default(),
            ),
            "invalid peer certificate",
        ),
        (client(&other, "localhost"), "not valid for"),
    ] {
        let error = client.send(ID, &GET).await.err().unwrap();
        assert!(error.is_connect() && error.before_first_byte());
        assert!(matches!(error, UpstreamError::Tls { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn an_operator_reads_that_a_certificate_is_not_trusted() {
    let server = serve("gpu1.internal", vec![OK], Ending::Wait);
    let said = probe::version(&client(&server, "localhost"), ID, None).await.unwrap_err();
    assert!(said.as_str().starts_with("its certificate is not trusted: "), "{said}");
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_must_end_properly() {
    let until_close = "HTTP/1.1 200 OK\r\n\r\nall of it";
    let server = serve("localhost", vec![until_close], Ending::Proper);
    let answer = client(&server, "localhost").send(ID, &GET).await.unwrap();
    assert_eq!(answer.read_all(99).await.unwrap(), b"all of it");

    let server = serve("localhost", vec![until_close], Ending::Cut);
    let answer = client(&server, "localhost").send(ID, &GET).await.unwrap();
    let error = answer.read_all(99).await.unwrap_err();
    assert!(matches!(error, UpstreamError::ClosedMidBody { .. }), "{error}");
}
