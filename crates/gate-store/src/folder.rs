//! Folders in the data directory, and files that are written piece by piece: for backups, what they leave out and put back.
//!
//! As everything here it goes through open directories and follows no link, because their owner may be less trusted than
//! the process.

use crate::data_dir::{DataDir, SETTINGS_FILE, Unfinished, is_known};
use crate::fault::{refused, wrong};
use crate::lock::LOCK_FILE;
use crate::schema::DATABASE_FILE;
use gate_keys::StoreError;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What was kept aside when a backup took its place.
pub const ASIDE: &str = "before-";
/// What came with a backup and has its place elsewhere.
pub const FROM_BACKUP: &str = "from-backup";
/// Folders in folders; a deeper one is none of ours.
const MOST_DEPTH: usize = 4;

/// What lies in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Whether it is a folder.
    pub is_folder: bool,
}

impl DataDir {
    /// A folder in this one; makes it where there is none, 0700.
    ///
    /// # Errors
    /// [`StoreError::Storage`] if `name` is no plain name, or is something else already.
    pub fn folder(&self, name: &str) -> Result<DataDir, StoreError> {
        let path = self.plain(name)?;
        let cause = |cause: Errno| refused(&path, "make this directory", cause);
        let made = match rustix::fs::mkdirat(self.handle(), name, Mode::from_raw_mode(0o700)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(cause(error)),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(self.handle(), name, flags, Mode::empty());
        let handle = handle.map_err(|error| refused(&path, "open this directory", error))?;
        let handle = File::from(handle);
        if made {
            self.give_to_owner(&handle).map_err(cause)?;
        }
        Ok(self.below(path, handle.into()))
    }

    /// What lies here, by name, without what only this system or process knows: links, pipes, sockets.
    ///
    /// # Errors
    /// [`StoreError::Storage`] if it cannot be listed, or there is far more than herdgate could have put there.
    pub fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        const MOST: usize = 4096;
        let cause = |cause: Errno| refused(self.path(), "list this directory", cause);
        let mut found = Vec::new();
        for entry in Dir::read_from(self.handle()).map_err(cause)? {
            let entry = entry.map_err(cause)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if matches!(name, "." | "..") {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => self.kind(name)?,
                kind => kind,
            };
            match kind {
                FileType::Directory => found.push(Entry { name: name.to_owned(), is_folder: true }),
                FileType::RegularFile => found.push(Entry { name: name.to_owned(), is_folder: false }),
                _ => {}
            }
            if found.len() > MOST {
                let hint = "name a directory of herdgate's own with --data";
                return Err(wrong(self.path(), "holds far more than herdgate puts there", hint));
            }
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    /// What belongs to a gate wherever it runs, beside its database: certificates, accounts, what it remembers. Paths below
    /// the directory.
    ///
    /// # Errors
    /// As [`DataDir::entries`].
    pub fn belongings(&self) -> Result<Vec<String>, StoreError> {
        let mut found = Vec::new();
        for entry in self.entries()?.into_iter().filter(|entry| belongs(&entry.name)) {
            if entry.is_folder {
                self.folder(&entry.name)?.gather(&entry.name, 1, &mut found)?;
            } else {
                found.push(entry.name);
            }
        }
        Ok(found)
    }

    fn gather(&self, below: &str, depth: usize, found: &mut Vec<String>) -> Result<(), StoreError> {
        for entry in self.entries()? {
            let path = format!("{below}/{}", entry.name);
            if !entry.is_folder {
                found.push(path);
            } else if depth < MOST_DEPTH {
                self.folder(&entry.name)?.gather(&path, depth + 1, found)?;
            }
        }
        Ok(())
    }

    /// What gives way to a backup: everything but what is too large to move about, and what was kept aside before.
    ///
    /// # Errors
    /// As [`DataDir::entries`].
    pub fn replaceable(&self) -> Result<Vec<String>, StoreError> {
        let stays = |name: &str| {
            matches!(name, "models" | "lost+found" | LOCK_FILE | SETTINGS_FILE)
                || name.starts_with(ASIDE)
                || name.starts_with('.')
        };
        let names = self.entries()?.into_iter().map(|entry| entry.name);
        Ok(names.filter(|name| !stays(name)).collect())
    }

    /// Opens a file at a path below the directory.
    ///
    /// # Errors
    /// [`StoreError::Storage`] if a part of it is a link or none is there.
    pub fn open_below(&self, path: &str) -> Result<File, StoreError> {
        match path.split_once('/') {
            Some((folder, rest)) => self.folder(folder)?.open_below(rest),
            None => {
                let gone = || wrong(&self.path().join(path), "is gone", "try again");
                Ok(self.open_regular(path)?.ok_or_else(gone)?.0)
            }
        }
    }

    /// Writes a private file at a path below the directory, with the folders on the way, and waits until it is on the disk.
    /// `from` is read to its end.
    ///
    /// # Errors
    /// [`StoreError::Storage`] if a part of the path is no plain name, or the file cannot be written.
    pub fn write_below(&self, path: &str, from: &mut dyn Read) -> Result<u64, StoreError> {
        if let Some((folder, rest)) = path.split_once('/') {
            return self.folder(folder)?.write_below(rest, from);
        }
        let full = self.plain(path)?;
        let unfinished = Unfinished::create(self, path)?;
        let written = unfinished.fill(from).map_err(|cause| refused(&full, "write this file", cause))?;
        unfinished.sync()?;
        unfinished.replace(path)?;
        Ok(written)
    }

    /// Moves what is called `name` to another folder of the same file system.
    ///
    /// # Errors
    /// [`StoreError::Storage`] if the system refuses.
    pub fn move_to(&self, name: &str, other: &DataDir) -> Result<(), StoreError> {
        let cause = |cause: Errno| refused(&self.path().join(name), "move this", cause);
        rustix::fs::renameat(self.handle(), name, other.handle(), name).map_err(cause)
    }

    /// Removes a folder with everything in it.
    ///
    /// # Errors
    /// [`StoreError::Storage`] if the system refuses.
    pub fn remove_folder(&self, name: &str) -> Result<(), StoreError> {
        let folder = self.folder(name)?;
        for entry in folder.entries()? {
            if entry.is_folder { folder.remove_folder(&entry.name)? } else { folder.remove(&entry.name)? }
        }
        let cause = |cause: Errno| refused(&self.path().join(name), "remove this directory", cause);
        rustix::fs::unlinkat(self.handle(), name, AtFlags::REMOVEDIR).map_err(cause)
    }

    /// Bytes that are free here for whoever runs this; `None` where the system does not say.
    #[must_use]
    pub fn room(&self) -> Option<u64> {
        let told = rustix::fs::fstatvfs(self.handle()).ok()?;
        Some(told.f_bavail.saturating_mul(told.f_frsize))
    }

    fn kind(&self, name: &str) -> Result<FileType, StoreError> {
        let stat = rustix::fs::statat(self.handle(), name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(|cause| refused(&self.path().join(name), "look at this file", cause))?;
        Ok(FileType::from_raw_mode(stat.st_mode))
    }

    fn plain(&self, name: &str) -> Result<PathBuf, StoreError> {
        let path = self.path().join(name);
        if is_plain_name(name) {
            return Ok(path);
        }
        Err(wrong(&path, "is no plain file name", "name a file in the data directory"))
    }
}

/// Whether this is one name, and not a path.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !(name.is_empty() || name.contains('/') || name == "." || name == "..")
}

/// Ours, and not the database with what belongs to it on this machine alone.
fn belongs(name: &str) -> bool {
    let is_database = name.starts_with(DATABASE_FILE);
    let is_here_alone =
        matches!(name, "models" | "lost+found" | LOCK_FILE | SETTINGS_FILE) || name.starts_with(ASIDE);
    is_known(name)
        && !is_database
        && !is_here_alone
        && !name.starts_with('.')
        && Path::new(name) != Path::new(FROM_BACKUP)
}

impl Unfinished<'_> {
    fn fill(&self, from: &mut dyn Read) -> io::Result<u64> {
        io::copy(from, &mut self.writer())
    }
}
