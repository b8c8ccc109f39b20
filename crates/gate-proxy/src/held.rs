//! Request bodies in memory, and the bound of all of them together.
//!
//! What counts is what a body occupies: it grows with what has come, never with what was announced, so that clients who
//! announce much and send nothing keep nobody out. What HTTP/2 allows known callers to send ahead counts, too. Each core takes from the common bound in steps, so that cores do not
//! meet at one counter for every request.

use crate::shared::Shared;
use std::cell::Cell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a core takes at once; it keeps up to twice as much to itself when bodies end.
const STEP: usize = 64 * 1024;

/// Bytes that all cores have taken.
#[derive(Debug, Default)]
pub(crate) struct Taken(AtomicUsize);

impl Taken {
    fn take(&self, bytes: usize, bound: usize) -> bool {
        let fits = |taken: usize| taken.checked_add(bytes).filter(|sum| *sum <= bound);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn give(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The bytes that are taken now, up to a few steps per core too many.
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One core's part of the bound.
#[derive(Debug)]
pub(crate) struct Allowance {
    shared: Arc<Shared>,
    /// Taken from the common bound and not in use.
    spare: Cell<usize>,
}

impl Allowance {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, spare: Cell::new(0) }
    }

    fn take(&self, bytes: usize, bound: usize) -> bool {
        let spare = self.spare.get();
        if spare >= bytes {
            self.spare.set(spare - bytes);
            return true;
        }
        let lacking = bytes - spare;
        for more in [lacking.saturating_add(STEP), lacking] {
            if self.shared.held.take(more, bound) {
                self.spare.set(more - lacking);
                return true;
            }
        }
        false
    }

    fn give(&self, bytes: usize) {
        let spare = self.spare.get() + bytes;
        if spare > 2 * STEP {
            self.shared.held.give(spare - STEP);
            self.spare.set(STEP);
        } else {
            self.spare.set(spare);
        }
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        self.shared.held.give(self.spare.get());
    }
}

/// All held bodies together have reached their bound.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// A part of the bound; given back when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Room {
    bytes: usize,
    /// Where they are counted; nothing for bodies that hold nothing.
    by: Option<Rc<Allowance>>,
}

impl Room {
    /// So many bytes, where all that is taken stays within `bound`.
    pub(crate) fn of(bytes: usize, by: &Rc<Allowance>, bound: usize) -> Result<Self, NoRoom> {
        let mut room = Self { bytes: 0, by: Some(Rc::clone(by)) };
        room.change(bytes, bound)?;
        Ok(room)
    }

    fn change(&mut self, bytes: usize, bound: usize) -> Result<(), NoRoom> {
        let Some(by) = &self.by else { return Ok(()) };
        if bytes > self.bytes {
            if !by.take(bytes - self.bytes, bound) {
                return Err(NoRoom);
            }
        } else {
            by.give(self.bytes - bytes);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(by) = &self.by {
            by.give(self.bytes);
        }
    }
}

/// A request body in memory.
#[derive(Debug, Default)]
pub(crate) struct HeldBody {
    bytes: Vec<u8>,
    room: Room,
}

impl HeldBody {
    /// Takes over bytes that are in memory already.
    pub(crate) fn of(bytes: Vec<u8>, by: &Rc<Allowance>, bound: usize) -> Result<Self, NoRoom> {
        let room = Room::of(bytes.capacity(), by, bound)?;
        Ok(Self { bytes, room })
    }

    /// Takes in more of the body, whose whole length is `length` at most.
    pub(crate) fn push(&mut self, more: &[u8], length: usize, bound: usize) -> Result<(), NoRoom> {
        let needed = self.bytes.len() + more.len();
        if needed > self.bytes.capacity() {
            let roomy = self.bytes.capacity().saturating_mul(2).min(length).max(needed);
            // Counted first: the bound must not be passed even for a moment.
            self.room.change(roomy, bound)?;
            self.bytes.reserve_exact(roomy - self.bytes.len());
            self.room.change(self.bytes.capacity(), bound)?;
        }
        self.bytes.extend_from_slice(more);
        Ok(())
    }
}

impl Deref for HeldBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}
