//! What is sent again and what is not, before a gate that a test plays.

use super::*;
use crate::client::Access;
use bytes::Bytes;
use h2::server::SendResponse;
use http::Response;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What the gate does with a request of which it has read all.
#[derive(Debug, Clone, Copy)]
enum Act {
    Answer,
    Reset(h2::Reason),
    /// Takes its leave at once, of what it has begun, too.
    Leave,
    /// Is gone.
    Vanish,
}

/// A gate that does one thing after another, and what it was asked: path and body.
struct Gate {
    acts: RefCell<Vec<Act>>,
    asked: RefCell<Vec<(String, Vec<u8>)>>,
}

impl Gate {
    async fn run(&self, listener: TcpListener) {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            self.hold(socket).await;
        }
    }

    async fn hold(&self, socket: TcpStream) {
        let mut connection = h2::server::handshake(socket).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let path = request.uri().path().to_owned();
            if path == "/api/tags" && request.method() == "HEAD" {
                // The look at the start.
                answer(&mut respond);
                continue;
            }
            let body = read(&mut connection, request.into_body()).await;
            self.asked.borrow_mut().push((path, body));
            let next = self.acts.borrow_mut().remove(0);
            match next {
                Act::Answer => answer(&mut respond),
                Act::Reset(reason) => respond.send_reset(reason),
                Act::Vanish => return,
                Act::Leave => connection.abrupt_shutdown(h2::Reason::NO_ERROR),
            }
        }
    }
}

fn answer(respond: &mut SendResponse<Bytes>) {
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    stream.send_data(Bytes::from_static(b"done"), true).unwrap();
}

async fn read(
    connection: &mut h2::server::Connection<TcpStream, Bytes>,
    mut body: h2::RecvStream,
) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        tokio::select! {
            piece = body.data() => match piece {
                Some(Ok(piece)) => {
                    body.flow_control().release_capacity(piece.len()).unwrap();
                    all.extend_from_slice(&piece);
                }
                Some(Err(_)) | None => return all,
            },
            _other = connection.accept() => {}
        }
    }
}

/// Asks a `connect` before a gate that does these things; gives the answer and what the gate was asked.
async fn ask(acts: &[Act], request: &[u8]) -> (String, Vec<(String, Vec<u8>)>) {
    let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (far, here) = (bind().await, bind().await);
    let (url, to) = (format!("http://{}", far.local_addr().unwrap()), here.local_addr().unwrap());
    let gate = Gate { acts: RefCell::new(acts.to_vec()), asked: RefCell::default() };
    let at = At::machine("127.0.0.1:0").unwrap();
    let mut talk = Vec::new();
    let told = tokio::select! {
        told = program(to, request) => told,
        () = gate.run(far) => panic!("the gate ended"),
        ended = serve(entered(&url), here, &at, std::future::pending(), &mut talk) => panic!("{ended:?}"),
    };
    (told, gate.asked.take())
}

fn entered(url: &str) -> crate::client::Gate {
    let dir = tempfile::TempDir::new().unwrap();
    let key: PathBuf = dir.path().join("key");
    std::fs::write(&key, "sk-hg-canary").unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    crate::client::Gate::new(url, &Access::with_key_file(key)).unwrap()
}

async fn program(to: SocketAddr, request: &[u8]) -> String {
    let mut wire = TcpStream::connect(to).await.unwrap();
    let head = String::from_utf8_lossy(request).replace("HOST", &to.to_string());
    wire.write_all(head.as_bytes()).await.unwrap();
    let mut told = String::new();
    wire.read_to_string(&mut told).await.unwrap();
    told
}

fn post(path: &str, length: usize) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.into_bytes(), vec![b'x'; length]].concat()
}

const GET: &[u8] = b"GET /api/ps HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn what_the_gate_did_nothing_with_is_sent_again_whole() {
    let act = Act::Reset(h2::Reason::REFUSED_STREAM);
    for length in [0, 10, 60_000] {
        let (told, asked) = ask(&[act, act, Act::Answer], &post("/api/pull", length)).await;
        assert!(told.starts_with("HTTP/1.1 200") && told.contains("done"), "{length}: {told}");
        assert_eq!(asked.len(), 3);
        assert!(asked.iter().all(|(path, body)| path == "/api/pull" && *body == vec![b'x'; length]));
    }
    // Not for ever, and not what is no longer there.
    let (told, asked) = ask(&[act; 3], &post("/api/pull", 10)).await;
    assert!(told.starts_with("HTTP/1.1 502") && asked.len() == 3, "{told}");
    let (told, asked) = ask(&[act], &post("/api/pull", 100_000)).await;
    assert!(told.starts_with("HTTP/1.1 502") && asked.len() == 1, "{told}");
}

#[tokio::test]
async fn what_it_may_have_done_is_sent_again_only_if_it_reads() {
    for act in [Act::Vanish, Act::Reset(h2::Reason::INTERNAL_ERROR), Act::Leave] {
        let (told, asked) = ask(&[act], &post("/api/pull", 10)).await;
        assert!(told.starts_with("HTTP/1.1 502") && told.contains("may have done"), "{act:?}: {told}");
        assert_eq!(asked.len(), 1, "{act:?}");
        let (told, asked) = ask(&[act], &post("/api/chat", 10)).await;
        assert!(told.starts_with("HTTP/1.1 502") && asked.len() == 1, "{act:?}: {told}");
        let (told, asked) = ask(&[act, Act::Answer], GET).await;
        assert!(told.starts_with("HTTP/1.1 200") && asked.len() == 2, "{act:?}: {told}");
        let (told, asked) = ask(&[act, Act::Answer], &post("/api/show", 10)).await;
        assert!(told.starts_with("HTTP/1.1 200") && asked.len() == 2, "{act:?}: {told}");
    }
}

/// Something in front of a gate that knows nothing of HTTP/2: answers each request with what it was asked.
async fn front(listener: TcpListener) {
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let told = if head.starts_with("PRI * HTTP/2.0") { "400 Bad Request" } else { "200 OK" };
        let length = if head.starts_with("HEAD ") { 0 } else { head.len() };
        let answer = format!("HTTP/1.1 {told}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        socket.write_all(answer.as_bytes()).await.unwrap();
        socket.write_all(&head.as_bytes()[..length]).await.unwrap();
    }
}

#[tokio::test]
async fn what_speaks_http_1_1_alone_is_spoken_to_so_and_that_is_said_once() {
    let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (far, here) = (bind().await, bind().await);
    let (authority, to) = (far.local_addr().unwrap().to_string(), here.local_addr().unwrap());
    let at = At::machine("127.0.0.1:0").unwrap();
    let mut talk = Vec::new();
    tokio::select! {
        () = front(far) => {}
        ended = serve(entered(&format!("http://{authority}")), here, &at, std::future::pending(), &mut talk) => {
            panic!("{ended:?}")
        }
        () = async {
            for request in [GET, &post("/api/pull", 0)] {
                let told = program(to, request).await.to_lowercase();
                assert!(told.starts_with("http/1.1 200"), "{told}");
                assert!(told.contains(&format!("host: {authority}")), "{told}");
                assert!(told.contains("authorization: bearer sk-hg-canary"), "{told}");
            }
        } => {}
    }
    let said = String::from_utf8(talk).unwrap();
    assert_eq!(said.matches("does not speak HTTP/2").count(), 1, "{said}");
}
