//! `/v1/messages`.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use gate_types::Dialect;
use serde_json::{Value, json};

use super::answer::{Answer, End, Out, Prompt, Request, Writer};
use super::fields::Fields;
use super::native::{no_images, no_tools};
use super::refusal::{JSON, Refusal, anthropic_error, reply};
use super::{Reply, require_completion};
use crate::options::Options;
use crate::prompt::Message;
use crate::roster::Roster;

const STREAM: &str = "text/event-stream";

#[derive(Debug)]
struct Events {
    id: String,
    model: String,
    /// Ollama's estimate before the prompt is read: a quarter of its length.
    estimate: usize,
    began: bool,
    open: bool,
}

impl Events {
    fn begin(&mut self, out: &mut Out) {
        if !std::mem::replace(&mut self.began, true) {
            let message = json!({
                "id": self.id,
                "type": "message",
                "role": "assistant",
                "model": self.model,
                "content": [],
                "usage": {"input_tokens": self.estimate, "output_tokens": 0},
            });
            out.push_back(event("message_start", &json!({"type": "message_start", "message": message})));
        }
    }
}

fn event(name: &str, value: &Value) -> String {
    format!("event: {name}\ndata: {value}\n\n")
}

impl Writer for Events {
    fn text(&mut self, text: &str, out: &mut Out) {
        self.begin(out);
        if !std::mem::replace(&mut self.open, true) {
            let block = json!({"type": "text", "text": ""});
            let start = json!({"type": "content_block_start", "index": 0, "content_block": block});
            out.push_back(event("content_block_start", &start));
        }
        let delta = json!({"type": "text_delta", "text": text});
        let piece = json!({"type": "content_block_delta", "index": 0, "delta": delta});
        out.push_back(event("content_block_delta", &piece));
    }

    fn done(&mut self, end: &End, out: &mut Out) {
        self.begin(out);
        if self.open {
            out.push_back(event("content_block_stop", &json!({"type": "content_block_stop", "index": 0})));
        }
        let delta = json!({"stop_reason": reason(end)});
        let last = json!({"type": "message_delta", "delta": delta, "usage": usage(end)});
        out.push_back(event("message_delta", &last));
        out.push_back(event("message_stop", &json!({"type": "message_stop"})));
    }

    fn failed(&mut self, refusal: &Refusal, out: &mut Out) {
        out.push_back(format!("event: error\ndata: {}\n\n", anthropic_error(refusal)));
    }
}

/// A stop sequence ends the turn too: Ollama does not tell them apart.
fn reason(end: &End) -> &'static str {
    if end.finish.stopped { "end_turn" } else { "max_tokens" }
}

fn usage(end: &End) -> Value {
    json!({"input_tokens": end.finish.prompt_tokens, "output_tokens": end.finish.answer_tokens})
}

/// `POST /v1/messages`
pub(super) async fn messages(roster: Arc<Roster>, body: Body) -> Reply {
    let fields = Fields::read(body, "MessagesRequest", Dialect::Anthropic).await?;
    let model = fields.text("model")?;
    let most = fields.whole("max_tokens")?.unwrap_or(0);
    let list = fields.list("messages", "[]anthropic.MessageParam")?;
    let streams = fields.flag("stream")?.unwrap_or(false);
    let options = options(&fields, most)?;
    if model.is_empty() {
        return Err(Refusal::bad("model is required"));
    }
    if most <= 0 {
        return Err(Refusal::bad("max_tokens is required and must be positive"));
    }
    if list.is_empty() {
        return Err(Refusal::bad("messages is required"));
    }
    let (messages, sees) = read_messages(&fields, list)?;
    let entry = roster.find(&model).ok_or_else(|| Refusal::no_model(&model))?;
    require_completion(&entry, &model, "chat")?;
    if sees {
        return Err(no_images(&entry));
    }
    if fields.is_filled("tools") {
        return Err(no_tools(&entry));
    }
    let estimate =
        messages.iter().map(|message| message.content.len() + message.role.len()).sum::<usize>() / 4;
    let prompt = Prompt::Chat { messages, before: Vec::new() };
    let request = Request { prompt, options, keep_alive: None, cuts: true, slides: true };
    let answer = Answer::begin(&roster, &entry, request).await?;
    let id = super::random_id("msg_");
    if streams {
        let mut response = answer.stream(STREAM, Events { id, model, estimate, began: false, open: false });
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        return Ok(response);
    }
    let (text, end) = answer.whole().await?;
    let content = if text.is_empty() { json!([]) } else { json!([{"type": "text", "text": text}]) };
    let body = json!({
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": reason(&end),
        "usage": usage(&end),
    });
    Ok(reply(StatusCode::OK, JSON, body.to_string() + "\n"))
}

fn options(fields: &Fields, most: i64) -> Result<Options, Refusal> {
    let stops = fields.list("stop_sequences", "[]string")?;
    let stop = |stop: &Value| match stop.as_str() {
        Some(stop) => Ok(stop.to_owned()),
        None => Err(fields.mismatch("stop_sequences", stop, "string")),
    };
    Ok(Options {
        num_predict: Some(most),
        temperature: fields.real("temperature")?.map(|n| n as f32),
        top_p: fields.real("top_p")?.map(|n| n as f32),
        top_k: fields.whole("top_k")?,
        stop: stops.iter().map(stop).collect::<Result<_, _>>()?,
        ..Options::default()
    })
}

/// The conversation, and whether there are images in it.
fn read_messages(fields: &Fields, list: &[Value]) -> Result<(Vec<Message>, bool), Refusal> {
    let mut messages = Vec::new();
    let mut sees = false;
    let (system, _) = read_content(fields.get("system"))?;
    if !system.is_empty() {
        messages.push(Message { role: "system".into(), content: system });
    }
    for message in list {
        let message = Fields::inside("MessagesRequest.messages", message, "", "anthropic.MessageParam")?;
        let (content, has_images) = read_content(message.get("content"))?;
        sees |= has_images;
        messages.push(Message { role: message.text("role")?.to_lowercase(), content });
    }
    Ok((messages, sees))
}

/// Text or blocks of it.
fn read_content(content: Option<&Value>) -> Result<(String, bool), Refusal> {
    let mut text = String::new();
    let mut sees = false;
    match content {
        None => {}
        Some(Value::String(whole)) => text.clone_from(whole),
        Some(Value::Array(blocks)) => {
            for block in blocks {
                match block.get("type").and_then(Value::as_str) {
                    Some("text") => {
                        text.push_str(block.get("text").and_then(Value::as_str).unwrap_or_default())
                    }
                    Some("image") => {
                        check_image(block)?;
                        sees = true;
                    }
                    // Thoughts of earlier turns are not part of the prompt.
                    Some("thinking") => {}
                    Some(kind) => {
                        return Err(Refusal::bad(format!("this server does not support {kind} blocks")));
                    }
                    None => return Err(Refusal::bad("a content block has no type")),
                }
            }
        }
        Some(other) => return Err(Refusal::bad(format!("invalid message content type: {other}"))),
    }
    Ok((text, sees))
}

fn check_image(block: &Value) -> Result<(), Refusal> {
    let kind =
        block.get("source").and_then(|source| source.get("type")).and_then(Value::as_str).unwrap_or_default();
    if kind == "base64" {
        return Ok(());
    }
    Err(Refusal::bad(format!("invalid image source type: {kind}. Only base64 images are supported.")))
}
