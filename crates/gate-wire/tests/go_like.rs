//! What the reader takes, Go's decoder takes too, and sees the same in it.
//!
//! The other side is a small reader that behaves like Go's `encoding/json` into Ollama's request structs: fields in any
//! case and with two letters folded, the last one wins, `null` changes nothing, two `options` merge, bytes behind the
//! object are ignored, invalid UTF-8 and lone surrogates become U+FFFD.

#![expect(clippy::panic, reason = "a test may")]

use gate_types::ModelName;
use gate_wire::{BodyKind, Naming, ROUTES, Route, request};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq)]
enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

struct Go<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Go<'_> {
    fn blanks(&mut self) {
        while self.bytes.get(self.at).is_some_and(|b| b" \t\r\n".contains(b)) {
            self.at += 1;
        }
    }

    fn eat(&mut self, text: &[u8]) -> Option<()> {
        self.bytes[self.at..].starts_with(text).then(|| self.at += text.len())
    }

    fn value(&mut self) -> Option<Json> {
        self.blanks();
        match self.bytes.get(self.at)? {
            b'n' => self.eat(b"null").map(|()| Json::Null),
            b't' => self.eat(b"true").map(|()| Json::Bool(true)),
            b'f' => self.eat(b"false").map(|()| Json::Bool(false)),
            b'"' => self.text().map(Json::Text),
            b'[' => self.list(),
            b'{' => self.object(),
            _ => self.number(),
        }
    }

    fn number(&mut self) -> Option<Json> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|b| !b"+-.0123456789eE".contains(b)).unwrap_or(rest.len());
        let text = std::str::from_utf8(&rest[..end]).ok()?;
        // The grammar is another library's; its range is not Go's, so only its shape is asked.
        serde_json::from_str::<&serde_json::value::RawValue>(text).ok()?;
        self.at += end;
        Some(Json::Number(text.to_owned()))
    }

    fn text(&mut self) -> Option<String> {
        self.eat(b"\"")?;
        let mut units = Vec::new();
        let mut out = String::new();
        loop {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            if byte == b'\\' {
                let kind = *self.bytes.get(self.at)?;
                self.at += 1;
                if kind == b'u' {
                    let digits = self.bytes.get(self.at..self.at + 4)?;
                    if !digits.iter().all(u8::is_ascii_hexdigit) {
                        return None;
                    }
                    units.push(u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                    self.at += 4;
                    continue;
                }
                out.push_str(&String::from_utf16_lossy(&std::mem::take(&mut units)));
                let plain = b"\"\\/bfnrt".iter().position(|b| *b == kind)?;
                out.push(['"', '\\', '/', '\u{8}', '\u{c}', '\n', '\r', '\t'][plain]);
                continue;
            }
            out.push_str(&String::from_utf16_lossy(&std::mem::take(&mut units)));
            match byte {
                b'"' => return Some(out),
                0..0x20 => return None,
                _ => {
                    let start = self.at - 1;
                    while self.bytes.get(self.at).is_some_and(|b| *b >= 0x20 && !b"\"\\".contains(b)) {
                        self.at += 1;
                    }
                    out.push_str(&String::from_utf8_lossy(&self.bytes[start..self.at]));
                }
            }
        }
    }

    fn list(&mut self) -> Option<Json> {
        self.eat(b"[")?;
        let mut items = Vec::new();
        self.blanks();
        if self.eat(b"]").is_some() {
            return Some(Json::List(items));
        }
        loop {
            items.push(self.value()?);
            self.blanks();
            if self.eat(b"]").is_some() {
                return Some(Json::List(items));
            }
            self.eat(b",")?;
        }
    }

    fn object(&mut self) -> Option<Json> {
        self.eat(b"{")?;
        let mut fields = Vec::new();
        self.blanks();
        if self.eat(b"}").is_some() {
            return Some(Json::Object(fields));
        }
        loop {
            self.blanks();
            let name = self.text()?;
            self.blanks();
            self.eat(b":")?;
            fields.push((name, self.value()?));
            self.blanks();
            if self.eat(b"}").is_some() {
                return Some(Json::Object(fields));
            }
            self.eat(b",")?;
        }
    }
}

/// What a Go server sees in a body.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    model: String,
    name: String,
    source: String,
    destination: String,
    from: String,
    stream: Option<bool>,
    options: BTreeMap<String, String>,
}

