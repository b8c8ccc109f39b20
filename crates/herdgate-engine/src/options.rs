//! What a request may ask for besides its text: `options`, `keep_alive`, and their readings of wrong values.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::file::Preferred;
use crate::runner::Sampling;

/// How long a model stays loaded after its last request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeepAlive {
    /// So long; zero unloads it when it is idle.
    For(Duration),
    /// Until the engine ends.
    Forever,
}

/// Ollama's default.
pub(crate) const DEFAULT_KEEP_ALIVE: KeepAlive = KeepAlive::For(Duration::from_secs(300));

/// The options that the engine acts on; `None` where the request says nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Options {
    pub(crate) num_keep: Option<i64>,
    pub(crate) seed: Option<i64>,
    pub(crate) num_predict: Option<i64>,
    pub(crate) num_ctx: Option<i64>,
    pub(crate) top_k: Option<i64>,
    pub(crate) top_p: Option<f32>,
    pub(crate) min_p: Option<f32>,
    pub(crate) temperature: Option<f32>,
    pub(crate) repeat_penalty: Option<f32>,
    pub(crate) repeat_last_n: Option<i64>,
    pub(crate) presence_penalty: Option<f32>,
    pub(crate) frequency_penalty: Option<f32>,
    pub(crate) stop: Vec<String>,
}

impl Options {
    /// Reads a request's `options`. Unknown names are ignored, null is absent, whole numbers may be written as any number.
    ///
    /// # Errors
    /// Ollama's text for a wrong type, which it sends as a 500.
    pub(crate) fn read(options: &Map<String, Value>) -> Result<Options, String> {
        let mut read = Options::default();
        for (name, value) in options.iter().filter(|(_, value)| !value.is_null()) {
            match name.as_str() {
                "num_keep" => read.num_keep = Some(whole(name, value)?),
                "seed" => read.seed = Some(whole(name, value)?),
                "num_predict" => read.num_predict = Some(whole(name, value)?),
                "num_ctx" => read.num_ctx = Some(whole(name, value)?),
                "top_k" => read.top_k = Some(whole(name, value)?),
                "repeat_last_n" => read.repeat_last_n = Some(whole(name, value)?),
                "top_p" => read.top_p = Some(real(name, value)?),
                "min_p" => read.min_p = Some(real(name, value)?),
                "temperature" => read.temperature = Some(real(name, value)?),
                "repeat_penalty" => read.repeat_penalty = Some(real(name, value)?),
                "presence_penalty" => read.presence_penalty = Some(real(name, value)?),
                "frequency_penalty" => read.frequency_penalty = Some(real(name, value)?),
                "stop" => read.stop = texts(name, value)?,
                // Known to Ollama, without effect here, but their types are checked alike.
                "num_batch" | "num_gpu" | "main_gpu" | "num_thread" | "draft_num_predict" => {
                    whole(name, value)?;
                }
                "typical_p" => {
                    real(name, value)?;
                }
                "use_mmap" if !value.is_boolean() => return Err(wrong(name, "boolean")),
                _ => {}
            }
        }
        Ok(read)
    }

    /// How to choose tokens: the request's word, else the file's, else Ollama's default.
    pub(crate) fn sampling(&self, file: &Preferred) -> Sampling {
        let seed = match self.seed {
            Some(seed) if seed != -1 => seed.cast_unsigned(),
            // Without an entropy source, answers merely repeat.
            _ => getrandom::u64().unwrap_or_default(),
        };
        Sampling {
            temperature: self.temperature.or(file.temperature).unwrap_or(0.8),
            top_k: self.top_k.or(file.top_k).unwrap_or(40),
            top_p: self.top_p.or(file.top_p).unwrap_or(0.9),
            min_p: self.min_p.or(file.min_p).unwrap_or(0.0),
            repeat_penalty: self.repeat_penalty.unwrap_or(1.0),
            repeat_last_n: self.repeat_last_n.unwrap_or(64),
            presence_penalty: self.presence_penalty.unwrap_or(0.0),
            frequency_penalty: self.frequency_penalty.unwrap_or(0.0),
            seed,
        }
    }
}

fn wrong(name: &str, kind: &str) -> String {
    format!("option \"{name}\" must be of type {kind}")
}

fn whole(name: &str, value: &Value) -> Result<i64, String> {
    let number = value.as_i64().or_else(|| value.as_f64().map(|n| n as i64));
    number.ok_or_else(|| wrong(name, "integer"))
}

fn real(name: &str, value: &Value) -> Result<f32, String> {
    value.as_f64().map(|n| n as f32).ok_or_else(|| wrong(name, "float32"))
}

