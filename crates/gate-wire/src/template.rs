//! The paths of routes that the settings open beside the table: `/tts/v1/voices`, `/tts/v1/{rest}`. Looked at only where the
//! table has nothing.
//!
//! Which bytes a path may have is as narrow as everywhere: what could be read as another path by whoever reads it next
//! matches nothing. The upstream's path is written anew of the template and of what was checked.

use crate::routes::{Allow, Methods, ROUTES};
use std::fmt;
use std::sync::Arc;

/// What stands for the rest of a path.
const REST: &str = "{rest}";
/// Bytes of a template.
const LONGEST: usize = 256;

/// The methods that are open on such a path.
pub(crate) static METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// A path, or the beginning of one with `{rest}` behind it, which stands for one segment or more.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    text: Arc<str>,
    has_rest: bool,
}

/// Why a text is no template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    /// It does not begin with `/`.
    #[error("does not begin with \"/\"")]
    NotAPath,
    /// More than 256 bytes.
    #[error("is longer than {LONGEST} bytes")]
    TooLong,
    /// A segment that is empty, `.` or `..`, or has other signs than plain ones.
    #[error("has a segment that is empty, a dot segment, or of other signs than A-Z a-z 0-9 - . _ ~")]
    Segment,
    /// `{rest}` or another parameter where none can be.
    #[error("has a parameter elsewhere than at its end, or another one than {REST}")]
    Parameter,
    /// `/{rest}`.
    #[error("would take every path")]
    Everything,
    /// A request to a route of the table would match it, too.
    #[error("is in the way of the built-in route {0}")]
    BuiltIn(&'static str),
}

impl BadTemplate {
    /// What to do about it.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            BadTemplate::NotAPath | BadTemplate::TooLong | BadTemplate::Segment | BadTemplate::Parameter => {
                "write a plain path, and {rest} as its last segment where more may follow: \"/tts/v1/{rest}\""
            }
            BadTemplate::Everything | BadTemplate::BuiltIn(_) => {
                "built-in routes stay as they are; name a path of its own: \"/tts/v1/{rest}\""
            }
        }
    }
}

impl Template {
    /// Reads and checks one.
    ///
    /// # Errors
    /// [`BadTemplate`].
    pub fn parse(text: &str) -> Result<Self, BadTemplate> {
        let segments = text.strip_prefix('/').ok_or(BadTemplate::NotAPath)?;
        if text.len() > LONGEST {
            return Err(BadTemplate::TooLong);
        }
        let (fixed, has_rest) = match segments.strip_suffix(REST) {
            Some("") => return Err(BadTemplate::Everything),
            Some(before) => (before.strip_suffix('/').ok_or(BadTemplate::Parameter)?, true),
            None => (segments, false),
        };
        if fixed.contains(['{', '}']) {
            return Err(BadTemplate::Parameter);
        }
        let is_plain = |segment: &str| is_segment(segment) && segment.bytes().all(is_unreserved);
        if !fixed.split('/').all(is_plain) {
            return Err(BadTemplate::Segment);
        }
        let template = Template { text: text.into(), has_rest };
        match template.built_in() {
            Some(path) => Err(BadTemplate::BuiltIn(path)),
            None => Ok(template),
        }
    }

    /// As it stands in settings, records and metrics.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// How much of a path it fixes: where two match, the one that fixes more is meant.
    #[must_use]
    pub fn fixed_bytes(&self) -> usize {
        self.fixed().len()
    }

    /// Whether it matches this path, which came without its query.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        self.rest_of(path).is_some()
    }

    /// What to ask the upstream for: the template's own beginning, the checked rest, and the query as it came. None where the
    /// path does not match.
    #[must_use]
    pub fn upstream_target(&self, path_and_query: &str) -> Option<String> {
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        let rest = self.rest_of(path)?;
        let mut target = String::with_capacity(path_and_query.len());
        target.push_str(self.fixed());
        target.push_str(rest);
        if let Some(query) = query {
            target.push('?');
            target.push_str(query);
        }
        Some(target)
    }

    /// What `{rest}` stands for in this path; nothing where the template has none.
    fn rest_of<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(self.fixed())?;
        let matches = if self.has_rest { rest.split('/').all(is_segment) } else { rest.is_empty() };
        matches.then_some(rest)
    }

    /// All but `{rest}`.
    fn fixed(&self) -> &str {
        if self.has_rest { self.text.strip_suffix(REST).unwrap_or_default() } else { &self.text }
    }

    /// The route of the table that this would stand in the way of. Case counts there and not here: what differs in nothing else
    /// is a mistake.
    fn built_in(&self) -> Option<&'static str> {
        let own = self.fixed();
        let begins = |text: &str, start: &str| {
            text.get(..start.len()).is_some_and(|part| part.eq_ignore_ascii_case(start))
        };
        let clashes = |path: &str| match path.split_once('{') {
            Some((before, _)) => begins(own, before) || (self.has_rest && begins(before, own)),
            None => own.eq_ignore_ascii_case(path) || (self.has_rest && begins(path, own)),
        };
        ROUTES.iter().map(|route| route.path).find(|path| clashes(path))
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Allow {
    /// The methods of every route that the settings open.
    pub const OF_TEMPLATES: Allow = Allow(Methods::Listed(&METHODS));

    /// Whether a route that the settings open takes this method.
    #[must_use]
    pub fn is_of_templates(method: &str) -> bool {
        METHODS.contains(&method)
    }
}

