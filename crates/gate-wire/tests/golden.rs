//! Bodies that real Ollama servers were asked with: which the reader takes, and why not the others.

#![expect(clippy::panic, reason = "a test may")]

use gate_wire::{BodyKind, Fault, Found, JsonShape, Reason, find, request};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What the reader makes of a body: the canonical model and whether it streams, or the reason and the byte.
enum Expect {
    Takes(&'static str, bool),
    TakesUnnamed,
    Refuses(Reason, usize),
}
use Expect::{Refuses, Takes, TakesUnnamed};
use Reason::{AmbiguousBody, InvalidModelName, MalformedJson, MissingBody, WrongType};

const GENERATE: &str = "/api/generate";
const SHOW: &str = "/api/show";

const CASES: &[(&str, &str, Expect)] = &[
    ("json-accept-encoding", SHOW, Takes("demo:latest", false)),
    ("json-array", GENERATE, Refuses(MalformedJson, 0)),
    ("json-bad-utf8", GENERATE, Takes("demo:latest", false)),
    ("json-bad-utf8-key", GENERATE, Refuses(AmbiguousBody, 16)),
    ("json-bad-utf8-model", GENERATE, Refuses(InvalidModelName, 9)),
    ("json-bom", GENERATE, Refuses(MalformedJson, 0)),
    ("json-brace-after", GENERATE, Refuses(AmbiguousBody, 69)),
    ("json-charset", GENERATE, Takes("demo:latest", false)),
    ("json-comment", GENERATE, Refuses(MalformedJson, 1)),
    ("json-control", GENERATE, Refuses(MalformedJson, 27)),
    ("json-dup-case", GENERATE, Refuses(AmbiguousBody, 16)),
    ("json-dup-case-2", GENERATE, Refuses(AmbiguousBody, 1)),
    ("json-dup-keys", GENERATE, Refuses(AmbiguousBody, 16)),
    ("json-dup-keys-2", GENERATE, Refuses(AmbiguousBody, 16)),
    ("json-empty", GENERATE, Refuses(MissingBody, 0)),
    ("json-escaped-key", GENERATE, Takes("demo:latest", false)),
    ("json-form", GENERATE, Refuses(MalformedJson, 0)),
    ("json-fullwidth", GENERATE, TakesUnnamed),
    ("json-garbage", GENERATE, Refuses(AmbiguousBody, 69)),
    ("json-identity-v1-chat", "/v1/chat/completions", Takes("demo:latest", false)),
    ("json-kelvin", GENERATE, Refuses(AmbiguousBody, 69)),
    ("json-long-s", GENERATE, Refuses(AmbiguousBody, 54)),
    ("json-long-s-dup", GENERATE, Refuses(AmbiguousBody, 68)),
    ("json-long-s-options", GENERATE, Refuses(AmbiguousBody, 69)),
    ("json-malformed", GENERATE, Refuses(MalformedJson, 16)),
    ("json-malformed-2", GENERATE, Refuses(MalformedJson, 9)),
    ("json-model-null", GENERATE, TakesUnnamed),
    ("json-model-number", GENERATE, Refuses(WrongType, 9)),
    ("json-nan", GENERATE, Refuses(MalformedJson, 41)),
    ("json-no-content-type", GENERATE, Takes("demo:latest", false)),
    ("json-null", GENERATE, Refuses(MalformedJson, 0)),
    ("json-options-array", GENERATE, Refuses(WrongType, 79)),
    ("json-options-case", GENERATE, Takes("demo:latest", false)),
    ("json-options-dup", GENERATE, Refuses(AmbiguousBody, 96)),
    ("json-options-dup-objects", GENERATE, Refuses(AmbiguousBody, 97)),
    ("json-options-null", GENERATE, Takes("demo:latest", false)),
    ("json-options-unknown", GENERATE, Takes("demo:latest", false)),
    ("json-prompt-number", GENERATE, Takes("demo:latest", true)),
    ("json-single-quotes", GENERATE, Refuses(MalformedJson, 1)),
    ("json-spaces", GENERATE, Refuses(MissingBody, 4)),
    ("json-stream-null", GENERATE, Takes("demo:latest", true)),
    ("json-stream-string", GENERATE, Refuses(WrongType, 38)),
    ("json-string", GENERATE, Refuses(MalformedJson, 0)),
    ("json-surrogate", GENERATE, Takes("demo:latest", false)),
    ("json-text-plain", GENERATE, Takes("demo:latest", false)),
    ("json-trailing-comma", GENERATE, Refuses(MalformedJson, 16)),
    ("json-two-values", GENERATE, Refuses(AmbiguousBody, 69)),
    ("json-unknown-keys", GENERATE, Takes("demo:latest", false)),
    ("json-upper-keys", GENERATE, Refuses(AmbiguousBody, 1)),
    ("json-utf16", GENERATE, Refuses(MalformedJson, 0)),
    ("name-backslash", GENERATE, Refuses(InvalidModelName, 10)),
    ("name-both", SHOW, Refuses(AmbiguousBody, 28)),
    ("name-cloud", GENERATE, Takes("demo:cloud", false)),
    ("name-colon-end", GENERATE, Refuses(InvalidModelName, 10)),
    ("name-dash-cloud", GENERATE, Takes("demo:1b-cloud", false)),
    ("name-digest", GENERATE, Refuses(InvalidModelName, 10)),
    ("name-dotdot", GENERATE, Refuses(InvalidModelName, 10)),
    ("name-double-colon", GENERATE, Refuses(InvalidModelName, 10)),
    ("name-full", GENERATE, Takes("demo:latest", false)),
    ("name-hf", GENERATE, Takes("hf.co/user/demo:latest", false)),
    ("name-kelvin", GENERATE, Refuses(InvalidModelName, 10)),
    ("name-library", GENERATE, Takes("demo:latest", false)),
    ("name-local", GENERATE, Takes("demo:latest", false)),
    ("name-local-cloud", GENERATE, Refuses(InvalidModelName, 10)),
    ("name-long", GENERATE, Refuses(InvalidModelName, 10)),
    ("name-ns", GENERATE, Takes("user/demo-fim:latest", false)),
    ("name-ns-upper", GENERATE, Takes("user/demo-fim:latest", false)),
    ("name-nul", GENERATE, Refuses(InvalidModelName, 10)),
    ("name-percent", GENERATE, Refuses(InvalidModelName, 10)),
    ("name-slash-end", GENERATE, Refuses(InvalidModelName, 10)),
    ("name-slashes", GENERATE, Refuses(InvalidModelName, 10)),
    ("name-spaces", GENERATE, Takes("demo:latest", false)),
    ("name-tag", GENERATE, Takes("demo:latest", false)),
    ("name-tag-missing", GENERATE, Takes("demo:q4", false)),
    ("name-tag-upper", GENERATE, Takes("demo:latest", false)),
    ("name-unicode", GENERATE, Refuses(InvalidModelName, 10)),
    ("name-upper", GENERATE, Takes("demo:latest", false)),
    ("name-url", GENERATE, Takes("demo:latest", false)),
];

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/requests"))
}

