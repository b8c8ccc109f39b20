//! The demo model that comes with the engine: served where nobody gave another. It knows about herdgate and nothing else.

use std::fs::DirBuilder;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};
use tracing::info;

/// `tools/demo-model` says how this file was made.
const BYTES: &[u8] = include_bytes!("../../../tools/demo-model/herdgate-demo.gguf");
const NAME: &str = "herdgate-demo.gguf";
/// In the directory of models, where it is no model of the operator's.
const FOLDER: &str = ".demo";

/// The file on disk, where llama.cpp can map it.
#[derive(Debug)]
pub(crate) struct Demo {
    pub(crate) path: PathBuf,
    /// A temporary folder goes with this value.
    _dir: Option<TempDir>,
}

/// Writes the model where only this user can look: into `models`, where the next start finds it again, or else into a
/// temporary folder, which stays behind if the engine is killed.
pub(crate) fn unpack(models: Option<&Path>) -> io::Result<Demo> {
    match models.map(keep) {
        Some(Ok(path)) => return Ok(Demo { path, _dir: None }),
        Some(Err(problem)) => info!(%problem, "the demo model goes into a temporary folder"),
        None => {}
    }
    let dir = tempfile::Builder::new().prefix("herdgate-engine-").tempdir()?;
    let path = dir.path().join(NAME);
    std::fs::write(&path, BYTES)?;
    Ok(Demo { path, _dir: Some(dir) })
}

/// Puts the model into `models`, unless it is there already.
fn keep(models: &Path) -> io::Result<PathBuf> {
    private_folder(models)?;
    let folder = models.join(FOLDER);
    private_folder(&folder)?;
    let path = folder.join(NAME);
    let has_length = path.metadata().is_ok_and(|about| about.is_file() && about.len() == BYTES.len() as u64);
    if !has_length || std::fs::read(&path)? != BYTES {
        // Renamed into place: another engine may have the old file mapped.
        let mut new = NamedTempFile::new_in(&folder)?;
        new.write_all(BYTES)?;
        new.persist(&path)?;
    }
    Ok(path)
}

fn private_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(problem) if problem.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}
