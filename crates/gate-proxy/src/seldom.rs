//! What is told of in the log once a minute, however often it happens: nobody shall fill a log.

use gate_keys::UnixSeconds;
use std::sync::{Mutex, PoisonError};

/// The minutes since 1970 in which each of a few things was last told of.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<Vec<UnixSeconds>>);

impl Seldom {
    /// Whether the thing at `place` is to be told of now. Takes a short lock of all cores: ask only when it has happened.
    pub(crate) fn is_due(&self, place: usize, now: UnixSeconds) -> bool {
        let minute = now.div_euclid(60);
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() <= place {
            told.resize(place + 1, UnixSeconds::MIN);
        }
        std::mem::replace(&mut told[place], minute) != minute
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_of_once_a_minute() {
        let seldom = Seldom::default();
        assert!(seldom.is_due(2, 0) && !seldom.is_due(2, 59) && seldom.is_due(2, 60));
        assert!(seldom.is_due(0, 60) && !seldom.is_due(0, 61));
        assert!(seldom.is_due(2, 6000) && !seldom.is_due(2, 6001));
    }
}
