//! `/api/embed`, `/api/embeddings` and `/v1/embeddings`.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::http::StatusCode;
use gate_types::Dialect;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Reply;
use super::answer::refused;
use super::fields::Fields;
use super::native::settings;
use super::refusal::{JSON, JSON_UTF8, Refusal, reply};
use crate::options::KeepAlive;
use crate::roster::{Entry, Roster};
use crate::runner::{EmbedAsk, Job};

/// Texts of one request.
const MOST_TEXTS: usize = 4096;

#[derive(Debug, Serialize)]
struct Embedded<'a> {
    model: &'a str,
    embeddings: &'a [Vec<f32>],
    #[serde(skip_serializing_if = "Option::is_none")]
    total_duration: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load_duration: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_eval_count: Option<usize>,
}

/// Vectors with what they cost.
struct Vectors {
    vectors: Vec<Vec<f32>>,
    tokens: usize,
    load: std::time::Duration,
}

/// `POST /api/embed`
pub(super) async fn embed(roster: Arc<Roster>, body: Body) -> Reply {
    let began = Instant::now();
    let fields = Fields::read(body, "EmbedRequest", Dialect::Ollama).await?;
    let model = fields.text("model")?;
    let (_, keep) = settings(&fields)?;
    let cuts = fields.flag("truncate")?.unwrap_or(true);
    let dimensions = dimensions(&fields)?;
    let entry = roster.find(&model).ok_or_else(|| Refusal::no_model_to_embed(&model))?;
    let texts = texts(fields.get("input"))?;
    let is_load = texts.is_empty() || (fields.get("input").is_some_and(Value::is_string) && texts == [""]);
    if is_load {
        drop(roster.lease(&entry, keep).await.map_err(Refusal::broken)?);
        let nothing = Embedded {
            model: &model,
            embeddings: &[],
            total_duration: None,
            load_duration: None,
            prompt_eval_count: None,
        };
        return Ok(reply(StatusCode::OK, JSON_UTF8, super::json(&nothing)));
    }
    let mut done = vectors(&roster, &entry, texts, keep, cuts).await?;
    done.vectors.iter_mut().for_each(|vector| shorten(vector, dimensions));
    let answer = Embedded {
        model: &model,
        embeddings: &done.vectors,
        total_duration: Some(began.elapsed().as_nanos()),
        load_duration: Some(done.load.as_nanos()),
        prompt_eval_count: Some(done.tokens),
    };
    Ok(reply(StatusCode::OK, JSON_UTF8, super::json(&answer)))
}

/// `POST /api/embeddings`, the old form: one text, and every failure is a 500.
pub(super) async fn embeddings(roster: Arc<Roster>, body: Body) -> Reply {
    let fields = Fields::read(body, "EmbeddingRequest", Dialect::Ollama).await?;
    let (model, prompt) = (fields.text("model")?, fields.text("prompt")?);
    let (_, keep) = settings(&fields)?;
    let entry = roster.find(&model).ok_or_else(|| Refusal::no_model_to_embed(&model))?;
    let vector: Vec<f64> = if prompt.is_empty() {
        drop(roster.lease(&entry, keep).await.map_err(Refusal::broken)?);
        Vec::new()
    } else {
        let done = vectors(&roster, &entry, vec![prompt], keep, false).await;
        let done = done.map_err(|refusal| Refusal::broken(refusal.text))?;
        let mut first = done.vectors.into_iter().next().unwrap_or_default();
        shorten(&mut first, None);
        first.into_iter().map(f64::from).collect()
    };
    Ok(reply(StatusCode::OK, JSON_UTF8, json!({"embedding": vector}).to_string()))
}

/// `POST /v1/embeddings`
pub(super) async fn openai(roster: Arc<Roster>, body: Body) -> Reply {
    let fields = Fields::read(body, "EmbedRequest", Dialect::OpenAi).await?;
    let model = fields.text("model")?;
    let form = fields.text("encoding_format")?;
    if !["", "float", "base64"].contains(&form.as_str()) {
        let supported = "Supported values: ['float', 'base64'].";
        return Err(Refusal::bad(format!("Invalid value for 'encoding_format' = {form}. {supported}")));
    }
    if !fields.is_filled("input") && !fields.get("input").is_some_and(Value::is_string) {
        return Err(Refusal::bad("invalid input"));
    }
    let dimensions = dimensions(&fields)?;
    if model.is_empty() {
        return Err(Refusal::bad("model is required"));
    }
    let entry = roster.find(&model).ok_or_else(|| Refusal::no_model_to_embed(&model))?;
    let texts = texts(fields.get("input"))?;
    let done = vectors(&roster, &entry, texts, None, true).await?;
    let datum = |(index, mut vector): (usize, Vec<f32>)| {
        shorten(&mut vector, dimensions);
        let embedding =
            if form == "base64" { Written::Base64(base64(&vector)) } else { Written::Floats(vector) };
        Datum { object: "embedding", embedding, index }
    };
    let data = done.vectors.into_iter().enumerate().map(datum).collect();
    let usage = Usage { prompt_tokens: done.tokens, total_tokens: done.tokens };
    let answer = Data { object: "list", data, model: &model, usage };
    Ok(reply(StatusCode::OK, JSON, super::json(&answer) + "\n"))
}

