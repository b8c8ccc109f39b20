//! The marks of what is under way by other gates: each exchange has one of its own, which nobody can guess and which is nobody's
//! any more once the exchange has its answer. What comes in with one of them was sent by this very gate and came back.
//!
//! Looked at only for requests that bring marks, under a lock that nobody holds for longer than a look takes.

use gate_types::UpstreamId;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a mark was sent with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Where it went.
    pub upstream: UpstreamId,
    /// Along with what.
    pub along: Along,
}

/// What a mark goes along with: what it is worth when it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Along {
    /// A probe's question that a gate answers by itself, and sends on to nobody: who brings it back is the upstream, or a
    /// proxy that it is.
    Proof,
    /// A probe's question that a gate passes on to all of its own upstreams, any of which may bring it back out of spite.
    Listing,
    /// A request.
    Request,
}

/// The marks of one gate.
#[derive(Default)]
pub(crate) struct Marks {
    live: Mutex<HashMap<u128, Sent>>,
    /// How many there are, to be read without the lock.
    count: AtomicUsize,
}

impl Marks {
    /// A new one; none where the system has no randomness: then no loop is noticed.
    pub(crate) fn make(&self, sent: Sent) -> Option<Mark<'_>> {
        let mut bytes = [0; size_of::<u128>()];
        getrandom::fill(&mut bytes).ok()?;
        let number = u128::from_be_bytes(bytes);
        let mut live = self.live();
        live.insert(number, sent);
        self.count.store(live.len(), Ordering::Release);
        Some(Mark { of: self, number })
    }

    /// What the first of these that is one of this gate's was sent with.
    pub(crate) fn find(&self, mut marks: impl Iterator<Item = u128>) -> Option<Sent> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let live = self.live();
        marks.find_map(|mark| live.get(&mark).copied())
    }

    fn live(&self) -> MutexGuard<'_, HashMap<u128, Sent>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A mark that is known for as long as this lives. Written as so many hexadecimal digits, it goes along.
pub struct Mark<'r> {
    of: &'r Marks,
    number: u128,
}

impl Mark<'_> {
    /// Digits of its text.
    pub const LENGTH: usize = 2 * size_of::<u128>();

    /// The number of a text that a gate may have written.
    #[must_use]
    pub fn read(text: &str) -> Option<u128> {
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let is_mark = text.len() == Self::LENGTH && text.bytes().all(is_digit);
        is_mark.then(|| u128::from_str_radix(text, 16).ok()).flatten()
    }
}

impl fmt::Display for Mark<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.number)
    }
}

impl fmt::Debug for Mark<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mark")
    }
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        let mut live = self.of.live();
        live.remove(&self.number);
        self.of.count.store(live.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: Sent = Sent { upstream: UpstreamId(3), along: Along::Request };

    #[test]
    fn a_mark_is_known_for_as_long_as_its_exchange() {
        let (marks, others) = (Marks::default(), Marks::default());
        let mark = marks.make(SENT).unwrap();
        let probe = marks.make(Sent { along: Along::Proof, ..SENT }).unwrap();
        let text = mark.to_string();
        assert_eq!(text.len(), Mark::LENGTH);
        let find = |marks: &Marks, texts: [&str; 2]| marks.find(texts.into_iter().filter_map(Mark::read));
        let nobodys = "0123456789abcdef0123456789abcdef";
        assert_eq!(find(&marks, [nobodys, &text]), Some(SENT));
        assert!(find(&marks, [&probe.to_string(), &text]).unwrap().along == Along::Proof);
        assert_eq!(find(&others, [nobodys, &text]), None, "that of another gate");
        drop(mark);
        assert_eq!(find(&marks, [nobodys, &text]), None, "its exchange is over");
        assert_ne!(marks.make(SENT).unwrap().to_string(), text);
        assert!(!format!("{probe:?}").contains(&probe.to_string()));
        drop(probe);
        assert_eq!(marks.count.load(Ordering::Acquire), 0);
    }

    #[test]
    fn only_what_gates_write_is_a_mark() {
        let one = "0123456789abcdef0123456789abcdef";
        assert_eq!(Mark::read(one), Some(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
        for bad in ["", "gate", &one.to_uppercase(), &one[1..], &format!("{one}0"), &one.replace('0', "+")] {
            assert_eq!(Mark::read(bad), None, "{bad}");
        }
    }
}
