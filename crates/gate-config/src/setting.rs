//! What a setting is: name, form, bounds, meaning. The one list of them is `list.rs`; file, environment, `config show` and the
//! reference read it.

mod list;
mod tls;

pub(crate) use list::SETTINGS;

use crate::config::Config;
use crate::listen::Listen;
use crate::units::ByteSize;
use gate_types::{Cidr, ModelName};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// One setting.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    /// `section.key`, or the key alone at the top of the file.
    pub(crate) key: &'static str,
    pub(crate) form: Form,
    /// The flag of `herdgate serve` that says the same.
    pub(crate) flag: Option<&'static str>,
    /// What it does, for the reference: sentences in Markdown.
    pub(crate) about: &'static str,
}

/// What a setting's value looks like, its bounds, and where in the [`Config`] it goes.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    Upstreams,
    Listeners,
    Switch {
        slot: fn(&mut Config) -> &mut bool,
    },
    Size {
        slot: fn(&mut Config) -> &mut ByteSize,
        least: ByteSize,
        most: ByteSize,
    },
    Time {
        slot: fn(&mut Config) -> &mut Duration,
        least: Duration,
        most: Duration,
    },
    /// `"none"`, or a time.
    MaybeTime {
        slot: fn(&mut Config) -> &mut Option<Duration>,
        least: Duration,
        most: Duration,
    },
    /// A list of networks, none of them twice; it may be empty.
    Networks {
        slot: fn(&mut Config) -> &mut Vec<Cidr>,
        example: &'static str,
    },
    Count {
        slot: fn(&mut Config) -> &mut usize,
        least: usize,
        most: usize,
    },
    /// `"none"`, or one address to listen on.
    Listener {
        slot: fn(&mut Config) -> &mut Option<Listen>,
    },
    /// `"none"`, or the path of a file.
    File {
        slot: fn(&mut Config) -> &mut Option<PathBuf>,
        example: &'static str,
    },
    /// `"none"`, or the path of a folder.
    Folder {
        slot: fn(&mut Config) -> &mut Option<PathBuf>,
        example: &'static str,
    },
    /// Models' names, none of them twice; it may be empty.
    Models {
        slot: fn(&mut Config) -> &mut Vec<ModelName>,
        example: &'static str,
        most: usize,
    },
    /// Variables of a program: a table of texts, outside of the file `NAME=value` in a list.
    Variables {
        slot: fn(&mut Config) -> &mut BTreeMap<String, String>,
        example: &'static str,
        most: usize,
    },
    /// `"auto"`, or a number.
    Threads {
        least: u16,
        most: u16,
    },
    /// A list of texts, none of them twice; it may be empty where `least` is 0.
    Texts {
        slot: fn(&mut Config) -> &mut Vec<String>,
        /// What one of them is, with its article: "a registry's host".
        what: &'static str,
        example: &'static str,
        /// Brings one of them to its one form, or says what is wrong with it: "is no …".
        read: fn(&str) -> Result<String, &'static str>,
        least: usize,
        most: usize,
    },
    /// A text of one line, or what stands for none.
    Line {
        get: fn(&Config) -> Option<&str>,
        set: fn(&mut Config, Option<String>),
        what: &'static str,
        example: &'static str,
        /// Brings it to its one form, or says what is wrong with it: "is no …".
        read: fn(&str) -> Result<Option<String>, &'static str>,
    },
    /// One name of a host or a list of them, none of them twice.
    Domains {
        example: &'static str,
        most: usize,
    },
    /// Origins of web pages, none of them twice.
    Origins {
        example: &'static str,
        most: usize,
    },
    Word {
        words: &'static [&'static str],
        get: fn(&Config) -> &'static str,
        set: fn(&mut Config, &str),
    },
}

/// Most upstreams; an upstream's id has 16 bits, and each one is probed.
pub(crate) const MOST_UPSTREAMS: usize = 1024;
/// Most listeners; each costs a socket per thread.
pub(crate) const MOST_LISTENERS: usize = 16;

impl Setting {
    /// The environment variable: `limits.head` is `HERDGATE_LIMITS__HEAD`.
    pub(crate) fn variable(&self) -> String {
        format!("HERDGATE_{}", self.key.to_ascii_uppercase().replace('.', "__"))
    }

    /// The section (`tls.acme` is one within another), where it is in one, and the key in it.
    pub(crate) fn section_and_name(&self) -> (Option<&'static str>, &'static str) {
        match self.key.rsplit_once('.') {
            Some((section, name)) => (Some(section), name),
            None => (None, self.key),
        }
    }

    /// The least and the most of a time.
    pub(crate) fn time_bounds(&self) -> Option<(Duration, Duration)> {
        match self.form {
            Form::Time { least, most, .. } => Some((least, most)),
            _ => None,
        }
    }

    pub(crate) fn find(section: Option<&str>, name: &str) -> Option<&'static Setting> {
        SETTINGS.iter().find(|setting| setting.section_and_name() == (section, name))
    }
}

/// The names of all sections.
pub(crate) fn sections() -> impl Iterator<Item = &'static str> {
    let mut last = None;
    SETTINGS.iter().filter_map(move |setting| {
        let (section, _) = setting.section_and_name();
        let fresh = section.filter(|_| section != last);
        last = section;
        fresh
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_sections_stand_together() {
        let mut keys: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), SETTINGS.len());
        let sections: Vec<&str> = sections().collect();
        assert_eq!(
            sections,
            [
                "listen", "local", "auth", "cors", "limits", "timeouts", "server", "fleet", "queue",
                "manage", "tls", "tls.acme", "metrics", "log"
            ]
        );
    }

    #[test]
    fn a_variable_is_named_after_its_section_and_key() {
        let setting = Setting::find(Some("timeouts"), "keep_alive").unwrap();
        assert_eq!(setting.variable(), "HERDGATE_TIMEOUTS__KEEP_ALIVE");
        assert_eq!(Setting::find(None, "upstreams").unwrap().variable(), "HERDGATE_UPSTREAMS");
    }
}
