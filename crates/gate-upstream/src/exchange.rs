//! One request with a whole body on one connection, until the head of its answer is there; `upload` is its twin for
//! bodies that stream.
//!
//! Head and body go out in one write, what is beyond a quarter of a megabyte in turns; while a large body is still going out the read side is watched, because a server
//! may answer early (400, 413) and close. While it waits it holds no buffer: it reads into the client's scratch and
//! keeps bytes only of a head that came in pieces. It never decides about another try; that is the client's.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use gate_h1::{Framing, HeadScan, Parsed};
use tokio::task::yield_now;

use crate::client::{Shared, Upstream};
use crate::endpoint::Endpoint;
use crate::error::UpstreamError;
use crate::request::{self, Ask};
use crate::socket::{self, Socket};

/// Bytes of a body that one turn gives the kernel. It takes four megabytes at once where its buffers allow, some milliseconds
/// in which nobody's hang-up is seen and nobody else's token moves.
const TURN: usize = 256 << 10;
/// Up to this size a body is copied behind its head: cheaper than a gathering write.
const COPIED_BODY: usize = 4 << 10;
/// More interim answers than this are no answer. Ollama sends at most one `100 Continue`.
const MOST_INTERIM: u32 = 16;
/// A request buffer that grew above this is not kept for the next request.
const SPARE_BUFFER: usize = 64 << 10;

/// The head of a final answer.
pub(crate) struct Begun {
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    /// The connection may be used again once the body has ended.
    pub(crate) keep_alive: bool,
    /// The head's bytes, empty line included, and behind them those of the body (or strays) that came along.
    pub(crate) came: Box<[u8]>,
    /// Bytes of the head alone.
    pub(crate) head: usize,
}

/// Sends `ask` and reads up to the end of the answer's head: with a `protocol`, one that says that it is spoken from then on, too.
pub(crate) async fn begin(
    shared: &Shared,
    upstream: &Upstream,
    socket: &mut Socket,
    ask: &Ask<'_>,
    protocol: Option<&str>,
) -> Result<Begun, UpstreamError> {
    let endpoint = &upstream.endpoint;
    let mut sending = Sending::new(shared, upstream, ask, protocol)?;
    let mut reading = Reading { may_switch: protocol.is_some(), ..Reading::default() };
    let mut on = socket::Sending::on(socket);
    poll_fn(|cx| {
        sending.poll(cx, on.socket, shared);
        on.is_whole = sending.is_done();
        let polled = reading.poll(cx, on.socket, shared, ask.method == "HEAD");
        Poll::Ready(match ready!(polled) {
            Ok(mut begun) => {
                // Whatever of the request is unsent would be read as the next one.
                begun.keep_alive &= sending.is_done();
                Ok(begun)
            }
            Err(unread) => Err(reading.failed(unread, endpoint, sending.broken.take())),
        })
    })
    .await
}

/// The request on its way out.
struct Sending<'a> {
    /// The head, and a small body behind it. Given back as soon as all is written.
    front: Vec<u8>,
    /// What of the body is not in `front`.
    body: &'a [u8],
    /// Bytes written of both.
    sent: usize,
    stage: Stage,
    broken: Option<io::Error>,
}

#[derive(PartialEq, Eq)]
enum Stage {
    Writing,
    Flushing,
    Done,
    Broken,
}

impl<'a> Sending<'a> {
    fn new(
        shared: &Shared,
        upstream: &Upstream,
        ask: &Ask<'a>,
        protocol: Option<&str>,
    ) -> Result<Self, UpstreamError> {
        let Upstream { endpoint, access, .. } = upstream;
        let mut front = shared.spare.take();
        front.clear();
        let written = match protocol {
            None => request::write_head(&mut front, endpoint, access, ask),
            Some(protocol) => request::write_switch_head(&mut front, endpoint, access, ask, protocol),
        };
        written.map_err(|what| UpstreamError::Unsendable { at: Arc::clone(endpoint.label()), what })?;
        let mut body = ask.body;
        if body.len() <= COPIED_BODY {
            front.extend_from_slice(body);
            body = &[];
        }
        Ok(Sending { front, body, sent: 0, stage: Stage::Writing, broken: None })
    }

