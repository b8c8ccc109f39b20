//! Reads an archive to its end and believes nothing: every name, kind, size and digest is looked at before anything is
//! written anywhere. Reading it a second time, to take the files out, goes through the same eyes.

use super::pack::Summed;
use super::{About, Part};
use anyhow::{Context as _, anyhow, bail, ensure};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};

/// Whatever is wrong with the bytes of an archive; damage and malice look alike.
const HINT: &str = "hint: nothing was changed; take another backup";

/// What is in a sound archive.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) about: About,
    /// Size and digest of each file, by its path.
    pub(crate) files: BTreeMap<String, (u64, String)>,
    /// The database, where it is small enough to be looked at in memory.
    pub(crate) database: Option<Vec<u8>>,
}

/// A database up to here is looked at before anything is written: a million keys.
const LOOKED_AT: u64 = 256 << 20;

impl Contents {
    /// All of `archive`, checked.
    ///
    /// # Errors
    /// In words, with what is wrong with it.
    pub(crate) fn of(archive: &mut File) -> anyhow::Result<Self> {
        let mut about = None;
        let mut database = None;
        let mut sums = None;
        let mut files = BTreeMap::new();
        each(archive, |path, part, size, from| {
            ensure!(sums.is_none(), "it goes on behind its end");
            ensure!(part == Part::About || about.is_some(), "it does not say what it is");
            let mut from = Summed::new(from);
            match part {
                Part::About => {
                    let bytes = all(&mut from, size)?;
                    about = Some(About::read(&bytes).map_err(|why| anyhow!(why))?);
                }
                Part::Sums => sums = Some(all(&mut from, size)?),
                Part::Database if size <= LOOKED_AT => database = Some(all(&mut from, size)?),
                _ => drop(std::io::copy(&mut from, &mut std::io::sink()).context("it ends too early")?),
            }
            let (sum, read) = from.finish();
            ensure!(read == size, "it ends too early");
            if part != Part::Sums {
                ensure!(files.insert(path.to_owned(), (size, sum)).is_none(), "{path} is in it twice");
            }
            Ok(())
        })?;
        let sums = sums.context("it ends too early").context(HINT_OUTER)?;
        compare(&sums, &files).context(HINT_OUTER)?;
        let about = about.context("it does not say what it is").context(HINT_OUTER)?;
        Ok(Contents { about, files, database })
    }

    /// Bytes of all files of which `wanted` is true.
    pub(crate) fn size(&self, wanted: impl Fn(Part<'_>) -> bool) -> u64 {
        let sizes = self.files.iter().filter(|(path, _)| Part::at(path).is_some_and(&wanted));
        sizes.fold(0, |sum, (_, (size, _))| sum.saturating_add(*size))
    }

    /// How many files there are of which `wanted` is true.
    pub(crate) fn count(&self, wanted: impl Fn(Part<'_>) -> bool) -> usize {
        self.files.keys().filter(|path| Part::at(path).is_some_and(&wanted)).count()
    }

    /// Goes through the archive once more and hands each file to `take`. What is read to its end there is what was found
    /// before, or the reading fails.
    ///
    /// # Errors
    /// What `take` reports, and where the archive is another than before.
    pub(crate) fn take_out(
        &self,
        archive: &mut File,
        mut take: impl FnMut(Part<'_>, &mut dyn Read) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        each(archive, |path, part, _, from| {
            if matches!(part, Part::About | Part::Sums | Part::Upstreams) {
                return Ok(());
            }
            let (_, known) = self.files.get(path).with_context(changed)?;
            take(part, &mut Verified { from: Summed::new(from), known })
        })
    }
}

fn changed() -> String {
    "it changed while it was read".to_owned()
}

/// A reader that does not end where its bytes were not the known ones.
struct Verified<'k, R> {
    from: Summed<R>,
    known: &'k str,
}

impl<R: Read> Read for Verified<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        if read == 0 && !buffer.is_empty() && self.from.sum() != self.known {
            return Err(io::Error::new(io::ErrorKind::InvalidData, changed()));
        }
        Ok(read)
    }
}

/// The context of whatever is wrong with the archive itself.
const HINT_OUTER: &str = "this is no sound backup";

/// Shows every file of the archive to `see`.
fn each(
    archive: &mut File,
    mut see: impl FnMut(&str, Part<'_>, u64, &mut dyn Read) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut go = || {
        archive.seek(SeekFrom::Start(0)).context("it cannot be read")?;
        let plain = zstd::Decoder::new(BufReader::with_capacity(1 << 16, &*archive));
        let mut tar = tar::Archive::new(plain.context("it cannot be read")?);
        // Raw: whatever stands for a long name, a link or a hole comes as what it is, and is refused.
        let entries = tar.entries().context("it cannot be read")?.raw(true);
        for (count, entry) in entries.enumerate() {
            ensure!(count < super::MOST_FILES, "it holds more files than any backup");
            let mut entry = entry.map_err(|cause| anyhow!("it cannot be read: {cause}"))?;
            let header = entry.header();
            ensure!(
                header.entry_type() == tar::EntryType::Regular,
                "it holds something that is no plain file"
            );
            let path = entry.path_bytes().into_owned();
            let Ok(path) = String::from_utf8(path) else { bail!("it holds a file whose name is no text") };
            let Some(part) = Part::at(&path) else {
                bail!("it holds a file that no backup has: {}", path.escape_default());
            };
            let size = entry.size();
            ensure!(size <= part.most(), "{path} is larger than it can be");
            see(&path, part, size, &mut entry)?;
        }
        Ok(())
    };
    go().context(HINT_OUTER)
}

/// Not more than `size`, which is bounded.
fn all(from: &mut dyn Read, size: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(size).read_to_end(&mut bytes).map_err(|cause| anyhow!("it ends too early: {cause}"))?;
    Ok(bytes)
}

/// Whether the list of digests names exactly what was found.
fn compare(sums: &[u8], files: &BTreeMap<String, (u64, String)>) -> anyhow::Result<()> {
    let text = std::str::from_utf8(sums).context("its list of digests is no text")?;
    let mut listed = BTreeMap::new();
    for line in text.lines() {
        let (sum, below) = line.split_once("  ").context("its list of digests cannot be read")?;
        listed.insert(format!("{}{below}", super::ROOT), sum);
    }
    for (path, (_, sum)) in files {
        match listed.remove(path) {
            Some(known) if known == sum => {}
            Some(_) => bail!("{path} is damaged"),
            None => bail!("{path} is not on its list"),
        }
    }
    listed.into_keys().next().map_or(Ok(()), |path| bail!("{} is missing", path.escape_default()))
}

/// The error with what to do about it.
pub(crate) fn hinted(error: anyhow::Error) -> anyhow::Error {
    anyhow!("{error:#}\n{HINT}")
}
