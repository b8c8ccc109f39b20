//! The client side of a request, behind one trait with static dispatch: HTTP/1.1 is our own (`h1.rs`), HTTP/2 a
//! library's (`h2/`).
//!
//! The path asks for a head, a body and places to put an answer; what the bytes on the wire look like is decided here.

mod conn;
mod date;
pub(crate) mod entry;
pub(crate) mod h1;
mod h2;
mod head;
mod pace;
mod race;
mod seats;
mod silence;
mod stream;
pub(crate) mod tls;
mod write;

pub(crate) use head::Head;
pub(crate) use race::{Cut, race};
pub(crate) use seats::Seats;
pub use stream::ClientStream;

use crate::entrance::{Entered, Source};
use crate::held::{HeldBody, NoRoom};
use gate_h1::Framing;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Context, Poll};

/// The field that tells browsers to stay with TLS (RFC 6797).
const HSTS: &str = "strict-transport-security";

/// The head of an answer, before a protocol gives it its form.
#[derive(Debug)]
pub(crate) struct AnswerHead<'a> {
    /// Status code, 200 to 599.
    pub(crate) status: u16,
    /// Fields in order, without those of framing and connection.
    pub(crate) fields: &'a [(&'a str, &'a [u8])],
    /// How the body will be handed over: [`Framing::Chunked`] bodies come as wire bytes with chunk framing in them.
    pub(crate) framing: Framing,
}

/// Why a request body could not be read.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// The client left.
    Gone,
    /// Longer than the limit, in bytes.
    TooLarge(u64),
    /// The client sent nothing for the time limit, or too little.
    TooSlow,
    /// All bodies in memory together have reached their bound.
    NoRoom,
    /// The framing has no or two readings.
    Malformed(gate_h1::H1Error),
}

impl From<NoRoom> for BodyError {
    fn from(_no_room: NoRoom) -> Self {
        BodyError::NoRoom
    }
}

/// One request and the way back to who sent it.
pub(crate) trait Downstream {
    /// The request's head; shared, so that its texts can be borrowed while the client is watched. Once an answer has begun
    /// it is that of nothing.
    fn head(&self) -> &Rc<Head>;

    /// By which entrance its connection came in, and what that means for it.
    fn entered(&self) -> &Entered;

    /// Where the request comes from.
    fn source(&self) -> Source;

    /// The caller has shown a valid key. Until then the client is a stranger: its answer must be taken within the time of a
    /// head, and its connection makes room for others meanwhile.
    fn know(&self);

    /// Ready when the client has left. A half-close counts as leaving, as it does in Ollama.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Whether nothing has moved for the limit that [`Downstream::limit_silence`] set; coarse, at most a second late.
    fn poll_silent(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Starts the watch over silence anew.
    fn limit_silence(&mut self, limit: Option<std::time::Duration>);

    /// Reads the whole body, `limit` bytes at most. Asks for it first where the client waits to be asked.
    fn read_body(&mut self, limit: usize) -> impl Future<Output = Result<HeldBody, BodyError>>;

    /// The next data of a body that is not read whole: `(n, end)` says that `scratch[..n]` is data and whether the body ends
    /// with it. `limit` bytes at most in all. While it waits it notices by itself that the client left or stands still.
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        limit: u64,
    ) -> Poll<Result<(usize, bool), BodyError>>;

    /// Nobody will ask for the body: what comes of it may be thrown away.
    fn want_no_body(&mut self);

    /// Puts down the head of the answer. It goes out with the first bytes of the body, or at the next flush. Once per
    /// request. Starts the watch over silence anew, with the limit for a standing stream; that of a stranger's answer is the
    /// limit for all of it.
    fn begin(&mut self, head: &AnswerHead<'_>);

    /// Takes `wire` (framed as [`AnswerHead::framing`] said, its data at `pieces`) and writes what the client accepts
    /// now. The rest is kept: call nothing but [`Downstream::poll_flush`] until that is ready.
    ///
    /// # Errors
    /// When the connection is broken.
    fn offer(
        &mut self,
        cx: &mut Context<'_>,
        wire: &[u8],
        pieces: &[Range<usize>],
        end: bool,
    ) -> io::Result<()>;

    /// Ready when all that was offered has left; an error too where the client takes nothing for the limit of silence.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Whether its connection can be switched to another protocol: HTTP/1.1, and no body on the way.
    fn can_switch(&self) -> bool;

    /// Puts down that the connection speaks `protocol` from now on (RFC 9110, section 15.2.2), in place of [`Downstream::begin`].
    /// What is offered then goes out as it is, and the end of it closes the connection. Only where it can be switched.
    fn switch(&mut self, protocol: &str, fields: &[(&str, &[u8])]);

    /// What the client sends on a connection that was switched, appended to `into`: how many bytes, 0 at the end.
    fn poll_switched(&mut self, cx: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<io::Result<usize>>;

    /// Gives up: the client must see that its answer is not whole.
    fn abort(&mut self);
}
