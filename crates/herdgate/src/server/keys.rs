//! Keeps the keys in memory in step with the database: a change by the command line is in force within a second, and a
//! database that fails changes nothing. Runs on a thread of its own, so that a slow disk holds up nobody.
//!
//! The database is looked at four times a second and written to once a second. While that fails the store is degraded:
//! every key in memory keeps its answer, and what is not among them may be a key or not. It is well again when a look finds
//! the same database sound and a write goes through.

use anyhow::Context as _;
use gate_config::{Config, KeySetting};
use gate_keys::{EnvKey, KeyName, KeyRing, KeyStore, ModelGlob, SettingsKey, State, StoreError};
use gate_proxy::{Shared, unix_now};
use gate_store::SqliteStore;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the database is looked at; a look takes microseconds.
const LOOK: Duration = Duration::from_millis(250);
/// After so many looks it is written to. While there is trouble, after so many it is looked at.
const LOOKS_PER_WRITE: u32 = 4;
/// After so many looks the moments of last use are stored.
const LOOKS_PER_SAVE: u32 = 20;
/// How long to wait for another process that writes, before that counts as trouble.
const PATIENCE: Duration = Duration::from_millis(500);

/// The keys that come from outside of the store.
#[derive(Debug, Clone, Default)]
pub(super) struct Outside {
    env: Option<EnvKey>,
    settings: Vec<SettingsKey>,
}

impl Outside {
    /// Those that the settings name.
    ///
    /// # Errors
    /// Where a key of the settings cannot be one, which checked settings exclude.
    pub(super) fn of(config: &Config) -> anyhow::Result<Self> {
        let env = config.auth_token.as_ref().map(|token| EnvKey::new(&token.token)).transpose();
        let settings = config.keys.iter().map(key_of).collect::<anyhow::Result<_>>()?;
        Ok(Outside { env: env.context("AUTH_TOKEN")?, settings })
    }

    /// Whether two settings name other keys.
    pub(super) fn differ(old: &Config, new: &Config) -> bool {
        old.auth_token != new.auth_token || !KeySetting::are_same(&old.keys, &new.keys)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.env.is_none() && self.settings.is_empty()
    }

    fn added_to(&self, ring: KeyRing) -> KeyRing {
        let ring = ring.with_settings(&self.settings);
        match &self.env {
            Some(env) => ring.with_env(env),
            None => ring,
        }
    }
}

fn key_of(setting: &KeySetting) -> anyhow::Result<SettingsKey> {
    let models = setting.models.iter().map(|model| ModelGlob::parse(model)).collect::<Result<_, _>>()?;
    let name = KeyName::parse(&setting.name)?;
    Ok(SettingsKey::new(name, &setting.digest, setting.scopes, models)?)
}

impl fmt::Display for Outside {
    /// Their names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        let names: Vec<_> = self.settings.iter().map(|key| key.key().name.clone()).collect();
        let mut names: Vec<&str> =
            self.env.iter().map(|_| "AUTH_TOKEN").chain(names.iter().map(KeyName::as_str)).collect();
        let more = names.len().saturating_sub(SHOWN);
        names.truncate(SHOWN);
        f.write_str(&names.join(", "))?;
        if more > 0 { write!(f, " and {more} more") } else { Ok(()) }
    }
}

/// The keys as the gate begins with them, and whoever keeps them in step.
pub(super) struct Keeper {
    /// None where all keys come from outside of it.
    store: Option<SqliteStore>,
    outside: Outside,
    /// The audit log knows of the keys of the settings.
    is_noted: bool,
    /// The last line of the audit log that the gate's own log told.
    told: i64,
    /// Why the store is degraded, where it is.
    trouble: Option<String>,
    looks: u32,
}

impl Keeper {
    /// Reads the keys for the first time.
    ///
    /// # Errors
    /// Where the store cannot be read or written: with nothing in memory there would be nothing to go on with.
    pub(super) fn begin(store: Option<SqliteStore>, outside: Outside) -> Result<(Self, KeyRing), StoreError> {
        let store = store.map(|store| store.with_patience(PATIENCE));
        let mut keeper = Keeper { store, outside, is_noted: false, told: 0, trouble: None, looks: 0 };
        let mut ring = KeyRing::default();
        if let Some(store) = &mut keeper.store {
            keeper.told = store.last_line()?;
            store.note_settings(&keeper.outside.settings, unix_now())?;
            keeper.is_noted = true;
            ring = store.load()?;
            store.settle()?;
            keeper.told = tell_changes(store, keeper.told)?;
        }
        let ring = keeper.outside.added_to(ring);
        keeper.warn_of_twins(&ring);
        Ok((keeper, ring))
    }

