//! The two ends that a test holds: a client's connection and an upstream's. Both read HTTP in the simplest way that is
//! right for these tests, by other code than the gate's.

use crate::house::PIPE;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub(crate) const CHAT: &str = r#"{"model":"demo","messages":[{"role":"user","content":"hi"}]}"#;

/// The path of a blob.
pub(crate) fn blob() -> String {
    format!("/api/blobs/sha256:{}", "0".repeat(64))
}

/// A client's end.
pub(crate) struct Client {
    io: DuplexStream,
    came: Vec<u8>,
    reset: Rc<Cell<bool>>,
    served: JoinHandle<()>,
}

/// An answer as a client sees it.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    /// The body as it came, framing included.
    pub(crate) wire: Vec<u8>,
    /// The body's data.
    pub(crate) data: Vec<u8>,
}

impl Client {
    pub(crate) fn new(io: DuplexStream, reset: Rc<Cell<bool>>, served: JoinHandle<()>) -> Self {
        Client { io, came: Vec::new(), reset, served }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends as much as the gate takes; false once it has closed.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.io.write_all(bytes).await.is_ok()
    }

    /// Sends `piece` over and over for as long as the gate takes something within a second; how many bytes that were.
    pub(crate) async fn send_until_stopped(&mut self, piece: &[u8]) -> usize {
        let mut sent = 0;
        loop {
            match tokio::time::timeout(Duration::from_secs(1), self.io.write(piece)).await {
                Ok(taken) => sent += taken.unwrap(),
                Err(_stopped) => return sent,
            }
        }
    }

    /// One read: what came before and was not used, or what comes next. Empty at the end.
    pub(crate) async fn some(&mut self) -> Vec<u8> {
        if self.came.is_empty() {
            self.fill().await;
        }
        std::mem::take(&mut self.came)
    }

    /// Exactly these bytes come next.
    pub(crate) async fn expect(&mut self, bytes: &[u8]) {
        while self.came.len() < bytes.len() {
            assert!(self.fill().await, "the connection ended after {}", self.came.escape_ascii());
        }
        assert_eq!(self.came[..bytes.len()].escape_ascii().to_string(), bytes.escape_ascii().to_string());
        self.came.drain(..bytes.len());
    }

    /// The head of the next answer.
    pub(crate) async fn head(&mut self) -> Answer {
        let end = loop {
            if let Some(at) = self.came.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.fill().await, "the connection ended after {}", self.came.escape_ascii());
        };
        let head = String::from_utf8(self.came.drain(..end).collect()).unwrap();
        let status = head[9..12].parse().unwrap();
        Answer { status, head, wire: Vec::new(), data: Vec::new() }
    }

    /// The next answer, whole.
    pub(crate) async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        if let Some(length) = answer.field("content-length") {
            let length = length.parse().unwrap();
            answer.wire = self.exactly(length).await;
            answer.data = answer.wire.clone();
        } else if answer.field("transfer-encoding") == Some("chunked") {
            loop {
                let line = self.line().await;
                let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
                let data = self.exactly(size + 2).await;
                answer.wire.extend_from_slice(line.as_bytes());
                answer.wire.extend_from_slice(&data);
                answer.data.extend_from_slice(&data[..size]);
                if size == 0 {
                    break;
                }
            }
        } else {
            while self.fill().await {}
            answer.wire = std::mem::take(&mut self.came);
            answer.data = answer.wire.clone();
        }
        answer
    }

    /// The next answer as far as it goes, framing included. It must break off where no client takes it for whole.
    pub(crate) async fn broken(&mut self) -> Answer {
        let mut answer = self.head().await;
        assert_eq!(answer.field("transfer-encoding"), Some("chunked"));
        answer.wire = self.until_closed().await;
        assert!(!answer.wire.ends_with(b"0\r\n\r\n"), "{}", answer.wire.escape_ascii());
        answer
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn until_closed(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.came)
    }

    /// The next answer's body, framing included, which has so many bytes.
    pub(crate) async fn wire_of_answer(&mut self, length: usize) -> String {
        self.head().await;
        String::from_utf8(self.exactly(length).await).unwrap()
    }

    /// Sends a request and takes its answer.
    pub(crate) async fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.send(request).await;
        self.answer().await
    }

    /// The gate closes, with nothing more to read. How long that took.
    pub(crate) async fn closed(&mut self) -> Duration {
        let start = Instant::now();
        let more = self.some().await;
        assert_eq!(more.escape_ascii().to_string(), "", "bytes before the end");
        start.elapsed()
    }

    /// Closes the sending side only.
    pub(crate) async fn half_close(&mut self) {
        self.io.shutdown().await.unwrap();
    }

    /// Leaves, and waits until the gate has ended the connection's task.
    pub(crate) async fn leave(self) {
        drop(self.io);
        self.served.await.unwrap();
    }

    /// Ends the connection's task from outside, as the end of the program does.
    pub(crate) async fn end_task(&mut self) {
        self.served.abort();
        while !self.served.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    /// Whether the gate closed by a reset.
    pub(crate) fn was_reset(&self) -> bool {
        self.reset.get()
    }

    async fn line(&mut self) -> String {
        let end = loop {
            if let Some(at) = self.came.windows(2).position(|two| two == b"\r\n") {
                break at + 2;
            }
            assert!(self.fill().await, "the connection ended within a chunked body");
        };
        String::from_utf8(self.came.drain(..end).collect()).unwrap()
    }

    async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.came.len() < length {
            assert!(self.fill().await, "the connection ended within the body");
        }
        self.came.drain(..length).collect()
    }

    async fn fill(&mut self) -> bool {
        self.came.reserve(PIPE);
        self.io.read_buf(&mut self.came).await.unwrap() > 0
    }
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut all =
            self.fields().filter(|(sent, _)| sent.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        let first = all.next();
        assert!(all.next().is_none(), "{name} stands twice in {}", self.head);
        first
    }

    fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.head.lines().skip(1).filter_map(|line| line.split_once(": "))
    }

    /// The names of all fields, in lower case.
    pub(crate) fn names(&self) -> Vec<String> {
        self.fields().map(|(name, _)| name.to_ascii_lowercase()).collect()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.data).unwrap()
    }

    /// Head without its date, and body: what a client could compare.
    pub(crate) fn undated(&self) -> String {
        let lines = self.head.lines().filter(|line| !line.starts_with("Date: "));
        lines.map(|line| format!("{line}\n")).collect::<String>() + self.text()
    }
}

