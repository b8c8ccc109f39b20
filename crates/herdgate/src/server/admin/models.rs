//! What the upstreams have: asked now, not remembered; and the end of a model.

use super::out::Out;
use super::{Admin, Asked, Refusal, json_answer};
use crate::progress::{bytes, plain};
use crate::server::pulls::Cause;
use crate::together::together;
use gate_proxy::{Pull, percent};
use gate_types::{ModelName, UpstreamId};
use gate_upstream::Ask;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

/// Bytes of a listing.
const LISTING_BYTES: usize = 8 << 20;
/// For an upstream to tell what it has, and to remove a model.
const TIME: Duration = Duration::from_secs(5);
const REMOVE_TIME: Duration = Duration::from_secs(30);

impl Admin {
    /// The models of each upstream that is asked for.
    pub(super) async fn models(&self, asked: &Asked) -> Result<Response<Out>, Refusal> {
        let ids = self.named(asked.on.as_deref())?;
        let all = ids.iter().map(|id| self.models_of(*id));
        let all = Box::pin(together(all.collect())).await;
        Ok(json_answer(StatusCode::OK, &json!({ "upstreams": all })))
    }

    async fn models_of(&self, id: UpstreamId) -> Value {
        let pulls = self.puller.shared.pulls.all();
        let pulling: Vec<Value> =
            pulls.iter().filter(|(at, _, _)| *at == id).map(|(_, model, pull)| pulled(model, pull)).collect();
        let url = self.roster.get(id).map(gate_upstream::Endpoint::url);
        let mut told = json!({"upstream": self.name(id), "url": url, "pulling": pulling});
        match self.listed(id).await {
            Ok(models) => told["models"] = models.into(),
            Err(error) => told["error"] = error.into(),
        }
        told
    }

    /// The models on its disk, with what is in memory of them.
    async fn listed(&self, id: UpstreamId) -> Result<Vec<Value>, String> {
        let tags = self.get(id, "/api/tags").await?;
        let loaded = self.get(id, "/api/ps").await.unwrap_or_default();
        let list = |value: &Value| value["models"].as_array().cloned().unwrap_or_default();
        let loaded = list(&loaded);
        let name_of = |model: &Value| {
            let name = model["name"].as_str().or(model["model"].as_str()).map(plain);
            name.unwrap_or_default()
        };
        Ok(list(&tags)
            .iter()
            .map(|model| {
                let name = name_of(model);
                let in_memory = loaded.iter().find(|one| name_of(one) == name);
                json!({
                    "name": name,
                    "size": model["size"].as_u64(),
                    "digest": model["digest"].as_str().map(plain),
                    "loaded": in_memory.is_some(),
                    "context": in_memory.and_then(|one| one["context_length"].as_u64()),
                    "remote_host": model["remote_host"].as_str().filter(|host| !host.is_empty()).map(plain),
                })
            })
            .collect())
    }

    async fn get(&self, id: UpstreamId, path: &str) -> Result<Value, String> {
        let ask = Ask { method: "GET", path, fields: &[("Accept", "application/json")], body: b"" };
        let asking = async {
            let answer = self.puller.client.send(id, &ask).await.map_err(|error| error.to_string())?;
            let status = answer.status();
            let body = answer.read_all(LISTING_BYTES).await.map_err(|error| error.to_string())?;
            if status != 200 {
                return Err(format!("it answers {status} to {path}"));
            }
            serde_json::from_slice(&body).map_err(|_| format!("its answer to {path} is no JSON"))
        };
        let answered = tokio::time::timeout(TIME, Box::pin(asking)).await;
        answered.unwrap_or_else(|_late| Err(format!("no answer to {path} within {} s", TIME.as_secs())))
    }

    /// Removes a model from the upstreams that are named, else from the only one that has it.
    pub(super) async fn remove(&self, asked: &Asked) -> Result<Response<Out>, Refusal> {
        let Some(model) = &asked.model else { return Err(Refusal::new(StatusCode::BAD_REQUEST, "no model")) };
        let ids = self.named(asked.on.as_deref())?;
        let has = |id: &UpstreamId| {
            self.puller.shared.with_fleet(|fleet| fleet.get(*id).is_some_and(|upstream| upstream.has(model)))
        };
        let having: Vec<UpstreamId> = ids.iter().copied().filter(has).collect();
        let whom = match having.len() {
            // What is not known may be there all the same.
            0 if ids.len() == 1 => ids,
            0 => {
                return Err(Refusal::new(StatusCode::NOT_FOUND, format!("no upstream has {model}"))
                    .hint("herdgate models lists what there is"));
            }
            1 => having,
            _ if asked.all => having,
            _ => return Err(self.which(&having)),
        };
        let removing = whom.iter().map(|id| self.remove_at(*id, model)).collect();
        let told: Vec<Value> = Box::pin(together(removing)).await;
        self.puller.shared.doubt();
        Ok(json_answer(StatusCode::OK, &json!({ "upstreams": told })))
    }

    async fn remove_at(&self, id: UpstreamId, model: &ModelName) -> Value {
        let body = json!({"model": model.short()}).to_string();
        let fields = [("Content-Type", "application/json")];
        let ask = Ask { method: "DELETE", path: "/api/delete", fields: &fields, body: body.as_bytes() };
        let removing = async {
            let answer = self.puller.client.send_once(id, &ask).await.map_err(|error| error.to_string())?;
            let status = answer.status();
            let body = answer.read_all(LISTING_BYTES).await.map_err(|error| error.to_string())?;
            match status {
                200 => Ok(()),
                404 => Err(format!("it has no {model}")),
                _ => {
                    let said: Value = serde_json::from_slice(&body).unwrap_or_default();
                    Err(format!("it answers {status}: {}", plain(said["error"].as_str().unwrap_or_default())))
                }
            }
        };
        let removed = tokio::time::timeout(REMOVE_TIME, Box::pin(removing)).await;
        match removed.unwrap_or_else(|_late| Err("it does not answer".to_owned())) {
            Ok(()) => {
                let gone = gate_policy::Observation::ModelGone(model.clone());
                self.puller.shared.observe(id, gone);
                json!({"upstream": self.name(id)})
            }
            Err(error) => json!({"upstream": self.name(id), "error": error}),
        }
    }
}

/// How it stands with a pull; where it fails, why, and what to do about it.
fn pulled(model: &ModelName, pull: &Pull) -> Value {
    let why = match pull {
        Pull::Waiting | Pull::Running { .. } => None,
        Pull::Again { why, .. } | Pull::Failed { why } => Some(*why),
    };
    let cure = why.and_then(Cause::of).map(|cause| cause.cure(model));
    json!({"model": model.short(), "state": words(pull), "failing": why, "hint": cure})
}

fn words(pull: &Pull) -> String {
    match pull {
        Pull::Waiting => "about to be pulled".to_owned(),
        Pull::Running { done, total, .. } => match percent(*done, *total) {
            Some(percent) => format!("pulling: {percent} %, {} of {}", bytes(*done), bytes(*total)),
            None => "pulling".to_owned(),
        },
        Pull::Again { why, .. } => format!("to be pulled, but {why}; tried again"),
        Pull::Failed { why } => format!("could not be pulled: {why}"),
    }
}
