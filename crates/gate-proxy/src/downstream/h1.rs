//! HTTP/1.1 towards clients: one async function per connection, one request after the other.
//!
//! This file must never decide anything about a request but its framing, and what becomes of the connection.

mod body;

use self::body::Streamed;
use super::conn::{Conn, Next, Turn};
use super::silence::Silence;
use super::write::{Outgoing, Shape};
use super::{AnswerHead, BodyError, ClientStream, Downstream, Head, h2};
use crate::crowd::Guest;
use crate::entrance::{Entered, Source};
use crate::gate::Gate;
use crate::held::HeldBody;
use crate::rules::Limits;
use crate::stages::intake;
use crate::{path, trace};
use gate_h1::{Framing, H1Error, Version};
use gate_wire::{GateError, Reason};
use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;

/// How many bytes of a next request are kept while one is answered. A client that sends more before it has its answer is
/// cut off: it could not be watched any more, and its leaving would not stop the model.
const AHEAD_BYTES: usize = 64 * 1024;

/// Serves the connection of a client until either side ends it.
///
/// What is rare is boxed, what lasts for one request has a seat of the core's, and the connection itself is boxed, because it
/// goes to that seat and back: wherever it passes, room for it would be kept once more.
pub fn serve_connection<IO: ClientStream + 'static>(guest: Guest, io: IO) -> impl Future<Output = ()> {
    serve(Box::new(Conn::new(io, guest)), false)
}

/// The same for a connection whose time may run already.
#[expect(clippy::manual_async_fn, reason = "an async function would hold its argument twice")]
pub(super) fn serve<IO: ClientStream + 'static>(
    mut conn: Box<Conn<IO>>,
    is_timed: bool,
) -> impl Future<Output = ()> {
    async move {
        let mut turn = if is_timed { Turn::FirstInTime } else { Turn::First };
        loop {
            let after = match conn.next_head(turn).await {
                Next::Head(head) => {
                    let gate = Rc::clone(&conn.guest.gate);
                    let after;
                    (conn, after) = gate.seats.serve(conn, head, answer).await;
                    after
                }
                Next::Refused(error) => Box::pin(refuse(&mut conn, error)).await,
                Next::Http2 => return Box::pin(h2::serve(*conn)).await,
                Next::Farewell => After::Linger,
                Next::Closed => After::Cut,
            };
            turn = Turn::Later;
            match after {
                After::Again => {}
                After::Linger => return Box::pin(conn.linger()).await,
                After::Cut => return,
            }
        }
    }
}

/// One request and its answer.
async fn answer<IO: ClientStream>(conn: &mut Conn<IO>, head: Rc<Head>) -> After {
    let gate = Rc::clone(&conn.guest.gate);
    let rules = gate.rules();
    let mut request = Request::new(&gate, &rules.limits, conn, head);
    path::handle(&gate, &rules, &mut request).await;
    request.finish()
}

/// Answers a head that has no single reading, and closes.
async fn refuse<IO: ClientStream>(conn: &mut Conn<IO>, error: H1Error) -> After {
    tell(conn, &intake::unreadable(error), true).await
}

/// Tells a client that speaks without TLS at a listener with TLS, and closes. What it said is not read.
pub(super) async fn refuse_plain(mut conn: Box<Conn<TcpStream>>) {
    let error = GateError::new(Reason::TlsRequired).saying(
        "this port speaks TLS: write https:// in the address. A key that was sent here went in clear, and whoever listened has \
         read it: replace it",
    );
    if let After::Linger = tell(&mut conn, &error, false).await {
        conn.linger().await;
    }
}

/// Answers instead of reading on.
async fn tell<IO: ClientStream>(conn: &mut Conn<IO>, error: &GateError, has_hsts: bool) -> After {
    let gate = Rc::clone(&conn.guest.gate);
    let hsts = conn.guest.entered.hsts().filter(|_| has_hsts);
    let answer = trace::unreadable(&gate, conn.guest.entered.peer, error, |head, body| {
        let mut out = Outgoing::new();
        out.begin(head, Shape { version: Version::H11, is_head: false, keep_alive: false, hsts });
        let mut answer = out.into_bytes();
        answer.extend_from_slice(body.as_bytes());
        answer
    });
    conn.watch.rest(gate.rules().limits.head_time);
    let is_told = conn.say(&answer).await;
    if is_told { After::Linger } else { After::Cut }
}

/// What becomes of the connection after a request.
pub(super) enum After {
    Again,
    Linger,
    Cut,
}

/// One request on a connection.
struct Request<'c, IO: ClientStream> {
    gate: &'c Gate,
    limits: &'c Limits,
    conn: &'c mut Conn<IO>,
    head: Rc<Head>,
    source: Source,
    /// Its caller has shown a valid key.
    is_known: Cell<bool>,
    out: Outgoing,
    /// The request's body has been taken off the connection.
    body_read: bool,
    /// A body that is taken piece by piece.
    streamed: Option<Box<Streamed>>,
    aborted: bool,
    silence: Silence,
}

