//! Bodies on their way: what a program sends, piece by piece as the gate takes it, and what the gate answers, piece by piece
//! as the program takes it. Nothing is gathered; the beginning of an upload is kept for the case that it must be sent again.

use super::wire::Outlet;
use crate::client::Link;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

/// Bytes of an upload that can be sent again: nearly all questions, no file.
const KEPT: usize = 64 * 1024;

/// What a program sends. One that was sent in part can be begun once more, as long as all of it is still kept.
pub(super) struct Upload {
    source: Arc<Mutex<Source>>,
    /// Which reader this is, and how many of the kept pieces it has sent.
    turn: u32,
    place: usize,
}

struct Source {
    body: Option<Incoming>,
    kept: Vec<Bytes>,
    size: usize,
    /// Whether all that came is kept.
    is_whole: bool,
    /// The reader in force; one before it gets nothing more.
    turn: u32,
}

/// What is left of an upload when its request has been given away.
pub(super) struct Rest(Arc<Mutex<Source>>);

impl Upload {
    pub(super) fn new(body: Incoming) -> (Self, Rest) {
        Self::of(Some(body))
    }

    /// Of a request that has none.
    pub(super) fn none() -> (Self, Rest) {
        Self::of(None)
    }

    fn of(body: Option<Incoming>) -> (Self, Rest) {
        let source = Source { body, kept: Vec::new(), size: 0, is_whole: true, turn: 0 };
        let source = Arc::new(Mutex::new(source));
        (Upload { source: Arc::clone(&source), turn: 0, place: 0 }, Rest(source))
    }
}

impl Rest {
    /// The same upload from its beginning, if that is still kept.
    pub(super) fn again(&self) -> Option<Upload> {
        let mut source = lock(&self.0);
        if !source.is_whole {
            return None;
        }
        source.turn += 1;
        Some(Upload { source: Arc::clone(&self.0), turn: source.turn, place: 0 })
    }
}

fn lock(source: &Mutex<Source>) -> MutexGuard<'_, Source> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program left, or another reader took its place.
type Broken = Box<dyn std::error::Error + Send + Sync>;

impl Body for Upload {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        let mut source = lock(&this.source);
        if source.turn != this.turn {
            return Poll::Ready(Some(Err("sent anew by another connection".into())));
        }
        if let Some(piece) = source.kept.get(this.place) {
            this.place += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        let Some(body) = &mut source.body else { return Poll::Ready(None) };
        let Some(frame) = ready!(Pin::new(body).poll_frame(cx)?) else { return Poll::Ready(None) };
        match frame.data_ref() {
            Some(piece) if source.is_whole && source.size + piece.len() <= KEPT => {
                let piece = piece.clone();
                source.size += piece.len();
                source.kept.push(piece);
                this.place += 1;
            }
            Some(_) | None => {
                source.is_whole = false;
                source.kept = Vec::new();
                this.place = 0;
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        let source = lock(&self.source);
        self.place >= source.kept.len() && source.body.as_ref().is_none_or(Incoming::is_end_stream)
    }
}

/// What a program is answered.
pub(super) enum Answer {
    /// The gate's words.
    Passed(Box<Passed>),
    /// Our own.
    Own(Option<Bytes>),
}

/// An answer of the gate's on its way.
pub(super) struct Passed {
    body: Incoming,
    /// What it comes by stays as long as it comes.
    _link: Link<Upload>,
    /// What it goes out by, and whether only a reset shows there that it broke off.
    outlet: Option<Outlet>,
    ends_with_connection: bool,
    /// Why it broke off, until all before that is out.
    broken: Option<hyper::Error>,
}

impl Answer {
    pub(super) fn nothing() -> Self {
        Answer::Own(None)
    }

    pub(super) fn passed(body: Incoming, link: Link<Upload>) -> Self {
        let passed = Passed { body, _link: link, outlet: None, ends_with_connection: false, broken: None };
        Answer::Passed(Box::new(passed))
    }

    /// Says what it goes out by.
    pub(super) fn goes_out_by(&mut self, outlet: Outlet, ends_with_connection: bool) {
        if let Answer::Passed(passed) = self {
            (passed.outlet, passed.ends_with_connection) = (Some(outlet), ends_with_connection);
        }
    }
}

impl Passed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.broken.is_none() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Err(error)) => {
                    if let Some(outlet) = &self.outlet {
                        outlet.await_flush();
                        if self.ends_with_connection {
                            outlet.reset();
                        }
                    }
                    self.broken = Some(error);
                }
                frame => return Poll::Ready(frame),
            }
        }
        if self.outlet.as_ref().is_some_and(Outlet::is_awaited) {
            return Poll::Pending;
        }
        Poll::Ready(self.broken.take().map(Err))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Answer::Passed(passed) => passed.poll_frame(cx),
            Answer::Own(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Passed(passed) => passed.body.is_end_stream(),
            Answer::Own(text) => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Passed(passed) => passed.body.size_hint(),
            Answer::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
        }
    }
}
