//! Routes that change the store: pull, push, create, copy, delete, blobs; and the empty requests that load and unload.

use serde_json::{Value, json};

use crate::answer::{CREATED_AT, JSON, Kind, NDJSON, V1_JSON, fnv, line};
use crate::routes::Call;
use crate::script::{Content, Effect, Reply};
use crate::setup::canonical;

pub(crate) fn answer(call: &Call<'_>, method: &str) -> Option<Reply> {
    let reply = match call.path {
        "/api/pull" => pull(call),
        "/api/push" => progress(call, &[json!({"status": "retrieving manifest"}), success()]),
        "/api/create" => progress(call, &[json!({"status": "writing manifest"}), success()])
            .then(Effect::Add(call.model.clone())),
        "/api/copy" => copy(call),
        "/api/delete" => match call.setup.find(&call.model) {
            Some(_) => Reply::empty(200).then(Effect::Remove(call.model.clone())),
            None => call.not_found(),
        },
        "/api/me" => call.error(503, "account unavailable"),
        path if path.starts_with("/api/blobs/") => match method {
            "HEAD" => Reply { content: Content::None, ..Reply::empty(200) },
            _ => Reply::empty(201),
        },
        _ => return None,
    };
    Some(reply)
}

/// A request without a prompt loads the model, or (`keep_alive` 0) unloads it.
pub(crate) fn load_or_unload(call: &Call<'_>, kind: Kind) -> Option<Reply> {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    let mut body = json!({"model": call.model, "created_at": CREATED_AT});
    match kind {
        Kind::Generate if is_empty(&call.body["prompt"]) => body["response"] = json!(""),
        Kind::Chat if is_empty(&call.body["messages"]) => {
            body["message"] = json!({"role": "assistant", "content": ""});
        }
        _ => return None,
    }
    let unloads = call.body["keep_alive"] == json!(0);
    body["done"] = json!(true);
    body["done_reason"] = json!(if unloads { "unload" } else { "load" });
    let model = call.model.clone();
    let effect = if unloads { Effect::Unload(model) } else { Effect::Load(model) };
    Some(Reply::whole(200, JSON, body.to_string()).then(effect))
}

fn pull(call: &Call<'_>) -> Reply {
    if call.model.is_empty() {
        return call.error(400, "invalid model name");
    }
    let digest: String = (0..4).map(|part| format!("{:016x}", fnv(call.model.as_bytes(), part))).collect();
    let total = 1_000_000_u64;
    let pulling = |completed: u64| {
        json!({"status": format!("pulling {}", &digest[..12]), "digest": format!("sha256:{digest}"),
            "total": total, "completed": completed})
    };
    let mut lines = vec![json!({"status": "pulling manifest"})];
    lines.extend((1..=4).map(|quarter| pulling(total / 4 * quarter)));
    lines.push(json!({"status": "verifying sha256 digest"}));
    lines.push(json!({"status": "writing manifest"}));
    lines.push(success());
    progress(call, &lines).then(Effect::Add(call.model.clone()))
}

fn copy(call: &Call<'_>) -> Reply {
    let source = call.body["source"].as_str().unwrap_or_default();
    let destination = call.body["destination"].as_str().unwrap_or_default();
    if call.setup.find(source).is_none() {
        return call.error(404, &format!("model {source:?} not found"));
    }
    Reply::empty(200).then(Effect::Add(canonical(destination)))
}

fn progress(call: &Call<'_>, lines: &[Value]) -> Reply {
    if call.streams() {
        return Reply::stream(NDJSON, lines.iter().map(|one| line(one).into_bytes()).collect());
    }
    Reply::whole(200, V1_JSON, success().to_string())
}

fn success() -> Value {
    json!({"status": "success"})
}
