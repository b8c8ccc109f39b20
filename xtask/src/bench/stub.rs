//! The upstream of the bench: a fast imitation of an Ollama that answers at once, or streams lines at a pace. It shares the
//! load generator's core and thread, so a line's send time and its arrival are read from one clock.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use memchr::memmem;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A running upstream; dropping it ends its connections.
pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
    _serving: JoinSet<()>,
}

/// Where the send time of a line stands, so that both sides find it without a parser.
pub(crate) const SENT_MARK: &[u8] = b"\"created_at\":\"";
/// Digits of nanoseconds since the bench began.
pub(crate) const SENT_DIGITS: usize = 20;
/// In the last line of a stream.
pub(crate) const DONE_MARK: &[u8] = b"\"done\":true";

const DETAILS: &str = r#""details":{"parent_model":"","format":"gguf","family":"llama","families":["llama"],"parameter_size":"8B","quantization_level":"Q4_K_M"}"#;
const WHOLE: &str = r#"{"model":"bench","created_at":"2026-11-20T12:58:15.627533025Z","message":{"role":"assistant","content":"Close the connection. The gateway stops the generation right away."},"done":true,"done_reason":"stop","total_duration":6550891,"load_duration":864869,"prompt_eval_count":21,"prompt_eval_duration":549000,"eval_count":22,"eval_duration":3433000}"#;

impl Stub {
    pub(crate) async fn start(clock: Instant) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port for the stub")?;
        let address = listener.local_addr()?;
        let mut serving = JoinSet::new();
        serving.spawn_local(accept(listener, clock));
        Ok(Self { address, _serving: serving })
    }
}

async fn accept(listener: TcpListener, clock: Instant) {
    let canned = Rc::new(Canned::new());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _peer)) = accepted else { continue };
                let canned = Rc::clone(&canned);
                connections.spawn_local(async move {
                    // Its peer leaving is the only way in which a connection ends.
                    drop(serve(stream, &canned, clock).await);
                });
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
}

/// Answers that never change, framing included.
struct Canned {
    whole: Vec<u8>,
    running: Vec<u8>,
    version: Vec<u8>,
    tags: Vec<u8>,
    ps: Vec<u8>,
}

impl Canned {
    fn new() -> Self {
        let digest = "3d25cd5709e672144c0278c09b637613bce06e2fb6a5b270262712b484a84126";
        let model = format!(
            r#""name":"bench:latest","model":"bench:latest","size":967479,"digest":"{digest}",{DETAILS}"#
        );
        let tags = format!(r#"{{"models":[{{{model},"modified_at":"2026-11-20T12:58:09.400798529Z"}}]}}"#);
        let ps = format!(
            r#"{{"models":[{{{model},"expires_at":"2036-11-20T13:03:10.677833357Z","size_vram":0,"context_length":4096}}]}}"#
        );
        Self {
            whole: json(WHOLE),
            running: answer("text/plain; charset=utf-8", "Ollama is running"),
            version: json(r#"{"version":"0.32.15"}"#),
            tags: json(&tags),
            ps: json(&ps),
        }
    }

    fn for_path(&self, path: &[u8]) -> &[u8] {
        match path {
            b"/" => &self.running,
            b"/api/version" => &self.version,
            b"/api/tags" => &self.tags,
            b"/api/ps" => &self.ps,
            _ => &self.whole,
        }
    }
}

fn json(body: &str) -> Vec<u8> {
    answer("application/json; charset=utf-8", body)
}

fn answer(kind: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nDate: Fri, 20 Nov 2026 12:58:15 GMT\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn serve(mut stream: TcpStream, canned: &Canned, clock: Instant) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let Some(end) = read_request(&mut stream, &mut buffer).await? else { return Ok(()) };
        let request = &buffer[..end];
        if memmem::find(request, b"\"stream\":true").is_some() {
            let paced = Paced::of(request)?;
            buffer.drain(..end);
            paced.send(&mut stream, clock).await?;
        } else {
            let path = request.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
            stream.write_all(canned.for_path(path)).await?;
            buffer.drain(..end);
        }
    }
}

/// Where the request at the front of the buffer ends; `None` when the peer has left.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Option<usize>> {
    loop {
        if let Some(end) = memmem::find(buffer, b"\r\n\r\n") {
            let whole = end + 4 + content_length(&buffer[..end])?;
            if buffer.len() >= whole {
                return Ok(Some(whole));
            }
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn content_length(head: &[u8]) -> Result<usize> {
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        if line.len() > 15 && line[..15].eq_ignore_ascii_case(b"content-length:") {
            return std::str::from_utf8(&line[15..])?.trim().parse().context("a request's length");
        }
    }
    Ok(0)
}

/// A stream: how many lines, how far apart, how long before the first, and how much longer than a token each is.
struct Paced {
    lines: u64,
    pace: Duration,
    offset: Duration,
    padding: usize,
}

impl Paced {
    /// Read from `options`: `num_predict` lines, `seed` µs apart, `top_k` µs before the first, `num_keep` bytes longer.
    fn of(request: &[u8]) -> Result<Self> {
        let body = memmem::find(request, b"\r\n\r\n").map_or(request, |end| &request[end + 4..]);
        let body: Value = serde_json::from_slice(body)?;
        let option = |name: &str| body["options"][name].as_u64().unwrap_or(0);
        Ok(Self {
            lines: option("num_predict"),
            pace: Duration::from_micros(option("seed")),
            offset: Duration::from_micros(option("top_k")),
            padding: usize::try_from(option("num_keep"))?,
        })
    }

    async fn send(&self, stream: &mut TcpStream, clock: Instant) -> Result<()> {
        let mut next = tokio::time::Instant::now() + self.offset;
        let mut wire = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nDate: Fri, 20 Nov 2026 12:58:15 GMT\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        let padding = " ".repeat(self.padding);
        for number in 0..self.lines {
            tokio::time::sleep_until(next).await;
            next += self.pace;
            let sent = u64::try_from(clock.elapsed().as_nanos())?;
            let done = number + 1 == self.lines;
            let line = if done {
                format!(
                    "{{\"model\":\"bench\",\"created_at\":\"{sent:020}\",\"message\":{{\"role\":\"assistant\",\"content\":\"\"}},\"done\":true,\"done_reason\":\"stop\",\"total_duration\":6550891,\"prompt_eval_count\":21,\"eval_count\":{number}}}\n"
                )
            } else {
                format!(
                    "{{\"model\":\"bench\",\"created_at\":\"{sent:020}\",\"message\":{{\"role\":\"assistant\",\"content\":\" gateway{padding}\"}},\"done\":false}}\n"
                )
            };
            wire.extend_from_slice(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes());
            if done {
                wire.extend_from_slice(b"0\r\n\r\n");
            }
            stream.write_all(&wire).await?;
            wire.clear();
        }
        Ok(())
    }
}
