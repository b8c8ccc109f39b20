//! What a store of keys must do, whatever it keeps them in. Adapters live a floor above and share one suite of tests.

use crate::{AuditLine, Key, KeyId, KeyName, KeyRing, Kind, Mark, ModelGlob, Span, UnixSeconds};
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

/// What is to become different about a key; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// What it may do.
    pub scopes: Option<ScopeSet>,
    /// Which models it may use; an empty list means every model.
    pub models: Option<Vec<ModelGlob>>,
    /// From when on it is refused; `Some(None)` is never.
    pub expires: Option<Option<UnixSeconds>>,
}

/// What a rotation leaves behind.
#[derive(Debug)]
pub struct Rotated {
    /// The key with the new secret: scopes, models and end as before.
    pub key: Key,
    /// The secret that it replaced, with the end that it has now.
    pub earlier: Key,
}

/// Keeps keys. Every change is whole or not at all, leaves its line in the audit log with it, and is on disk when the call
/// returns.
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
    /// [`StoreError::NameTaken`] if a key that is not revoked has the name, expired or not; [`StoreError::Enrolled`] for a
    /// public key that is or was stored; [`StoreError::Storage`].
    fn create(&mut self, new: &NewKey, now: UnixSeconds) -> Result<Key, StoreError>;

    /// Revokes the key called `name`, with every earlier secret of it. Its name is free afterwards. Gives back what no
    /// longer works, the current key first.
    ///
    /// # Errors
    /// [`StoreError::UnknownName`], [`StoreError::AlreadyRevoked`] or [`StoreError::Storage`].
    fn revoke(&mut self, name: &KeyName, now: UnixSeconds) -> Result<Vec<Key>, StoreError>;

    /// Changes what the key called `name` may do and until when. Secrets that a rotation replaced and that still work get
    /// the same scopes and models, and end no later. An expired key that is given a later end works again.
    ///
    /// # Errors
    /// [`StoreError::UnknownName`], [`StoreError::AlreadyRevoked`] or [`StoreError::Storage`].
    fn set(&mut self, name: &KeyName, change: &Change, now: UnixSeconds) -> Result<Key, StoreError>;

    /// Puts a new secret under `name`, or a new public key where it had one. Every earlier one ends after `overlap`, or
    /// sooner if it would have.
    ///
    /// # Errors
    /// [`StoreError::UnknownName`], [`StoreError::AlreadyRevoked`], [`StoreError::Expired`], [`StoreError::OtherKind`],
    /// [`StoreError::Enrolled`] or [`StoreError::Storage`].
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

    /// The audit log after line `after`, the oldest first; 0 is before the first.
    ///
    /// # Errors
    /// [`StoreError::Storage`].
    fn log(&self, after: i64) -> Result<Vec<AuditLine>, StoreError>;
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
    /// A public key is stored already, or was revoked, and a revoked one does not come back.
    #[error("this public key is known already, as the key \"{name}\"{}", if *is_revoked { ", which was revoked" } else { "" })]
    Enrolled {
        /// What it is called.
        name: KeyName,
        /// Whether it was revoked.
        is_revoked: bool,
    },
    /// A secret cannot take the place of a public key, nor a public key that of a secret.
    #[error("the key \"{name}\" {}", match kind {
        Kind::Secret => "is a secret and not an ssh key",
        Kind::Ssh => "is an ssh key and has no secret",
    })]
    OtherKind {
        /// Its name.
        name: KeyName,
        /// What it is.
        kind: Kind,
    },
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
            StoreError::Enrolled { is_revoked: false, name } => {
                Some(format!("change what it may do: herdgate key set {name} --scope …"))
            }
            StoreError::Enrolled { is_revoked: true, .. } => {
                Some("make another one: ssh-keygen -t ed25519 -f ~/.ollama/id_ed25519".to_owned())
            }
            StoreError::OtherKind { kind: Kind::Ssh, name } => {
                Some(format!("give the new public key: herdgate key rotate {name} --ssh-key FILE"))
            }
            StoreError::OtherKind { kind: Kind::Secret, .. } => Some("leave --ssh-key out".to_owned()),
            StoreError::Storage { hint, .. } => hint.clone(),
        }
    }
}