fn texts(name: &str, value: &Value) -> Result<Vec<String>, String> {
    let list = value.as_array().ok_or_else(|| wrong(name, "array"))?;
    let texts: Option<Vec<String>> = list.iter().map(|text| text.as_str().map(str::to_owned)).collect();
    texts.ok_or_else(|| format!("option \"{name}\" must be of an array of strings"))
}

/// Reads `keep_alive`: seconds as a number, or Go's duration text; below zero means for ever.
///
/// # Errors
/// Ollama's text.
pub(crate) fn keep_alive(value: Option<&Value>) -> Result<Option<KeepAlive>, String> {
    let seconds = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_f64().unwrap_or(f64::MAX),
        Some(Value::String(text)) => go_duration(text)?,
        Some(Value::Bool(_)) => return Err("Unsupported type: 'bool'".into()),
        Some(Value::Array(_)) => return Err("Unsupported type: '[]interface {}'".into()),
        Some(Value::Object(_)) => return Err("Unsupported type: 'map[string]interface {}'".into()),
    };
    if seconds < 0.0 {
        return Ok(Some(KeepAlive::Forever));
    }
    // What no duration can hold is for ever.
    Ok(Some(Duration::try_from_secs_f64(seconds).map_or(KeepAlive::Forever, KeepAlive::For)))
}

/// Go's `time.ParseDuration`, in seconds.
fn go_duration(text: &str) -> Result<f64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0.0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            other => return Err(format!("time: unknown unit {other:?} in duration {text:?}")),
        };
        seconds += number * scale;
        rest = after;
    }
    Ok(sign * seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<Options, String> {
        Options::read(value.as_object().unwrap())
    }

    #[test]
    fn numbers_are_read_as_ollama_reads_them() {
        let options = read(
            json!({"num_ctx": 64.5, "seed": 1e3, "num_predict": 1e30, "top_k": null, "foo": [], "stop": ["a"]}),
        );
        let options = options.unwrap();
        assert_eq!(
            (options.num_ctx, options.seed, options.num_predict),
            (Some(64), Some(1000), Some(i64::MAX))
        );
        assert_eq!((options.top_k, options.stop), (None, vec!["a".to_owned()]));
    }

    #[test]
    fn wrong_types_have_ollamas_texts() {
        for (options, text) in [
            (json!({"num_ctx": "x"}), "option \"num_ctx\" must be of type integer"),
            (json!({"top_k": true}), "option \"top_k\" must be of type integer"),
            (json!({"temperature": "hot"}), "option \"temperature\" must be of type float32"),
            (json!({"use_mmap": "yes"}), "option \"use_mmap\" must be of type boolean"),
            (json!({"stop": "x"}), "option \"stop\" must be of type array"),
            (json!({"stop": [1]}), "option \"stop\" must be of an array of strings"),
        ] {
            assert_eq!(read(options).unwrap_err(), text);
        }
    }

    #[test]
    fn the_request_comes_before_the_file_and_the_default() {
        let file = Preferred { temperature: Some(0.0), top_k: Some(5), ..Preferred::default() };
        let options = read(json!({"top_k": 3, "seed": 9})).unwrap();
        let sampling = options.sampling(&file);
        assert_eq!((sampling.temperature, sampling.top_k, sampling.top_p, sampling.seed), (0.0, 3, 0.9, 9));
        let random = Options::default();
        assert_ne!(random.sampling(&file).seed, random.sampling(&file).seed);
    }

    #[test]
    fn keep_alive_has_many_spellings() {
        let seconds = |s| Ok(Some(KeepAlive::For(Duration::from_secs_f64(s))));
        for (value, expected) in [
            (json!(null), Ok(None)),
            (json!(30), seconds(30.0)),
            (json!(0.5), seconds(0.5)),
            (json!("1h30m"), seconds(5400.0)),
            (json!("1.5s"), seconds(1.5)),
            (json!("0"), seconds(0.0)),
            (json!(-1), Ok(Some(KeepAlive::Forever))),
            (json!("-5m"), Ok(Some(KeepAlive::Forever))),
            (json!(1e20), Ok(Some(KeepAlive::Forever))),
            (json!("300"), Err("time: missing unit in duration \"300\"".to_owned())),
            (json!("5x"), Err("time: unknown unit \"x\" in duration \"5x\"".to_owned())),
            (json!("soon"), Err("time: invalid duration \"soon\"".to_owned())),
            (json!(""), Err("time: invalid duration \"\"".to_owned())),
            (json!(true), Err("Unsupported type: 'bool'".to_owned())),
        ] {
            assert_eq!(keep_alive(Some(&value)), expected, "{value}");
        }
    }
}
