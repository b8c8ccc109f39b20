//! `/api/generate` and `/api/chat`.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use gate_types::Dialect;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::answer::{Answer, End, Out, Prompt, Request, Writer};
use super::fields::Fields;
use super::refusal::{JSON_UTF8, Refusal, reply};
use super::{Reply, full_name, require_completion};
use crate::options::{self, KeepAlive, Options};
use crate::prompt::Message;
use crate::roster::{Entry, Roster};

const STREAM: &str = "application/x-ndjson";

/// One line, or the whole answer. The order of the fields is Ollama's.
#[derive(Debug, Serialize)]
struct Line<'a> {
    model: &'a str,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Spoken<'a>>,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    done_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<&'a [i32]>,
    #[serde(flatten)]
    metrics: Option<Metrics>,
}

#[derive(Debug, Serialize)]
struct Spoken<'a> {
    role: &'static str,
    content: &'a str,
}

/// Times in nanoseconds; none of them is ever zero.
#[derive(Debug, Serialize)]
struct Metrics {
    total_duration: u128,
    load_duration: u128,
    prompt_eval_count: usize,
    prompt_eval_duration: u128,
    eval_count: usize,
    eval_duration: u128,
}

impl Metrics {
    fn of(end: &End) -> Metrics {
        let finish = &end.finish;
        Metrics {
            total_duration: end.total.as_nanos(),
            load_duration: end.load.as_nanos(),
            prompt_eval_count: finish.prompt_tokens,
            prompt_eval_duration: finish.prompt_time.as_nanos(),
            eval_count: finish.answer_tokens,
            eval_duration: finish.answer_time.as_nanos(),
        }
    }
}

/// The two routes differ in where the text stands and whether the tokens are given back.
#[derive(Debug)]
struct Lines {
    model: String,
    chat: bool,
    gives_context: bool,
}

impl Lines {
    fn line<'a>(&'a self, text: &'a str, done_reason: Option<&'a str>) -> Line<'a> {
        Line {
            model: &self.model,
            created_at: Timestamp::now(),
            response: (!self.chat).then_some(text),
            message: self.chat.then_some(Spoken { role: "assistant", content: text }),
            done: done_reason.is_some(),
            done_reason,
            context: None,
            metrics: None,
        }
    }

    fn last(&self, text: &str, end: &End) -> String {
        let mut line = self.line(text, Some(end.reason()));
        line.context = self.gives_context.then_some(&end.finish.context);
        line.metrics = Some(Metrics::of(end));
        super::json(&line)
    }
}

impl Writer for Lines {
    fn text(&mut self, text: &str, out: &mut Out) {
        out.push_back(super::json(&self.line(text, None)) + "\n");
    }

    fn done(&mut self, end: &End, out: &mut Out) {
        out.push_back(self.last("", end) + "\n");
    }

    fn failed(&mut self, refusal: &Refusal, out: &mut Out) {
        out.push_back(super::json(&serde_json::json!({"error": refusal.text})) + "\n");
    }
}

/// `POST /api/generate`
pub(super) async fn generate(roster: Arc<Roster>, body: Body) -> Reply {
    let fields = Fields::read(body, "GenerateRequest", Dialect::Ollama).await?;
    let model = fields.text("model")?;
    let (prompt, system) = (fields.text("prompt")?, fields.text("system")?);
    let raw = fields.flag("raw")?.unwrap_or(false);
    let streams = fields.flag("stream")?.unwrap_or(true);
    let (cuts, slides) = (fields.flag("truncate")?.unwrap_or(true), fields.flag("shift")?.unwrap_or(true));
    let before = tokens(&fields)?;
    let (options, keep_alive) = settings(&fields)?;
    let entry = roster.find(&model).ok_or_else(|| Refusal::no_model(&model))?;
    let lines = Lines { model, chat: false, gives_context: !raw };
    if prompt.is_empty()
        && let Some(done) = unload(&roster, &entry, keep_alive, &lines)
    {
        return Ok(done);
    }
    check(&fields, &entry, &lines)?;
    if fields.is_filled("suffix") {
        return Err(Refusal::bad(format!("{} does not support insert", full_name(&entry.name))));
    }
    if raw && (fields.is_filled("template") || !system.is_empty() || !before.is_empty()) {
        return Err(Refusal::bad("raw mode does not support template, system, or context"));
    }
    if fields.is_filled("template") {
        return Err(Refusal::bad("this server cannot use another template than the model's own"));
    }
    if prompt.is_empty() {
        return load(&roster, &entry, keep_alive, &lines).await;
    }
    let prompt = if raw {
        Prompt::Raw(prompt)
    } else {
        let system =
            Some(system).filter(|s| !s.is_empty()).map(|s| Message { role: "system".into(), content: s });
        let user = Message { role: "user".into(), content: prompt };
        Prompt::Chat { messages: system.into_iter().chain([user]).collect(), before }
    };
    let request = Request { prompt, options, keep_alive, cuts, slides };
    answer(&roster, &entry, request, lines, streams).await
}

/// `POST /api/chat`
pub(super) async fn chat(roster: Arc<Roster>, body: Body) -> Reply {
    let fields = Fields::read(body, "ChatRequest", Dialect::Ollama).await?;
    let model = fields.text("model")?;
    let messages = messages(&fields)?;
    let streams = fields.flag("stream")?.unwrap_or(true);
    let (cuts, slides) = (fields.flag("truncate")?.unwrap_or(true), fields.flag("shift")?.unwrap_or(true));
    let (options, keep_alive) = settings(&fields)?;
    if model.is_empty() {
        return Err(Refusal::bad("model is required"));
    }
    let entry = roster.find(&model).ok_or_else(|| Refusal::no_model(&model))?;
    let lines = Lines { model, chat: true, gives_context: false };
    if messages.is_empty()
        && let Some(done) = unload(&roster, &entry, keep_alive, &lines)
    {
        return Ok(done);
    }
    check(&fields, &entry, &lines)?;
    if !fields.list("tools", "api.Tools")?.is_empty() {
        return Err(no_tools(&entry));
    }
    if messages.is_empty() {
        return load(&roster, &entry, keep_alive, &lines).await;
    }
    let prompt = Prompt::Chat { messages, before: Vec::new() };
    let request = Request { prompt, options, keep_alive, cuts, slides };
    answer(&roster, &entry, request, lines, streams).await
}

