//! The store of keys at the start of the gate: opened, made, or done without, and the first key where there never was one.

use super::first_key::{self, FirstKey};
use super::keys::{Keeper, Outside};
use super::with_hint;
use gate_keys::KeyRing;
use gate_proxy::unix_now;
use gate_store::{DATABASE_FILE, DataDir, DirLock, SqliteStore};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;

/// What the gate begins with.
pub(super) struct Begun {
    pub(super) keeper: Keeper,
    pub(super) ring: KeyRing,
    pub(super) first: Option<FirstKey>,
    /// The data directory is this gate's alone as long as this is held; none where there is no directory.
    pub(super) lock: Option<DirLock>,
}

/// Opens the store in the directory `data`, and makes both where there are none. Another gate may have `handed` over its lock. A gate whose keys all come from the
/// settings can do without: in a container the directory may be read-only or nowhere.
///
/// # Errors
/// Where there is a store that cannot be used, or where there must be one.
pub(super) fn begin(data: &Path, outside: Outside, handed: Option<OwnedFd>) -> anyhow::Result<Begun> {
    let (store, first, lock) = match open(data, &outside, handed) {
        Ok((store, first, lock)) => (Some(store), first, lock),
        Err(error) if !outside.is_empty() && has_none(data) => {
            tracing::warn!("no store of keys, only the keys of the settings are in force: {error:#}");
            (None, None, None)
        }
        Err(error) => return Err(error),
    };
    let (keeper, ring) = Keeper::begin(store, outside).map_err(with_hint)?;
    Ok(Begun { keeper, ring, first, lock })
}

fn open(
    data: &Path,
    outside: &Outside,
    handed: Option<OwnedFd>,
) -> anyhow::Result<(SqliteStore, Option<FirstKey>, Option<DirLock>)> {
    let dir = DataDir::open(data).map_err(with_hint)?;
    for note in dir.notes() {
        tracing::warn!("{note}");
    }
    let lock = match handed {
        Some(handed) => Some(dir.lock_handed_over(handed)),
        None => dir.lock().transpose(),
    };
    let lock = lock.transpose().map_err(with_hint)?;
    let mut store =
        SqliteStore::open(&dir).map_err(with_hint)?.by(&format!("herdgate ({})", crate::user::name()));
    if store.adopt(&dir).map_err(with_hint)? {
        tracing::warn!(
            "{}: is another database than at the last start: keys that were only in that one are unknown now",
            dir.path().join(DATABASE_FILE).display()
        );
    }
    let first = first_key::make(&mut store, &dir, outside, unix_now())?;
    Ok((store, first, lock))
}

/// Whether there is surely no database. One that cannot be looked at may hold revocations.
fn has_none(data: &Path) -> bool {
    let looked = std::fs::symlink_metadata(data.join(DATABASE_FILE));
    looked.is_err_and(|cause| matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
}
