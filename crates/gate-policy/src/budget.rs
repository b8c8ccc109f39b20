//! How many requests may be sent a second time: enough to hide one upstream's death, never so many that a fleet in trouble
//! gets twice the work.
//!
//! Pure: a bucket of tokens, time is an argument.

use std::time::{Duration, Instant};

/// One retry is earned by so many requests: at most a fifth of them is sent twice.
pub const REQUESTS_PER_RETRY: u64 = 5;
/// So many retries a second are free, whatever the traffic: a gate with little to do may always try again.
pub const FREE_PER_SECOND: u64 = 10;
/// So many retries may be saved up: those that an upstream leaves behind when it dies with all slots of the default taken,
/// several times over.
pub const MOST_SAVED: u64 = 256;

/// In thousandths of a retry, so that neither a request's share nor a millisecond's is lost.
const RETRY: u64 = 1000;

/// The bucket. Begins full.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    /// Thousandths of a retry, up to [`MOST_SAVED`] retries.
    saved: u64,
    filled: Option<Instant>,
}

impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget { saved: MOST_SAVED * RETRY, filled: None }
    }
}

impl RetryBudget {
    /// A request is sent for the first time.
    pub fn earn(&mut self) {
        self.add(RETRY / REQUESTS_PER_RETRY);
    }

    /// Whether one more request may be sent again.
    pub fn allows(&mut self, now: Instant) -> bool {
        let since = self.filled.map_or(Duration::ZERO, |filled| now.saturating_duration_since(filled));
        let whole = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        // What is less than a millisecond waits for the next time.
        if whole > 0 || self.filled.is_none() {
            self.filled = Some(now);
        }
        self.add(whole.saturating_mul(FREE_PER_SECOND * RETRY / 1000));
        self.saved >= RETRY
    }

    /// A request is sent again.
    pub fn spend(&mut self) {
        self.saved = self.saved.saturating_sub(RETRY);
    }

    fn add(&mut self, more: u64) {
        self.saved = self.saved.saturating_add(more).min(MOST_SAVED * RETRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether it was allowed, and then paid for.
    fn sent_again(budget: &mut RetryBudget, now: Instant) -> bool {
        let may = budget.allows(now);
        if may {
            budget.spend();
        }
        may
    }

    #[test]
    fn a_quiet_gate_may_always_try_again() {
        let (mut budget, start) = (RetryBudget::default(), Instant::now());
        assert!((0..10_000).all(|n| sent_again(&mut budget, start + Duration::from_millis(100) * n)));
    }

    #[test]
    fn a_fifth_of_many_requests_and_no_more() {
        let (mut budget, now) = (RetryBudget::default(), Instant::now());
        while sent_again(&mut budget, now) {}
        let again = (0..10_000).filter(|_| {
            budget.earn();
            sent_again(&mut budget, now)
        });
        assert_eq!(again.count(), 2000);
    }

    proptest! {
        #[test]
        fn never_above_what_was_saved_earned_and_free(
            steps in prop::collection::vec((any::<bool>(), 0u64..50_000), 1..400),
        ) {
            let start = Instant::now();
            let (mut budget, mut now, mut earned, mut spent) = (RetryBudget::default(), start, 0, 0);
            for (spends, micros) in steps {
                now += Duration::from_micros(micros);
                if spends {
                    spent += u64::from(sent_again(&mut budget, now));
                } else {
                    budget.earn();
                    earned += 1;
                }
                let free = u64::try_from((now - start).as_millis()).unwrap() * FREE_PER_SECOND / 1000;
                prop_assert!(spent <= MOST_SAVED + earned / REQUESTS_PER_RETRY + free + 1);
            }
        }
    }
}
