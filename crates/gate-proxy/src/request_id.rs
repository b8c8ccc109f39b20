//! A request's name in logs, in its answer and towards the upstream: the client's own, or a random one.

use crate::downstream::Head;
use std::cell::Cell;
use std::fmt;

/// Longest name that is taken over from a client.
const LONGEST: usize = 64;

/// 1 to 64 characters of `[A-Za-z0-9._-]`; 16 hex digits where the gate made it.
#[derive(Clone, Copy)]
pub(crate) struct RequestId {
    text: Text,
    length: u8,
}

/// In whole words: where a text begins in the middle of one, looking through it byte by byte costs six times as much.
#[derive(Clone, Copy)]
#[repr(align(8))]
struct Text([u8; LONGEST]);

impl RequestId {
    /// The name that the client gave its request, if it gave one in a form that is safe to log and to send on; else a
    /// fresh one. A key is no name, whatever its form: `is_key` knows those of this gate.
    pub(crate) fn of(head: &Head, is_key: impl Fn(&[u8]) -> bool) -> Self {
        let mut given = head.all("x-request-id");
        match (given.next(), given.next()) {
            (Some(id), None) if is_sound(id) && !is_key(id) => Self::from_bytes(id),
            _ => Self::fresh(),
        }
    }

    /// One that no other request has.
    pub(crate) fn fresh() -> Self {
        let number = next_number();
        let mut digits = [0; 16];
        for (place, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(number >> (4 * place)) as usize & 15];
        }
        Self::from_bytes(&digits)
    }

    /// `bytes` are ASCII and not longer than they may be.
    fn from_bytes(bytes: &[u8]) -> Self {
        let length = bytes.len().min(LONGEST);
        let mut text = [0; LONGEST];
        text[..length].copy_from_slice(&bytes[..length]);
        Self { text: Text(text), length: length as u8 }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.text.0[..usize::from(self.length).min(LONGEST)]
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn is_sound(id: &[u8]) -> bool {
    (1..=LONGEST).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
        // A key in the wrong place must not end in logs.
        && !String::from_utf8_lossy(id).contains(gate_keys::KEY_PREFIX)
}

/// `SplitMix64` over a counter that begins at a random place on each thread: never the same twice on one thread, and no
/// system call per request. Uniqueness matters, not secrecy.
fn next_number() -> u64 {
    thread_local! {
        static COUNTER: Cell<u64> = Cell::new(first_number());
    }
    let counter = COUNTER.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
    COUNTER.set(counter);
    let mixed = (counter ^ (counter >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn first_number() -> u64 {
    // Without the system's randomness the clock must do.
    getrandom::u64().unwrap_or_else(|_| {
        let since = crate::clock::since_1970();
        since.as_secs().rotate_left(32) ^ u64::from(since.subsec_nanos())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &str) -> String {
        let head = Head::parse(&format!("GET / HTTP/1.1\r\n{fields}\r\n"));
        RequestId::of(&head, |id| id == b"a-token").to_string()
    }

    #[test]
    fn a_clients_own_name_is_kept_if_it_can_do_no_harm() {
        assert_eq!(of("X-Request-Id: a.B-9_\r\n"), "a.B-9_");
        let longest = "x".repeat(64);
        assert_eq!(of(&format!("x-request-id: {longest}\r\n")), longest);
        for fields in [
            String::new(),
            "x-request-id:\r\n".into(),
            "x-request-id: a b\r\n".into(),
            "x-request-id: a\"b\r\n".into(),
            "x-request-id: ä\r\n".into(),
            "x-request-id: a\r\nx-request-id: a\r\n".into(),
            "x-request-id: a.sk-hg-b\r\n".into(),
            "x-request-id: a-token\r\n".into(),
            format!("x-request-id: {longest}x\r\n"),
        ] {
            let id = of(&fields);
            assert!(id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{fields:?}: {id}");
        }
    }

    #[test]
    fn made_names_differ() {
        let names: std::collections::HashSet<_> = (0..1000).map(|_| RequestId::fresh().to_string()).collect();
        assert_eq!(names.len(), 1000);
    }
}
