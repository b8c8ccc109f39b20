//! Keys in SQLite. One row per secret; a rotation adds one, a revocation only marks one, so history stays. Each change
//! writes its line of the audit log in the same transaction.
//!
//! Nothing that a client sent ever gets here: the request path asks a ring in memory. How a running gate knows that the
//! file is still the one that it opened is in `look.rs`.

use crate::data_dir::DataDir;
use crate::image;
use crate::look::{FileId, Seen, file_id, log_ids};
use crate::rows::{COLUMNS, Entry, READ, WRITE, insert, lines, models, named, note, select};
use crate::schema::{self, BUSY, StoreId, unusable};
use gate_keys::{
    Act, AuditLine, Change, Key, KeyId, KeyName, KeyRing, KeyStore, Mark, NewKey, Rotated, SettingsKey, Span,
    State, StoreError, UnixSeconds,
};
use gate_types::ScopeSet;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The database of keys in a data directory. Blocking; for one thread at a time.
#[derive(Debug)]
pub struct SqliteStore {
    /// None between the end of a connection that cannot be trusted any more and the beginning of the next.
    pub(crate) conn: Option<Connection>,
    /// The file under the connection. Opened before it and closed after it, and before the next connection begins: a file
    /// that is closed takes with it all locks that this process holds on it, SQLite's too (fcntl(2)).
    pub(crate) file: Option<File>,
    pub(crate) path: PathBuf,
    pub(crate) dir: PathBuf,
    /// Which database this is, wherever it lies.
    pub(crate) id: StoreId,
    /// Which files they are, of the database and of its log.
    pub(crate) file_id: FileId,
    pub(crate) log_ids: [Option<FileId>; 2],
    /// The file as it was when it was last found sound.
    pub(crate) seen: Seen,
    /// What was found cannot be trusted before everything was opened and checked again.
    pub(crate) is_doubtful: bool,
    /// When the file was last read whole.
    pub(crate) read: Instant,
    /// When the log was last moved into it, and how often it was touched since.
    pub(crate) settled: Instant,
    pub(crate) touches: u32,
    /// SQLite's count of other connections' commits as it was before the last complete load.
    pub(crate) loaded: Cell<Option<i64>>,
    /// How long to wait for another process that writes.
    pub(crate) patience: Duration,
    /// In whose name changes are made.
    pub(crate) who: String,
}

/// Longest name of whoever makes a change.
const LONGEST_WHO: usize = 128;

impl SqliteStore {
    /// Opens the database of `dir`, and makes it if there is none.
    ///
    /// # Errors
    /// [`StoreError::Storage`] if it is damaged, not herdgate's, of a newer herdgate, or cannot be read; it is left as it is.
    pub fn open(dir: &DataDir) -> Result<Self, StoreError> {
        let schema::Opened { conn, file, path, id } = schema::open(dir)?;
        let file_id = file_id(&path)?;
        let seen = Seen::of(&file, &path)?;
        Ok(SqliteStore {
            log_ids: log_ids(&path),
            conn: Some(conn),
            file: Some(file),
            path,
            dir: dir.path().to_owned(),
            id,
            file_id,
            seen,
            is_doubtful: false,
            read: Instant::now(),
            settled: Instant::now(),
            touches: 0,
            loaded: Cell::new(None),
            patience: BUSY,
            who: "herdgate".to_owned(),
        })
    }

    /// The same store, whose changes are made in the name of `who`: what the audit log says.
    #[must_use]
    pub fn by(mut self, who: &str) -> Self {
        self.who = who.chars().filter(|c| !c.is_control()).take(LONGEST_WHO).collect();
        self
    }

    /// Whether `dir` has a database. [`SqliteStore::open`] may still refuse it.
    #[must_use]
    pub fn exists(dir: &DataDir) -> bool {
        fs::symlink_metadata(dir.path().join(schema::DATABASE_FILE)).is_ok()
    }

