//! Gathers what the settings are read from: flags, environment, file. Reading them is `gate-config`'s.

use crate::cli::EXIT_USAGE;
use gate_config::{FileAccess, Flags, KeyPart, Loaded, Locations, Problem, Sources, Surroundings, locate};
use gate_keys::{EnvKey, KeyName, Mark, ModelGlob, digest_text};
use gate_types::Secret;
use gate_wire::Template;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Bytes of a settings file or a token's file.
const FILE_BYTES: u64 = 1 << 20;

struct Disk;

impl FileAccess for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        read(path)
    }
}

/// Where the settings file and the data directory are.
pub(crate) fn places(flags: &Flags) -> Result<Locations, Vec<Problem>> {
    let is_root = rustix::process::geteuid().is_root();
    let mut around =
        Surroundings::new(is_root, Path::new("herdgate.toml").is_file(), |name| std::env::var_os(name));
    around.has_file_in_data = flags.data.as_deref().is_some_and(|data| Locations::file_in(data).is_file());
    locate(flags, &around).map_err(|problem| vec![problem])
}

/// Reads and checks all settings.
pub(crate) fn load(flags: &Flags) -> Result<(Loaded, Locations), Vec<Problem>> {
    let places = places(flags)?;
    let text = places.config.as_deref().map_or_else(|| Err(io::ErrorKind::NotFound.into()), read);
    let file = places.judge(text).map_err(|problem| vec![problem])?;
    let sources = Sources {
        flags: flags.clone(),
        env: gate_config::environment(std::env::vars_os()),
        file,
        files: &Disk,
        key_form,
        route_form,
        token_form,
    };
    gate_config::load(&sources).map(|loaded| (loaded, places))
}

/// What the parts of a key of the settings look like.
fn key_form(part: KeyPart<'_>) -> Result<String, (String, &'static str)> {
    match part {
        KeyPart::Name(text) => {
            KeyName::parse(text).map(|name| name.to_string()).map_err(|bad| (bad.to_string(), bad.hint()))
        }
        KeyPart::Model(text) => ModelGlob::parse(text)
            .map(|glob| glob.as_str().to_owned())
            .map_err(|bad| (bad.to_string(), bad.hint())),
        KeyPart::Digest(text) => Mark::from_digest_text(text)
            .map(|mark| digest_text(&mark))
            .map_err(|bad| (bad.to_string(), bad.hint())),
    }
}

/// What the path of a route of the settings looks like.
fn route_form(path: &str) -> Result<(), (String, &'static str)> {
    Template::parse(path).map(drop).map_err(|bad| (bad.to_string(), bad.hint()))
}

/// What a token of the environment must be like.
fn token_form(token: &Secret) -> Result<(), (String, &'static str)> {
    EnvKey::new(token).map(drop).map_err(|bad| (bad.to_string(), bad.hint()))
}

/// Tells problems, one each with its hint, and gives the exit code for them.
pub(crate) fn tell(problems: &[Problem], talk: &mut dyn Write) -> u8 {
    for problem in problems {
        // A closed standard error leaves the exit code to tell it.
        let _closed = tell_one("error", problem, talk);
    }
    EXIT_USAGE
}

/// A line for the problem, behind the word for how bad it is, and one for its hint: as all other commands do it. In a log it
/// is one line.
pub(super) fn tell_one(word: &str, problem: &Problem, talk: &mut dyn Write) -> io::Result<()> {
    let Problem { place, reason, hint } = problem;
    writeln!(talk, "{word}: {place} {reason}")?;
    hint.as_ref().map_or(Ok(()), |hint| writeln!(talk, "hint: {hint}"))
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?.take(FILE_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than 1 MiB"));
    }
    Ok(text)
}
