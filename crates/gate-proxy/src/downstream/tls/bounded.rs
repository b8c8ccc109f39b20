//! A socket from which a client that nobody knows gets so much kept and no more: a handshake is kept in memory until each of its
//! messages is whole, and one may say of itself that it has 64 KiB.
//!
//! Counts bytes until the bound is lifted, and looks at the first one: whoever begins with a letter speaks HTTP without TLS. Nothing of
//! that reaches TLS, which would send an alert before anything that such a client understands.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes of a whole handshake from its client: a hello has some hundred, with shares of keys that withstand quantum computers
/// less than 3,000; the certificates of a caller have some thousand.
pub(super) const HANDSHAKE: usize = 20 << 10;

/// A client's socket.
#[derive(Debug)]
pub(crate) struct Bounded {
    socket: TcpStream,
    /// Bytes that may still be read; none where there is no bound any more.
    left: Option<usize>,
    /// Its client speaks HTTP without TLS.
    is_plain: bool,
}

impl Bounded {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { socket, left: Some(HANDSHAKE), is_plain: false }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// The socket of a client that speaks HTTP without TLS; what it has said so far is gone.
    pub(super) fn plain(self) -> Option<TcpStream> {
        self.is_plain.then_some(self.socket)
    }

    /// The handshake is over: what comes now has bounds of its own.
    pub(super) fn lift(&mut self) {
        self.left = None;
    }

    #[cold]
    fn poll_read_bounded(
        &mut self,
        left: usize,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if left == 0 {
            let text = format!("its handshake is longer than {HANDSHAKE} bytes");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
        }
        let most = left.min(into.remaining());
        let mut part = ReadBuf::new(into.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        // The first byte of TLS is the type of its first record, 22 (RFC 8446, 5.1); that of HTTP is a method's.
        if left == HANDSHAKE && part.filled().first().is_some_and(u8::is_ascii_alphabetic) {
            self.is_plain = true;
            let text = "it speaks HTTP without TLS";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
        }
        into.advance(read);
        self.left = Some(left - read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.left {
            None => Pin::new(&mut self.socket).poll_read(cx, into),
            Some(left) => self.poll_read_bounded(left, cx, into),
        }
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
