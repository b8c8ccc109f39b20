//! What was given and could not be read. Whoever checks what holds between settings asks here first: a setting whose text is
//! broken is not a setting that is missing.

use std::collections::BTreeSet;

/// What somebody gave and nobody could read: nothing is concluded from the absence of these.
#[derive(Default)]
pub(crate) struct Unread {
    /// Keys of settings, and whole sections.
    names: BTreeSet<String>,
    /// It may be anything.
    is_anything: bool,
}

impl Unread {
    pub(crate) fn add(&mut self, name: &str) {
        self.names.insert(name.to_owned());
    }

    pub(crate) fn add_anything(&mut self) {
        self.is_anything = true;
    }

    /// Whether one of these settings may be among it.
    pub(crate) fn holds(&self, keys: &[&str]) -> bool {
        let is_in = |key: &&str| {
            let section = key.rsplit_once('.').map(|(section, _)| section);
            self.names.contains(*key) || section.is_some_and(|section| self.names.contains(section))
        };
        self.is_anything || keys.iter().any(is_in)
    }
}
