//! Opens the database of keys: checked before anything is written to it, made whole or not at all, brought up to date.
//!
//! What is not herdgate's, comes from a newer herdgate, or is damaged, is refused and stays as it is, byte for byte.

use crate::copy;
use crate::data_dir::{DataDir, Unfinished};
use crate::fault::{MAKE_ROOM, failed, refused, wrong};
use crate::image;
use gate_keys::StoreError;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file of the database in the data directory.
pub const DATABASE_FILE: &str = "herdgate.db";

/// "hdgt": marks an SQLite file as herdgate's (SQLite file format 1.3.15).
const APPLICATION_ID: i32 = 0x6864_6774;

/// How long to wait for another process that is writing. Writes here take milliseconds.
pub(crate) const BUSY: Duration = Duration::from_secs(5);

/// Step n brings a database from version n to n + 1. Only ever add to it.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE keys (
        id        INTEGER PRIMARY KEY AUTOINCREMENT,
        name      TEXT    NOT NULL,
        digest    BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
        prefix    TEXT    NOT NULL,
        scopes    TEXT    NOT NULL,
        models    TEXT    NOT NULL,
        created   INTEGER NOT NULL,
        expires   INTEGER,
        revoked   INTEGER,
        replaced  INTEGER,
        last_used INTEGER
    ) STRICT;
    CREATE UNIQUE INDEX keys_live_name ON keys (name) WHERE revoked IS NULL AND replaced IS NULL;
    CREATE INDEX keys_name ON keys (name, id);
",
    // How a key is shown to the gate; which database this is, and when a gate last wrote to it; who changed what, append only.
    "
    ALTER TABLE keys ADD COLUMN kind TEXT NOT NULL DEFAULT 'secret' CHECK (kind IN ('secret', 'ssh'));
    CREATE TABLE store (
        one     INTEGER PRIMARY KEY CHECK (one = 1),
        id      BLOB    NOT NULL CHECK (length(id) = 16),
        touched INTEGER
    ) STRICT;
    INSERT INTO store (one, id) VALUES (1, randomblob(16));
    CREATE TABLE audit (
        id      INTEGER PRIMARY KEY AUTOINCREMENT,
        at      INTEGER NOT NULL,
        who     TEXT    NOT NULL,
        act     TEXT    NOT NULL,
        key_id  INTEGER NOT NULL,
        name    TEXT    NOT NULL,
        kind    TEXT    NOT NULL,
        scopes  TEXT    NOT NULL,
        models  TEXT    NOT NULL,
        expires INTEGER
    ) STRICT;
",
];

/// Which database it is: random, made with it, the same in every copy.
pub type StoreId = [u8; 16];

/// A database that was opened, and the file under it.
pub(crate) struct Opened {
    pub(crate) conn: Connection,
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) id: StoreId,
}

/// Opens the database of `dir`, and makes it if there is none.
pub(crate) fn open(dir: &DataDir) -> Result<Opened, StoreError> {
    let path = dir.path().join(DATABASE_FILE);
    let file = match check_header(dir, &path)? {
        Some(file) => file,
        None => {
            create(dir)?;
            // Made just now, here or by another process: looked at like any other.
            let made = check_header(dir, &path)?;
            made.ok_or_else(|| wrong(&path, "is gone", "another program removed it: try again"))?
        }
    };
    let alone = image::id_alone(&file, &path);
    let mut conn = connect(&path)?;
    check_content(&conn, &path, alone)?;
    if version(&conn).is_ok_and(|version| version < MIGRATIONS.len() as i64) {
        // Whoever wants to go back to the herdgate of before needs what that one knows.
        copy::keep_before(&conn, dir, &path, MIGRATIONS.len())?;
    }
    migrate(&mut conn, MIGRATIONS)
        .map_err(|cause| unusable(&path, "bring the database up to date", cause))?;
    set_up(&conn).map_err(|cause| unusable(&path, "open the database", cause))?;
    let id = id(&conn).map_err(|cause| unusable(&path, "read the database", cause))?;
    Ok(Opened { conn, file, path, id })
}

/// Opens the database of `dir`, if there is one, and leaves its tables as they are.
pub(crate) fn open_as_it_is(dir: &DataDir) -> Result<Option<(Connection, PathBuf)>, StoreError> {
    let path = dir.path().join(DATABASE_FILE);
    let Some(file) = check_header(dir, &path)? else { return Ok(None) };
    let alone = image::id_alone(&file, &path);
    // Closed before SQLite has its locks: closing it later would take them away (fcntl(2)).
    drop(file);
    let conn = connect(&path)?;
    check_content(&conn, &path, alone)?;
    Ok(Some((conn, path)))
}

