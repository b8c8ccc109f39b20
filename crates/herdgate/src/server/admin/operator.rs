//! The operator: whoever may open the admin socket, as the gate's own keys know them. The key is made anew at each start, lives
//! in memory alone and may do everything.

use anyhow::Context as _;
use gate_keys::{KeyName, OsEntropy, SettingsKey, digest_text, mint};
use gate_types::{Scope, ScopeSet, Secret};
use http::HeaderValue;

/// The operator's key.
#[derive(Debug)]
pub(in crate::server) struct Operator {
    secret: Secret,
    key: SettingsKey,
}

impl Operator {
    /// Makes the key.
    ///
    /// # Errors
    /// Where the system gives no random numbers.
    pub(in crate::server) fn new() -> anyhow::Result<Self> {
        let minted = mint(&mut OsEntropy).context("cannot make the operator's key")?;
        let (name, digest) = (KeyName::operator(), digest_text(&minted.mark));
        let key = SettingsKey::new(name, &digest, ScopeSet::of(&Scope::ALL), Vec::new())?;
        Ok(Self { secret: minted.secret, key })
    }

    /// What the ring of keys holds.
    pub(in crate::server) fn key(&self) -> SettingsKey {
        self.key.clone()
    }

    /// What a request in the operator's name shows.
    pub(super) fn bearer(&self) -> Option<HeaderValue> {
        let text = Secret::new(format!("Bearer {}", self.secret.expose()));
        let mut value = HeaderValue::from_str(text.expose()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}
