//! What is wrong with the settings, and where: `herdgate.toml:4:1 unknown setting "adress"  hint: did you mean "address"?`.
//!
//! Never holds a value that may be a secret: reasons name the fault, the place leads to the value.

use std::fmt;
use std::path::PathBuf;

/// Where a value was given. The order is the order in which problems are told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the settings file; line and column count from 1, columns in characters.
    File {
        /// The file as it was named.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// In an environment variable.
    Env {
        /// The variable's name.
        name: String,
        /// Which item of a comma list, from 1; `None` where the whole variable is meant.
        item: Option<usize>,
    },
    /// In a flag of the command line.
    Flag {
        /// The flag with its dashes.
        name: &'static str,
        /// Which of several, from 1; `None` where it was given once.
        item: Option<usize>,
    },
    /// In a file of its own, such as a token's.
    Path(PathBuf),
}

impl Place {
    pub(crate) fn env(name: &str) -> Self {
        Place::Env { name: name.to_owned(), item: None }
    }

    pub(crate) fn line(&self) -> Option<usize> {
        match self {
            Place::File { line, .. } => Some(*line),
            Place::Env { .. } | Place::Flag { .. } | Place::Path(_) => None,
        }
    }

    /// The place without column and item: where a setting as a whole came from.
    #[must_use]
    pub fn origin(&self) -> String {
        match self {
            Place::File { file, line, .. } => format!("{}:{line}", Plain(&file.to_string_lossy())),
            Place::Env { name, .. } => Plain(name).to_string(),
            Place::Flag { name, .. } => (*name).to_owned(),
            Place::Path(path) => Plain(&path.to_string_lossy()).to_string(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())?;
        match self {
            Place::File { column, .. } => write!(f, ":{column}"),
            Place::Env { item: Some(item), .. } | Place::Flag { item: Some(item), .. } => {
                write!(f, " (item {item})")
            }
            Place::Env { .. } | Place::Flag { .. } | Place::Path(_) => Ok(()),
        }
    }
}

/// One thing that is wrong, told in one line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What is wrong. Holds no secret and no control character.
    pub reason: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem without a hint.
    #[must_use]
    pub fn new(place: Place, reason: impl Into<String>) -> Self {
        Problem { place, reason: reason.into(), hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.place, self.reason)?;
        match &self.hint {
            Some(hint) => write!(f, "  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

/// A text that may come from anywhere, made fit for one line of a terminal: control characters escaped, length bounded.
pub(crate) struct Plain<'a>(pub(crate) &'a str);

const SHOWN_CHARACTERS: usize = 256;

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, c) in self.0.chars().enumerate() {
            if count == SHOWN_CHARACTERS {
                return f.write_str("…");
            }
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_with_place_reason_and_hint() {
        let place = Place::File { file: "herdgate.toml".into(), line: 4, column: 1 };
        let problem = Problem::new(place, "unknown setting \"adress\"").hint("did you mean \"address\"?");
        assert_eq!(
            problem.to_string(),
            "herdgate.toml:4:1 unknown setting \"adress\"  hint: did you mean \"address\"?"
        );
    }

    #[test]
    fn a_name_cannot_write_to_the_terminal() {
        let place = Place::env("HERDGATE_\u{1b}[2J\n");
        assert_eq!(place.to_string(), "HERDGATE_\\u{1b}[2J\\n");
        assert!(Plain(&"x".repeat(9999)).to_string().chars().count() < 300);
    }
}
