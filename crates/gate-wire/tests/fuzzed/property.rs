//! What must hold for any bytes as the body of a JSON call: the property that corpus replay and fuzz target share.
//!
//! The other side is serde_json. It takes more than the gate does, so only what the gate takes is compared.

use gate_types::ModelName;
use gate_wire::{BodyKind, JsonShape, Naming, ROUTES, request};
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

fn of_shape(shape: &JsonShape, body: &[u8]) {
    let Ok(facts) = request::read(shape, body) else { return };
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
    assert_eq!(facts.model, ModelName::parse(&model).ok(), "{text}");
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