impl<'c, IO: ClientStream> Request<'c, IO> {
    fn new(gate: &'c Gate, limits: &'c Limits, conn: &'c mut Conn<IO>, head: Rc<Head>) -> Self {
        conn.watch.set(None);
        Self {
            gate,
            limits,
            body_read: head.framing.is_empty(),
            streamed: None,
            source: conn.guest.entered.source(&head),
            conn,
            head,
            is_known: Cell::new(false),
            out: Outgoing::new(),
            aborted: false,
            silence: Silence::none(gate.sweep.now()),
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

    /// Whether the body is off the connection. One that nobody asked for is passed over if all of it is here, so that the
    /// connection can be kept.
    fn skip_body(&mut self) -> bool {
        if let Framing::Length(length) = self.head.framing
            && !self.body_read
            && self.streamed.is_none()
            && let Ok(length) = usize::try_from(length)
            && self.conn.read.len() >= length
        {
            self.conn.read.drain(..length);
            self.body_read = true;
        }
        self.body_read
    }
}

impl<IO: ClientStream> Drop for Request<'_, IO> {
    /// However a request ends, also when its task is ended from outside: a client must not take half an answer for whole.
    fn drop(&mut self) {
        if self.out.would_look_whole() {
            self.conn.io.reset_on_drop();
        }
    }
}

impl<IO: ClientStream> Downstream for Request<'_, IO> {
    fn head(&self) -> &Rc<Head> {
        &self.head
    }

    fn entered(&self) -> &Entered {
        &self.conn.guest.entered
    }

    fn source(&self) -> Source {
        self.source
    }

    fn know(&self) {
        self.is_known.set(true);
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.conn.read.len() >= AHEAD_BYTES {
                // Of an upload it is the body, which nobody has asked for yet or which the upstream takes slowly.
                return if self.body_read { Poll::Ready(()) } else { Poll::Pending };
            }
            match self.conn.poll_read(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_silent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.silence.poll(&self.conn.watch, cx)
    }

    fn limit_silence(&mut self, limit: Option<Duration>) {
        self.silence = Silence::begin(limit, &self.conn.watch);
    }

    fn read_body(&mut self, limit: usize) -> impl Future<Output = Result<HeldBody, BodyError>> {
        self.read_whole(limit)
    }

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        limit: u64,
    ) -> Poll<Result<(usize, bool), BodyError>> {
        self.poll_piece(cx, scratch, limit)
    }

    /// What came along is passed over when the answer begins; what comes later stays with the client up to a bound.
    fn want_no_body(&mut self) {}

    fn begin(&mut self, head: &AnswerHead<'_>) {
        let is_kept = self.head.keep_alive && !self.gate.drain.has_begun();
        let keep_alive = is_kept && self.skip_body() && !self.conn.ended;
        let is_head = self.head.method() == "HEAD";
        let hsts = self.conn.guest.entered.hsts();
        self.out.begin(head, Shape { version: self.head.version, is_head, keep_alive, hsts });
        self.head = Rc::clone(&self.gate.no_head);
        if self.is_known.get() {
            self.limit_silence(Some(self.limits.idle));
        } else {
            self.conn.watch.rest(self.limits.head_time);
        }
    }

    fn offer(
        &mut self,
        cx: &mut Context<'_>,
        wire: &[u8],
        pieces: &[Range<usize>],
        end: bool,
    ) -> io::Result<()> {
        self.silence.moved(self.gate.sweep.now());
        self.out.offer(&mut self.conn.io, cx, wire, pieces, end)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let left = self.out.left();
        let polled = self.out.poll_flush(&mut self.conn.io, cx);
        if self.out.left() < left {
            self.silence.moved(self.gate.sweep.now());
        }
        if polled.is_ready() {
            return polled;
        }
        // Nothing else is waited for while the client takes nothing, so this is where a standing client is noticed.
        self.poll_silent(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn can_switch(&self) -> bool {
        self.head.version == Version::H11 && self.head.framing.is_empty()
    }

    fn switch(&mut self, protocol: &str, fields: &[(&str, &[u8])]) {
        let hsts = self.conn.guest.entered.hsts();
        self.out.switch(protocol, fields, hsts);
        self.head = Rc::clone(&self.gate.no_head);
        self.limit_silence(Some(self.limits.idle));
    }

    fn poll_switched(&mut self, cx: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        let ahead = self.conn.read.len();
        let polled = if ahead > 0 {
            into.append(&mut self.conn.read);
            self.conn.trim();
            Poll::Ready(Ok(ahead))
        } else {
            self.conn.poll_read_into(cx, |came| into.extend_from_slice(came))
        };
        if polled.is_ready() {
            self.silence.moved(self.gate.sweep.now());
        }
        polled
    }

    fn abort(&mut self) {
        self.aborted = true;
    }
}
