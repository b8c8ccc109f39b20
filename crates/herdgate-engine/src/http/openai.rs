//! `/v1/chat/completions` and `/v1/completions`.

use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use gate_types::Dialect;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::answer::{Answer, End, Out, Prompt, Request, Writer};
use super::fields::Fields;
use super::native::{no_format, no_images, no_tools};
use super::refusal::{JSON, Refusal, openai_error, reply};
use super::{Reply, require_completion};
use crate::options::Options;
use crate::prompt::Message;
use crate::roster::{Entry, Roster};

const STREAM: &str = "text/event-stream";
const DONE: &str = "data: [DONE]\n\n";

#[derive(Debug, Clone, Serialize)]
struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
}

impl Usage {
    fn of(end: &End) -> Usage {
        let (prompt_tokens, completion_tokens) = (end.finish.prompt_tokens, end.finish.answer_tokens);
        Usage { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
    }

    const NOTHING: Usage = Usage { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 };
}

/// What both forms repeat in every piece.
#[derive(Debug)]
struct Events {
    id: String,
    created: i64,
    model: String,
    with_usage: bool,
    spoken: bool,
}

impl Events {
    fn new(prefix: &str, model: String, with_usage: bool) -> Events {
        // Ollama's ids, which are not unique either.
        let id = format!("{prefix}-{}", getrandom::u32().unwrap_or_default() % 999);
        Events { id, created: Timestamp::now().as_second(), model, with_usage, spoken: false }
    }

    fn chunk(&self, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": "fp_ollama",
            "choices": choices,
        })
    }

    /// The old form puts the choices before the model.
    fn old_chunk(&self, choices: Value, usage: &Usage) -> Value {
        let mut chunk = json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "choices": choices,
            "model": self.model,
            "system_fingerprint": "fp_ollama",
        });
        if self.with_usage
            && let Value::Object(map) = &mut chunk
        {
            map.insert("usage".into(), json!(usage));
        }
        chunk
    }
}

fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn failure(refusal: &Refusal) -> String {
    // Without [DONE] after it, so that no client takes this for a whole answer.
    format!("data: {}\n\n", openai_error(refusal))
}

#[derive(Debug)]
struct ChatEvents(Events);

impl Writer for ChatEvents {
    fn text(&mut self, text: &str, out: &mut Out) {
        let first = !std::mem::replace(&mut self.0.spoken, true);
        let delta =
            if first { json!({"role": "assistant", "content": text}) } else { json!({"content": text}) };
        out.push_back(event(&self.0.chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}]))));
    }

    fn done(&mut self, end: &End, out: &mut Out) {
        let choice = json!([{"index": 0, "delta": {}, "finish_reason": end.reason()}]);
        let mut last = event(&self.0.chunk(choice));
        if self.0.with_usage {
            let mut chunk = self.0.chunk(json!([]));
            if let Value::Object(map) = &mut chunk {
                map.insert("usage".into(), json!(Usage::of(end)));
            }
            last += &event(&chunk);
        }
        out.push_back(last + DONE);
    }

    fn failed(&mut self, refusal: &Refusal, out: &mut Out) {
        out.push_back(failure(refusal));
    }
}

#[derive(Debug)]
struct TextEvents(Events);

impl Writer for TextEvents {
    fn text(&mut self, text: &str, out: &mut Out) {
        let choices = json!([{"text": text, "index": 0, "finish_reason": null}]);
        out.push_back(event(&self.0.old_chunk(choices, &Usage::NOTHING)));
    }

    fn done(&mut self, end: &End, out: &mut Out) {
        let choices = json!([{"text": "", "index": 0, "finish_reason": end.reason()}]);
        let mut last = event(&self.0.old_chunk(choices, &Usage::NOTHING));
        if self.0.with_usage {
            last += &event(&self.0.old_chunk(json!([]), &Usage::of(end)));
        }
        out.push_back(last + DONE);
    }

    fn failed(&mut self, refusal: &Refusal, out: &mut Out) {
        out.push_back(failure(refusal));
    }
}

