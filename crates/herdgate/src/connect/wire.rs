//! The connection to a program, which shows when all that was written has gone out, and how an answer that broke off is ended.
//!
//! hyper drops what it has not written when a body fails. But what came before the break belongs to the program, above all
//! the error that the gate tells last; so a failing body waits here until it is out.

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::net::TcpStream;

/// What the connection and the answer on it know of each other. Both are polled by one task.
#[derive(Debug, Clone, Default)]
pub(super) struct Outlet(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    /// A failing answer waits for all to be written.
    is_awaited: AtomicBool,
    /// Only a reset shows that the answer broke off: nothing but the connection's end ends it.
    is_reset: AtomicBool,
}

impl Outlet {
    /// Asks to be polled again when all has gone out.
    pub(super) fn await_flush(&self) {
        self.0.is_awaited.store(true, Ordering::Relaxed);
    }

    /// Whether it has not yet.
    pub(super) fn is_awaited(&self) -> bool {
        self.0.is_awaited.load(Ordering::Relaxed)
    }

    /// Makes the end of the connection a reset.
    pub(super) fn reset(&self) {
        self.0.is_reset.store(true, Ordering::Relaxed);
    }
}

/// The connection.
#[derive(Debug)]
pub(super) struct Wire {
    io: TokioIo<TcpStream>,
    outlet: Outlet,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, outlet: Outlet) -> Self {
        Wire { io: TokioIo::new(stream), outlet }
    }

    fn io(self: Pin<&mut Self>) -> Pin<&mut TokioIo<TcpStream>> {
        Pin::new(&mut self.get_mut().io)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.outlet.0.is_reset.load(Ordering::Relaxed) {
            // A socket that refuses is broken already.
            drop(self.io.inner().set_zero_linger());
        }
    }
}

impl Read for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.io().poll_read(cx, into)
    }
}

impl Write for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.io().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io().poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// Called when nothing is left to be written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().io().poll_flush(cx))?;
        if self.outlet.0.is_awaited.swap(false, Ordering::Relaxed) {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_shutdown(cx)
    }
}
