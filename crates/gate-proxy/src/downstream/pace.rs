//! The least speed of a request body. Pure: told what came and when, it says until when more must come.
//!
//! Time is looked at in windows. The first one is free, so that a client may be slow to begin; each later one must bring
//! as many bytes as the rate makes of it.

use crate::sweep::Tick;
use std::time::Duration;

/// The speed of one body so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Bytes that a window must bring.
    least: u64,
    window: Duration,
    began: Tick,
    /// Bytes of this window.
    came: u64,
    is_first: bool,
    /// When something came last.
    last: Tick,
    /// When the client stopped being waited for.
    paused: Option<Tick>,
}

impl Pace {
    /// A body that begins now, with a rate in bytes a second; 0 asks for nothing.
    pub(super) fn new(rate: u64, window: Duration, now: Tick) -> Self {
        let millis = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        let least = rate.saturating_mul(millis) / 1000;
        Self { least, window, began: now, came: 0, is_first: true, last: now, paused: None }
    }

    /// So many bytes came.
    pub(super) fn came(&mut self, bytes: usize, now: Tick) {
        if now >= self.end() {
            *self = Self { began: now, came: 0, is_first: false, ..*self };
        }
        self.came += bytes as u64;
        self.last = now;
    }

    /// Until when the next byte must come: it may be silent for a window, and must not miss the rate.
    pub(super) fn deadline(&self) -> Tick {
        let silent = self.last.plus(self.window);
        let is_free = self.is_first || self.came >= self.least;
        if is_free { silent } else { silent.min(self.end()) }
    }

    /// Others are waited for: the client's time stands still.
    pub(super) fn pause(&mut self, now: Tick) {
        self.paused = Some(now);
    }

    /// The client is waited for again.
    pub(super) fn resume(&mut self, now: Tick) {
        if let Some(paused) = self.paused.take() {
            self.began = self.began.moved(paused, now);
            self.last = self.last.moved(paused, now);
        }
    }

    fn end(&self) -> Tick {
        self.began.plus(self.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Tick {
        // `plus` adds a tick for the part of one that has passed; two of them are not noticed here.
        Tick::default().plus(Duration::from_secs(seconds))
    }

    /// The second at which a body that brings `bytes` each `every` seconds is given up; none within an hour.
    fn given_up(rate: u64, bytes: usize, every: u64) -> Option<u64> {
        let mut pace = Pace::new(rate, WINDOW, at(0));
        let mut deadline = pace.deadline();
        for second in (every..3600).step_by(usize::try_from(every).unwrap()) {
            if deadline < at(second) {
                return Some(second);
            }
            pace.came(bytes, at(second));
            deadline = pace.deadline();
        }
        None
    }

    #[test]
    fn a_body_at_the_rate_comes_through_and_a_slower_one_does_not() {
        assert_eq!(given_up(1024, 1024, 1), None);
        assert_eq!(given_up(1024, 9 * 1024, 8), None);
        assert_eq!(given_up(1024, 12 * 1024, 11), Some(11), "silence has its own limit");
        let slow = given_up(1024, 512, 1).unwrap();
        assert!((20..=22).contains(&slow), "the first window is free, the second too slow: {slow}");
        let drip = given_up(1024, 1, 9).unwrap();
        assert!((20..=36).contains(&drip), "{drip}");
        assert_eq!(given_up(0, 1, 9), None, "no rate is asked for");
    }

    #[test]
    fn what_came_fast_before_is_no_credit() {
        let mut pace = Pace::new(1024, WINDOW, at(0));
        pace.came(60 << 20, at(1));
        pace.came(1, at(11));
        assert!(pace.deadline() <= at(22));
        pace.came(1, at(20));
        assert!(pace.deadline() <= at(22));
    }

    #[test]
    fn time_that_others_take_does_not_count() {
        let mut pace = Pace::new(1024, WINDOW, at(0));
        pace.came(1, at(11));
        pace.pause(at(12));
        pace.resume(at(500));
        assert!(pace.deadline() > at(508), "nine seconds of the window are left");
        assert!(pace.deadline() < at(511));
    }
}
