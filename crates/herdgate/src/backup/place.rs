//! Puts what a backup holds where it belongs. The data directory first gets all of it under another name; only when that is
//! whole and on the disk does it take the place of what was there, which is kept aside; the settings after it.

use super::Part;
use super::check::Contents;
use super::models::Store;
use crate::progress::bytes;
use anyhow::{Context as _, anyhow, ensure};
use gate_store::{ASIDE, DATABASE_FILE, DataDir, FROM_BACKUP};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Where everything is to go.
#[derive(Debug)]
pub(crate) struct Places {
    /// The data directory.
    pub(crate) data: PathBuf,
    /// The settings file of this machine; none where there is no place for one.
    pub(crate) settings: Option<PathBuf>,
    /// Ollama's store.
    pub(crate) models: Option<Store>,
    /// What is there gives way, and is kept aside.
    pub(crate) replaces: bool,
    /// A word for this moment, for names.
    pub(crate) stamp: String,
}

/// What becomes of the settings of the backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ForSettings {
    /// There are none.
    None,
    /// They are what is there.
    AreThere(PathBuf),
    /// They become the settings of this machine.
    Become(PathBuf),
    /// The same, and those that are there get this name.
    Replace(PathBuf, PathBuf),
    /// Others are there, and stay.
    LieBeside(PathBuf),
}

impl Places {
    /// The name that the old data directory's files get a folder of.
    pub(crate) fn aside(&self) -> String {
        format!("{ASIDE}{}", self.stamp)
    }

    /// Decides about the settings, which are `restored` in the backup.
    pub(crate) fn for_settings(&self, restored: Option<&[u8]>) -> ForSettings {
        let Some(restored) = restored else { return ForSettings::None };
        let beside = || ForSettings::LieBeside(self.data.join(FROM_BACKUP).join("herdgate.toml"));
        let Some(path) = self.settings.clone() else { return beside() };
        match fs::read(&path) {
            Ok(there) if there == restored => ForSettings::AreThere(path),
            // Nobody needs to keep an empty file.
            Ok(there) if there.is_empty() => ForSettings::Become(path),
            Ok(_) if self.replaces => {
                let mut old = path.clone().into_os_string();
                old.push(format!(".{}", self.aside()));
                ForSettings::Replace(path, old.into())
            }
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => ForSettings::Become(path),
            Ok(_) | Err(_) => beside(),
        }
    }

    /// Takes everything out of the archive. `dir` is locked by the caller.
    ///
    /// # Errors
    /// In words; what was there before is still there, or aside.
    pub(crate) fn fill(
        &self,
        dir: &DataDir,
        contents: &Contents,
        settings: &ForSettings,
        archive: &mut File,
    ) -> anyhow::Result<()> {
        self.check_room(dir, contents)?;
        let name = format!(".restore-{}", std::process::id());
        // A dead process of the same number may have left one.
        if dir.folder(&name).and_then(|folder| folder.entries()).map_err(plain)?.is_empty() {
            dir.remove_folder(&name).map_err(plain)?;
        }
        let staged = dir.folder(&name).map_err(plain)?;
        let store = self.store(contents)?;
        let mut new = None;
        let taken = contents.take_out(archive, |part, from| match (part, settings) {
            (Part::Settings, ForSettings::Become(path)) => {
                new = Some(NewSettings::stage(path, None, from)?);
                Ok(())
            }
            (Part::Settings, ForSettings::Replace(path, old)) => {
                new = Some(NewSettings::stage(path, Some(old), from)?);
                Ok(())
            }
            _ => self.take(part, from, &staged, store.as_ref(), settings),
        });
        let exchanged = taken.and_then(|()| self.exchange(dir, &staged));
        // Last: without the data that they belong to they would be another gate's.
        let placed = exchanged.and_then(|()| new.take().map_or(Ok(()), NewSettings::place));
        let cleared = dir.remove_folder(&name).map_err(plain);
        placed.and(cleared)
    }

    /// The open folder of Ollama's store, where the backup has something for it.
    fn store(&self, contents: &Contents) -> anyhow::Result<Option<DataDir>> {
        if contents.count(is_ollamas) == 0 {
            return Ok(None);
        }
        let store = self.models.as_ref().context(
            "the backup holds models, and there is no place for them\nhint: name one with --models-dir DIR",
        )?;
        fs::create_dir_all(store.path())
            .with_context(|| format!("cannot make {}", store.path().display()))?;
        DataDir::anchor(store.path()).map(Some).map_err(plain)
    }

    fn take(
        &self,
        part: Part<'_>,
        from: &mut dyn Read,
        staged: &DataDir,
        store: Option<&DataDir>,
        settings: &ForSettings,
    ) -> anyhow::Result<()> {
        let put = |dir: &DataDir, path: &str, from: &mut dyn Read| {
            dir.write_below(path, from).map(drop).map_err(plain)
        };
        match (part, store) {
            (Part::About | Part::Sums | Part::Upstreams, _) => Ok(()),
            (Part::Database, _) => put(staged, DATABASE_FILE, from),
            (Part::Data(path), _) => put(staged, path, from),
            (Part::Certificate(name), _) => put(staged, &format!("{FROM_BACKUP}/{name}"), from),
            (Part::Settings, _) => match settings {
                ForSettings::LieBeside(_) => put(staged, &format!("{FROM_BACKUP}/herdgate.toml"), from),
                // The others are staged where they will be.
                _ => Ok(()),
            },
            (Part::Engine(name), _) => {
                let is_there = self.data.join("models").join(name).exists();
                if is_there { Ok(()) } else { put(staged, &format!("models/{name}"), from) }
            }
            (Part::Blob(digest), Some(store)) => {
                self.take_model(&format!("blobs/sha256-{digest}"), store, from)
            }
            (Part::Manifest(path), Some(store)) => self.take_model(&format!("manifests/{path}"), store, from),
            (Part::Blob(_) | Part::Manifest(_), None) => Ok(()),
        }
    }

