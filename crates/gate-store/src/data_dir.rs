//! The data directory: 0700, every file in it 0600, all owned by whoever owns the directory.
//!
//! Root runs the command line for a service of another user, so everything here assumes that the directory's owner may be
//! less trusted than the process: files are reached through the open directory, links are never followed, and only files
//! that were just created, or that root itself left behind, change their owner. A directory that is not herdgate's own is
//! never tightened: `--data /tmp` must not close `/tmp`.

use crate::copy::BEFORE;
use crate::fault::{refused, wrong};
use crate::folder::{ASIDE, FROM_BACKUP, is_plain_name};
use crate::identity::ID_FILE;
use crate::lock::LOCK_FILE;
use crate::schema::DATABASE_FILE;
use gate_keys::StoreError;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where a first start leaves the key that it made.
pub const FIRST_KEY_FILE: &str = "first-key";
/// The certificate of the gate's own authority, where it has one: what clients are given to trust.
pub const TLS_CA_FILE: &str = "tls-ca.pem";
/// The account with an ACME authority, and what it said of late.
pub const ACME_FILE: &str = "acme.json";
/// The certificate that such an authority gave, and its private key.
pub const ACME_CERTIFICATE_FILE: &str = "acme-certificate.pem";
/// The private key of [`TLS_CA_FILE`].
pub const TLS_CA_KEY_FILE: &str = "tls-ca-key.pem";
/// The socket by which commands reach the gate that runs here.
pub const ADMIN_SOCKET: &str = "admin.sock";

/// The settings of a gate that was set up from a backup into a directory of its own.
pub(crate) const SETTINGS_FILE: &str = "herdgate.toml";

const OTHERS: u32 = 0o077;
const STICKY: u32 = 0o1000;
/// More files than herdgate could ever have put there; looking at them all would only make every command slow.
const MOST_ENTRIES: usize = 4096;

/// The open, checked data directory.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    handle: OwnedFd,
    owner: Uid,
    group: Gid,
    notes: Vec<String>,
}

