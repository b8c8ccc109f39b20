//! Keys in SQLite. One row per secret; a rotation adds one, a revocation only marks one, so history stays.
//!
//! Nothing that a client sent ever gets here: the request path asks a ring in memory. Every value is bound, none is written
//! into a statement.

use crate::data_dir::DataDir;
use crate::fault::{refused, wrong};
use crate::schema::{self, unusable};
use gate_keys::{
    Key, KeyDigest, KeyId, KeyName, KeyRing, KeyStore, Kind, Mark, ModelGlob, NewKey, Rotated, Span, State,
    StoreError, UnixSeconds,
};
use gate_types::ScopeSet;
use rusqlite::{Connection, Row, Transaction, TransactionBehavior, params};
use std::cell::Cell;
use std::error::Error;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

const COLUMNS: &str =
    "id, name, digest, prefix, scopes, models, created, expires, revoked, replaced, last_used, kind";
const WRITE: &str = "write to the database";
const READ: &str = "read the database";

/// The database of keys in a data directory. Blocking; for one thread at a time.
#[derive(Debug)]
pub struct SqliteStore {
    conn: Connection,
    path: PathBuf,
    dir: PathBuf,
    file: FileId,
    /// SQLite's count of other connections' commits as it was before the last complete load.
    loaded: Cell<Option<i64>>,
}

/// Device and inode: tells the open database from another that was put in its place.
type FileId = (u64, u64);

impl SqliteStore {
    /// Opens the database of `dir`, and makes it if there is none.
    ///
    /// # Errors
    /// [`StoreError::Storage`] if it is damaged, not herdgate's, of a newer herdgate, or cannot be read; it is left as it is.
    pub fn open(dir: &DataDir) -> Result<Self, StoreError> {
        let (conn, path) = schema::open(dir)?;
        let file = file_id(&path)?;
        Ok(SqliteStore { conn, path, dir: dir.path().to_owned(), file, loaded: Cell::new(None) })
    }

    /// Whether `dir` has a database. [`SqliteStore::open`] may still refuse it.
    #[must_use]
    pub fn exists(dir: &DataDir) -> bool {
        fs::symlink_metadata(dir.path().join(schema::DATABASE_FILE)).is_ok()
    }

    /// Whether [`KeyStore::load`] would give more than the last complete one did: another connection changed something, or
    /// nothing was loaded yet. Stays true until a load is complete, so that one that failed is tried again. What this very
    /// store wrote does not count. Takes some microseconds. Where another file has taken the place of the database, that
    /// one is opened.
    ///
    /// # Errors
    /// [`StoreError::Storage`] if the database is gone or cannot be read; a later call may find it again.
    pub fn changed(&mut self) -> Result<bool, StoreError> {
        if file_id(&self.path)? != self.file {
            let dir = DataDir::find(&self.dir)?;
            let dir = dir.ok_or_else(|| wrong(&self.dir, "is gone", "bring the directory back"))?;
            *self = Self::open(&dir)?;
        }
        Ok(self.loaded.get() != Some(self.commits()?))
    }

    /// Stores the key `first` with the default scopes, but only into a database that never had a key. `keep` runs before
    /// that becomes true: if it fails, nothing was stored, so a secret that could not be handed over opens nothing. Gives
    /// back nothing where there are keys, of which some may be revoked: that is not a first start.
    ///
    /// # Errors
    /// [`StoreError::Storage`], and what `keep` reports.
    pub fn create_first(
        &mut self,
        mark: &Mark,
        now: UnixSeconds,
        keep: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<Option<Key>, StoreError> {
        let first = NewKey {
            name: KeyName::first(),
            mark: mark.clone(),
            scopes: ScopeSet::DEFAULT,
            models: Vec::new(),
            expires: None,
        };
        self.write(|tx, path| {
            let some = tx.query_row("SELECT EXISTS (SELECT 1 FROM keys)", [], |row| row.get(0));
            if some.map_err(|cause| unusable(path, READ, cause))? {
                return Ok(None);
            }
            let key = insert(tx, path, &first, now)?;
            keep()?;
            Ok(Some(key))
        })
    }

    fn commits(&self) -> Result<i64, StoreError> {
        let commits = || self.conn.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0));
        commits().map_err(|cause| unusable(&self.path, READ, cause))
    }

    /// Runs `change` alone among all writers, whole or not at all.
    fn write<T>(
        &mut self,
        change: impl FnOnce(&Transaction<'_>, &Path) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let cause = |cause| unusable(&self.path, WRITE, cause);
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(cause)?;
        let done = change(&tx, &self.path)?;
        tx.commit().map_err(cause)?;
        Ok(done)
    }
}

