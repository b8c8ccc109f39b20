//! The time of day, where something outside of the process counts in it. What takes how long is measured by another clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Since 1970-01-01 UTC; nothing where the system's clock stands before it.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Seconds since 1970: what expiry is counted in.
#[must_use]
pub fn unix_now() -> i64 {
    i64::try_from(since_1970().as_secs()).unwrap_or(i64::MAX)
}