    /// Which database this is: the same wherever it is moved or copied to.
    #[must_use]
    pub const fn id(&self) -> StoreId {
        self.id
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
        self.write(|tx, path, who| {
            let some = tx.query_row("SELECT EXISTS (SELECT 1 FROM keys)", [], |row| row.get(0));
            if some.map_err(|cause| unusable(path, READ, cause))? {
                return Ok(None);
            }
            let key = insert(tx, path, &first, now)?;
            note(tx, path, &Entry { at: now, who, act: Act::First, key: &key })?;
            keep()?;
            Ok(Some(key))
        })
    }

    /// Writes into the audit log what is different about the keys of the settings since it last was written: the settings
    /// themselves are in the hands of others, and changed while no gate runs.
    ///
    /// # Errors
    /// [`StoreError::Storage`].
    pub fn note_settings(&mut self, keys: &[SettingsKey], now: UnixSeconds) -> Result<(), StoreError> {
        const WHO: &str = "settings";
        let last =
            "WHERE id IN (SELECT max(id) FROM audit WHERE act LIKE 'settings-%' GROUP BY key_id) ORDER BY id";
        let known = lines(self.conn()?, &self.path, last, [])?;
        let mut gone: BTreeMap<KeyId, AuditLine> = known.into_iter().map(|line| (line.key, line)).collect();
        gone.retain(|_, line| line.act != Act::SettingsRemove);
        let mut changed = Vec::new();
        for key in keys.iter().map(SettingsKey::key) {
            match gone.remove(&key.id) {
                None => changed.push((Act::SettingsAdd, key)),
                Some(line)
                    if (&line.name, line.scopes, &line.models)
                        != (&key.name, key.scopes, &models(&key.models)) =>
                {
                    changed.push((Act::SettingsSet, key));
                }
                Some(_) => {}
            }
        }
        if changed.is_empty() && gone.is_empty() {
            return Ok(());
        }
        self.write(|tx, path, _| {
            for (act, key) in &changed {
                note(tx, path, &Entry { at: now, who: WHO, act: *act, key })?;
            }
            for line in gone.values() {
                tx.execute(
                    "INSERT INTO audit (at, who, act, key_id, name, kind, scopes, models, expires)
                     SELECT ?1, who, ?2, key_id, name, kind, scopes, models, expires FROM audit WHERE id = ?3",
                    params![now, Act::SettingsRemove.as_str(), line.id],
                )
                .map_err(|cause| unusable(path, WRITE, cause))?;
            }
            Ok(())
        })
    }

    /// The number of the last line of the audit log, 0 where there is none.
    ///
    /// # Errors
    /// [`StoreError::Storage`].
    pub fn last_line(&self) -> Result<i64, StoreError> {
        let last = self.conn()?.query_row("SELECT coalesce(max(id), 0) FROM audit", [], |row| row.get(0));
        last.map_err(|cause| unusable(&self.path, READ, cause))
    }

    pub(crate) fn conn(&self) -> Result<&Connection, StoreError> {
        self.conn.as_ref().ok_or_else(|| image::closed(&self.path))
    }

