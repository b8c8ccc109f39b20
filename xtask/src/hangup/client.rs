//! Clients that leave.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::bench::load::TOKEN;

/// One over HTTP/1.1. Dropping it closes its connection.
pub(super) struct Client {
    pub(super) stream: TcpStream,
}

fn chat(stream: bool, content: usize) -> String {
    let content = "x".repeat(content);
    format!(
        r#"{{"model":"bench","stream":{stream},"max_tokens":64,"messages":[{{"role":"user","content":"{content}"}}]}}"#
    )
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream })
    }

    /// Sends a chat with so many bytes of content; waits for nothing.
    pub(super) async fn ask(&mut self, path: &str, stream: bool, content: usize) -> Result<()> {
        let body = chat(stream, content);
        let head = head(TOKEN, path, body.len());
        self.stream.write_all(format!("{head}{body}").as_bytes()).await?;
        Ok(())
    }

    /// Begins an upload of which most is still to come.
    pub(super) async fn upload(&mut self, key: &str) -> Result<()> {
        let path = format!("/api/blobs/sha256:{}", "0".repeat(64));
        self.stream.write_all(head(key, &path, 64 << 20).as_bytes()).await?;
        self.stream.write_all(&vec![7; 256 << 10]).await?;
        Ok(())
    }

    /// Waits for something of the answer's body.
    pub(super) async fn first_piece(&mut self) -> Result<()> {
        let mut came = Vec::new();
        while memchr::memmem::find(&came, b"data: 1").is_none() {
            ensure!(self.stream.read_buf(&mut came).await? > 0, "closed: {}", String::from_utf8_lossy(&came));
        }
        Ok(())
    }

    pub(super) async fn half_close(&mut self) -> Result<()> {
        self.stream.shutdown().await.context("the gate has left first")
    }
}

fn head(key: &str, path: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: gate.example\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// One over h2 with prior knowledge, on a connection that stays.
pub(super) struct Http2 {
    sender: hyper::client::conn::http2::SendRequest<Full<Bytes>>,
    _driving: JoinSet<()>,
}

/// A request over h2; dropping it resets its stream.
pub(super) struct Asked {
    waiting: JoinSet<Result<Incoming>>,
    body: Option<Incoming>,
}

impl Http2 {
    pub(super) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = Client::connect(address).await?.stream;
        let shaken =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        let (sender, connection) = shaken;
        let mut driving = JoinSet::new();
        driving.spawn_local(async move { drop(connection.await) });
        Ok(Self { sender, _driving: driving })
    }

    pub(super) async fn ask(&mut self, path: &str) -> Result<Asked> {
        let request = hyper::Request::post(format!("http://gate.example{path}"))
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", "application/json")
            .body(Full::from(chat(true, 100)))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request);
        let mut waiting = JoinSet::new();
        waiting.spawn_local(async move { Ok(answer.await?.into_body()) });
        Ok(Asked { waiting, body: None })
    }
}

impl Asked {
    pub(super) async fn first_piece(&mut self) -> Result<()> {
        let answered = self.waiting.join_next().await.context("nothing was asked")?;
        let mut body = answered??;
        body.frame().await.context("the stream has ended")??;
        self.body = Some(body);
        Ok(())
    }
}
