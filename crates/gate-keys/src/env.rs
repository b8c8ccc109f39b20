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

/// Why a string cannot be the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// Nothing, or nothing but blanks.
    #[error("the token is empty")]
    Empty,
    /// A word that everybody knows.
    #[error("the token is the well-known placeholder \"{0}\"")]
    WellKnown(&'static str),
    /// The shape of an example rather than of a secret.
    #[error("the token is an example, not a secret: {0}")]
    Example(&'static str),
    /// A line break or another character that no client can send in a header.
    #[error("the token holds a control character, which no client can send")]
    ControlCharacter,
}

impl BadToken {
    /// What to do about it, in one line.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            BadToken::Empty => "unset it to use stored keys, or make a token: openssl rand -hex 24",
            BadToken::WellKnown(_) | BadToken::Example(_) => "make a real one: openssl rand -hex 24",
            BadToken::ControlCharacter => "put the token on one line",
        }
    }
}

/// The key named `env`: default scopes, every model, no end, in no store.
#[derive(Debug, Clone)]
pub struct EnvKey(Arc<Key>);

impl EnvKey {
    /// Makes the key of a token. Blanks and line breaks around it are not part of it, as in a header.
    ///
    /// # Errors
    /// [`BadToken`] if it is empty, a placeholder, or cannot be sent. The reason never repeats the token.
    pub fn new(token: &Secret) -> Result<Self, BadToken> {
        let text = token.expose().trim();
        if let Some(problem) = placeholder(text) {
            return Err(problem);
        }
        if text.chars().any(char::is_control) {
            return Err(BadToken::ControlCharacter);
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
    if let Some(word) = DUMMIES.iter().find(|word| **word == plain) {
        return Some(BadToken::WellKnown(word));
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
    fn blanks_around_a_token_do_not_count() {
        assert_eq!(new(" hunter2\r\n").unwrap().key().digest, KeyDigest::of("hunter2"));
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        assert_eq!(new("hunter2\nhunter3").unwrap_err(), BadToken::ControlCharacter);
    }

    #[test]
    fn a_reason_does_not_repeat_the_token() {
        let shown = new("your-canary-token").unwrap_err().to_string();
        assert!(!shown.contains("canary"), "{shown}");
        assert!(!format!("{:?}", new("canary-token")).contains("canary"));
    }
}
