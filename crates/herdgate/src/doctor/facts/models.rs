//! Which models a server has, which are in memory, and whether pages of any origin may use them.

use super::ask::{Question, Way};
use gate_types::ModelName;
use http::{HeaderName, HeaderValue, Method, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Models that are looked at.
const MOST: usize = 4096;
/// An origin that nobody has (RFC 6761, section 6.4).
const STRANGER: &str = "https://doctor.invalid";

/// A model on a server's disk.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Model {
    pub(in crate::doctor) name: String,
    /// Bytes.
    pub(in crate::doctor) size: u64,
    /// Whether it answers questions: neither makes vectors alone nor stands for a model elsewhere.
    pub(in crate::doctor) answers: bool,
}

/// A model in a server's memory.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Loaded {
    pub(in crate::doctor) name: String,
    /// Bytes, and those of them that are in a GPU's memory.
    pub(in crate::doctor) size: u64,
    pub(in crate::doctor) in_gpu: u64,
    /// Tokens; 0 where it is not said.
    pub(in crate::doctor) context: u64,
}

/// What a server tells of its models.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Models {
    /// Whether a key, or another credential, was shown.
    pub(in crate::doctor) is_keyed: bool,
    /// Of the listing; nothing where no answer came.
    pub(in crate::doctor) status: Option<u16>,
    /// What a refusal says.
    pub(in crate::doctor) refusal: String,
    pub(in crate::doctor) listed: Vec<Model>,
    pub(in crate::doctor) loaded: Vec<Loaded>,
    /// Whether a page of an unknown origin may use it.
    pub(in crate::doctor) any_origin: bool,
}

pub(super) async fn look(way: &Way) -> Models {
    let mut preflight = Question { method: Method::OPTIONS, ..Question::get("/api/tags") };
    preflight.fields = vec![
        (header::ORIGIN, HeaderValue::from_static(STRANGER)),
        (HeaderName::from_static("access-control-request-method"), HeaderValue::from_static("GET")),
    ];
    let (tags, ps) = (Question::get("/api/tags"), Question::get("/api/ps"));
    let stranger = way.as_stranger();
    let (tags, ps, preflight) = tokio::join!(way.ask(&tags), way.ask(&ps), stranger.ask(&preflight));
    let mut models = Models { is_keyed: !way.trust.fields.is_empty(), ..Models::default() };
    if let Ok(heard) = tags {
        models.status = Some(heard.status);
        let said: Value = serde_json::from_slice(&heard.body).unwrap_or_default();
        if heard.status == 200 {
            models.listed = entries(&said).map(model).collect();
        } else {
            models.refusal = crate::progress::plain(said["error"].as_str().unwrap_or_default());
        }
    }
    if let Ok(heard) = ps {
        let said: Value = serde_json::from_slice(&heard.body).unwrap_or_default();
        models.loaded = entries(&said).map(loaded).collect();
    }
    let allowed = preflight.ok();
    let allowed = allowed.as_ref().and_then(|heard| heard.field(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    models.any_origin = allowed.is_some_and(|origin| origin == "*" || origin == STRANGER);
    models
}

/// Those whose name is one: it stands in commands that people copy into a shell.
fn entries(said: &Value) -> impl Iterator<Item = &Value> {
    let all = said["models"].as_array().into_iter().flatten().take(MOST);
    all.filter(|entry| ModelName::parse_stored(&name(entry)).is_ok() && is_plain(&name(entry)))
}

/// Nothing that a shell reads otherwise.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte))
        && !name.starts_with('-')
}

fn name(entry: &Value) -> String {
    let name = entry["name"].as_str().or_else(|| entry["model"].as_str());
    crate::progress::plain(name.unwrap_or_default())
}

fn model(entry: &Value) -> Model {
    let texts = |field: &Value| -> Vec<String> {
        field.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let name = name(entry);
    // Only newer versions tell what a model can do.
    let embeds = match texts(&entry["capabilities"]) {
        none if none.is_empty() => {
            let families = texts(&entry["details"]["families"]);
            name.contains("embed") || families.iter().any(|family| family.contains("bert"))
        }
        abilities => !abilities.iter().any(|ability| ability == "completion"),
    };
    let is_stub = ["remote_host", "remote_model"]
        .iter()
        .any(|field| !entry[*field].as_str().unwrap_or_default().is_empty());
    Model {
        answers: !embeds && !is_stub && !name.is_empty(),
        size: entry["size"].as_u64().unwrap_or(0),
        name,
    }
}

fn loaded(entry: &Value) -> Loaded {
    let number = |field: &str| entry[field].as_u64().unwrap_or(0);
    Loaded {
        name: name(entry),
        size: number("size"),
        in_gpu: number("size_vram"),
        context: number("context_length"),
    }
}

impl Models {
    /// The model to ask: the one that was named, else one that is in memory, else the smallest.
    pub(super) fn to_ask(&self, named: Option<&str>) -> Option<&str> {
        if let Some(named) = named {
            return self.find(named).map(|model| model.name.as_str());
        }
        let mut able: Vec<&Model> = self.listed.iter().filter(|model| model.answers).collect();
        able.sort_by_key(|model| (!self.is_loaded(&model.name), model.size));
        able.first().map(|model| model.name.as_str())
    }

    pub(super) fn is_loaded(&self, name: &str) -> bool {
        self.loaded.iter().any(|loaded| loaded.name == name)
    }

    /// By the name that a client would give: without a tag it is the latest.
    pub(in crate::doctor) fn find(&self, named: &str) -> Option<&Model> {
        let whole = with_tag(named);
        self.listed.iter().find(|model| with_tag(&model.name).eq_ignore_ascii_case(&whole))
    }
}

fn with_tag(name: &str) -> String {
    let name = name.strip_prefix("registry.ollama.ai/").unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') { name.to_owned() } else { format!("{name}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_model_to_ask_is_named_or_loaded_or_small() {
        let entry = |name: &str, size: u64| json!({"name": name, "size": size});
        let bert = json!({"name": "minilm:latest", "size": 1, "details": {"families": ["bert"]}});
        let vectors = json!({"name": "v:latest", "size": 1, "capabilities": ["embedding"]});
        let stub = json!({"name": "far:cloud", "size": 1, "remote_host": "https://ollama.com"});
        let all =
            [entry("big:latest", 9), entry("small:1b", 3), bert, vectors, stub, entry("nomic-embed-text", 1)];
        let mut models = Models { listed: all.iter().map(model).collect(), ..Models::default() };
        assert_eq!(models.to_ask(None), Some("small:1b"));
        models.loaded = vec![loaded(&json!({"name": "big:latest", "size": 9, "size_vram": 9}))];
        assert_eq!(models.to_ask(None), Some("big:latest"));
        assert_eq!(models.to_ask(Some("library/small:1b")), Some("small:1b"));
        assert_eq!((models.to_ask(Some("Big")), models.to_ask(Some("small"))), (Some("big:latest"), None));
    }

    #[test]
    fn what_is_no_name_stands_in_no_command() {
        let named = |name: &str| json!({"models": [{"name": name}]});
        for name in ["qwen3:8b", "hf.co/user/model:Q4_K_M", "a_b.c-d"] {
            assert_eq!(entries(&named(name)).count(), 1, "{name}");
        }
        for name in ["x; rm -rf ~", "$(id)", "a`id`", "a|b", "a b", "--help", "a\nb", "'x'", ""] {
            assert_eq!(entries(&named(name)).count(), 0, "{name}");
        }
    }
}
