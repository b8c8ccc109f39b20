//! The audit log: who changed which key, when, and what it was then. Never a secret, never a digest.

use crate::{KeyId, KeyName, Kind, UnixSeconds};
use gate_types::ScopeSet;
use std::fmt;

/// What was done to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Somebody made it.
    Create,
    /// The gate made it at its first start.
    First,
    /// Somebody changed what it may do or until when.
    Set,
    /// It got a new secret or public key.
    Rotate,
    /// It was ended for good.
    Revoke,
    /// It was found in the settings for the first time.
    SettingsAdd,
    /// It stands in the settings in another way than before.
    SettingsSet,
    /// It stands in the settings no more.
    SettingsRemove,
}

impl Act {
    const ALL: [Act; 8] = [
        Act::Create,
        Act::First,
        Act::Set,
        Act::Rotate,
        Act::Revoke,
        Act::SettingsAdd,
        Act::SettingsSet,
        Act::SettingsRemove,
    ];

    /// The word for it in stores, tables and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Act::Create => "create",
            Act::First => "first",
            Act::Set => "set",
            Act::Rotate => "rotate",
            Act::Revoke => "revoke",
            Act::SettingsAdd => "settings-add",
            Act::SettingsSet => "settings-set",
            Act::SettingsRemove => "settings-remove",
        }
    }

    /// What a store wrote down.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Act::ALL.into_iter().find(|act| act.as_str() == word)
    }

    /// Whether it is about a key of the settings.
    #[must_use]
    pub const fn is_of_settings(self) -> bool {
        matches!(self, Act::SettingsAdd | Act::SettingsSet | Act::SettingsRemove)
    }
}

/// One change of one key, with what the key was after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// Its number in the log.
    pub id: i64,
    /// When.
    pub at: UnixSeconds,
    /// Who: a user of the system, or `settings`.
    pub who: String,
    /// What was done.
    pub act: Act,
    /// The key's number.
    pub key: KeyId,
    /// The key's name.
    pub name: KeyName,
    /// What it is.
    pub kind: Kind,
    /// What it may do.
    pub scopes: ScopeSet,
    /// Which models it may use, as a comma list; empty for every model.
    pub models: String,
    /// Its end, if it has one.
    pub expires: Option<UnixSeconds>,
}

impl fmt::Display for AuditLine {
    /// One line for a log, without the time, which a log has itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let models = if self.models.is_empty() { "all" } else { &self.models };
        write!(f, "key {}: {} (id {}) by {}", self.act.as_str(), self.name, self.key.0, self.who)?;
        write!(f, ", {}, scopes {}, models {models}", self.kind.as_str(), self.scopes)?;
        match self.expires {
            // What no calendar has stays a number.
            Some(end) => match jiff::Timestamp::from_second(end) {
                Ok(moment) => write!(f, ", expires {moment}"),
                Err(_none) => write!(f, ", expires @{end}"),
            },
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_act_is_read_as_it_was_written() {
        for act in Act::ALL {
            assert_eq!(Act::from_word(act.as_str()), Some(act));
        }
        assert_eq!(Act::from_word("delete"), None);
    }

    #[test]
    fn a_line_says_who_did_what_to_which_key() {
        let line = AuditLine {
            id: 1,
            at: 5,
            who: "alice".to_owned(),
            act: Act::Set,
            key: KeyId(7),
            name: KeyName::first(),
            kind: Kind::Secret,
            scopes: ScopeSet::DEFAULT,
            models: "qwen3:*".to_owned(),
            expires: Some(9),
        };
        let told = "key set: first (id 7) by alice, secret, scopes infer,embed,read, models qwen3:*, expires 1970-01-01T00:00:09Z";
        assert_eq!(line.to_string(), told);
    }
}
