//! What a store of keys must do, whatever it keeps them in. Adapters live a floor above and share one suite of tests.

use crate::{Key, KeyId, KeyName, KeyRing, Mark, ModelGlob, Span, UnixSeconds};
use gate_types::ScopeSet;
use std::error::Error;
use std::path::PathBuf;

/// A key about to be stored.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// What people will call it.
    pub name: KeyName,
    /// What is kept of its secret.
    pub mark: Mark,
    /// What it may do.
    pub scopes: ScopeSet,
    /// Which models it may use; an empty list means every model.
    pub models: Vec<ModelGlob>,
    /// From when on it is refused, if ever.
    pub expires: Option<UnixSeconds>,
}

/// What a rotation leaves behind.
#[derive(Debug)]
pub struct Rotated {
    /// The key with the new secret: scopes, models and end as before.
    pub key: Key,
    /// The secret that it replaced, with the end that it has now.
    pub earlier: Key,
}

/// Keeps keys. Every change is whole or not at all, and is on disk when the call returns.
pub trait KeyStore {
    /// Everything, for the request path.
    ///
    /// # Errors
    /// [`StoreError::Storage`].
    fn load(&self) -> Result<KeyRing, StoreError> {
        Ok(KeyRing::new(self.list()?))
    }

    /// Every key ever stored, by name, under one name the newest first.
    ///
    /// # Errors
    /// [`StoreError::Storage`].
    fn list(&self) -> Result<Vec<Key>, StoreError>;

    /// Every key that was ever stored under `name`, the newest first.
    ///
    /// # Errors
    /// [`StoreError::UnknownName`] if there is none; [`StoreError::Storage`].
    fn show(&self, name: &KeyName) -> Result<Vec<Key>, StoreError>;

    /// Stores a new key.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`] if a key that is not revoked has the name, expired or not; [`StoreError::Storage`].
    fn create(&mut self, new: &NewKey, now: UnixSeconds) -> Result<Key, StoreError>;

    /// Revokes the key called `name`, with every earlier secret of it. Its name is free afterwards. Gives back what no
    /// longer works, the current key first.
    ///
    /// # Errors
    /// [`StoreError::UnknownName`], [`StoreError::AlreadyRevoked`] or [`StoreError::Storage`].
    fn revoke(&mut self, name: &KeyName, now: UnixSeconds) -> Result<Vec<Key>, StoreError>;

    /// Puts a new secret under `name`. Every earlier one ends after `overlap`, or sooner if it would have.
    ///
    /// # Errors
    /// [`StoreError::UnknownName`], [`StoreError::AlreadyRevoked`], [`StoreError::Expired`] or [`StoreError::Storage`].
    fn rotate(
        &mut self,
        name: &KeyName,
        mark: &Mark,
        overlap: Span,
        now: UnixSeconds,
    ) -> Result<Rotated, StoreError>;

    /// Stores when keys were last used, all at once. An earlier moment never replaces a later one; unknown ids are skipped.
    ///
    /// # Errors
    /// [`StoreError::Storage`].
    fn touch(&mut self, uses: &[(KeyId, UnixSeconds)]) -> Result<(), StoreError>;
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A key that is not revoked has this name.
    #[error("there is a key named \"{0}\" already")]
    NameTaken(KeyName),
    /// No key ever had this name.
    #[error("there is no key named \"{0}\"")]
    UnknownName(KeyName),
    /// Whatever had this name was revoked.
    #[error("the key \"{0}\" was revoked already")]
    AlreadyRevoked(KeyName),
    /// Its time is over, so a new secret would be dead at birth.
    #[error("the key \"{0}\" has expired")]
    Expired(KeyName),
    /// Where keys are kept cannot be used as it is. What is there was left untouched.
    #[error("{path}: {reason}", path = path.display())]
    Storage {
        /// Which file or directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do about it.
        hint: Option<String>,
        /// What the layer below said.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}

impl StoreError {
    /// What to do about it, in one line.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            StoreError::NameTaken(name) => Some(format!(
                "choose another name, or give this one a new secret: herdgate key rotate {name}"
            )),
            StoreError::UnknownName(_) => Some("see what there is: herdgate key list".to_owned()),
            StoreError::AlreadyRevoked(name) => Some(format!("the name is free: herdgate key create {name}")),
            StoreError::Expired(name) => {
                Some(format!("make a new one: herdgate key revoke {name}, then herdgate key create {name}"))
            }
            StoreError::Storage { hint, .. } => hint.clone(),
        }
    }
}
