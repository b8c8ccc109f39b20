//! What a model says, in the six forms that Ollama has for it; shapes and field order as recorded from v0.32.15. The same
//! request gives the same bytes, always: times, ids and words are fixed.

use serde_json::{Value, json};

use crate::script::Reply;

/// The six routes on which a model talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Generate,
    Chat,
    V1Chat,
    V1Completions,
    Responses,
    Messages,
}

/// How the answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Done,
    RunnerDied,
    GaveUp,
}

/// An answer to be worded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Talk<'a> {
    pub(crate) kind: Kind,
    pub(crate) model: &'a str,
    pub(crate) tokens: usize,
    /// The request's bound cut it short.
    pub(crate) bounded: bool,
    pub(crate) prompt_tokens: usize,
    /// `stream_options.include_usage`.
    pub(crate) usage: bool,
    pub(crate) ending: Ending,
}

pub(crate) const CREATED_AT: &str = "2026-11-20T12:58:10.809939404Z";
pub(crate) const CREATED: u64 = 1_795_179_490;
pub(crate) const NDJSON: &str = "application/x-ndjson";
pub(crate) const JSON: &str = "application/json; charset=utf-8";
pub(crate) const V1_JSON: &str = "application/json";
const SSE: &str = "text/event-stream";
pub(crate) const RUNNER_DIED: &str = "an error was encountered while running the model: unexpected EOF";

const WORDS: [&str; 11] = [
    "Close",
    " the",
    " connection",
    ".",
    " The",
    " gateway",
    " stops",
    " the",
    " generation",
    " right",
    " away.",
];

/// The token at this place; the words repeat.
pub(crate) fn token(place: usize) -> &'static str {
    WORDS[place % WORDS.len()]
}

/// The first `tokens` tokens joined.
pub(crate) fn text(tokens: usize) -> String {
    (0..tokens).map(token).collect()
}

