//! Reads answers as fast as they come: a head, then a body by length or in chunks. Just strict enough to tell a whole answer
//! from a broken one; the gate under test is not the judge of its own framing.

use anyhow::{Context as _, Result, bail, ensure};
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How the body of an answer is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bounds {
    Length(usize),
    Chunked,
}

/// A head that is complete: its status, its length in bytes, and the body's bounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) bytes: usize,
    pub(crate) bounds: Bounds,
}

const HEAD_BYTES: usize = 16 * 1024;

/// The head at the front of `buffer`, when it is all there.
pub(crate) fn head(buffer: &[u8]) -> Result<Option<Head>> {
    let Some(end) = memmem::find(buffer, b"\r\n\r\n") else {
        ensure!(buffer.len() < HEAD_BYTES, "an answer's head without an end");
        return Ok(None);
    };
    let head = std::str::from_utf8(&buffer[..end]).context("an answer's head that is no text")?;
    let status =
        head.get(9..12).and_then(|digits| digits.parse().ok()).context("an answer without a status")?;
    let mut bounds = Bounds::Length(0);
    for line in head.split("\r\n").skip(1) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        if name.eq_ignore_ascii_case("content-length") {
            bounds = Bounds::Length(value.trim().parse().context("an answer's length")?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            bounds = Bounds::Chunked;
        }
    }
    Ok(Some(Head { status, bytes: end + 4, bounds }))
}

/// Reads one answer that ends by its length; the body's bytes are not kept.
pub(crate) async fn read_whole<R: AsyncRead + Unpin>(reader: &mut R, scratch: &mut Vec<u8>) -> Result<u16> {
    scratch.clear();
    loop {
        ensure!(reader.read_buf(scratch).await? > 0, "closed before the end of an answer");
        let Some(head) = head(scratch)? else { continue };
        let Bounds::Length(length) = head.bounds else {
            bail!("an answer in chunks where a length was sent")
        };
        while scratch.len() < head.bytes + length {
            ensure!(reader.read_buf(scratch).await? > 0, "closed inside a body");
        }
        ensure!(scratch.len() == head.bytes + length, "bytes after the end of an answer");
        return Ok(head.status);
    }
}

/// Takes chunk framing off, in pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    state: State,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    /// Inside a size line; the size so far.
    #[default]
    Start,
    Size(usize),
    Data(usize),
    /// Line-end bytes still to come after a chunk's data.
    DataEnd(usize),
    /// Bytes of the final empty line still to come.
    End(usize),
    Done,
}

impl Chunks {
    /// Appends the data in `input` to `data`.
    pub(crate) fn take(&mut self, mut input: &[u8], data: &mut Vec<u8>) -> Result<()> {
        while let Some((&byte, rest)) = input.split_first() {
            self.state = match self.state {
                State::Start | State::Size(_) if byte == b'\r' => self.state,
                State::Size(0) if byte == b'\n' => State::End(2),
                State::Size(size) if byte == b'\n' => State::Data(size),
                State::Start => State::Size(digit(byte)?),
                State::Size(size) => State::Size(size * 16 + digit(byte)?),
                State::Data(left) => {
                    let now = left.min(input.len());
                    data.extend_from_slice(&input[..now]);
                    input = &input[now..];
                    self.state = if now == left { State::DataEnd(2) } else { State::Data(left - now) };
                    continue;
                }
                State::DataEnd(1) => State::Start,
                State::DataEnd(left) => State::DataEnd(left - 1),
                State::End(1) => State::Done,
                State::End(left) => State::End(left - 1),
                State::Done => bail!("bytes after the last chunk"),
            };
            input = rest;
        }
        Ok(())
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }
}

fn digit(byte: u8) -> Result<usize> {
    let digit = char::from(byte).to_digit(16).context("a chunk size that is no number")?;
    Ok(usize::try_from(digit)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_the_same_in_any_pieces() {
        let wire = b"5\r\nhello\r\n1\r\n \r\n10\r\n0123456789abcdef\r\n0\r\n\r\n";
        for cut in 0..wire.len() {
            let (mut chunks, mut data) = (Chunks::default(), Vec::new());
            chunks.take(&wire[..cut], &mut data).unwrap();
            assert!(!chunks.is_done());
            chunks.take(&wire[cut..], &mut data).unwrap();
            assert!(chunks.is_done());
            assert_eq!(data, b"hello 0123456789abcdef");
        }
        assert!(Chunks::default().take(b"5\r\nhello\r\nx", &mut Vec::new()).is_err());
    }

    #[test]
    fn heads_tell_status_and_bounds() {
        let wire = b"HTTP/1.1 401 Unauthorized\r\ncontent-LENGTH: 12\r\n\r\nx";
        let found = head(wire).unwrap().unwrap();
        assert_eq!((found.status, found.bytes, found.bounds), (401, wire.len() - 1, Bounds::Length(12)));
        assert!(head(&wire[..20]).unwrap().is_none());
    }
}
