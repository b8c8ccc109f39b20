//! Which database a data directory belongs to, remembered beside it: so that a database that was taken away is not taken
//! for a first start, nor another one in its place for the same.
//!
//! The gate remembers the database that it began with; whoever changes keys beside it keeps to that one.

use crate::data_dir::DataDir;
use crate::fault::wrong;
use crate::schema::DATABASE_FILE;
use crate::sqlite::SqliteStore;
use gate_keys::{StoreError, hex};

/// The file that remembers it.
pub(crate) const ID_FILE: &str = "store-id";

impl SqliteStore {
    /// Opens the database of `dir` for whoever is not the gate: only the one that a gate took, where one did. Makes one
    /// where there never was one.
    ///
    /// # Errors
    /// [`StoreError::Storage`] if the database is gone or another, and as [`SqliteStore::open`].
    pub fn open_known(dir: &DataDir) -> Result<Self, StoreError> {
        Self::check_presence(dir)?;
        let store = Self::open(dir)?;
        match remembered(dir)? {
            Some(id) if id != hex(&store.id()) => {
                let hint = "put the one back that was there, or restart herdgate to take this one";
                Err(wrong(
                    &dir.path().join(DATABASE_FILE),
                    "is another database than the one that the gate took",
                    hint,
                ))
            }
            Some(_) | None => Ok(store),
        }
    }

    /// Whether there is what there should be: a database, or no memory of one.
    ///
    /// # Errors
    /// [`StoreError::Storage`] if there was one and it is gone.
    pub fn check_presence(dir: &DataDir) -> Result<(), StoreError> {
        if Self::exists(dir) || remembered(dir)?.is_none() {
            return Ok(());
        }
        let hint = "bring it back, or restart herdgate to begin with no keys";
        Err(wrong(&dir.path().join(DATABASE_FILE), "is gone", hint))
    }

    /// For a gate that starts: this database is the one from now on. Says whether another one was until now.
    ///
    /// # Errors
    /// [`StoreError::Storage`] if that cannot be read or written down.
    pub fn adopt(&self, dir: &DataDir) -> Result<bool, StoreError> {
        let own = hex(&self.id());
        let before = remembered(dir)?;
        if before.as_ref() != Some(&own) {
            dir.write_private(ID_FILE, format!("{own}\n").as_bytes())?;
        }
        Ok(before.is_some_and(|before| before != own))
    }
}

/// The id that was written down. What is no id is nobody's memory.
fn remembered(dir: &DataDir) -> Result<Option<String>, StoreError> {
    let read = dir.read_private(ID_FILE)?;
    let id = read.map(|text| text.expose().trim().to_owned());
    Ok(id.filter(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())))
}
