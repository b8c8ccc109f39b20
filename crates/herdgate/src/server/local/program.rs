//! Which program the gate can start as an upstream, and where it lies.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// A program that can answer as an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Program {
    /// `ollama serve`.
    Ollama(PathBuf),
    /// `herdgate-engine`, with the models in this directory or its demo model.
    Engine(PathBuf),
}

impl Program {
    /// What an Ollama is called.
    pub(crate) const OLLAMA: &'static str = "ollama";

    /// The word before its log lines.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Program::Ollama(_) => Self::OLLAMA,
            Program::Engine(_) => "engine",
        }
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Program::Ollama(path) | Program::Engine(path) => path,
        }
    }
}

/// Looks for an Ollama on `PATH`, then for the engine beside this program and on `PATH`.
pub(crate) fn find(search_path: &OsStr, beside: Option<&Path>) -> Option<Program> {
    let on_path = |name: &str| {
        std::env::split_paths(search_path).map(|dir| dir.join(name)).find(|file| is_program(file))
    };
    on_path("ollama").map(Program::Ollama).or_else(|| find_engine(search_path, beside).map(Program::Engine))
}

/// Looks for the engine alone.
pub(crate) fn find_engine(search_path: &OsStr, beside: Option<&Path>) -> Option<PathBuf> {
    let folders = beside.map(Path::to_path_buf).into_iter().chain(std::env::split_paths(search_path));
    folders.map(|dir| dir.join("herdgate-engine")).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn program(dir: &Path, name: &str) -> PathBuf {
        let file = dir.join(name);
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        file
    }

    #[test]
    fn ollama_on_path_comes_before_the_engine_beside_us() {
        let (path, beside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_eq!(find(path.path().as_os_str(), Some(beside.path())), None);
        let engine = program(beside.path(), "herdgate-engine");
        assert_eq!(find(path.path().as_os_str(), Some(beside.path())), Some(Program::Engine(engine)));
        let ollama = program(path.path(), "ollama");
        assert_eq!(find(path.path().as_os_str(), Some(beside.path())), Some(Program::Ollama(ollama)));
    }

    #[test]
    fn a_file_that_cannot_be_run_is_no_program() {
        let path = tempfile::tempdir().unwrap();
        std::fs::write(path.path().join("ollama"), "").unwrap();
        assert_eq!(find(path.path().as_os_str(), None), None);
    }
}
