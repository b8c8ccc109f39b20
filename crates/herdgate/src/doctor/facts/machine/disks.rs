//! Room for models and for the gate's data, and who may read the data directory.

use super::services::Service;
use rustix::fs::statvfs;
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Where Ollama's installer lets the service keep models (install.sh: the home of its user).
const OF_SERVICE: &str = "/usr/share/ollama/.ollama/models";

/// A folder and the room around it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Disk {
    pub(in crate::doctor) path: String,
    pub(in crate::doctor) free: u64,
    pub(in crate::doctor) total: u64,
    /// Of files; none where the file system does not count them.
    pub(in crate::doctor) free_files: Option<u64>,
}

/// The data directory.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Rights {
    pub(in crate::doctor) path: String,
    pub(in crate::doctor) mode: u32,
    pub(in crate::doctor) owner: u32,
    /// Files that belong to somebody else than the directory: a command that was run as root, often.
    pub(in crate::doctor) foreign: Vec<String>,
}

/// Where this machine's Ollama keeps its models, as far as that can be seen.
pub(super) fn models(services: &[Service]) -> Option<Disk> {
    let ollama = services.iter().find(|service| service.is_ollama());
    let told = ollama.and_then(|service| service.sets.get("OLLAMA_MODELS")).map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".ollama/models"));
    let places = [told, ollama.map(|_| PathBuf::from(OF_SERVICE)), home()];
    places.into_iter().flatten().find(|path| path.is_dir()).and_then(|path| disk(&path))
}

pub(super) fn disk(path: &Path) -> Option<Disk> {
    let there = path.ancestors().find(|folder| folder.is_dir())?;
    let stat = statvfs(there).ok()?;
    Some(Disk {
        path: path.display().to_string(),
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
        total: stat.f_blocks.saturating_mul(stat.f_frsize),
        free_files: (stat.f_files > 0).then_some(stat.f_favail),
    })
}

/// None where there is no such directory yet.
pub(super) fn rights(data: &Path) -> Option<Rights> {
    let own = fs::metadata(data).ok().filter(fs::Metadata::is_dir)?;
    let files = fs::read_dir(data).into_iter().flatten().flatten().take(1024);
    let is_foreign = |file: &fs::DirEntry| file.metadata().is_ok_and(|stat| stat.uid() != own.uid());
    let mut foreign: Vec<String> =
        files.filter(is_foreign).map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    foreign.sort();
    Some(Rights { path: data.display().to_string(), mode: own.mode() & 0o7777, owner: own.uid(), foreign })
}
