//! The wait for anybody but the client: it ends with the client's leaving, and with the limit of silence.

use super::Downstream;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// Why a wait ended before its time.
pub(crate) enum Cut {
    /// The client left.
    Gone,
    /// Nothing moved for the limit that [`Downstream::limit_silence`] set.
    Silent,
}

/// Waits for `other`, but not longer than the client does and than the limit of silence allows.
pub(crate) async fn race<D: Downstream, F: Future>(
    down: &mut D,
    mut other: Pin<&mut F>,
) -> Result<F::Output, Cut> {
    poll_fn(|cx| {
        if let Poll::Ready(told) = other.as_mut().poll(cx) {
            return Poll::Ready(Ok(told));
        }
        if down.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Cut::Gone));
        }
        down.poll_silent(cx).map(|()| Err(Cut::Silent))
    })
    .await
}
