//! A connection that speaks another protocol than HTTP from its `101` on: bytes go both ways, and nobody here knows what they say.
//!
//! Never goes back to a pool. Dropping it closes the connection.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use gate_h1::same_name;

use crate::answer::{Answer, fields};
use crate::client::Upstream;
use crate::error::UpstreamError;
use crate::exchange::Begun;
use crate::socket::Socket;

/// What came of asking for another protocol.
pub enum Reply {
    /// It is spoken from now on.
    Switched(Switched),
    /// It is not; what the upstream says instead.
    Answered(Answer),
}

/// A connection on which another protocol is spoken.
pub struct Switched {
    at: Arc<str>,
    socket: Socket,
    /// The head, and what came along with it.
    came: Box<[u8]>,
    /// Bytes of the head alone.
    head: usize,
    /// Bytes of `came` that were used or handed on.
    handed: usize,
}

impl Switched {
    /// Of a `101` on this connection, which must name the protocol that was asked for.
    pub(crate) fn new(
        upstream: &Upstream,
        socket: Socket,
        begun: Begun,
        protocol: &str,
    ) -> Result<Self, UpstreamError> {
        let Begun { came, head, .. } = begun;
        let switched = Switched { at: upstream.label(), socket, came, head, handed: head };
        let mut named = switched.fields().filter(|(name, _)| same_name(name, b"upgrade"));
        match (named.next(), named.next()) {
            (Some((_, to)), None) if to.eq_ignore_ascii_case(protocol.as_bytes()) => {}
            _ => {
                let what = "101 Switching Protocols, to another one than was asked for";
                return Err(UpstreamError::Unasked { at: upstream.label(), what });
            }
        }
        drop(named);
        Ok(switched)
    }

    /// 101.
    #[must_use]
    pub fn status(&self) -> u16 {
        101
    }

    /// All fields of the head as sent: name (a token, case kept) and value without the white space around it.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        fields(&self.came[..self.head])
    }

    /// Reads once into `scratch`, which must not be empty; 0 bytes are the end.
    ///
    /// # Errors
    /// [`UpstreamError::ClosedMidBody`] where the connection broke.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<Result<usize, UpstreamError>> {
        if self.handed < self.came.len() {
            let left = &self.came[self.handed..];
            let n = left.len().min(scratch.len());
            scratch[..n].copy_from_slice(&left[..n]);
            self.handed += n;
            return Poll::Ready(Ok(n));
        }
        if !self.came.is_empty() {
            // It may stand for hours, and nobody asks for its head any more.
            (self.came, self.head, self.handed) = (Box::default(), 0, 0);
        }
        self.socket.poll_read(cx, scratch).map_err(|cause| self.broken(cause))
    }

    /// Writes once: how many of the bytes were taken, never 0.
    ///
    /// # Errors
    /// [`UpstreamError::ClosedMidBody`] where the connection broke.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, UpstreamError>> {
        self.socket.poll_write(cx, &[], bytes).map(|written| match written {
            Ok(0) => Err(self.broken(io::ErrorKind::WriteZero.into())),
            written => written.map_err(|cause| self.broken(cause)),
        })
    }

    /// Pushes out what the connection itself holds back.
    ///
    /// # Errors
    /// [`UpstreamError::ClosedMidBody`] where the connection broke.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        self.socket.poll_flush(cx).map_err(|cause| self.broken(cause))
    }

    fn broken(&self, cause: io::Error) -> UpstreamError {
        UpstreamError::ClosedMidBody { at: Arc::clone(&self.at), cause: Some(cause) }
    }
}
