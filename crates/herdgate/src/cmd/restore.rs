//! `herdgate restore`: sets a gate up from a backup. Looks at all of the archive before it changes anything, refuses to
//! touch a gate that runs, and throws nothing away.

use crate::backup::Part;
use crate::backup::check::{Contents, hinted};
use crate::backup::models::Store;
use crate::backup::place::{ForSettings, Places, is_ollamas, plain};
use crate::cli::EXIT_FAILURE;
use crate::progress::bytes;
use anyhow::{Context as _, bail};
use clap::Args;
use gate_config::{Locations, Place};
use gate_store::{DataDir, FROM_BACKUP, examine_copy, is_in_use};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Arguments of `herdgate restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// A file that `herdgate backup` wrote
    file: PathBuf,
    /// Check the backup and say what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Where there is a gate already, keep its files aside and put the backup in their place
    #[arg(long)]
    replace: bool,
    /// Where models of Ollama go [default: OLLAMA_MODELS, else ~/.ollama/models, else that of its service]
    #[arg(long, value_name = "DIR")]
    models_dir: Option<PathBuf>,
}

/// Restores into the data directory and the place for settings of `places`.
pub(crate) fn run(args: &RestoreArgs, places: &Locations, talk: &mut dyn Write) -> u8 {
    let start = start(places);
    let places = Places {
        data: places.data.clone(),
        settings: places.for_new_settings(),
        models: Store::place(args.models_dir.as_deref(), |name| std::env::var_os(name)),
        replaces: args.replace,
        stamp: jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string(),
    };
    match restore(args, &places, &start) {
        Ok(said) => {
            let _closed = talk.write_all(said.as_bytes());
            0
        }
        Err(error) => {
            // A closed standard error leaves the exit code to tell it.
            let _closed = writeln!(talk, "error: {error:#}");
            EXIT_FAILURE
        }
    }
}

/// How the gate is started that is set up here: with the flags that it was set up by.
fn start(places: &Locations) -> String {
    let mut command = "herdgate serve".to_owned();
    let named = [
        ("--config", &places.config_named, places.config.as_ref()),
        ("--data", &places.data_named, Some(&places.data)),
    ];
    for (flag, named, path) in named {
        if let (Some(Place::Flag { .. }), Some(path)) = (named, path) {
            let _infallible = write!(command, " {flag} {}", shown(path));
        }
    }
    command
}

/// A path as a shell takes it.
fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

fn restore(args: &RestoreArgs, places: &Places, start: &str) -> anyhow::Result<String> {
    let named = || args.file.display().to_string();
    let mut archive = File::open(&args.file).with_context(|| format!("cannot read {}", named()))?;
    // It is read twice.
    archive.seek(SeekFrom::Start(0)).with_context(|| format!("{} must be a file", named()))?;
    let mut contents = Contents::of(&mut archive).with_context(named).map_err(hinted)?;
    if let Some(database) = contents.database.take() {
        // The database itself is what counts, not what the archive says of it.
        let facts = examine_copy(Path::new("the database in it"), &database);
        contents.about.database = Some(facts.map_err(plain).with_context(named)?);
    }
    let used = used(&places.data)?;
    if used && !places.replaces {
        bail!(
            "{} is not empty\nhint: with --replace its files are kept aside, in {}",
            places.data.display(),
            places.data.join(places.aside()).display()
        );
    }
    let settings = places.for_settings(settings(&contents, &mut archive)?.as_deref());
    let mut said = told(&contents, places, &settings, used);
    if args.dry_run {
        said.push_str("nothing was changed (--dry-run)\n");
        return Ok(said);
    }
    let dir = DataDir::open(&places.data).map_err(plain)?;
    let _lock = dir.lock().map_err(plain)?;
    places.fill(&dir, &contents, &settings, &mut archive)?;
    let _infallible = writeln!(said, "restored; start it with: {start}");
    Ok(said)
}

/// Whether something would have to give way there. Changes nothing, not even a mode.
///
/// # Errors
/// Where a gate runs on it.
fn used(data: &Path) -> anyhow::Result<bool> {
    if let Some(holder) = is_in_use(data) {
        let holder = holder.map_or_else(String::new, |number| format!(" (process {number})"));
        bail!(
            "{} is in use by a gate that runs{holder}\nhint: end it first, or name another directory with --data",
            data.display()
        );
    }
    if !data.is_dir() {
        return Ok(false);
    }
    let dir = DataDir::anchor(data).map_err(plain)?;
    Ok(!dir.replaceable().map_err(plain)?.is_empty())
}

/// The settings file of the backup.
fn settings(contents: &Contents, archive: &mut File) -> anyhow::Result<Option<Vec<u8>>> {
    let mut settings = None;
    if contents.count(|part| part == Part::Settings) > 0 {
        contents.take_out(archive, |part, from| {
            if part == Part::Settings {
                let mut bytes = Vec::new();
                from.read_to_end(&mut bytes)?;
                settings = Some(bytes);
            }
            Ok(())
        })?;
    }
    Ok(settings)
}

/// What is done, for people.
fn told(contents: &Contents, places: &Places, settings: &ForSettings, used: bool) -> String {
    let about = &contents.about;
    let mut lines =
        vec![format!("backup of {}, by herdgate {} on {}", about.made, about.herdgate, about.host)];
    lines.push(told_data(contents, places));
    if used {
        lines.push(format!("  kept aside    {}", places.data.join(places.aside()).display()));
    }
    lines.push(format!("  settings      {}", told_settings(settings)));
    if !about.certificates.is_empty() {
        let place = places.data.join(FROM_BACKUP);
        let names = about.certificates.join(", ");
        lines.push(format!("  certificate   {}; its settings name {names}", place.display()));
    }
    lines.extend(told_models(contents, places));
    lines.push(
        "  note: what was revoked after that moment is valid again; `herdgate key list` shows all keys"
            .to_owned(),
    );
    lines.join("\n") + "\n"
}

fn told_data(contents: &Contents, places: &Places) -> String {
    let keys = contents.about.database.map_or_else(
        || "no database of keys".to_owned(),
        |facts| format!("the database with {} key{}", facts.keys, if facts.keys == 1 { "" } else { "s" }),
    );
    let more = match contents.count(|part| matches!(part, Part::Data(_))) {
        0 => String::new(),
        1 => ", one more file".to_owned(),
        files => format!(", {files} more files"),
    };
    format!("  data          {}: {keys}{more}", places.data.display())
}

fn told_settings(settings: &ForSettings) -> String {
    match settings {
        ForSettings::None => "none in the backup".to_owned(),
        ForSettings::AreThere(path) => format!("{}: the same already", path.display()),
        ForSettings::Become(path) => path.display().to_string(),
        ForSettings::Replace(path, old) => {
            format!("{}; the old ones become {}", path.display(), old.display())
        }
        ForSettings::LieBeside(path) => {
            format!("others are there and stay; those of the backup: {}", path.display())
        }
    }
}

fn told_models(contents: &Contents, places: &Places) -> Vec<String> {
    let mut lines = Vec::new();
    let models = contents.count(|part| matches!(part, Part::Manifest(_)));
    if let (true, Some(store)) = (models > 0, &places.models) {
        let size = bytes(contents.size(is_ollamas));
        lines.push(format!("  models        {}: {models} of Ollama, {size}", store.path().display()));
    }
    let engine = contents.count(|part| matches!(part, Part::Engine(_)));
    if engine > 0 {
        let place = places.data.join("models");
        lines.push(format!("  models        {}: {engine} of the engine", place.display()));
    }
    lines
}
