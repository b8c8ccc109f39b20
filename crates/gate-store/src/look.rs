//! How a running gate keeps an eye on its database: is it still there, still the same one, still sound, still writable?
//!
//! SQLite alone would not notice. It goes on with the file that it opened when another has its name, and with the pages
//! that it has read when somebody wrote over them. So the file is looked at from outside; and a file that is not what it
//! was is read apart from SQLite ([`image`]) before anything could be written to it. Nothing here ever repairs anything.

use crate::data_dir::DataDir;
use crate::fault::{refused, wrong};
use crate::image;
use crate::rows::{READ, WRITE};
use crate::schema::{DATABASE_FILE, unusable};
use crate::sqlite::SqliteStore;
use gate_keys::StoreError;
use rusqlite::ErrorCode;
use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Device and inode: tells the open database from another that was put in its place.
pub(crate) type FileId = (u64, u64);

/// The file is read whole so often even where nothing seems to have touched it.
const READING: Duration = Duration::from_secs(30);
/// After this time the log is moved into the file, so that a copy of the file alone is not old.
const SETTLING: Duration = Duration::from_secs(64);
/// The same after so many touches, so that the log does not grow: each adds a page of 4 KiB to it.
const MOST_TOUCHES: u32 = 512;
/// Two changes of a file within a tick of the system's clock have one time of change (stat(2)). Ticks are 10 ms at most.
const TICK: Duration = Duration::from_millis(20);

/// Size and time of change: different after whatever anybody did to the file, unless that was within one tick.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    size: u64,
    changed: (i64, i64),
    /// Looked at within the tick of its last change: another change may look the same.
    is_fresh: bool,
}

impl Seen {
    pub(crate) fn of(file: &File, path: &Path) -> Result<Self, StoreError> {
        let stat = file.metadata().map_err(|cause| refused(path, "look at the database", cause))?;
        let changed = (stat.ctime(), stat.ctime_nsec());
        Ok(Seen { size: stat.size(), changed, is_fresh: is_fresh(changed, SystemTime::now()) })
    }
}

impl SqliteStore {
    /// The same store, which waits no longer than `patience` for another process that writes: whoever watches the store
    /// wants to know rather than to wait.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Looks whether the store is what it was: the same database, sound as far as can be told, writable. Says whether
    /// [`load`](gate_keys::KeyStore::load) would give more than the last complete one did: another connection changed
    /// something, or nothing was loaded yet; that stays true until a load is complete, so that one that failed is tried
    /// again. What this very store wrote does not count. Takes some microseconds as long as all is well.
    ///
    /// # Errors
    /// [`StoreError::Storage`] if the database is gone, was replaced by another, is damaged or cannot be written. Nothing
    /// is changed then; a later look may find it well again, with everything opened and checked anew.
    pub fn look(&mut self) -> Result<bool, StoreError> {
        let found = file_id(&self.path).inspect_err(|_| self.is_doubtful = true)?;
        if self.is_doubtful || found != self.file_id || log_ids(&self.path) != self.log_ids {
            self.is_doubtful = true;
            self.reopen(found)?;
        }
        self.read_if_touched()?;
        self.check_access()?;
        Ok(self.loaded.get() != Some(self.commits()?))
    }

    /// Writes the moment into the database: the proof that changes can be made. Call it after a [`look`](Self::look) that
    /// found nothing wrong. Each call needs a moment of its own: SQLite writes nothing where nothing changes.
    ///
    /// # Errors
    /// [`StoreError::Storage`] if it is locked for too long, the disk is full, or the system refuses.
    pub fn touch_store(&mut self, now: SystemTime) -> Result<(), StoreError> {
        let moment = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let moment = i64::try_from(moment).unwrap_or(i64::MAX);
        let cause = |path: &Path, cause| unusable(path, WRITE, cause);
        // Not worth waiting for the disk: losing this moment in a power cut loses nothing.
        let eager = self.conn()?.pragma_update(None, "synchronous", "normal");
        eager.map_err(|error| cause(&self.path, error))?;
        let written = self.write(|tx, path, _| {
            let done = tx.execute("UPDATE store SET touched = ?1", [moment]);
            done.map(drop).map_err(|error| cause(path, error))
        });
        let restored = self.conn()?.pragma_update(None, "synchronous", "full");
        written.and(restored.map_err(|error| cause(&self.path, error)))?;
        self.touches = self.touches.saturating_add(1);
        let is_due = self.touches >= MOST_TOUCHES || self.settled.elapsed() >= SETTLING;
        if is_due { self.settle() } else { Ok(()) }
    }