    pub(crate) fn commits(&self) -> Result<i64, StoreError> {
        let conn = self.conn()?;
        let commits = || conn.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0));
        commits().map_err(|cause| unusable(&self.path, READ, cause))
    }

    /// Ends the connection without moving the log into a file that may have become another's. Nothing of the database is
    /// open afterwards.
    pub(crate) fn let_go(&mut self) {
        if let Some(conn) = self.conn.take() {
            // Refused or not, the connection ends.
            let _kept = conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        }
        self.file = None;
    }

    /// Runs `change` alone among all writers, whole or not at all.
    pub(crate) fn write<T>(
        &mut self,
        change: impl FnOnce(&Transaction<'_>, &Path, &str) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.check_access()?;
        let cause = |cause| unusable(&self.path, WRITE, cause);
        let conn = self.conn.as_mut().ok_or_else(|| image::closed(&self.path))?;
        conn.busy_timeout(self.patience).map_err(cause)?;
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(cause)?;
        let done = change(&tx, &self.path, &self.who)?;
        tx.commit().map_err(cause)?;
        Ok(done)
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        if self.is_doubtful {
            self.let_go();
        }
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
        select(self.conn()?, &self.path, &sql, [])
    }

    fn show(&self, name: &KeyName) -> Result<Vec<Key>, StoreError> {
        let keys = named(self.conn()?, &self.path, name)?;
        if keys.is_empty() { Err(StoreError::UnknownName(name.clone())) } else { Ok(keys) }
    }

    fn create(&mut self, new: &NewKey, now: UnixSeconds) -> Result<Key, StoreError> {
        self.write(|tx, path, who| {
            if named(tx, path, &new.name)?.iter().any(is_current) {
                return Err(StoreError::NameTaken(new.name.clone()));
            }
            let key = insert(tx, path, new, now)?;
            note(tx, path, &Entry { at: now, who, act: Act::Create, key: &key })?;
            Ok(key)
        })
    }

    fn revoke(&mut self, name: &KeyName, now: UnixSeconds) -> Result<Vec<Key>, StoreError> {
        self.write(|tx, path, who| {
            let (current, earlier) = current(tx, path, name)?;
            note(tx, path, &Entry { at: now, who, act: Act::Revoke, key: &current })?;
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

    fn set(&mut self, name: &KeyName, change: &Change, now: UnixSeconds) -> Result<Key, StoreError> {
        self.write(|tx, path, who| {
            let (mut key, _) = current(tx, path, name)?;
            key.scopes = change.scopes.unwrap_or(key.scopes);
            if let Some(models) = &change.models {
                key.models.clone_from(models);
            }
            key.expires = change.expires.unwrap_or(key.expires);
            let cause = |cause| unusable(path, WRITE, cause);
            tx.execute(
                "UPDATE keys SET scopes = ?1, models = ?2 WHERE name = ?3 AND revoked IS NULL",
                params![key.scopes.to_string(), models(&key.models), name.as_str()],
            )
            .map_err(cause)?;
            tx.execute("UPDATE keys SET expires = ?1 WHERE id = ?2", params![key.expires, key.id.0])
                .map_err(cause)?;
            if let Some(end) = key.expires {
                end_earlier(tx, path, name, end)?;
            }
            note(tx, path, &Entry { at: now, who, act: Act::Set, key: &key })?;
            Ok(key)
        })
    }

    fn rotate(
        &mut self,
        name: &KeyName,
        mark: &Mark,
        overlap: Span,
        now: UnixSeconds,
    ) -> Result<Rotated, StoreError> {
        self.write(|tx, path, who| {
            let (mut earlier, _) = current(tx, path, name)?;
            if earlier.state(now) == State::Expired {
                return Err(StoreError::Expired(name.clone()));
            }
            if earlier.kind != mark.kind {
                return Err(StoreError::OtherKind { name: name.clone(), kind: earlier.kind });
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
            end_earlier(tx, path, name, overlap.after(now))?;
            let key = insert(tx, path, &new, now)?;
            note(tx, path, &Entry { at: now, who, act: Act::Rotate, key: &key })?;
            Ok(Rotated { key, earlier })
        })
    }

    fn touch(&mut self, uses: &[(KeyId, UnixSeconds)]) -> Result<(), StoreError> {
        if uses.is_empty() {
            return Ok(());
        }
        self.write(|tx, path, _| {
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

    fn log(&self, after: i64) -> Result<Vec<AuditLine>, StoreError> {
        lines(self.conn()?, &self.path, "WHERE id > ?1 ORDER BY id", [after])
    }
}

/// Lets every secret that was replaced under `name` end at `end`, unless it does before.
fn end_earlier(
    tx: &Transaction<'_>,
    path: &Path,
    name: &KeyName,
    end: UnixSeconds,
) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE keys SET expires = ?1
         WHERE name = ?2 AND revoked IS NULL AND replaced IS NOT NULL AND (expires IS NULL OR expires > ?1)",
        params![end, name.as_str()],
    )
    .map(drop)
    .map_err(|cause| unusable(path, WRITE, cause))
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
