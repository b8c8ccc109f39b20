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
    /// An earlier start, or `./quickstart`, left one in this file.
    Lies(PathBuf),
}

/// Makes the key `first` where there never was a key and none comes from outside of the store; else says where one of an
/// earlier start lies.
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
        return Ok(left_behind(dir));
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
    Ok(made.map(|_key| first).or_else(|| left_behind(dir)))
}

/// The file of an earlier start, as long as nobody has removed it; revoking its key does.
fn left_behind(dir: &DataDir) -> Option<FirstKey> {
    let path = dir.path().join(FIRST_KEY_FILE);
    path.is_file().then_some(FirstKey::Lies(path))
}