    /// Moves the log into the file, as far as no reader needs it. What is in the file afterwards is whole.
    ///
    /// # Errors
    /// [`StoreError::Storage`]; nothing is written to a file that is not what it was a moment before.
    pub fn settle(&mut self) -> Result<(), StoreError> {
        self.read_if_touched()?;
        let conn = self.conn()?;
        let moved = conn
            .busy_timeout(self.patience)
            .and_then(|()| conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
        moved.map_err(|cause| unusable(&self.path, WRITE, cause))?;
        (self.touches, self.settled) = (0, Instant::now());
        // Not taken for granted: somebody else may have written to it in the same moment.
        self.read_if_touched()
    }

    /// Tells the store of an error of its own. What time or room on the disk will not mend may come from pages that SQLite
    /// remembers and that are no longer there: then the next look opens the database anew.
    pub fn met(&mut self, error: &StoreError) {
        let StoreError::Storage { source: Some(source), .. } = error else { return };
        let Some(cause) = source.downcast_ref::<rusqlite::Error>() else { return };
        let will_pass = matches!(
            cause.sqlite_error_code(),
            Some(
                ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::DiskFull
                    | ErrorCode::ReadOnly
            )
        );
        self.is_doubtful |= !will_pass;
    }

    /// Opens what has the database's name now, if it is the same database.
    fn reopen(&mut self, found: FileId) -> Result<(), StoreError> {
        self.let_go();
        let dir = DataDir::find(&self.dir)?;
        let dir = dir.ok_or_else(|| wrong(&self.dir, "is gone", "bring the directory back"))?;
        // No connection is open from here to `open`, so that no handle that is closed here takes its locks away.
        let (file, _) = dir
            .open_regular(DATABASE_FILE)?
            .ok_or_else(|| wrong(&self.path, "is gone", "bring the database back"))?;
        match image::read(&file, &self.path)? {
            Some(id) if id == self.id => {}
            // Without an id yet: made by an older herdgate, and brought up to date by this one in the log alone.
            None if found == self.file_id => {}
            Some(_) | None => return Err(another(&self.path)),
        }
        drop(file);
        let mut fresh = Self::open(&dir)?;
        if fresh.id != self.id {
            fresh.is_doubtful = true;
            return Err(another(&self.path));
        }
        fresh.patience = self.patience;
        std::mem::swap(&mut fresh.who, &mut self.who);
        *self = fresh;
        Ok(())
    }

    /// Reads the file whole where something has touched it since it was last found sound, and now and then without that.
    fn read_if_touched(&mut self) -> Result<(), StoreError> {
        let file = self.file.as_ref().ok_or_else(|| image::closed(&self.path))?;
        let seen = Seen::of(file, &self.path)?;
        let is_same = (seen.size, seen.changed) == (self.seen.size, self.seen.changed);
        if is_same && !self.seen.is_fresh && self.read.elapsed() < READING {
            return Ok(());
        }
        match image::read(file, &self.path) {
            Ok(Some(id)) if id != self.id => {
                self.is_doubtful = true;
                Err(another(&self.path))
            }
            Ok(_) => {
                (self.seen, self.read) = (seen, Instant::now());
                Ok(())
            }
            Err(error) => {
                self.is_doubtful = true;
                Err(error)
            }
        }
    }

    /// Whether changes could be made at all. An open file stays writable whatever becomes of its mode or its file system,
    /// but the command line would have to open it.
    pub(crate) fn check_access(&self) -> Result<(), StoreError> {
        let hint = "make it writable again; keys cannot be changed meanwhile";
        for path in [&self.path, &self.dir] {
            let stat = fs::metadata(path).map_err(|cause| refused(path, "look at the database", cause))?;
            // Root may write whatever the mode says; who took the mode away did not want that.
            if stat.mode() & 0o200 == 0 {
                return Err(wrong(path, format!("is read-only (mode {:04o})", stat.mode() & 0o7777), hint));
            }
            match rustix::fs::accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS) {
                // Kernels before 5.8 cannot say.
                Ok(()) | Err(Errno::NOSYS) => {}
                Err(Errno::ROFS) => return Err(wrong(path, "is on a read-only file system", hint)),
                Err(_) => return Err(wrong(path, "is read-only", hint)),
            }
        }
        Ok(())
    }
}

/// Whether a file was changed so short a time ago that another change may have the same time. A time that is still to come
/// is by the clock of another machine, and says nothing.
fn is_fresh((seconds, nanos): (i64, i64), now: SystemTime) -> bool {
    let since = u64::try_from(seconds).ok().zip(u32::try_from(nanos).ok());
    let changed = since.map(|(seconds, nanos)| UNIX_EPOCH + Duration::new(seconds, nanos));
    let age = changed.and_then(|changed| now.duration_since(changed).ok());
    age.is_some_and(|age| age < TICK)
}

fn another(path: &Path) -> StoreError {
    let hint = "put the database back that was there, or restart herdgate to take this one";
    wrong(path, "was replaced by another database", hint)
}

pub(crate) fn file_id(path: &Path) -> Result<FileId, StoreError> {
    match fs::symlink_metadata(path) {
        Ok(file) => Ok((file.dev(), file.ino())),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            Err(wrong(path, "is gone", "bring the database back"))
        }
        Err(cause) => Err(refused(path, READ, cause)),
    }
}

/// How long the log is; none where there is none.
pub(crate) fn log_length(path: &Path) -> Option<u64> {
    Some(fs::symlink_metadata(beside(path, "-wal")).ok()?.len())
}

/// The files of the log. One that was removed or replaced takes part of the database with it.
pub(crate) fn log_ids(path: &Path) -> [Option<FileId>; 2] {
    ["-wal", "-shm"].map(|suffix| {
        let file = fs::symlink_metadata(beside(path, suffix)).ok()?;
        Some((file.dev(), file.ino()))
    })
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_fresh_for_a_tick() {
        let changed = (1_000, 999_000_000);
        let after = |millis: u64| UNIX_EPOCH + Duration::from_millis(1_000_999 + millis);
        let told = [0_u64, 19, 20, 5_000].map(|millis| is_fresh(changed, after(millis)));
        assert_eq!(told, [true, true, false, false]);
        assert!(!is_fresh((2_000, 0), after(0)), "a clock that is ahead");
        assert!(!is_fresh((-5, 0), after(0)));
    }
}
