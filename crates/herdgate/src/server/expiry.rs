//! When somebody is told that the certificate expires: once as the end comes near, then every day. Decides only.

use gate_proxy::Life;

const DAY: u64 = 24 * 3600;
/// Near the end, and very near; of a certificate that lasts for days alone, a fraction of its life instead.
const NEAR: (u64, u64) = (14 * DAY, 4);
const VERY_NEAR: (u64, u64) = (3 * DAY, 16);

/// What was told of the certificate in force.
#[derive(Debug, Default)]
pub(super) struct Told {
    of: Option<Life>,
    last: Option<u64>,
}

impl Told {
    /// Whether to tell at `now`; `Some` holds how many seconds are left, none if it has expired.
    pub(super) fn is_due(&mut self, life: Life, now: u64) -> Option<Option<u64>> {
        if self.of != Some(life) {
            *self = Told { of: Some(life), last: None };
        }
        let left = life.until.saturating_sub(now);
        let within = |(time, part): (u64, u64)| left <= time.min(life.seconds() / part);
        let is_due = match self.last {
            None => within(NEAR),
            Some(last) => within(VERY_NEAR) && now.saturating_sub(last) >= DAY,
        };
        is_due.then(|| {
            self.last = Some(now);
            (!life.is_over(now)).then_some(left)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The days, counted from the end, on which it is told.
    fn told(life: u64) -> Vec<i64> {
        let (from, until) = (1_800_000_000, 1_800_000_000 + life * DAY);
        let mut told = Told::default();
        let hours = (from..until + 2 * DAY).step_by(3600);
        let due = hours.filter(|now| told.is_due(Life { from, until }, *now).is_some());
        due.map(|now| (until as i64 - now as i64).div_euclid(DAY as i64)).collect()
    }

    #[test]
    fn it_is_told_once_at_fourteen_days_and_daily_under_three() {
        assert_eq!(told(90), [14, 3, 2, 1, 0, -1]);
        assert_eq!(told(6).first(), Some(&1), "one that lasts for six days is renewed before");
    }

    #[test]
    fn another_certificate_is_told_of_anew() {
        let mut told = Told::default();
        let old = Life { from: 0, until: 100 * DAY };
        assert_eq!(told.is_due(old, 99 * DAY), Some(Some(DAY)));
        assert_eq!(told.is_due(old, 99 * DAY + 60), None);
        assert_eq!(told.is_due(Life { from: 0, until: 101 * DAY }, 99 * DAY + 60), Some(Some(2 * DAY - 60)));
        assert_eq!(told.is_due(old, 101 * DAY), Some(None), "expired");
    }
}