impl DataDir {
    /// Opens the directory, and makes it if there is none: 0700, its parents as the system makes them. Modes that are too
    /// open are tightened, see [`DataDir::notes`].
    ///
    /// # Errors
    /// [`StoreError::Storage`] if `path` is no directory, belongs to another user, cannot be written, or is open to other
    /// users and holds files that are not herdgate's.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if let Some(found) = Self::find(path)? {
            return Ok(found);
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(|cause| refused(parent, "make this directory", cause))?;
        }
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => {
                Err(refused(path, "make this directory", cause))
            }
            // Another process may have made it in between; its mode is looked at like any other.
            _ => Self::find(path)?
                .ok_or_else(|| wrong(path, "is a link that leads nowhere", "remove the link")),
        }
    }

    /// The directory if it is there, with the checks and the tightening of [`DataDir::open`]; makes nothing. Every file in it
    /// is opened and closed, which takes away this process's locks on it (fcntl(2)): not while it has a database of the
    /// directory open.
    ///
    /// # Errors
    /// As [`DataDir::open`].
    pub fn find(path: &Path) -> Result<Option<Self>, StoreError> {
        let kind = match fs::metadata(path) {
            Ok(kind) => kind,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(refused(path, "look at this directory", cause)),
        };
        if !kind.is_dir() {
            let hint = "herdgate keeps its data in a directory: name one with --data";
            return Err(wrong(path, "is a file, not a directory", hint));
        }
        // The full path: SQLite is told to follow no link, and a service's directory may be reached through one.
        let mut dir = Self::anchor(path)?;
        let stat =
            rustix::fs::fstat(&dir.handle).map_err(|cause| refused(path, "look at this directory", cause))?;
        dir.tighten(stat.st_mode & 0o7777)?;
        Ok(Some(dir))
    }

    /// A directory that is there and not herdgate's alone, such as a store of models: its files are reached through it like
    /// those of the data directory, and its mode stays what it is.
    ///
    /// # Errors
    /// [`StoreError::Storage`] if it is none, belongs to another user, or cannot be written.
    pub fn anchor(path: &Path) -> Result<Self, StoreError> {
        let path = fs::canonicalize(path).map_err(|cause| refused(path, "look at this directory", cause))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |cause: Errno| refused(&path, "open this directory", cause);
        let handle = rustix::fs::open(&path, flags, Mode::empty()).map_err(open)?;
        let stat = rustix::fs::fstat(&handle).map_err(open)?;
        let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        let dir = DataDir { path, handle, owner, group, notes: Vec::new() };
        dir.check_access()?;
        Ok(dir)
    }

    /// The full path, without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was changed to make the directory private, one sentence each, for the operator.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Writes a file that nobody but the owner can read, whole or not at all: an old one stays until the new one is on
    /// disk. Gives back its full path.
    ///
    /// # Errors
    /// [`StoreError::Storage`] if `name` is no plain file name or the file cannot be written.
    pub fn write_private(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, StoreError> {
        let path = self.path.join(name);
        if !is_plain_name(name) {
            return Err(wrong(&path, "is no plain file name", "name a file in the data directory"));
        }
        let unfinished = Unfinished::create(self, name)?;
        unfinished.writer().write_all(bytes).map_err(|cause| refused(&path, "write this file", cause))?;
        unfinished.sync()?;
        unfinished.replace(name)?;
        Ok(path)
    }

    /// Reads a small file of the directory; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::Storage`] if it is a link, no regular file, larger than 64 KiB, not text, or cannot be read.
    pub fn read_private(&self, name: &str) -> Result<Option<gate_types::Secret>, StoreError> {
        use std::io::Read as _;
        const MOST: u64 = 64 * 1024;
        let path = self.path.join(name);
        let Some((file, _)) = self.open_regular(name)? else { return Ok(None) };
        let mut text = String::new();
        let read = file.take(MOST + 1).read_to_string(&mut text);
        let secret = gate_types::Secret::new(text);
        match read {
            Ok(length) if length as u64 <= MOST => Ok(Some(secret)),
            Ok(_) => Err(wrong(&path, "is larger than 64 KiB", "herdgate did not write this: move it away")),
            Err(cause) => Err(refused(&path, "read this file", cause)),
        }
    }

    /// Removes a file of the directory, if it is there.
    ///
    /// # Errors
    /// [`StoreError::Storage`] if the system refuses.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        match rustix::fs::unlinkat(&self.handle, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(cause) => Err(refused(&self.path.join(name), "remove this file", cause)),
        }
    }

    /// Opens a regular file for reading, through the directory and without following a link.
    pub(crate) fn open_regular(&self, name: &str) -> Result<Option<(File, Stat)>, StoreError> {
        let path = self.path.join(name);
        // NONBLOCK: opening a pipe that somebody put there must not wait.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let handle = match rustix::fs::openat(&self.handle, name, flags, Mode::empty()) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => {
                return Err(wrong(&path, "is a link", "herdgate follows no links here: move it away"));
            }
            Err(cause) => return Err(refused(&path, "open this file", cause)),
        };
        let stat = rustix::fs::fstat(&handle).map_err(|cause| refused(&path, "open this file", cause))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(wrong(&path, "is not a regular file", "herdgate did not make this: move it away"));
        }
        Ok(Some((File::from(handle), stat)))
    }

    fn check_access(&self) -> Result<(), StoreError> {
        let own = rustix::process::geteuid();
        if !own.is_root() && own != self.owner {
            let reason =
                format!("belongs to user {}, and this is user {}", self.owner.as_raw(), own.as_raw());
            let hint = "run as that user or as root, or name another directory with --data";
            return Err(wrong(&self.path, reason, hint));
        }
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        match rustix::fs::accessat(&self.handle, ".", access, AtFlags::EACCESS) {
            // Kernels before 5.8 cannot say; the first write will.
            Ok(()) | Err(Errno::NOSYS) => Ok(()),
            Err(cause) => Err(refused(&self.path, "write into this directory", cause)),
        }
    }

    fn tighten(&mut self, mode: u32) -> Result<(), StoreError> {
        let names = self.names()?;
        let ours = names.iter().any(|name| name == DATABASE_FILE) || names.iter().all(|name| is_known(name));
        if mode & OTHERS != 0 {
            if !ours || mode & STICKY != 0 {
                let reason = format!("is open to other users (mode {mode:04o}) and is not herdgate's alone");
                let hint = "name a directory of herdgate's own with --data, or close this one: chmod 700";
                return Err(wrong(&self.path, reason, hint));
            }
            let cause = |cause: Errno| refused(&self.path, "close this directory to other users", cause);
            rustix::fs::fchmod(&self.handle, Mode::from_raw_mode(0o700)).map_err(cause)?;
            self.notes
                .push(format!("{}: was open to others (mode {mode:04o}), now 0700", self.path.display()));
        }
        if ours {
            for name in names {
                self.tighten_file(&name);
            }
        }
        Ok(())
    }

    /// Best effort: what cannot be tightened lies behind a closed directory, and what cannot be read says so when it is
    /// needed.
    fn tighten_file(&mut self, name: &str) {
        let Ok(Some((file, stat))) = self.open_regular(name) else { return };
        let (mode, owner) = (stat.st_mode & 0o7777, Uid::from_raw(stat.st_uid));
        // A second name of the file may lie outside: then it is not ours to change.
        if stat.st_nlink != 1 || !(owner == self.owner || owner.is_root()) {
            return;
        }
        let path = self.path.join(name);
        let own = mode & 0o600;
        if mode & OTHERS != 0 && rustix::fs::fchmod(&file, Mode::from_raw_mode(own)).is_ok() {
            self.notes
                .push(format!("{}: was open to others (mode {mode:04o}), now {own:04o}", path.display()));
        }
        if owner != self.owner && is_known(name) && self.give_to_owner(&file).is_ok() {
            self.notes.push(format!("{}: now belongs to user {}", path.display(), self.owner.as_raw()));
        }
    }

    fn names(&self) -> Result<Vec<String>, StoreError> {
        let look = |cause: io::Error| refused(&self.path, "list this directory", cause);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(look)?.take(MOST_ENTRIES) {
            // A name that is not text is none of ours, and stays one that is not known.
            names.push(entry.map_err(look)?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    pub(crate) const fn handle(&self) -> &OwnedFd {
        &self.handle
    }

    /// The folder at `path`, inside of this one and open as `handle`: whoever owns this one owns it.
    pub(crate) const fn below(&self, path: PathBuf, handle: OwnedFd) -> DataDir {
        DataDir { path, handle, owner: self.owner, group: self.group, notes: Vec::new() }
    }

    pub(crate) fn give_to_owner(&self, file: &File) -> rustix::io::Result<()> {
        if rustix::process::geteuid().is_root() {
            rustix::fs::fchown(file, Some(self.owner), Some(self.group))?;
        }
        Ok(())
    }
}

/// What lies beside the database.
const OTHER_FILES: [&str; 7] =
    [FIRST_KEY_FILE, ID_FILE, TLS_CA_FILE, TLS_CA_KEY_FILE, ACME_FILE, ACME_CERTIFICATE_FILE, LOCK_FILE];

/// Whether a file of this name, beside the database, is one that a backup holds. Nothing else is ever restored: a log beside
/// the database, say, would be read as a part of it.
#[must_use]
pub fn is_in_backups(name: &str) -> bool {
    name != LOCK_FILE && OTHER_FILES.contains(&name)
}

/// Whether herdgate puts files of this name into its directory, or a file system does.
pub(crate) fn is_known(name: &str) -> bool {
    let after = |stem: &str| name.strip_prefix(stem);
    matches!(name, "models" | "lost+found" | FROM_BACKUP | ADMIN_SOCKET | SETTINGS_FILE)
        || name.starts_with(ASIDE)
        || after(DATABASE_FILE)
            .is_some_and(|rest| matches!(rest, "" | "-wal" | "-shm" | "-journal") || rest.starts_with(BEFORE))
        || OTHER_FILES.contains(&name)
        || after(".").is_some_and(|rest| {
            rest.starts_with(DATABASE_FILE) || OTHER_FILES.iter().any(|file| rest.starts_with(file))
        })
}

/// A private file under a name of its own that is gone when this is dropped, unless it was moved to its real name.
pub(crate) struct Unfinished<'d> {
    dir: &'d DataDir,
    name: String,
    file: File,
}

impl<'d> Unfinished<'d> {
    /// Creates `.<name>.<process>.<count>.tmp`, 0600, owned by the directory's owner.
    pub(crate) fn create(dir: &'d DataDir, name: &str) -> Result<Self, StoreError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".{name}.{}.{count}.tmp", std::process::id());
        let refused = |cause: Errno| refused(&dir.path.join(&name), "create this file", cause);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let private = Mode::from_raw_mode(0o600);
        // A dead process of the same number may have left one.
        let _none_as_a_rule = rustix::fs::unlinkat(&dir.handle, &name, AtFlags::empty());
        let file = File::from(rustix::fs::openat(&dir.handle, &name, flags, private).map_err(refused)?);
        let file = Unfinished { dir, name: name.clone(), file };
        rustix::fs::fchmod(&file.file, private).map_err(refused)?;
        dir.give_to_owner(&file.file).map_err(refused)?;
        Ok(file)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path.join(&self.name)
    }

    /// Waits until all that was written to it has reached the disk.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_all().map_err(|cause| refused(&self.path(), "write this file", cause))
    }

    pub(crate) const fn writer(&self) -> &File {
        &self.file
    }

    /// Gives the file its real name, whatever has it now.
    pub(crate) fn replace(&self, name: &str) -> Result<(), StoreError> {
        let handle = &self.dir.handle;
        let done = rustix::fs::renameat(handle, &self.name, handle, name);
        let done = done.and_then(|()| rustix::fs::fsync(handle));
        done.map_err(|cause| refused(&self.dir.path.join(name), "write this file", cause))
    }

    /// Gives the file its real name unless something has it already. Says whether it did.
    pub(crate) fn publish(&self, name: &str) -> Result<bool, StoreError> {
        let handle = &self.dir.handle;
        let done = match rustix::fs::linkat(handle, &self.name, handle, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            // File systems without hard links: the moment between looking and moving is theirs.
            Err(Errno::PERM | Errno::NOTSUP | Errno::NOSYS) => {
                match rustix::fs::statat(handle, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(_) => Ok(false),
                    Err(_) => rustix::fs::renameat(handle, &self.name, handle, name).map(|()| true),
                }
            }
            Err(cause) => Err(cause),
        };
        let done = done.and_then(|done| rustix::fs::fsync(handle).map(|()| done));
        done.map_err(|cause| refused(&self.dir.path.join(name), "create this file", cause))
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        // Gone already where it was renamed; else a name that a later start removes again.
        let _gone_already = rustix::fs::unlinkat(&self.dir.handle, &self.name, AtFlags::empty());
    }
}