fn shape(method: &str, path: &str) -> &'static JsonShape {
    match find(method, path) {
        Found::Route(route, None) => match route.body {
            BodyKind::Json(shape) => shape,
            other => panic!("{path}: {other:?}"),
        },
        other => panic!("{path}: {other:?}"),
    }
}

#[test]
fn every_recorded_body_is_judged_as_stated() {
    for (case, path, expected) in CASES {
        let body = std::fs::read(folder().join(format!("{case}.json"))).unwrap();
        match (request::read(shape("POST", path), &body), expected) {
            (Ok(facts), Takes(model, stream)) => {
                assert_eq!(
                    (facts.model.as_ref().unwrap().short(), facts.stream),
                    (*model, *stream),
                    "{case}"
                );
            }
            (Ok(facts), TakesUnnamed) => assert_eq!(facts.model, None, "{case}"),
            (Err(problem), Refuses(reason, at)) => {
                assert_eq!((problem.reason(), problem.at), (*reason, *at), "{case}: {problem}");
            }
            (Ok(facts), Refuses(..)) => panic!("{case} was taken: {facts:?}"),
            (Err(problem), Takes(..) | TakesUnnamed) => panic!("{case} was refused: {problem}"),
        }
    }
}

#[test]
fn every_recorded_body_is_in_the_table() {
    let stated: BTreeSet<_> = CASES.iter().map(|(case, ..)| format!("{case}.json")).collect();
    let there: BTreeSet<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(stated, there);
}

fn facts<'b>(method: &str, path: &str, body: &'b str) -> gate_wire::CallFacts<'b> {
    request::read(shape(method, path), body.as_bytes())
        .unwrap_or_else(|problem| panic!("{path} {body}: {problem}"))
}

