//! One client's connection: bytes in, heads out, and its end.
//!
//! A parked connection holds its socket and a watch, no buffer: reads go through one scratch buffer per core. Every wait
//! in here has a limit. Knows nothing of what a request asks for.

use super::h2::{self, Preface};
use super::{ClientStream, Head};
use crate::crowd::Guest;
use crate::drain::Drain;
use crate::scratch;
use crate::sweep::Watch;
use gate_h1::{H1Error, HeadScan};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// How long a client that is answered and sent off may go on sending, so that it sees the answer and not a reset
/// (RFC 9112, section 9.6): this long between two pieces, this long in all, this much.
pub(super) const LINGER_PAUSE: Duration = Duration::from_secs(2);
pub(super) const LINGER_IN_ALL: Duration = Duration::from_secs(10);
pub(super) const LINGER_BYTES: usize = 256 << 20;

pub(super) struct Conn<IO> {
    pub(super) io: IO,
    pub(super) guest: Guest,
    /// Read and not yet used.
    pub(super) read: Vec<u8>,
    /// How far `read` was looked through for a head.
    scan: HeadScan,
    /// The client has closed its side.
    pub(super) ended: bool,
    pub(super) watch: Watch,
}

/// Which request of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    First,
    /// The first, whose time runs already.
    FirstInTime,
    Later,
}

pub(super) enum Next {
    Head(Rc<Head>),
    /// The client speaks HTTP/2; its preface has come.
    Http2,
    Closed,
    /// The gate is ending and the client asks for nothing more.
    Farewell,
    Refused(H1Error),
}

enum Filled {
    Head(Result<Rc<Head>, H1Error>),
    Some,
    Ended,
    Late,
}

impl<IO: ClientStream> Conn<IO> {
    pub(super) fn new(io: IO, guest: Guest) -> Self {
        let watch = guest.gate.sweep.watch();
        Self::watched(io, guest, watch)
    }

    /// One whose time has begun.
    pub(super) fn watched(io: IO, guest: Guest, watch: Watch) -> Self {
        Self { io, guest, read: Vec::new(), scan: HeadScan::default(), ended: false, watch }
    }

    /// Waits for the next request head. On a new connection its time runs from the beginning, later from the head's first
    /// byte, which may take as long as a connection may rest. Once the gate is ending, its last call is all the rest there is.
    pub(super) async fn next_head(&mut self, turn: Turn) -> Next {
        let is_first = turn != Turn::Later;
        let gate = Rc::clone(&self.guest.gate);
        let rules = gate.rules();
        let (limits, drain) = (&rules.limits, &gate.drain);
        self.trim();
        let mut begun = is_first;
        let mut is_told = false;
        match turn {
            Turn::FirstInTime => {}
            Turn::First => self.watch.rest(limits.head_time),
            Turn::Later => self.watch.rest(limits.keep_alive),
        }
        loop {
            if drain.has_begun() && !is_told {
                is_told = true;
                if self.read.is_empty() {
                    begun = false;
                    self.watch.rest(drain.last_call());
                }
            }
            let preface = if is_first { h2::preface(&self.read) } else { Preface::No };
            if preface == Preface::Whole {
                return Next::Http2;
            }
            if !self.read.is_empty() && preface == Preface::No {
                match Head::take(&mut self.read, &mut self.scan, &limits.framing) {
                    Ok(Some(head)) => return Next::Head(head),
                    Ok(None) => {}
                    Err(error) => return Next::Refused(error),
                }
                if !begun {
                    begun = true;
                    self.watch.rest_until(self.watch.now().plus(limits.head_time));
                }
            }
            match self.fill_or_drain(&limits.framing, is_first, drain, is_told).await {
                None | Some(Filled::Some) => {}
                Some(Filled::Head(Ok(head))) => return Next::Head(head),
                Some(Filled::Head(Err(error))) => return Next::Refused(error),
                Some(Filled::Late) if is_told && self.read.is_empty() => return Next::Farewell,
                Some(Filled::Ended | Filled::Late) => return Next::Closed,
            }
        }
    }

