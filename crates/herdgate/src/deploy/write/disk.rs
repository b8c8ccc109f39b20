//! Carries a [`Plan`] out. The record is on the disk before the first file is touched, each file is replaced in one step, and
//! what fails half-way is taken back by the same `--undo` as what did not.

use super::{Found, Kept, Plan, Record, Step, present};
use crate::deploy::{Base, Made, Way};
use anyhow::{Context as _, bail, ensure};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Longest file that is looked at: what is longer is no configuration.
const MOST: u64 = 16 << 20;
const RECORD: &str = "record.json";

/// Where files go, and where it is remembered.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    root: PathBuf,
    folder: PathBuf,
    /// Somebody named the root.
    is_tree: bool,
}

impl Disk {
    /// Below `root` where there is one, else below `/`, the working directory or the home directory.
    ///
    /// # Errors
    /// Where nobody knows the home directory.
    pub(crate) fn new(kind: &str, base: Base, root: Option<&Path>) -> anyhow::Result<Self> {
        let is_tree = root.is_some();
        let (root, folder) = match (root, base) {
            (Some(root), Base::System) => (root.to_owned(), root.join("var/lib/herdgate-deploy")),
            (Some(root), Base::Here | Base::Home) => (root.to_owned(), root.join(".herdgate-deploy")),
            (None, Base::System) => ("/".into(), "/var/lib/herdgate-deploy".into()),
            (None, Base::Here) => (PathBuf::new(), ".herdgate-deploy".into()),
            (None, Base::Home) => {
                let home = std::env::home_dir().filter(|home| home.is_absolute());
                let home =
                    home.context("there is no home directory\nhint: set HOME, or name one: --root DIR")?;
                (home.clone(), home.join(".herdgate-deploy"))
            }
        };
        Ok(Disk { root, folder: folder.join(kind.replace(' ', "-")), is_tree })
    }

