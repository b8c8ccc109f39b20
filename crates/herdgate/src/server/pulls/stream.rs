//! One pull at one upstream: asked for, and its lines read to the end.
//!
//! Never: decides what becomes of a failure.

use super::trouble::Trouble;
use crate::progress::Line;
use gate_types::{ModelName, UpstreamId};
use gate_upstream::{Answer, Ask, Client, UpstreamError};
use serde_json::json;
use std::future::poll_fn;
use std::ops::Range;
use std::task::{Poll, ready};
use std::time::Duration;

/// Longest line; those of a pull have about 200 bytes.
const LINE_BYTES: usize = 64 * 1024;
/// Bytes of an answer that refuses.
const REFUSAL_BYTES: usize = 64 * 1024;
/// Longest silence: while it computes a digest over tens of gigabytes, Ollama writes nothing.
const SILENCE: Duration = Duration::from_mins(15);
/// How much is read at once.
const READ: usize = 8 * 1024;

/// Has the upstream pull `model`, and hands on each line that it writes about it. Dropped early, the upstream stops, too; it
/// keeps what it has got and goes on there next time.
pub(in crate::server) async fn pull(
    client: &Client,
    id: UpstreamId,
    model: &ModelName,
    mut tell: impl FnMut(&Line),
) -> Result<(), Trouble> {
    let body = json!({"model": model.short(), "stream": true}).to_string();
    let fields = [("Content-Type", "application/json"), ("User-Agent", "herdgate")];
    let ask = Ask { method: "POST", path: "/api/pull", fields: &fields, body: body.as_bytes() };
    let answer = within(Box::pin(client.send_once(id, &ask))).await?;
    let status = answer.status();
    if status != 200 {
        let body = within(answer.read_all(REFUSAL_BYTES)).await?;
        let said = Line::read(&body).and_then(|line| line.error);
        return Err(Trouble::told(status, &said.unwrap_or_else(|| format!("it answered {status}"))));
    }
    let mut lines = Lines::of(answer);
    while let Some(line) = within(lines.next()).await? {
        let Some(line) = Line::read(&line) else { continue };
        if let Some(error) = &line.error {
            return Err(Trouble::told(200, error));
        }
        if line.status == "success" {
            return Ok(());
        }
        tell(&line);
    }
    Err(Trouble::broken("it ended without a word"))
}

/// Bounds a step of it.
async fn within<T>(step: impl Future<Output = Result<T, UpstreamError>>) -> Result<T, Trouble> {
    match tokio::time::timeout(SILENCE, step).await {
        Ok(done) => done.map_err(|error| Trouble::failed(&error)),
        Err(_late) => Err(Trouble::broken(format!("it was silent for {} min", SILENCE.as_secs() / 60))),
    }
}

/// An answer line by line. What is longer than [`LINE_BYTES`] is passed over.
pub(in crate::server) struct Lines {
    answer: Answer,
    scratch: Box<[u8]>,
    pieces: Vec<Range<usize>>,
    data: Vec<u8>,
    has_ended: bool,
}

impl Lines {
    pub(in crate::server) fn of(answer: Answer) -> Self {
        let scratch = vec![0; READ].into_boxed_slice();
        Self { answer, scratch, pieces: Vec::new(), data: Vec::new(), has_ended: false }
    }

    /// The next line, without its end; none behind the last.
    pub(in crate::server) async fn next(&mut self) -> Result<Option<Vec<u8>>, UpstreamError> {
        poll_fn(|cx| {
            loop {
                if let Some(end) = self.data.iter().position(|byte| *byte == b'\n') {
                    let rest = self.data.split_off(end + 1);
                    let mut line = std::mem::replace(&mut self.data, rest);
                    line.pop();
                    return Poll::Ready(Ok(Some(line)));
                }
                if self.has_ended {
                    let last = std::mem::take(&mut self.data);
                    return Poll::Ready(Ok((!last.is_empty()).then_some(last)));
                }
                if self.data.len() > LINE_BYTES {
                    self.data.clear();
                }
                let wire = ready!(self.answer.poll_wire(cx, &mut self.scratch, &mut self.pieces))?;
                for piece in &self.pieces {
                    self.data.extend_from_slice(&self.scratch[piece.clone()]);
                }
                self.has_ended = wire.end;
            }
        })
        .await
    }
}
