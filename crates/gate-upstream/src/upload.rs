//! A request body that streams: gigabytes of a blob pass through one buffer, from its source to the upstream.
//!
//! Stands where `exchange` stands for whole bodies. A piece is asked for only when the last one has left, so the slower
//! side sets the pace; the read side is watched all the while, because a blob may be there already (200) or unwanted
//! (400, 413). Never sends a body twice, and never ends one whose source failed or disagrees with what it announced: the
//! connection is closed instead, which every server takes for a request cut short.

use std::future::poll_fn;
use std::io;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use gate_h1::encode;

use crate::access::Access;
use crate::client::Shared;
use crate::endpoint::Endpoint;
use crate::error::UpstreamError;
use crate::exchange::{Begun, Reading};
use crate::request::{self, Ask};
use crate::socket::{Sending, Socket};

/// Bytes of the one buffer that an upload has.
const PIECE: usize = 64 << 10;
/// Room behind the data for what ends a chunk and the body.
const TAIL: usize = encode::CHUNK_END.len() + encode::LAST_CHUNK.len();
/// After so many moves the read side gets its turn, even if source and upstream never make the other wait. Far below
/// tokio's budget of 128 for one poll: a read without budget would look like silence.
const MOVES_A_POLL: u32 = 32;

/// How the body of an upload is announced to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadFraming {
    /// Exactly so many bytes, with `Content-Length`. Of 0 the source is never asked for a piece.
    Length(u64),
    /// As many as come, with `Transfer-Encoding: chunked` (RFC 9112, section 7.1). Each piece becomes one chunk.
    Chunked,
}

/// Where the body of an upload comes from: polled for one piece after the other, as the upstream takes them.
///
/// Why a source failed it keeps to itself, for its owner to ask.
pub trait BodySource {
    /// The next bytes of the body, without any framing: `scratch[..n]`, where `scratch` is never empty. Not called again
    /// once it gave the end or [`SourceGone`]. While it is pending it must notice by itself when the source leaves.
    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<Result<SourcePiece, SourceGone>>;

    /// Ready when the source has left. Called while no piece is wanted: the connection is being opened, the upstream
    /// takes nothing, or the body is out and the answer awaited.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<SourceGone>;
}

/// What one [`BodySource::poll_piece`] gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourcePiece {
    /// This many bytes of the scratch.
    pub n: usize,
    /// The body has ended with them; `n` may be 0.
    pub end: bool,
}

/// The source of an upload has left or failed, or its owner wants the upload to end: nothing more will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceGone;

/// An upload under way. Holds one buffer, until its body is out.
pub(crate) struct Upload<'a> {
    endpoint: &'a Endpoint,
    source: &'a mut dyn BodySource,
    framing: UploadFraming,
    /// Bytes that the source gave so far.
    given: u64,
    /// The request's head, or the line before a chunk's data.
    front: Vec<u8>,
    /// A piece of data and what ends it, behind `front`.
    buffer: Box<[u8]>,
    /// Bytes used of `buffer`.
    filled: usize,
    /// Bytes written of `front` and `buffer`.
    sent: usize,
    /// The source has given its end.
    ended: bool,
    stage: Stage,
    broken: Option<io::Error>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Waits for the source's next piece.
    Taking,
    /// The announced length is in the buffer. It goes out only once the source says that this is its end.
    Confirming,
    Writing,
    Flushing,
    Done,
    /// No error yet: the answer that explains it may be there to be read.
    Broken,
}

impl<'a> Upload<'a> {
    /// Writes the head; nothing is sent or taken yet.
    pub(crate) fn new(
        endpoint: &'a Endpoint,
        access: &Access,
        ask: &Ask<'_>,
        framing: UploadFraming,
        source: &'a mut dyn BodySource,
    ) -> Result<Self, UpstreamError> {
        let mut front = Vec::new();
        request::write_upload_head(&mut front, endpoint, access, ask, framing)
            .map_err(|what| UpstreamError::Unsendable { at: Arc::clone(endpoint.label()), what })?;
        // No body at all: there is nothing to ask the source for.
        let ended = framing == UploadFraming::Length(0);
        Ok(Upload {
            endpoint,
            source,
            framing,
            given: 0,
            front,
            buffer: Box::default(),
            filled: 0,
            sent: 0,
            ended,
            stage: if ended { Stage::Writing } else { Stage::Taking },
            broken: None,
        })
    }

    /// Waits for `opening`, the upload's connection, unless the source leaves first.
    pub(crate) async fn opened(
        &mut self,
        opening: impl Future<Output = Result<Socket, UpstreamError>>,
    ) -> Result<Socket, UpstreamError> {
        let mut opening = pin!(opening);
        poll_fn(|cx| {
            self.watch(cx)?;
            opening.as_mut().poll(cx)
        })
        .await
    }