    /// Where what was there before is kept.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn leads_out(&self, path: &Path) -> bool {
        let below = path.ancestors().skip(1).take_while(|folder| **folder != self.root);
        below.into_iter().any(Path::is_symlink)
    }

    fn at(&self, path: &Path) -> PathBuf {
        let below = path.strip_prefix("/").or_else(|_| path.strip_prefix("~"));
        self.root.join(below.unwrap_or(path))
    }

    /// What lies at a path of a deployment.
    ///
    /// # Errors
    /// As the system says.
    pub(crate) fn look(&self, path: &Path) -> io::Result<Found> {
        // A tree for an image may be a stranger's, and a link in it lead out to this machine.
        if self.is_tree && (self.leads_out(&self.at(path)) || self.leads_out(&self.folder)) {
            return Ok(Found::Other("below a folder that is a link"));
        }
        let path = self.at(path);
        let about = match fs::symlink_metadata(&path) {
            Ok(about) => about,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        };
        if about.is_dir() {
            return Ok(Found::Other("a folder"));
        } else if about.is_symlink() {
            return Ok(Found::Other("a link"));
        } else if !about.is_file() {
            return Ok(Found::Other("a device, a pipe or a socket"));
        } else if about.len() > MOST {
            return Ok(Found::Other("far too long"));
        }
        let bytes = fs::read(&path)?;
        Ok(Found::File(Kept { bytes, mode: about.mode() & 0o7777, owner: Some((about.uid(), about.gid())) }))
    }

    /// What was done here before; empty where nothing was.
    ///
    /// # Errors
    /// Where it cannot be read or is damaged.
    pub(crate) fn record(&self) -> anyhow::Result<Record> {
        let file = self.folder.join(RECORD);
        let told = || format!("cannot read {}", file.display());
        // Opened once, and judged and read as what it is: whoever may rename it cannot put another in its place in between.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = match rustix::fs::open(&self.folder, flags, Mode::empty()) {
            Ok(folder) => File::from(folder),
            Err(Errno::NOENT) => return Ok(Record::default()),
            Err(error) => return Err(error).with_context(told),
        };
        // It says what is written and run: only who may do that anyway is believed.
        let about = folder.metadata()?;
        let own = rustix::process::geteuid().as_raw();
        if ![own, 0].contains(&about.uid()) || about.mode() & 0o022 != 0 {
            bail!(
                "{} is not yours alone: what was done by it is not believed\nhint: undo it as its owner, or remove it",
                self.folder.display()
            );
        }
        let text = match read_in(&folder, RECORD) {
            Ok(bytes) => String::from_utf8(bytes).with_context(told)?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Record::default()),
            Err(error) => return Err(error).with_context(told),
        };
        Record::read(&text, |name| read_in(&folder, name)).with_context(|| file.display().to_string())
    }

    /// The other kind that has one of these files as its own, with the file. What is a marked part of each may be several kinds'.
    ///
    /// # Errors
    /// Where a record cannot be read or is damaged.
    pub(crate) fn taken(&self, files: &[Made]) -> anyhow::Result<Option<(String, PathBuf)>> {
        let Some(kinds) = self.folder.parent() else { return Ok(None) };
        let entries = match fs::read_dir(kinds) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", kinds.display())),
        };
        for entry in entries {
            let folder = entry?.path();
            if folder == self.folder || !folder.is_dir() {
                continue;
            }
            let other = Disk { folder: folder.clone(), ..self.clone() }.record()?;
            let held = |made: &&Made| {
                other.entry(&made.path).is_some_and(|entry| !(entry.is_block && made.way == Way::Block))
            };
            if let Some(made) = files.iter().find(held) {
                let kind = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                return Ok(Some((kind, made.path.clone())));
            }
        }
        Ok(None)
    }

    /// Does what the plan says.
    ///
    /// # Errors
    /// As the system says; what was done by then is in the record.
    pub(crate) fn carry_out(&self, plan: &Plan, before: &Record) -> anyhow::Result<()> {
        let mut record = plan.record.clone();
        for step in plan.steps.iter().filter(|step| step.shall.is_some()) {
            self.missing_folders(&step.path, &mut record.folders);
        }
        // What is taken back is remembered until it is.
        let taken_back = before.entries.iter().filter(|entry| record.entry(&entry.path).is_none());
        let mut meanwhile = record.clone();
        meanwhile.entries.extend(taken_back.cloned().collect::<Vec<_>>());
        if !meanwhile.is_empty() {
            self.remember(&meanwhile)?;
        }
        for folder in &record.folders {
            let folder = self.at(folder);
            match fs::DirBuilder::new().mode(0o755).create(&folder) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("cannot make {}", folder.display())),
            }
        }
        for step in &plan.steps {
            let path = self.at(&step.path);
            // Whoever was asked took their time.
            let is = present(&step.path, self.look(&step.path))?;
            ensure!(is == step.is, "{} was changed meanwhile: it was left as it is", path.display());
            self.change(step, &path).with_context(|| format!("cannot change {}", path.display()))?;
        }
        if record.is_empty() { Ok(()) } else { self.remember(&record) }
    }

    /// Forgets all of it, with the folders that were made for it and are empty.
    ///
    /// # Errors
    /// As the system says.
    pub(crate) fn forget(&self, before: &Record) -> anyhow::Result<()> {
        for folder in before.folders.iter().rev() {
            // One that others use by now stays.
            let _in_use = fs::remove_dir(self.at(folder));
        }
        match fs::remove_dir_all(&self.folder) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot remove {}", self.folder.display()));
            }
        }
        if let Some(parent) = self.folder.parent() {
            let _other_kinds = fs::remove_dir(parent);
        }
        Ok(())
    }

    fn missing_folders(&self, path: &Path, folders: &mut Vec<PathBuf>) {
        let mut missing: Vec<PathBuf> = path
            .ancestors()
            .skip(1)
            .take_while(|folder| !folder.as_os_str().is_empty() && !self.at(folder).exists())
            .map(Path::to_owned)
            .filter(|folder| !folders.contains(folder))
            .collect();
        missing.reverse();
        folders.extend(missing);
    }

    fn remember(&self, record: &Record) -> anyhow::Result<()> {
        let told = || format!("cannot write {}", self.folder.display());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).with_context(told)?;
        for (name, bytes) in record.contents() {
            replace(&self.folder.join(name), bytes, 0o600, None).with_context(told)?;
        }
        replace(&self.folder.join(RECORD), record.to_json().as_bytes(), 0o600, None).with_context(told)
    }

    fn change(&self, step: &Step, path: &Path) -> io::Result<()> {
        match &step.shall {
            Some(Kept { bytes, mode, owner }) => replace(path, bytes, *mode, *owner),
            None => fs::remove_file(path),
        }
    }
}

/// A plain file of a folder that is open already.
fn read_in(folder: &File, name: &str) -> io::Result<Vec<u8>> {
    if name.contains('/') {
        return Err(ErrorKind::InvalidInput.into());
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A new file in the place of the old one, in one step: who reads it sees one or the other.
fn replace(path: &Path, bytes: &[u8], mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.herdgate-new"));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let filled = fill(&mut file, bytes, mode, owner).and_then(|()| fs::rename(&new, path));
    if filled.is_err() {
        let _gone = fs::remove_file(&new);
    }
    filled
}

fn fill(file: &mut File, bytes: &[u8], mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    file.write_all(bytes)?;
    if let Some((user, group)) = owner
        && rustix::process::geteuid().is_root()
    {
        rustix::fs::fchown(&*file, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
    }
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}