fn go_reads(body: &[u8]) -> Option<Seen> {
    let Json::Object(fields) = (Go { bytes: body, at: 0 }).value()? else { return None };
    let mut seen = Seen::default();
    for (name, value) in fields {
        let folded: String = name
            .chars()
            .map(|c| match c {
                '\u{17f}' => 's',
                '\u{212a}' => 'k',
                c => c.to_ascii_lowercase(),
            })
            .collect();
        let text = match folded.as_str() {
            "model" => &mut seen.model,
            "name" => &mut seen.name,
            "source" => &mut seen.source,
            "destination" => &mut seen.destination,
            "from" => &mut seen.from,
            "stream" => {
                match value {
                    Json::Bool(yes) => seen.stream = Some(yes),
                    _ => seen.stream = None,
                }
                continue;
            }
            "options" => {
                if let Json::Object(options) = value {
                    seen.options
                        .extend(options.into_iter().map(|(name, value)| (name, format!("{value:?}"))));
                }
                continue;
            }
            _ => continue,
        };
        if let Json::Text(value) = value {
            *text = value;
        }
    }
    Some(seen)
}

fn canonical(text: &str) -> Option<ModelName> {
    (!text.is_empty())
        .then(|| ModelName::parse(text).unwrap_or_else(|bad| panic!("{text:?} went through: {bad}")))
}

/// The rule: what is taken is seen alike.
fn check(route: &Route, body: &[u8]) -> Result<bool, TestCaseError> {
    let BodyKind::Json(shape) = route.body else { panic!("{}", route.path) };
    let Ok(facts) = request::read(shape, body) else { return Ok(false) };
    let shown = String::from_utf8_lossy(body);
    let Some(seen) = go_reads(body) else {
        return Err(TestCaseError::fail(format!("Go refuses what was taken: {shown}")));
    };
    let nothing = String::new();
    let theirs = match shape.naming {
        Naming::Nothing => &nothing,
        Naming::Model | Naming::ModelNative => &seen.model,
        Naming::ModelOrName if seen.model.is_empty() => &seen.name,
        Naming::ModelOrName => &seen.model,
        Naming::SourceAndDestination => &seen.source,
    };
    prop_assert_eq!(&facts.model_as_sent, theirs, "{}", shown);
    prop_assert_eq!(&facts.model, &canonical(theirs), "{}", shown);
    if shape.naming == Naming::SourceAndDestination {
        prop_assert_eq!(&facts.destination, &canonical(&seen.destination), "{}", shown);
    }
    if shape.has_from {
        prop_assert_eq!(facts.from.as_deref().unwrap_or(""), seen.from, "{}", shown);
    }
    if let Some(unsaid) = shape.stream {
        prop_assert_eq!(facts.stream, seen.stream.unwrap_or(unsaid), "{}", shown);
    }
    if shape.has_options {
        let there = match facts.spans.options {
            Some(span) => match (Go { bytes: &body[span], at: 0 }).value() {
                Some(Json::Object(options)) => {
                    let count = options.len();
                    let map: BTreeMap<_, _> =
                        options.into_iter().map(|(name, v)| (name, format!("{v:?}"))).collect();
                    prop_assert_eq!(map.len(), count, "an option twice: {}", shown);
                    map
                }
                other => {
                    prop_assert_eq!(other, Some(Json::Null));
                    BTreeMap::new()
                }
            },
            None => BTreeMap::new(),
        };
        prop_assert_eq!(there, seen.options, "{}", shown);
    }
    Ok(true)
}

fn any_route() -> impl Strategy<Value = &'static Route> {
    let json: Vec<&Route> = ROUTES.iter().filter(|route| matches!(route.body, BodyKind::Json(_))).collect();
    prop::sample::select(json)
}

const NAMES: &[&str] = &[
    "model",
    "Model",
    "MODEL",
    "\\u006dodel",
    "m\\u004fdel",
    "name",
    "NAME",
    "n\\u0061me",
    "stream",
    "\u{17f}tream",
    "\\u017ftream",
    "options",
    "option\u{17f}",
    "option\\u017F",
    "source",
    "destination",
    "de\u{17f}tination",
    "from",
    "messages",
    "prompt",
    "keep_alive",
    "\u{212a}eep_alive",
    "\\u212aeep_alive",
    "\u{ff4d}odel",
    "x",
    "X",
    "",
    "mode",
    "model ",
    "model\\u0000",
    "\\ud800",
    "\\ud83d\\ude00",
    "\u{1f600}",
];

