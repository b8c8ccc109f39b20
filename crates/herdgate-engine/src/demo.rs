//! The demo model that comes with the engine: served where nobody gave another. It knows about herdgate and nothing else.

use std::io;
use std::path::PathBuf;

use tempfile::TempDir;

/// `tools/demo-model` says how this file was made.
const BYTES: &[u8] = include_bytes!("../../../tools/demo-model/herdgate-demo.gguf");

/// The file on disk, where llama.cpp can map it; removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Demo {
    pub(crate) path: PathBuf,
    _dir: TempDir,
}

/// Writes the model into a fresh directory that only this user can look into.
pub(crate) fn unpack() -> io::Result<Demo> {
    let dir = tempfile::Builder::new().prefix("herdgate-engine-").tempdir()?;
    let path = dir.path().join("herdgate-demo.gguf");
    std::fs::write(&path, BYTES)?;
    Ok(Demo { path, _dir: dir })
}