/// `POST /v1/chat/completions`
pub(super) async fn chat(roster: Arc<Roster>, body: Body) -> Reply {
    let fields = Fields::read(body, "ChatCompletionRequest", Dialect::OpenAi).await?;
    let model = fields.text("model")?;
    let list = fields.list("messages", "[]openai.Message")?;
    let streams = fields.flag("stream")?.unwrap_or(false);
    let mut options = options(&fields)?;
    if list.is_empty() {
        return Err(Refusal::bad("[] is too short - 'messages'"));
    }
    check_effort(&fields)?;
    let mut messages = Vec::new();
    let mut sees = false;
    for message in list {
        let (message, has_images) = read_message(message)?;
        messages.push(message);
        sees |= has_images;
    }
    let entry = find(&roster, &model)?;
    require_completion(&entry, &model, "chat")?;
    if sees {
        return Err(no_images(&entry));
    }
    if fields.is_filled("tools") {
        return Err(no_tools(&entry));
    }
    check_unsupported(&fields, &model)?;
    fill_defaults(&mut options, &entry);
    let events = Events::new("chatcmpl", model, includes_usage(&fields)?);
    let answer =
        Answer::begin(&roster, &entry, request(Prompt::Chat { messages, before: Vec::new() }, options))
            .await?;
    if streams {
        return Ok(answer.stream(STREAM, ChatEvents(events)));
    }
    let (text, end) = answer.whole().await?;
    let message = json!({"role": "assistant", "content": text});
    let body = json!({
        "id": events.id,
        "object": "chat.completion",
        "created": events.created,
        "model": events.model,
        "system_fingerprint": "fp_ollama",
        "choices": [{"index": 0, "message": message, "finish_reason": end.reason()}],
        "usage": Usage::of(&end),
    });
    Ok(reply(StatusCode::OK, JSON, body.to_string() + "\n"))
}

/// `POST /v1/completions`
pub(super) async fn completions(roster: Arc<Roster>, body: Body) -> Reply {
    let fields = Fields::read(body, "CompletionRequest", Dialect::OpenAi).await?;
    let (model, prompt) = (fields.text("model")?, fields.text("prompt")?);
    let streams = fields.flag("stream")?.unwrap_or(false);
    let mut options = options(&fields)?;
    let entry = find(&roster, &model)?;
    require_completion(&entry, &model, "generate")?;
    if fields.is_filled("suffix") {
        return Err(Refusal::bad(format!("{} does not support insert", super::full_name(&entry.name))));
    }
    fill_defaults(&mut options, &entry);
    let events = Events::new("cmpl", model, includes_usage(&fields)?);
    let whole = |text: &str, reason: &str, usage: &Usage| {
        let body = json!({
            "id": events.id,
            "object": "text_completion",
            "created": events.created,
            "model": events.model,
            "system_fingerprint": "fp_ollama",
            "choices": [{"text": text, "index": 0, "finish_reason": reason}],
            "usage": usage,
        });
        Ok(reply(StatusCode::OK, JSON, body.to_string() + "\n"))
    };
    if prompt.is_empty() {
        drop(roster.lease(&entry, None).await.map_err(Refusal::broken)?);
        return whole("", "load", &Usage::NOTHING);
    }
    let user = Message { role: "user".into(), content: prompt };
    let prompt = Prompt::Chat { messages: vec![user], before: Vec::new() };
    let answer = Answer::begin(&roster, &entry, request(prompt, options)).await?;
    if streams {
        return Ok(answer.stream(STREAM, TextEvents(events)));
    }
    let (text, end) = answer.whole().await?;
    whole(&text, end.reason(), &Usage::of(&end))
}

fn find(roster: &Roster, model: &str) -> Result<Arc<Entry>, Refusal> {
    if model.is_empty() {
        return Err(Refusal::bad("model is required"));
    }
    roster.find(model).ok_or_else(|| Refusal::no_model(model))
}

fn request(prompt: Prompt, options: Options) -> Request {
    Request { prompt, options, keep_alive: None, cuts: true, slides: true }
}