/// An error of SQLite in words that say which file, and what to do where that is known.
pub(crate) fn unusable(path: &Path, what: &str, cause: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode;
    let hint = match cause.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => DAMAGED,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program is writing to it: try again"
        }
        Some(ErrorCode::DiskFull) => MAKE_ROOM,
        // The index of the log, which the first to open a database makes beside it, finds no room. SQLite says "I/O error".
        Some(ErrorCode::SystemIoFailure) if extended(&cause) == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE) => {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return refused(path, what, full);
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            "run as the user that owns it, or name another directory with --data"
        }
        _ => return failed(path, what, None, cause),
    };
    failed(path, what, Some(hint), cause)
}

fn extended(cause: &rusqlite::Error) -> Option<i32> {
    cause.sqlite_error().map(|error| error.extended_code)
}

pub(crate) const DAMAGED: &str =
    "it was left as it is: restore it from a copy, or move it away to start with no keys";

/// The file of the database, if there is one; looks at its first hundred bytes without SQLite, which might write.
fn check_header(dir: &DataDir, path: &Path) -> Result<Option<File>, StoreError> {
    let Some((file, _)) = dir.open_regular(DATABASE_FILE)? else { return Ok(None) };
    let mut head = Vec::with_capacity(100);
    (&file).take(100).read_to_end(&mut head).map_err(|cause| refused(path, "read the database", cause))?;
    check_head(path, &head)?;
    Ok(Some(file))
}

/// Whether these first bytes are those of a database that this herdgate can use (SQLite file format 1.3).
pub(crate) fn check_head(path: &Path, head: &[u8]) -> Result<(), StoreError> {
    let number = |place| number(head, place);
    // A new database gets its name when it is whole, so an empty file is the rest of one.
    if head.len() < 100 {
        return Err(wrong(path, format!("is cut off after {} bytes", head.len()), DAMAGED));
    }
    if !head.starts_with(b"SQLite format 3\0") {
        return Err(wrong(path, "is not a database of herdgate, or its beginning is damaged", DAMAGED));
    }
    if number(68) != APPLICATION_ID {
        let hint = "move it away, or name another directory with --data";
        return Err(wrong(path, "is the database of another program", hint));
    }
    check_version(path, i64::from(number(VERSION)))
}

/// The version that the header of a file without a log says.
pub(crate) fn version_in(path: &Path) -> Option<i64> {
    let mut head = [0; 100];
    File::open(path).ok()?.read_exact(&mut head).ok()?;
    Some(i64::from(number(&head, VERSION)))
}

/// Where the version of the tables stands (SQLite file format 1.3.12), as the number at other places.
const VERSION: usize = 60;

fn number(head: &[u8], place: usize) -> i32 {
    match head.get(place..place + 4) {
        Some(&[a, b, c, d]) => i32::from_be_bytes([a, b, c, d]),
        _ => 0,
    }
}

fn check_version(path: &Path, version: i64) -> Result<(), StoreError> {
    let newest = MIGRATIONS.len() as i64;
    if (1..=newest).contains(&version) {
        return Ok(());
    }
    let whose = if version > newest { "a newer" } else { "another" };
    let reason =
        format!("comes from {whose} herdgate (version {version} of its tables, this one knows {newest})");
    let hint = match version > newest {
        true => format!(
            "use that herdgate, or restore what it was before: a backup, or {DATABASE_FILE}.before-v{}",
            newest + 1
        ),
        false => "use that herdgate, or name another directory with --data".to_owned(),
    };
    Err(wrong(path, reason, hint))
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    // No CREATE: a file that vanished in between must not come back empty. One thread at a time uses the connection.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let open = || {
        let conn = Connection::open_with_flags(path, flags)?;
        // Until the content is known to be sound, closing it must not move the log into the file.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        conn.busy_timeout(BUSY)?;
        Ok(conn)
    };
    open().map_err(|cause| unusable(path, "open the database", cause))
}

/// `alone` is the database's id as the file says without its log.
fn check_content(conn: &Connection, path: &Path, alone: Option<StoreId>) -> Result<(), StoreError> {
    let cause = |cause| unusable(path, "read the database", cause);
    let found: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(cause)?;
    if found != "ok" {
        return Err(wrong(path, "is damaged", DAMAGED));
    }
    // Again, since the newest header may still be in the log.
    check_version(path, version(conn).map_err(cause)?)?;
    // SQLite takes any log for that of the file beside it, and would move the pages of the one into the other.
    if alone.is_some_and(|alone| id(conn).ok() != Some(alone)) {
        let reason = "lies beside the log of another database";
        return Err(wrong(
            path,
            reason,
            "put the one back that was there, or move the log away: herdgate.db-wal",
        ));
    }
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map(drop).map_err(cause)
}

