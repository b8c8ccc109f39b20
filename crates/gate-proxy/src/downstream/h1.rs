//! HTTP/1.1 towards clients: one async function per connection, one request after the other.
//!
//! A parked connection holds its socket and a watch, no buffer: reads go through one scratch buffer per core. This file
//! must never decide anything about a request but its framing.

use super::write::{Outgoing, Shape};
use super::{AnswerHead, BodyError, Downstream, Head};
use crate::gate::Gate;
use crate::sweep::Watch;
use crate::{path, scratch};
use gate_h1::{Body, Framing, H1Error};
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

/// How many bytes of a next request are kept while one is answered. Beyond it the client is not watched, only written to.
const AHEAD_BYTES: usize = 64 * 1024;
/// How long and for how much a refused client is read on, so that it sees the answer instead of a reset (RFC 9112, 9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 * 1024;

/// Serves a client's connection until either side ends it.
pub async fn serve_connection<IO: AsyncRead + AsyncWrite + Unpin>(gate: &Gate, io: IO) {
    let mut conn = Conn { io, read: Vec::new(), ended: false, watch: gate.sweep.watch() };
    let mut wait = gate.limits.head_time;
    loop {
        let head = match conn.next_head(gate, wait).await {
            Next::Head(head) => head,
            Next::Closed => return,
            Next::Refused(error) => return conn.refuse(&error).await,
        };
        let mut request = Request::new(gate, &mut conn, head);
        // Boxed, so that a parked connection does not hold room for a request's whole life.
        Box::pin(path::handle(gate, &mut request)).await;
        match request.finish() {
            After::Again => wait = gate.limits.keep_alive,
            After::Linger => return conn.linger().await,
            After::Cut => return,
        }
    }
}

struct Conn<IO> {
    io: IO,
    /// Read and not yet used.
    read: Vec<u8>,
    /// The client has closed its side.
    ended: bool,
    watch: Watch,
}

enum Next {
    Head(Head),
    Closed,
    Refused(H1Error),
}

enum Filled {
    Some,
    Ended,
    Late,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Conn<IO> {
    /// Waits for the next request head: `wait` for its first byte, then the head's own limit for the rest.
    async fn next_head(&mut self, gate: &Gate, wait: Duration) -> Next {
        let mut begun = false;
        self.watch.set(Some(wait));
        loop {
            if !self.read.is_empty() {
                match Head::take(&mut self.read, &gate.limits.framing) {
                    Ok(Some(head)) => return Next::Head(head),
                    Ok(None) => {}
                    Err(error) => return Next::Refused(error),
                }
                if !begun {
                    begun = true;
                    self.watch.set(Some(gate.limits.head_time));
                }
            }
            match self.fill().await {
                Filled::Some => {}
                Filled::Ended | Filled::Late => return Next::Closed,
            }
        }
    }

    async fn fill(&mut self) -> Filled {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Filled> {
        match self.poll_read(cx) {
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Filled::Ended),
            Poll::Ready(Ok(_)) => Poll::Ready(Filled::Some),
            Poll::Pending => self.watch.poll_late(cx).map(|()| Filled::Late),
        }
    }

    /// One read into the core's scratch buffer; what came is appended to `self.read`.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        let Self { io, read, ended, .. } = self;
        scratch::with(|scratch| {
            let mut buf = tokio::io::ReadBuf::new(scratch);
            match Pin::new(io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) => {
                    let came = buf.filled();
                    *ended = came.is_empty();
                    read.extend_from_slice(came);
                    Poll::Ready(Ok(came.len()))
                }
                Poll::Ready(Err(error)) => {
                    *ended = true;
                    Poll::Ready(Err(error))
                }
                Poll::Pending => Poll::Pending,
            }
        })
    }

    /// Answers a head that has no single reading, in the plainest form, and closes.
    async fn refuse(mut self, error: &H1Error) {
        let answer = crate::stages::intake::unreadable(error);
        if self.io.write_all(&answer).await.is_ok() {
            self.linger().await;
        }
    }

    /// Closes our side and reads on for a moment, so that a client that is still sending sees the answer.
    async fn linger(mut self) {
        if self.io.shutdown().await.is_err() {
            return;
        }
        self.watch.set(Some(LINGER));
        let mut total = 0;
        while total < LINGER_BYTES && matches!(self.fill().await, Filled::Some) {
            total += self.read.len();
            self.read.clear();
        }
    }
}

/// What becomes of the connection after a request.
enum After {
    Again,
    Linger,
    Cut,
}

/// One request on a connection.
struct Request<'c, IO> {
    conn: &'c mut Conn<IO>,
    head: Head,
    out: Outgoing,
    /// The request's body has been taken off the connection.
    body_read: bool,
    aborted: bool,
    silence: Option<Duration>,
    moved: Instant,
    body_time: Duration,
}

