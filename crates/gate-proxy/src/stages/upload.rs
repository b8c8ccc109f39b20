//! A body that no gate can hold: the layers of a model pass through piece by piece, as the upstream takes them.

use crate::downstream::{BodyError, Downstream};
use gate_h1::Framing;
use gate_upstream::{BodySource, SourceGone, SourcePiece, UploadFraming};
use std::task::{Context, Poll};
use std::time::Duration;

/// The client as the source of an upload.
pub(crate) struct FromClient<'d, D> {
    down: &'d mut D,
    limit: u64,
    /// For how long the upstream may be silent, where that is not as long as any other.
    own_idle: Option<Duration>,
    failed: Option<Failed>,
}

/// Why the client's body ended before its end.
pub(crate) enum Failed {
    /// The client's doing.
    Body(BodyError),
    /// Neither the client nor the upstream moved.
    Silent,
}

impl<'d, D: Downstream> FromClient<'d, D> {
    /// The body of the request at hand, of `limit` bytes at most.
    pub(crate) fn new(down: &'d mut D, limit: u64, own_idle: Option<Duration>) -> Self {
        Self { down, limit, own_idle, failed: None }
    }

    /// How the body is announced; an error where more than the limit is.
    pub(crate) fn framing(&self) -> Result<UploadFraming, BodyError> {
        match self.down.head().framing {
            Framing::Length(length) if length > self.limit => Err(BodyError::TooLarge(self.limit)),
            Framing::Length(length) => Ok(UploadFraming::Length(length)),
            Framing::Chunked => Ok(UploadFraming::Chunked),
            Framing::None | Framing::UntilClose => Ok(UploadFraming::Length(0)),
        }
    }

    /// Why it failed, if it did.
    pub(crate) fn into_failure(self) -> Option<Failed> {
        self.failed
    }
}

impl<D: Downstream> BodySource for FromClient<'_, D> {
    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
    ) -> Poll<Result<SourcePiece, SourceGone>> {
        self.down.poll_body(cx, scratch, self.limit).map(|read| match read {
            Ok((n, end)) => {
                if self.own_idle.is_some() {
                    self.down.limit_silence(self.own_idle);
                }
                Ok(SourcePiece { n, end })
            }
            Err(error) => {
                self.failed = Some(Failed::Body(error));
                Err(SourceGone)
            }
        })
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<SourceGone> {
        if self.down.poll_gone(cx).is_ready() {
            self.failed = Some(Failed::Body(BodyError::Gone));
            return Poll::Ready(SourceGone);
        }
        self.down.poll_silent(cx).map(|()| {
            self.failed = Some(Failed::Silent);
            SourceGone
        })
    }
}