fn includes_usage(fields: &Fields) -> Result<bool, Refusal> {
    let asked = fields.object("stream_options", "openai.StreamOptions")?;
    Ok(asked.and_then(|options| options.get("include_usage")).and_then(Value::as_bool).unwrap_or(false))
}

fn options(fields: &Fields) -> Result<Options, Refusal> {
    let real = |key: &str| Ok::<Option<f32>, Refusal>(fields.real(key)?.map(|n| n as f32));
    let stop = match fields.get("stop") {
        Some(Value::String(stop)) => vec![stop.clone()],
        // What is no text is dropped silently, as in Ollama.
        Some(Value::Array(all)) => all.iter().filter_map(|stop| stop.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    Ok(Options {
        num_predict: fields.whole("max_tokens")?,
        seed: fields.whole("seed")?,
        temperature: real("temperature")?,
        top_p: real("top_p")?,
        presence_penalty: real("presence_penalty")?,
        frequency_penalty: real("frequency_penalty")?,
        stop,
        ..Options::default()
    })
}

/// Where neither the request nor the file says anything, these routes take 1, as OpenAI does.
fn fill_defaults(options: &mut Options, entry: &Entry) {
    let preferred = &entry.facts.preferred;
    options.temperature = options.temperature.or(preferred.temperature).or(Some(1.0));
    options.top_p = options.top_p.or(preferred.top_p).or(Some(1.0));
}

fn check_effort(fields: &Fields) -> Result<(), Refusal> {
    let effort = fields.text("reasoning_effort")?;
    let known = ["", "minimal", "low", "medium", "high", "xhigh", "ultra", "max", "none"];
    if known.contains(&effort.as_str()) {
        return Ok(());
    }
    let allowed = "\"minimal\", \"low\", \"medium\", \"high\", \"xhigh\", \"ultra\", \"max\", or \"none\"";
    Err(Refusal::bad(format!("invalid reasoning value: {effort:?} (must be {allowed})")))
}

fn check_unsupported(fields: &Fields, model: &str) -> Result<(), Refusal> {
    let effort = fields.text("reasoning_effort")?;
    if !["", "none"].contains(&effort.as_str()) {
        return Err(Refusal::bad(format!("\"{model}\" does not support thinking")));
    }
    if fields.flag("logprobs")? == Some(true) {
        return Err(Refusal::bad("this server does not support logprobs"));
    }
    let form = fields.object("response_format", "openai.ResponseFormat")?;
    match form.and_then(|form| form.get("type")).and_then(Value::as_str) {
        Some("json_object" | "json_schema") => Err(no_format()),
        _ => Ok(()),
    }
}

/// A message, and whether it has images.
fn read_message(message: &Value) -> Result<(Message, bool), Refusal> {
    let fields = Fields::inside("ChatCompletionRequest.messages", message, "", "openai.Message")?;
    let role = fields.text("role")?.to_lowercase();
    let mut content = String::new();
    let mut sees = false;
    match fields.get("content") {
        None => {}
        Some(Value::String(text)) => content.clone_from(text),
        Some(Value::Array(parts)) => {
            for part in parts {
                match part.get("type").and_then(Value::as_str) {
                    Some("text") => {
                        content.push_str(part.get("text").and_then(Value::as_str).unwrap_or_default())
                    }
                    Some("image_url") => {
                        check_image(part)?;
                        sees = true;
                    }
                    _ => return Err(Refusal::bad("invalid message format")),
                }
            }
        }
        Some(other) => return Err(Refusal::bad(format!("invalid message content type: {other}"))),
    }
    Ok((Message { role, content }, sees))
}

fn check_image(part: &Value) -> Result<(), Refusal> {
    let image = part.get("image_url");
    let url =
        image.and_then(|image| image.as_str().or_else(|| image.get("url")?.as_str())).unwrap_or_default();
    if url.starts_with("http://") || url.starts_with("https://") {
        return Err(Refusal::bad(
            "image URLs are not currently supported, please use base64 encoded data instead",
        ));
    }
    Ok(())
}
