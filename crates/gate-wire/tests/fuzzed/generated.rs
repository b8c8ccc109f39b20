//! Bodies made to be misread: what the reader takes of them, Go's decoder takes too, and sees the same in it.

use crate::property;
use gate_wire::{BodyKind, JsonShape, ROUTES};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

fn any_shape() -> impl Strategy<Value = &'static JsonShape> {
    prop::sample::select(shapes().map(|(_path, shape)| shape).collect::<Vec<_>>())
}

fn shapes() -> impl Iterator<Item = (&'static str, &'static JsonShape)> {
    ROUTES.iter().filter_map(|route| match route.body {
        BodyKind::Json(shape) => Some((route.path, shape)),
        BodyKind::None | BodyKind::Form | BodyKind::Raw => None,
    })
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
    "insecure",
    "in\u{17f}ecure",
    "INSECURE",
    "verbose",
    "Verbo\u{17f}e",
    "_debug_render_only",
    "_DEBUG_render_only",
    "remote_host",
    "remote_ho\\u017ft",
    "tools",
    "Tools",
    "tool\u{17f}",
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
    "\"demo:1b:cloud\"",
    "\"demo:local\"",
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
    "[{\"type\":\"web_search\"}]",
    "[{\"type\":\"function\",\"function\":{\"name\":\"web_search\"}}]",
    "[{\"Type\":\"web_search\"}]",
    "[{\"type\":\"x\",\"TYPE\":\"web_search\"}]",
    "[{\"type\":\"x\",\"\\u0074ype\":\"web_search\"}]",
    "[{\"type\":\"namespace\",\"tools\":[{\"type\":\"web_search_20250305\"}]}]",
    "[{\"tools\":[],\"tool\u{17f}\":[{\"type\":\"web\\u005fsearch\"}]}]",
    "[null,1,{},{\"type\":null},[{\"type\":\"web_search\"}]]",
    "1e999999",
    "-0.000000000000000000000000000000000000000000001E-400",
    "123456789012345678901234567890",
    "\"\\ud800\\udc00\"",
    "\"\\udc00\\ud800x\"",
    "{\"temperature\":1,\"a\":{\"a\":1,\"a\":2}}",
    "\"two\\nlines\\t\\u00e9 and more text that is longer than a block\"",
];

const GAPS: &[&str] = &["", "", "", "", " ", "\n\t", "\r\n  "];

fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let gap = || prop::sample::select(GAPS);
    let field = (gap(), prop::sample::select(NAMES), gap(), gap(), prop::sample::select(VALUES), gap())
        .prop_map(|(a, name, b, c, value, d)| format!("{a}\"{name}\"{b}:{c}{value}{d}"));
    let plain = (
        prop::sample::select(
            &[
                "model",
                "name",
                "stream",
                "options",
                "x",
                "from",
                "source",
                "destination",
                "insecure",
                "verbose",
                "_debug_render_only",
                "remote_host",
                "tools",
            ][..],
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
    fn bodies_are_seen_alike(shape in any_shape(), body in any_body()) {
        property::of_shape(shape, &body);
    }

    #[test]
    fn mutated_bodies_are_seen_alike(shape in any_shape(), body in any_body(), edits in prop::collection::vec(any_edit(), 1..4)) {
        property::of_shape(shape, &edited(body, edits));
    }

    #[test]
    fn any_bytes_are_seen_alike(shape in any_shape(), body in prop::collection::vec(any::<u8>(), 0..60)) {
        property::of_shape(shape, &body);
    }

    #[test]
    fn any_json_like_text_is_seen_alike(shape in any_shape(), body in r#"\{("(model|name|x)":("a"|null|[0-9\[\]{},:"ntrue\\u]{0,8}),?){0,3}\}?"#) {
        property::of_shape(shape, body.as_bytes());
    }
}

#[test]
fn the_generator_is_worth_its_name() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (_, shape) = shapes().find(|(path, _)| *path == "/api/chat").unwrap();
    let taken = (0..1_000)
        .filter(|_| property::of_shape(shape, &any_body().new_tree(&mut runner).unwrap().current()))
        .count();
    assert!((100..900).contains(&taken), "{taken} of 1000 are taken: too few or too many to show anything");
}
