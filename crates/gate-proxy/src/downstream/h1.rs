//! HTTP/1.1 towards clients: one async function per connection, one request after the other.
//!
//! This file must never decide anything about a request but its framing, and what becomes of the connection.

use super::conn::{Conn, Next};
use super::pace::Pace;
use super::silence::Silence;
use super::write::{Outgoing, Shape};
use super::{AnswerHead, BodyError, ClientStream, Downstream, Head, h2};
use crate::crowd::Guest;
use crate::gate::Gate;
use crate::held::{HeldBody, NoRoom};
use crate::rules::Limits;
use crate::{path, trace};
use gate_h1::{Body, Framing, H1Error, Version, encode};
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// How many bytes of a next request are kept while one is answered. A client that sends more before it has its answer is
/// cut off: it could not be watched any more, and its leaving would not stop the model.
const AHEAD_BYTES: usize = 64 * 1024;

/// Serves the connection of a client until either side ends it.
///
/// What is rare or lasts for one request only is boxed, and the connection is built outside of the future that keeps it: a
/// parked connection holds room for nothing but its own state, once.
pub fn serve_connection<IO: ClientStream>(guest: Guest, io: IO) -> impl Future<Output = ()> {
    let mut conn = Conn::new(io, guest);
    async move {
        let mut is_first = true;
        loop {
            let after = match conn.next_head(is_first).await {
                Next::Head(head) => Box::pin(answer(&mut conn, head)).await,
                Next::Refused(error) => Box::pin(refuse(&mut conn, error)).await,
                Next::Http2 => return Box::pin(h2::serve(conn)).await,
                Next::Farewell => After::Linger,
                Next::Closed => After::Cut,
            };
            is_first = false;
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
    let gate = Rc::clone(&conn.guest.gate);
    let answer = trace::unreadable(&gate, conn.guest.peer, error, |head, body| {
        let mut out = Outgoing::new();
        out.begin(head, Shape { version: Version::H11, is_head: false, keep_alive: false });
        let mut answer = out.into_bytes();
        answer.extend_from_slice(body.as_bytes());
        answer
    });
    conn.watch.rest(gate.rules().limits.head_time);
    let is_told = conn.say(&answer).await;
    if is_told { After::Linger } else { After::Cut }
}

/// What becomes of the connection after a request.
enum After {
    Again,
    Linger,
    Cut,
}

/// A body that is taken piece by piece.
struct Streamed {
    framing: Body,
    /// What is left to say of `100 Continue`; none once it has left.
    asking: Option<&'static [u8]>,
    given: u64,
    pace: Pace,
}

/// One request on a connection.
struct Request<'c, IO: ClientStream> {
    gate: &'c Gate,
    limits: &'c Limits,
    conn: &'c mut Conn<IO>,
    head: Rc<Head>,
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
            conn,
            body_read: head.framing.is_empty(),
            streamed: None,
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

    /// Takes a body of so many bytes, all of which are there.
    fn take_body(&mut self, length: usize) -> Result<HeldBody, NoRoom> {
        // Also where it finds no room: what is left there is the next request.
        self.body_read = true;
        let came = &mut self.conn.read;
        let next = if came.len() > length { came.split_off(length) } else { Vec::new() };
        HeldBody::of(std::mem::replace(came, next), &self.gate.allowance, self.limits.held)
    }

    /// Asks for the body where the client waits for that.
    async fn ask_for_body(&mut self) -> Result<(), BodyError> {
        if !self.head.expect_continue || !self.conn.read.is_empty() {
            return Ok(());
        }
        self.conn.watch.set(Some(self.limits.head_time));
        let asked = self.conn.say(encode::CONTINUE).await;
        if asked { Ok(()) } else { Err(BodyError::Gone) }
    }

    async fn read_length(&mut self, length: usize) -> Result<HeldBody, BodyError> {
        self.ask_for_body().await?;
        let bound = self.limits.held;
        let mut body = HeldBody::of(std::mem::take(&mut self.conn.read), &self.gate.allowance, bound)?;
        let mut pace = self.pace();
        while body.len() < length {
            let mut pushed = Ok(());
            let next = &mut Vec::new();
            self.fill_body(&mut pace, |came| {
                let (ours, behind) = came.split_at(came.len().min(length - body.len()));
                pushed = body.push(ours, length, bound);
                next.extend_from_slice(behind);
            })
            .await?;
            pushed?;
            self.conn.read.append(next);
        }
        Ok(body)
    }

    async fn read_chunked(&mut self, limit: usize) -> Result<HeldBody, BodyError> {
        self.ask_for_body().await?;
        let mut framing = Body::with_limits(Framing::Chunked, &self.limits.framing);
        let bound = self.limits.held;
        let mut body = HeldBody::of(Vec::new(), &self.gate.allowance, bound)?;
        let mut pace = self.pace();
        loop {
            let mut used = 0;
            while used < self.conn.read.len() && !framing.is_done() {
                let input = &self.conn.read[used..];
                let step = framing.step(input).map_err(BodyError::Malformed)?;
                if step.data.len() > limit - body.len() {
                    return Err(BodyError::TooLarge(limit as u64));
                }
                body.push(&input[step.data], limit, bound)?;
                used += step.used;
            }
            self.conn.read.drain(..used);
            if framing.is_done() {
                return Ok(body);
            }
            let mut came = std::mem::take(&mut self.conn.read);
            self.fill_body(&mut pace, |more| came.extend_from_slice(more)).await?;
            self.conn.read = came;
        }
    }

    fn pace(&self) -> Pace {
        Pace::new(self.limits.body_rate, self.limits.head_time, self.gate.sweep.now())
    }

    /// Asks a client that waits to be asked for its body. Ready with false when it left.
    fn poll_ask(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(streamed) = &mut self.streamed else { return Poll::Ready(true) };
        while let Some(left) = streamed.asking {
            let io = Pin::new(&mut self.conn.io);
            if left.is_empty() {
                if ready!(io.poll_flush(cx)).is_err() {
                    return Poll::Ready(false);
                }
                streamed.asking = None;
                break;
            }
            match ready!(io.poll_write(cx, left)) {
                Ok(0) | Err(_) => return Poll::Ready(false),
                Ok(taken) => streamed.asking = Some(&left[taken..]),
            }
        }
        Poll::Ready(true)
    }

    /// Data of the streamed body among what has been read already; none where more must be read.
    fn next_piece(&mut self, scratch: &mut [u8], limit: u64) -> Result<Option<(usize, bool)>, BodyError> {
        let Some(streamed) = &mut self.streamed else { return Ok(Some((0, true))) };
        let mut used = 0;
        let mut piece = None;
        while piece.is_none() && used < self.conn.read.len() && !streamed.framing.is_done() {
            let end = self.conn.read.len().min(used + scratch.len());
            let input = &self.conn.read[used..end];
            let step = streamed.framing.step(input).map_err(BodyError::Malformed)?;
            let data = &input[step.data];
            scratch[..data.len()].copy_from_slice(data);
            streamed.given += data.len() as u64;
            used += step.used;
            piece = (!data.is_empty()).then_some(data.len());
        }
        self.conn.read.drain(..used);
        if streamed.given > limit {
            return Err(BodyError::TooLarge(limit));
        }
        let done = streamed.framing.is_done();
        self.body_read = done;
        Ok(if done { Some((piece.unwrap_or(0), true)) } else { piece.map(|n| (n, false)) })
    }

    /// Whether the client is late with the next piece of a streamed body.
    fn poll_body_late<T>(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, BodyError>> {
        if let Some(streamed) = &mut self.streamed {
            streamed.pace.resume(self.gate.sweep.now());
            self.conn.watch.set_until(streamed.pace.deadline());
        }
        self.conn.watch.poll_late(cx).map(|()| Err(BodyError::TooSlow))
    }

    /// Reads once, for as long as the body's pace allows.
    async fn fill_body(&mut self, pace: &mut Pace, mut take: impl FnMut(&[u8])) -> Result<(), BodyError> {
        let conn = &mut *self.conn;
        conn.watch.set_until(pace.deadline());
        let filled = poll_fn(|cx| match conn.poll_read_into(cx, &mut take) {
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(BodyError::Gone)),
            Poll::Ready(Ok(came)) => Poll::Ready(Ok(came)),
            Poll::Pending => conn.watch.poll_late(cx).map(|()| Err(BodyError::TooSlow)),
        });
        let came = filled.await?;
        pace.came(came, self.gate.sweep.now());
        Ok(())
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

    fn peer(&self) -> IpAddr {
        self.conn.guest.peer
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

    async fn read_body(&mut self, limit: usize) -> Result<HeldBody, BodyError> {
        if self.body_read {
            return Ok(HeldBody::default());
        }
        let body = match self.head.framing {
            Framing::None | Framing::UntilClose => HeldBody::default(),
            Framing::Length(length) if length > limit as u64 => {
                return Err(BodyError::TooLarge(limit as u64));
            }
            // Compared with the limit above, which is a usize.
            Framing::Length(length) => match usize::try_from(length).unwrap_or(limit) {
                // Nearly every body comes along with its head.
                length if self.conn.read.len() >= length => self.take_body(length)?,
                length => Box::pin(self.read_length(length)).await?,
            },
            Framing::Chunked => Box::pin(self.read_chunked(limit)).await?,
        };
        self.body_read = true;
        self.conn.trim();
        Ok(body)
    }

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        limit: u64,
    ) -> Poll<Result<(usize, bool), BodyError>> {
        if self.streamed.is_none() && !self.body_read {
            let waits = self.head.expect_continue && self.conn.read.is_empty();
            self.streamed = Some(Box::new(Streamed {
                framing: Body::with_limits(self.head.framing, &self.limits.framing),
                asking: waits.then_some(encode::CONTINUE),
                given: 0,
                pace: self.pace(),
            }));
        }
        loop {
            match self.next_piece(scratch, limit) {
                Ok(None) => {}
                Ok(Some(piece)) => {
                    // From here on the upstream is waited for, not the client.
                    if let Some(streamed) = &mut self.streamed {
                        streamed.pace.pause(self.gate.sweep.now());
                    }
                    self.limit_silence(Some(self.limits.idle));
                    return Poll::Ready(Ok(piece));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
            match self.poll_ask(cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(Err(BodyError::Gone)),
                Poll::Pending => return self.poll_body_late(cx),
            }
            match self.conn.poll_read(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(BodyError::Gone)),
                Poll::Ready(Ok(came)) => {
                    if let Some(streamed) = &mut self.streamed {
                        streamed.pace.came(came, self.gate.sweep.now());
                    }
                }
                Poll::Pending => return self.poll_body_late(cx),
            }
        }
    }

    /// What came along is passed over when the answer begins; what comes later stays with the client up to a bound.
    fn want_no_body(&mut self) {}

    fn begin(&mut self, head: &AnswerHead<'_>) {
        let is_kept = self.head.keep_alive && !self.gate.drain.has_begun();
        let keep_alive = is_kept && self.skip_body() && !self.conn.ended;
        let is_head = self.head.method() == "HEAD";
        self.out.begin(head, Shape { version: self.head.version, is_head, keep_alive });
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

    fn abort(&mut self) {
        self.aborted = true;
    }
}