/// One segment with one reading: RFC 3986 section 3.3, not empty, no dot segment (not even before a `;`, which some cut off),
/// and escaped only where a byte cannot stand for itself. An escaped letter would be the same path to the upstream and
/// another one here; an escaped separator the other way round.
fn is_segment(segment: &str) -> bool {
    let name = segment.split(';').next().unwrap_or_default();
    if segment.is_empty() || name == "." || name == ".." {
        return false;
    }
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        let is_sound = match byte {
            b'%' => bytes.next().zip(bytes.next()).and_then(escaped).is_some_and(may_be_escaped),
            _ => is_unreserved(byte) || b"!$&'()*+,;=:@".contains(&byte),
        };
        if !is_sound {
            return false;
        }
    }
    true
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn escaped((high, low): (u8, u8)) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// No separator, no second escape, no control, and nothing that needs none.
fn may_be_escaped(byte: u8) -> bool {
    !is_unreserved(byte) && !byte.is_ascii_control() && !b"/\\%;?#".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        Template::parse(text).unwrap()
    }

    #[test]
    fn what_is_a_template_and_what_is_not() {
        for text in
            ["/tts/v1/{rest}", "/rerank", "/v1/rerank", "/v1/audio/speech", "/api/extra/{rest}", "/a.b/~c_-"]
        {
            assert_eq!(&**template(text).text(), text);
        }
        for (text, bad) in [
            ("tts", BadTemplate::NotAPath),
            ("", BadTemplate::NotAPath),
            ("/", BadTemplate::Segment),
            ("/tts/", BadTemplate::Segment),
            ("//tts", BadTemplate::Segment),
            ("/a/../b", BadTemplate::Segment),
            ("/./{rest}", BadTemplate::Segment),
            ("/a%2fb", BadTemplate::Segment),
            ("/a b", BadTemplate::Segment),
            ("/a?b", BadTemplate::Segment),
            ("/{rest}", BadTemplate::Everything),
            ("/a{rest}", BadTemplate::Parameter),
            ("/{rest}/a", BadTemplate::Parameter),
            ("/a/{name}", BadTemplate::Parameter),
            ("/a/{rest}/{rest}", BadTemplate::Parameter),
            ("/api/{rest}", BadTemplate::BuiltIn("/api/version")),
            ("/v1/{rest}", BadTemplate::BuiltIn("/v1/models")),
            ("/v1/audio/{rest}", BadTemplate::BuiltIn("/v1/audio/transcriptions")),
            ("/api/chat", BadTemplate::BuiltIn("/api/chat")),
            ("/API/Chat", BadTemplate::BuiltIn("/api/chat")),
            ("/metrics", BadTemplate::BuiltIn("/metrics")),
            ("/api/blobs/{rest}", BadTemplate::BuiltIn("/api/blobs/{digest}")),
            ("/v1/models/own", BadTemplate::BuiltIn("/v1/models/{model}")),
            ("/v1/models/own/{rest}", BadTemplate::BuiltIn("/v1/models/{model}")),
        ] {
            assert_eq!(Template::parse(text), Err(bad), "{text}");
        }
        assert_eq!(Template::parse(&format!("/{}", "a".repeat(LONGEST))), Err(BadTemplate::TooLong));
    }

    #[test]
    fn none_can_be_in_the_way_of_the_table() {
        for route in ROUTES {
            assert!(Template::parse(route.path).is_err(), "{}", route.path);
        }
    }

    #[test]
    fn the_rest_is_one_segment_or_more_with_one_reading() {
        let tts = template("/tts/v1/{rest}");
        for path in [
            "/tts/v1/a",
            "/tts/v1/a/b",
            "/tts/v1/a:b@c",
            "/tts/v1/%C3%A4",
            "/tts/v1/a%20b",
            "/tts/v1/...",
            "/tts/v1/a;b=c",
        ] {
            assert_eq!(tts.upstream_target(path).as_deref(), Some(path));
            assert!(tts.matches(path));
        }
        for path in [
            "/tts/v1",
            "/tts/v1/",
            "/tts/v1//a",
            "/tts/v1/a//b",
            "/tts/v1/a/",
            "/tts/v1/..",
            "/tts/v1/../x",
            "/tts/v1/a/./b",
            "/tts/v1/..;a/b",
            "/tts/v1/%2e%2e/x",
            "/tts/v1/a%2Fb",
            "/tts/v1/a%5cb",
            "/tts/v1/a%252fb",
            "/tts/v1/%61",
            "/tts/v1/a%00",
            "/tts/v1/a%3fb",
            "/tts/v1/a%",
            "/tts/v1/a%2",
            "/tts/v1/a%zz",
            "/tts/v1/a\\b",
            "/tts/v1/{rest}",
            "/TTS/v1/a",
            "/tts/v1x/a",
        ] {
            assert!(!tts.matches(path), "{path}");
        }
    }

    #[test]
    fn the_upstreams_target_keeps_the_query() {
        let (tts, one) = (template("/tts/{rest}"), template("/rerank"));
        assert_eq!(tts.upstream_target("/tts/a?b=%2F../&c?"), Some("/tts/a?b=%2F../&c?".to_owned()));
        assert_eq!(one.upstream_target("/rerank?"), Some("/rerank?".to_owned()));
        assert_eq!(one.upstream_target("/rerank/a"), None);
        assert_eq!(one.upstream_target("/rerank/"), None);
        assert_eq!(one.upstream_target("/reran"), None);
        assert!(tts.fixed_bytes() > template("/a/{rest}").fixed_bytes());
    }
}