    /// Writes as much as the socket takes, in turns. A broken write is no error yet: the answer that explains it may be there
    /// to be read.
    fn poll(&mut self, cx: &mut Context<'_>, socket: &mut Socket, shared: &Shared) {
        let turn = self.sent + TURN;
        loop {
            match self.stage {
                Stage::Writing => {
                    let front = self.front.get(self.sent..).unwrap_or_default();
                    let body = &self.body[self.sent.saturating_sub(self.front.len())..];
                    if front.is_empty() && body.is_empty() {
                        self.stage = Stage::Flushing;
                        continue;
                    }
                    if self.sent >= turn {
                        // Comes back when the runtime has looked at its sockets, the client's among them.
                        let _never_at_once = pin!(yield_now()).poll(cx);
                        return;
                    }
                    let body = &body[..body.len().min(TURN)];
                    match socket.poll_write(cx, front, body) {
                        Poll::Pending => return,
                        Poll::Ready(Ok(0)) => self.fail(io::ErrorKind::WriteZero.into()),
                        Poll::Ready(Ok(written)) => self.sent += written,
                        Poll::Ready(Err(error)) => self.fail(error),
                    }
                }
                Stage::Flushing => match socket.poll_flush(cx) {
                    Poll::Pending => return,
                    Poll::Ready(Ok(())) => {
                        self.stage = Stage::Done;
                        let front = std::mem::take(&mut self.front);
                        if front.capacity() <= SPARE_BUFFER {
                            shared.spare.replace(front);
                        }
                    }
                    Poll::Ready(Err(error)) => self.fail(error),
                },
                Stage::Done | Stage::Broken => return,
            }
        }
    }

    fn fail(&mut self, error: io::Error) {
        self.stage = Stage::Broken;
        self.broken = Some(error);
    }

    fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }
}

/// The answer's head on its way in.
#[derive(Default)]
pub(crate) struct Reading {
    scan: HeadScan,
    /// A head that came in pieces, so far. No allocation where it came whole.
    came: Vec<u8>,
    interim: u32,
    any: bool,
    /// Whether `101` may be the answer.
    may_switch: bool,
}

/// Why there is no head.
pub(crate) enum Unread {
    Closed(Option<io::Error>),
    Malformed(gate_h1::H1Error),
    Unasked(&'static str),
}

impl From<gate_h1::H1Error> for Unread {
    fn from(cause: gate_h1::H1Error) -> Self {
        Unread::Malformed(cause)
    }
}

/// What was found in the bytes so far.
enum Found {
    /// A final head.
    Begun(Begun),
    /// Not yet; bytes before this place are done with.
    From(usize),
}

impl Reading {
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        shared: &Shared,
        to_head: bool,
    ) -> Poll<Result<Begun, Unread>> {
        let scratch = &mut *shared.scratch.borrow_mut();
        loop {
            let read = match ready!(socket.poll_read(cx, scratch)) {
                Ok(0) => return Poll::Ready(Err(Unread::Closed(None))),
                Ok(read) => &scratch[..read],
                Err(error) => return Poll::Ready(Err(Unread::Closed(Some(error)))),
            };
            self.any = true;
            if let Some(begun) = self.take_in(read, shared, to_head)? {
                return Poll::Ready(Ok(begun));
            }
        }
    }

    fn take_in(&mut self, read: &[u8], shared: &Shared, to_head: bool) -> Result<Option<Begun>, Unread> {
        // Nearly every head comes whole, and is parsed where it lies.
        if self.came.is_empty() {
            return Ok(match self.find(read, shared, to_head)? {
                Found::Begun(begun) => Some(begun),
                Found::From(place) => {
                    self.came = read[place..].to_vec();
                    None
                }
            });
        }
        let mut came = std::mem::take(&mut self.came);
        came.extend_from_slice(read);
        Ok(match self.find(&came, shared, to_head)? {
            Found::Begun(begun) => Some(begun),
            Found::From(place) => {
                came.drain(..place);
                self.came = came;
                None
            }
        })
    }

    /// The final head, interim ones (RFC 9110, section 15.2) skipped.
    fn find(&mut self, bytes: &[u8], shared: &Shared, to_head: bool) -> Result<Found, Unread> {
        let mut place = 0;
        loop {
            match self.scan.response(&bytes[place..], &shared.h1, to_head)? {
                Parsed::Partial => return Ok(Found::From(place)),
                Parsed::Done(head, _) if head.status == 101 && !self.may_switch => {
                    return Err(Unread::Unasked("101 Switching Protocols, which nobody had asked for"));
                }
                Parsed::Done(head, used) if head.status >= 200 || head.status == 101 => {
                    return Ok(Found::Begun(Begun {
                        status: head.status,
                        framing: head.framing,
                        keep_alive: head.keep_alive,
                        came: bytes[place..].into(),
                        head: used,
                    }));
                }
                Parsed::Done(_, used) => {
                    place += used;
                    self.interim += 1;
                    if self.interim > MOST_INTERIM {
                        return Err(Unread::Unasked("one interim answer after the other"));
                    }
                }
            }
        }
    }
    /// The error for it; `broken` is what the writing side met.
    pub(crate) fn failed(
        &self,
        unread: Unread,
        endpoint: &Endpoint,
        broken: Option<io::Error>,
    ) -> UpstreamError {
        let at = Arc::clone(endpoint.label());
        match unread {
            Unread::Closed(cause) if self.any => UpstreamError::ClosedMidHead { at, cause: broken.or(cause) },
            Unread::Closed(cause) => UpstreamError::ClosedEarly { at, cause: broken.or(cause) },
            Unread::Malformed(cause) => UpstreamError::Malformed { at, cause },
            Unread::Unasked(what) => UpstreamError::Unasked { at, what },
        }
    }
}
