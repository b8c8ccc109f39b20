//! What a connection and the tasks of its requests tell each other, and the bytes below the library.

use crate::downstream::ClientStream;
use crate::entrance::Entered;
use crate::sweep::Watch;
use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Shared by a connection and its requests; all of them run on one core.
pub(super) struct Link {
    /// The connection's.
    pub(super) watch: Watch,
    /// How the connection came in.
    pub(super) entered: Entered,
    /// Somebody has shown a valid key on it.
    is_known: Cell<bool>,
    /// Bytes that came.
    heard: Cell<u64>,
    /// How often everything that could be written had been.
    flushes: Cell<u64>,
    /// Who waits for the next time.
    waiting: RefCell<Vec<Waker>>,
    windows: Cell<Windows>,
    /// The connection's task.
    tender: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Windows {
    #[default]
    Narrow,
    ToWiden,
    Wide,
}

impl Link {
    pub(super) fn new(watch: Watch, entered: Entered) -> Self {
        Self {
            watch,
            entered,
            is_known: Cell::new(false),
            heard: Cell::new(0),
            flushes: Cell::new(0),
            waiting: RefCell::default(),
            windows: Cell::default(),
            tender: RefCell::default(),
        }
    }

    /// One of its requests has shown a valid key: while any runs, the connection makes no room for others.
    pub(super) fn know(&self) {
        if !self.is_known.replace(true) {
            self.watch.keep_busy();
        }
    }

    /// Requests run: the connection is looked at again after `limit`. One on which nobody has shown a key goes on resting.
    pub(super) fn be_busy(&self, limit: Duration) {
        if self.is_known.get() {
            self.watch.set(Some(limit));
        } else {
            self.watch.rest_until(self.watch.now().plus(limit));
        }
    }

    /// The connection's task looks after it.
    pub(super) fn tend(&self, cx: &Context<'_>) {
        let mut tender = self.tender.borrow_mut();
        if !tender.as_ref().is_some_and(|old| old.will_wake(cx.waker())) {
            *tender = Some(cx.waker().clone());
        }
    }

    /// A known caller's body is awaited: the connection's windows shall be opened, if they are not yet.
    pub(super) fn widen(&self) {
        if self.windows.get() == Windows::Narrow {
            self.windows.set(Windows::ToWiden);
            if let Some(tender) = self.tender.take() {
                tender.wake();
            }
        }
    }

    /// Whether that is yet to be done.
    pub(super) fn is_to_widen(&self) -> bool {
        self.windows.get() == Windows::ToWiden
    }

    /// It has been done.
    pub(super) fn widened(&self) {
        self.windows.set(Windows::Wide);
    }

    /// Bytes that came so far.
    pub(super) fn heard(&self) -> u64 {
        self.heard.get()
    }

    /// How often everything that could be written had been.
    pub(super) fn flushes(&self) -> u64 {
        self.flushes.get()
    }

    /// Ready when that has happened since it was the `before`th time.
    pub(super) fn poll_flushed(&self, before: u64, cx: &Context<'_>) -> Poll<()> {
        if self.flushes.get() > before {
            return Poll::Ready(());
        }
        self.waiting.borrow_mut().push(cx.waker().clone());
        Poll::Pending
    }

    fn flushed(&self) {
        self.flushes.set(self.flushes.get() + 1);
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// The client's bytes, with those in front that were read before anybody knew the protocol.
pub(super) struct Wire<IO> {
    io: IO,
    ahead: Vec<u8>,
    link: Rc<Link>,
}

impl<IO> Wire<IO> {
    pub(super) fn new(io: IO, ahead: Vec<u8>, link: Rc<Link>) -> Self {
        Self { io, ahead, link }
    }
}

impl<IO: ClientStream> AsyncRead for Wire<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { io, ahead, link } = &mut *self;
        let before = buf.filled().len();
        let polled = if ahead.is_empty() {
            Pin::new(io).poll_read(cx, buf)
        } else {
            let now = ahead.len().min(buf.remaining());
            buf.put_slice(&ahead[..now]);
            ahead.drain(..now);
            ahead.shrink_to_fit();
            Poll::Ready(Ok(()))
        };
        link.heard.set(link.heard.get() + (buf.filled().len() - before) as u64);
        polled
    }
}

impl<IO: ClientStream> AsyncWrite for Wire<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        if polled.is_ready() {
            self.link.flushed();
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
