//! The key that the environment gives: `AUTH_TOKEN`, any string, kept in memory only.
//!
//! What people copy out of examples is no secret. A gate behind such a token would only look closed, so it is refused.

use crate::{Key, KeyDigest, KeyId, KeyName, Kind, Mark};
use gate_types::{ScopeSet, Secret};
use std::sync::Arc;

/// Words that examples, clients and forms put where a key belongs. Compared without case, `-` and `_` being the same.
const DUMMIES: &[&str] = &[
    "admin",
    "anything",
    "api-key",
    "apikey",
    "auth-token",
    "bearer",
    "changeit",
    "change-it",
    "changeme",
    "change-me",
    "default",
    "demo",
    "dummy",
    "dummy-key",
    "empty",
    "example",
    "false",
    "fake",
    "fake-key",
    "herdgate",
    "insert-key-here",
    "key",
    "lm-studio",
    "my-api-key",
    "my-key",
    "my-secret",
    "my-token",
    "nil",
    "no-key",
    "no-key-needed",
    "no-key-required",
    "none",
    "not-needed",
    "not-required",
    "null",
    "ollama",
    "ollama-api-key",
    "ollama-local",
    "openai",
    "pass",
    "password",
    "placeholder",
    "replace-me",
    "replaceme",
    "sample",
    "secret",
    "secret-key",
    "secret-token",
    "sk-dummy",
    "sk-fake",
    "sk-no-key-required",
    "sk-ollama",
    "sk-test",
    "sk-xxx",
    "test",
    "test-key",
    "test-token",
    "todo",
    "token",
    "true",
    "undefined",
    "unused",
];

/// Longest token in bytes: it travels in a request head of 4 KiB at least.
const MOST_BYTES: usize = 2048;

/// Why a string cannot be the token. Never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// Nothing, or nothing but blanks.
    #[error("the token is empty")]
    Empty,
    /// A word that everybody knows.
    #[error("the token is a placeholder that stands in examples, which everybody knows")]
    WellKnown,
    /// The shape of an example rather than of a secret.
    #[error("the token is an example, not a secret: {0}")]
    Example(&'static str),
    /// A line break or another character that no client can send in a header field (RFC 9110 section 5.5).
    #[error("the token holds a control character or a line break, which no client can send")]
    ControlCharacter,
    /// A blank at an end, which is no part of a header field's value.
    #[error("the token begins or ends with a blank, which no client can send")]
    Blank,
    /// More than a head has room for.
    #[error("the token is longer than {MOST_BYTES} bytes")]
    TooLong,
}

impl BadToken {
    /// What to do about it, in one line.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            BadToken::Empty => {
                "unset it and use herdgate key create NAME, or make a token: openssl rand -hex 32"
            }
            BadToken::WellKnown | BadToken::Example(_) | BadToken::TooLong => {
                "make one with: openssl rand -hex 32; or unset it and use herdgate key create NAME"
            }
            BadToken::ControlCharacter | BadToken::Blank => "write the token alone, on one line",
        }
    }
}

/// The key named `env`: default scopes, every model, no end, in no store.
#[derive(Debug, Clone)]
pub struct EnvKey(Arc<Key>);

impl EnvKey {
    /// Makes the key of a token.
    ///
    /// # Errors
    /// [`BadToken`] if it would protect nothing or cannot be sent.
    pub fn new(token: &Secret) -> Result<Self, BadToken> {
        let text = token.expose();
        let bad = placeholder(text.trim())
            .or_else(|| text.chars().any(char::is_control).then_some(BadToken::ControlCharacter))
            .or_else(|| (text.trim() != text).then_some(BadToken::Blank))
            .or_else(|| (text.len() > MOST_BYTES).then_some(BadToken::TooLong));
        if let Some(bad) = bad {
            return Err(bad);
        }
        let mark = Mark { kind: Kind::Secret, digest: KeyDigest::of(text), prefix: String::new() };
        Ok(EnvKey(Arc::new(Key::new(KeyId::ENV, KeyName::env(), mark, ScopeSet::DEFAULT, 0))))
    }

