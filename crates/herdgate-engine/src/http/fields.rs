//! Reads request bodies: JSON objects whose fields have the types that Ollama wants, with its words for others.

use axum::body::{Body, to_bytes};
use axum::http::StatusCode;
use gate_types::Dialect;
use serde_json::{Map, Value};

use super::refusal::Refusal;

/// Longest request body in bytes.
pub(super) const LONGEST_BODY: usize = 64 << 20;

/// A request's JSON object. `what` is Ollama's name of the request, for its errors.
#[derive(Debug)]
pub(super) struct Fields {
    what: &'static str,
    map: Map<String, Value>,
}

impl Fields {
    /// Reads a whole body. `null` is an empty request.
    ///
    /// # Errors
    /// 400 for what is no JSON object, 413 for more than [`LONGEST_BODY`].
    pub(super) async fn read(body: Body, what: &'static str, dialect: Dialect) -> Result<Fields, Refusal> {
        let bytes = to_bytes(body, LONGEST_BODY).await.map_err(|_| {
            let text = format!("request body is unfinished or longer than {LONGEST_BODY} bytes");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text)
        })?;
        if bytes.is_empty() {
            let text = if dialect == Dialect::Ollama { "missing request body" } else { "EOF" };
            return Err(Refusal::bad(text));
        }
        let value = serde_json::from_slice(&bytes).map_err(|e| match e.is_eof() {
            true => Refusal::bad("unexpected EOF"),
            false => Refusal::bad(format!("invalid JSON: {e}")),
        })?;
        match value {
            Value::Object(map) => Ok(Fields { what, map }),
            Value::Null => Ok(Fields { what, map: Map::new() }),
            other => Err(Refusal::bad(format!(
                "json: cannot unmarshal {} into Go value of type api.{what}",
                kind(&other)
            ))),
        }
    }

    /// An object inside a request, under its own name in errors.
    pub(super) fn inside(what: &'static str, value: &Value, path: &str, of: &str) -> Result<Fields, Refusal> {
        match value {
            Value::Object(map) => Ok(Fields { what, map: map.clone() }),
            Value::Null => Ok(Fields { what, map: Map::new() }),
            other => Err(mismatch(what, path, other, of)),
        }
    }

    /// A field as it is; null counts as absent.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// A text, empty if absent.
    pub(super) fn text(&self, key: &str) -> Result<String, Refusal> {
        Ok(self.typed(key, "string", |value| value.as_str().map(str::to_owned))?.unwrap_or_default())
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, Refusal> {
        self.typed(key, "bool", Value::as_bool)
    }

    pub(super) fn whole(&self, key: &str) -> Result<Option<i64>, Refusal> {
        self.typed(key, "int", Value::as_i64)
    }

    pub(super) fn real(&self, key: &str) -> Result<Option<f64>, Refusal> {
        self.typed(key, "float64", Value::as_f64)
    }

    /// A list, empty if absent.
    pub(super) fn list(&self, key: &str, of: &str) -> Result<&[Value], Refusal> {
        match self.get(key) {
            None => Ok(&[]),
            Some(Value::Array(all)) => Ok(all),
            Some(other) => Err(mismatch(self.what, key, other, of)),
        }
    }

    /// An object; `None` if absent.
    pub(super) fn object(&self, key: &str, of: &str) -> Result<Option<&Map<String, Value>>, Refusal> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(other) => Err(mismatch(self.what, key, other, of)),
        }
    }

    /// Whether a field holds anything but null, "", [] or {}.
    pub(super) fn is_filled(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| match value {
            Value::String(text) => !text.is_empty(),
            Value::Array(all) => !all.is_empty(),
            Value::Object(all) => !all.is_empty(),
            _ => true,
        })
    }

    /// Ollama's words for a field of a wrong type.
    pub(super) fn mismatch(&self, key: &str, found: &Value, of: &str) -> Refusal {
        mismatch(self.what, key, found, of)
    }

    fn typed<T>(
        &self,
        key: &str,
        of: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| mismatch(self.what, key, value, of)),
        }
    }
}

fn mismatch(what: &str, key: &str, found: &Value, of: &str) -> Refusal {
    let found = kind(found);
    Refusal::bad(format!("json: cannot unmarshal {found} into Go struct field {what}.{key} of type {of}"))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(body: &'static str) -> Result<Fields, Refusal> {
        Fields::read(Body::from(body), "GenerateRequest", Dialect::Ollama).await
    }

    #[tokio::test]
    async fn wrong_bodies_have_ollamas_words() {
        for (body, text) in [
            ("", "missing request body"),
            ("{\"model\":\"demo\",", "unexpected EOF"),
            ("[]", "json: cannot unmarshal array into Go value of type api.GenerateRequest"),
            ("\"demo\"", "json: cannot unmarshal string into Go value of type api.GenerateRequest"),
        ] {
            let refusal = read(body).await.unwrap_err();
            assert_eq!((refusal.status.as_u16(), refusal.text.as_str()), (400, text));
        }
        assert!(read("null").await.unwrap().map.is_empty());
        assert!(read("{\"a\":1} x").await.is_err());
    }

    #[tokio::test]
    async fn wrong_fields_are_named() {
        let fields = read("{\"prompt\":5,\"stream\":\"no\",\"options\":[],\"model\":null}").await.unwrap();
        assert_eq!(fields.text("model").unwrap(), "");
        let text = "json: cannot unmarshal number into Go struct field GenerateRequest.prompt of type string";
        assert_eq!(fields.text("prompt").unwrap_err().text, text);
        let text = "json: cannot unmarshal string into Go struct field GenerateRequest.stream of type bool";
        assert_eq!(fields.flag("stream").unwrap_err().text, text);
        assert!(fields.object("options", "map[string]interface {}").is_err());
    }
}
