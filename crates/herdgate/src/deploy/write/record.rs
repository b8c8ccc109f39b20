//! What `--undo` goes by: which files were written, what was there before, and which commands belong to it. A file of its own and
//! the kept contents beside it, in a folder that only its owner may read.

use super::Kept;
use crate::deploy::Act;
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::path::{Component, Path, PathBuf};

/// Of its shape.
const FORMAT: u64 = 1;

/// What was done by one kind of deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) entries: Vec<Entry>,
    /// Folders that were made for them, outermost first.
    pub(crate) folders: Vec<PathBuf>,
    pub(crate) before_undo: Vec<Act>,
    pub(crate) after_undo: Vec<Act>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    /// What was there before the first time.
    pub(crate) was: Option<Kept>,
    /// The digest of what was written last.
    pub(crate) wrote: String,
    /// Only a part of the file is the deployment's.
    pub(crate) is_block: bool,
    /// Others write to it as well: what they changed is theirs, and stays.
    pub(crate) is_new: bool,
}

impl Record {
    pub(crate) fn entry(&self, path: &Path) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.path == path)
    }

    /// Whether there is nothing to take back.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.folders.is_empty()
    }

    /// As text; the contents of files are named by their digests ([`Record::contents`]).
    pub(crate) fn to_json(&self) -> String {
        let kept = |kept: &Kept| json!({ "mode": kept.mode, "owner": kept.owner.map(|(user, group)| [user, group]), "saved": digest(&kept.bytes) });
        let entry = |entry: &Entry| {
            json!({
                "path": entry.path.to_string_lossy(),
                "was": entry.was.as_ref().map(kept),
                "wrote": entry.wrote,
                "block": entry.is_block,
                "new": entry.is_new,
            })
        };
        let acts = |acts: &[Act]| acts.iter().map(|act| json!(act.0)).collect::<Vec<_>>();
        let record = json!({
            "format": FORMAT,
            "files": self.entries.iter().map(entry).collect::<Vec<_>>(),
            "folders": self.folders.iter().map(|folder| folder.to_string_lossy()).collect::<Vec<_>>(),
            "before_undo": acts(&self.before_undo),
            "after_undo": acts(&self.after_undo),
        });
        format!("{record:#}\n")
    }

    /// What must be saved beside it, by its digest.
    pub(crate) fn contents(&self) -> impl Iterator<Item = (String, &[u8])> {
        let was = self.entries.iter().filter_map(|entry| entry.was.as_ref());
        was.map(|kept| (digest(&kept.bytes), kept.bytes.as_slice()))
    }

    /// Reads it back. `saved` gives the content of a digest.
    ///
    /// # Errors
    /// Where it is none, or what it names is not there.
    pub(crate) fn read(text: &str, saved: impl Fn(&str) -> std::io::Result<Vec<u8>>) -> anyhow::Result<Self> {
        let record: Value = serde_json::from_str(text)?;
        if record["format"].as_u64() != Some(FORMAT) {
            bail!("it was written by another version of herdgate");
        }
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a text is missing");
        let number = |value: &Value| {
            value.as_u64().and_then(|number| u32::try_from(number).ok()).context("a number is missing")
        };
        let kept = |value: &Value| -> anyhow::Result<Option<Kept>> {
            if value.is_null() {
                return Ok(None);
            }
            let owner = list(&value["owner"]).iter().map(number).collect::<Result<Vec<_>, _>>()?;
            let owner = <[u32; 2]>::try_from(owner).ok().map(|[user, group]| (user, group));
            let name = text(&value["saved"])?;
            let bytes = saved(&name).with_context(|| format!("what was kept as {name}"))?;
            if digest(&bytes) != name {
                bail!("what was kept as {name} has been changed");
            }
            Ok(Some(Kept { bytes, mode: number(&value["mode"])?, owner }))
        };
        let entry = |value: &Value| -> anyhow::Result<Entry> {
            let path = PathBuf::from(text(&value["path"])?);
            if path.components().any(|part| part == Component::ParentDir) {
                bail!("{} leads out of its folder", path.display());
            }
            Ok(Entry {
                path,
                was: kept(&value["was"])?,
                wrote: text(&value["wrote"])?,
                is_block: value["block"].as_bool().unwrap_or_default(),
                is_new: value["new"].as_bool().unwrap_or_default(),
            })
        };
        let act = |value: &Value| -> anyhow::Result<Act> {
            Ok(Act(list(value).iter().map(text).collect::<Result<_, _>>()?))
        };
        Ok(Record {
            entries: list(&record["files"]).iter().map(entry).collect::<Result<_, _>>()?,
            folders: list(&record["folders"])
                .iter()
                .map(|folder| text(folder).map(PathBuf::from))
                .collect::<Result<_, _>>()?,
            before_undo: list(&record["before_undo"]).iter().map(act).collect::<Result<_, _>>()?,
            after_undo: list(&record["after_undo"]).iter().map(act).collect::<Result<_, _>>()?,
        })
    }
}

/// SHA-256 in hexadecimal digits.
pub(crate) fn digest(bytes: &[u8]) -> String {
    gate_keys::hex(&Sha256::digest(bytes))
}
