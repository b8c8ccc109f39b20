//! Keeps the keys in memory in step with the database, and knows whether it can be trusted. Runs on a thread of its own, so
//! that a slow disk holds up nobody.
//!
//! The database is looked at four times a second and written to once a second; and at once where a request shows a key that
//! is not known, so that none is refused that was made a moment ago, nor one that only a broken store does not know. While
//! looking or writing fails the store is degraded: every key in memory keeps its answer, and what is not among them may be
//! a key or not. It is well again when a look finds the same database sound and a write goes through.

mod outside;

pub(super) use outside::Outside;

use gate_keys::{KeyRing, KeyStore, SettingsKey, State, StoreError};
use gate_proxy::{Shared, unix_now};
use gate_store::SqliteStore;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// How often the database is looked at; a look takes microseconds.
const LOOK: Duration = Duration::from_millis(250);
/// How often it is written to. While there is trouble, how often it is looked at.
const WRITE: Duration = Duration::from_secs(1);
/// How often the moments of last use are stored.
const SAVE: Duration = Duration::from_secs(5);
/// The rest before a look that requests ask for: all who ask meanwhile are answered by one, so that a flood of unknown keys
/// costs no more than this.
const REST: Duration = Duration::from_millis(5);
/// How long to wait for another process that writes, before that counts as trouble.
const PATIENCE: Duration = Duration::from_millis(500);
/// Other settings, one call for a look that is about to begin, and one for the next.
const MOST_ERRANDS: usize = 4;

/// What the thread is told.
pub(super) enum Errand {
    /// Other keys from outside of the store.
    Outside(Outside),
    /// A request waits for a look.
    Look,
}

/// The thread, while it runs.
pub(super) struct Running {
    /// It ends when this is dropped, after the last uses were saved.
    pub(super) tell: Arc<SyncSender<Errand>>,
    pub(super) thread: JoinHandle<()>,
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
    due: Due,
}

/// When what is to be done next.
#[derive(Debug, Clone, Copy)]
struct Due {
    look: Instant,
    /// A look that somebody asks for.
    asked: Instant,
    write: Instant,
    save: Instant,
}

impl Keeper {
    /// Reads the keys for the first time.
    ///
    /// # Errors
    /// Where the store cannot be read or written: with nothing in memory there would be nothing to go on with.
    pub(super) fn begin(store: Option<SqliteStore>, outside: Outside) -> Result<(Self, KeyRing), StoreError> {
        let store = store.map(|store| store.with_patience(PATIENCE));
        let now = Instant::now();
        // All is known of it now, and the start of a gate has other things to do.
        let due = Due { look: now + LOOK, asked: now, write: now + WRITE, save: now + SAVE };
        let mut keeper = Keeper { store, outside, is_noted: false, told: 0, trouble: None, due };
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

    /// Starts the thread, which from now on answers those who ask about the store.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub(super) fn start(mut self, shared: Arc<Shared>) -> io::Result<Running> {
        let (tell, errands) = sync_channel(MOST_ERRANDS);
        let tell = Arc::new(tell);
        if self.store.is_some() {
            // Does not keep the thread from ending.
            let tell = Arc::downgrade(&tell);
            shared.store.answer_by(move || {
                if let Some(tell) = tell.upgrade() {
                    // Where there is no room it has not yet heard of what it is told of.
                    let _heard_anyway = tell.try_send(Errand::Look);
                }
            });
        }
        let thread = std::thread::Builder::new().name("keys".to_owned());
        let thread = thread.spawn(move || {
            self.follow_errands(&shared, &errands);
            if let (Some(store), false) = (&mut self.store, self.trouble.is_some()) {
                let saved = save(store, &shared.keys());
                self.judge(saved, &shared);
            }
        })?;
        Ok(Running { tell, thread })
    }

    fn follow_errands(&mut self, shared: &Shared, errands: &Receiver<Errand>) {
        loop {
            let wait = self.due.next(shared.store.is_wanted()).saturating_duration_since(Instant::now());
            match errands.recv_timeout(wait) {
                Ok(Errand::Outside(other)) => self.replace_outside(other, shared),
                // Whether a look is wanted is known by now.
                Ok(Errand::Look) => {}
                Err(RecvTimeoutError::Timeout) => self.turn(shared, Instant::now()),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
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

    /// Looks at the store, and does what else is due at `now`. Who asks for a look wants to know that it can be written to.
    fn turn(&mut self, shared: &Shared, now: Instant) {
        let begun = Instant::now();
        let saves = now >= self.due.save;
        let writes = self.trouble.is_some() || shared.store.is_wanted() || now >= self.due.write;
        let look = writes.then(|| shared.store.begin());
        let outcome = self.follow(shared, writes, saves);
        if let (Some(store), Err(error)) = (&mut self.store, &outcome) {
            store.met(error);
        }
        self.judge(outcome, shared);
        if let Some(look) = look {
            shared.store.end(look);
        }
        let is_well = self.trouble.is_none();
        self.due.done(now + begun.elapsed(), is_well, writes, saves && is_well);
    }

    fn follow(&mut self, shared: &Shared, writes: bool, saves: bool) -> Result<(), StoreError> {
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
            store.touch_store(SystemTime::now())?;
            if !self.is_noted {
                store.note_settings(&self.outside.settings, unix_now())?;
                self.is_noted = true;
                self.told = tell_changes(store, self.told)?;
            }
        }
        if saves { save(store, &shared.keys()) } else { Ok(()) }
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
        shared.store.set_degraded(outcome.is_err());
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

impl Due {
    /// When the next look is due.
    fn next(&self, is_asked: bool) -> Instant {
        if is_asked { self.asked.min(self.look) } else { self.look }
    }

    /// A look has ended at `now`, with a write or without.
    fn done(&mut self, now: Instant, is_well: bool, wrote: bool, saved: bool) {
        self.look = now + if is_well { LOOK } else { WRITE };
        self.asked = now + REST;
        if wrote {
            self.write = now + WRITE;
        }
        if saved {
            self.save = now + SAVE;
        }
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