impl KeyStore for SqliteStore {
    fn load(&self) -> Result<KeyRing, StoreError> {
        // Counted before reading: what is committed in between is read now and once more, but never missed.
        let commits = self.commits()?;
        let ring = KeyRing::new(self.list()?);
        self.loaded.set(Some(commits));
        Ok(ring)
    }

    fn list(&self) -> Result<Vec<Key>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM keys ORDER BY name, id DESC");
        select(&self.conn, &self.path, &sql, [])
    }

    fn show(&self, name: &KeyName) -> Result<Vec<Key>, StoreError> {
        let keys = named(&self.conn, &self.path, name)?;
        if keys.is_empty() { Err(StoreError::UnknownName(name.clone())) } else { Ok(keys) }
    }

    fn create(&mut self, new: &NewKey, now: UnixSeconds) -> Result<Key, StoreError> {
        self.write(|tx, path| {
            if named(tx, path, &new.name)?.iter().any(is_current) {
                return Err(StoreError::NameTaken(new.name.clone()));
            }
            insert(tx, path, new, now)
        })
    }

    fn revoke(&mut self, name: &KeyName, now: UnixSeconds) -> Result<Vec<Key>, StoreError> {
        self.write(|tx, path| {
            let (current, earlier) = current(tx, path, name)?;
            // All of them, ended or not: a clock that is set back must not bring one to life.
            tx.execute(
                "UPDATE keys SET revoked = ?1 WHERE name = ?2 AND revoked IS NULL",
                params![now, name.as_str()],
            )
            .map_err(|cause| unusable(path, WRITE, cause))?;
            let valid = earlier.into_iter().filter(|key| key.state(now).is_valid());
            let revoked = std::iter::once(current).chain(valid);
            Ok(revoked
                .map(|mut key| {
                    key.revoked = Some(now);
                    key
                })
                .collect())
        })
    }

    fn rotate(
        &mut self,
        name: &KeyName,
        mark: &Mark,
        overlap: Span,
        now: UnixSeconds,
    ) -> Result<Rotated, StoreError> {
        self.write(|tx, path| {
            let (mut earlier, _) = current(tx, path, name)?;
            if earlier.state(now) == State::Expired {
                return Err(StoreError::Expired(name.clone()));
            }
            let new = NewKey {
                name: name.clone(),
                mark: mark.clone(),
                scopes: earlier.scopes,
                models: earlier.models.clone(),
                expires: earlier.expires,
            };
            earlier.expires = Some(earlier.end_after(overlap, now));
            earlier.replaced = Some(now);
            let cause = |cause| unusable(path, WRITE, cause);
            tx.execute(
                "UPDATE keys SET expires = ?1, replaced = ?2 WHERE id = ?3",
                params![earlier.expires, now, earlier.id.0],
            )
            .map_err(cause)?;
            // Secrets of rotations before: theirs end no later. With no overlap, everything but the new one ends now.
            tx.execute(
                "UPDATE keys SET expires = ?1
                 WHERE name = ?2 AND revoked IS NULL AND replaced IS NOT NULL AND (expires IS NULL OR expires > ?1)",
                params![overlap.after(now), name.as_str()],
            )
            .map_err(cause)?;
            Ok(Rotated { key: insert(tx, path, &new, now)?, earlier })
        })
    }

    fn touch(&mut self, uses: &[(KeyId, UnixSeconds)]) -> Result<(), StoreError> {
        if uses.is_empty() {
            return Ok(());
        }
        self.write(|tx, path| {
            let cause = |cause| unusable(path, WRITE, cause);
            let sql =
                "UPDATE keys SET last_used = ?2 WHERE id = ?1 AND (last_used IS NULL OR last_used < ?2)";
            let mut update = tx.prepare_cached(sql).map_err(cause)?;
            for (id, when) in uses {
                update.execute(params![id.0, when]).map_err(cause)?;
            }
            Ok(())
        })
    }
}

