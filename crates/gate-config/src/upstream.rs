//! `[[upstream]]`: one server with all that may be said of it, from tables of the file to checked [`Upstream`]s.
//!
//! The files that a table names are read here, through [`FileAccess`], so that what is wrong with them is told with all the
//! rest, and so that another content is another setting. Never shows a token, a field's value or a private key.

use crate::show::{MASK, quoted};
use crate::units::show_duration;
use crate::upstream_url::UpstreamUrl;
use gate_types::{ModelName, Secret};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

mod fields;
mod table;

pub(crate) use table::read;

/// The section's name.
pub(crate) const SECTION: &str = "upstream";
/// The most that one upstream may weigh: more apart than this is not a share any more but an order.
pub(crate) const MOST_WEIGHT: u32 = 100;
/// Most fields with a credential for one upstream.
const MOST_HEADERS: usize = 16;
/// Most models that one upstream shall have.
const MOST_WANTED: usize = 256;

/// One server behind the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Where it is.
    pub url: UpstreamUrl,
    /// What logs, records and metrics call it; its URL where there is none. No two have the same.
    pub name: Option<String>,
    /// Whether it is an Ollama, or speaks as one; one that is none is for the routes that lead to it.
    pub is_ollama: bool,
    /// Its share of the requests beside others that could serve them.
    pub weight: u32,
    /// Requests that run a model there at one time; `fleet.slots` where there is none.
    pub slots: Option<usize>,
    /// The file whose first line is sent as `Authorization: Bearer`, and that line.
    pub token: Option<SecretFile>,
    /// Fields that are sent with every request.
    pub headers: Vec<Header>,
    /// The roots that its certificate must lead to; those of the system where there is none.
    pub ca: Option<SecretFile>,
    /// The certificate that is shown to it, and its private key.
    pub client: Option<(SecretFile, SecretFile)>,
    /// For a connection to stand; `timeouts.connect` where there is none.
    pub connect: Option<Duration>,
    /// Between two bytes of its answer, and before the first; `timeouts.idle` where there is none.
    pub idle: Option<Duration>,
    /// The models that it shall have: what it lacks is pulled there.
    pub models: Vec<ModelName>,
}

/// A file that the settings name, with what was in it. Shows its name alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// Where it is.
    pub path: PathBuf,
    /// What was in it; of a token's file the first line.
    pub text: Secret,
}

/// A field that is sent to an upstream with every request. Shows its name alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// As it was written.
    pub name: String,
    /// Text that a field can hold.
    pub value: Secret,
}

impl Upstream {
    /// One of which nothing but the address is said.
    #[must_use]
    pub fn at(url: UpstreamUrl) -> Self {
        Upstream {
            url,
            name: None,
            is_ollama: true,
            weight: 1,
            slots: None,
            token: None,
            headers: Vec::new(),
            ca: None,
            client: None,
            connect: None,
            idle: None,
            models: Vec::new(),
        }
    }

    /// Whether nothing but the address is said of it.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Upstream::at(self.url.clone())
    }

    /// Whether a credential is sent to it.
    #[must_use]
    pub fn has_credential(&self) -> bool {
        self.token.is_some() || !self.headers.is_empty()
    }

    /// All files that are named for it, so that a change of one can be seen.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let client = self.client.iter().flat_map(|(cert, key)| [cert, key]);
        self.token.iter().chain(&self.ca).chain(client).map(|file| &file.path)
    }

    /// All that is said of it, as it stands in a settings file; of fields the names alone.
    pub(crate) fn lines(&self) -> Vec<String> {
        let Upstream {
            url,
            name,
            is_ollama,
            weight,
            slots,
            token,
            headers,
            ca,
            client,
            connect,
            idle,
            models,
        } = self;
        let mut lines = vec![format!("url = {}", quoted(&url.to_string()))];
        let mut add = |name: &str, value: Option<String>| {
            lines.extend(value.map(|value| format!("{name} = {value}")));
        };
        let file = |file: &SecretFile| quoted(&file.path.display().to_string());
        add("name", name.as_deref().map(quoted));
        add("ollama", (!is_ollama).then(|| "false".to_owned()));
        add("weight", (*weight != 1).then(|| weight.to_string()));
        add("slots", slots.map(|slots| slots.to_string()));
        add("token_file", token.as_ref().map(file));
        add("ca", ca.as_ref().map(file));
        add("client_cert", client.as_ref().map(|(cert, _)| file(cert)));
        add("client_key", client.as_ref().map(|(_, key)| file(key)));
        add("connect", connect.map(|time| quoted(&show_duration(time))));
        add("idle", idle.map(|time| quoted(&show_duration(time))));
        let names = models.iter().map(|model| quoted(model.short())).collect::<Vec<_>>();
        add("models", (!names.is_empty()).then(|| format!("[{}]", names.join(", "))));
        if !headers.is_empty() {
            let masked = headers.iter().map(|header| format!("{} = \"{MASK}\"", header.name));
            // A comment, since it could not be read back.
            lines.push(format!("# headers = {{ {} }}", masked.collect::<Vec<_>>().join(", ")));
        }
        lines
    }
}

/// What people see of it: its name and where it is.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.url),
            None => write!(f, "{}", self.url),
        }
    }
}
