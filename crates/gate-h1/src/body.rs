//! Where the data lies in the bytes of a body, and where the body ends.
//!
//! One machine for all four framings. It copies nothing, gives the same pieces of data and the same verdict however
//! the bytes are cut, and never looks behind the end of the body: what follows belongs to the next message.

use std::ops::Range;

use crate::{Framing, H1Error, Limits, MAX_LENGTH, chars};

/// What one call of [`Body::step`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the input that belong to the body and were looked at, framing included. At least one where the input
    /// was not empty and the body had not ended before.
    pub used: usize,
    /// Where data lies in the input, within `used`; empty if only framing was found.
    pub data: Range<usize>,
    /// The body has ended; the input behind `used` is not part of it.
    pub done: bool,
}

/// An incremental reader of one body's framing.
#[derive(Debug, Clone)]
pub struct Body {
    state: State,
    /// Bytes of the chunk line being read, without its CRLF.
    line: usize,
    /// Bytes of extensions in all chunk lines so far.
    extensions: usize,
    /// The trailer line being read; bounded by the limit of the whole section, empty in nearly every body.
    trailer: Vec<u8>,
    trailer_bytes: usize,
    trailer_fields: usize,
    limits: Limits,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Done,
    Failed(H1Error),
    Length(u64),
    UntilClose,
    /// In a chunk's size: digits and value so far.
    Size(u8, u64),
    Extension(Place, u64),
    /// The CR of a chunk line was seen.
    LineLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    Trailer,
    TrailerLf,
}

/// Where in a chunk extension the reader stands.
#[derive(Debug, Clone, Copy)]
enum Place {
    Plain,
    Quoted,
    Escaped,
}

impl Body {
    /// A reader with the default limits.
    #[must_use]
    pub const fn new(framing: Framing) -> Self {
        Self::with_limits(framing, &Limits::DEFAULT)
    }

