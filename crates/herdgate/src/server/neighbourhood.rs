//! This machine's neighbours as the kernel told them last, for all listeners and cores. Cores ask anew where that is too old for a
//! caller, seldom: however many come, the kernel is asked by one at a time and once in a while.
//!
//! Never makes a core wait: it is told to come again.

use super::netlink::Neighbour;
use arc_swap::{ArcSwap, Guard};
use std::io;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// How long the kernel is left alone by the cores.
const REST: Duration = Duration::from_millis(50);

/// What was told last.
#[derive(Debug)]
pub(super) struct Neighbourhood {
    told: ArcSwap<Told>,
    /// When the kernel was asked last; held while somebody asks.
    asked: Mutex<Instant>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Told {
    /// When the question began: who had connected by then is in the answer, if it is a neighbour.
    at: Instant,
    pub(super) neighbours: Vec<Neighbour>,
}

impl Neighbourhood {
    /// Asks for the first time, at `now`.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub(super) fn of(now: Instant, ask: impl FnOnce() -> io::Result<Vec<Neighbour>>) -> io::Result<Self> {
        let told = Told { at: now, neighbours: ask()? };
        Ok(Self { told: ArcSwap::from_pointee(told), asked: Mutex::new(now) })
    }

    /// What was told last, whenever that was.
    pub(super) fn told(&self) -> Guard<Arc<Told>> {
        self.told.load()
    }

    /// Asks anew, at `now`, however short ago that was done. Not for cores.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub(super) fn renew(
        &self,
        now: Instant,
        ask: impl FnOnce() -> io::Result<Vec<Neighbour>>,
    ) -> io::Result<Arc<Told>> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        *asked = now;
        self.keep(now, ask)
    }

    /// What was told after `since`; asks for it at `now` where nothing was. None where it is not time for that.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub(super) fn told_after(
        &self,
        since: Instant,
        now: Instant,
        ask: impl FnOnce() -> io::Result<Vec<Neighbour>>,
    ) -> io::Result<Option<Arc<Told>>> {
        let told = self.told.load();
        if told.at >= since {
            return Ok(Some(Arc::clone(&told)));
        }
        let mut asked = match self.asked.try_lock() {
            Ok(asked) => asked,
            Err(TryLockError::Poisoned(asked)) => asked.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        if now.saturating_duration_since(*asked) < REST {
            return Ok(None);
        }
        // An answer that fails counts as well.
        *asked = now;
        self.keep(now, ask).map(Some)
    }

    fn keep(&self, now: Instant, ask: impl FnOnce() -> io::Result<Vec<Neighbour>>) -> io::Result<Arc<Told>> {
        let told = Arc::new(Told { at: now, neighbours: ask()? });
        self.told.store(Arc::clone(&told));
        Ok(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn many_callers_cost_few_questions_and_each_has_an_answer_newer_than_itself() {
        let begin = Instant::now();
        let questions = Cell::new(0);
        let ask = || {
            questions.set(questions.get() + 1);
            Ok(Vec::new())
        };
        let neighbourhood = Neighbourhood::of(begin, ask).unwrap();
        let at = |millis| begin + Duration::from_millis(millis);
        let mut waiting = Vec::new();
        // Ten come in each millisecond of a second, and all who wait ask again in each.
        for millis in 1..=1000 {
            waiting.extend([at(millis); 10]);
            waiting.retain(|since| {
                let told = neighbourhood.told_after(*since, at(millis), ask).unwrap();
                assert!(told.as_ref().is_none_or(|told| told.at >= *since), "older than who asks");
                assert!(told.is_some() || at(millis) - *since < REST, "nobody waits for longer");
                told.is_none()
            });
        }
        assert_eq!(questions.get(), 1 + 20, "10 000 callers in a second");
        assert!(neighbourhood.told_after(at(1001), at(1049), ask).unwrap().is_none());
        neighbourhood.renew(at(1050), ask).unwrap();
        assert!(neighbourhood.told_after(at(1001), at(1051), ask).unwrap().is_some(), "by a look");
        assert_eq!(questions.get(), 22);
    }

    #[test]
    fn a_kernel_that_does_not_tell_is_left_alone_as_well() {
        let begin = Instant::now();
        let neighbourhood = Neighbourhood::of(begin, || Ok(Vec::new())).unwrap();
        let at = |millis| begin + Duration::from_millis(millis);
        let fail = || Err(io::Error::other("no"));
        assert!(neighbourhood.told_after(at(60), at(60), fail).is_err());
        assert!(neighbourhood.told_after(at(61), at(61), fail).unwrap().is_none());
        assert!(neighbourhood.told_after(at(61), at(110), || Ok(Vec::new())).unwrap().is_some());
    }
}
