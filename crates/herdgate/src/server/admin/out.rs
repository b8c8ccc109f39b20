//! What an answer of the admin socket consists of. Work that answers line by line lives in its answer: it goes on as the command
//! reads, and ends when the command leaves.

use crate::client::Link;
use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::task::JoinSet;

/// An answer's body.
pub(super) enum Out {
    Whole(Option<Bytes>),
    Lines { work: Pin<Box<dyn Future<Output = ()>>>, lines: Lines, has_ended: bool },
    Relayed { body: Incoming, _link: Link<Incoming>, _served: JoinSet<()> },
}

/// Where work puts its lines.
#[derive(Clone, Default)]
pub(super) struct Lines(Rc<RefCell<VecDeque<Bytes>>>);

impl Lines {
    pub(super) fn put(&self, line: &serde_json::Value) {
        self.0.borrow_mut().push_back(Bytes::from(format!("{line}\n")));
    }
}

impl Out {
    pub(super) fn whole(text: String) -> Self {
        Out::Whole(Some(text.into()))
    }

    /// The lines that this work puts down, as it puts them down.
    pub(super) fn lines<F: Future<Output = ()> + 'static>(work: impl FnOnce(Lines) -> F) -> Self {
        let lines = Lines::default();
        Out::Lines { work: Box::pin(work(lines.clone())), lines, has_ended: false }
    }
}

impl Body for Out {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Out::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Out::Lines { work, lines, has_ended } => {
                if !*has_ended {
                    *has_ended = work.as_mut().poll(cx).is_ready();
                }
                match lines.0.borrow_mut().pop_front() {
                    Some(line) => Poll::Ready(Some(Ok(Frame::data(line)))),
                    None if *has_ended => Poll::Ready(None),
                    None => Poll::Pending,
                }
            }
            Out::Relayed { body, .. } => Pin::new(body).poll_frame(cx),
        }
    }
}