fn fault(method: &str, path: &str, body: &str) -> Fault {
    match request::read(shape(method, path), body.as_bytes()) {
        Ok(facts) => panic!("{path} {body}: {facts:?}"),
        Err(problem) => problem.fault,
    }
}

#[test]
fn streaming_is_as_each_route_has_it() {
    for (path, unsaid) in [
        ("/api/generate", true),
        ("/api/chat", true),
        ("/api/pull", true),
        ("/api/push", true),
        ("/api/create", true),
        ("/api/embed", false),
        ("/api/show", false),
        ("/v1/chat/completions", false),
        ("/v1/completions", false),
        ("/v1/responses", false),
        ("/v1/messages", false),
        ("/v1/embeddings", false),
    ] {
        assert_eq!(facts("POST", path, r#"{"model":"m"}"#).stream, unsaid, "{path}");
        assert_eq!(facts("POST", path, r#"{"model":"m","stream":null}"#).stream, unsaid, "{path}");
    }
    assert!(facts("POST", "/v1/messages", r#"{"stream":true,"model":"m"}"#).stream);
    assert!(!facts("POST", "/api/chat", r#"{"stream":false,"model":"m"}"#).stream);
    assert!(
        !facts("POST", "/api/embed", r#"{"stream":"yes","model":"m"}"#).stream,
        "embed reads no such field"
    );
}

#[test]
fn model_and_name_must_agree_where_both_speak() {
    for (method, path) in [("POST", "/api/show"), ("POST", "/api/pull"), ("DELETE", "/api/delete")] {
        for body in [
            r#"{"model":"","name":"Demo"}"#,
            r#"{"name":"Demo"}"#,
            r#"{"model":null,"name":"Demo"}"#,
            r#"{"name":"Demo","model":"demo:latest"}"#,
            r#"{"model":"library/demo","name":""}"#,
        ] {
            assert_eq!(facts(method, path, body).model.unwrap().short(), "demo:latest", "{path} {body}");
        }
        for body in [
            r#"{"model":"a","name":"b"}"#,
            r#"{"model":"a","name":"../a"}"#,
            r#"{"name":"a:cloud","model":"a"}"#,
        ] {
            assert_eq!(fault(method, path, body), Fault::Disagree, "{path} {body}");
        }
    }
    assert_eq!(fault("POST", "/api/chat", r#"{"model":"a","name":"b"}"#), Fault::Disagree);
    assert_eq!(facts("POST", "/api/chat", r#"{"name":"b"}"#).model, None, "chat reads no name");
    assert!(facts("POST", "/api/chat", r#"{"model":"a","name":7}"#).model.is_some());
    assert!(facts("POST", "/v1/chat/completions", r#"{"model":"a","name":"b"}"#).model.is_some());
    assert_eq!(facts("POST", "/api/show", r#"{"model":"","name":" DEMO "}"#).model_as_sent, " DEMO ");
}

#[test]
fn a_copy_has_two_names_and_a_create_its_origin() {
    let copy = facts("POST", "/api/copy", r#"{"source":"A","destination":"user/b:1"}"#);
    assert_eq!(copy.model.unwrap().short(), "a:latest");
    assert_eq!(copy.destination.unwrap().short(), "user/b:1");
    let broken = fault("POST", "/api/copy", r#"{"source":"a","destination":"../b"}"#);
    assert!(matches!(broken, Fault::BadModel(_)), "{broken:?}");
    let create = facts("POST", "/api/create", r#"{"model":"b","from":"hf.co/a\/b","files":{}}"#);
    assert_eq!(create.from.as_deref(), Some("hf.co/a/b"));
}

#[test]
fn spans_hold_the_values() {
    let body = r#" { "options" : { "seed" : [1, {"a":2}] } , "stream" : false, "model" : "m\u0031" } "#;
    let facts = facts("POST", "/api/chat", body);
    assert_eq!(&body[facts.spans.options.unwrap()], r#"{ "seed" : [1, {"a":2}] }"#);
    assert_eq!(&body[facts.spans.stream.unwrap()], "false");
    assert_eq!(&body[facts.spans.model.unwrap()], r#""m\u0031""#);
    assert_eq!(facts.model_as_sent, "m1");
}

#[test]
fn bounds_are_bounds() {
    let fields = |count: usize| {
        let fields: Vec<_> = (0..count).map(|i| format!("\"f{i}\":{i}")).collect();
        format!("{{{}}}", fields.join(","))
    };
    assert_eq!(facts("POST", "/api/chat", &fields(256)).model, None);
    assert_eq!(fault("POST", "/api/chat", &fields(257)), Fault::TooManyFields);
    for (first, again) in [("f0", "F0"), ("f30", "f30"), ("f255", "\\u0066255")] {
        let body = format!("{},\"{again}\":1}}", fields(256).trim_end_matches('}'));
        assert!(matches!(fault("POST", "/api/chat", &body), Fault::Twice(_)), "{first}");
    }
    let options = |count| format!("{{\"options\":{}}}", fields(count));
    assert!(facts("POST", "/api/chat", &options(256)).spans.options.is_some());
    assert_eq!(fault("POST", "/api/chat", &options(257)), Fault::TooManyFields);
    let named = |length: usize| format!("{{\"{}\":1}}", "n".repeat(length));
    assert_eq!(facts("POST", "/api/chat", &named(256)).model, None);
    assert_eq!(fault("POST", "/api/chat", &named(257)), Fault::LongFieldName);
    let nested = |levels: usize| format!("{{\"x\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(facts("POST", "/api/chat", &nested(63)).model, None);
    assert_eq!(fault("POST", "/api/chat", &nested(64)), Fault::TooDeep);
    let in_options =
        |levels: usize| format!("{{\"options\":{{\"x\":{}{}}}}}", "[".repeat(levels), "]".repeat(levels));
    assert!(facts("POST", "/api/chat", &in_options(62)).spans.options.is_some());
    assert_eq!(fault("POST", "/api/chat", &in_options(63)), Fault::TooDeep);
    let padded = |length: usize| format!("{{\"model\":\"{:>length$}\"}}", "demo");
    assert_eq!(facts("POST", "/api/chat", &padded(1024)).model.unwrap().short(), "demo:latest");
    assert!(matches!(fault("POST", "/api/chat", &padded(1025)), Fault::BadModel(_)));
    let long = format!("{{\"model\":\"https://{}m\"}}", "x/".repeat(5_000));
    assert!(matches!(fault("POST", "/api/chat", &long), Fault::BadModel(_)));
}

#[test]
fn options_are_a_map_and_not_fields() {
    assert!(
        facts("POST", "/api/chat", r#"{"options":{"seed":1,"SEED":2,"\u017feed":3}}"#)
            .spans
            .options
            .is_some()
    );
    for body in [r#"{"options":{"seed":1,"seed":2}}"#, r#"{"options":{"seed":1,"\u0073eed":2}}"#] {
        assert_eq!(fault("POST", "/api/chat", body), Fault::OptionTwice("seed".into()));
    }
    assert_eq!(
        fault("POST", "/api/chat", r#"{"options":{},"options":null}"#),
        Fault::Twice("options".into())
    );
    assert!(matches!(fault("POST", "/api/chat", r#"{"options":{"\ud800":1}}"#), Fault::FieldNameNotText));
    // On /v1 nobody reads them.
    assert!(facts("POST", "/v1/completions", r#"{"options":[{"a":1,"a":2}]}"#).spans.options.is_none());
}

#[test]
fn the_client_is_told_what_and_where() {
    for (body, text) in [
        ("", "missing request body"),
        ("[1]", "the body must be a JSON object (byte 0)"),
        (r#"{"model":"a","Model":"b"}"#, "the field at byte 13 must be spelled \"model\""),
        (r#"{"x":1,"X":2}"#, "the field \"X\" at byte 7 is there twice; case makes no difference"),
        (r#"{"model":"a"} x"#, "unexpected bytes after the JSON object, from byte 14 on"),
        (r#"{"model":"a" "b":1}"#, "invalid JSON at byte 13: a comma or a closing brace expected"),
        (r#"{"model":"a""#, "invalid JSON: the body ends at byte 12 within the object"),
        (r#"{"x":"\"#, "invalid JSON: the body ends at byte 7 within the object"),
        (r#"{"x":"\u00g0"}"#, "invalid JSON at byte 6: no such escape"),
        (r#"{"x":"\x"}"#, "invalid JSON at byte 6: no such escape"),
        (r#"{"\ud83d\ue000":1}"#, "the field's name at byte 1 is not valid Unicode"),
        (r#"{"model":7}"#, "\"model\" must be a string (byte 9)"),
        (r#"{"model":".."}"#, "invalid model name; names look like qwen3:8b or hf.co/user/model:tag"),
    ] {
        let problem = request::read(shape("POST", "/api/chat"), body.as_bytes()).unwrap_err();
        assert_eq!(problem.to_string(), text);
        assert_eq!(gate_wire::GateError::from(problem).public, text);
    }
}
