//! Writes an archive: each file with its digest, the list of them at the end. Under another name until it is whole.

use super::Part;
use anyhow::{Context as _, ensure};
use gate_keys::hex;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Fast, and most of what can be won; the files of models win nothing.
const LEVEL: i32 = 3;

/// An archive that is being written to `W`.
pub(crate) struct Pack<W: Write> {
    tar: tar::Builder<zstd::Encoder<'static, W>>,
    sums: String,
    /// Seconds since 1970, of every file in it.
    now: u64,
    files: usize,
}

impl<W: Write> Pack<W> {
    /// Begins one at the moment `now`.
    pub(crate) fn begin(to: W, now: u64) -> io::Result<Self> {
        let mut encoder = zstd::Encoder::new(to, LEVEL)?;
        encoder.include_checksum(true)?;
        Ok(Self { tar: tar::Builder::new(encoder), sums: String::new(), now, files: 0 })
    }

    /// Adds `size` bytes.
    ///
    /// # Errors
    /// Where there are fewer, or the archive cannot be written.
    pub(crate) fn add(&mut self, part: Part<'_>, size: u64, from: impl Read) -> anyhow::Result<()> {
        let path = part.path();
        let outside = || anyhow::anyhow!("{path}: a name or size that a backup cannot hold");
        ensure!(
            Part::at(&path) == Some(part) && size <= part.most() && self.files < super::MOST_FILES,
            outside()
        );
        let mut header = tar::Header::new_ustar();
        header.set_path(&path).map_err(|_too_long| outside())?;
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o600);
        header.set_mtime(self.now);
        header.set_size(size);
        header.set_cksum();
        let mut summed = Summed::new(from.take(size));
        self.tar.append(&header, &mut summed).context("cannot write the backup")?;
        let (sum, read) = summed.finish();
        ensure!(read == size, "{path}: it became shorter while it was read; try again");
        let below = path.strip_prefix(super::ROOT).unwrap_or(&path);
        let _infallible = writeln!(self.sums, "{sum}  {below}");
        self.files += 1;
        Ok(())
    }

    /// Adds what is in memory.
    ///
    /// # Errors
    /// As [`Pack::add`].
    pub(crate) fn add_bytes(&mut self, part: Part<'_>, bytes: &[u8]) -> anyhow::Result<()> {
        self.add(part, bytes.len() as u64, bytes)
    }

    /// Writes the list of digests and the end.
    ///
    /// # Errors
    /// Where the archive cannot be written.
    pub(crate) fn finish(mut self) -> anyhow::Result<W> {
        let sums = std::mem::take(&mut self.sums);
        self.add_bytes(Part::Sums, sums.as_bytes())?;
        let encoder = self.tar.into_inner().context("cannot write the backup")?;
        encoder.finish().context("cannot write the backup")
    }
}

/// Passes on what it reads, and takes its digest.
pub(crate) struct Summed<R> {
    from: R,
    sum: Sha256,
    read: u64,
}

impl<R: Read> Summed<R> {
    pub(crate) fn new(from: R) -> Self {
        Self { from, sum: Sha256::new(), read: 0 }
    }

    /// The digest of what came so far, in hex.
    pub(crate) fn sum(&self) -> String {
        hex(&self.sum.clone().finalize())
    }

    /// The digest in hex, and how many bytes there were.
    pub(crate) fn finish(self) -> (String, u64) {
        (hex(&self.sum.finalize()), self.read)
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.sum.update(&buffer[..read]);
        self.read += read as u64;
        Ok(read)
    }
}

/// Where a backup goes: a file that has another name until it is whole, and is nobody else's to read; or standard output.
pub(crate) enum Target<'o> {
    Stream(&'o mut dyn Write),
    File { file: BufWriter<File>, unfinished: Unfinished, path: PathBuf },
}

/// A name that is gone when this is dropped.
pub(crate) struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Gone already where it has its real name.
        let _gone_already = fs::remove_file(&self.0);
    }
}

impl<'o> Target<'o> {
    /// `-` is `out`.
    ///
    /// # Errors
    /// Where no file can be made beside `path`.
    pub(crate) fn of(path: &Path, out: &'o mut dyn Write) -> anyhow::Result<Self> {
        if path.as_os_str() == "-" {
            return Ok(Target::Stream(out));
        }
        let name =
            path.file_name().context("the backup needs a file name\nhint: herdgate backup gate.tar.zst")?;
        ensure!(!path.is_dir(), "{} is a directory\nhint: name a file in it", path.display());
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.tmp", std::process::id()));
        let unfinished = path.with_file_name(hidden);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished);
        let file = file.with_context(|| format!("cannot write beside {}", path.display()))?;
        let file = BufWriter::with_capacity(1 << 16, file);
        Ok(Target::File { file, unfinished: Unfinished(unfinished), path: path.to_owned() })
    }

    /// It is whole: it is on the disk, and has its name, when this returns.
    ///
    /// # Errors
    /// Where the system refuses.
    pub(crate) fn publish(self) -> anyhow::Result<Option<u64>> {
        match self {
            Target::Stream(out) => out.flush().map(|()| None).context("cannot write the backup"),
            Target::File { file, unfinished, path } => {
                let cause = || format!("cannot write {}", path.display());
                let file = file.into_inner().map_err(io::IntoInnerError::into_error).with_context(cause)?;
                file.sync_all().with_context(cause)?;
                let length = file.metadata().with_context(cause)?.len();
                fs::rename(&unfinished.0, &path).with_context(cause)?;
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                // Some file systems cannot do this for a directory; the file itself is safe.
                let _best_effort =
                    File::open(folder.unwrap_or(Path::new("."))).and_then(|dir| dir.sync_all());
                Ok(Some(length))
            }
        }
    }
}

impl Write for Target<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Target::Stream(out) => out.write(bytes),
            Target::File { file, .. } => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Target::Stream(out) => out.flush(),
            Target::File { file, .. } => file.flush(),
        }
    }
}
