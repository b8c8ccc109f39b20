//! `--write` and `--undo`: what is there and what should be become a [`Plan`], which is shown, asked about and carried out.
//!
//! Planning is pure (`look` says what lies at a path); [`disk`] does the rest. What was there before the first `--write` is in the
//! [`Record`], and stays there however often more is written: `--undo` always leads back to it. Never writes through a link, and
//! throws nothing away.

pub(crate) mod disk;
mod record;
#[cfg(test)]
mod tests;

pub(crate) use record::{Entry, Record, digest};

use super::{Deployment, Made, Way};
use anyhow::bail;
use similar::TextDiff;
use std::io;
use std::path::{Path, PathBuf};

/// A file as it is, was, or shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) bytes: Vec<u8>,
    pub(crate) mode: u32,
    /// User and group; none: of whoever writes it.
    pub(crate) owner: Option<(u32, u32)>,
}

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    File(Kept),
    /// Something that nobody wants replaced: a folder, a link.
    Other(&'static str),
}

/// A file of others is where a new one should be, and stays as it is.
#[derive(Debug, thiserror::Error)]
#[error(
    "nothing was written: {} is there already, and not as `herdgate deploy {kind}` wrote it\n\
     hint: put into it by hand what the command prints without --write, or move it away first",
    path.display()
)]
pub(crate) struct Foreign {
    path: PathBuf,
    kind: &'static str,
}

/// One change of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) path: PathBuf,
    pub(crate) is: Option<Kept>,
    /// None: it goes.
    pub(crate) shall: Option<Kept>,
}

/// All changes, and what must be remembered of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) record: Record,
    /// What the person who is asked should know.
    pub(crate) notes: Vec<String>,
}

/// What tells the part of a file that is the deployment's.
fn marks(kind: &str) -> (String, String) {
    (format!("# BEGIN herdgate deploy {kind}\n"), format!("# END herdgate deploy {kind}\n"))
}

/// From what there is to the deployment.
///
/// # Errors
/// Where something is in the way.
pub(crate) fn plan(
    deployment: &Deployment,
    before: &Record,
    look: impl Fn(&Path) -> io::Result<Found>,
) -> anyhow::Result<Plan> {
    let (mut steps, mut entries) = (Vec::new(), Vec::new());
    for made in &deployment.files {
        let is = present(&made.path, look(&made.path))?;
        let known = before.entry(&made.path);
        let bytes = match made.way {
            Way::Block => with_block(is.as_ref(), deployment.kind, &made.text),
            Way::Whole | Way::Sole | Way::New => made.text.clone().into_bytes(),
        };
        if let Some(is) = is.as_ref().filter(|is| is.bytes != bytes) {
            may_change(made, is, known, deployment.kind)?;
        }
        let mode = match (&is, made.way) {
            // A part that only its owner may read closes what stands around it.
            (Some(is), Way::Block) if made.mode & 0o077 == 0 => is.mode & !0o077,
            (Some(is), Way::Block | Way::New) => is.mode,
            (None, Way::Block | Way::New) | (_, Way::Whole | Way::Sole) => made.mode,
        };
        let shall = Kept { mode, owner: is.as_ref().and_then(|is| is.owner), bytes };
        let is_right = is.as_ref() == Some(&shall);
        // What was right before anything was written is somebody else's, and is left to them by an undo.
        if known.is_some() || !is_right {
            let was = known.map_or_else(|| is.clone(), |known| known.was.clone());
            let (is_block, is_new) = (made.way == Way::Block, made.way == Way::New);
            let (path, wrote) = (made.path.clone(), digest(&shall.bytes));
            entries.push(Entry { path, was, wrote, is_block, is_new });
        }
        if !is_right {
            steps.push(Step { path: made.path.clone(), is, shall: Some(shall) });
        }
    }
    let mut notes = Vec::new();
    // What an earlier deployment of this kind had and this one has not.
    for entry in &before.entries {
        if !deployment.files.iter().any(|made| made.path == entry.path) {
            steps.extend(back(entry, deployment.kind, &look, &mut notes)?);
        }
    }
    let record = Record {
        entries,
        folders: before.folders.clone(),
        before_undo: deployment.before_undo.clone(),
        after_undo: deployment.after_undo.clone(),
    };
    Ok(Plan { steps, record, notes })
}

/// Whether a file with something else in it may become this one.
fn may_change(made: &Made, is: &Kept, known: Option<&Entry>, kind: &'static str) -> anyhow::Result<()> {
    let path = &made.path;
    match (made.way, known) {
        (Way::Sole, None) => bail!(
            "{} is there already, and what it says is needed\nhint: put what this command prints into it by hand",
            path.display()
        ),
        (Way::New, Some(known)) if known.wrote == digest(&is.bytes) => Ok(()),
        (Way::New, _) => Err(Foreign { path: path.clone(), kind }.into()),
        (Way::Sole, Some(_)) | (Way::Block | Way::Whole, _) => Ok(()),
    }
}

