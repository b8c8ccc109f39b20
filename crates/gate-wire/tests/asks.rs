//! What a body asks for beyond its model, as policies see it: each field where its route reads it, and nowhere else.

#![expect(clippy::panic, reason = "a test may")]

use gate_wire::{Asks, BodyKind, CallFacts, Fault, Found, find, request};

fn read<'b>(path: &str, body: &'b str) -> Result<CallFacts<'b>, Fault> {
    let Found::Route(route, None) = find("POST", path) else { panic!("{path}") };
    let BodyKind::Json(shape) = route.body else { panic!("{path}") };
    request::read(shape, body.as_bytes()).map_err(|problem| problem.fault)
}

fn asks(path: &str, body: &str) -> Asks {
    read(path, body).unwrap_or_else(|fault| panic!("{path} {body}: {fault:?}")).asks
}

const CHAT: &str = "/api/chat";
const CREATE: &str = "/api/create";

#[test]
fn each_route_has_its_own_questions() {
    let nothing = Asks::default();
    let rendering = Asks { rendering: true, ..nothing };
    let verbose = Asks { verbose: true, ..nothing };
    let insecure = Asks { insecure: true, ..nothing };
    let odd_scheme = Asks { odd_scheme: true, ..nothing };
    let remote_host = Asks { remote_host: true, ..nothing };
    let long = format!(r#"{{"model":"m","remote_host":"{}"}}"#, "x".repeat(2_000));
    for (path, body, expected) in [
        (CHAT, r#"{"model":"m","_debug_render_only":true}"#, rendering),
        (CHAT, r#"{"model":"m","_debug_render_only":false}"#, nothing),
        (CHAT, r#"{"model":"m","_debug_render_only":null}"#, nothing),
        ("/api/embed", r#"{"model":"m","_debug_render_only":true}"#, nothing),
        ("/api/show", r#"{"model":"m","verbose":true}"#, verbose),
        ("/api/show", r#"{"model":"m","verbose":false}"#, nothing),
        (CHAT, r#"{"model":"m","verbose":true}"#, nothing),
        ("/api/pull", r#"{"model":"m","insecure":true}"#, insecure),
        ("/api/push", r#"{"model":"m","insecure":true}"#, insecure),
        (CREATE, r#"{"model":"m","insecure":true}"#, insecure),
        ("/api/pull", r#"{"model":"m","insecure":false}"#, nothing),
        (CHAT, r#"{"model":"m","insecure":true}"#, nothing),
        (CREATE, r#"{"model":"m","remote_host":"http://x"}"#, remote_host),
        (CREATE, &long, remote_host),
        (CREATE, r#"{"model":"m","remote_host":""}"#, nothing),
        (CREATE, r#"{"model":"m","remote_host":null}"#, nothing),
        ("/api/pull", r#"{"model":"m","remote_host":"http://x"}"#, nothing),
        ("/api/pull", r#"{"model":"http://hf.co/a/b"}"#, odd_scheme),
        ("/api/pull", r#"{"name":" http://hf.co/a/b"}"#, odd_scheme),
        ("/api/pull", r#"{"model":"https://hf.co/a/b"}"#, nothing),
        ("/api/pull", r#"{"model":"HTTPS://hf.co/a/b"}"#, nothing),
        ("/api/copy", r#"{"source":"http://x/y/z","destination":"b"}"#, odd_scheme),
        ("/api/copy", r#"{"source":"a","destination":"http://x/y/z"}"#, odd_scheme),
        (CREATE, r#"{"model":"m","from":"registry://x/y/z"}"#, odd_scheme),
        ("/v1/chat/completions", r#"{"model":"m","name":"http://x/y/z"}"#, nothing),
    ] {
        assert_eq!(asks(path, body), expected, "{path} {body}");
    }
}

#[test]
fn fields_of_other_routes_may_hold_anything() {
    for (path, body) in [
        ("/api/copy", r#"{"source":"a","destination":"b","model":7}"#),
        ("/api/experimental/web_search", r#"{"query":"x","model":7}"#),
        (CHAT, r#"{"model":"a","source":7,"destination":7,"from":7,"remote_host":7}"#),
        (CHAT, r#"{"model":"a","files":7,"adapters":7,"modelfile":"FROM x","path":"/x"}"#),
        ("/api/pull", r#"{"model":"a","files":[],"from":{},"tools":{}}"#),
    ] {
        assert!(read(path, body).is_ok(), "{path} {body}");
    }
}

#[test]
fn tools_that_the_server_runs_by_itself_are_seen() {
    for (tools, is_there) in [
        (r#"[{"type":"web_search"}]"#, true),
        (r#"[{"type":"WEB_Search_20250305","name":"web_search"}]"#, true),
        (r#"[{"type":" web_search"}]"#, true),
        (r#"[{"type":"web\u005fsearch"}]"#, true),
        (r#"[{"type":"\ud800"}]"#, true),
        (r#"[null,7,{},[],{"type":"function"},{"type":"web_search"}]"#, true),
        (r#"[{"type":"web_search"},{"type":"function"},{"type":7},null]"#, true),
        (r#"[{"type":"web_search","tools":[]}]"#, true),
        (r#"[{"tools":[{"type":"web_search"}],"type":"namespace"}]"#, true),
        (r#"[{"type":"namespace","tools":[{"type":"x"},{"tools":[{"type":"web_search"}]}]}]"#, true),
        (r#"[{"type":"function","function":{"name":"web_search"}}]"#, false),
        (r#"[{"type":"my_web_search"},{"type":"web_searc"},{"type":"function_calling"}]"#, false),
        (
            r#"[{"name":"web_search"},{"x":{"type":"web_search"}},[{"type":"web_search"}],"web_search"]"#,
            false,
        ),
        (r#"[{"type":["web_search"]},{"type":null}]"#, false),
        (r#"[{"type":"namespace","tools":{"type":"web_search"}}]"#, false),
        (r#"[ ]"#, false),
        (r#"[{ } , { } ]"#, false),
        (r#"{"type":"web_search"}"#, false),
        (r#"null"#, false),
    ] {
        for path in [CHAT, "/v1/chat/completions", "/v1/responses", "/v1/messages"] {
            let body = format!(r#"{{"model":"m","tools":{tools}}}"#);
            assert_eq!(asks(path, &body), Asks { server_tool: is_there, ..Asks::default() }, "{path} {body}");
        }
    }
}

#[test]
fn a_tool_with_two_readings_is_refused() {
    for (tool, fault) in [
        (r#"{"type":"x","type":"web_search"}"#, Fault::Twice("type".into())),
        (r#"{"tools":[],"x":1,"tools":[]}"#, Fault::Twice("tools".into())),
        (r#"{"type":"x","Type":"web_search"}"#, Fault::OtherSpelling("type")),
        ("{\"tool\u{17f}\":[]}", Fault::OtherSpelling("tools")),
        (r#"{"\u0054ype":"x"}"#, Fault::OtherSpelling("type")),
    ] {
        let body = format!(r#"{{"model":"m","tools":[{tool}]}}"#);
        assert_eq!(read(CHAT, &body), Err(fault), "{body}");
    }
    let other = r#"{"model":"m","tools":[{"TYPES":1,"typewriter":2,"Strict":true,"\ud800":3}]}"#;
    assert_eq!(asks(CHAT, other), Asks::default());
}

#[test]
fn levels_within_tools_count() {
    let lists = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let within = |tools: String| read(CHAT, &format!(r#"{{"model":"m","tools":{tools}}}"#)).err();
    // The body, the list and the tool are three levels, a group and its list two more each.
    let groups =
        |count: usize, inner: &str| format!("{}{inner}{}", r#"[{"tools":"#.repeat(count), "}]".repeat(count));
    for (tools, deeper) in [
        (lists(63), lists(64)),
        (format!("[1,{}]", lists(62)), format!("[1,{}]", lists(63))),
        (format!(r#"[{{"x":{}}}]"#, lists(61)), format!(r#"[{{"x":{}}}]"#, lists(62))),
        (format!(r#"[{{"type":{}}}]"#, lists(61)), format!(r#"[{{"type":{}}}]"#, lists(62))),
        (groups(31, &lists(1)), groups(31, &lists(2))),
        (groups(31, "{}"), groups(31, "[{}]")),
    ] {
        assert_eq!(within(tools.clone()), None, "{tools}");
        assert_eq!(within(deeper.clone()), Some(Fault::TooDeep), "{deeper}");
    }
}

#[test]
fn a_create_takes_digests_under_relative_names_alone() {
    let hex = "0123456789abcdefABCDEF".repeat(3)[..64].to_owned();
    for field in ["files", "adapters", "draft_files"] {
        let of = |files: &str| read(CREATE, &format!(r#"{{"model":"m","{field}":{files}}}"#)).err();
        let named = |name: &str| of(&format!(r#"{{"a.gguf":"sha256-{hex}","{name}":"sha256:{hex}"}}"#));
        for name in ["b", "a/b.gguf", "a..b", "...", ".b", "ab:c"] {
            assert_eq!(named(name), None, "{field} {name}");
        }
        for name in
            ["", "/b", "\\\\b", "c:b", "..", "a/../b", "a\\\\..\\\\b", "../b", "a/..", "b\\u0000", "\\u002e."]
        {
            let wants = "made of relative paths";
            assert_eq!(named(name), Some(Fault::WrongType { field, wants }), "{field} {name}");
        }
        assert_eq!(named("a.gguf"), Some(Fault::Twice("a.gguf".into())));
        assert_eq!(of("null"), None);
        assert_eq!(of("{}"), None);
        for files in [
            "[]".to_owned(),
            r#"{"b":7}"#.to_owned(),
            r#"{"b":null}"#.to_owned(),
            r#"{"b":""}"#.to_owned(),
            format!(r#"{{"b":"{hex}"}}"#),
            format!(r#"{{"b":"sha512:{hex}"}}"#),
            format!(r#"{{"b":"sha256:{}"}}"#, &hex[1..]),
            format!(r#"{{"b":"sha256:{hex}0"}}"#),
            format!(r#"{{"b":"sha256:{}g"}}"#, &hex[1..]),
            r#"{"b":"sha256:../../x"}"#.to_owned(),
        ] {
            let wants = "an object of digests";
            assert_eq!(of(&files), Some(Fault::WrongType { field, wants }), "{field} {files}");
        }
    }
    for field in ["modelfile", "path"] {
        let fault = read(CREATE, &format!(r#"{{"model":"m","{field}":"x"}}"#)).unwrap_err();
        assert!(matches!(fault, Fault::WrongType { field: told, .. } if told == field), "{fault:?}");
    }
}
