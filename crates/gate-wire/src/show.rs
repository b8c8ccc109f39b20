//! What `/api/show` tells of a model, without what is not for everybody: its Modelfile (paths of the server's disk are in
//! it), its system prompt and its messages, and a parent that is a path.
//!
//! Only those spans change; all other bytes stay as their upstream wrote them.

use crate::fields::folded;
use crate::listing::is_path;
use crate::scan::{Scan, Scanner, text};
use std::ops::Range;

/// The fields that are taken out.
const HIDDEN: [&str; 3] = ["modelfile", "system", "messages"];

/// An answer of `/api/show`, reduced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reduced {
    /// The body.
    pub body: Vec<u8>,
    /// Whether the model only stands for one elsewhere.
    pub is_stub: bool,
}

/// Takes out of an upstream's answer what only those may see who manage models. `None`: it is no such answer, and what is
/// in it nobody can tell.
#[must_use]
pub fn reduce(body: &[u8]) -> Option<Reduced> {
    let mut scanner = Scanner::new(body);
    scanner.blanks();
    let start = scanner.at() + 1;
    let fields = object(&mut scanner, body, 0).ok()?;
    scanner.blanks();
    if scanner.peek().is_some() {
        return None;
    }
    let mut out = Vec::with_capacity(body.len());
    out.extend_from_slice(body.get(..start)?);
    // Where the last field ended, hidden or not; and whether one was written.
    let (mut end, mut has_any) = (start, false);
    let mut is_stub = false;
    for field in &fields {
        let name = folded(&field.name);
        if !HIDDEN.contains(&name.as_str()) {
            let from = if has_any { end } else { field.from };
            // The gap of the very first field is its own.
            let from = if has_any || end > start { from } else { start };
            out.extend_from_slice(body.get(from..field.value.start)?);
            match name.as_str() {
                "details" => out.extend_from_slice(&without_path(body, field.value.clone())?),
                _ => out.extend_from_slice(body.get(field.value.clone())?),
            }
            has_any = true;
            let value = body.get(field.value.clone())?;
            is_stub |= matches!(name.as_str(), "remote_host" | "remote_model")
                && !matches!(value, b"\"\"" | b"null");
        }
        end = field.value.end;
    }
    out.extend_from_slice(body.get(end..)?);
    Some(Reduced { body: out, is_stub })
}

/// The object in `span`, a path in its `parent_model` made empty.
fn without_path(body: &[u8], span: Range<usize>) -> Option<Vec<u8>> {
    let value = body.get(span)?;
    if !value.starts_with(b"{") {
        return Some(value.to_vec());
    }
    let fields = object(&mut Scanner::new(value), value, 1).ok()?;
    let mut out = Vec::with_capacity(value.len());
    let mut end = 0;
    for field in fields.iter().filter(|field| folded(&field.name) == "parent_model") {
        if is_path(std::str::from_utf8(value.get(field.value.clone())?).ok()?) {
            out.extend_from_slice(value.get(end..field.value.start)?);
            out.extend_from_slice(b"\"\"");
            end = field.value.end;
        }
    }
    out.extend_from_slice(value.get(end..)?);
    Some(out)
}

struct Field {
    name: String,
    /// Where its name begins.
    from: usize,
    value: Range<usize>,
}

/// The fields of the object that begins at the scanner's place, `outer` levels deep.
fn object(scanner: &mut Scanner<'_>, body: &[u8], outer: u32) -> Scan<Vec<Field>> {
    if scanner.peek() != Some(b'{') {
        return Err(scanner.expected("an object"));
    }
    scanner.enter(outer)?;
    let mut fields = Vec::new();
    scanner.blanks();
    let mut more = !scanner.take(b'}');
    while more {
        scanner.blanks();
        let from = scanner.at();
        let quoted = scanner.name()?;
        let start = scanner.at();
        scanner.value(outer + 1)?;
        let name = text(body, &quoted).unwrap_or_default().into_owned();
        fields.push(Field { name, from, value: start..scanner.at() });
        more = scanner.more_fields()?;
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reduced(body: &str) -> Option<(String, bool)> {
        reduce(body.as_bytes()).map(|reduced| (String::from_utf8(reduced.body).unwrap(), reduced.is_stub))
    }

    #[test]
    fn what_is_hidden_goes_with_its_comma_and_nothing_else_changes() {
        for (body, expected) in [
            ("{}", "{}"),
            ("{ }\n", "{ }\n"),
            (r#"{"a":1}"#, r#"{"a":1}"#),
            (r#"{ "a" : 1 , "b" : [ "\u0041" ] }"#, r#"{ "a" : 1 , "b" : [ "\u0041" ] }"#),
            (r#"{"modelfile":"FROM /x"}"#, "{}"),
            (r#"{"modelfile":"FROM /x","a":1}"#, r#"{"a":1}"#),
            (r#"{"a":1,"system":"s"}"#, r#"{"a":1}"#),
            (r#"{"a":1,"system":"s","messages":[{"role":"x"}],"b":2}"#, r#"{"a":1,"b":2}"#),
            (r#"{"a":1, "system":"s", "b":2, "messages":null}"#, r#"{"a":1, "b":2}"#),
            (
                r#"{"MODELFILE":1,"\u0073ystem":2,"me\u017f\u017fages":3,"a":{"system":1}}"#,
                r#"{"a":{"system":1}}"#,
            ),
            (r#"{"system":1,"modelfile":2,"messages":3}"#, "{}"),
            (
                r#"{"details":{"parent_model":"/models/x","format":"gguf"},"license":"l"}"#,
                r#"{"details":{"parent_model":"","format":"gguf"},"license":"l"}"#,
            ),
            (r#"{"details":{"parent_model":"user/base"}}"#, r#"{"details":{"parent_model":"user/base"}}"#),
            (r#"{"details":null}"#, r#"{"details":null}"#),
        ] {
            assert_eq!(reduced(body), Some((expected.to_owned(), false)), "{body}");
            let is_json = serde_json::from_str::<serde_json::Value>(expected).is_ok();
            assert!(is_json, "{expected}");
        }
    }

    #[test]
    fn a_model_that_stands_for_another_is_seen() {
        assert!(reduced(r#"{"remote_host":"https://ollama.com"}"#).unwrap().1);
        assert!(reduced(r#"{"a":1,"remote_model":"x"}"#).unwrap().1);
        assert!(!reduced(r#"{"remote_model":"","remote_host":null}"#).unwrap().1);
    }

    #[test]
    fn what_is_no_such_answer_is_not_shown() {
        for body in ["", "[]", "{", r#"{"a":1}x"#, "<html>", r#"{"a":}"#, "null"] {
            assert_eq!(reduced(body), None, "{body}");
        }
    }
}
