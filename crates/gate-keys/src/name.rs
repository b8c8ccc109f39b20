//! The name of a key: what people, logs and the command line call it.

use std::fmt;

const LONGEST: usize = 64;
const ENV: &str = "env";
const OPERATOR: &str = "operator";
const FIRST: &str = "first";

/// 1 to 64 characters of `A-Z a-z 0-9 . _ -`. Upper and lower case are different.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyName(Box<str>);

/// A text that no key may be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKeyName {
    /// Nothing at all.
    #[error("the name of the key is empty")]
    Empty,
    /// Longer than 64 characters.
    #[error("the name of the key is {0} characters long, 64 are allowed")]
    TooLong(usize),
    /// A character that does not belong in a name.
    #[error("the name of the key holds {0:?}")]
    Character(char),
    /// The name of the key that `AUTH_TOKEN` gives.
    #[error("the name \"env\" belongs to the key that AUTH_TOKEN gives")]
    Reserved,
    /// The name of whoever speaks to the gate by its admin socket, and may do everything.
    #[error("the name \"operator\" belongs to whoever uses the gate's admin socket")]
    Operator,
}

impl BadKeyName {
    /// What to do about it, in one line.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            BadKeyName::Empty | BadKeyName::TooLong(_) | BadKeyName::Character(_) => {
                "use 1 to 64 of the characters A-Z a-z 0-9 . _ -"
            }
            BadKeyName::Operator => "take another name",
            BadKeyName::Reserved => "change it where AUTH_TOKEN is set; stored keys have other names",
        }
    }
}

impl KeyName {
    /// Reads the name of a key that is to be stored.
    ///
    /// # Errors
    /// [`BadKeyName`] if it is empty, too long, holds another character, or is `env` or `operator` in any
    /// case.
    pub fn parse(text: &str) -> Result<Self, BadKeyName> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Some(other) = text.chars().find(|&c| !allowed(c)) {
            return Err(BadKeyName::Character(other));
        }
        match text.len() {
            0 => Err(BadKeyName::Empty),
            long if long > LONGEST => Err(BadKeyName::TooLong(long)),
            _ if text.eq_ignore_ascii_case(ENV) => Err(BadKeyName::Reserved),
            _ if text.eq_ignore_ascii_case(OPERATOR) => Err(BadKeyName::Operator),
            _ => Ok(KeyName(text.into())),
        }
    }

    /// The name of the key that `AUTH_TOKEN` gives. No stored key can have it.
    #[must_use]
    pub fn env() -> Self {
        KeyName(ENV.into())
    }

    /// The name of whoever uses the admin socket. No stored key can have it, and no setting can name it.
    #[must_use]
    pub fn operator() -> Self {
        KeyName(OPERATOR.into())
    }

    /// The name of the key that a first start makes. An ordinary name otherwise.
    #[must_use]
    pub fn first() -> Self {
        KeyName(FIRST.into())
    }

    /// Up to three of `names` that somebody may have meant who wrote this one, the likeliest first.
    #[must_use]
    pub fn nearest<'n>(&self, names: impl IntoIterator<Item = &'n KeyName>) -> Vec<&'n KeyName> {
        const ALIKE: f64 = 0.65;
        let own = self.0.to_ascii_lowercase();
        // Two measures: beginnings that agree, and letters that changed places.
        let likeness = |name: &'n KeyName| {
            let other = name.0.to_ascii_lowercase();
            let edits = strsim::normalized_damerau_levenshtein(&own, &other);
            (strsim::jaro_winkler(&own, &other).max(edits), name)
        };
        let mut alike: Vec<_> =
            names.into_iter().map(likeness).filter(|(likeness, _)| *likeness >= ALIKE).collect();
        alike.sort_by(|(one, a), (two, b)| two.total_cmp(one).then_with(|| a.cmp(b)));
        alike.dedup_by(|(_, a), (_, b)| a == b);
        alike.into_iter().take(3).map(|(_, name)| name).collect()
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyName({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_taken() {
        let longest = "x".repeat(64);
        for text in ["a", "first", "ci-bot_2.example", "environment", longest.as_str()] {
            assert_eq!(KeyName::parse(text).unwrap().as_str(), text);
        }
        assert_eq!(KeyName::parse("first").unwrap(), KeyName::first());
    }

    #[test]
    fn names_that_are_refused_with_the_reason() {
        assert_eq!(KeyName::parse(""), Err(BadKeyName::Empty));
        assert_eq!(KeyName::parse(&"x".repeat(65)), Err(BadKeyName::TooLong(65)));
        assert_eq!(KeyName::parse("a b"), Err(BadKeyName::Character(' ')));
        assert_eq!(KeyName::parse("a\u{1b}[1m"), Err(BadKeyName::Character('\u{1b}')));
        assert_eq!(KeyName::parse("jürgen"), Err(BadKeyName::Character('ü')));
        assert_eq!(KeyName::parse("Env"), Err(BadKeyName::Reserved));
        assert_eq!(KeyName::parse("Operator"), Err(BadKeyName::Operator));
        for (text, word) in [("a b", "A-Z a-z 0-9"), ("env", "AUTH_TOKEN")] {
            let hint = KeyName::parse(text).unwrap_err().hint();
            assert!(hint.contains(word), "{text}: {hint}");
        }
    }

    #[test]
    fn what_was_meant_is_guessed() {
        let names = ["alice", "alicia", "bob", "ci-build", "alice"].map(|text| KeyName::parse(text).unwrap());
        let nearest = |text| {
            KeyName::parse(text).unwrap().nearest(&names).iter().map(|n| n.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(nearest("Alcie"), ["alice", "alicia"]);
        assert_eq!(nearest("bbo"), ["bob"]);
        assert!(nearest("zzz").is_empty());
    }

    #[test]
    fn a_reason_never_writes_raw_control_characters() {
        let reason = KeyName::parse("a\u{1b}[1m").unwrap_err().to_string();
        assert!(!reason.contains('\u{1b}'), "{reason:?}");
    }
}
