//! `herdgate backup`: one file from which a gate can be set up again, taken while it runs or not.
//!
//! Changes nothing: not the database's tables, nor who is asked for what. What cannot be had is told and left out; only what
//! a gate cannot do without makes it fail.

use crate::backup::models::Store;
use crate::backup::pack::{Pack, Target};
use crate::backup::place::plain;
use crate::backup::{About, CERTIFICATES, MOST_SMALL, Part, asked};
use crate::cli::EXIT_FAILURE;
use crate::progress::bytes;
use anyhow::{Context as _, ensure};
use clap::Args;
use gate_config::{Config, Loaded, Locations};
use gate_store::{DataDir, DatabaseCopy};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

/// Arguments of `herdgate backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// Where to: a name like gate.tar.zst, or - for standard output
    file: PathBuf,
    /// With the models of this machine's Ollama and of the engine
    #[arg(long)]
    models: bool,
    /// Ollama's store of models [default: local.models_dir, else OLLAMA_MODELS, else ~/.ollama/models, else that of its service]
    #[arg(long, value_name = "DIR")]
    models_dir: Option<PathBuf>,
}

/// Takes a backup of the data directory and the settings. Settings that are wrong are taken as they are.
pub(crate) fn run(
    args: &BackupArgs,
    places: &Locations,
    loaded: Option<&Loaded>,
    out: &mut dyn Write,
    talk: &mut dyn Write,
) -> u8 {
    let default = Config::default();
    let config = loaded.map_or(&default, |loaded| &loaded.config);
    let mut desk = Desk { args, places, config, notes: Vec::new() };
    match desk.take(out) {
        Ok(said) => {
            for note in desk.notes {
                let _closed = writeln!(talk, "note: {note}");
            }
            let _closed = writeln!(talk, "{said}");
            0
        }
        Err(error) => {
            // A closed standard error leaves the exit code to tell it.
            let _closed = writeln!(talk, "error: {error:#}{}", hint(&error, &args.file));
            EXIT_FAILURE
        }
    }
}

