//! What a check found: how bad it is, what was seen, why it matters, and what cures it. Words only.

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mark {
    /// As it should be.
    Ok,
    /// Works, and should be looked at.
    Warn,
    /// A client fails now, or an Ollama without a key answers off loopback, or it has a hole that needs no management route.
    Bad,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) mark: Mark,
    /// The check that found it: one short word, the same for ever.
    pub(crate) check: &'static str,
    /// What it is about: a URL, or "this machine".
    pub(crate) about: String,
    pub(crate) seen: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cure: Option<Cure>,
}

/// Commands that end it, to be run one after the other.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Cure {
    pub(crate) run: Vec<String>,
    /// The machine or file that they are for, where that is not this machine's shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) on: Option<String>,
    /// What must be known before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
    /// Other ways.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) or: Vec<Cure>,
}

impl Finding {
    fn new(mark: Mark, check: &'static str, about: &str, seen: impl Into<String>) -> Self {
        let (about, seen) = (about.to_owned(), seen.into());
        Finding { mark, check, about, seen, why: String::new(), cure: None }
    }

    pub(super) fn ok(check: &'static str, about: &str, seen: impl Into<String>) -> Self {
        Self::new(Mark::Ok, check, about, seen)
    }

    pub(super) fn warn(check: &'static str, about: &str, seen: impl Into<String>) -> Self {
        Self::new(Mark::Warn, check, about, seen)
    }

    pub(super) fn bad(check: &'static str, about: &str, seen: impl Into<String>) -> Self {
        Self::new(Mark::Bad, check, about, seen)
    }

    /// Why it matters.
    pub(super) fn because(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    pub(super) fn cured(mut self, cure: Cure) -> Self {
        self.cure = Some(cure);
        self
    }
}

impl Cure {
    /// One command on this machine.
    pub(super) fn run(command: impl Into<String>) -> Self {
        Cure { run: vec![command.into()], ..Cure::default() }
    }

    /// One more command, after those before.
    pub(super) fn then(mut self, command: impl Into<String>) -> Self {
        self.run.push(command.into());
        self
    }

    /// On that machine, or in that file.
    pub(super) fn on(mut self, place: impl Into<String>) -> Self {
        self.on = Some(place.into());
        self
    }

    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Another way.
    pub(super) fn or(mut self, other: Cure) -> Self {
        self.or.push(other);
        self
    }
}
