//! The answer's way out over HTTP/1.1: its head, the framing that the client understands, and what a slow client did not
//! take yet. Bytes that the client accepts at once are never copied.

use super::{AnswerHead, HSTS, date};
use crate::scratch;
use gate_h1::{Framing, Version, encode};
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// How body bytes must be changed on their way to this client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// As they came: their framing is the one that was announced.
    Raw,
    /// The data alone, in chunks of our own: the upstream's body ended with its connection.
    Rechunk,
    /// The data alone, ended by closing: an HTTP/1.0 client knows no chunks.
    Close,
    /// None: the answer to HEAD, 204, 304.
    Nothing,
}

/// What is known of the request that shapes the answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape<'s> {
    pub(super) version: Version,
    pub(super) is_head: bool,
    pub(super) keep_alive: bool,
    /// For how long the client shall stay with TLS.
    pub(super) hsts: Option<&'s str>,
}

/// Bytes of a usual head with a short answer behind it.
const USUAL: usize = 1000;

/// One answer on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    mode: Mode,
    /// Written but not yet taken by the client, from `sent` on.
    backlog: Vec<u8>,
    sent: usize,
    pub(super) ended: bool,
    pub(super) keep_alive: bool,
}

impl Outgoing {
    pub(super) fn new() -> Self {
        Self { mode: Mode::Nothing, backlog: Vec::new(), sent: 0, ended: false, keep_alive: false }
    }

    /// Puts down the head. Nothing is written before the first [`Outgoing::offer`] or flush.
    pub(super) fn begin(&mut self, head: &AnswerHead<'_>, shape: Shape<'_>) {
        self.keep_alive = shape.keep_alive && shape.version == Version::H11;
        // Room for a head and the first of its body, or for a short answer as a whole.
        self.backlog = scratch::buffer(USUAL);
        let out = &mut self.backlog;
        encode::status_line(out, head.status);
        if let Some(hsts) = shape.hsts {
            // Ours, and of digits alone.
            let _fits = encode::field(out, HSTS, hsts);
        }
        let mut is_dated = false;
        for (name, value) in head.fields {
            is_dated |= name.len() == 4 && name.eq_ignore_ascii_case("date");
            // A field that would break the head is left out; ours never do, and the upstream's were checked on arrival.
            if encode::field(out, name, value).is_err() {
                tracing::debug!(field = name, "an answer's field cannot be written and is left out");
            }
        }
        if !is_dated {
            date::write(out);
        }
        self.mode = match (head.framing, shape.version) {
            _ if head.status == 204 || head.status == 304 => Mode::Nothing,
            // What the answer to GET would be long is not known here.
            (Framing::None, _) if shape.is_head => Mode::Nothing,
            (Framing::None, _) => {
                encode::content_length(out, 0);
                Mode::Nothing
            }
            (Framing::Length(length), _) => {
                encode::content_length(out, length);
                Mode::Raw
            }
            (Framing::Chunked, Version::H11) => {
                encode::chunked(out);
                Mode::Raw
            }
            (Framing::UntilClose, Version::H11) => {
                encode::chunked(out);
                Mode::Rechunk
            }
            (Framing::Chunked | Framing::UntilClose, Version::H10) => Mode::Close,
        };
        if shape.is_head {
            self.mode = Mode::Nothing;
        }
        if !self.keep_alive {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        encode::end_of_head(out);
    }

    /// Puts down that the connection speaks `protocol` from now on. What is offered then goes out as it is.
    pub(super) fn switch(&mut self, protocol: &str, fields: &[(&str, &[u8])], hsts: Option<&str>) {
        self.backlog = scratch::buffer(USUAL);
        let out = &mut self.backlog;
        encode::status_line(out, 101);
        let own =
            [("Connection", "Upgrade"), ("Upgrade", protocol)].map(|(name, value)| (name, value.as_bytes()));
        let hsts = hsts.map(|hsts| (HSTS, hsts.as_bytes()));
        for (name, value) in own.into_iter().chain(hsts).chain(fields.iter().copied()) {
            if encode::field(out, name, value).is_err() {
                tracing::debug!(field = name, "an answer's field cannot be written and is left out");
            }
        }
        date::write(out);
        encode::end_of_head(out);
        self.mode = Mode::Raw;
    }

    /// Whether a mere close would look like the end of an answer that has not ended.
    pub(super) fn would_look_whole(&self) -> bool {
        self.mode == Mode::Close && !self.ended
    }

    /// Bytes that the client has not taken yet.
    pub(super) fn left(&self) -> usize {
        self.backlog.len() - self.sent
    }

    /// The bytes of an answer that was put down and not written.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.backlog
    }

    /// Takes body bytes: writes what `io` accepts now, keeps the rest.
    pub(super) fn offer<IO: AsyncWrite + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
        wire: &[u8],
        pieces: &[Range<usize>],
        end: bool,
    ) -> io::Result<()> {
        self.ended |= end;
        match self.mode {
            Mode::Nothing => {}
            Mode::Raw => self.write_through(io, cx, wire)?,
            Mode::Close => {
                for piece in pieces {
                    self.backlog.extend_from_slice(&wire[piece.clone()]);
                }
            }
            Mode::Rechunk => {
                for piece in pieces {
                    encode::chunk(&mut self.backlog, &wire[piece.clone()]);
                }
                if end {
                    self.backlog.extend_from_slice(encode::LAST_CHUNK);
                }
            }
        }
        match self.poll_flush(io, cx) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    fn write_through<IO: AsyncWrite + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
        mut wire: &[u8],
    ) -> io::Result<()> {
        while self.backlog.is_empty() && !wire.is_empty() {
            match Pin::new(&mut *io).poll_write(cx, wire) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(taken)) => wire = &wire[taken..],
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        self.backlog.extend_from_slice(wire);
        Ok(())
    }

    /// Ready when the client has taken everything.
    pub(super) fn poll_flush<IO: AsyncWrite + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.sent < self.backlog.len() {
            let taken = ready!(Pin::new(&mut *io).poll_write(cx, &self.backlog[self.sent..]))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += taken;
        }
        if !self.backlog.is_empty() {
            // An open stream holds no buffer while it waits for the next token.
            scratch::give_back(std::mem::take(&mut self.backlog));
            self.sent = 0;
        }
        // Streams that hold bytes back themselves: TLS. Nothing to do for TCP.
        Pin::new(io).poll_flush(cx)
    }
}