/// Which disk is full: what is written goes to two of them.
fn hint(error: &anyhow::Error, file: &Path) -> String {
    let is_full = |cause: &(dyn Error + 'static)| {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    };
    if format!("{error:#}").contains("\nhint: ") || !error.chain().any(is_full) {
        return String::new();
    }
    if file.as_os_str() == "-" {
        return "\nhint: make room where standard output goes".to_owned();
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    format!(
        "\nhint: nothing is left behind; make room on the disk of {}, or name a file on another",
        folder.display()
    )
}

struct Desk<'d> {
    args: &'d BackupArgs,
    places: &'d Locations,
    config: &'d Config,
    /// What is not in it, and why.
    notes: Vec<String>,
}

type Out<'p, 'o> = Pack<&'p mut Target<'o>>;

impl Desk<'_> {
    fn take(&mut self, out: &mut dyn Write) -> anyhow::Result<String> {
        let data = &self.places.data;
        let dir = DataDir::find(data).map_err(plain)?;
        let settings = self.settings()?;
        ensure!(
            dir.is_some() || settings.is_some(),
            "there is nothing to back up: no {}, and no settings file\nhint: name the gate's directory with --data, its settings with --config",
            data.display()
        );
        let copy = dir.as_ref().map(DatabaseCopy::of).transpose().map_err(plain)?.flatten();
        let mut target = Target::of(&self.args.file, out)?;
        let now = jiff::Timestamp::now();
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        let mut pack = Pack::begin(&mut target, seconds).context("cannot write the backup")?;
        let about = About {
            made: now.round(jiff::Unit::Second).unwrap_or(now).to_string(),
            herdgate: env!("CARGO_PKG_VERSION").to_owned(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            database: copy.as_ref().map(DatabaseCopy::facts),
            certificates: self.certificates().map(|path| path.display().to_string()).collect(),
        };
        pack.add_bytes(Part::About, format!("{:#}\n", about.to_json()).as_bytes())?;
        if let Some(copy) = &copy {
            let file = copy.open().map_err(plain)?;
            pack.add(Part::Database, file.metadata()?.len(), file)?;
        }
        if let Some(dir) = &dir {
            self.add_belongings(dir, &mut pack)?;
        }
        if let Some(settings) = &settings {
            pack.add_bytes(Part::Settings, settings)?;
        }
        self.add_certificates(&mut pack)?;
        self.add_models(dir.as_ref(), &mut pack)?;
        pack.finish()?;
        drop(copy);
        let length = target.publish()?;
        let keys = match about.database {
            Some(facts) => format!("{} key{}", facts.keys, if facts.keys == 1 { "" } else { "s" }),
            None => "no database of keys".to_owned(),
        };
        let with = if settings.is_some() { ", the settings" } else { "" };
        Ok(match length {
            Some(length) => format!(
                "{}: {}, {keys}{with}; whoever has it can pose as this gate, so keep it private",
                self.args.file.display(),
                bytes(length)
            ),
            None => format!("backup written: {keys}{with}"),
        })
    }

    /// The settings file, if there is one.
    fn settings(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(path) = &self.places.config else { return Ok(None) };
        match File::open(path) {
            Ok(file) => Ok(Some(small(file, path)?)),
            Err(cause)
                if cause.kind() == std::io::ErrorKind::NotFound && self.places.config_named.is_none() =>
            {
                Ok(None)
            }
            Err(cause) => Err(cause).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn add_belongings(&mut self, dir: &DataDir, pack: &mut Out<'_, '_>) -> anyhow::Result<()> {
        for path in dir.belongings().map_err(plain)? {
            let part = Part::Data(&path);
            let file = dir.open_below(&path).map_err(plain)?;
            let length = file.metadata()?.len();
            if Part::at(&part.path()) != Some(part) || length > part.most() {
                self.notes
                    .push(format!("{}/{path} is none of herdgate's files: left out", dir.path().display()));
                continue;
            }
            pack.add(part, length, file)?;
        }
        Ok(())
    }

    fn certificates(&self) -> impl Iterator<Item = &PathBuf> {
        self.config.tls.cert.iter().chain(&self.config.tls.key)
    }

    fn add_certificates(&mut self, pack: &mut Out<'_, '_>) -> anyhow::Result<()> {
        let mut notes = Vec::new();
        for (path, name) in self.certificates().zip(CERTIFICATES) {
            match File::open(path).map_err(anyhow::Error::from).and_then(|file| small(file, path)) {
                Ok(bytes) => {
                    pack.add_bytes(Part::Certificate(name.trim_start_matches("settings/")), &bytes)?
                }
                Err(error) => notes.push(format!("{}: {error:#}: left out", path.display())),
            }
        }
        self.notes.append(&mut notes);
        Ok(())
    }

    /// The list of models always, the models themselves where they are wanted. Blobs stand before what names them.
    fn add_models(&mut self, dir: Option<&DataDir>, pack: &mut Out<'_, '_>) -> anyhow::Result<()> {
        let named = self.args.models_dir.as_deref().or(self.config.local.models_dir.as_deref());
        let store = Store::place(named, |name| std::env::var_os(name));
        let (models, broken) = store.as_ref().map(Store::models).unwrap_or_default();
        let mut upstreams = asked::upstreams(self.config)?;
        if !self.config.upstreams_given {
            // Nobody said that there is one.
            upstreams.retain(|upstream| upstream.get("error").is_none());
        }
        for upstream in upstreams.iter().filter(|upstream| upstream.get("error").is_some()) {
            let text = |field: &str| upstream[field].as_str().unwrap_or_default().to_owned();
            self.notes.push(format!("{}: its models are not listed: {}", text("url"), text("error")));
        }
        let here = store.as_ref().filter(|_| !models.is_empty()).map(|store| {
            let models: Vec<Value> = models.iter().map(crate::backup::models::Model::to_json).collect();
            json!({"path": store.path().display().to_string(), "models": models})
        });
        let list = json!({"upstreams": upstreams, "here": here});
        pack.add_bytes(Part::Upstreams, format!("{list:#}\n").as_bytes())?;
        let Some(store) = store.filter(|_| self.args.models) else { return Ok(()) };
        if models.is_empty() {
            self.notes.push(format!("no model of Ollama in {}", store.path().display()));
        }
        self.notes.extend(broken.iter().map(|name| format!("{name} is not whole on this disk: left out")));
        let mut added = BTreeSet::new();
        for (digest, size) in models.iter().flat_map(|model| &model.blobs) {
            if added.insert(digest) {
                let file =
                    store.blob(digest).with_context(|| format!("the blob {digest} is gone; try again"))?;
                pack.add(Part::Blob(digest), *size, file)?;
            }
        }
        for model in &models {
            pack.add_bytes(Part::Manifest(&model.path), &model.manifest)?;
        }
        self.add_engine_models(dir, pack)
    }

    fn add_engine_models(&mut self, dir: Option<&DataDir>, pack: &mut Out<'_, '_>) -> anyhow::Result<()> {
        let Some(folder) = dir.map(|dir| dir.path().join("models")).filter(|folder| folder.is_dir()) else {
            return Ok(());
        };
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let part = Part::Engine(&name);
            if !name.ends_with(".gguf") || !entry.path().is_file() {
                continue;
            }
            if Part::at(&part.path()) != Some(part) {
                self.notes
                    .push(format!("{}: a name that a backup cannot hold: left out", entry.path().display()));
                continue;
            }
            let file = File::open(entry.path())
                .with_context(|| format!("cannot read {}", entry.path().display()))?;
            pack.add(part, file.metadata()?.len(), file)?;
        }
        Ok(())
    }
}

fn small(file: File, path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let cause = || format!("cannot read {}", path.display());
    file.take(MOST_SMALL + 1).read_to_end(&mut bytes).with_context(cause)?;
    ensure!(bytes.len() as u64 <= MOST_SMALL, "{} is longer than 1 MiB", path.display());
    Ok(bytes)
}
