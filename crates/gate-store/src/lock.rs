//! One gate per data directory: a lock that the gate holds as long as it lives, however it ends.
//!
//! It belongs to the open file, not to the process (flock(2)): a gate that is handed the open file holds it too, so that
//! there is no moment between the two in which a third could begin.

use crate::data_dir::DataDir;
use crate::fault::{refused, wrong};
use gate_keys::StoreError;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The file that is locked. It holds the number of the process that took it last.
pub(crate) const LOCK_FILE: &str = "gate.lock";
/// More than any process number has.
const LONGEST_NUMBER: u64 = 32;

/// The right to serve from a data directory, until it is dropped wherever it was handed to.
#[derive(Debug)]
pub struct DirLock(File);

impl DataDir {
    /// Takes the directory for this gate alone. `None` where the file system knows no locks.
    ///
    /// # Errors
    /// [`StoreError::Storage`] if a gate that runs has it, or the file cannot be made.
    pub fn lock(&self) -> Result<Option<DirLock>, StoreError> {
        let path = self.path().join(LOCK_FILE);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = |cause: Errno| refused(&path, "open this file", cause);
        let file = rustix::fs::openat(self.handle(), LOCK_FILE, flags, Mode::from_raw_mode(0o600));
        let file = File::from(file.map_err(open)?);
        self.give_to_owner(&file).map_err(open)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                let lock = DirLock(file);
                lock.sign();
                Ok(Some(lock))
            }
            Err(Errno::WOULDBLOCK) => {
                let holder = number(&file).map_or_else(String::new, |number| format!(" (process {number})"));
                let reason = format!("is in use by a gate that runs{holder}");
                let hint = "end that gate first, or name another directory with --data";
                Err(wrong(self.path(), reason, hint))
            }
            Err(Errno::NOLCK | Errno::NOTSUP | Errno::NOSYS) => Ok(None),
            Err(cause) => Err(refused(&path, "lock this file", cause)),
        }
    }

    /// Takes over the lock that another gate holds, and was handed over as `file`.
    ///
    /// # Errors
    /// [`StoreError::Storage`] if it is not the lock of this directory.
    pub fn lock_handed_over(&self, file: OwnedFd) -> Result<DirLock, StoreError> {
        let path = self.path().join(LOCK_FILE);
        let look = |cause: Errno| refused(&path, "look at this file", cause);
        let handed = rustix::fs::fstat(&file).map_err(look)?;
        let here = rustix::fs::statat(self.handle(), LOCK_FILE, AtFlags::SYMLINK_NOFOLLOW).map_err(look)?;
        if (handed.st_dev, handed.st_ino) != (here.st_dev, here.st_ino) {
            let hint = "the data directory of a gate cannot change while it runs: end it, and start it anew";
            return Err(wrong(&path, "is not the one that was handed over", hint));
        }
        let lock = DirLock(File::from(file));
        lock.sign();
        Ok(lock)
    }
}

/// Whether a gate that runs has the directory at `path`, and its process where that is known. Changes nothing.
#[must_use]
pub fn is_in_use(path: &Path) -> Option<Option<u32>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path.join(LOCK_FILE), flags, Mode::empty()).ok()?);
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(Errno::WOULDBLOCK) => Some(number(&file)),
        Ok(()) | Err(_) => None,
    }
}

impl DirLock {
    /// Writes down whose it is. For people alone, so a full disk does no harm.
    fn sign(&self) {
        let mut file = &self.0;
        let signed = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| writeln!(file, "{}", std::process::id()));
        drop(signed);
    }
}

impl AsFd for DirLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn number(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(LONGEST_NUMBER).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