/// FNV-1a, for values that must differ and stay the same.
pub(crate) fn fnv(bytes: &[u8], salt: u64) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325 ^ salt.rotate_left(17), |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Talk<'_> {
    pub(crate) fn whole(&self) -> Reply {
        let native = matches!(self.kind, Kind::Generate | Kind::Chat);
        let mut body = self.whole_body().to_string();
        if !native {
            body.push('\n');
        }
        Reply::whole(200, if native { JSON } else { V1_JSON }, body)
    }

    pub(crate) fn stream(&self) -> Reply {
        let pieces = match self.kind {
            Kind::Generate | Kind::Chat => self.ndjson(),
            Kind::V1Chat | Kind::V1Completions => self.data_events(),
            Kind::Responses => self.response_events(),
            Kind::Messages => self.message_events(),
        };
        let pieces = pieces.into_iter().map(String::into_bytes).collect();
        match self.kind {
            Kind::Generate | Kind::Chat => Reply::stream(NDJSON, pieces),
            Kind::V1Chat | Kind::V1Completions => Reply::stream(SSE, pieces),
            Kind::Responses | Kind::Messages => {
                Reply::stream(SSE, pieces).with("Cache-Control", "no-cache").with("Connection", "keep-alive")
            }
        }
    }

    fn whole_body(&self) -> Value {
        let text = text(self.tokens);
        let finish = self.finish_reason();
        match self.kind {
            Kind::Generate | Kind::Chat => self.native_end(&text),
            Kind::V1Chat => json!({
                "id": "chatcmpl-806", "object": "chat.completion", "created": CREATED, "model": self.model,
                "system_fingerprint": "fp_ollama",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
                "usage": self.usage(),
            }),
            Kind::V1Completions => json!({
                "id": "cmpl-145", "object": "text_completion", "created": CREATED, "model": self.model,
                "system_fingerprint": "fp_ollama",
                "choices": [{"text": text, "index": 0, "finish_reason": finish}],
                "usage": self.usage(),
            }),
            Kind::Responses => self.response_whole(&text),
            Kind::Messages => {
                let mut body = json!({
                    "id": MESSAGE_ID, "type": "message", "role": "assistant", "model": self.model,
                    "content": [{"type": "text", "text": text}],
                });
                if self.ending == Ending::Done {
                    body["stop_reason"] = json!(self.stop_reason());
                }
                body["usage"] = self.message_usage();
                body
            }
        }
    }

    fn ndjson(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            (0..self.tokens).map(|place| line(&self.native(token(place), false))).collect();
        match self.ending {
            Ending::Done => lines.push(line(&self.native_end(""))),
            Ending::RunnerDied => lines.push(line(&json!({"error": RUNNER_DIED}))),
            Ending::GaveUp => {}
        }
        lines
    }

    fn native(&self, text: &str, done: bool) -> Value {
        match self.kind {
            Kind::Chat => json!({
                "model": self.model, "created_at": CREATED_AT,
                "message": {"role": "assistant", "content": text}, "done": done,
            }),
            _ => json!({"model": self.model, "created_at": CREATED_AT, "response": text, "done": done}),
        }
    }

    fn native_end(&self, text: &str) -> Value {
        if self.ending != Ending::Done {
            return self.native(text, false);
        }
        let mut end = self.native(text, true);
        end["done_reason"] = json!(if self.bounded { "length" } else { "stop" });
        if self.kind == Kind::Generate {
            end["context"] = json!([1, 87, 85, 275, 201]);
        }
        end["total_duration"] = json!(20_126_747);
        end["load_duration"] = json!(1_163_858);
        end["prompt_eval_count"] = json!(self.prompt_tokens);
        end["prompt_eval_duration"] = json!(3_397_000);
        end["eval_count"] = json!(self.tokens);
        end["eval_duration"] = json!(12_918_000);
        end
    }

    fn data_events(&self) -> Vec<String> {
        let mut events: Vec<String> = (0..self.tokens)
            .map(|place| data(&self.v1_chunk(self.model, Some(token(place)), place == 0)))
            .collect();
        match self.ending {
            // The only sign: an empty model name.
            Ending::RunnerDied => events.push(data(&self.v1_chunk("", Some(""), false))),
            Ending::GaveUp => {}
            Ending::Done => {
                let mut last = data(&self.v1_chunk(self.model, None, false));
                if self.usage {
                    let mut usage = self.v1_chunk(self.model, None, false);
                    usage["choices"] = json!([]);
                    usage["usage"] = self.usage();
                    last.push_str(&data(&usage));
                }
                last.push_str("data: [DONE]\n\n");
                events.push(last);
            }
        }
        events
    }

    /// A chunk of text, or (`None`) the finish chunk.
    fn v1_chunk(&self, model: &str, text: Option<&str>, first: bool) -> Value {
        let finish = if text.is_none() { self.finish_reason() } else { Value::Null };
        if self.kind == Kind::V1Completions {
            let mut chunk = json!({
                "id": "cmpl-83", "object": "text_completion", "created": CREATED,
                "choices": [{"text": text.unwrap_or_default(), "index": 0, "finish_reason": finish}],
                "model": model, "system_fingerprint": "fp_ollama",
            });
            if self.usage {
                chunk["usage"] = json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0});
            }
            return chunk;
        }
        let delta = match text {
            None => json!({}),
            Some(text) if first => json!({"role": "assistant", "content": text}),
            Some(text) => json!({"content": text}),
        };
        json!({
            "id": "chatcmpl-43", "object": "chat.completion.chunk", "created": CREATED, "model": model,
            "system_fingerprint": "fp_ollama",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        })
    }

    fn message_events(&self) -> Vec<String> {
        let mut events = vec![
            event(
                "message_start",
                &json!({"type": "message_start", "message": {
                "id": MESSAGE_ID, "type": "message", "role": "assistant", "model": self.model, "content": [],
                "usage": {"input_tokens": self.prompt_tokens.div_ceil(4), "output_tokens": 0}}}),
            ),
            event(
                "content_block_start",
                &json!({"type": "content_block_start", "index": 0,
                "content_block": {"type": "text", "text": ""}}),
            ),
        ];
        events.extend((0..self.tokens).map(|place| {
            event(
                "content_block_delta",
                &json!({"type": "content_block_delta", "index": 0,
                "delta": {"type": "text_delta", "text": token(place)}}),
            )
        }));
        if self.ending == Ending::Done {
            let delta = json!({"type": "message_delta", "delta": {"stop_reason": self.stop_reason()},
                "usage": self.message_usage()});
            events.push(event("content_block_stop", &json!({"type": "content_block_stop", "index": 0})));
            events.push(event("message_delta", &delta));
            events.push(event("message_stop", &json!({"type": "message_stop"})));
        }
        events
    }

    fn finish_reason(&self) -> Value {
        match (self.ending, self.bounded) {
            (Ending::Done, true) => json!("length"),
            (Ending::Done, false) => json!("stop"),
            (Ending::RunnerDied | Ending::GaveUp, _) => Value::Null,
        }
    }

    fn stop_reason(&self) -> &'static str {
        if self.bounded { "max_tokens" } else { "end_turn" }
    }

    /// Prompt and answer; nothing is counted where the runner never reported an end.
    pub(crate) fn counts(&self) -> (usize, usize) {
        if self.ending == Ending::Done { (self.prompt_tokens, self.tokens) } else { (0, 0) }
    }

    fn usage(&self) -> Value {
        let (prompt, answer) = self.counts();
        json!({"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer})
    }

    fn message_usage(&self) -> Value {
        let (prompt, answer) = self.counts();
        json!({"input_tokens": prompt, "output_tokens": answer})
    }
}

const MESSAGE_ID: &str = "msg_1e5b4155ed708757a38ac9f3";

pub(crate) fn line(value: &Value) -> String {
    format!("{value}\n")
}

fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

pub(crate) fn event(name: &str, value: &Value) -> String {
    format!("event: {name}\ndata: {value}\n\n")
}
