//! Backups: one file with everything that makes a gate this gate, and the way back from it.
//!
//! A backup is a tar archive in zstd, so that whoever has no herdgate can open it, too; `SHA256SUMS`, its last file, can be
//! checked with `sha256sum -c`. Nothing that is not named here comes out of an archive: no link, no path of its own
//! choosing, nothing longer than its kind may be.

pub(crate) mod asked;
pub(crate) mod check;
pub(crate) mod models;
pub(crate) mod pack;
pub(crate) mod place;

use serde_json::{Value, json};

/// Of the archive's shape. Another number is another shape.
pub(crate) const FORMAT: u64 = 1;
/// The one folder that an archive holds.
const ROOT: &str = "herdgate-backup/";
/// The first file: what it is a backup of.
pub(crate) const ABOUT: &str = "about.json";
/// Which models each upstream had.
pub(crate) const UPSTREAMS: &str = "upstreams.json";
/// The last file: the SHA-256 digest of every other.
pub(crate) const SUMS: &str = "SHA256SUMS";
/// The settings file, whatever its name was.
pub(crate) const SETTINGS: &str = "settings/herdgate.toml";
/// The certificate and its key that the settings name, whatever their names were.
pub(crate) const CERTIFICATES: [&str; 2] = ["settings/tls-cert.pem", "settings/tls-key.pem"];
const DATA: &str = "data/";
const MANIFESTS: &str = "ollama/manifests/";
const BLOBS: &str = "ollama/blobs/sha256-";
const ENGINE: &str = "engine/";

/// Files in one archive.
const MOST_FILES: usize = 65_536;
/// Bytes of a file of text or keys.
pub(crate) const MOST_SMALL: u64 = 1 << 20;
/// Bytes of the list of sums, and of the list of models.
const MOST_LIST: u64 = 16 << 20;
/// Bytes of a database: some ten million keys.
const MOST_DATABASE: u64 = 16 << 30;
/// Bytes of one file of a model.
const MOST_MODEL: u64 = 4 << 40;
const MOST_PARTS: usize = 6;

