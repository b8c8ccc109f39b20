//! Whether a request stands still: nothing has moved for its limit.

use crate::sweep::{Tick, Watch};
use std::task::{Context, Poll};
use std::time::Duration;

/// The watch over one request. It is set once per limit, not once per chunk: a limit that passed while things moved starts
/// anew from when they last did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Silence {
    limit: Option<Duration>,
    moved: Tick,
}

impl Silence {
    /// No limit but that which the watch has, however much moves.
    pub(super) fn none(now: Tick) -> Self {
        Self { limit: None, moved: now }
    }

    /// Begins now.
    pub(super) fn begin(limit: Option<Duration>, watch: &Watch) -> Self {
        watch.set(limit);
        Self { limit, moved: watch.now() }
    }

    /// Something moved.
    pub(super) fn moved(&mut self, now: Tick) {
        self.moved = now;
    }

    /// Ready when nothing has moved for the limit.
    pub(super) fn poll(&self, watch: &Watch, cx: &mut Context<'_>) -> Poll<()> {
        if watch.poll_late(cx).is_pending() {
            return Poll::Pending;
        }
        match self.limit.map(|limit| self.moved.plus(limit)) {
            Some(until) if until > watch.now() => {
                watch.set_until(until);
                watch.poll_late(cx)
            }
            _ => Poll::Ready(()),
        }
    }
}
