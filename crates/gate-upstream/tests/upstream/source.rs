//! A source of upload bodies that does what a test orders, and notes what was taken from it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Instant;

use gate_upstream::{BodySource, SourceGone, SourcePiece};

/// Any stretch of up to 64 KiB of the body lies in here, whatever its place.
static PATTERN: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..127 * 519).map(|at: u32| (at % 127) as u8).collect());

/// The bytes of the body at a place.
pub(crate) fn at(place: u64, n: usize) -> &'static [u8] {
    &PATTERN[(place % 127) as usize..][..n]
}

/// What a source does behind its bytes.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum After {
    /// Says the end together with the last byte.
    End,
    /// Says the end only when it is asked once more.
    LateEnd,
    /// Has nothing to say for ever.
    Silence,
    /// Leaves.
    Gone,
}

pub(crate) struct Source {
    total: u64,
    after: After,
    /// A piece is at most so long.
    pub(crate) most: usize,
    pub(crate) given: Rc<Cell<u64>>,
    /// Leaves when asked for the so-many-th time whether it has left, with nothing wanted of it.
    pub(crate) leaves_at: Option<u32>,
    /// When it left.
    pub(crate) left: Rc<Cell<Option<Instant>>>,
    /// Called with what was given so far, before each piece.
    pub(crate) look: Option<Box<dyn Fn(u64)>>,
    ended: bool,
}

impl Source {
    pub(crate) fn of(total: u64, after: After) -> Self {
        Source {
            total,
            after,
            most: usize::MAX,
            given: Rc::default(),
            leaves_at: None,
            left: Rc::default(),
            look: None,
            ended: false,
        }
    }

    fn leave(&mut self) -> SourceGone {
        self.left.set(Some(Instant::now()));
        self.ended = true;
        SourceGone
    }
}

impl BodySource for Source {
    fn poll_piece(
        &mut self,
        _: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<Result<SourcePiece, SourceGone>> {
        assert!(!self.ended, "asked again behind its end");
        assert!(!scratch.is_empty());
        let given = self.given.get();
        if let Some(look) = &self.look {
            look(given);
        }
        let left = usize::try_from(self.total - given).unwrap_or(usize::MAX);
        let n = left.min(scratch.len()).min(self.most);
        if n == 0 {
            match self.after {
                After::Silence => return Poll::Pending,
                After::Gone => return Poll::Ready(Err(self.leave())),
                After::End | After::LateEnd => {}
            }
        }
        scratch[..n].copy_from_slice(at(given, n));
        self.given.set(given + n as u64);
        let end = n == left && (self.after == After::End || n == 0 && self.after == After::LateEnd);
        self.ended = end;
        Poll::Ready(Ok(SourcePiece { n, end }))
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<SourceGone> {
        match &mut self.leaves_at {
            Some(0) => Poll::Ready(self.leave()),
            Some(times) => {
                *times -= 1;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }
}

/// Gives these pieces, the last one with the end, and is silent for a moment before each.
pub(crate) struct Pieces {
    pieces: Vec<&'static [u8]>,
    waited: bool,
}

impl Pieces {
    pub(crate) fn of(pieces: &[&'static [u8]]) -> Self {
        Pieces { pieces: pieces.iter().rev().copied().collect(), waited: false }
    }
}

impl BodySource for Pieces {
    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<Result<SourcePiece, SourceGone>> {
        if !std::mem::replace(&mut self.waited, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.waited = false;
        let pieces = &mut self.pieces;
        let piece = pieces.pop().unwrap();
        scratch[..piece.len()].copy_from_slice(piece);
        Poll::Ready(Ok(SourcePiece { n: piece.len(), end: pieces.is_empty() }))
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<SourceGone> {
        Poll::Pending
    }
}
