//! Sizes and times as people write them: `32KiB`, `64MiB`, `500ms`, `1h30m`. A number without a unit is not taken.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes. Text form: a whole number and a unit, B, KiB, MiB, GiB (powers of 1024) or KB, MB, GB (of 1000).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// As a length in memory; the largest one where it does not fit.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = SIZES.iter().find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size));
        let (unit, size) = fits.copied().unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

/// Why a text is not a size or a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadUnit {
    /// No digits in front, a sign, a fraction, or text behind.
    #[error("is not a whole number with a unit")]
    Form,
    /// Digits alone.
    #[error("has no unit")]
    NoUnit,
    /// A unit that is not known, or units of a time not in falling order.
    #[error("has an unknown unit")]
    Unit,
    /// Beyond what can be counted.
    #[error("is too large")]
    Range,
}

impl FromStr for ByteSize {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let (number, unit) = number(text.trim())?;
        let unit = unit.trim_start();
        if unit.is_empty() {
            return Err(BadUnit::NoUnit);
        }
        let known = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
        let (_, size) = known.ok_or(if unit.starts_with('.') { BadUnit::Form } else { BadUnit::Unit })?;
        number.checked_mul(*size).map(ByteSize).ok_or(BadUnit::Range)
    }
}

const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a time: whole numbers with the units d, h, m, s, ms, largest first, each at most once: `30s`, `1h30m`.
///
/// # Errors
/// [`BadUnit`], by cause.
pub fn duration(text: &str) -> Result<Duration, BadUnit> {
    let mut rest = text.trim();
    let mut millis: u64 = 0;
    let mut units = TIMES.iter();
    loop {
        let (count, behind) = number(rest)?;
        let end = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, next) = behind.split_at(end);
        if unit.is_empty() {
            return Err(if behind.is_empty() { BadUnit::NoUnit } else { BadUnit::Form });
        }
        let (_, size) = units.find(|(name, _)| *name == unit).ok_or(BadUnit::Unit)?;
        millis = count.checked_mul(*size).and_then(|part| millis.checked_add(part)).ok_or(BadUnit::Range)?;
        rest = next;
        if rest.is_empty() {
            return Ok(Duration::from_millis(millis));
        }
    }
}

/// Writes a time so that [`duration`] reads it back, in one unit: `90s`, `10m`. Parts below a millisecond are cut off.
#[must_use]
pub fn show_duration(time: Duration) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let fits = TIMES.iter().find(|(_, size)| millis >= *size && millis.is_multiple_of(*size));
    let (unit, size) = fits.copied().unwrap_or(("s", 1));
    format!("{}{unit}", millis / size)
}

fn number(text: &str) -> Result<(u64, &str), BadUnit> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() {
        return Err(BadUnit::Form);
    }
    digits.parse().map(|number| (number, rest)).map_err(|_| BadUnit::Range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        for (text, size) in [
            ("32KiB", Ok(32 << 10)),
            ("64 MiB", Ok(64 << 20)),
            ("1gib", Ok(1 << 30)),
            ("5MB", Ok(5_000_000)),
            ("0B", Ok(0)),
            ("32", Err(BadUnit::NoUnit)),
            ("", Err(BadUnit::Form)),
            ("KiB", Err(BadUnit::Form)),
            ("-1KiB", Err(BadUnit::Form)),
            ("1.5MiB", Err(BadUnit::Form)),
            ("32K", Err(BadUnit::Unit)),
            ("32KiB x", Err(BadUnit::Unit)),
            ("99999999999999999999B", Err(BadUnit::Range)),
            ("99999999999999GiB", Err(BadUnit::Range)),
        ] {
            assert_eq!(text.parse::<ByteSize>().map(|size| size.0), size, "{text:?}");
        }
    }

    #[test]
    fn times() {
        for (text, millis) in [
            ("30s", Ok(30_000)),
            ("500ms", Ok(500)),
            ("10m", Ok(600_000)),
            ("1h30m", Ok(5_400_000)),
            ("1d", Ok(86_400_000)),
            ("0s", Ok(0)),
            ("30", Err(BadUnit::NoUnit)),
            ("", Err(BadUnit::Form)),
            ("s", Err(BadUnit::Form)),
            ("-5s", Err(BadUnit::Form)),
            ("1.5s", Err(BadUnit::Form)),
            ("5 s", Err(BadUnit::Form)),
            ("30S", Err(BadUnit::Unit)),
            ("5min", Err(BadUnit::Unit)),
            ("5s5s", Err(BadUnit::Unit)),
            ("5s5m", Err(BadUnit::Unit)),
            ("5s5", Err(BadUnit::NoUnit)),
            ("999999999999999999d", Err(BadUnit::Range)),
        ] {
            assert_eq!(duration(text), millis.map(Duration::from_millis), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(number: u64) {
            prop_assert_eq!(ByteSize(number).to_string().parse(), Ok(ByteSize(number)));
            let time = Duration::from_millis(number);
            prop_assert_eq!(duration(&show_duration(time)), Ok(time));
        }
    }
}