/// Neither revoked nor replaced: at most one key of a name is.
fn is_current(key: &Key) -> bool {
    key.revoked.is_none() && key.replaced.is_none()
}

/// The current key called `name`, and its earlier secrets that are not revoked.
fn current(conn: &Connection, path: &Path, name: &KeyName) -> Result<(Key, Vec<Key>), StoreError> {
    let mut keys = named(conn, path, name)?;
    if keys.is_empty() {
        return Err(StoreError::UnknownName(name.clone()));
    }
    let Some(place) = keys.iter().position(is_current) else {
        return Err(StoreError::AlreadyRevoked(name.clone()));
    };
    let current = keys.remove(place);
    keys.retain(|key| key.revoked.is_none());
    Ok((current, keys))
}

fn named(conn: &Connection, path: &Path, name: &KeyName) -> Result<Vec<Key>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM keys WHERE name = ?1 ORDER BY id DESC");
    select(conn, path, &sql, [name.as_str()])
}

fn insert(tx: &Transaction<'_>, path: &Path, new: &NewKey, now: UnixSeconds) -> Result<Key, StoreError> {
    let models: Vec<&str> = new.models.iter().map(ModelGlob::as_str).collect();
    tx.execute(
        "INSERT INTO keys (name, digest, prefix, scopes, models, created, expires, kind)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            new.name.as_str(),
            new.mark.digest.as_bytes(),
            new.mark.prefix,
            new.scopes.to_string(),
            models.join(","),
            now,
            new.expires,
            new.mark.kind.as_str()
        ],
    )
    .map_err(|cause| unusable(path, WRITE, cause))?;
    let id = KeyId(tx.last_insert_rowid());
    let mut key = Key::new(id, new.name.clone(), new.mark.clone(), new.scopes, now);
    key.models.clone_from(&new.models);
    key.expires = new.expires;
    Ok(key)
}

fn select(
    conn: &Connection,
    path: &Path,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<Key>, StoreError> {
    let read = || {
        let mut statement = conn.prepare_cached(sql)?;
        statement.query_and_then(values, read_row)?.collect::<rusqlite::Result<Vec<Key>>>()
    };
    read().map_err(|cause| unusable(path, READ, cause))
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<Key> {
    let name: String = row.get(1)?;
    let name = KeyName::parse(&name).map_err(|cause| unreadable(1, cause))?;
    let kind: String = row.get(11)?;
    let kind = Kind::from_word(&kind).ok_or_else(|| unreadable(11, UnknownKind(kind)))?;
    let mark = Mark { kind, digest: KeyDigest::from_bytes(row.get(2)?), prefix: row.get(3)? };
    let scopes: String = row.get(4)?;
    let scopes = scopes.parse::<ScopeSet>().map_err(|cause| unreadable(4, cause))?;
    let mut key = Key::new(KeyId(row.get(0)?), name, mark, scopes, row.get(6)?).with_last_used(row.get(10)?);
    let models: String = row.get(5)?;
    let models = models.split(',').filter(|model| !model.is_empty());
    key.models =
        models.map(ModelGlob::parse).collect::<Result<_, _>>().map_err(|cause| unreadable(5, cause))?;
    (key.expires, key.revoked, key.replaced) = (row.get(7)?, row.get(8)?, row.get(9)?);
    Ok(key)
}

/// A value that this herdgate would not have written. Leaving its row out would quietly change who may do what.
fn unreadable(column: usize, cause: impl Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(cause))
}

/// The store names a kind of key that this herdgate does not know.
#[derive(Debug)]
struct UnknownKind(String);

impl std::fmt::Display for UnknownKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unknown kind of key {:?}", self.0)
    }
}

impl Error for UnknownKind {}

fn file_id(path: &Path) -> Result<FileId, StoreError> {
    let file = fs::symlink_metadata(path).map_err(|cause| refused(path, "find the database", cause))?;
    Ok((file.dev(), file.ino()))
}