const VALUES: &[&str] = &[
    "\"demo\"",
    "\"DEMO\"",
    "\" demo \"",
    "\"demo:latest\"",
    "\"nope\"",
    "\"\"",
    "\"demo:cloud\"",
    "\"d\\u0065mo\"",
    "\"..\"",
    "\"demo\\u0000\"",
    "\"\\ud800\"",
    "null",
    "true",
    "false",
    "1",
    "-1.5e3",
    "[]",
    "{}",
    "[1,{\"model\":\"x\"}]",
    "{\"seed\":1}",
    "{\"seed\":1,\"seed\":2}",
    "{\"seed\":1,\"SEED\":2}",
    "{\"seed\":1,\"\\u0073eed\":2}",
    "{\"a\":{\"b\":[null,\"\\\\\\\"\"]}}",
    "[[[[]]]]",
    "\"two\\nlines\\t\\u00e9 and more text that is longer than a block\"",
];

const GAPS: &[&str] = &["", "", "", "", " ", "\n\t", "\r\n  "];

fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let gap = || prop::sample::select(GAPS);
    let field = (gap(), prop::sample::select(NAMES), gap(), gap(), prop::sample::select(VALUES), gap())
        .prop_map(|(a, name, b, c, value, d)| format!("{a}\"{name}\"{b}:{c}{value}{d}"));
    let plain = (
        prop::sample::select(
            &["model", "name", "stream", "options", "x", "from", "source", "destination"][..],
        ),
        prop::sample::select(VALUES),
    )
        .prop_map(|(name, value)| format!("\"{name}\":{value}"));
    let fields = prop::collection::vec(prop_oneof![1 => field, 3 => plain], 0..5);
    (gap(), fields, gap(), prop_oneof![9 => Just(""), 1 => Just("}"), 1 => Just("{\"model\":\"nope\"}")])
        .prop_map(|(a, fields, b, tail)| format!("{a}{{{}}}{b}{tail}", fields.join(",")).into_bytes())
}

#[derive(Debug, Clone)]
enum Edit {
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, &'static str),
    Remove(prop::sample::Index, usize),
    Double(prop::sample::Index, usize),
}

fn any_edit() -> impl Strategy<Value = Edit> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (
            at(),
            prop::sample::select(
                &["\"", "\\", "{", "}", "[", "]", ",", ":", "null", "\u{17f}", "\\u", "M", "0", " "][..]
            )
        )
            .prop_map(|(at, text)| Edit::Insert(at, text)),
        (at(), 1usize..6).prop_map(|(at, count)| Edit::Remove(at, count)),
        (at(), 1usize..20).prop_map(|(at, count)| Edit::Double(at, count)),
    ]
}

fn edited(mut body: Vec<u8>, edits: Vec<Edit>) -> Vec<u8> {
    for edit in edits {
        if body.is_empty() {
            return body;
        }
        match edit {
            Edit::Set(at, byte) => {
                let at = at.index(body.len());
                body[at] = byte;
            }
            Edit::Insert(at, text) => {
                let at = at.index(body.len());
                body.splice(at..at, text.bytes());
            }
            Edit::Remove(at, count) => {
                let at = at.index(body.len());
                body.drain(at..(at + count).min(body.len()));
            }
            Edit::Double(at, count) => {
                let at = at.index(body.len());
                let piece = body[at..(at + count).min(body.len())].to_vec();
                body.splice(at..at, piece);
            }
        }
    }
    body
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn bodies_are_seen_alike(route in any_route(), body in any_body()) {
        check(route, &body)?;
    }

    #[test]
    fn mutated_bodies_are_seen_alike(route in any_route(), body in any_body(), edits in prop::collection::vec(any_edit(), 1..4)) {
        check(route, &edited(body, edits))?;
    }

    #[test]
    fn any_bytes_are_seen_alike(route in any_route(), body in prop::collection::vec(any::<u8>(), 0..60)) {
        check(route, &body)?;
    }

    #[test]
    fn any_json_like_text_is_seen_alike(route in any_route(), body in r#"\{("(model|name|x)":("a"|null|[0-9\[\]{},:"ntrue\\u]{0,8}),?){0,3}\}?"#) {
        check(route, body.as_bytes())?;
    }
}

#[test]
fn the_generator_is_worth_its_name() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let route = ROUTES.iter().find(|route| route.path == "/api/chat").unwrap();
    let taken = (0..1_000)
        .filter(|_| check(route, &any_body().new_tree(&mut runner).unwrap().current()).unwrap())
        .count();
    assert!((100..900).contains(&taken), "{taken} of 1000 are taken: too few or too many to show anything");
}
