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
    /// The machine that they are for, where that is not this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) on: Option<String>,
    /// The file that they are lines of, where they are no commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
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

    /// On that machine.
    pub(super) fn on(mut self, machine: impl Into<String>) -> Self {
        self.on = Some(machine.into());
        self
    }

    /// Lines of that file.
    pub(super) fn within(mut self, file: impl Into<String>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Without saying that this machine is meant, which these names stand for.
    pub(super) fn here(mut self, names: &[&str]) -> Self {
        self.on = self.on.filter(|on| !names.contains(&on.as_str()));
        self.or = self.or.into_iter().map(|other| other.here(names)).collect();
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
