//! A copy of the database as it is at one moment, made while others read and write it: for backups, and before its tables
//! are brought up to date.

use crate::data_dir::{DataDir, Unfinished};
use crate::fault::{refused, wrong};
use crate::image;
use crate::schema::{self, BUSY, DATABASE_FILE, unusable};
use gate_keys::StoreError;
use rusqlite::{Connection, OpenFlags};
use std::fs::File;
use std::path::Path;

const COPY: &str = "copy the database";
/// Behind the database's name: the copy from before its tables changed.
pub(crate) const BEFORE: &str = ".before-v";

/// A whole database in one file without a log, under a name that is gone when this is dropped.
pub struct DatabaseCopy<'d> {
    file: Unfinished<'d>,
    facts: DatabaseFacts,
}

/// What a copy of a database says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// Of its tables.
    pub version: i64,
    /// Keys, revoked ones too.
    pub keys: u64,
}

impl<'d> DatabaseCopy<'d> {
    /// Copies the database of `dir`; nothing of it changes. `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError::Storage`] if it is damaged, not herdgate's, of a newer herdgate, or cannot be read or written, or if there
    /// is no room for the copy beside it.
    pub fn of(dir: &'d DataDir) -> Result<Option<Self>, StoreError> {
        let Some((conn, path)) = schema::open_as_it_is(dir)? else { return Ok(None) };
        conn.busy_timeout(BUSY).map_err(|cause| unusable(&path, COPY, cause))?;
        let file = into(&conn, dir, &path)?;
        // Of the copy: the database goes on.
        let copied = Connection::open_with_flags(file.path(), OpenFlags::SQLITE_OPEN_READ_ONLY);
        let facts = copied.and_then(|copied| facts(&copied)).map_err(|cause| unusable(&path, COPY, cause))?;
        Ok(Some(DatabaseCopy { file, facts }))
    }

    /// What it says of itself.
    #[must_use]
    pub const fn facts(&self) -> DatabaseFacts {
        self.facts
    }

    /// Opens the copy for reading.
    ///
    /// # Errors
    /// [`StoreError::Storage`] if the system refuses.
    pub fn open(&self) -> Result<File, StoreError> {
        let path = self.file.path();
        File::open(&path).map_err(|cause| refused(&path, "read this file", cause))
    }
}

/// Looks at the bytes of a copy: is it a sound database that this herdgate can use? `path` is what errors call it.
///
/// # Errors
/// [`StoreError::Storage`] if it is not.
pub fn examine_copy(path: &Path, bytes: &[u8]) -> Result<DatabaseFacts, StoreError> {
    schema::check_head(path, bytes)?;
    let cause = |cause| unusable(path, "read the database", cause);
    let conn = image::copy(bytes).map_err(cause)?;
    let found: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(cause)?;
    if found != "ok" {
        return Err(wrong(path, "is damaged", "restore another backup"));
    }
    facts(&conn).map_err(cause)
}

/// The copy that stays when the tables are brought up to date: `herdgate.db.before-v3`. One of the same name is older.
pub(crate) fn keep_before(
    conn: &Connection,
    dir: &DataDir,
    path: &Path,
    to: usize,
) -> Result<(), StoreError> {
    let copy = into(conn, dir, path)?;
    // Another process may have been faster with the tables than this one with the copy.
    if schema::version_in(&copy.path()).is_some_and(|version| version >= to as i64) {
        return Ok(());
    }
    copy.sync()?;
    copy.replace(&format!("{DATABASE_FILE}{BEFORE}{to}"))
}

fn into<'d>(conn: &Connection, dir: &'d DataDir, path: &Path) -> Result<Unfinished<'d>, StoreError> {
    let needed =
        conn.query_row("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", [], |row| {
            row.get::<_, i64>(0)
        });
    let needed = needed.map_err(|cause| unusable(path, COPY, cause))?;
    has_room(dir.path(), dir.room(), u64::try_from(needed).unwrap_or_default())?;
    let file = Unfinished::create(dir, DATABASE_FILE)?;
    // One read transaction: what is committed meanwhile is not in it (SQLite, VACUUM INTO). Into an empty file it may write.
    let target = file.path();
    let target = target.to_str().ok_or_else(|| {
        wrong(dir.path(), "has a name that is no text", "name another directory with --data")
    })?;
    conn.execute("VACUUM INTO ?1", [target]).map_err(|cause| unusable(path, COPY, cause))?;
    Ok(file)
}

/// Whether there is room for the copy; where the system does not say, writing it will.
fn has_room(dir: &Path, room: Option<u64>, needed: u64) -> Result<(), StoreError> {
    match room {
        Some(room) if room < needed => {
            let reason = format!(
                "its disk has {} KiB of room, and a copy of the database needs {} KiB",
                room / 1024,
                needed.div_ceil(1024)
            );
            let hint = "make room on the disk of the data directory: the copy lies there while it is made, also for a backup \
                        that goes elsewhere";
            Err(wrong(dir, reason, hint))
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether a database has a key of this name that was not revoked. Looks at it as it is; `None` where there is none.
///
/// # Errors
/// [`StoreError::Storage`] if it cannot be read.
pub fn has_key(dir: &DataDir, name: &str) -> Result<Option<bool>, StoreError> {
    let Some((conn, path)) = schema::open_as_it_is(dir)? else { return Ok(None) };
    let found = conn.query_row(
        "SELECT EXISTS (SELECT 1 FROM keys WHERE name = ?1 AND revoked IS NULL)",
        [name],
        |row| row.get(0),
    );
    found.map(Some).map_err(|cause| unusable(&path, "read the database", cause))
}

fn facts(conn: &Connection) -> rusqlite::Result<DatabaseFacts> {
    let keys: i64 = conn.query_row("SELECT count(*) FROM keys", [], |row| row.get(0))?;
    Ok(DatabaseFacts { version: schema::version(conn)?, keys: u64::try_from(keys).unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_is_named_before_anything_is_written() {
        assert!(has_room(Path::new("/d"), None, 1).is_ok() && has_room(Path::new("/d"), Some(8), 8).is_ok());
        let error = has_room(Path::new("/d"), Some(4096), 40_961).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/d: its disk has 4 KiB of room, and a copy of the database needs 41 KiB"
        );
        assert!(error.hint().is_some_and(|hint| hint.contains("data directory")), "{error:?}");
    }
}
