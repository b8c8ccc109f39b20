//! A database file read whole and apart from SQLite's own handling of it: is it sound, is it herdgate's, which one is it?
//!
//! Read through a handle that the caller keeps, into memory, with no lock taken and nothing written: the file may be
//! anything at this moment. What is still in the log is not looked at.

use crate::fault::{refused, wrong};
use crate::look::log_length;
use crate::schema::{DAMAGED, StoreId, check_head, id};
use gate_keys::StoreError;
use rusqlite::{Connection, OptionalExtension as _};
use std::fs::File;
use std::io;
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
    let (bytes, is_whole) = bytes(file).map_err(|cause| refused(path, "read the database", cause))?;
    check_head(path, &bytes)?;
    if !is_whole {
        return Ok(None);
    }
    examine(&bytes).map_err(|cause| match cause {
        Some(cause) => crate::schema::unusable(path, "read the database", cause),
        None => wrong(path, "is damaged", DAMAGED),
    })
}

/// The id that stands in the file, where there is a log which may say otherwise. Nothing else is asked of it: a log that
/// was moved into it in part leaves a file that is not sound alone.
pub(crate) fn id_alone(file: &File, path: &Path) -> Option<StoreId> {
    log_length(path).filter(|length| *length > 0)?;
    let (bytes, _) = bytes(file).ok()?;
    id(&copy(&bytes).ok()?).ok()
}

/// The file as that of a database without a log. All of it, or the head alone where there is too much of it.
fn bytes(file: &File) -> io::Result<(Vec<u8>, bool)> {
    let length = file.metadata()?.len();
    let is_whole = length <= MOST_BYTES;
    let wanted = if is_whole { length } else { HEAD as u64 };
    let mut bytes = vec![0; usize::try_from(wanted).unwrap_or(HEAD)];
    file.read_exact_at(&mut bytes, 0)?;
    if let Some(marks) = bytes.get_mut(LOG_MARKS) {
        marks.fill(NO_LOG);
    }
    Ok((bytes, is_whole))
}

pub(crate) fn copy(bytes: &[u8]) -> rusqlite::Result<Connection> {
    let mut copy = Connection::open_in_memory()?;
    copy.deserialize_read_exact("main", bytes, bytes.len(), true)?;
    Ok(copy)
}

fn examine(bytes: &[u8]) -> Result<Option<StoreId>, Option<rusqlite::Error>> {
    let copy = copy(bytes)?;
    let found: String = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(None);
    }
    let has_id = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'store'";
    if copy.query_row(has_id, [], |_| Ok(())).optional()?.is_none() {
        return Ok(None);
    }
    Ok(id(&copy).map(Some)?)
}

/// Nothing can be asked of a store whose database could not be opened again.
pub(crate) fn closed(path: &Path) -> StoreError {
    wrong(path, "is closed, since it was not what it had been", "bring the database back")
}
