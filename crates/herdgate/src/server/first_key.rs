//! The first start: there never was a key, so one is made. The gate never runs without authentication.

use super::keys::Outside;
use anyhow::Context as _;
use gate_keys::{KeyStore as _, OsEntropy, UnixSeconds, mint};
use gate_store::{DataDir, FIRST_KEY_FILE, SqliteStore};
use gate_types::Secret;
use std::io::IsTerminal;
use std::path::PathBuf;

/// Where the first key went.
pub(crate) enum FirstKey {
    /// Somebody is watching: shown once, kept nowhere.
    Shown(Secret),
    /// Written to this file.
    Written(PathBuf),
}

/// Makes the key `first` where there never was a key and none comes from outside of the store.
pub(crate) fn make(
    store: &mut SqliteStore,
    dir: &DataDir,
    outside: &Outside,
    now: UnixSeconds,
) -> anyhow::Result<Option<FirstKey>> {
    if !outside.is_empty() {
        if store.list()?.is_empty() {
            tracing::info!("no first key is made: the settings have {outside}");
        }
        return Ok(None);
    }
    let minted = mint(&mut OsEntropy).context("cannot make the first key")?;
    let terminal = std::io::stderr().is_terminal();
    let mut first = FirstKey::Shown(minted.secret.clone());
    let made = store.create_first(&minted.mark, now, || {
        if !terminal {
            let text = Secret::new(format!("{}\n", minted.secret.expose()));
            first = FirstKey::Written(dir.write_private(FIRST_KEY_FILE, text.expose().as_bytes())?);
        }
        Ok(())
    })?;
    Ok(made.map(|_key| first))
}
