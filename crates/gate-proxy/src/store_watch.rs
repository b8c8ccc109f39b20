//! Where a request with an unknown key meets whoever watches the store of keys. That a key is wrong is said only after the
//! store was looked at and written to once more, from a moment on at which the request was there already: before, it may
//! have been made a moment ago, or the store may have failed since.
//!
//! One look answers all who asked before it began. Who shows a valid key never comes here. Nothing here touches a database,
//! and no lock is held while somebody waits.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// How long a request waits for the store. A look takes less than a millisecond; one that takes longer than this waits for
/// a disk or for another program.
const LONGEST: Duration = Duration::from_secs(1);

type Call = Box<dyn Fn() + Send + Sync>;

/// How the store of keys is, and the way to whoever looks after it.
#[derive(Default)]
pub struct StoreWatch {
    /// The store cannot be trusted at the moment. The keys in memory stay in force; what is not among them may yet be a key.
    is_degraded: AtomicBool,
    /// Looks are numbered from 1. How many have begun.
    begun: AtomicU64,
    /// The latest look that somebody waits for.
    wanted: AtomicU64,
    /// The latest look that has ended.
    ended: watch::Sender<u64>,
    /// None where there is no store, or nobody who looks after it.
    call: OnceLock<Call>,
}

/// A look that has begun: what it finds is true of a moment after this was made.
#[derive(Debug)]
#[must_use = "those who asked wait for its end"]
pub struct Look(u64);

impl StoreWatch {
    /// Whether the store fails at the moment, as far as is known: known keys get their usual answer, unknown ones no verdict.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.is_degraded.load(Ordering::SeqCst)
    }

    /// It fails, or is well again. Who waits for a look at a store that fails waits no longer.
    pub fn set_degraded(&self, is_degraded: bool) {
        self.is_degraded.store(is_degraded, Ordering::SeqCst);
        if is_degraded {
            self.ended.send_modify(|_| {});
        }
    }

    /// For whoever looks after the store: `call` is how it is called. It must return at once, and may be called for nothing.
    /// The first one stays.
    pub fn answer_by(&self, call: impl Fn() + Send + Sync + 'static) {
        let _first_one_stays = self.call.set(Box::new(call));
    }

    /// Whether somebody waits for a look that has not begun.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        !self.is_degraded() && self.wanted.load(Ordering::SeqCst) > self.begun.load(Ordering::SeqCst)
    }

    /// A look begins, with a write behind it: all who have asked until now wait for this one.
    pub fn begin(&self) -> Look {
        Look(self.begun.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// It has ended. The keys that it found are in force by now, and [`StoreWatch::set_degraded`] was told how it went.
    pub fn end(&self, look: Look) {
        self.ended.send_replace(look.0);
    }

    /// Waits until the store was looked at, from now on. Whether it is well, and the keys in memory are therefore all that
    /// there are.
    pub async fn is_well(&self) -> bool {
        let Some(call) = self.call.get() else { return !self.is_degraded() };
        let mut ended = self.ended.subscribe();
        // A look of this number begins only after this was read.
        let number = self.begun.load(Ordering::SeqCst) + 1;
        if self.wanted.fetch_max(number, Ordering::SeqCst) < number {
            call();
        }
        let is_over = ended.wait_for(|&last| last >= number || self.is_degraded());
        let in_time = tokio::time::timeout(LONGEST, is_over).await;
        in_time.is_ok_and(|ended| ended.is_ok()) && !self.is_degraded()
    }
}

impl fmt::Debug for StoreWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreWatch").field("is_degraded", &self.is_degraded()).finish_non_exhaustive()
    }
}
