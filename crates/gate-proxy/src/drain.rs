//! The end of a core's work, told to all its connections: what runs goes on, what waits is taken leave of.
//!
//! Nothing is cut here. Whoever owns the core waits for its connections, and decides how long.

use crate::sweep::Sweep;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;

/// Whether one core takes leave of its clients.
#[derive(Debug)]
pub struct Drain {
    has_begun: Cell<bool>,
    last_call: Cell<Duration>,
    begun: Notify,
    sweep: Rc<Sweep>,
}

impl Drain {
    pub(crate) fn new(sweep: Rc<Sweep>) -> Self {
        Self { has_begun: Cell::new(false), last_call: Cell::default(), begun: Notify::new(), sweep }
    }

    /// From now on no connection is kept for a further request. Clients that wait without one have `last_call` to begin
    /// it, and are then closed: what is on its way is answered.
    pub fn begin(&self, last_call: Duration) {
        self.last_call.set(last_call);
        self.has_begun.set(true);
        self.begun.notify_waiters();
        self.sweep.wake_all();
    }

    /// Whether it has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.has_begun.get()
    }

    /// How long a client may still begin a request, counted from the beginning.
    pub(crate) fn last_call(&self) -> Duration {
        self.last_call.get()
    }

    /// Waits until it begins.
    pub async fn begun(&self) {
        let begun = self.begun.notified();
        if !self.has_begun() {
            begun.await;
        }
    }
}
