//! Ollama's store of models as it lies on the disk: manifests by name, blobs by digest. Read without Ollama, which may be
//! at work on it meanwhile; a blob never changes, and what a manifest needs is taken with it or the model is left out.

use gate_keys::hex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Models that are looked at.
const MOST: usize = 16_384;
/// Host, namespace, model, tag.
const DEPTH: usize = 4;
/// What Ollama's own installer for Linux makes the home of its service.
const SERVICE: &str = "/usr/share/ollama/.ollama/models";

/// The store in a folder.
#[derive(Debug, Clone)]
pub(crate) struct Store(PathBuf);

/// A model in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    /// As Ollama lists it.
    pub(crate) name: String,
    /// Its manifest's path below `manifests`.
    pub(crate) path: String,
    pub(crate) manifest: Vec<u8>,
    /// Size of each of its blobs, by digest.
    pub(crate) blobs: BTreeMap<String, u64>,
}

/// Whether it is a SHA-256 digest as file names have it.
pub(crate) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Store {
    /// Where this machine's Ollama keeps its models: `named`, `OLLAMA_MODELS`, the user's, the service's. The first of the
    /// last two that is there; the user's where neither is.
    pub(crate) fn place(named: Option<&Path>, variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(named) = named.map(Path::to_path_buf).or_else(|| given("OLLAMA_MODELS")) {
            return Some(Store(named));
        }
        let own = given("HOME").map(|home| home.join(".ollama/models"));
        let service = PathBuf::from(SERVICE);
        match own {
            Some(own) if own.is_dir() || !service.is_dir() => Some(Store(own)),
            _ => service.is_dir().then_some(Store(service)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Every whole model, by name; and the names of those of which a part is missing.
    pub(crate) fn models(&self) -> (Vec<Model>, Vec<String>) {
        let mut paths = Vec::new();
        gather(&self.0.join("manifests"), "", 1, &mut paths);
        let (mut whole, mut broken) = (Vec::new(), Vec::new());
        for path in paths {
            match self.model(&path) {
                Some(model) => whole.push(model),
                None => broken.push(name(&path)),
            }
        }
        (whole, broken)
    }

    /// Opens a blob.
    pub(crate) fn blob(&self, digest: &str) -> std::io::Result<File> {
        File::open(self.0.join("blobs").join(format!("sha256-{digest}")))
    }

    fn model(&self, path: &str) -> Option<Model> {
        let file = self.0.join("manifests").join(path);
        let meta = fs::metadata(&file).ok()?;
        let is_small = meta.is_file() && meta.len() <= super::MOST_SMALL;
        let manifest = if is_small { fs::read(&file).ok()? } else { return None };
        let said: Value = serde_json::from_slice(&manifest).ok()?;
        let layers = said["layers"].as_array().into_iter().flatten();
        let mut blobs = BTreeMap::new();
        for layer in layers.chain(std::iter::once(&said["config"])) {
            let digest =
                layer["digest"].as_str()?.strip_prefix("sha256:").filter(|digest| is_digest(digest))?;
            let size = self.blob(digest).ok()?.metadata().ok()?.len();
            // A layer of another length is being written, or is broken.
            if layer["size"].as_u64().is_some_and(|told| told != size) {
                return None;
            }
            blobs.insert(digest.to_owned(), size);
        }
        Some(Model { name: name(path), path: path.to_owned(), manifest, blobs })
    }
}

impl Model {
    pub(crate) fn size(&self) -> u64 {
        self.blobs.values().sum()
    }

    /// As Ollama's own list tells of it.
    pub(crate) fn to_json(&self) -> Value {
        json!({"name": self.name, "size": self.size(), "digest": hex(&Sha256::digest(&self.manifest))})
    }
}

fn gather(folder: &Path, below: &str, depth: usize, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut names: Vec<_> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    for name in names.into_iter().filter(|name| !name.starts_with('.')) {
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        let full = folder.join(&name);
        if depth < DEPTH && full.is_dir() {
            gather(&full, &path, depth + 1, found);
        } else if depth == DEPTH && full.is_file() && found.len() < MOST {
            found.push(path);
        }
    }
}

/// `registry.ollama.ai/library/qwen3/8b` is `qwen3:8b`.
fn name(path: &str) -> String {
    let short = path.strip_prefix("registry.ollama.ai/").unwrap_or(path);
    let short = short.strip_prefix("library/").unwrap_or(short);
    match short.rsplit_once('/') {
        Some((model, tag)) => format!("{model}:{tag}"),
        None => short.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn models_are_listed_with_their_blobs_and_broken_ones_apart() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = ("1".repeat(64), "2".repeat(64));
        let manifest = |digest: &str| {
            json!({"config": {"digest": format!("sha256:{one}"), "size": 3}, "layers": [{"digest": format!("sha256:{digest}"), "size": 5}]})
                .to_string()
        };
        put(dir.path(), &format!("blobs/sha256-{one}"), "abc");
        put(dir.path(), &format!("blobs/sha256-{two}"), "12345");
        put(dir.path(), "manifests/registry.ollama.ai/library/qwen3/8b", &manifest(&two));
        put(dir.path(), "manifests/example.com/me/x/latest", &manifest(&two));
        put(dir.path(), "manifests/registry.ollama.ai/library/gone/1b", &manifest(&"3".repeat(64)));
        put(dir.path(), "manifests/registry.ollama.ai/library/evil/1b", &manifest("../../../etc/passwd"));
        let (whole, broken) = Store(dir.path().to_owned()).models();
        let names: Vec<_> = whole.iter().map(|model| (model.name.as_str(), model.size())).collect();
        assert_eq!(names, [("example.com/me/x:latest", 8), ("qwen3:8b", 8)]);
        assert_eq!(broken, ["evil:1b", "gone:1b"]);
    }

    #[test]
    fn the_store_is_where_ollama_would_look() {
        let home = tempfile::tempdir().unwrap();
        let own = home.path().join(".ollama/models");
        fs::create_dir_all(&own).unwrap();
        let place = |named: Option<&str>, variable: Option<&str>| {
            let ask = |name: &str| match name {
                "OLLAMA_MODELS" => variable.map(OsString::from),
                _ => Some(home.path().as_os_str().to_owned()),
            };
            Store::place(named.map(Path::new), ask).unwrap().0
        };
        assert_eq!(place(Some("/named"), Some("/variable")), Path::new("/named"));
        assert_eq!(place(None, Some("/variable")), Path::new("/variable"));
        assert_eq!(place(None, Some("")), own);
    }
}
