//! Files for the programs around the gate, made from its settings: what they say, where they go, what must follow.
//!
//! Pure: every kind is a function from what was asked and the settings to a [`Deployment`], the same bytes for the same input.
//! Printing is `cmd/deploy.rs`'s; putting them in place and taking them back is [`mod@write`]'s. Never guesses: what the settings do
//! not tell is an option, and never lets a text of the settings become more than the one word that it is.

pub(crate) mod client;
pub(crate) mod compose;
pub(crate) mod dockerfile;
pub(crate) mod firewall;
pub(crate) mod fronts;
pub(crate) mod ollama;
pub(crate) mod systemd;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod write;

use anyhow::bail;
use gate_config::{Config, Loaded, Locations, UpstreamUrl};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What one `herdgate deploy …` makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deployment {
    /// The words of the command, by which `--undo` finds it again.
    pub(crate) kind: &'static str,
    pub(crate) base: Base,
    pub(crate) files: Vec<Made>,
    /// What must follow once the files are in place.
    pub(crate) then: Vec<Act>,
    /// What must be done before they are taken back, and after it.
    pub(crate) before_undo: Vec<Act>,
    pub(crate) after_undo: Vec<Act>,
    /// What whoever asked should know, beside the files: a sentence each.
    pub(crate) notes: Vec<String>,
    /// Where the program would not have what the files are made from: on this machine they are then not put in place.
    pub(crate) astray: Vec<Astray>,
}

/// Something that files are made from and that their program would not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Astray {
    pub(crate) what: String,
    /// What brings both together, one each.
    pub(crate) ways: Vec<String>,
}

impl Deployment {
    pub(crate) fn new(kind: &'static str, base: Base, files: Vec<Made>) -> Self {
        let none = Vec::new;
        Deployment {
            kind,
            base,
            files,
            then: none(),
            before_undo: none(),
            after_undo: none(),
            notes: vec![],
            astray: vec![],
        }
    }
}

/// What the paths of files are below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// The machine's root, or `--root`; paths are absolute.
    System,
    /// The working directory, or `--root`; paths are relative.
    Here,
    /// The home directory of whoever asks, or `--root`; paths begin with `~`.
    Home,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    pub(crate) mode: u32,
    pub(crate) way: Way,
}

impl Made {
    /// A file that everybody may read and that is the deployment's alone.
    pub(crate) fn new(path: impl Into<PathBuf>, text: String) -> Self {
        Made { path: path.into(), text, mode: 0o644, way: Way::Whole }
    }
}

/// What becomes of a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It is kept aside, and replaced.
    Whole,
    /// The text becomes a marked part of it, and the rest stays.
    Block,
    /// It is refused: what it says is needed, and only a person can put both together.
    Sole,
    /// It is left as it is, unless it is exactly what was written last: others write to it, and it has no place for a part.
    New,
}

/// A command of somebody else's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Act(pub(crate) Vec<String>);

impl Act {
    /// Of words that have no blank in them.
    pub(crate) fn of(line: &str) -> Self {
        Act(line.split(' ').map(str::to_owned).collect())
    }
}

/// As a shell reads it.
impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.0.iter().map(|word| shell_word(word)).collect();
        f.write_str(&words.join(" "))
    }
}

/// A word that a shell takes for exactly this text. Control characters, which no option has, become `?`.
pub(crate) fn shell_word(word: &str) -> String {
    let is_plain = |sign: char| sign.is_ascii_alphanumeric() || "_-./:,=@+%".contains(sign);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    let shown: String = word.chars().map(|sign| if sign.is_control() { '?' } else { sign }).collect();
    format!("'{}'", shown.replace('\'', r"'\''"))
}

/// What files are made from.
pub(crate) struct Ground<'g> {
    pub(crate) loaded: &'g Loaded,
    pub(crate) places: &'g Locations,
    /// The working directory, for paths of the settings that begin there.
    pub(crate) here: &'g Path,
    /// The command that makes them, as somebody would type it.
    pub(crate) command: String,
}

