//! A database file read whole and apart from SQLite's own handling of it: is it sound, is it herdgate's, which one is it?
//!
//! Read through a handle that the caller keeps, into memory, with no lock taken and nothing written: the file may be
//! anything at this moment. What is still in the log is not looked at.

use crate::fault::{refused, wrong};
use crate::schema::{DAMAGED, StoreId, check_head};
use gate_keys::StoreError;
use rusqlite::{Connection, OptionalExtension as _};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// A longer file is looked at by its beginning alone: a million keys are below this.
const MOST_BYTES: u64 = 256 << 20;
const HEAD: usize = 100;
/// Where the header says that the database has a log (SQLite file format 1.3.3), which a copy in memory cannot have.
const LOG_MARKS: std::ops::Range<usize> = 18..20;
const NO_LOG: u8 = 1;

/// The id of a sound database of herdgate; none where it is from before there were ids.
///
/// # Errors
/// [`StoreError::Storage`] if it is not herdgate's, of another version, or damaged.
pub(crate) fn read(file: &File, path: &Path) -> Result<Option<StoreId>, StoreError> {
    let cause = |cause| refused(path, "read the database", cause);
    let length = file.metadata().map_err(cause)?.len();
    let wanted = if length > MOST_BYTES { HEAD as u64 } else { length };
    let mut bytes = vec![0; usize::try_from(wanted).unwrap_or(HEAD)];
    file.read_exact_at(&mut bytes, 0).map_err(cause)?;
    check_head(path, &bytes)?;
    if length > MOST_BYTES {
        return Ok(None);
    }
    if let Some(marks) = bytes.get_mut(LOG_MARKS) {
        marks.fill(NO_LOG);
    }
    examine(&bytes).map_err(|cause| match cause {
        Some(cause) => crate::schema::unusable(path, "read the database", cause),
        None => wrong(path, "is damaged", DAMAGED),
    })
}

fn examine(bytes: &[u8]) -> Result<Option<StoreId>, Option<rusqlite::Error>> {
    let mut copy = Connection::open_in_memory()?;
    copy.deserialize_read_exact("main", bytes, bytes.len(), true)?;
    let found: String = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(None);
    }
    let has_id = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'store'";
    if copy.query_row(has_id, [], |_| Ok(())).optional()?.is_none() {
        return Ok(None);
    }
    Ok(copy.query_row("SELECT id FROM store", [], |row| row.get(0)).map(Some)?)
}

/// Nothing can be asked of a store whose database could not be opened again.
pub(crate) fn closed(path: &Path) -> StoreError {
    wrong(path, "is closed, since it was not what it had been", "bring the database back")
}