/// What a file in an archive is, by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'p> {
    /// What the archive is.
    About,
    /// Which models each upstream had.
    Upstreams,
    /// The digests.
    Sums,
    /// The database of keys.
    Database,
    /// A file of the data directory, by its path there.
    Data(&'p str),
    /// The settings file.
    Settings,
    /// A file that the settings name, by the name that it gets.
    Certificate(&'p str),
    /// Which blobs make a model of Ollama, by its path in the store.
    Manifest(&'p str),
    /// A blob of Ollama's store, by its digest.
    Blob(&'p str),
    /// A model of the engine, by its file name.
    Engine(&'p str),
}

impl<'p> Part<'p> {
    /// What lies at `path`, if anything of a backup does.
    pub(crate) fn at(path: &'p str) -> Option<Self> {
        let path = path.strip_prefix(ROOT)?;
        match path {
            ABOUT => return Some(Part::About),
            UPSTREAMS => return Some(Part::Upstreams),
            SUMS => return Some(Part::Sums),
            SETTINGS => return Some(Part::Settings),
            _ => {}
        }
        if !is_tame(path) {
            return None;
        }
        if CERTIFICATES.contains(&path) {
            return path.strip_prefix("settings/").map(Part::Certificate);
        }
        if let Some(data) = path.strip_prefix(DATA) {
            return if data == gate_store::DATABASE_FILE {
                Some(Part::Database)
            } else {
                gate_store::is_in_backups(data).then_some(Part::Data(data))
            };
        }
        if let Some(manifest) = path.strip_prefix(MANIFESTS) {
            return Some(Part::Manifest(manifest));
        }
        if let Some(digest) = path.strip_prefix(BLOBS) {
            return models::is_digest(digest).then_some(Part::Blob(digest));
        }
        let engine = path.strip_prefix(ENGINE)?;
        (!engine.contains('/')).then_some(Part::Engine(engine))
    }

    /// Where it lies in an archive.
    pub(crate) fn path(self) -> String {
        let below = match self {
            Part::About => ABOUT.to_owned(),
            Part::Upstreams => UPSTREAMS.to_owned(),
            Part::Sums => SUMS.to_owned(),
            Part::Database => format!("{DATA}{}", gate_store::DATABASE_FILE),
            Part::Data(path) => format!("{DATA}{path}"),
            Part::Settings => SETTINGS.to_owned(),
            Part::Certificate(name) => format!("settings/{name}"),
            Part::Manifest(path) => format!("{MANIFESTS}{path}"),
            Part::Blob(digest) => format!("{BLOBS}{digest}"),
            Part::Engine(name) => format!("{ENGINE}{name}"),
        };
        format!("{ROOT}{below}")
    }

    /// Bytes that it may have.
    pub(crate) const fn most(self) -> u64 {
        match self {
            Part::About | Part::Data(_) | Part::Settings | Part::Certificate(_) | Part::Manifest(_) => {
                MOST_SMALL
            }
            Part::Upstreams | Part::Sums => MOST_LIST,
            Part::Database => MOST_DATABASE,
            Part::Blob(_) | Part::Engine(_) => MOST_MODEL,
        }
    }
}

/// Whether each part of a path is a name that means nothing but itself on any file system.
fn is_tame(path: &str) -> bool {
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+:@".contains(&byte);
    let is_name = |name: &str| !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_sign);
    path.split('/').all(is_name) && path.split('/').count() <= MOST_PARTS
}

/// What an archive says it is, in its first file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct About {
    /// When it was begun (RFC 3339).
    pub(crate) made: String,
    /// By which herdgate.
    pub(crate) herdgate: String,
    /// On which machine.
    pub(crate) host: String,
    /// Of the database; none where there was none.
    pub(crate) database: Option<gate_store::DatabaseFacts>,
    /// Where the certificate of the settings lay, and its key.
    pub(crate) certificates: Vec<String>,
}

impl About {
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "format": FORMAT,
            "made": self.made,
            "herdgate": self.herdgate,
            "host": self.host,
            "database": self.database.map(|facts| json!({"version": facts.version, "keys": facts.keys})),
            "certificates": self.certificates,
        })
    }

    /// Reads it, as far as this herdgate understands it. What it says is shown, so nothing but plain text comes in.
    ///
    /// # Errors
    /// In words, where it is none, or of another format.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let said: Value =
            serde_json::from_slice(bytes).map_err(|_| "it does not say what it is".to_owned())?;
        match said["format"].as_u64() {
            Some(FORMAT) => {}
            Some(other) if other > FORMAT => {
                return Err(format!(
                    "it comes from a newer herdgate (format {other}, this one knows {FORMAT})"
                ));
            }
            _ => return Err("it does not say what it is".to_owned()),
        }
        let plain = |text: &Value| -> String {
            let text = text.as_str().unwrap_or_default().chars();
            text.filter(|sign| !sign.is_control()).take(256).collect()
        };
        let certificates = said["certificates"].as_array().into_iter().flatten().take(2).map(plain).collect();
        let database = said["database"].as_object().map(|facts| gate_store::DatabaseFacts {
            version: facts.get("version").and_then(Value::as_i64).unwrap_or_default(),
            keys: facts.get("keys").and_then(Value::as_u64).unwrap_or_default(),
        });
        let (made, herdgate, host) = (plain(&said["made"]), plain(&said["herdgate"]), plain(&said["host"]));
        Ok(About { made, herdgate, host, database, certificates })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_found_where_it_is_put() {
        let digest = "a".repeat(64);
        for part in [
            Part::About,
            Part::Upstreams,
            Part::Sums,
            Part::Database,
            Part::Data("store-id"),
            Part::Data("acme.json"),
            Part::Settings,
            Part::Certificate("tls-key.pem"),
            Part::Manifest("registry.ollama.ai/library/qwen3/8b"),
            Part::Blob(&digest),
            Part::Engine("my-model.Q4_K_M.gguf"),
        ] {
            assert_eq!(Part::at(&part.path()), Some(part));
        }
    }

    #[test]
    fn no_path_leads_anywhere_else() {
        for path in [
            "",
            "herdgate-backup/data/herdgate.db-wal",
            "herdgate-backup/data/gate.lock",
            "herdgate-backup/data/admin.sock",
            "herdgate-backup/data/store-id/x",
            "/etc/passwd",
            "about.json",
            "herdgate-backup",
            "herdgate-backup/",
            "herdgate-backup/data/",
            "herdgate-backup/data/../x",
            "herdgate-backup/data/..",
            "herdgate-backup/data//x",
            "herdgate-backup/data/./x",
            "herdgate-backup/data/.hidden",
            "herdgate-backup//data/x",
            "herdgate-backup/data/a\0b",
            "herdgate-backup/data/a\nb",
            "herdgate-backup/data/a\\b",
            "herdgate-backup/data/a/b/c/d/e/f",
            "herdgate-backup/settings/other",
            "herdgate-backup/ollama/blobs/sha256-short",
            "herdgate-backup/ollama/blobs/sha256-../../../x",
            "herdgate-backup/engine/a/b",
            "herdgate-backup/other",
            "../herdgate-backup/data/x",
        ] {
            assert_eq!(Part::at(path), None, "{path:?}");
        }
    }

    #[test]
    fn what_it_says_of_itself_is_read_back_and_harmless() {
        let about = About {
            made: "2026-11-21T12:00:00Z".into(),
            herdgate: "0.1.0".into(),
            host: "gpu".into(),
            database: Some(gate_store::DatabaseFacts { version: 2, keys: 7 }),
            certificates: vec!["/etc/x.pem".into()],
        };
        assert_eq!(About::read(about.to_json().to_string().as_bytes()), Ok(about));
        let hostile = About::read(br#"{"format":1,"host":"\u001b[2Jx"}"#).unwrap();
        assert_eq!(hostile.host, "[2Jx");
        assert!(About::read(br#"{"format":9}"#).unwrap_err().contains("newer herdgate (format 9"));
        assert!(About::read(b"{}").is_err() && About::read(b"x").is_err());
    }
}