    /// A reader with limits of one's own.
    #[must_use]
    pub const fn with_limits(framing: Framing, limits: &Limits) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(left) => State::Length(left),
            Framing::Chunked => State::Size(0, 0),
            Framing::UntilClose => State::UntilClose,
        };
        Self {
            state,
            line: 0,
            extensions: 0,
            trailer: Vec::new(),
            trailer_bytes: 0,
            trailer_fields: 0,
            limits: *limits,
        }
    }

    /// Looks at the next bytes up to and including the next piece of data. Call it again with the rest of the input
    /// while `used` is less than the input and the body is not done.
    ///
    /// # Errors
    /// When the framing is broken or beyond its limits; the same error again on every later call.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, H1Error> {
        let mut at = 0;
        while at < input.len() {
            match self.state {
                State::Done => break,
                State::Failed(error) => return Err(error),
                State::UntilClose => {
                    return Ok(Step { used: input.len(), data: at..input.len(), done: false });
                }
                State::Length(left) => {
                    let (end, left) = take(at, input.len(), left);
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                    return Ok(Step { used: end, data: at..end, done: left == 0 });
                }
                State::Data(left) => {
                    let (end, left) = take(at, input.len(), left);
                    return Ok(Step { used: self.after_data(input, end, left), data: at..end, done: false });
                }
                state => match self.framing_byte(state, input[at]) {
                    Ok(next) => self.state = next,
                    Err(error) => {
                        self.state = State::Failed(error);
                        return Err(error);
                    }
                },
            }
            at += 1;
        }
        if let State::Failed(error) = self.state {
            return Err(error);
        }
        Ok(Step { used: at, data: at..at, done: self.is_done() })
    }

    /// True once the body has ended.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// What is left of the chunk that is open: data, and behind it always a line end. None between two chunks and where
    /// the framing is another.
    #[must_use]
    pub const fn open_chunk(&self) -> Option<u64> {
        match self.state {
            State::Data(left) => Some(left),
            State::DataCr | State::DataLf => Some(0),
            _ => None,
        }
    }

    /// Says that no more bytes will come. A body that lasts until then is done.
    ///
    /// # Errors
    /// [`H1Error::Truncated`] if the body has not ended, or the error that was found before.
    pub const fn end_of_input(&mut self) -> Result<(), H1Error> {
        match self.state {
            State::Done => Ok(()),
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            State::Failed(error) => Err(error),
            State::Length(_)
            | State::Size(..)
            | State::Extension(..)
            | State::LineLf(_)
            | State::Data(_)
            | State::DataCr
            | State::DataLf
            | State::Trailer
            | State::TrailerLf => {
                self.state = State::Failed(H1Error::Truncated);
                Err(H1Error::Truncated)
            }
        }
    }

    /// The state behind a piece of chunk data; takes its CRLF along if that is there, which saves a step per chunk.
    fn after_data(&mut self, input: &[u8], end: usize, left: u64) -> usize {
        if left > 0 {
            self.state = State::Data(left);
            return end;
        }
        if input.get(end..end + 2) == Some(b"\r\n") {
            self.next_chunk();
            return end + 2;
        }
        self.state = State::DataCr;
        end
    }

    const fn next_chunk(&mut self) {
        self.line = 0;
        self.state = State::Size(0, 0);
    }

    /// One byte of chunk lines, chunk ends or trailers.
    fn framing_byte(&mut self, state: State, byte: u8) -> Result<State, H1Error> {
        match state {
            State::Size(digits, size) => self.size_byte(digits, size, byte),
            State::Extension(place, size) => self.extension_byte(place, size, byte),
            State::LineLf(size) => match (byte, size) {
                (b'\n', 0) => Ok(State::Trailer),
                (b'\n', size) => Ok(State::Data(size)),
                _ => Err(H1Error::BareCr),
            },
            State::DataCr => match byte {
                b'\r' => Ok(State::DataLf),
                _ => Err(H1Error::ChunkEnd),
            },
            State::DataLf => match byte {
                b'\n' => {
                    self.next_chunk();
                    Ok(self.state)
                }
                _ => Err(H1Error::ChunkEnd),
            },
            State::Trailer | State::TrailerLf => self.trailer_byte(state, byte),
            // The other states take data, not framing.
            State::Done | State::Failed(_) | State::Length(_) | State::UntilClose | State::Data(_) => {
                Ok(state)
            }
        }
    }

    fn size_byte(&mut self, digits: u8, size: u64, byte: u8) -> Result<State, H1Error> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if digits > 0 => return Ok(State::LineLf(size)),
            b';' if digits > 0 => return self.extension_byte(Place::Plain, size, byte),
            b'\n' if digits > 0 => return Err(H1Error::BareLf),
            _ => return Err(H1Error::ChunkSize),
        };
        // Sixteen digits fill a u64, so the shift cannot lose one before the count stops it.
        let size = size << 4 | u64::from(digit);
        if digits == 16 || size > MAX_LENGTH {
            return Err(H1Error::ChunkSize);
        }
        self.line += 1;
        if self.line > self.limits.chunk_line {
            return Err(H1Error::ExtensionsTooLarge);
        }
        Ok(State::Size(digits + 1, size))
    }

    /// Extensions are passed over, but only in a form that nobody can read as the end of the line: within quotes
    /// some recipients would read on over a CRLF.
    fn extension_byte(&mut self, place: Place, size: u64, byte: u8) -> Result<State, H1Error> {
        let next = match (place, byte) {
            (Place::Plain, b'\r') => return Ok(State::LineLf(size)),
            (Place::Plain, b'\n') => return Err(H1Error::BareLf),
            (Place::Plain, b'"') => Place::Quoted,
            (Place::Quoted, b'"') => Place::Plain,
            (Place::Quoted, b'\\') => Place::Escaped,
            (Place::Escaped, b'\t' | b' '..=b'~') => Place::Quoted,
            (Place::Quoted, b'\t' | b' '..=b'~') => place,
            (Place::Plain, b'\t' | b' ' | b';' | b'=') => place,
            (Place::Plain, _) if chars::is_token_byte(byte) => place,
            _ => return Err(H1Error::ChunkExtension),
        };
        self.line += 1;
        self.extensions += 1;
        if self.line > self.limits.chunk_line || self.extensions > self.limits.extensions {
            return Err(H1Error::ExtensionsTooLarge);
        }
        Ok(State::Extension(next, size))
    }

    fn trailer_byte(&mut self, state: State, byte: u8) -> Result<State, H1Error> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > self.limits.trailer {
            return Err(H1Error::TrailerTooLarge);
        }
        match (state, byte) {
            (State::TrailerLf, b'\n') if self.trailer.is_empty() => Ok(State::Done),
            (State::TrailerLf, b'\n') => {
                check_trailer(&self.trailer)?;
                self.trailer.clear();
                self.trailer_fields += 1;
                if self.trailer_fields > self.limits.fields {
                    return Err(H1Error::TrailerTooLarge);
                }
                Ok(State::Trailer)
            }
            (State::TrailerLf, _) => Err(H1Error::BareCr),
            (_, b'\r') => Ok(State::TrailerLf),
            (_, b'\n') => Err(H1Error::BareLf),
            _ => {
                self.trailer.push(byte);
                Ok(State::Trailer)
            }
        }
    }
}

/// From `at`, as much as there is of `left` bytes: where it ends, and what is left then.
fn take(at: usize, end: usize, left: u64) -> (usize, u64) {
    let there = end - at;
    match usize::try_from(left) {
        Ok(wanted) if wanted <= there => (at + wanted, 0),
        _ => (end, left - there as u64),
    }
}

/// Fields that would change framing, routing, authentication or the meaning of the content if a recipient merged
/// trailers into the head; RFC 9110 section 6.5.1 forbids to send them.
const NEVER_TRAILERS: [&str; 16] = [
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "proxy-authorization",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn check_trailer(line: &[u8]) -> Result<(), H1Error> {
    let colon = memchr::memchr(b':', line).ok_or(H1Error::Trailer)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let forbidden = NEVER_TRAILERS.iter().any(|never| name.eq_ignore_ascii_case(never.as_bytes()));
    if forbidden || !chars::is_token(name) || !chars::is_value(value) {
        return Err(H1Error::Trailer);
    }
    Ok(())
}
