//! When an authority is asked: for a renewal after two thirds of a certificate's life, and again after a failure, ever more
//! rarely and never more often than an authority allows. Decides only; time and chance are arguments.

use gate_proxy::Life;
use serde::{Deserialize, Serialize};

const HOUR: u64 = 3600;
/// Refusals that an authority may give us in an hour. Let's Encrypt takes five failed validations of a name from an account
/// in that time; one is left to whoever tries by hand.
const REFUSALS_AN_HOUR: usize = 4;
/// After the first time that nobody answered, and at most.
const AWAY: (u64, u64) = (5, HOUR);
/// After the first refusal, and at most.
const REFUSED: (u64, u64) = (60, 6 * HOUR);
/// No wait that an authority asks for is longer.
const LONGEST: u64 = 7 * 24 * HOUR;

/// How a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody answered, or not for now: nothing counts towards a limit.
    Away,
    /// The authority said no.
    Refused,
}

/// What became of the latest tries. Kept on disk: a gate that is started again and again must not ask each time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Tries {
    /// When the authority refused, within the last hour.
    refused: Vec<u64>,
    /// The authority asked for patience until then.
    not_before: u64,
    /// How the latest failed, and how many did so in a row.
    #[serde(skip)]
    streak: Option<(Failure, u32)>,
}

impl Tries {
    /// When the next try may be, in seconds since 1970, as far as those before have a say: now, for a gate that starts.
    pub(super) fn earliest(&self, now: u64) -> u64 {
        // A clock that was set back makes nobody wait for years.
        now.max(self.not_before.min(now + LONGEST)).max(self.within_limits(now))
    }

    /// Takes a failure in and says when to try again. `patience` is what the authority asked for, `chance` is from 0 to 1.
    pub(super) fn failed(&mut self, how: Failure, patience: Option<u64>, now: u64, chance: f64) -> u64 {
        let in_a_row = match self.streak {
            Some((before, count)) if before == how => count.saturating_add(1),
            Some(_) | None => 1,
        };
        self.streak = Some((how, in_a_row));
        let ((first, most), factor) = match how {
            Failure::Away => (AWAY, 2_u64),
            Failure::Refused => (REFUSED, 4),
        };
        if how == Failure::Refused {
            self.refused.retain(|at| (now.saturating_sub(HOUR)..=now).contains(at));
            self.refused.push(now);
        }
        self.not_before = patience.map_or(0, |seconds| now + seconds.min(LONGEST));
        let wait = first.saturating_mul(factor.saturating_pow((in_a_row - 1).min(20))).min(most);
        (now + spread(wait, chance)).max(self.earliest(now))
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// When the next refusal would not be one too many.
    fn within_limits(&self, now: u64) -> u64 {
        let lately = || self.refused.iter().filter(|at| (now.saturating_sub(HOUR)..=now).contains(at));
        match lately().count().checked_sub(REFUSALS_AN_HOUR) {
            Some(over) => lately().nth(over).map_or(now, |at| at + HOUR + 1),
            None => now,
        }
    }
}

/// So many seconds, a quarter more at most: those who failed together shall not come back together.
fn spread(seconds: u64, chance: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and a quarter of it"
    )]
    let more = (u32::try_from(seconds / 4).map_or(0.0, f64::from) * chance.clamp(0.0, 1.0)) as u64;
    seconds + more
}

/// When a certificate is renewed: after two thirds of its life, a hundredth of it more at most.
pub(super) fn renewal(life: Life, chance: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and a hundredth of it"
    )]
    let more = (u32::try_from(life.seconds() / 100).map_or(0.0, f64::from) * chance.clamp(0.0, 1.0)) as u64;
    life.until.saturating_sub(life.seconds() / 3).saturating_add(more)
}

/// The same for one that came just now: where the clocks of the two differ by more than its life, two thirds of it are
/// over as it comes, and so would be those of the next.
pub(super) fn first_renewal(life: Life, now: u64, chance: f64) -> u64 {
    renewal(life, chance).max(now + (life.seconds() / 3).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const DAY: u64 = 24 * HOUR;

    #[test]
    fn who_is_away_is_asked_soon_and_then_ever_more_rarely() {
        let mut tries = Tries::default();
        let mut waits = Vec::new();
        for _ in 0..12 {
            waits.push(tries.failed(Failure::Away, None, NOW, 0.0) - NOW);
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]);
        assert_eq!(tries.earliest(NOW), NOW, "another start asks at once");
    }

    #[test]
    fn no_hour_holds_more_refusals_than_are_allowed_however_often_the_gate_is_started() {
        let mut kept = Tries::default();
        let (mut now, mut tried) = (NOW, Vec::new());
        while now < NOW + 12 * HOUR {
            // Each try fails, and its gate is started again at once.
            now = kept.earliest(now);
            kept = serde_json::from_value(serde_json::to_value(&kept).unwrap()).unwrap();
            tried.push(now);
            kept.failed(Failure::Refused, None, now, 0.5);
            now += 1;
        }
        for window in tried.windows(REFUSALS_AN_HOUR + 1) {
            assert!(window[REFUSALS_AN_HOUR] - window[0] > HOUR, "{window:?}");
        }
        assert!(tried.len() >= 4 * 11, "{}", tried.len());
    }

    #[test]
    fn one_gate_that_is_refused_asks_ever_more_rarely() {
        let mut tries = Tries::default();
        let mut now = NOW;
        let mut waits = Vec::new();
        for _ in 0..8 {
            let next = tries.failed(Failure::Refused, None, now, 0.0);
            waits.push(next - now);
            now = next;
        }
        assert_eq!(waits, [60, 240, 960, 3840, 15360, 21600, 21600, 21600]);
    }

    #[test]
    fn what_the_authority_asks_for_is_obeyed_within_reason() {
        let mut tries = Tries::default();
        assert_eq!(tries.failed(Failure::Away, Some(DAY), NOW, 1.0), NOW + DAY);
        assert_eq!(tries.earliest(NOW + 60), NOW + DAY, "by another start, too");
        assert_eq!(tries.failed(Failure::Refused, Some(u64::MAX), NOW, 1.0), NOW + 7 * DAY);
        tries.succeeded();
        assert_eq!(tries.earliest(NOW), NOW);
    }

    #[test]
    fn chance_only_ever_adds() {
        for (chance, most) in [(0.0, 60), (1.0, 75), (9.0, 75), (f64::NAN, 60)] {
            let next = Tries::default().failed(Failure::Refused, None, NOW, chance);
            assert_eq!(next, NOW + most, "{chance}");
        }
    }

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_and_never_in_a_loop() {
        let life = Life { from: NOW, until: NOW + 90 * DAY };
        assert_eq!(renewal(life, 0.0), NOW + 60 * DAY);
        assert!((60 * DAY..61 * DAY).contains(&(renewal(life, 1.0) - NOW)));
        let ahead = NOW + 365 * DAY;
        assert_eq!(first_renewal(life, ahead, 0.0), ahead + 30 * DAY, "a clock that is a year ahead");
        let none = Life { from: NOW, until: NOW };
        assert_eq!(first_renewal(none, NOW, 0.0), NOW + 1);
    }
}
