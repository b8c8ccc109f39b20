//! What must hold for any bytes as the body of a JSON call: the property that corpus replay and fuzz target share.
//!
//! The other sides are serde_json and a reader like Go's. Both take more than the gate does, so only what the gate takes is
//! compared.

#[path = "go.rs"]
mod go;

use gate_types::ModelName;
use gate_wire::{Also, Asks, BodyKind, CallFacts, JsonShape, Naming, ROUTES, Reading, request};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Reads `body` as a call to each route. Whatever is taken is one object to serde_json too, with the same model and
/// the same `stream`, and what the spans point at is those fields' values.
pub(crate) fn request(body: &[u8]) {
    for route in ROUTES {
        if let BodyKind::Json(shape) = route.body {
            of_shape(shape, body);
        }
    }
}

/// The same for one shape; whether it is taken.
pub(crate) fn of_shape(shape: &JsonShape, body: &[u8]) -> bool {
    let Ok(facts) = request::read(shape, body) else { return false };
    as_go_reads(shape, &facts, body);
    as_serde_reads(shape, &facts, body);
    true
}

/// The rule: what is taken is seen alike.
fn as_go_reads(shape: &JsonShape, facts: &CallFacts<'_>, body: &[u8]) {
    let shown = String::from_utf8_lossy(body);
    let seen = go::reads(body);
    assert!(seen.is_some(), "Go refuses what was taken: {shown}");
    let seen = seen.unwrap_or_default();
    let nothing = String::new();
    let theirs = match shape.naming {
        Naming::Nothing => &nothing,
        Naming::Model | Naming::ModelNative => &seen.model,
        Naming::ModelOrName if seen.model.is_empty() => &seen.name,
        Naming::ModelOrName => &seen.model,
        Naming::SourceAndDestination => &seen.source,
    };
    assert_eq!(&facts.model_as_sent, theirs, "{}", shown);
    assert_eq!(&facts.model, &named(shape, theirs), "{}", shown);
    if shape.naming == Naming::SourceAndDestination {
        assert_eq!(&facts.destination, &named(shape, &seen.destination), "{}", shown);
    }
    if shape.has_from {
        assert_eq!(facts.from.as_deref().unwrap_or(""), seen.from, "{}", shown);
    }
    let asks = facts.asks;
    match shape.also {
        Also::Nothing => assert_eq!(asks, Asks { odd_scheme: asks.odd_scheme, ..Asks::default() }),
        Also::Rendering => {
            assert_eq!(asks.rendering, seen.rendering, "{}", shown);
            assert!(asks.server_tool || !seen.server_tool, "{}", shown);
        }
        Also::Verbose => assert_eq!(asks.verbose, seen.verbose, "{}", shown),
        Also::Registry => assert_eq!(asks.insecure, seen.insecure, "{}", shown),
        Also::Making => {
            assert_eq!(asks.insecure, seen.insecure, "{}", shown);
            assert_eq!(asks.remote_host, !seen.remote_host.is_empty(), "{}", shown);
        }
    }
    if let Some(unsaid) = shape.stream {
        assert_eq!(facts.stream, seen.stream.unwrap_or(unsaid), "{}", shown);
    }
    if shape.has_options {
        let there = match &facts.spans.options {
            Some(span) => match (go::Go { bytes: &body[span.clone()], at: 0 }).value() {
                Some(go::Json::Object(options)) => {
                    let count = options.len();
                    let map: BTreeMap<_, _> =
                        options.into_iter().map(|(name, v)| (name, format!("{v:?}"))).collect();
                    assert_eq!(map.len(), count, "an option twice: {}", shown);
                    map
                }
                other => {
                    assert_eq!(other, Some(go::Json::Null));
                    BTreeMap::new()
                }
            },
            None => BTreeMap::new(),
        };
        assert_eq!(there, seen.options, "{}", shown);
    }
}

/// The name as Ollama's handler reads it: where models are made, copied or pushed it takes them by their names on disk.
fn named(shape: &JsonShape, text: &str) -> Option<ModelName> {
    match shape.reading {
        Reading::Asked => ModelName::parse(text).ok(),
        Reading::Stored => ModelName::parse_stored(text).ok(),
    }
}

fn as_serde_reads(shape: &JsonShape, facts: &CallFacts<'_>, body: &[u8]) {
    // Like Go's decoder the gate lets broken UTF-8 stand in strings that it does not read.
    let text = String::from_utf8_lossy(body);
    let fields = serde_json::from_str::<BTreeMap<String, &RawValue>>(&text);
    assert!(fields.is_ok(), "taken, but no object to serde_json ({fields:?}): {text}");
    let fields = fields.unwrap_or_default();
    let word = |name: &str| {
        let read = fields.get(name).map_or(Ok(None), |raw| serde_json::from_str::<Option<String>>(raw.get()));
        assert!(read.is_ok(), "taken, but {name} is no string: {text}");
        read.ok().flatten().unwrap_or_default()
    };
    let model = match shape.naming {
        Naming::Nothing => String::new(),
        Naming::Model | Naming::ModelNative => word("model"),
        Naming::ModelOrName => {
            Some(word("model")).filter(|said| !said.is_empty()).unwrap_or_else(|| word("name"))
        }
        Naming::SourceAndDestination => word("source"),
    };
    assert_eq!(facts.model_as_sent, model, "{text}");
    assert_eq!(facts.model, named(shape, &model), "{text}");
    assert_eq!(facts.model.is_none(), model.is_empty(), "{text}");
    if let Some(unsaid) = shape.stream {
        let said = fields.get("stream").map(|raw| raw.get());
        assert_eq!(
            facts.stream,
            said.map_or(unsaid, |raw| if raw == "null" { unsaid } else { raw == "true" }),
            "{text}"
        );
    }
    let spans = [("stream", &facts.spans.stream), ("options", &facts.spans.options)];
    for (name, span) in spans {
        let Some(span) = span else { continue };
        let there = String::from_utf8_lossy(&body[span.clone()]);
        assert_eq!(Some(there.as_ref()), fields.get(name).map(|raw| raw.get()), "{name} in {text}");
    }
}
