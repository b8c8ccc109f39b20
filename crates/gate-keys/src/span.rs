//! How long a key lives or an old secret overlaps: a whole number and a unit, `90s`, `30m`, `24h`, `30d`.

use crate::UnixSeconds;
use std::fmt;

const LONGEST_DAYS: i64 = 3650;
const DAY: i64 = 86_400;

/// A span of time in whole seconds, from nothing up to 3650 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(i64);

/// A text that is not a span of time, or one out of bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSpan {
    /// Not a number followed by a unit.
    #[error("{0:?} is not a span of time")]
    Form(String),
    /// Longer than ten years.
    #[error("{0:?} is longer than {LONGEST_DAYS} days")]
    TooLong(String),
}

impl BadSpan {
    /// What to do about it, in one line.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            BadSpan::Form(_) => "write a whole number and a unit: 90s, 30m, 24h or 30d",
            BadSpan::TooLong(_) => "ten years are the most; leave it out where there is to be no end",
        }
    }
}

impl Span {
    /// Reads `<number><unit>`; units are `s`, `m`, `h` and `d`.
    ///
    /// # Errors
    /// [`BadSpan`] for another form (no sign, no fraction, no blank) and for more than 3650 days.
    pub fn parse(text: &str) -> Result<Self, BadSpan> {
        let form = || BadSpan::Form(text.to_owned());
        let (digits, unit) = match text.as_bytes() {
            [digits @ .., b's'] => (digits, 1),
            [digits @ .., b'm'] => (digits, 60),
            [digits @ .., b'h'] => (digits, 3600),
            [digits @ .., b'd'] => (digits, DAY),
            _ => return Err(form()),
        };
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(form());
        }
        let number =
            digits.iter().fold(0_i64, |sum, d| sum.saturating_mul(10).saturating_add(i64::from(d - b'0')));
        match number.saturating_mul(unit) {
            seconds if seconds <= LONGEST_DAYS * DAY => Ok(Span(seconds)),
            _ => Err(BadSpan::TooLong(text.to_owned())),
        }
    }

    /// The span in seconds.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0
    }

    /// Whether it is no time at all.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The moment that lies this span after `now`.
    #[must_use]
    pub const fn after(self, now: UnixSeconds) -> UnixSeconds {
        now.saturating_add(self.0)
    }
}

impl fmt::Display for Span {
    /// In the largest unit that gives a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = [(DAY, 'd'), (3600, 'h'), (60, 'm')]
            .into_iter()
            .find(|(unit, _)| self.0 != 0 && self.0 % unit == 0);
        let (unit, letter) = fits.unwrap_or((1, 's'));
        write!(f, "{}{letter}", self.0 / unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_unit() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("30m", 1800), ("24h", 86_400), ("30d", 2_592_000)] {
            assert_eq!(Span::parse(text).unwrap().seconds(), seconds, "{text}");
        }
    }

    #[test]
    fn what_is_no_span() {
        for text in ["", "d", "30", "-1d", "+1d", "1.5h", "1 d", "1w", "1D", "1d12h", "٣d", "0x1s"] {
            assert_eq!(Span::parse(text), Err(BadSpan::Form(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn ten_years_are_the_bound() {
        assert!(Span::parse("3650d").is_ok());
        for text in ["3651d", "315360001s", "99999999999999999999999999d"] {
            assert!(matches!(Span::parse(text), Err(BadSpan::TooLong(_))), "{text}");
        }
    }

    #[test]
    fn it_is_written_in_the_largest_unit_that_fits() {
        for (text, written) in [
            ("0s", "0s"),
            ("90s", "90s"),
            ("120s", "2m"),
            ("90m", "90m"),
            ("36h", "36h"),
            ("48h", "2d"),
            ("86401s", "86401s"),
        ] {
            assert_eq!(Span::parse(text).unwrap().to_string(), written);
        }
        assert!(Span::parse("0d").unwrap().is_zero() && !Span::parse("1s").unwrap().is_zero());
        for (text, word) in [("1w", "30d"), ("3651d", "ten years")] {
            let hint = Span::parse(text).unwrap_err().hint();
            assert!(hint.contains(word), "{hint}");
        }
    }

    proptest! {
        #[test]
        fn a_span_reads_what_it_writes(seconds in 0..=LONGEST_DAYS * DAY) {
            prop_assert_eq!(Span::parse(&Span(seconds).to_string()), Ok(Span(seconds)));
        }
    }
}
