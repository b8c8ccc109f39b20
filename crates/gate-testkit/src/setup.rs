//! What an [`Ollama`](crate::Ollama) has and how fast it is: version, models, loaded models, pace. Plain values, changed
//! by the test at any time; a request sees them as they are when its head has arrived.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything about the server that is not a fault.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// What `/api/version` says.
    pub version: String,
    /// What `/api/tags` lists, in this order.
    pub models: Vec<Model>,
    /// Canonical names (with tag) of what `/api/ps` lists. A request for an unloaded model takes [`Setup::load_time`]
    /// and adds it here.
    pub loaded: Vec<String>,
    /// Wait before each token of a stream, and the same in total before an answer that is not streamed.
    pub pace: Duration,
    /// Wait before the first byte of an answer from a model that is not loaded.
    pub load_time: Duration,
    /// How many tokens an answer has when the request does not bound it.
    pub tokens: usize,
    /// Wait before each line of a pull and its kin.
    pub progress_pace: Duration,
    /// A folder with an empty file for each model, so that what was pulled outlives the program: see
    /// [`Setup::with_models_kept_in`].
    pub kept: Option<PathBuf>,
    /// Answer 403 without a body to a foreign `Host` or `Origin`, as an Ollama on loopback does.
    pub checks_host: bool,
}

/// One model of `/api/tags`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// With its tag, as listed.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// 64 hex digits.
    pub digest: String,
    /// Makes vectors; anything else answers 501 to the embedding routes.
    pub embeds: bool,
    /// Stands for a model of another host and says so.
    pub is_stub: bool,
}

impl Default for Setup {
    /// Version 0.32.15, the models `demo` and `embedder`, both loaded, eight tokens without a pause, any free port.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            version: "0.32.15".to_owned(),
            models: vec![Model::named("demo"), Model::embedder("embedder")],
            loaded: vec!["demo:latest".to_owned(), "embedder:latest".to_owned()],
            pace: Duration::ZERO,
            load_time: Duration::ZERO,
            tokens: 8,
            progress_pace: Duration::ZERO,
            kept: None,
            checks_host: true,
        }
    }
}

impl Setup {
    /// With these models instead, none of them loaded.
    #[must_use]
    pub fn with_models(mut self, names: &[&str]) -> Self {
        self.models = names.iter().map(|name| Model::named(name)).collect();
        self.loaded.clear();
        self
    }

    /// With these models loaded instead.
    #[must_use]
    pub fn with_loaded(mut self, names: &[&str]) -> Self {
        self.loaded = names.iter().map(|name| canonical(name)).collect();
        self
    }

    /// With a wait before each token.
    #[must_use]
    pub fn with_pace(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self
    }

    /// With answers of this many tokens.
    #[must_use]
    pub fn with_tokens(mut self, tokens: usize) -> Self {
        self.tokens = tokens;
        self
    }

    /// With the models of this folder instead, which is made where it is not there. What is pulled from now on is in it, too.
    ///
    /// # Errors
    /// Where the folder cannot be made or read.
    pub fn with_models_kept_in(self, folder: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let entries = std::fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
        let names: Vec<String> =
            entries.iter().filter_map(|entry| Some(entry.file_name().to_str()?.replace('%', "/"))).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Ok(Self { kept: Some(folder.to_owned()), ..self.with_models(&names) })
    }

    /// The file that stands for a model.
    pub(crate) fn kept_file(&self, name: &str) -> Option<PathBuf> {
        self.kept.as_ref().map(|folder| folder.join(canonical(name).replace('/', "%")))
    }

    pub(crate) fn find(&self, asked: &str) -> Option<&Model> {
        let asked = canonical(asked);
        self.models.iter().find(|model| canonical(&model.name) == asked)
    }

    pub(crate) fn is_loaded(&self, asked: &str) -> bool {
        self.loaded.contains(&canonical(asked))
    }
}

impl Model {
    /// A model that chats; a name without a tag gets `:latest`.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let name = with_tag(name);
        let digest = digest_of(&name);
        Self { name, size: 967_479, digest, embeds: false, is_stub: false }
    }

    /// A model that makes vectors.
    #[must_use]
    pub fn embedder(name: &str) -> Self {
        Self { embeds: true, ..Self::named(name) }
    }

    /// A name for a model of another host.
    #[must_use]
    pub fn stub(name: &str) -> Self {
        Self { is_stub: true, ..Self::named(name) }
    }
}

/// The name by which Ollama would find the model; written here once more so that a mistake of the gate's own reading
/// cannot hide itself.
pub(crate) fn canonical(name: &str) -> String {
    let name = name.trim().to_ascii_lowercase();
    let name = name.strip_suffix(":local").unwrap_or(&name);
    let name = name.split_once("://").map_or(name, |(_scheme, rest)| rest);
    let name = name.strip_prefix("registry.ollama.ai/").unwrap_or(name);
    with_tag(name.strip_prefix("library/").unwrap_or(name))
}

fn with_tag(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') { name.to_owned() } else { format!("{name}:latest") }
}

/// 64 hex digits that depend on the name alone. No cryptography: only sameness matters.
fn digest_of(name: &str) -> String {
    (0_u64..4).map(|part| format!("{:016x}", crate::answer::fnv(name.as_bytes(), part))).collect()
}
