//! What must hold for any bytes as an answer's data: the property that corpus replay and fuzz target share.
//!
//! The first byte chooses route and content type, the rest is the data. However it is cut, the end reader finds the same;
//! where every line is JSON to serde_json, it finds what serde_json finds; and what `ending` adds is read as a failure.

use gate_wire::{End, EndReader, Form, GateError, Reason, RouteId, Tokens, ending};
use serde_json::Value;

const SPOKEN: [(RouteId, &str); 8] = [
    (RouteId::Chat, "application/x-ndjson"),
    (RouteId::Pull, "application/x-ndjson"),
    (RouteId::V1Chat, "text/event-stream"),
    (RouteId::V1Completions, "text/event-stream; charset=utf-8"),
    (RouteId::V1Responses, "text/event-stream"),
    (RouteId::V1Messages, "text/event-stream"),
    (RouteId::Generate, "application/json; charset=utf-8"),
    (RouteId::V1Embeddings, "application/json"),
];

/// Reads `bytes` as an answer in several cuts.
pub(crate) fn tee(bytes: &[u8]) {
    let Some((first, data)) = bytes.split_first() else { return };
    let (route, kind) = SPOKEN[usize::from(*first) % SPOKEN.len()];
    let whole = read(route, kind, [data]);
    let found = Found::of(&whole);
    let shown = || data.escape_ascii().to_string();
    assert_eq!(Found::of(&read(route, kind, data.chunks(1))), found, "byte by byte: {}", shown());
    for size in [2, 3, 5, 7, 16, 33] {
        assert_eq!(Found::of(&read(route, kind, data.chunks(size))), found, "by {size}: {}", shown());
    }
    if data.len() <= 400 {
        for cut in 1..data.len() {
            let (one, two) = data.split_at(cut);
            assert_eq!(Found::of(&read(route, kind, [one, two])), found, "cut at {cut}: {}", shown());
        }
    }
    if route == RouteId::Chat
        && let Some(told) = told(data)
    {
        assert_eq!(found.end, told, "{}", shown());
    }
    broken(route, kind, data, &whole);
}

#[derive(Debug, PartialEq, Eq)]
struct Found {
    end: Option<End>,
    line_is_open: bool,
    event_is_open: bool,
    records: u32,
    tokens: Option<Tokens>,
}

impl Found {
    fn of(reader: &EndReader) -> Self {
        Found {
            end: reader.end(),
            line_is_open: reader.line_is_open(),
            event_is_open: reader.event_is_open(),
            records: reader.records(),
            tokens: reader.tokens(),
        }
    }
}

fn read<'d>(route: RouteId, kind: &str, pieces: impl IntoIterator<Item = &'d [u8]>) -> EndReader {
    let mut reader = EndReader::new(route, Some(kind.as_bytes()));
    pieces.into_iter().for_each(|piece| reader.feed(piece));
    reader
}

/// What serde_json says of the lines of a chat; nothing where one is no JSON, or spells a name with an escape.
fn told(data: &[u8]) -> Option<Option<End>> {
    let text = std::str::from_utf8(data).ok().filter(|text| !text.contains('\\'))?;
    let mut end = None;
    for line in text.split('\n').filter(|line| !line.is_empty()) {
        let Value::Object(fields) = serde_json::from_str(line).ok()? else { continue };
        let has_failed = match fields.get("error") {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(_) => true,
        };
        let is_done = fields.get("done") == Some(&Value::Bool(true));
        let is_ordinary = line.starts_with("{\"model\":") && line.ends_with("\"done\":false}");
        if !is_ordinary && (has_failed || is_done) {
            end = end.or(Some(if has_failed { End::Failed } else { End::Done }));
        }
    }
    Some(end)
}

/// What is said behind an answer that broke here is read as a failure, and by nobody as its end.
fn broken(route: RouteId, kind: &str, data: &[u8], reader: &EndReader) {
    let error = GateError::new(Reason::UpstreamFailed);
    for fill in [0, 7, 4000] {
        let said = ending(route, reader, &error, "r-1", fill);
        let is_stream = matches!(reader.form(), Form::Lines | Form::Events);
        assert_eq!(said.is_empty(), reader.is_whole() || !is_stream);
        if !said.is_empty() {
            assert!(said.len() >= fill && said.ends_with('\n'));
            let both = read(route, kind, [data, said.as_bytes()]);
            assert_eq!(both.end(), Some(End::Failed), "{} {said:?}", data.escape_ascii());
            assert!(!both.line_is_open() && !both.event_is_open());
        }
    }
}
