//! Origins of web pages (RFC 6454) and the patterns that allow them, as `OLLAMA_ORIGINS` writes them.

use std::fmt;

/// Which origins are allowed: one, all that a `*` in it stands for, or with `*` alone every one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginPattern {
    text: String,
    /// Where the `*` is.
    star: Option<usize>,
}

/// Why a text is no pattern of origins, as the end of a sentence that begins with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadOrigin(pub &'static str);

/// Bytes of a pattern, and of an origin that is looked at.
const LONGEST: usize = 255;

impl OriginPattern {
    /// Reads a pattern: `https://app.example`, `http://localhost:*`, `chrome-extension://*`, `*`. Letters count in any case.
    ///
    /// # Errors
    /// [`BadOrigin`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, BadOrigin> {
        if text == "*" {
            return Ok(OriginPattern { text: text.to_owned(), star: Some(0) });
        }
        if text.eq_ignore_ascii_case("null") {
            return Err(BadOrigin("is every page in a file or a sandbox, and cannot be listed"));
        }
        let bad = BadOrigin("is no origin; write it like https://app.example or http://localhost:*");
        let (scheme, host) = text.split_once("://").ok_or(bad)?;
        if host.contains(['/', '?', '#']) {
            return Err(BadOrigin("is more than an origin, which ends behind its host and port"));
        }
        if text.len() > LONGEST || !is_scheme(scheme.as_bytes()) || !is_host(host.as_bytes()) {
            return Err(bad);
        }
        if text.matches('*').count() > 1 {
            return Err(BadOrigin("has more than one *"));
        }
        Ok(OriginPattern { text: text.to_ascii_lowercase(), star: text.find('*') })
    }

    /// The pattern, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it allows every origin.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.text == "*"
    }

    /// Whether it allows the origin that a browser sent.
    #[must_use]
    pub fn allows(&self, origin: &[u8]) -> bool {
        if self.is_any() {
            return true;
        }
        if !is_origin(origin) {
            return false;
        }
        let (start, end) = match self.star {
            Some(at) => (&self.text.as_bytes()[..at], &self.text.as_bytes()[at + 1..]),
            None => return origin.eq_ignore_ascii_case(self.text.as_bytes()),
        };
        origin.len() >= start.len() + end.len()
            && origin[..start.len()].eq_ignore_ascii_case(start)
            && origin[origin.len() - end.len()..].eq_ignore_ascii_case(end)
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a browser can send but `null`: a scheme, and a host with its port (of `file://` none). No user before it, or
/// `http://localhost:1@evil.example` would be of `http://localhost:*`.
fn is_origin(origin: &[u8]) -> bool {
    let Some(colon) = origin.iter().position(|byte| *byte == b':') else { return false };
    let host = origin[colon..].strip_prefix(b"://");
    origin.len() <= LONGEST
        && is_scheme(&origin[..colon])
        && host.is_some_and(|host| host.is_empty() || !host.contains(&b'*') && is_host(host))
}

fn is_scheme(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_alphabetic)
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(byte))
}

/// A host with its port, or what stands there in the origins of browser extensions and programs; `*` in a pattern.
fn is_host(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]*".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allows(pattern: &str, origin: &str) -> bool {
        OriginPattern::parse(pattern).unwrap().allows(origin.as_bytes())
    }

    #[test]
    fn one_origin_all_of_a_star_or_every_one() {
        for (pattern, origin, is_allowed) in [
            ("https://app.example", "https://app.example", true),
            ("https://app.example", "HTTPS://App.Example", true),
            ("https://app.example", "http://app.example", false),
            ("https://app.example", "https://app.example:8443", false),
            ("https://app.example", "https://app.example.evil", false),
            ("http://localhost:*", "http://localhost:3000", true),
            ("http://localhost:*", "http://localhost", false),
            ("http://localhost:*", "http://localhost:1@evil.example", false),
            ("http://localhost:*", "http://localhost:1/evil", false),
            ("https://*.example", "https://a.b.example", true),
            ("https://*.example", "https://.exampl", false),
            ("https://*.example", "https://evil/.example", false),
            ("https://a*a.example", "https://a.example", false),
            ("https://a*a.example", "https://aa.example", true),
            ("https://intranet.*", "https://a", false),
            ("chrome-extension://*", "chrome-extension://abcdefgh", true),
            ("app://*", "app://obsidian.md", true),
            ("file://*", "file://", true),
            ("http://[::1]:*", "http://[::1]:5173", true),
            ("https://app.example", "null", false),
            ("https://app.example", "", false),
            ("*", "null", true),
            ("*", "https://anything", true),
        ] {
            assert_eq!(allows(pattern, origin), is_allowed, "{pattern} {origin}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "null",
            "app.example",
            "://x",
            "http://",
            "https://app.example/",
            "https://a.example/path",
            "https://*.*.example",
            "*://x",
            "http://a b",
            "http://a\"b",
            "http://user@a",
            "**",
            "http://\u{e9}",
        ] {
            assert!(OriginPattern::parse(text).is_err(), "{text:?}");
        }
        let (longest, longer) = ("a".repeat(LONGEST - 7), "a".repeat(LONGEST - 6));
        assert!(allows(&format!("http://{longest}"), &format!("http://{longest}")));
        assert!(OriginPattern::parse(&format!("http://{longer}")).is_err());
        assert!(!allows("http://*", &format!("http://{longer}")));
    }

    proptest! {
        #[test]
        fn a_pattern_reads_back_as_itself_and_allows_itself_without_a_star(text in "[a-z]{1,8}://[a-z0-9.:*-]{1,20}") {
            if let Ok(pattern) = OriginPattern::parse(&text) {
                prop_assert_eq!(OriginPattern::parse(&pattern.to_string()).unwrap(), pattern.clone());
                prop_assert_eq!(pattern.to_string(), pattern.as_str());
                prop_assert_eq!(pattern.allows(text.as_bytes()), !text.contains('*'));
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let pattern = OriginPattern::parse("http://a*b").unwrap();
            prop_assert!(!pattern.allows(&bytes) || bytes.starts_with(b"http://a") || bytes[..8].eq_ignore_ascii_case(b"http://a"));
        }
    }
}