/// An upstream's end of one connection.
pub(crate) struct Upstream {
    io: DuplexStream,
    came: Vec<u8>,
    /// Bytes that [`Upstream::send_until_stopped`] sent.
    repeated: usize,
}

/// A request as an upstream sees it.
pub(crate) struct Asked {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Upstream {
    pub(crate) fn new(io: DuplexStream) -> Self {
        Upstream { io, came: Vec::new(), repeated: 0 }
    }

    /// The next request, whole.
    pub(crate) async fn asked(&mut self) -> Asked {
        let end = loop {
            if let Some(at) = self.came.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.fill().await, "the gate closed after {}", self.came.escape_ascii());
        };
        let head = String::from_utf8(self.came.drain(..end).collect()).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        while self.came.len() < length {
            assert!(self.fill().await, "the gate closed within the body");
        }
        Asked { head, body: self.came.drain(..length).collect() }
    }

    /// Some of the next request; the rest is not looked at.
    pub(crate) async fn asked_somehow(&mut self) {
        assert!(self.fill().await, "the gate closed");
        while tokio::time::timeout(Duration::from_secs(1), self.fill()).await == Ok(true) {}
        self.came.clear();
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Takes a request and answers it.
    pub(crate) async fn serve(&mut self, answer: impl AsRef<[u8]>) -> Asked {
        let asked = self.asked().await;
        self.send(answer).await;
        asked
    }

    /// The gate closes the connection without another byte. How long that took.
    pub(crate) async fn closed(&mut self) -> Duration {
        let start = Instant::now();
        while self.fill().await {}
        start.elapsed()
    }

    /// Sends `piece` over and over for as long as the gate takes something within a second; how many bytes that were.
    /// Begins where it stopped the last time.
    pub(crate) async fn send_until_stopped(&mut self, piece: &[u8]) -> usize {
        let before = self.repeated;
        loop {
            let rest = &piece[self.repeated % piece.len()..];
            match tokio::time::timeout(Duration::from_secs(1), self.io.write(rest)).await {
                Ok(taken) => self.repeated += taken.unwrap(),
                Err(_stopped) => return self.repeated - before,
            }
        }
    }

    /// Exactly these bytes come next.
    pub(crate) async fn expect(&mut self, bytes: &[u8]) {
        while self.came.len() < bytes.len() {
            assert!(self.fill().await, "the gate closed after {}", self.came.escape_ascii());
        }
        let came: Vec<u8> = self.came.drain(..bytes.len()).collect();
        assert_eq!(came.escape_ascii().to_string(), bytes.escape_ascii().to_string());
    }

    async fn fill(&mut self) -> bool {
        self.came.reserve(PIPE);
        self.io.read_buf(&mut self.came).await.unwrap() > 0
    }
}

/// A GET with a key.
pub(crate) fn get(path: &str, key: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {key}\r\nx-request-id: t-1\r\n\r\n")
}

/// A POST with a key.
pub(crate) fn post(path: &str, key: &str, body: &str) -> String {
    with_fields("POST", path, &format!("Authorization: Bearer {key}\r\n"), body)
}

/// Any request with these fields.
pub(crate) fn with_fields(method: &str, path: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: gate\r\nx-request-id: t-1\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// An upstream's whole answer.
pub(crate) fn json(status: u16, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Whatever\r\nContent-Type: application/json; charset=utf-8\r\n\
         Date: Fri, 20 Nov 2026 12:58:10 GMT\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// The head of an upstream's streamed answer.
pub(crate) const STREAM: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";

/// One chunk.
pub(crate) fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

pub(crate) const LAST: &str = "0\r\n\r\n";

/// The end of a chat that went well: its end record in a chunk, and the last chunk.
pub(crate) const END: &str = "e\r\n{\"done\":true}\n\r\n0\r\n\r\n";