    /// Reads once, up to the limit of the watch; nothing when the gate begins to end, unless that `is_known`.
    async fn fill_or_drain(
        &mut self,
        limits: &gate_h1::Limits,
        is_first: bool,
        drain: &Drain,
        is_known: bool,
    ) -> Option<Filled> {
        poll_fn(|cx| match self.poll_fill(cx, limits, is_first) {
            Poll::Ready(filled) => Poll::Ready(Some(filled)),
            // The watch is what wakes this wait when the gate begins to end.
            Poll::Pending if drain.has_begun() && !is_known => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// One read, handed to `take` as it is.
    pub(super) fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<usize>> {
        poll_read(&mut self.io, &mut self.ended, cx, take)
    }

    /// Gives back the room of a large body: a connection that waits holds no more than what it has not used yet.
    pub(super) fn trim(&mut self) {
        if self.read.is_empty() {
            self.read = Vec::new();
        } else {
            self.read.shrink_to_fit();
        }
    }

    /// Reads once, up to the limit of the watch. A head that comes whole, as nearly all do, is read where it lies: what
    /// follows it is all that is copied into `self.read`.
    fn poll_fill(&mut self, cx: &mut Context<'_>, limits: &gate_h1::Limits, is_first: bool) -> Poll<Filled> {
        let Self { io, read, scan, ended, .. } = self;
        let mut head = None;
        let polled = poll_read(io, ended, cx, |came| {
            let mut used = 0;
            if read.is_empty() && !(is_first && h2::preface(came) != Preface::No) {
                match Head::read(came, scan, limits) {
                    Ok(Some((whole, length))) => {
                        used = length;
                        head = Some(Ok(whole));
                    }
                    Ok(None) => {}
                    Err(error) => head = Some(Err(error)),
                }
            }
            read.extend_from_slice(&came[used..]);
        });
        match (polled, head) {
            (Poll::Ready(_), Some(head)) => Poll::Ready(Filled::Head(head)),
            (Poll::Ready(Ok(0) | Err(_)), None) => Poll::Ready(Filled::Ended),
            (Poll::Ready(Ok(_)), None) => Poll::Ready(Filled::Some),
            (Poll::Pending, _) => self.watch.poll_late(cx).map(|()| Filled::Late),
        }
    }

    /// One read; what came is appended to `self.read`.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Self { io, read, ended, .. } = self;
        poll_read(io, ended, cx, |came| read.extend_from_slice(came))
    }

    /// Writes a few bytes outside of any answer. False: the client left or did not take them within the limit of the watch.
    pub(super) async fn say(&mut self, bytes: &[u8]) -> bool {
        let mut left = bytes;
        poll_fn(|cx| {
            loop {
                let polled = if left.is_empty() {
                    Pin::new(&mut self.io).poll_flush(cx).map_ok(|()| 0)
                } else {
                    Pin::new(&mut self.io).poll_write(cx, left)
                };
                match polled {
                    Poll::Ready(Ok(0)) => return Poll::Ready(left.is_empty()),
                    Poll::Ready(Ok(taken)) => left = &left[taken..],
                    Poll::Ready(Err(_closed)) => return Poll::Ready(false),
                    Poll::Pending => return self.watch.poll_late(cx).map(|()| false),
                }
            }
        })
        .await
    }

    /// Closes our side and reads on for a while, so that a client that is still sending sees the answer; not where others
    /// need the room.
    pub(super) async fn linger(&mut self) {
        self.read = Vec::new();
        self.watch.rest(LINGER_PAUSE);
        let shut = poll_fn(|cx| match Pin::new(&mut self.io).poll_shutdown(cx) {
            Poll::Ready(shut) => Poll::Ready(shut.is_ok()),
            Poll::Pending => self.watch.poll_late(cx).map(|()| false),
        });
        if !shut.await {
            return;
        }
        let end = self.watch.now().plus(LINGER_IN_ALL);
        let mut total = 0;
        while total < LINGER_BYTES {
            let now = self.watch.now();
            if now >= end {
                return;
            }
            self.watch.rest_until(end.min(now.plus(LINGER_PAUSE)));
            match self.pass_over().await {
                0 => return,
                came => total += came,
            }
        }
    }

    /// Reads once and forgets what came; 0 at the end or when it is late.
    async fn pass_over(&mut self) -> usize {
        let Self { io, ended, watch, .. } = self;
        poll_fn(|cx| match watch.poll_late(cx) {
            Poll::Ready(()) => Poll::Ready(0),
            Poll::Pending => poll_read(io, ended, cx, |_| {}).map(|came| came.unwrap_or(0)),
        })
        .await
    }
}

/// One read into the core's scratch buffer, handed to `take`.
fn poll_read<IO: ClientStream>(
    io: &mut IO,
    ended: &mut bool,
    cx: &mut Context<'_>,
    take: impl FnOnce(&[u8]),
) -> Poll<io::Result<usize>> {
    if *ended {
        return Poll::Ready(Ok(0));
    }
    scratch::with(|scratch| {
        let mut buf = tokio::io::ReadBuf::new(scratch);
        match Pin::new(io).poll_read(cx, &mut buf) {
            Poll::Ready(Ok(())) => {
                let came = buf.filled();
                *ended = came.is_empty();
                take(came);
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
