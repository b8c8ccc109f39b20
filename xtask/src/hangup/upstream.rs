//! The upstream of the hang-up measurement: does what the phase under measure wants, and says when its peer has left.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

/// What the upstream does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Reads it whole, and is silent.
    Silent,
    /// Streams a piece every few milliseconds.
    Stream,
    /// Reads the body slowly until the client has left, and then as fast as it comes.
    SlowBody,
    /// Reads the body as it comes.
    Upload,
}

/// What it saw of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The phase is reached.
    Reached,
    /// The peer has left.
    Left(Instant),
}

const PIECE_TIME: Duration = Duration::from_millis(3);
/// Small, so that a large body does not vanish in the kernel, but above the segments of loopback.
const WINDOW: u32 = 256 * 1024;

/// A running upstream.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    pub(super) mode: Rc<Cell<Mode>>,
    /// The client has left: no reason to be slow any more.
    pub(super) left: Rc<Notify>,
    pub(super) events: mpsc::Receiver<Event>,
    _serving: JoinSet<()>,
}

impl Upstream {
    pub(super) fn start() -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(WINDOW)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let listener = socket.listen(1024)?;
        let address = listener.local_addr()?;
        let (mode, left) = (Rc::new(Cell::new(Mode::Silent)), Rc::new(Notify::new()));
        let (tell, events) = mpsc::channel(64);
        let mut serving = JoinSet::new();
        serving.spawn_local(accept(listener, Rc::clone(&mode), Rc::clone(&left), tell));
        Ok(Self { address, mode, left, events, _serving: serving })
    }
}

/// A port on which connecting never comes to an end: nobody accepts, and the kernel's queue is full.
pub(super) struct Deaf {
    pub(super) address: SocketAddr,
    _listener: std::net::TcpListener,
    _queued: Vec<TcpStream>,
}

impl Deaf {
    pub(super) async fn start() -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let listener = socket.listen(1)?.into_std()?;
        let address = listener.local_addr()?;
        let mut queued = Vec::new();
        loop {
            let connect = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address));
            match connect.await {
                Ok(connected) => {
                    queued.push(connected.context("the kernel refuses instead of being silent")?)
                }
                Err(_late) => return Ok(Self { address, _listener: listener, _queued: queued }),
            }
        }
    }
}

async fn accept(listener: TcpListener, mode: Rc<Cell<Mode>>, left: Rc<Notify>, tell: mpsc::Sender<Event>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _peer)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (mode, left, tell) = (Rc::clone(&mode), Rc::clone(&left), tell.clone());
        connections.spawn_local(async move {
            // However a connection ends, it has ended.
            drop(serve(stream, &mode, &left, &tell).await);
        });
    }
}

async fn serve(
    mut stream: TcpStream,
    mode: &Cell<Mode>,
    left: &Notify,
    tell: &mpsc::Sender<Event>,
) -> Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let mut bytes = Vec::with_capacity(4096);
        let end = loop {
            if let Some(end) = memmem::find(&bytes, b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        };
        if bytes.starts_with(b"GET ") || bytes.starts_with(b"HEAD ") {
            stream.write_all(&probed(&bytes)).await?;
            continue;
        }
        let mode = mode.get();
        if matches!(mode, Mode::Silent | Mode::Stream) {
            let length = length(&bytes[..end])?;
            while bytes.len() < end + length {
                if stream.read_buf(&mut bytes).await? == 0 {
                    return Ok(());
                }
            }
        }
        tell.send(Event::Reached).await?;
        let ended = until_left(&mut stream, mode, left).await;
        tell.send(Event::Left(Instant::now())).await?;
        return ended;
    }
}

/// Plays the phase until the peer leaves; an error is a way of leaving, too.
async fn until_left(stream: &mut TcpStream, mode: Mode, left: &Notify) -> Result<()> {
    let mut scratch = vec![0; 64 * 1024];
    match mode {
        Mode::Silent | Mode::Upload => while stream.read(&mut scratch).await? > 0 {},
        Mode::SlowBody => {
            // A few bytes now and then, until there is no reason to be slow any more.
            loop {
                tokio::select! {
                    () = tokio::time::sleep(PIECE_TIME) => {}
                    () = left.notified() => break,
                }
                if stream.read(&mut scratch[..4096]).await? == 0 {
                    return Ok(());
                }
            }
            while stream.read(&mut scratch).await? > 0 {}
        }
        Mode::Stream => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
            let mut pieces = tokio::time::interval(PIECE_TIME);
            loop {
                tokio::select! {
                    read = stream.read(&mut scratch) => {
                        if read? == 0 {
                            return Ok(());
                        }
                    }
                    _ = pieces.tick() => stream.write_all(b"8\r\ndata: 1\n\r\n").await?,
                }
            }
        }
    }
    Ok(())
}

fn length(head: &[u8]) -> Result<usize> {
    let head = std::str::from_utf8(head)?.to_ascii_lowercase();
    let value = head.split("\r\n").find_map(|line| line.strip_prefix("content-length:"));
    Ok(value.map(|value| value.trim().parse()).transpose()?.unwrap_or(0))
}

/// What a prober is told: one model.
fn probed(head: &[u8]) -> Vec<u8> {
    let body = if memmem::find(head, b"/api/version").is_some() {
        r#"{"version":"0.32.15"}"#
    } else if memmem::find(head, b"/api/tags").is_some() {
        r#"{"models":[{"name":"bench:latest","model":"bench:latest","size":1,"digest":"d","details":{},"modified_at":"2026-11-20T12:58:09Z"}]}"#
    } else {
        r#"{"models":[]}"#
    };
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
