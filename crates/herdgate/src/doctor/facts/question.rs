//! The one question to a model: when each piece of the answer was made, and when it came.

use super::ask::{Question, Unheard, Way, piece};
use super::served::{Failed, failed};
use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Tokens of the answer.
const TOKENS: u32 = 16;
/// Lines of an answer, and bytes of one.
const LINES: usize = 256;
const LINE: usize = 64 * 1024;

/// A question, and what became of it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Told {
    pub(in crate::doctor) model: String,
    pub(in crate::doctor) was_loaded: bool,
    /// Of the answer's head, where one came.
    pub(in crate::doctor) status: Option<u16>,
    /// What the server says is wrong.
    pub(in crate::doctor) error: Option<String>,
    /// Why the answer ends early.
    pub(in crate::doctor) failed: Option<Failed>,
    /// Whether the last line came.
    pub(in crate::doctor) is_whole: bool,
    /// Until everything had come, or failed.
    pub(in crate::doctor) micros: u64,
    /// When each line came, since the question.
    pub(in crate::doctor) came: Vec<u64>,
    /// When the server made each, by its own clock, since the first.
    pub(in crate::doctor) made: Vec<u64>,
    /// What the server says that loading took.
    pub(in crate::doctor) load_micros: u64,
    pub(in crate::doctor) tokens: u64,
    pub(in crate::doctor) eval_micros: u64,
}

impl Told {
    /// The longest time in which nothing came.
    pub(in crate::doctor) fn silence(&self) -> u64 {
        let ends = self.came.iter().chain([&self.micros]);
        let begins = [0].iter().chain(&self.came);
        ends.zip(begins).map(|(end, begin)| end.saturating_sub(*begin)).max().unwrap_or(0)
    }

    /// The time after the last that came.
    pub(in crate::doctor) fn last_silence(&self) -> u64 {
        self.micros.saturating_sub(self.came.last().copied().unwrap_or(0))
    }
}

pub(super) async fn ask(way: &Way, model: &str, was_loaded: bool, limit: Duration) -> Told {
    let body = json!({
        "model": model, "prompt": "Say yes.", "stream": true, "options": { "num_predict": TOKENS, "temperature": 0 },
    });
    let question = Question {
        method: Method::POST,
        body: Bytes::from(body.to_string()),
        ..Question::get("/api/generate")
    };
    let mut told = Told { model: model.to_owned(), was_loaded, ..Told::default() };
    let begun = Instant::now();
    let done = timeout(limit, Box::pin(hear(way, &question, begun, &mut told))).await;
    if let Err(unheard) = done.unwrap_or(Err(Unheard::Silent)) {
        told.failed = Some(failed(unheard));
    }
    told.micros = micros(begun);
    told
}

fn micros(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)
}

async fn hear(way: &Way, question: &Question, begun: Instant, told: &mut Told) -> Result<(), Unheard> {
    let mut open = way.open().await?;
    let answer = way.send(&mut open, question).await?;
    told.status = Some(answer.status().as_u16());
    let mut body = answer.into_body();
    let mut rest: Vec<u8> = Vec::new();
    let mut first = None;
    while let Some(data) = piece(&mut body).await? {
        let came = micros(begun);
        rest.extend_from_slice(&data);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            take(&line, came, &mut first, told);
        }
        if rest.len() > LINE || told.came.len() > LINES {
            return Err(Unheard::Other("the answer is far too long".to_owned()));
        }
    }
    if !rest.is_empty() {
        take(&rest, micros(begun), &mut first, told);
    }
    Ok(())
}

fn take(line: &[u8], came: u64, first: &mut Option<jiff::Timestamp>, told: &mut Told) {
    let Ok(said) = serde_json::from_slice::<Value>(line) else { return };
    if let Some(error) = said["error"].as_str() {
        told.error = Some(crate::progress::plain(error));
        return;
    }
    told.came.push(came);
    if let Some(made) = said["created_at"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) {
        let begun = *first.get_or_insert(made);
        told.made.push(u64::try_from(made.duration_since(begun).as_micros()).unwrap_or(0));
    }
    if said["done"] == true {
        let nanos = |field: &str| said[field].as_u64().unwrap_or(0) / 1_000;
        told.is_whole = true;
        told.load_micros = nanos("load_duration");
        told.eval_micros = nanos("eval_duration");
        told.tokens = said["eval_count"].as_u64().unwrap_or(0);
    }
}