    /// Sends head and body over a fresh connection, and reads up to the end of the answer's head. An answer that is
    /// there before the body has left ends the upload.
    pub(crate) async fn begin(
        &mut self,
        socket: &mut Socket,
        shared: &Shared,
    ) -> Result<Begun, UpstreamError> {
        self.buffer = vec![0; PIECE + TAIL].into_boxed_slice();
        let mut reading = Reading::default();
        let mut on = Sending::on(socket);
        poll_fn(|cx| {
            self.poll(cx, on.socket)?;
            on.is_whole = self.stage == Stage::Done;
            Poll::Ready(match ready!(reading.poll(cx, on.socket, shared, false)) {
                Ok(mut begun) => {
                    // Whatever of the body is unsent would be read as the next request.
                    begun.keep_alive &= self.stage == Stage::Done;
                    Ok(begun)
                }
                Err(unread) => Err(reading.failed(unread, self.endpoint, self.broken.take())),
            })
        })
        .await
    }

    /// Moves what can be moved from the source to the socket, up to a bound.
    fn poll(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> Result<(), UpstreamError> {
        for _ in 0..MOVES_A_POLL {
            if self.poll_move(cx, socket)?.is_pending() {
                return Ok(());
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// One step; pending when there is none to make now.
    fn poll_move(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> Result<Poll<()>, UpstreamError> {
        let polled = match self.stage {
            Stage::Taking | Stage::Confirming => {
                if self.poll_take(cx)?.is_ready() {
                    return Ok(Poll::Ready(()));
                }
                // The head, and what TLS holds back, must not wait for the source.
                if let Poll::Ready(Err(error)) = self.poll_out(cx, socket) {
                    self.fail(error);
                }
                return Ok(Poll::Pending);
            }
            Stage::Writing => self.poll_write(cx, socket, self.filled),
            Stage::Flushing => socket.poll_flush(cx),
            Stage::Done | Stage::Broken => Poll::Pending,
        };
        match polled {
            Poll::Ready(Ok(())) => self.advance(),
            Poll::Ready(Err(error)) => self.fail(error),
            Poll::Pending => {
                self.watch(cx)?;
                return Ok(Poll::Pending);
            }
        }
        Ok(Poll::Ready(()))
    }

    /// Takes the source's next piece, and frames it.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        let mut one = [0];
        let room = if self.stage == Stage::Confirming { &mut one[..] } else { &mut self.buffer[..PIECE] };
        let most = room.len();
        let Ok(piece) = ready!(self.source.poll_piece(cx, room)) else {
            return Poll::Ready(Err(self.gone()));
        };
        if piece.n > most {
            let what = "the source claims more than there was room for";
            return Poll::Ready(Err(UpstreamError::Unsendable {
                at: Arc::clone(self.endpoint.label()),
                what,
            }));
        }
        self.given += piece.n as u64;
        self.ended = piece.end;
        self.stage = Stage::Writing;
        match self.framing {
            UploadFraming::Length(length) => {
                if self.given > length || (piece.end && self.given < length) {
                    let (at, given) = (Arc::clone(self.endpoint.label()), self.given);
                    return Poll::Ready(Err(UpstreamError::SourceLength { at, announced: length, given }));
                }
                self.filled += piece.n;
                if self.given == length && !piece.end {
                    self.stage = Stage::Confirming;
                }
            }
            UploadFraming::Chunked => {
                self.filled = piece.n;
                if let Some(n) = NonZeroUsize::new(piece.n) {
                    encode::chunk_head(&mut self.front, n);
                    self.append(encode::CHUNK_END);
                }
                if piece.end {
                    self.append(encode::LAST_CHUNK);
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn append(&mut self, bytes: &[u8]) {
        self.buffer[self.filled..][..bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
    }

    /// Writes what is unsent of `front` and of the first `filled` bytes of the buffer.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        filled: usize,
    ) -> Poll<io::Result<()>> {
        loop {
            let front = self.front.get(self.sent..).unwrap_or_default();
            let data =
                self.buffer.get(self.sent.saturating_sub(self.front.len())..filled).unwrap_or_default();
            if front.is_empty() && data.is_empty() {
                return Poll::Ready(Ok(()));
            }
            match ready!(socket.poll_write(cx, front, data))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
    }

    /// Pushes out everything but the data in the buffer.
    fn poll_out(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> Poll<io::Result<()>> {
        ready!(self.poll_write(cx, socket, 0))?;
        socket.poll_flush(cx)
    }

    /// A piece has been written, or all has been flushed.
    fn advance(&mut self) {
        self.front.clear();
        (self.filled, self.sent) = (0, 0);
        self.stage = match self.stage {
            Stage::Writing if self.ended => Stage::Flushing,
            Stage::Flushing => {
                self.buffer = Box::default();
                Stage::Done
            }
            Stage::Taking | Stage::Confirming | Stage::Writing | Stage::Done | Stage::Broken => Stage::Taking,
        };
    }

    fn fail(&mut self, error: io::Error) {
        self.buffer = Box::default();
        self.stage = Stage::Broken;
        self.broken = Some(error);
    }

    fn watch(&mut self, cx: &mut Context<'_>) -> Result<(), UpstreamError> {
        if self.source.poll_gone(cx).is_ready() { Err(self.gone()) } else { Ok(()) }
    }

    fn gone(&self) -> UpstreamError {
        UpstreamError::SourceGone { at: Arc::clone(self.endpoint.label()) }
    }
}
