//! `POST /v1/pull`: a line for each that Ollama writes, behind the upstream's name; the last of each upstream says how it ended.

use super::out::{Lines, Out};
use super::{Admin, Asked, Refusal};
use crate::server::core::Stage;
use crate::together::together;
use gate_types::{ModelName, UpstreamId};
use http::{Response, StatusCode};
use serde_json::json;
use std::rc::Rc;

/// What is told of a pull for which the gate has no more time, and what to do.
const ENDS: (&str, &str) = (
    "the gate ends, and the pull with it",
    "when a gate runs here again, say it once more: it goes on where it stopped",
);

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
        let (error, hint) = tokio::select! {
            pulled = Box::pin(pulled) => match pulled {
                Ok(_) => return lines.put(&json!({"upstream": upstream, "status": "success"})),
                Err(trouble) => (trouble.to_string(), trouble.cause.cure(model)),
            },
            // After a hand-over it has all of the time of grace.
            () = self.until(Stage::Drain) => (ENDS.0.to_owned(), ENDS.1.to_owned()),
        };
        lines.put(&json!({"upstream": upstream, "error": error, "hint": hint}));
    }
}
