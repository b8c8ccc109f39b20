//! An answer: its head, and its body as it came over the wire, checked.
//!
//! The body's bytes are handed on as they are, chunk framing included, so that a chunked answer is forwarded without
//! writing it anew; where its data lies is told beside. Holds no read buffer: each read goes into the caller's scratch.
//! A connection goes back to the pool only after a clean end with nothing behind it; in doubt it is closed.

mod ahead;

use std::future::poll_fn;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use gate_h1::{Body, Framing, near, same_name};
use gate_types::UpstreamId;

use crate::client::{Shared, Upstream};
use crate::error::UpstreamError;
use crate::exchange::Begun;
use crate::socket::Socket;

/// Bytes of a body that may stay with the head when they have been handed on: fewer are not worth a copy.
const KEPT: usize = 1024;

/// The answer of an upstream. Dropping it before its end closes the connection at once.
pub struct Answer {
    shared: Rc<Shared>,
    id: UpstreamId,
    /// As it was when the request was sent; what came over its connections goes back to it.
    upstream: Rc<Upstream>,
    /// None once the body has ended or failed.
    socket: Option<Socket>,
    status: u16,
    framing: Framing,
    keep_alive: bool,
    body: Body,
    /// The head, and what came along with it.
    came: Box<[u8]>,
    /// Bytes of the head alone.
    head: usize,
    /// Bytes of `came` that were used or handed on.
    handed: usize,
}

