//! The end of a core's work, told to all its connections: what runs goes on, what waits is taken leave of.
//!
//! Nothing is cut here. Whoever owns the core waits for its connections, and decides how long.

use crate::sweep::Sweep;
use std::cell::Cell;
use std::rc::Rc;
use tokio::sync::Notify;

/// Whether one core takes leave of its clients.
#[derive(Debug)]
pub struct Drain {
    has_begun: Cell<bool>,
    begun: Notify,
    sweep: Rc<Sweep>,
}

impl Drain {
    pub(crate) fn new(sweep: Rc<Sweep>) -> Self {
        Self { has_begun: Cell::new(false), begun: Notify::new(), sweep }
    }

    /// From now on no connection is kept for a further request. Clients that wait without one have a last call to begin
    /// it, and are then closed.
    pub fn begin(&self) {
        self.has_begun.set(true);
        self.begun.notify_waiters();
        self.sweep.wake_all();
    }

    /// Whether it has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.has_begun.get()
    }

    /// Waits until it begins.
    pub async fn begun(&self) {
        let begun = self.begun.notified();
        if !self.has_begun() {
            begun.await;
        }
    }
}