impl Ground<'_> {
    pub(crate) fn config(&self) -> &Config {
        &self.loaded.config
    }

    /// The first lines of a file whose comments begin with `#`: what it is, made by what, where it goes.
    pub(crate) fn head(&self, path: &Path, what: &str) -> String {
        let (command, path) = (&self.command, path.display());
        format!("# {what}\n# Made by `{command}`; belongs at {path}.\n")
    }

    /// The file of the authority that the gate is for itself, where it is one.
    pub(crate) fn own_authority(&self) -> Option<PathBuf> {
        self.config().tls.self_signed.then(|| self.absolute(&self.places.data).join("tls-ca.pem"))
    }

    /// Longer than the gate is ever silent: in its queue, then at the upstream; so that it is the gate that says what is wrong.
    pub(crate) fn longest_silence(&self) -> Duration {
        let config = self.config();
        let idle = config.upstreams.iter().filter_map(|one| one.idle).chain([config.timeouts.idle]).max();
        idle.unwrap_or_default() + config.queue.max_wait + Duration::from_secs(30)
    }

    /// A path of the settings as one that means the same everywhere on the machine.
    pub(crate) fn absolute(&self, path: &Path) -> PathBuf {
        self.here.join(path)
    }
}

/// Whether a host of the settings is this machine by its loopback.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// The URL of a gate as programs take it: no port where the scheme says it.
pub(crate) fn shown(url: &UpstreamUrl) -> String {
    format!("{}://{}{}", if url.tls { "https" } else { "http" }, url.authority(), url.base)
}

/// The command of this process, as somebody would type it to have the same again.
pub(crate) fn typed() -> String {
    command(std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()))
}

/// The command that makes the files, without the words that only say what becomes of them.
fn command(words: impl Iterator<Item = String>) -> String {
    let mut kept = vec!["herdgate".to_owned()];
    let mut skips_one = false;
    for word in words {
        let is_value = std::mem::replace(&mut skips_one, word == "--root" || word == "--only");
        let says_where = ["--write", "--undo", "--yes", "-y", "--run"].contains(&word.as_str())
            || word.starts_with("--root=")
            || word.starts_with("--only=");
        if !(is_value || skips_one || says_where) {
            kept.push(shell_word(&word));
        }
    }
    kept.join(" ")
}

/// A text that means itself in the formats of all kinds: no blank, quote, backslash, comment or control character.
///
/// # Errors
/// In words, where it is not.
pub(crate) fn tame<'t>(what: &str, text: &'t str) -> anyhow::Result<&'t str> {
    let is_tame = |sign: char| sign.is_alphanumeric() || "_-./:,=@+%".contains(sign);
    match text.chars().find(|sign| !is_tame(*sign)) {
        None if !text.is_empty() => Ok(text),
        None => bail!("{what} is empty"),
        Some(sign) => bail!(
            "{what} has {sign:?} in it, which cannot be written down safely\nhint: use another name: {text:?}"
        ),
    }
}

/// [`tame`], of a path.
///
/// # Errors
/// As [`tame`], and where it is not UTF-8.
pub(crate) fn tame_path<'p>(what: &str, path: &'p Path) -> anyhow::Result<&'p str> {
    match path.to_str() {
        Some(text) => tame(what, text),
        None => bail!("{what} is not UTF-8: {path:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_a_shell_as_they_are() {
        for (word, shown) in [
            ("a-b_c/d.e:1,2=3@x+y%", "a-b_c/d.e:1,2=3@x+y%"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$(x)\n", "'$(x)?'"),
        ] {
            assert_eq!(shell_word(word), shown);
        }
        assert_eq!(Act::of("nginx -t").to_string(), "nginx -t");
    }

    #[test]
    fn nothing_breaks_out_of_its_word() {
        for text in
            ["a b", "~a", "a*", "a\nb", "a\"", "a'", "a\\", "a;", "a#", "a{", "$a", "", "a\u{85}", "`a`"]
        {
            assert!(tame("the name", text).is_err(), "{text:?}");
        }
        assert_eq!(tame("the name", "/etc/ä/x-1.pem").unwrap(), "/etc/ä/x-1.pem");
    }

    #[test]
    fn the_command_is_what_makes_the_same_file_again() {
        let of = |line: &str| command(line.split(' ').map(str::to_owned));
        assert_eq!(of("deploy systemd --write --yes --root /x --keep 3"), "herdgate deploy systemd --keep 3");
        assert_eq!(
            of("--config a deploy systemd --root=/x -y --only b.timer"),
            "herdgate --config a deploy systemd"
        );
    }
}