    /// What Ollama has already stays: of a digest it is the same, and a model of the same name may be newer.
    fn take_model(&self, path: &str, store: &DataDir, from: &mut dyn Read) -> anyhow::Result<()> {
        if store.path().join(path).exists() {
            return Ok(());
        }
        store.write_below(path, from).map(drop).map_err(plain)
    }

    /// What is there goes aside, what was staged takes its place: the database last, so that a gate which is started
    /// in between finds none rather than half of two.
    fn exchange(&self, dir: &DataDir, staged: &DataDir) -> anyhow::Result<()> {
        let old = dir.replaceable().map_err(plain)?;
        if !old.is_empty() {
            ensure!(self.replaces, "{} is no longer empty\nhint: try again", dir.path().display());
            let aside = dir.folder(&self.aside()).map_err(plain)?;
            let (last, first): (Vec<_>, Vec<_>) = old.iter().partition(|name| *name != DATABASE_FILE);
            for name in first.into_iter().chain(last) {
                dir.move_to(name, &aside).map_err(plain)?;
            }
        }
        let new = staged.entries().map_err(plain)?;
        for entry in new.iter().filter(|entry| !matches!(&*entry.name, DATABASE_FILE | "models")) {
            staged.move_to(&entry.name, dir).map_err(plain)?;
        }
        for name in new.iter().map(|entry| &*entry.name) {
            match name {
                DATABASE_FILE => staged.move_to(name, dir).map_err(plain)?,
                "models" => {
                    let (from, to) = (staged.folder(name).map_err(plain)?, dir.folder(name).map_err(plain)?);
                    for model in from.entries().map_err(plain)? {
                        from.move_to(&model.name, &to).map_err(plain)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_room(&self, dir: &DataDir, contents: &Contents) -> anyhow::Result<()> {
        let store = self.models.as_ref().and_then(|store| DataDir::anchor(store.path()).ok());
        for (place, needed) in [
            (Some(dir), contents.size(|part| !is_ollamas(part))),
            (store.as_ref(), contents.size(is_ollamas)),
        ] {
            let Some((place, room)) = place.and_then(|place| Some((place, place.room()?))) else { continue };
            if room < needed {
                return Err(anyhow!(
                    "{} has room for {}, and the backup needs {}\nhint: make room, or name another directory",
                    place.path().display(),
                    bytes(room),
                    bytes(needed)
                ));
            }
        }
        Ok(())
    }
}

/// Whether it goes into Ollama's store.
pub(crate) const fn is_ollamas(part: Part<'_>) -> bool {
    matches!(part, Part::Blob(_) | Part::Manifest(_))
}

/// A settings file that is written and on the disk beside its place. Dropped, it is gone.
struct NewSettings<'p> {
    hidden: PathBuf,
    path: &'p Path,
    /// The name that the one there gets.
    old: Option<&'p Path>,
}

impl<'p> NewSettings<'p> {
    /// For its owner alone: it may hold secrets.
    fn stage(path: &'p Path, old: Option<&'p PathBuf>, from: &mut dyn Read) -> anyhow::Result<Self> {
        let cause = || format!("cannot write {}", path.display());
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).with_context(cause)?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).with_context(cause)?;
        }
        // A name with a dot: in the data directory it is none of those that give way.
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}.tmp", std::process::id()));
        let hidden = path.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&hidden);
        let mut file = file.with_context(cause)?;
        let staged = Self { hidden, path, old: old.map(PathBuf::as_path) };
        file.write_all(&bytes).and_then(|()| file.sync_all()).with_context(cause)?;
        Ok(staged)
    }

    fn place(self) -> anyhow::Result<()> {
        let cause =
            || format!("everything but the settings is restored: cannot write {}", self.path.display());
        if let Some(old) = self.old {
            fs::rename(self.path, old).with_context(cause)?;
        }
        let placed = fs::rename(&self.hidden, self.path);
        if let (Err(_), Some(old)) = (&placed, self.old) {
            // What failed is told; that this fails as well is seen by the name of what is there.
            let _back = fs::rename(old, self.path);
        }
        placed.with_context(cause)
    }
}

impl Drop for NewSettings<'_> {
    fn drop(&mut self) {
        // In its place it has this name no longer.
        let _gone = fs::remove_file(&self.hidden);
    }
}

/// The store's error with its hint.
pub(crate) fn plain(error: gate_keys::StoreError) -> anyhow::Error {
    match error.hint() {
        Some(hint) => anyhow!("{error}\nhint: {hint}"),
        None => anyhow!("{error}"),
    }
}
