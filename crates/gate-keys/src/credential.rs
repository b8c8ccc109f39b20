//! Where a key stands in an `Authorization` or a `Proxy-Authorization` field.
//!
//! Reads bytes of anybody; decides nothing about the key that it finds.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use std::borrow::Cow;

/// The token of `Bearer TOKEN` or of `Basic` with the token as password (RFC 6750, RFC 7617); none where the value has
/// another form. The token is never empty.
#[must_use]
pub fn token_of(authorization: &[u8]) -> Option<Cow<'_, [u8]>> {
    let space = authorization.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = authorization.split_at(space);
    let rest = rest.trim_ascii();
    if rest.is_empty() {
        return None;
    }
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(Cow::Borrowed(rest));
    }
    if scheme.eq_ignore_ascii_case(b"basic") {
        let end = rest.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
        let mut pair = STANDARD_NO_PAD.decode(&rest[..end]).ok()?;
        let colon = pair.iter().position(|byte| *byte == b':')?;
        pair.drain(..=colon);
        return (!pair.is_empty()).then_some(Cow::Owned(pair));
    }
    None
}

/// Whether the value names one of the two schemes and no token behind it, as where a variable was not set.
#[must_use]
pub fn is_empty_credential(authorization: &[u8]) -> bool {
    let end = authorization.iter().position(|byte| *byte == b' ').unwrap_or(authorization.len());
    let (scheme, rest) = authorization.split_at(end);
    let rest = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return rest.is_empty();
    }
    // `user:`, and a password of nothing. Not every spelling of it: it only chooses the words of a refusal.
    scheme.eq_ignore_ascii_case(b"basic")
        && (rest.is_empty() || STANDARD.decode(rest).is_ok_and(|pair| pair.ends_with(b":")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn two_forms_of_one_token() {
        for value in
            ["Bearer sk-1", "bearer   sk-1 ", "Basic dXNlcjpzay0x", "BASIC OnNrLTE=", "Basic OnNrLTE"]
        {
            assert_eq!(token_of(value.as_bytes()).as_deref(), Some(b"sk-1".as_slice()), "{value:?}");
        }
    }

    #[test]
    fn other_forms_have_none() {
        for value in [
            "",
            "sk-1",
            "Bearer",
            "Bearer ",
            "Digest x",
            "Basic %%%",
            "Basic dXNlcg==",
            "Basic dXNlcjo=",
            "Basic =",
        ] {
            assert_eq!(token_of(value.as_bytes()), None, "{value:?}");
        }
    }

    #[test]
    fn an_empty_token_is_told_from_none() {
        for value in ["Bearer", "bearer ", "Bearer   ", "Basic", "Basic dXNlcjo="] {
            assert!(is_empty_credential(value.as_bytes()), "{value:?}");
        }
        for value in ["", "sk-1", "Bearer x", "Digest", "Basic %%%", "Basic dXNlcg==", "Basic dXNlcjpzay0x"] {
            assert!(!is_empty_credential(value.as_bytes()), "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn a_password_comes_out_as_it_went_in(user in "[^:]{0,9}", password in ".{1,40}") {
            let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            let value = format!("Basic {pair}");
            let token = token_of(value.as_bytes()).map(Cow::into_owned);
            prop_assert_eq!(token, Some(password.into_bytes()));
        }
    }
}
