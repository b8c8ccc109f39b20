//! Why bytes were refused: one closed list by cause.
//!
//! Every error here ends the connection: after it nobody can say where the next message begins. The texts name
//! the rule, never the offending bytes, so they may be logged and shown.

use thiserror::Error;

/// Why a head or body was refused. [`H1Error::status`] is the answer that a client should see before the close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum H1Error {
    /// The first byte cannot begin an HTTP/1 message: TLS on a plain port, or another protocol.
    #[error("this is not HTTP/1")]
    NotHttp,
    /// A line of the head or of the chunked framing ends in LF without CR.
    #[error("a line ends in a bare LF")]
    BareLf,
    /// A CR is not followed by LF.
    #[error("a CR is not followed by LF")]
    BareCr,
    /// The first line of a request is not method, target and version with one space between them.
    #[error("malformed request line")]
    RequestLine,
    /// The first line of a response is not version, status code and reason.
    #[error("malformed status line")]
    StatusLine,
    /// The request target has a byte that no target may have (RFC 3986: only visible ASCII, no fragment).
    #[error("forbidden character in the request target")]
    Target,
    /// The version is neither HTTP/1.0 nor HTTP/1.1.
    #[error("unsupported HTTP version")]
    Version,
    /// A field line has no colon, a name that is not a token, space before the colon, a folded or a control byte.
    #[error("malformed header field")]
    Field,
    /// The head is larger than [`Limits::head`](crate::Limits::head).
    #[error("the header fields are too large")]
    HeadTooLarge,
    /// The first line alone is larger than [`Limits::head`](crate::Limits::head).
    #[error("the request line is too long")]
    LineTooLong,
    /// There are more fields than [`Limits::fields`](crate::Limits::fields).
    #[error("too many header fields")]
    TooManyFields,
    /// Content-Length is not a plain decimal number of at most 2^63 - 1.
    #[error("invalid Content-Length")]
    Length,
    /// Content-Length stands there more than once, equal or not.
    #[error("more than one Content-Length")]
    LengthTwice,
    /// Content-Length and Transfer-Encoding stand in the same head.
    #[error("Content-Length together with Transfer-Encoding")]
    LengthAndCoding,
    /// Transfer-Encoding stands there more than once, or names chunked twice.
    #[error("more than one Transfer-Encoding")]
    CodingTwice,
    /// Transfer-Encoding does not end in chunked: the body's end cannot be found.
    #[error("Transfer-Encoding does not end in chunked")]
    Coding,
    /// Another coding is applied before chunked; it is not understood here.
    #[error("unsupported Transfer-Encoding")]
    CodingUnsupported,
    /// Transfer-Encoding in an HTTP/1.0 message.
    #[error("Transfer-Encoding in HTTP/1.0")]
    CodingInHttp10,
    /// An expectation other than `100-continue`.
    #[error("unknown expectation")]
    Expectation,
    /// A 1xx or 204 answer announces a body, which it cannot have.
    #[error("a body is announced by an answer that cannot have one")]
    BodyForbidden,
    /// A chunk size is not 1 to 16 hexadecimal digits, is above 2^63 - 1, or is followed by something else.
    #[error("invalid chunk size")]
    ChunkSize,
    /// A chunk extension has a byte that it must not have, or an open quotation.
    #[error("invalid chunk extension")]
    ChunkExtension,
    /// A chunk's line is longer than [`Limits::chunk_line`](crate::Limits::chunk_line), or all extensions together are
    /// larger than [`Limits::extensions`](crate::Limits::extensions).
    #[error("chunk extensions are too large")]
    ExtensionsTooLarge,
    /// A chunk's data is not followed by CRLF.
    #[error("chunk data is not followed by CRLF")]
    ChunkEnd,
    /// A trailer line is malformed, or its field must not be a trailer (RFC 9110 section 6.5.1).
    #[error("invalid trailer field")]
    Trailer,
    /// The trailer section is larger than [`Limits::trailer`](crate::Limits::trailer) or has too many fields.
    #[error("the trailer section is too large")]
    TrailerTooLarge,
    /// The connection ended before the body did.
    #[error("the connection ended in the middle of the body")]
    Truncated,
    /// A part of a head that was to be written has a byte that would change its meaning.
    #[error("a header field cannot be written as it is")]
    Unwritable,
}

impl H1Error {
    /// The status code that tells a client about it: 400, 413, 414, 417, 431, 501, 505; 500 for
    /// [`H1Error::Unwritable`], which is the writer's fault.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::NotHttp
            | Self::BareLf
            | Self::BareCr
            | Self::RequestLine
            | Self::StatusLine
            | Self::Target
            | Self::Field
            | Self::Length
            | Self::LengthTwice
            | Self::LengthAndCoding
            | Self::CodingTwice
            | Self::Coding
            | Self::CodingInHttp10
            | Self::BodyForbidden
            | Self::ChunkSize
            | Self::ChunkExtension
            | Self::ChunkEnd
            | Self::Trailer
            | Self::Truncated => 400,
            Self::ExtensionsTooLarge => 413,
            Self::LineTooLong => 414,
            Self::Expectation => 417,
            Self::HeadTooLarge | Self::TooManyFields | Self::TrailerTooLarge => 431,
            Self::Unwritable => 500,
            Self::CodingUnsupported => 501,
            Self::Version => 505,
        }
    }
}
