//! Makes the one error of this crate: which file, what is wrong with it, what to do.

use gate_keys::StoreError;
use std::error::Error;
use std::io;
use std::path::Path;

/// What helps against a full disk.
pub(crate) const MAKE_ROOM: &str = "make room on the disk";

/// Something wrong with `path` that nobody below reported.
pub(crate) fn wrong(path: &Path, reason: impl Into<String>, hint: impl Into<String>) -> StoreError {
    StoreError::Storage {
        path: path.to_owned(),
        reason: reason.into(),
        hint: Some(hint.into()),
        source: None,
    }
}

/// The system refused `what` with `path`.
pub(crate) fn refused(path: &Path, what: &str, cause: impl Into<io::Error>) -> StoreError {
    let cause = cause.into();
    let hint = match cause.kind() {
        io::ErrorKind::PermissionDenied => {
            Some("run as the user that owns it, or name another directory with --data")
        }
        io::ErrorKind::ReadOnlyFilesystem => Some("name a directory on a writable file system with --data"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(MAKE_ROOM),
        _ => None,
    };
    StoreError::Storage {
        path: path.to_owned(),
        reason: format!("cannot {what}: {}", plain(&cause)),
        hint: hint.map(str::to_owned),
        source: Some(Box::new(cause)),
    }
}

/// The layer below failed while `what` was done with `path`.
pub(crate) fn failed(
    path: &Path,
    what: &str,
    hint: Option<&str>,
    cause: impl Error + Send + Sync + 'static,
) -> StoreError {
    StoreError::Storage {
        path: path.to_owned(),
        reason: format!("cannot {what}: {cause}"),
        hint: hint.map(str::to_owned),
        source: Some(Box::new(cause)),
    }
}

/// `permission denied` instead of `Permission denied (os error 13)`.
fn plain(cause: &io::Error) -> String {
    let text = cause.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}
