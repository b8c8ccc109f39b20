//! What tests need of others' registries, under a build's own folder: installed once for each list of pinned versions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// One installation at a time, whichever test comes first.
static INSTALLING: Mutex<()> = Mutex::new(());

/// The folder `name` below `all`, in which `install` was done for these `pinned` versions, now or by an earlier run.
///
/// # Errors
/// In words, where it cannot be installed.
pub fn installed(
    all: &Path,
    name: &str,
    pinned: &str,
    install: impl Fn(&Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let _alone = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let (folder, done) = (all.join(name), all.join(name).join("installed-for"));
    let said = |error: std::io::Error| format!("{}: {error}", folder.display());
    fs::create_dir_all(all).map_err(said)?;
    // Another run of the tests may be at it, too.
    let lock = fs::File::create(all.join(format!("{name}.lock"))).map_err(said)?;
    lock.lock().map_err(said)?;
    if fs::read_to_string(&done).is_ok_and(|before| before == pinned) {
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(said)?;
    }
    fs::create_dir(&folder).map_err(said)?;
    install(&folder)?;
    fs::write(done, pinned).map_err(said)?;
    Ok(folder)
}

/// Runs an installer.
///
/// # Errors
/// With all that it said, where it fails.
pub fn run(command: &mut Command) -> Result<(), String> {
    let what = format!("{} {:?}", command.get_program().display(), command.get_args().collect::<Vec<_>>());
    let output = command.output().map_err(|error| format!("{what}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{what}: {}\n{}", output.status, String::from_utf8_lossy(&said)))
}