fn set_up(conn: &Connection) -> rusqlite::Result<()> {
    conn.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    // A revocation must not come back to life after a power cut, so every commit reaches the disk.
    conn.pragma_update(None, "synchronous", "full")?;
    conn.pragma_update(None, "foreign_keys", true)
}

/// Makes the database under another name and gives it its own when it is whole. Another process may have been faster.
fn create(dir: &DataDir) -> Result<(), StoreError> {
    let file = Unfinished::create(dir, DATABASE_FILE)?;
    let make = || {
        let mut conn = connect(&file.path())?;
        let tables = |conn: &mut Connection| {
            // Nobody knows of the file before it is whole, and then it is made to reach the disk at once: a first start
            // need not wait for the disk a dozen times.
            conn.pragma_update(None, "synchronous", "off")?;
            // The number first and in the file itself, not in the log: it must be there whenever the file is.
            conn.pragma_update(None, "application_id", APPLICATION_ID)?;
            migrate(conn, MIGRATIONS)?;
            set_up(conn)
        };
        tables(&mut conn).map_err(|cause| unusable(&file.path(), "make the database", cause))?;
        conn.close().map_err(|(_, cause)| unusable(&file.path(), "make the database", cause))
    };
    make()?;
    file.sync()?;
    file.publish(DATABASE_FILE).map(drop)
}

pub(crate) fn id(conn: &Connection) -> rusqlite::Result<StoreId> {
    conn.query_row("SELECT id FROM store", [], |row| row.get(0))
}

pub(crate) fn version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Takes every step that the database has not seen, all in one transaction.
fn migrate(conn: &mut Connection, steps: &[&str]) -> rusqlite::Result<()> {
    if version(conn)? == steps.len() as i64 {
        return Ok(());
    }
    let step = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Asked again under the lock: another process may have been faster.
    let done = usize::try_from(version(&step)?).unwrap_or(usize::MAX);
    for sql in steps.iter().skip(done) {
        step.execute_batch(sql)?;
    }
    if done < steps.len() {
        step.pragma_update(None, "user_version", steps.len() as i64)?;
    }
    step.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_run_once_each_and_in_order() {
        let mut conn = Connection::open_in_memory().unwrap();
        let steps = ["CREATE TABLE a (x INTEGER)", "INSERT INTO a VALUES (7)", "UPDATE a SET x = x + 1"];
        migrate(&mut conn, &steps[..1]).unwrap();
        assert_eq!(version(&conn).unwrap(), 1);
        migrate(&mut conn, &steps).unwrap();
        migrate(&mut conn, &steps).unwrap();
        let x: i64 = conn.query_row("SELECT x FROM a", [], |row| row.get(0)).unwrap();
        assert_eq!((version(&conn).unwrap(), x), (3, 8));
    }

    #[test]
    fn an_older_database_is_brought_up_to_date_after_a_copy() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(&root.path().join("data")).unwrap();
        let path = dir.path().join(DATABASE_FILE);
        let mut old = Connection::open(&path).unwrap();
        old.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        migrate(&mut old, &MIGRATIONS[..1]).unwrap();
        let key = "INSERT INTO keys (name, digest, prefix, scopes, models, created) VALUES ('a', zeroblob(32), 'p', 'infer', '', 1)";
        old.execute(key, []).unwrap();
        old.close().unwrap();

        // A backup of it changes nothing.
        let copy = copy::DatabaseCopy::of(&dir).unwrap().unwrap();
        assert_eq!(copy.facts(), copy::DatabaseFacts { version: 1, keys: 1 });
        drop(copy);
        assert_eq!(version_in(&path), Some(1));

        let opened = open(&dir).unwrap();
        assert_eq!(version(&opened.conn).unwrap(), MIGRATIONS.len() as i64);
        let before = dir.path().join("herdgate.db.before-v2");
        assert_eq!(version_in(&before), Some(1));
        let bytes = std::fs::read(&before).unwrap();
        assert_eq!(copy::examine_copy(&before, &bytes).unwrap().keys, 1);
        // Once: what is up to date is not copied.
        std::fs::remove_file(&before).unwrap();
        open(&dir).unwrap();
        assert!(!before.exists());
    }

    #[test]
    fn a_step_that_fails_takes_the_others_back() {
        let mut conn = Connection::open_in_memory().unwrap();
        assert!(migrate(&mut conn, &["CREATE TABLE a (x INTEGER)", "nonsense"]).is_err());
        assert_eq!(version(&conn).unwrap(), 0);
        assert!(conn.execute("INSERT INTO a VALUES (1)", []).is_err());
    }
}
