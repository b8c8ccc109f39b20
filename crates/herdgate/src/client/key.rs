//! The key that a command shows to a gate: from a file that only its owner may read, else from the environment.

use anyhow::{Context as _, anyhow, bail};
use gate_types::Secret;
use http::HeaderValue;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::Path;

/// Where a key is put.
pub(super) const WHERE: &str =
    "put the key into the variable HERDGATE_KEY, or into a file of your own: --key-file FILE";
/// Bytes of a file with a key in it.
const LONGEST: u64 = 4096;
/// Fields in which a credential may stand: what a program sends there is for another server than the gate.
pub(super) const CREDENTIALS: [&str; 5] =
    ["authorization", "proxy-authorization", "x-api-key", "api-key", "cookie"];

/// The field's value with the key: that of the file where one is named, else that of `HERDGATE_KEY`.
pub(super) fn bearer(file: Option<&Path>) -> anyhow::Result<HeaderValue> {
    let key = match file {
        Some(file) => of_file(file)?,
        None => match std::env::var("HERDGATE_KEY").map(Secret::new) {
            Ok(key) if !key.expose().trim().is_empty() => key,
            Ok(_) | Err(std::env::VarError::NotPresent) => {
                bail!("there is no key for the gate\nhint: {WHERE}")
            }
            Err(std::env::VarError::NotUnicode(_)) => bail!("HERDGATE_KEY is not UTF-8\nhint: {WHERE}"),
        },
    };
    let text = key.expose().trim();
    if text.bytes().any(|byte| !byte.is_ascii_graphic()) {
        bail!("the key has blanks or other characters that no key has\nhint: it is one word, like sk-hg-…");
    }
    let bearer = Secret::new(format!("Bearer {text}"));
    let mut value =
        HeaderValue::from_str(bearer.expose()).map_err(|_| anyhow!("the key can stand in no field"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn of_file(path: &Path) -> anyhow::Result<Secret> {
    let named = || format!("--key-file {}", path.display());
    let file = File::open(path).with_context(named)?;
    // Of the file that was opened: another may lie there by now.
    let meta = file.metadata().with_context(named)?;
    if is_open_to_others(&meta) {
        bail!("{}: others may read it\nhint: chmod 600 {}", named(), path.display());
    }
    let text = Secret::new(String::from_utf8(short(file, LONGEST).with_context(named)?).with_context(named)?);
    if text.expose().trim().is_empty() {
        bail!("{}: is empty\nhint: {WHERE}", named());
    }
    Ok(text)
}

#[cfg(unix)]
fn is_open_to_others(meta: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    meta.mode() & 0o077 != 0
}

/// Elsewhere rights are lists that lie in the owner's profile, not bits that one forgets.
#[cfg(not(unix))]
fn is_open_to_others(_meta: &Metadata) -> bool {
    false
}

/// Reads a file of at most so many bytes.
pub(super) fn read_short(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    short(File::open(path)?, most)
}

fn short(file: File, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(std::io::Error::other("it is far too long for that"));
    }
    Ok(bytes)
}