impl<'c, IO: AsyncRead + AsyncWrite + Unpin> Request<'c, IO> {
    fn new(gate: &Gate, conn: &'c mut Conn<IO>, head: Head) -> Self {
        conn.watch.set(None);
        let body_read = matches!(head.framing, Framing::None | Framing::Length(0));
        Self {
            conn,
            head,
            out: Outgoing::new(),
            body_read,
            aborted: false,
            silence: None,
            moved: Instant::now(),
            body_time: gate.limits.head_time,
        }
    }

    fn finish(self) -> After {
        if self.aborted || !self.out.ended {
            After::Cut
        } else if self.out.keep_alive {
            After::Again
        } else {
            After::Linger
        }
    }

    /// Whether what is left of the body is small and already here, so that it can be skipped and the connection kept.
    fn skip_body(&mut self) -> bool {
        if let Framing::Length(length) = self.head.framing
            && !self.body_read
            && let Ok(length) = usize::try_from(length)
            && self.conn.read.len() >= length
        {
            self.conn.read.drain(..length);
            self.body_read = true;
        }
        self.body_read
    }

    async fn read_length(&mut self, length: usize) -> Result<Vec<u8>, BodyError> {
        while self.conn.read.len() < length {
            self.fill_body().await?;
        }
        let rest = self.conn.read.split_off(length);
        Ok(std::mem::replace(&mut self.conn.read, rest))
    }

    async fn read_chunked(&mut self, limit: usize) -> Result<Vec<u8>, BodyError> {
        let mut framing = Body::new(Framing::Chunked);
        let mut body = Vec::new();
        loop {
            let mut used = 0;
            while used < self.conn.read.len() && !framing.is_done() {
                let input = &self.conn.read[used..];
                let step = framing.step(input).map_err(BodyError::Malformed)?;
                if body.len() + step.data.len() > limit {
                    return Err(BodyError::TooLarge(limit));
                }
                body.extend_from_slice(&input[step.data]);
                used += step.used;
            }
            self.conn.read.drain(..used);
            if framing.is_done() {
                return Ok(body);
            }
            self.fill_body().await?;
        }
    }

    async fn fill_body(&mut self) -> Result<(), BodyError> {
        self.conn.watch.set(Some(self.body_time));
        match self.conn.fill().await {
            Filled::Some => Ok(()),
            Filled::Ended => Err(BodyError::Gone),
            Filled::Late => Err(BodyError::TooSlow),
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Downstream for Request<'_, IO> {
    fn head(&self) -> &Head {
        &self.head
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.conn.read.len() >= AHEAD_BYTES {
                return Poll::Pending;
            }
            match self.conn.poll_read(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_silent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.conn.watch.poll_late(cx) {
            // The watch is set once per limit, not once per chunk: a limit that passed starts anew while things move.
            Poll::Ready(()) => match self.silence {
                Some(limit) if self.moved.elapsed() < limit => {
                    self.conn.watch.set_until(Some(self.moved + limit));
                    self.conn.watch.poll_late(cx)
                }
                _ => Poll::Ready(()),
            },
            Poll::Pending => Poll::Pending,
        }
    }

    fn limit_silence(&mut self, limit: Option<Duration>) {
        self.silence = limit;
        self.moved = Instant::now();
        self.conn.watch.set(limit);
    }

    async fn read_body(&mut self, limit: usize) -> Result<Vec<u8>, BodyError> {
        if self.body_read {
            return Ok(Vec::new());
        }
        if let Framing::Length(length) = self.head.framing
            && length > limit as u64
        {
            return Err(BodyError::TooLarge(limit));
        }
        if self.head.expect_continue && self.conn.read.is_empty() {
            let asked = self.conn.io.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
            asked.map_err(|_closed| BodyError::Gone)?;
        }
        let body = match self.head.framing {
            Framing::None | Framing::UntilClose => Vec::new(),
            // Compared with the limit above, which is a usize.
            Framing::Length(length) => self.read_length(usize::try_from(length).unwrap_or(limit)).await?,
            Framing::Chunked => self.read_chunked(limit).await?,
        };
        self.body_read = true;
        Ok(body)
    }

    fn begin(&mut self, head: &AnswerHead<'_>) {
        let keep_alive = self.head.keep_alive && self.skip_body() && !self.conn.ended;
        let is_head = self.head.method() == "HEAD";
        self.out.begin(head, Shape { version: self.head.version, is_head, keep_alive });
    }

    fn offer(&mut self, cx: &mut Context<'_>, wire: &[u8], pieces: &[Range<usize>], end: bool) -> io::Result<()> {
        self.moved = Instant::now();
        self.out.offer(&mut self.conn.io, cx, wire, pieces, end)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.out.poll_flush(&mut self.conn.io, cx)
    }

    fn abort(&mut self) {
        self.aborted = true;
    }
}
