//! The byte stream below an exchange: TCP, TLS over TCP, or one that the embedder dialled.
//!
//! Only `poll_read` and `poll_write`, never `try_read`: the former clears tokio's readiness after a short read, so a
//! wait does not begin with a failing system call. Never half-closes: an Ollama takes that for a hang-up and may leave
//! the request unanswered for ever. Dropping a socket closes it at once, which is what cancels the model.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop;
use tokio_rustls::client::TlsStream;

/// Any other byte stream that an exchange can run over, such as one held in memory.
pub trait Transport: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Transport for T {}

/// An open connection to an upstream.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Given(Box<dyn Transport>),
}

impl Socket {
    /// Reads once into `scratch`; 0 bytes are the end of the stream.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut into = ReadBuf::new(scratch);
        let polled = match self {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut into),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, &mut into),
            Socket::Given(stream) => Pin::new(stream.as_mut()).poll_read(cx, &mut into),
        };
        polled.map_ok(|()| into.filled().len())
    }

    /// Writes once from two slices; the first is written before the second.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        head: &[u8],
        body: &[u8],
    ) -> Poll<io::Result<usize>> {
        let both = [IoSlice::new(head), IoSlice::new(body)];
        let slices = if head.is_empty() {
            &both[1..]
        } else if body.is_empty() {
            &both[..1]
        } else {
            &both[..]
        };
        match self {
            Socket::Tcp(stream) => write_some(Pin::new(stream), cx, slices),
            Socket::Tls(stream) => write_some(Pin::new(stream.as_mut()), cx, slices),
            Socket::Given(stream) => write_some(Pin::new(stream.as_mut()), cx, slices),
        }
    }

    /// Pushes out what the stream itself holds back (TLS records); nothing to do for TCP.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(_) => Poll::Ready(Ok(())),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Socket::Given(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    /// Makes the close that dropping will bring a reset: what the kernel still holds of a request is not sent any more.
    fn reset_on_drop(&self) {
        let refused = match self {
            Socket::Tcp(stream) => stream.set_zero_linger(),
            Socket::Tls(stream) => stream.get_ref().0.set_zero_linger(),
            Socket::Given(_) => Ok(()),
        };
        // A socket that refuses is broken already.
        drop(refused);
    }

    /// Whether an idle connection is still silent and open. No system call unless the kernel has reported something.
    ///
    /// Whatever can be read between two exchanges, bytes or the end, spoils the connection: bytes would be taken for the
    /// next answer. Outside tokio's cooperative budget, because a used-up budget looks like "nothing to read".
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut one = [0_u8; 1];
        let look = pin!(coop::unconstrained(std::future::poll_fn(|cx| self.poll_read(cx, &mut one))));
        look.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }
}

fn write_some<S: AsyncWrite + ?Sized>(
    mut stream: Pin<&mut S>,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    match slices {
        [one] => stream.poll_write(cx, one),
        many => stream.as_mut().poll_write_vectored(cx, many),
    }
}

/// A socket while a request goes out on it. Given up before all of the request has left, it resets its connection: without
/// that an upstream that reads slowly would be fed what the kernel holds, megabytes perhaps, before it saw the end.
pub(crate) struct Sending<'s> {
    pub(crate) socket: &'s mut Socket,
    pub(crate) is_whole: bool,
}

impl<'s> Sending<'s> {
    pub(crate) fn on(socket: &'s mut Socket) -> Self {
        Self { socket, is_whole: false }
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if !self.is_whole {
            self.socket.reset_on_drop();
        }
    }
}
