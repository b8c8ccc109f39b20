//! What there is: `/api/version`, `/api/tags`, `/api/ps`, `/api/show`, `/v1/models`.

use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use gate_types::Dialect;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use super::Reply;
use super::fields::Fields;
use super::refusal::{JSON, JSON_UTF8, Refusal, reply};
use crate::file::gguf::{Value, kind_name};
use crate::roster::{Entry, Roster};

/// The version of Ollama's API whose answers these are like. The suffix says that this is not Ollama.
pub(super) const VERSION: &str = "0.32.15-herdgate";

#[derive(Debug, Serialize)]
struct Details<'a> {
    parent_model: &'static str,
    format: &'static str,
    family: &'a str,
    families: [&'a str; 1],
    parameter_size: String,
    quantization_level: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding_length: Option<u64>,
}

impl<'a> Details<'a> {
    fn of(entry: &'a Entry, with_lengths: bool) -> Details<'a> {
        let facts = &entry.facts;
        Details {
            parent_model: "",
            format: "gguf",
            family: &facts.architecture,
            families: [&facts.architecture],
            parameter_size: facts.parameter_size(),
            quantization_level: facts.quantization(),
            context_length: with_lengths.then_some(facts.context_length),
            embedding_length: with_lengths.then_some(facts.embedding_length),
        }
    }
}

/// `GET /api/version`
pub(super) fn version() -> Reply {
    Ok(reply(StatusCode::OK, JSON_UTF8, json!({"version": VERSION}).to_string()))
}

/// `GET /api/tags`
pub(super) fn tags(roster: &Roster) -> Reply {
    let tag = |entry: &Arc<Entry>| {
        json!({
            "name": entry.name.short(),
            "model": entry.name.short(),
            "modified_at": entry.modified,
            "size": entry.facts.header.length,
            "digest": entry.facts.digest,
            "details": Details::of(entry, true),
            "capabilities": [entry.facts.purpose.as_str()],
        })
    };
    let models: Vec<Json> = roster.entries().iter().map(tag).collect();
    Ok(reply(StatusCode::OK, JSON_UTF8, json!({"models": models}).to_string()))
}

/// `GET /api/ps`
pub(super) fn ps(roster: &Roster) -> Reply {
    let models: Vec<Json> = roster
        .running()
        .iter()
        .map(|running| {
            let entry = &running.entry;
            json!({
                "name": entry.name.short(),
                "model": entry.name.short(),
                "size": running.size,
                "digest": entry.facts.digest,
                "details": Details::of(entry, false),
                "expires_at": expiry(running.remaining),
                "size_vram": 0,
                "context_length": running.context,
            })
        })
        .collect();
    Ok(reply(StatusCode::OK, JSON_UTF8, json!({"models": models}).to_string()))
}

/// A moment from now; for ever is, as in Ollama, a date some centuries ahead.
fn expiry(remaining: Option<std::time::Duration>) -> Timestamp {
    const CENTURIES: SignedDuration = SignedDuration::from_hours(24 * 365 * 290);
    let ahead = remaining
        .and_then(|time| SignedDuration::try_from(time).ok())
        .map_or(CENTURIES, |t| t.min(CENTURIES));
    Timestamp::now().saturating_add(ahead).unwrap_or(Timestamp::MAX)
}

/// `POST /api/show`
pub(super) async fn show(roster: Arc<Roster>, body: Body) -> Reply {
    let fields = Fields::read(body, "ShowRequest", Dialect::Ollama).await?;
    let (model, name) = (fields.text("model")?, fields.text("name")?);
    let wanted = if model.is_empty() { name } else { model };
    if wanted.is_empty() {
        return Err(Refusal::bad("model is required"));
    }
    let entry = roster.find(&wanted).ok_or_else(|| no_model_with_tag(&wanted))?;
    Ok(reply(StatusCode::OK, JSON_UTF8, shown(&entry).to_string()))
}

fn shown(entry: &Entry) -> Json {
    let header = &entry.facts.header;
    let mut all = Map::new();
    if let Some(license) = header.text("general.license") {
        all.insert("license".into(), license.into());
    }
    all.insert("modelfile".into(), format!("FROM {}\n", entry.name).into());
    let parameters = parameters(entry);
    if !parameters.is_empty() {
        all.insert("parameters".into(), parameters.into());
    }
    all.insert("template".into(), entry.facts.template.clone().unwrap_or_default().into());
    all.insert("details".into(), json!(Details::of(entry, false)));
    let mut facts: Map<String, Json> =
        header.metadata.iter().map(|(key, value)| (key.clone(), shown_value(key, value))).collect();
    facts.insert("general.parameter_count".into(), entry.facts.parameters.into());
    facts.sort_keys();
    all.insert("model_info".into(), facts.into());
    let tensor = |tensor: &crate::file::gguf::Tensor| json!({"name": tensor.name, "type": kind_name(tensor.kind), "shape": tensor.shape});
    all.insert("tensors".into(), header.tensors.iter().map(tensor).collect());
    all.insert("capabilities".into(), json!([entry.facts.purpose.as_str()]));
    all.insert("modified_at".into(), json!(entry.modified));
    all.into()
}

/// The file's own sampling values, as Ollama lists a Modelfile's.
fn parameters(entry: &Entry) -> String {
    let preferred = &entry.facts.preferred;
    let lines = [
        ("temperature", preferred.temperature.map(|n| n.to_string())),
        ("top_k", preferred.top_k.map(|n| n.to_string())),
        ("top_p", preferred.top_p.map(|n| n.to_string())),
        ("min_p", preferred.min_p.map(|n| n.to_string())),
    ];
    let lines = lines.into_iter().filter_map(|(name, value)| Some(format!("{name:<30} {}", value?)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Vocabularies are null, as in Ollama without `verbose`.
fn shown_value(key: &str, value: &Value) -> Json {
    match value {
        Value::Unsigned(n) => json!(n),
        Value::Signed(n) => json!(n),
        // By its own digits: 0.00001, not 0.000009999999747; and 10000, not 10000.0.
        Value::Single(n) => serde_json::from_str(&n.to_string()).unwrap_or(Json::Null),
        Value::Double(n) => serde_json::from_str(&n.to_string()).unwrap_or(Json::Null),
        Value::Bool(b) => json!(b),
        Value::Text(text) => json!(text),
        Value::List(_) if key.starts_with("tokenizer.") => Json::Null,
        Value::List(all) => all.iter().map(|value| shown_value(key, value)).collect(),
        Value::LongList => Json::Null,
    }
}

/// These routes name the tag too.
fn no_model_with_tag(name: &str) -> Refusal {
    let tagged = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if tagged { Refusal::no_model(name) } else { Refusal::no_model(&format!("{name}:latest")) }
}

/// `GET /v1/models`
pub(super) fn openai_models(roster: &Roster) -> Reply {
    let models: Vec<Json> =
        roster.entries().iter().map(|entry| openai_entry(entry, entry.name.short())).collect();
    let answer = json!({"object": "list", "data": models});
    Ok(reply(StatusCode::OK, JSON, answer.to_string() + "\n"))
}

/// `GET /v1/models/{model}`
pub(super) fn openai_model(roster: &Roster, name: &str) -> Reply {
    let entry = roster.find(name).ok_or_else(|| no_model_with_tag(name))?;
    Ok(reply(StatusCode::OK, JSON, openai_entry(&entry, name).to_string() + "\n"))
}

fn openai_entry(entry: &Entry, id: &str) -> Json {
    let owner = entry.name.short().rsplit_once('/').map_or("library", |(owner, _)| owner);
    json!({"id": id, "object": "model", "created": entry.modified.as_second(), "owned_by": owner})
}