async fn answer(
    roster: &Arc<Roster>,
    entry: &Arc<Entry>,
    request: Request,
    lines: Lines,
    streams: bool,
) -> Reply {
    let answer = Answer::begin(roster, entry, request).await?;
    if streams {
        return Ok(answer.stream(STREAM, lines));
    }
    let (text, end) = answer.whole().await?;
    Ok(reply(StatusCode::OK, JSON_UTF8, lines.last(&text, &end)))
}

/// An empty request with `keep_alive: 0` unloads.
fn unload(roster: &Roster, entry: &Entry, keep: Option<KeepAlive>, lines: &Lines) -> Option<Response<Body>> {
    (keep == Some(KeepAlive::For(std::time::Duration::ZERO))).then(|| {
        roster.expire(entry);
        reply(StatusCode::OK, JSON_UTF8, super::json(&lines.line("", Some("unload"))))
    })
}

/// An empty request loads.
async fn load(roster: &Arc<Roster>, entry: &Arc<Entry>, keep: Option<KeepAlive>, lines: &Lines) -> Reply {
    drop(roster.lease(entry, keep).await.map_err(Refusal::broken)?);
    Ok(reply(StatusCode::OK, JSON_UTF8, super::json(&lines.line("", Some("load")))))
}

/// What no model of this engine can do, and whether this one can do what is asked.
fn check(fields: &Fields, entry: &Entry, lines: &Lines) -> Result<(), Refusal> {
    require_completion(entry, &lines.model, if lines.chat { "chat" } else { "generate" })?;
    check_thinking(fields.get("think"), &lines.model)?;
    check_format(fields.get("format"))?;
    if fields.flag("logprobs")? == Some(true) {
        return Err(Refusal::bad("this server does not support logprobs"));
    }
    if fields.is_filled("images") {
        return Err(no_images(entry));
    }
    let sees =
        |message: &Value| message.get("images").and_then(Value::as_array).is_some_and(|all| !all.is_empty());
    if fields.get("messages").and_then(Value::as_array).is_some_and(|all| all.iter().any(sees)) {
        return Err(no_images(entry));
    }
    Ok(())
}

fn check_thinking(think: Option<&Value>, model: &str) -> Result<(), Refusal> {
    match think {
        None | Some(Value::Bool(false)) => Ok(()),
        Some(Value::String(level)) if !["high", "medium", "low", "max"].contains(&level.as_str()) => {
            let allowed = "(must be \"high\", \"medium\", \"low\", \"max\", true, or false)";
            Err(Refusal::bad(format!("invalid think value: {level:?} {allowed}")))
        }
        Some(Value::Bool(true) | Value::String(_)) => {
            Err(Refusal::bad(format!("\"{model}\" does not support thinking")))
        }
        Some(_) => Err(Refusal::bad(
            "think must be a boolean or string (\"high\", \"medium\", \"low\", \"max\", true, or false)",
        )),
    }
}

fn check_format(format: Option<&Value>) -> Result<(), Refusal> {
    match format {
        None => Ok(()),
        Some(Value::String(format)) if format.is_empty() => Ok(()),
        Some(Value::String(format)) if format == "json" => Err(no_format()),
        Some(Value::Object(_)) => Err(no_format()),
        Some(other) => {
            let quoted = other.to_string();
            let text = format!("invalid format: {quoted:?}; expected \"json\" or a valid JSON Schema object");
            Err(Refusal::broken(text))
        }
    }
}

/// Output in a given form is not offered.
pub(super) fn no_format() -> Refusal {
    Refusal::bad("this server does not support structured output (format)")
}

pub(super) fn no_tools(entry: &Entry) -> Refusal {
    Refusal::bad(format!("{} does not support tools", full_name(&entry.name)))
}

pub(super) fn no_images(entry: &Entry) -> Refusal {
    Refusal::bad(format!("{} does not support vision", full_name(&entry.name)))
}

/// `options` and `keep_alive`.
pub(super) fn settings(fields: &Fields) -> Result<(Options, Option<KeepAlive>), Refusal> {
    let keep_alive = options::keep_alive(fields.get("keep_alive")).map_err(Refusal::bad)?;
    let options = match fields.object("options", "map[string]interface {}")? {
        Some(options) => Options::read(options).map_err(Refusal::broken)?,
        None => Options::default(),
    };
    Ok((options, keep_alive))
}

fn tokens(fields: &Fields) -> Result<Vec<i32>, Refusal> {
    let list = fields.list("context", "[]int")?;
    let token = |value: &Value| {
        let token = value.as_i64().ok_or_else(|| fields.mismatch("context", value, "int"))?;
        i32::try_from(token).map_err(|_| Refusal::bad(format!("context: there is no token {token}")))
    };
    list.iter().map(token).collect()
}

fn messages(fields: &Fields) -> Result<Vec<Message>, Refusal> {
    let read = |message: &Value| {
        let message = Fields::inside("ChatRequest.messages", message, "", "api.Message")?;
        Ok(Message { role: message.text("role")?.to_lowercase(), content: message.text("content")? })
    };
    fields.list("messages", "[]api.Message")?.iter().map(read).collect()
}
