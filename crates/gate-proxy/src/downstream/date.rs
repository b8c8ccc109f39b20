//! The `Date` field (RFC 9110, section 6.6.1), made once a second on each thread.

use crate::clock::since_1970;
use std::cell::Cell;
use std::time::{Duration, UNIX_EPOCH};

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
const LENGTH: usize = 29;

thread_local! {
    /// The second that was written last, and its text.
    static LAST: Cell<(u64, [u8; LENGTH])> = const { Cell::new((u64::MAX, [0; LENGTH])) };
}

/// Writes the field with the present time.
pub(super) fn write(out: &mut Vec<u8>) {
    if let Some(text) = value() {
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(&text);
        out.extend_from_slice(b"\r\n");
    }
}

/// The present time as the field has it; none where the system's clock stands beyond the year 9999.
pub(super) fn value() -> Option<[u8; LENGTH]> {
    let now = since_1970().as_secs();
    let (second, text) = LAST.get();
    if second == now {
        return Some(text);
    }
    let long = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now));
    let fresh = long.as_bytes().try_into().ok()?;
    LAST.set((now, fresh));
    Some(fresh)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn the_field_is_the_present_time_as_http_writes_it() {
        let before = SystemTime::now() - Duration::from_secs(1);
        for _ in 0..2 {
            let mut out = Vec::new();
            write(&mut out);
            let line = String::from_utf8(out).unwrap();
            let text = line.strip_prefix("Date: ").unwrap().strip_suffix("\r\n").unwrap();
            let told = httpdate::parse_http_date(text).unwrap();
            assert!(told >= before && told <= SystemTime::now(), "{line}");
        }
    }
}
