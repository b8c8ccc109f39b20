//! Gathers what the settings are read from: flags, environment, file. Reading them is `gate-config`'s.

use crate::cli::EXIT_USAGE;
use gate_config::{
    FileAccess, Flags, Held, KeyPart, Loaded, Locations, Place, Problem, Sources, Surroundings, believe,
    locate,
};
use gate_keys::{EnvKey, KeyName, Mark, ModelGlob, digest_text};
use gate_types::Secret;
use gate_wire::Template;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Bytes of a settings file or a token's file.
const FILE_BYTES: u64 = 1 << 20;

struct Disk;

impl FileAccess for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        text(File::open(path)?)
    }
}

/// Where the settings file and the data directory are. What is in the file is not looked at, nor whose it is.
pub(crate) fn places(flags: &Flags) -> Result<Locations, Vec<Problem>> {
    let is_root = rustix::process::geteuid().is_root();
    let mut around =
        Surroundings::new(is_root, Path::new("herdgate.toml").is_file(), |name| std::env::var_os(name));
    // A link that leads nowhere is one, too: what is there and cannot be believed is told, and not passed over.
    around.has_file_in_data =
        flags.data.as_deref().is_some_and(|data| Locations::file_in(data).symlink_metadata().is_ok());
    locate(flags, &around).map_err(|problem| vec![problem])
}

/// The same for who takes the settings as they are, right or wrong: but nobody takes those of somebody else.
pub(crate) fn places_believed(flags: &Flags) -> Result<Locations, Vec<Problem>> {
    let places = places(flags)?;
    match open(&places) {
        Err(Closed::Doubted(problem)) => Err(vec![problem]),
        Ok(_) | Err(Closed::Unread(_)) => Ok(places),
    }
}

/// Reads and checks all settings.
pub(crate) fn load(flags: &Flags) -> Result<(Loaded, Locations), Vec<Problem>> {
    let places = places(flags)?;
    let text = match open(&places) {
        Ok(file) => text(file),
        Err(Closed::Unread(error)) => Err(error),
        Err(Closed::Doubted(problem)) => return Err(vec![problem]),
    };
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
    let mut loaded = gate_config::load(&sources)?;
    loaded.warnings.extend(passed_over(&places));
    Ok((loaded, places))
}

/// A settings file beside data that a variable names: the flag would have found it there.
fn passed_over(places: &Locations) -> Option<Problem> {
    let place = places.data_named.as_ref().filter(|place| matches!(place, Place::Env { .. }))?;
    let file = Locations::file_in(&places.data);
    let is_read = places.config.as_ref().is_some_and(|read| same(read, &file));
    let is_passed_over = !is_read && file.symlink_metadata().is_ok();
    is_passed_over.then(|| {
        let file = file.display();
        let reason = format!("names a folder that holds a herdgate.toml, and {file} is not what is read");
        Problem::new(place.clone(), reason)
            .hint(format!("to read it: HERDGATE_CONFIG={file}, or --data in the place of the variable"))
    })
}

/// Whether two paths lead to one file.
fn same(one: &Path, other: &Path) -> bool {
    one == other || one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}

/// Why a settings file was not opened.
enum Closed {
    Unread(io::Error),
    /// Somebody else may have written it.
    Doubted(Problem),
}

impl From<io::Error> for Closed {
    fn from(error: io::Error) -> Self {
        Closed::Unread(error)
    }
}

impl From<rustix::io::Errno> for Closed {
    fn from(error: rustix::io::Errno) -> Self {
        Closed::Unread(error.into())
    }
}

/// Opens the settings file: what has been looked at is then what is read.
fn open(places: &Locations) -> Result<File, Closed> {
    let Some(path) = places.config.as_deref() else {
        return Err(Closed::Unread(io::ErrorKind::NotFound.into()));
    };
    let (true, Some(name)) = (places.is_in_data, path.file_name()) else { return Ok(File::open(path)?) };
    // A directory may be reached through a link, and is known by what is behind it.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(&places.data, flags, Mode::empty())?;
    let held_folder = held(&rustix::fs::fstat(&folder)?, FileType::Directory);
    let own = rustix::process::geteuid().as_raw();
    let judge = |stat: &Stat| {
        let file = (path, held(stat, FileType::RegularFile));
        believe(file, (&places.data, held_folder), own).map_err(Closed::Doubted)
    };
    // Before it is opened: to open a device may do something.
    judge(&rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&folder, name, flags, Mode::empty())?;
    judge(&rustix::fs::fstat(&file)?)?;
    Ok(file.into())
}

fn held(stat: &Stat, wanted: FileType) -> Held {
    let is_plain = FileType::from_raw_mode(stat.st_mode) == wanted;
    Held { is_plain, owner: stat.st_uid, mode: stat.st_mode }
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

fn text(file: File) -> io::Result<String> {
    let mut text = String::new();
    let read = file.take(FILE_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than 1 MiB"));
    }
    Ok(text)
}