/// The fields of an answer's head, which has passed gate-h1: every line ends in CRLF, none is folded, each but the first has a
/// colon.
pub(crate) fn fields(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
    let mut rest = head;
    let mut line = move || {
        let end = near(b'\n', rest)?;
        let line = &rest[..end];
        rest = &rest[end + 1..];
        Some(line)
    };
    let _status_line = line();
    std::iter::from_fn(line).filter_map(|line| {
        let colon = near(b':', line)?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}

/// What one poll of [`Answer::poll_wire`] gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wire {
    /// This many bytes of the scratch are the next bytes of the body, framing included.
    pub n: usize,
    /// The body has ended with them; `n` may be 0.
    pub end: bool,
}

impl Answer {
    pub(crate) fn new(
        shared: Rc<Shared>,
        id: UpstreamId,
        upstream: Rc<Upstream>,
        socket: Socket,
        begun: Begun,
    ) -> Self {
        let mut answer = Answer {
            body: Body::with_limits(begun.framing, &shared.h1),
            shared,
            id,
            upstream,
            socket: Some(socket),
            status: begun.status,
            framing: begun.framing,
            keep_alive: begun.keep_alive,
            came: begun.came,
            head: begun.head,
            handed: begun.head,
        };
        if answer.body.is_done() {
            let strays = answer.has_rest();
            answer.finish(strays);
        }
        answer
    }

    /// 200 to 599.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// How the end of the body is found; [`Framing::None`] for an answer to HEAD whatever its fields say.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// The upstream that answers.
    #[must_use]
    pub fn upstream(&self) -> UpstreamId {
        self.id
    }

    /// All fields as sent: name (a token, case kept) and value without the white space around it.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        fields(&self.came[..self.head])
    }

    /// The first value of that name, in any case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields().find(|(sent, _)| same_name(sent, name.as_bytes())).map(|(_, value)| value)
    }

    /// Reads once into `scratch` and checks the framing: `scratch[..n]` are the next bytes of the body as they came,
    /// `pieces` (cleared first) says where data lies in them. Behind the end it gives `n: 0, end: true` again.
    ///
    /// `scratch` must not be empty; between two polls nothing of it is needed.
    ///
    /// # Errors
    /// [`UpstreamError::ClosedMidBody`] or [`UpstreamError::Malformed`]; the connection is closed then.
    pub fn poll_wire(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        pieces: &mut Vec<Range<usize>>,
    ) -> Poll<Result<Wire, UpstreamError>> {
        pieces.clear();
        if self.body.is_done() {
            return Poll::Ready(Ok(Wire { n: 0, end: true }));
        }
        if scratch.is_empty() {
            let at = self.upstream.label();
            return Poll::Ready(Err(UpstreamError::Unsendable { at, what: "there is no room to read into" }));
        }
        if self.has_rest() {
            let n = self.hand_on(scratch);
            return Poll::Ready(self.check(&scratch[..n], pieces));
        }
        let Some(socket) = &mut self.socket else {
            return Poll::Ready(Err(self.closed(None)));
        };
        Poll::Ready(match ready!(socket.poll_read(cx, scratch)) {
            Ok(0) => self.end_of_stream(),
            Ok(n) => self.check(&scratch[..n], pieces),
            Err(cause) => Err(self.closed(Some(cause))),
        })
    }

    /// What is left of the chunk that is open behind the bytes handed on: data, and a line end. None between two chunks.
    #[must_use]
    pub fn open_chunk(&self) -> Option<u64> {
        self.body.open_chunk()
    }

    /// The whole body's data, for answers that must be short.
    ///
    /// # Errors
    /// [`UpstreamError::TooLarge`] above `max` bytes, and those of [`Answer::poll_wire`].
    pub async fn read_all(mut self, max: usize) -> Result<Vec<u8>, UpstreamError> {
        let mut data = Vec::new();
        let mut pieces = Vec::new();
        if let Framing::Length(length) = self.framing {
            match usize::try_from(length) {
                Ok(length) if length <= max => data.reserve_exact(length),
                _ => return Err(self.too_large(max)),
            }
        }
        poll_fn(|cx| {
            let shared = Rc::clone(&self.shared);
            let scratch = &mut *shared.scratch.borrow_mut();
            loop {
                let wire = ready!(self.poll_wire(cx, scratch, &mut pieces))?;
                for piece in &pieces {
                    if piece.len() > max - data.len() {
                        return Poll::Ready(Err(self.too_large(max)));
                    }
                    data.extend_from_slice(&scratch[piece.clone()]);
                }
                if wire.end {
                    return Poll::Ready(Ok(()));
                }
            }
        })
        .await?;
        Ok(data)
    }

    /// Whether something of the body came along with the head and has not been handed on.
    fn has_rest(&self) -> bool {
        self.handed < self.came.len()
    }

    /// Copies what is left of it into the scratch.
    fn hand_on(&mut self, scratch: &mut [u8]) -> usize {
        let left = &self.came[self.handed..];
        let n = left.len().min(scratch.len());
        scratch[..n].copy_from_slice(&left[..n]);
        self.handed += n;
        if !self.has_rest() && self.came.len() > self.head + KEPT {
            // A stream that goes on for minutes holds its head, and not the first of its body.
            self.came = self.came[..self.head].into();
            self.handed = self.head;
        }
        n
    }

    fn check(&mut self, bytes: &[u8], pieces: &mut Vec<Range<usize>>) -> Result<Wire, UpstreamError> {
        let mut used = 0;
        while used < bytes.len() {
            let step = match self.body.step(&bytes[used..]) {
                Ok(step) => step,
                Err(cause) => {
                    self.socket = None;
                    pieces.clear();
                    return Err(UpstreamError::Malformed { at: self.upstream.label(), cause });
                }
            };
            if !step.data.is_empty() {
                pieces.push(used + step.data.start..used + step.data.end);
            }
            used += step.used;
            if step.done {
                let strays = used < bytes.len() || self.has_rest();
                self.finish(strays);
                return Ok(Wire { n: used, end: true });
            }
        }
        Ok(Wire { n: used, end: false })
    }

    /// The body has ended: the connection goes back to the pool, or is closed.
    fn finish(&mut self, strays: bool) {
        self.handed = self.came.len();
        if let Some(socket) = self.socket.take()
            && self.keep_alive
            && !strays
        {
            self.upstream.put_back(socket);
        }
    }

    fn end_of_stream(&mut self) -> Result<Wire, UpstreamError> {
        self.socket = None;
        if self.body.end_of_input().is_ok() {
            return Ok(Wire { n: 0, end: true });
        }
        Err(self.closed(None))
    }

    fn closed(&mut self, cause: Option<std::io::Error>) -> UpstreamError {
        self.socket = None;
        UpstreamError::ClosedMidBody { at: self.upstream.label(), cause }
    }

    fn too_large(&mut self, limit: usize) -> UpstreamError {
        self.socket = None;
        UpstreamError::TooLarge { at: self.upstream.label(), limit }
    }
}
