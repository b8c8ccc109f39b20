//! Rows of the tables, read and written: keys, and lines of the audit log. Every value is bound, none is written into a
//! statement; a value that this herdgate would not have written is an error and never left out.

use crate::schema::unusable;
use gate_keys::{
    Act, AuditLine, Key, KeyDigest, KeyId, KeyName, Kind, Mark, ModelGlob, NewKey, StoreError, UnixSeconds,
};
use gate_types::ScopeSet;
use rusqlite::{Connection, Row, params};
use std::error::Error;
use std::path::Path;

pub(crate) const COLUMNS: &str =
    "id, name, digest, prefix, scopes, models, created, expires, revoked, replaced, last_used, kind";
pub(crate) const WRITE: &str = "write to the database";
pub(crate) const READ: &str = "read the database";

/// A row about to be one of the audit log: what the key is from now on.
pub(crate) struct Entry<'k> {
    pub(crate) at: UnixSeconds,
    pub(crate) who: &'k str,
    pub(crate) act: Act,
    pub(crate) key: &'k Key,
}

/// Writes a line of the audit log.
pub(crate) fn note(conn: &Connection, path: &Path, entry: &Entry<'_>) -> Result<(), StoreError> {
    let Entry { at, who, act, key } = entry;
    conn.execute(
        "INSERT INTO audit (at, who, act, key_id, name, kind, scopes, models, expires)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            at,
            who,
            act.as_str(),
            key.id.0,
            key.name.as_str(),
            key.kind.as_str(),
            key.scopes.to_string(),
            models(&key.models),
            key.expires
        ],
    )
    .map(drop)
    .map_err(|cause| unusable(path, WRITE, cause))
}

/// The lines of the audit log that `condition` names, in its order.
pub(crate) fn lines(
    conn: &Connection,
    path: &Path,
    condition: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<AuditLine>, StoreError> {
    let read = || {
        let sql = format!(
            "SELECT id, at, who, act, key_id, name, kind, scopes, models, expires FROM audit {condition}"
        );
        let mut statement = conn.prepare_cached(&sql)?;
        statement.query_and_then(values, read_line)?.collect::<rusqlite::Result<Vec<AuditLine>>>()
    };
    read().map_err(|cause| unusable(path, READ, cause))
}

fn read_line(row: &Row<'_>) -> rusqlite::Result<AuditLine> {
    let act: String = row.get(3)?;
    let act = Act::from_word(&act).ok_or_else(|| unreadable(3, UnknownWord(act)))?;
    let name: String = row.get(5)?;
    let name = KeyName::parse(&name).map_err(|cause| unreadable(5, cause))?;
    let scopes: String = row.get(7)?;
    Ok(AuditLine {
        id: row.get(0)?,
        at: row.get(1)?,
        who: row.get(2)?,
        act,
        key: KeyId(row.get(4)?),
        name,
        kind: kind(row, 6)?,
        scopes: scopes.parse::<ScopeSet>().map_err(|cause| unreadable(7, cause))?,
        models: row.get(8)?,
        expires: row.get(9)?,
    })
}

pub(crate) fn models(models: &[ModelGlob]) -> String {
    let models: Vec<&str> = models.iter().map(ModelGlob::as_str).collect();
    models.join(",")
}

/// Every key that was ever stored under `name`, the newest first.
pub(crate) fn named(conn: &Connection, path: &Path, name: &KeyName) -> Result<Vec<Key>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM keys WHERE name = ?1 ORDER BY id DESC");
    select(conn, path, &sql, [name.as_str()])
}

pub(crate) fn insert(
    tx: &Connection,
    path: &Path,
    new: &NewKey,
    now: UnixSeconds,
) -> Result<Key, StoreError> {
    let same = format!("SELECT {COLUMNS} FROM keys WHERE digest = ?1");
    if let Some(known) = select(tx, path, &same, [new.mark.digest.as_bytes()])?.pop() {
        return Err(StoreError::Enrolled { is_revoked: known.revoked.is_some(), name: known.name });
    }
    tx.execute(
        "INSERT INTO keys (name, digest, prefix, scopes, models, created, expires, kind)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            new.name.as_str(),
            new.mark.digest.as_bytes(),
            new.mark.prefix,
            new.scopes.to_string(),
            models(&new.models),
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

pub(crate) fn select(
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
    let mark = Mark { kind: kind(row, 11)?, digest: KeyDigest::from_bytes(row.get(2)?), prefix: row.get(3)? };
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

fn kind(row: &Row<'_>, column: usize) -> rusqlite::Result<Kind> {
    let word: String = row.get(column)?;
    Kind::from_word(&word).ok_or_else(|| unreadable(column, UnknownWord(word)))
}

/// A word that this herdgate does not know.
#[derive(Debug, thiserror::Error)]
#[error("unknown word {0:?}")]
struct UnknownWord(String);
