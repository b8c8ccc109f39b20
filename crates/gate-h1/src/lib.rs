//! HTTP/1.1 heads and body framing for both directions: bytes in, facts out.
//!
//! Floor 2, pure. `gate-proxy` reads requests with it, `gate-upstream` answers. It never does IO, keeps no clock,
//! never guesses: where two recipients could read the same bytes differently, it returns an error and the
//! connection must be closed, because the place where the next message begins is no longer known.
//!
//! - [`request_head`], [`response_head`]: a whole head or [`Parsed::Partial`]; [`HeadScan`] when it arrives in pieces.
//! - [`Body`]: where the data lies in the bytes of a body, and where the body ends, however the bytes are cut.
//! - [`encode`]: heads and chunks written into a `Vec<u8>`.
//! - [`proxy`]: what a proxy says of a connection before its first head.

mod body;
mod chars;
pub mod encode;
mod error;
mod fields;
mod framing;
mod head;
pub mod proxy;
mod scan;

pub use body::{Body, Step};
pub use chars::{near, same_name};
pub use error::H1Error;
pub use fields::Fields;
pub use head::{RequestHead, ResponseHead, request_head, response_head};
pub use scan::HeadScan;

/// The largest Content-Length or chunk size that is read, 2^63 - 1: above it, recipients that count in signed
/// 64-bit numbers (Go among them) and those that do not read different lengths.
pub const MAX_LENGTH: u64 = i64::MAX as u64;

/// The bounds of everything whose size the other side chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a whole head, from the first to the empty line with its CRLF.
    pub head: usize,
    /// Fields in a head, and in a trailer section.
    pub fields: usize,
    /// Bytes of one chunk's line: size and extensions, without the CRLF.
    pub chunk_line: usize,
    /// Bytes of all chunk extensions of one body together.
    pub extensions: usize,
    /// Bytes of the trailer section.
    pub trailer: usize,
}

impl Limits {
    /// 32 KiB of head, 100 fields, 4 KiB for a chunk's line, 16 KiB of extensions, 8 KiB of trailers.
    pub const DEFAULT: Self =
        Self { head: 32 << 10, fields: 100, chunk_line: 4 << 10, extensions: 16 << 10, trailer: 8 << 10 };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What a head parser found at the start of the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed<T> {
    /// Nothing wrong so far, but the head has not ended.
    Partial,
    /// The head, and the number of bytes that it takes; the body begins behind them.
    Done(T, usize),
}

/// The protocol version of a message; nothing else is understood here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: closes after one message unless it says `Connection: keep-alive`; no chunked coding.
    H10,
    /// HTTP/1.1.
    H11,
}

/// How the end of a message's body is found (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// Exactly so many bytes; 0 is possible. At most [`MAX_LENGTH`].
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
    /// Everything until the connection ends; responses only.
    UntilClose,
}

impl Framing {
    /// True where not a single body byte can follow the head.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}
