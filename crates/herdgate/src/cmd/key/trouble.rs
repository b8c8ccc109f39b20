//! Why a `herdgate key` command failed, told as a reason and a hint, and its exit code.

use crate::cli::{EXIT_FAILURE, EXIT_USAGE};
use gate_keys::{KeyName, NoEntropy, StoreError};
use std::io::{self, Write};

/// Why a command did not do its work.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Everything that is wrong with the arguments: reason and hint each.
    Usage(Vec<(String, String)>),
    /// Settings of a client cannot be made; with its own `hint:` lines, where it has some.
    Setup(anyhow::Error),
    Store(StoreError),
    /// The store's reason, and a hint that knows more than the store does.
    Hinted(StoreError, String),
    Entropy(NoEntropy),
    Output(io::Error),
    /// The key was stored, and nobody got its secret.
    Lost(KeyName, io::Error),
}

impl Trouble {
    /// 64 for wrong usage, 1 for everything else.
    pub(super) const fn exit_code(&self) -> u8 {
        match self {
            Trouble::Usage(_) | Trouble::Setup(_) => EXIT_USAGE,
            Trouble::Store(_)
            | Trouble::Hinted(..)
            | Trouble::Entropy(_)
            | Trouble::Output(_)
            | Trouble::Lost(..) => EXIT_FAILURE,
        }
    }

    /// One `error:` line for each problem, and a `hint:` where there is one, with the commands in it as `again` writes them.
    pub(super) fn tell(&self, talk: &mut dyn Write, again: impl Fn(&str) -> String) -> io::Result<()> {
        let mut say = |reason: &dyn std::fmt::Display, hint: Option<&str>| {
            writeln!(talk, "error: {reason}")?;
            hint.map_or(Ok(()), |hint| writeln!(talk, "hint: {}", again(hint)))
        };
        match self {
            Trouble::Usage(problems) => {
                problems.iter().try_for_each(|(reason, hint)| say(reason, Some(hint)))
            }
            Trouble::Setup(error) => say(&again(&format!("{error:#}")), None),
            Trouble::Store(error) => say(error, error.hint().as_deref()),
            Trouble::Hinted(error, hint) => say(error, Some(hint)),
            Trouble::Entropy(error) => say(error, None),
            Trouble::Output(error) => say(&format_args!("cannot write the output: {error}"), None),
            Trouble::Lost(name, error) => {
                let reason = format!("the key \"{name}\" was stored, but could not be printed: {error}");
                say(&reason, Some(&format!("give it a new secret: herdgate key rotate {name} --overlap 0s")))
            }
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Trouble::Store(error)
    }
}

impl From<NoEntropy> for Trouble {
    fn from(error: NoEntropy) -> Self {
        Trouble::Entropy(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Output(error)
    }
}

/// One thing wrong with the arguments.
pub(super) fn usage(reason: impl ToString, hint: &str) -> Trouble {
    Trouble::Usage(vec![(reason.to_string(), hint.to_owned())])
}

/// Both, or the problems of both.
pub(super) fn both<A, B>(one: Result<A, Trouble>, two: Result<B, Trouble>) -> Result<(A, B), Trouble> {
    match (one, two) {
        (Ok(one), Ok(two)) => Ok((one, two)),
        (Err(Trouble::Usage(mut all)), Err(Trouble::Usage(more))) => {
            all.extend(more);
            Err(Trouble::Usage(all))
        }
        (Err(trouble), _) | (_, Err(trouble)) => Err(trouble),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn a_hint_is_the_one_of_the_reason_or_none() {
        for (text, told) in [
            (
                "no name\nhint: say herdgate key list",
                "error: no name\nhint: say herdgate --data /x key list\n",
            ),
            ("the file is not UTF-8", "error: the file is not UTF-8\n"),
        ] {
            let mut said = Vec::new();
            let again = |hint: &str| hint.replace("herdgate key ", "herdgate --data /x key ");
            let trouble = Trouble::Setup(anyhow!(text.to_owned()));
            trouble.tell(&mut said, again).unwrap();
            assert_eq!((String::from_utf8(said).unwrap().as_str(), trouble.exit_code()), (told, EXIT_USAGE));
        }
    }
}