    /// Starts the thread. What comes through `outside` takes the place of the keys from outside of the store; when its
    /// other end is dropped, the last uses are saved and the thread ends.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub(super) fn start(
        mut self,
        shared: Arc<Shared>,
        outside: Receiver<Outside>,
    ) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
            loop {
                match outside.recv_timeout(LOOK) {
                    Ok(other) => self.replace_outside(other, &shared),
                    Err(RecvTimeoutError::Timeout) => self.turn(&shared),
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            if let (Some(store), false) = (&mut self.store, self.trouble.is_some()) {
                let saved = save(store, &shared.keys());
                self.judge(saved, &shared);
            }
        })
    }

    /// Warns of a name that stands for two keys: revoking the one does not end the other.
    fn warn_of_twins(&self, ring: &KeyRing) {
        let now = unix_now();
        for key in self.outside.settings.iter().map(SettingsKey::key) {
            let has_twin = |other: &gate_keys::Key| {
                other.id.is_stored() && other.name == key.name && other.state(now) != State::Revoked
            };
            if ring.iter().any(has_twin) {
                tracing::warn!(
                    "the key \"{}\" stands in the settings and in the store: two keys of one name, both in force",
                    key.name
                );
            }
        }
    }

    fn turn(&mut self, shared: &Shared) {
        self.looks = self.looks.wrapping_add(1);
        let writes = self.looks.is_multiple_of(LOOKS_PER_WRITE);
        if self.trouble.is_some() && !writes {
            return;
        }
        let outcome = self.follow(shared, writes);
        if let (Some(store), Err(error)) = (&mut self.store, &outcome) {
            store.met(error);
        }
        self.judge(outcome, shared);
    }

    fn follow(&mut self, shared: &Shared, writes: bool) -> Result<(), StoreError> {
        let Some(store) = &mut self.store else { return Ok(()) };
        if store.look()? {
            let stored = store.load()?;
            let ring = self.outside.added_to(stored).with_revoked_of(&shared.keys());
            // In force first: a store that cannot be written to must not hold back a revocation.
            let before = shared.replace_keys(ring);
            shared.keys().take_over_uses(&before);
            self.told = tell_changes(store, self.told)?;
            save(store, &shared.keys())?;
            // A copy of the file alone shall have the change.
            store.settle()?;
        }
        if writes {
            store.touch_store(unix_now())?;
            if !self.is_noted {
                store.note_settings(&self.outside.settings, unix_now())?;
                self.is_noted = true;
                self.told = tell_changes(store, self.told)?;
            }
        }
        if self.looks.is_multiple_of(LOOKS_PER_SAVE) { save(store, &shared.keys()) } else { Ok(()) }
    }

    /// Other keys from outside are in force from now on, whatever the store is like.
    fn replace_outside(&mut self, other: Outside, shared: &Shared) {
        let ring = shared.keys().stored_alone();
        self.outside = other;
        let ring = self.outside.added_to(ring);
        self.warn_of_twins(&ring);
        shared.replace_keys(ring);
        self.is_noted = false;
    }

    /// Tells the gate how the store is, and the log when that changes.
    fn judge(&mut self, outcome: Result<(), StoreError>, shared: &Shared) {
        shared.set_store_degraded(outcome.is_err());
        let trouble = outcome.err().map(|error| {
            let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
            format!("{error}{hint}")
        });
        match (&self.trouble, &trouble) {
            (None, Some(reason)) => tracing::error!(
                "the store of keys is degraded, the keys known so far stay in force: {reason}"
            ),
            (Some(before), Some(reason)) if before != reason => {
                tracing::warn!("the store of keys is degraded still: {reason}");
            }
            (Some(_), None) => tracing::info!("the store of keys is well again"),
            (Some(_) | None, _) => {}
        }
        self.trouble = trouble;
    }
}

/// Tells the lines of the audit log behind `told`: they are in force. Gives back the number of the last.
fn tell_changes(store: &SqliteStore, told: i64) -> Result<i64, StoreError> {
    let last = store.last_line()?;
    if last < told {
        tracing::warn!("the store of keys is an older copy of itself: the last changes are not in it");
    }
    for line in store.log(told)? {
        tracing::info!("{line}");
    }
    Ok(last)
}

/// Stores the moments of last use. Where that fails they are as new as before.
fn save(store: &mut SqliteStore, ring: &KeyRing) -> Result<(), StoreError> {
    let uses = ring.unsaved_uses();
    let moments: Vec<_> = uses.iter().map(|(key, when)| (key.id, *when)).collect();
    store.touch(&moments)?;
    uses.iter().for_each(|(key, when)| key.mark_saved(*when));
    Ok(())
}

#[cfg(test)]
mod tests;
