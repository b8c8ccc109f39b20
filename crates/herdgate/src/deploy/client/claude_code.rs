//! Claude Code: variables and a model in its `settings.json`. JSON has no comments, so what it is is said beside it.

use super::Filled;
use serde_json::{Map, Value, json};

/// The last version that answered through a gate.
const RUN: &str = "2.1.330";

pub(super) fn text(filled: &Filled<'_>) -> String {
    let mut env = Map::new();
    let mut put = |name: &str, value: String| env.insert(name.to_owned(), Value::String(value));
    put("ANTHROPIC_BASE_URL", filled.url().to_owned());
    if let Some(secret) = filled.secret() {
        put("ANTHROPIC_AUTH_TOKEN", secret.to_owned());
    }
    // It asks small models for small things: all of them are this one.
    for size in ["OPUS", "SONNET", "HAIKU"] {
        put(&format!("ANTHROPIC_DEFAULT_{size}_MODEL"), filled.model().to_owned());
    }
    for time in ["API_TIMEOUT_MS", "CLAUDE_STREAM_FIRST_BYTE_TIMEOUT_MS", "CLAUDE_STREAM_IDLE_TIMEOUT_MS"] {
        put(time, filled.milliseconds().to_string());
    }
    put("CLAUDE_CODE_MAX_CONTEXT_TOKENS", filled.context.to_string());
    put("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".to_owned());
    // Words that differ from request to request at the head of a prompt would have the model read all of it anew.
    put("CLAUDE_CODE_ATTRIBUTION_HEADER", "0".to_owned());
    if let Some(file) = filled.ca() {
        put("NODE_EXTRA_CA_CERTS", file.to_owned());
    }
    let mut settings = Map::new();
    settings.insert("model".to_owned(), json!(filled.model()));
    settings.insert("env".to_owned(), Value::Object(env));
    if filled.secret().is_none() {
        settings.insert("apiKeyHelper".to_owned(), json!("cat ~/.claude/herdgate.key"));
    }
    format!("{:#}\n", Value::Object(settings))
}

pub(super) fn notes(filled: &Filled<'_>) -> Vec<String> {
    let mut notes = vec![
        format!(
            "settings of Claude Code for the gate, for {}: where there is one already, put these fields into it; version {RUN} was run with them",
            filled.client.row().path
        ),
        if filled.secret().is_some() {
            "the key is in it: whoever reads the file may use it (chmod 600)".to_owned()
        } else {
            "the key belongs into ~/.claude/herdgate.key (chmod 600), alone".to_owned()
        },
        filled.context_line("CLAUDE_CODE_MAX_CONTEXT_TOKENS"),
    ];
    if filled.ca().is_some() {
        notes.push("NODE_EXTRA_CA_CERTS is the file of the gate's own authority".to_owned());
    }
    notes
}
