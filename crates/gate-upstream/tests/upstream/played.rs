//! Byte streams in memory that play ordered pieces, one per read, and note what is written and when they are dropped.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use gate_types::UpstreamId;
use gate_upstream::{Answer, Ask, Client, ClientLimits, Endpoint, Transport, UpstreamError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) const ID: UpstreamId = UpstreamId(0);
pub(crate) const GET: Ask<'_> = Ask { method: "GET", path: "/api/tags", fields: &[], body: b"" };
pub(crate) const HEAD: Ask<'_> = Ask { method: "HEAD", path: "/", fields: &[], body: b"" };

/// What comes after the last piece.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Silence,
    End,
    Reset,
}

/// What a stream has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) bytes: Vec<u8>,
    pub(crate) writes: usize,
    pub(crate) closed: bool,
}

pub(crate) struct Played {
    pieces: VecDeque<Vec<u8>>,
    then: Then,
    /// A wait stands before each piece, so that every state is also left and entered again.
    waits: bool,
    waited: bool,
    seen: Rc<RefCell<Seen>>,
}

impl Played {
    pub(crate) fn new(pieces: impl IntoIterator<Item = Vec<u8>>, then: Then) -> (Self, Rc<RefCell<Seen>>) {
        let seen = Rc::new(RefCell::new(Seen::default()));
        let played = Played {
            pieces: pieces.into_iter().collect(),
            then,
            waits: true,
            waited: false,
            seen: Rc::clone(&seen),
        };
        (played, seen)
    }

    /// All pieces are there from the beginning.
    pub(crate) fn without_waits(mut self) -> Self {
        self.waits = false;
        self
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        self.seen.borrow_mut().closed = true;
    }
}

impl AsyncRead for Played {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A server answers; it does not speak first.
        if self.seen.borrow().bytes.is_empty() {
            return Poll::Pending;
        }
        if self.waits && !std::mem::replace(&mut self.waited, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.waited = false;
        match self.pieces.pop_front() {
            Some(mut piece) => {
                let n = piece.len().min(into.remaining());
                into.put_slice(&piece[..n]);
                if n < piece.len() {
                    self.pieces.push_front(piece.split_off(n));
                }
                Poll::Ready(Ok(()))
            }
            None => match self.then {
                Then::Silence => Poll::Pending,
                Then::End => Poll::Ready(Ok(())),
                Then::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            },
        }
    }
}

impl AsyncWrite for Played {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut seen = self.seen.borrow_mut();
        seen.writes += 1;
        let before = seen.bytes.len();
        for slice in slices {
            seen.bytes.extend_from_slice(slice);
        }
        Poll::Ready(Ok(seen.bytes.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        panic!("an upstream connection must never be half-closed");
    }
}

/// A client whose connections are these, in order; behind the last one, connecting is refused.
pub(crate) fn client(streams: impl IntoIterator<Item = Played>) -> Client {
    let streams = RefCell::new(streams.into_iter().collect::<VecDeque<_>>());
    let endpoint = Endpoint::new(false, "127.0.0.1", 11434, "").unwrap();
    Client::over(
        vec![endpoint],
        ClientLimits::default(),
        Rc::new(move |_| match streams.borrow_mut().pop_front() {
            Some(stream) => Ok(Box::new(stream) as Box<dyn Transport>),
            None => Err(io::ErrorKind::ConnectionRefused.into()),
        }),
    )
}

/// The whole body: as it came, and its data.
pub(crate) async fn body(answer: &mut Answer, scratch: usize) -> Result<(Vec<u8>, Vec<u8>), UpstreamError> {
    let (mut wire, mut data) = (Vec::new(), Vec::new());
    let mut scratch = vec![0; scratch];
    let mut pieces = Vec::new();
    poll_fn(|cx| {
        loop {
            let got = ready!(answer.poll_wire(cx, &mut scratch, &mut pieces))?;
            wire.extend_from_slice(&scratch[..got.n]);
            for piece in &pieces {
                assert!(piece.end <= got.n);
                data.extend_from_slice(&scratch[piece.clone()]);
            }
            if got.end {
                return Poll::Ready(Ok(()));
            }
        }
    })
    .await?;
    let behind = poll_fn(|cx| answer.poll_wire(cx, &mut scratch, &mut pieces)).await?;
    assert!(behind.n == 0 && behind.end, "nothing behind the end");
    Ok((wire, data))
}

/// Cuts: whole, one byte at a time, and in two at every place.
pub(crate) fn cuts(bytes: &[u8]) -> impl Iterator<Item = Vec<Vec<u8>>> {
    let whole = vec![bytes.to_vec()];
    let single = bytes.iter().map(|&byte| vec![byte]).collect();
    let halves = (1..bytes.len()).map(|at| vec![bytes[..at].to_vec(), bytes[at..].to_vec()]);
    [whole, single].into_iter().chain(halves)
}
