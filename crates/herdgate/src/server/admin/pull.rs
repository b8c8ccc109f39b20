//! `POST /v1/pull`: a line for each that Ollama writes, behind the upstream's name; the last of each upstream says how it ended.

use super::out::{Lines, Out};
use super::{Admin, Asked, Refusal};
use crate::together::together;
use gate_types::{ModelName, UpstreamId};
use http::{Response, StatusCode};
use serde_json::json;
use std::rc::Rc;

impl Admin {
    /// Pulls at all upstreams that are meant, at the same time, for as long as the command listens.
    pub(super) fn pull(self: &Rc<Self>, asked: &Asked) -> Result<Response<Out>, Refusal> {
        let Some(model) = asked.model.clone() else {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "no model"));
        };
        let (ids, admin) = (self.meant(asked)?, Rc::clone(self));
        Ok(Response::new(Out::lines(|lines| async move {
            together(ids.iter().map(|id| admin.pull_at(*id, &model, &lines)).collect()).await;
        })))
    }

    async fn pull_at(&self, id: UpstreamId, model: &ModelName, lines: &Lines) {
        let upstream = self.name(id);
        lines.put(&json!({"upstream": upstream, "status": "begins"}));
        let pulled = self.puller.pull(id, model, |line, _progress| {
            let (digest, total, completed) = line.layer();
            lines.put(&json!({
                "upstream": upstream, "status": line.status, "digest": digest, "total": total, "completed": completed,
            }));
        });
        lines.put(&match pulled.await {
            Ok(_) => json!({"upstream": upstream, "status": "success"}),
            Err(trouble) => json!({
                "upstream": upstream, "error": trouble.to_string(), "hint": trouble.cause.cure(model),
            }),
        });
    }
}