    pub(crate) fn key(&self) -> Arc<Key> {
        Arc::clone(&self.0)
    }
}

/// Whether `token` is empty or something that examples put where a key belongs.
#[must_use]
pub fn is_dummy(token: &str) -> bool {
    placeholder(token.trim()).is_some()
}

fn placeholder(token: &str) -> Option<BadToken> {
    let plain = token.trim_matches(['"', '\'']).to_ascii_lowercase().replace('_', "-");
    if plain.is_empty() {
        return Some(BadToken::Empty);
    }
    if DUMMIES.contains(&plain.as_str()) {
        return Some(BadToken::WellKnown);
    }
    let bare = plain.strip_prefix("sk-hg-").or_else(|| plain.strip_prefix("sk-")).unwrap_or(&plain);
    let example = |is: bool, why: &'static str| is.then_some(BadToken::Example(why));
    example(bare.is_empty(), "a prefix with nothing behind it")
        .or_else(|| example(is_one_character(bare), "one character over and over"))
        .or_else(|| example(bare.starts_with("your-") || bare == "your", "it begins with \"your\""))
        .or_else(|| example(is_bracketed(bare), "it stands in brackets, as in a form to fill in"))
}

fn is_one_character(text: &str) -> bool {
    let mut characters = text.chars();
    let first = characters.next();
    characters.all(|character| Some(character) == first)
}

fn is_bracketed(text: &str) -> bool {
    [("<", ">"), ("{", "}"), ("${", "}"), ("[", "]"), ("%", "%")]
        .iter()
        .any(|(open, close)| text.len() > 1 && text.starts_with(open) && text.ends_with(close))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(token: &str) -> Result<EnvKey, BadToken> {
        EnvKey::new(&Secret::new(token.to_owned()))
    }

    #[test]
    fn placeholders_are_refused_in_every_spelling() {
        for token in [
            "",
            " ",
            "\n",
            "\"\"",
            "ollama",
            "Ollama",
            "ollama-local",
            "null",
            "none",
            "undefined",
            "changeme",
            "change-me",
            "CHANGE_ME",
            "secret",
            "password",
            "test",
            "token",
            "api-key",
            "your_secret_token",
            "your-api-key",
            "sk-xxx",
            "sk-xxxxxxxxxxxxxxxx",
            "sk-...",
            "sk-…",
            "sk-",
            "xxxx",
            "********",
            "...",
            "0",
            "<your token>",
            "${AUTH_TOKEN}",
            "'changeme'",
            "changeme\n",
            "sk-hg-xxxxxx",
            "sk-hg-",
        ] {
            assert!(is_dummy(token), "{token:?}");
            assert!(new(token).is_err(), "{token:?}");
        }
    }

    #[test]
    fn other_strings_are_tokens() {
        for token in
            ["hunter2", "ollama2", "correct horse battery staple", "sk-1234abcd", "tokenize", "ключ", "a1"]
        {
            assert!(!is_dummy(token), "{token:?}");
            assert!(new(token).is_ok(), "{token:?}");
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let long = "xy".repeat(MOST_BYTES / 2);
        assert!(new(&long).is_ok());
        for (token, bad) in [
            ("hunter2\nhunter3", BadToken::ControlCharacter),
            ("hunter2\r\n", BadToken::ControlCharacter),
            ("a\u{7f}b", BadToken::ControlCharacter),
            (" hunter2", BadToken::Blank),
            ("hunter2\u{a0}", BadToken::Blank),
            (&format!("{long}x"), BadToken::TooLong),
        ] {
            assert_eq!(new(token).unwrap_err(), bad, "{token:?}");
        }
    }

    #[test]
    fn a_reason_does_not_repeat_the_token() {
        let shown = new("your-canary-token").unwrap_err().to_string();
        assert!(!shown.contains("canary"), "{shown}");
        assert!(!format!("{:?}", new("canary-token")).contains("canary"));
    }
}
