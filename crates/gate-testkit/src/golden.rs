//! Recorded answers of real Ollama servers, v0.24.0 and v0.32.15, byte for byte: `golden/<version>/NAME.res` and
//! `golden/<version>/faults/NAME.res`. Read from the source tree, so usable where the tests were built.

use std::io;
use std::path::{Path, PathBuf};

/// One recorded answer, e.g. `recorded("0.32.15/faults/crash-chat-stream")`.
///
/// # Errors
/// As reading the file: not found for a name that was not recorded.
pub fn recorded(name: &str) -> io::Result<Vec<u8>> {
    let path = folder().join(format!("{name}.res"));
    std::fs::read(&path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// The names of all recordings, sorted, in the form that [`recorded`] takes.
///
/// # Errors
/// As reading the folders.
pub fn recordings() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    gather(&folder(), "", &mut names)?;
    names.sort();
    Ok(names)
}

fn gather(folder: &Path, prefix: &str, names: &mut Vec<String>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            gather(&entry.path(), &format!("{prefix}{name}/"), names)?;
        } else if let Some(stem) = name.strip_suffix(".res") {
            names.push(format!("{prefix}{stem}"));
        }
    }
    Ok(())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}