/// Back to what was there before the first deployment.
///
/// # Errors
/// Where something is in the way.
pub(crate) fn plan_back(
    kind: &str,
    before: &Record,
    look: impl Fn(&Path) -> io::Result<Found>,
) -> anyhow::Result<Plan> {
    let (mut steps, mut notes) = (Vec::new(), Vec::new());
    for entry in before.entries.iter().rev() {
        steps.extend(back(entry, kind, &look, &mut notes)?);
    }
    Ok(Plan { steps, record: Record::default(), notes })
}

fn back(
    entry: &Entry,
    kind: &str,
    look: &impl Fn(&Path) -> io::Result<Found>,
    notes: &mut Vec<String>,
) -> anyhow::Result<Option<Step>> {
    let is = present(&entry.path, look(&entry.path))?;
    let is_as_written = is.as_ref().is_none_or(|is| digest(&is.bytes) == entry.wrote);
    if entry.is_new && !is_as_written {
        notes.push(format!(
            "{} was changed since it was written: it is left as it is, for whoever changed it",
            entry.path.display()
        ));
        return Ok(None);
    }
    let shall = match &is {
        Some(is) if entry.is_block => rest_of(is, entry, kind),
        Some(_) | None => entry.was.clone(),
    };
    if !is_as_written && !entry.is_block && is != shall {
        notes.push(format!("{} was changed since it was written: the change is lost", entry.path.display()));
    }
    Ok((is != shall).then(|| Step { path: entry.path.clone(), is, shall }))
}

/// A shared file without our part. Whatever else was changed in it since is somebody's, another kind's part too.
fn rest_of(is: &Kept, entry: &Entry, kind: &str) -> Option<Kept> {
    let rest = without_block(&is.bytes, kind);
    let bare = |bytes: &[u8]| bytes.strip_suffix(b"\n").unwrap_or(bytes).to_vec();
    match &entry.was {
        None if rest.is_empty() => None,
        // To the byte: a last line without its break got one.
        Some(was) if bare(&without_block(&was.bytes, kind)) == bare(&rest) => Some(was.clone()),
        Some(_) | None => Some(Kept { bytes: rest, ..is.clone() }),
    }
}

fn present(path: &Path, found: io::Result<Found>) -> anyhow::Result<Option<Kept>> {
    match found {
        Ok(Found::Nothing) => Ok(None),
        Ok(Found::File(kept)) => Ok(Some(kept)),
        Ok(Found::Other(what)) => {
            bail!("{} is {what}, no file\nhint: move it out of the way first", path.display())
        }
        Err(error) => bail!("cannot read {}: {error}", path.display()),
    }
}

/// The file with the block in it: in the place of one that is there, else at its end.
fn with_block(is: Option<&Kept>, kind: &str, text: &str) -> Vec<u8> {
    let (begin, end) = marks(kind);
    let mut bytes = is.map_or_else(Vec::new, |is| is.bytes.clone());
    let block = [begin.as_bytes(), text.as_bytes(), end.as_bytes()].concat();
    match block_in(&bytes, kind) {
        Some(range) => drop(bytes.splice(range, block)),
        None => {
            if bytes.last().is_some_and(|last| *last != b'\n') {
                bytes.push(b'\n');
            }
            bytes.extend(block);
        }
    }
    bytes
}

fn without_block(bytes: &[u8], kind: &str) -> Vec<u8> {
    match block_in(bytes, kind) {
        Some(range) => [&bytes[..range.start], &bytes[range.end..]].concat(),
        None => bytes.to_vec(),
    }
}

/// Where the block is, from the first mark to behind the last.
fn block_in(bytes: &[u8], kind: &str) -> Option<std::ops::Range<usize>> {
    let (begin, end) = marks(kind);
    let find = |from: usize, mark: &[u8]| {
        bytes[from..].windows(mark.len()).position(|part| part == mark).map(|at| from + at)
    };
    let start = find(0, begin.as_bytes())?;
    Some(start..find(start, end.as_bytes())? + end.len())
}

impl Plan {
    /// The difference that it makes, as `diff -u` shows one.
    pub(crate) fn difference(&self) -> String {
        self.steps.iter().map(Step::difference).collect()
    }
}

impl Step {
    fn difference(&self) -> String {
        let text = |kept: &Option<Kept>| {
            kept.as_ref().map_or_else(String::new, |kept| String::from_utf8_lossy(&kept.bytes).into_owned())
        };
        let path = self.path.display().to_string();
        let name = |kept: &Option<Kept>| if kept.is_some() { path.clone() } else { "/dev/null".to_owned() };
        let (is, shall) = (text(&self.is), text(&self.shall));
        let changed = TextDiff::from_lines(&is, &shall)
            .unified_diff()
            .header(&name(&self.is), &name(&self.shall))
            .to_string();
        match (&self.is, &self.shall) {
            (Some(is), Some(shall)) if is.mode != shall.mode => {
                format!("{path}: mode {:o} becomes {:o}\n{changed}", is.mode, shall.mode)
            }
            (Some(_), None) if changed.is_empty() => format!("{path}: removed (it is empty)\n"),
            (None, Some(_)) if changed.is_empty() => format!("{path}: made (empty)\n"),
            (Some(is), Some(shall)) if is.owner != shall.owner => {
                format!("{path}: the owner changes\n{changed}")
            }
            _ => changed,
        }
    }
}
