//! Scopes: what a key may do. A route belongs to one scope; a key holds a set of them.

use std::fmt;
use std::str::FromStr;

/// One thing that a key may be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everything that generates text.
    Infer,
    /// The three embedding routes. Not included in [`Scope::Infer`].
    Embed,
    /// Listings: tags, ps, show and `/v1/models`.
    Read,
    /// Changing what a server holds: pull, push, create, copy, delete, blobs.
    Manage,
    /// What leaves the machine at the operator's cost: cloud models and the account routes.
    Cloud,
}

impl Scope {
    /// All scopes, in the order in which they are shown.
    pub const ALL: [Scope; 5] = [Scope::Infer, Scope::Embed, Scope::Read, Scope::Manage, Scope::Cloud];

    /// The word used in settings, on the command line and in errors.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::Infer => "infer",
            Scope::Embed => "embed",
            Scope::Read => "read",
            Scope::Manage => "manage",
            Scope::Cloud => "cloud",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is not a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown scope \"{word}\": the scopes are infer, embed, read, manage and cloud")]
pub struct UnknownScope {
    /// The word as it was given.
    pub word: String,
}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(word: &str) -> Result<Self, UnknownScope> {
        Scope::ALL
            .into_iter()
            .find(|scope| scope.as_str() == word)
            .ok_or_else(|| UnknownScope { word: word.to_owned() })
    }
}

/// A set of scopes. Its text form is a comma list in the order of [`Scope::ALL`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ScopeSet(u8);

impl ScopeSet {
    /// What a key gets when nothing else is said: infer, embed, read.
    pub const DEFAULT: ScopeSet = ScopeSet(Scope::Infer.bit() | Scope::Embed.bit() | Scope::Read.bit());

    /// The set of just these scopes.
    #[must_use]
    pub fn of(scopes: &[Scope]) -> Self {
        ScopeSet(scopes.iter().fold(0, |bits, scope| bits | scope.bit()))
    }

    /// Whether `scope` is in the set.
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether nothing is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes of the set, in the order of [`Scope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, scope) in self.iter().enumerate() {
            if place > 0 {
                f.write_str(",")?;
            }
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScopeSet({self})")
    }
}

impl FromStr for ScopeSet {
    type Err = UnknownScope;

    /// Reads a comma list; blanks around words are ignored, an empty list is the empty set.
    fn from_str(list: &str) -> Result<Self, UnknownScope> {
        let mut bits = 0;
        for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            bits |= Scope::from_str(word)?.bit();
        }
        Ok(ScopeSet(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_reads_what_it_writes() {
        for bits in 0..32 {
            let set = ScopeSet(bits);
            assert_eq!(set.to_string().parse::<ScopeSet>(), Ok(set));
        }
    }

    #[test]
    fn each_scope_has_its_word_and_its_place() {
        assert_eq!(ScopeSet::DEFAULT.to_string(), "infer,embed,read");
        let set = ScopeSet::of(&[Scope::Cloud, Scope::Infer, Scope::Cloud]);
        assert_eq!(
            (set.to_string(), format!("{set:?}")),
            ("infer,cloud".into(), "ScopeSet(infer,cloud)".into())
        );
        assert_eq!(" infer, ,cloud,infer".parse(), Ok(set));
        assert!(ScopeSet::of(&[]).is_empty() && !set.is_empty());
        for scope in Scope::ALL {
            assert_eq!(ScopeSet::of(&[scope]).to_string(), scope.to_string());
            assert_eq!(scope.to_string().parse(), Ok(scope));
        }
    }

    #[test]
    fn infer_does_not_include_embed() {
        assert!(!ScopeSet::of(&[Scope::Infer]).contains(Scope::Embed));
    }

    #[test]
    fn an_unknown_word_is_named() {
        let problem = "infer,rite".parse::<ScopeSet>().unwrap_err();
        assert!(problem.to_string().contains("\"rite\""), "{problem}");
    }
}
