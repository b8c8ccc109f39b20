//! Keeps the keys in memory in step with the database: a change by the command line is in force within a second. Runs on
//! a thread of its own, so that a slow disk holds up nobody.

use gate_keys::{EnvKey, KeyRing, KeyStore, StoreError};
use gate_proxy::Shared;
use gate_store::SqliteStore;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the database is asked whether it changed; a look takes microseconds.
const LOOK: Duration = Duration::from_millis(250);
/// After so many looks the moments of last use are stored.
const LOOKS_PER_SAVE: u32 = 20;

/// Starts the thread. It saves the last uses and ends when the other end of `stop` is dropped.
///
/// # Errors
/// Where the system gives no thread.
pub(super) fn start(
    mut store: SqliteStore,
    env_key: Option<EnvKey>,
    shared: Arc<Shared>,
    stop: Receiver<()>,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        let mut looks = 0;
        let mut trouble = false;
        while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(LOOK) {
            looks += 1;
            let outcome = follow(&mut store, env_key.as_ref(), &shared);
            let outcome = if looks % LOOKS_PER_SAVE == 0 {
                outcome.and_then(|()| save(&mut store, &shared))
            } else {
                outcome
            };
            tell(&outcome, &mut trouble);
        }
        tell(&save(&mut store, &shared), &mut trouble);
    })
}

/// The ring of all keys, with the one of the environment.
pub(super) fn ring(store: &SqliteStore, env_key: Option<&EnvKey>) -> Result<KeyRing, StoreError> {
    let ring = store.load()?;
    Ok(match env_key {
        Some(env_key) => ring.with_env(env_key),
        None => ring,
    })
}

fn follow(store: &mut SqliteStore, env_key: Option<&EnvKey>, shared: &Shared) -> Result<(), StoreError> {
    if !store.changed()? {
        return Ok(());
    }
    let ring = ring(store, env_key)?;
    tracing::info!("the keys changed: {} in force", ring.iter().filter(|key| key.revoked.is_none()).count());
    // In force first: a store that cannot take the last uses must not hold back a revocation.
    let before = shared.replace_keys(ring);
    touch(store, &before)
}

fn save(store: &mut SqliteStore, shared: &Shared) -> Result<(), StoreError> {
    touch(store, &shared.keys())
}

fn touch(store: &mut SqliteStore, ring: &KeyRing) -> Result<(), StoreError> {
    let uses = ring.take_uses();
    if uses.is_empty() { Ok(()) } else { store.touch(&uses) }
}

/// Says once that the store fails, and once that it is well again. The keys in memory stay in force meanwhile.
fn tell(outcome: &Result<(), StoreError>, trouble: &mut bool) {
    match outcome {
        Err(error) if !*trouble => {
            tracing::error!("{error}; the keys known so far stay in force");
            *trouble = true;
        }
        Ok(()) if *trouble => {
            tracing::info!("the key store is well again");
            *trouble = false;
        }
        Ok(()) | Err(_) => {}
    }
}