#[derive(Debug, Serialize)]
struct Data<'a> {
    object: &'static str,
    data: Vec<Datum>,
    model: &'a str,
    usage: Usage,
}

#[derive(Debug, Serialize)]
struct Datum {
    object: &'static str,
    embedding: Written,
    index: usize,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Written {
    Floats(Vec<f32>),
    Base64(String),
}

#[derive(Debug, Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

async fn vectors(
    roster: &Arc<Roster>,
    entry: &Arc<Entry>,
    texts: Vec<String>,
    keep: Option<KeepAlive>,
    cuts: bool,
) -> Result<Vectors, Refusal> {
    if texts.len() > MOST_TEXTS {
        return Err(Refusal::bad(format!(
            "{} texts are too many; {MOST_TEXTS} may be embedded at once",
            texts.len()
        )));
    }
    let began = Instant::now();
    let lease = roster.lease(entry, keep).await.map_err(Refusal::broken)?;
    let load = began.elapsed().max(std::time::Duration::from_nanos(1));
    let loaded = Arc::clone(&lease.loaded);
    let (reply, vectors) = oneshot::channel();
    let reading = tokio::task::spawn_blocking(move || {
        let limit = loaded.limits.embedded;
        let read = |text: &String| super::tokens::of_embedded(&loaded, text, limit, cuts);
        let texts: Vec<Vec<i32>> = texts.iter().map(read).collect::<Result<_, Refusal>>()?;
        let tokens = texts.iter().map(Vec::len).sum();
        loaded.runner.push(Job::Embed(EmbedAsk { texts, reply })).map_err(refused)?;
        Ok::<usize, Refusal>(tokens)
    });
    let tokens = reading.await.map_err(|e| Refusal::broken(e.to_string()))??;
    let outcome = vectors.await.map_err(|_| Refusal::broken("model runner has unexpectedly stopped"))?;
    Ok(Vectors { vectors: outcome.map_err(Refusal::broken)?, tokens, load })
}

fn texts(input: Option<&Value>) -> Result<Vec<String>, Refusal> {
    let wrong = || Refusal::bad("invalid input type");
    match input {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text.clone()]),
        Some(Value::Array(all)) => {
            all.iter().map(|text| text.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

fn dimensions(fields: &Fields) -> Result<Option<usize>, Refusal> {
    Ok(fields.whole("dimensions")?.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0))
}

/// Cuts a vector to so many dimensions and gives it length 1.
fn shorten(vector: &mut Vec<f32>, dimensions: Option<usize>) {
    if let Some(dimensions) = dimensions {
        vector.truncate(dimensions);
    }
    let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
}

/// RFC 4648, section 4, over little-endian floats.
fn base64(vector: &[f32]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let number = three.iter().fold(0u32, |n, byte| n << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let index = (number >> (18 - 6 * place) & 63) as usize;
            let letter = LETTERS.get(index).copied().unwrap_or(b'=');
            text.push(char::from(if place > three.len() { b'=' } else { letter }));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_ollamas() {
        // From a recorded answer of Ollama 0.32.15.
        let vector = [-0.315_672_37_f32, -0.373_914_45, 0.389_629_1, 0.780_210_26];
        assert_eq!(base64(&vector), "z5+hvrdxv753fcc+3LtHPw==");
        assert_eq!(base64(&[]), "");
        assert_eq!(base64(&[0.0]), "AAAAAA==");
        assert_eq!(base64(&[0.0, 0.0]), "AAAAAAAAAAA=");
    }

    #[test]
    fn vectors_get_length_one() {
        let mut vector = vec![3.0, 4.0, 12.0];
        shorten(&mut vector, Some(2));
        assert_eq!(vector, [0.6, 0.8]);
        let mut zero = vec![0.0, 0.0];
        shorten(&mut zero, Some(9));
        assert_eq!(zero, [0.0, 0.0]);
    }
}
