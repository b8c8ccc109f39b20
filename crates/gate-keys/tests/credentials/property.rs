//! What must hold for any bytes as a credential: the property that corpus replay and fuzz target share.

use gate_keys::{KeyRing, SignedRequest, Verdict, is_well_formed, token_of};

/// Reads `bytes` as the value of an `Authorization` field, with a request target in the first line. Nobody is let in by a
/// ring without keys, whatever the bytes are.
pub(crate) fn credential(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (target, rest) = bytes.split_at(end);
    let value = rest.get(1..).unwrap_or_default();
    let ring = KeyRing::default();
    let token = token_of(value);
    if let Some(token) = &token {
        assert!(!token.is_empty(), "{}", value.escape_ascii());
        assert!(!SignedRequest::is_one(value), "two readings of {}", value.escape_ascii());
        let verdict = ring.check(token, 1_000_000);
        let is_unknown = matches!(verdict, Verdict::Unknown);
        assert!(is_unknown || matches!(verdict, Verdict::Malformed), "{verdict:?}");
        assert_eq!(is_unknown, is_well_formed(token), "{}", value.escape_ascii());
        assert!(token.len() <= value.len(), "a token is a part of its field");
    }
    if let Some(signed) = SignedRequest::read(b"GET", target, value) {
        assert!(token.is_none() && SignedRequest::is_one(value));
        let said = format!("?ts={}", signed.ts());
        assert!(target.ends_with(said.as_bytes()), "{}", target.escape_ascii());
        for now in [signed.ts(), i64::MIN, i64::MAX] {
            let verdict = ring.check_signature(&signed, now);
            assert!(matches!(verdict, Verdict::Unknown | Verdict::Malformed), "{verdict:?}");
        }
    }
}
