//! JSON with two readings, or with none, and what only some keys may ask for.

use crate::rows::{Refused, all_are_refused, call, refused, with};

const BAD: &str = "malformed_json";
const TWO: &str = "ambiguous_body";
const TYPE: &str = "wrong_type";
const MANY: &str = "body_too_complex";
const NAME: &str = "invalid_model_name";

/// Bodies of `/api/chat`.
const CHAT: &[(&str, &[u8], u16, &str)] = &[
    ("the model twice", br#"{"model":"demo","model":"llama3"}"#, 400, TWO),
    ("the model twice, equal", br#"{"model":"demo","model":"demo"}"#, 400, TWO),
    ("MODEL behind it", br#"{"model":"demo","MODEL":"llama3"}"#, 400, TWO),
    ("MODEL before it", br#"{"MODEL":"llama3","model":"demo"}"#, 400, TWO),
    ("MODEL alone", br#"{"MODEL":"llama3"}"#, 400, TWO),
    ("Model alone", br#"{"Model":"llama3"}"#, 400, TWO),
    ("an escaped second model", br#"{"model":"demo","\u006dodel":"llama3"}"#, 400, TWO),
    ("an escaped model in capitals", br#"{"model":"demo","\u004dODEL":"llama3"}"#, 400, TWO),
    ("stream with a long s", "{\"model\":\"demo\",\"\u{17f}tream\":false}".as_bytes(), 400, TWO),
    ("stream with an escaped long s", br#"{"model":"demo","\u017ftream":false}"#, 400, TWO),
    ("keep_alive with a Kelvin sign", "{\"model\":\"demo\",\"\u{212a}eep_alive\":0}".as_bytes(), 400, TWO),
    ("keep_alive with an escaped Kelvin sign", br#"{"model":"demo","\u212Aeep_alive":0}"#, 400, TWO),
    ("messages with two long s", "{\"model\":\"demo\",\"me\u{17f}\u{17f}ages\":[]}".as_bytes(), 400, TWO),
    ("options twice", br#"{"model":"demo","options":{"seed":1},"options":{"num_ctx":9}}"#, 400, TWO),
    ("options in two cases", br#"{"model":"demo","options":{},"Options":{"num_ctx":9}}"#, 400, TWO),
    ("options with a long s", "{\"model\":\"demo\",\"option\u{17f}\":{\"num_ctx\":9}}".as_bytes(), 400, TWO),
    ("an option twice", br#"{"model":"demo","options":{"num_ctx":1,"num_ctx":9}}"#, 400, TWO),
    (
        "an option twice, once escaped",
        br#"{"model":"demo","options":{"num_ctx":1,"num\u005fctx":9}}"#,
        400,
        TWO,
    ),
    ("an unknown field twice in two cases", br#"{"model":"demo","x_y":1,"X_Y":2}"#, 400, TWO),
    ("a second object", br#"{"model":"demo"}{"model":"llama3"}"#, 400, TWO),
    ("a bracket behind it", br#"{"model":"demo"}]"#, 400, TWO),
    ("a NUL behind it", b"{\"model\":\"demo\"}\0", 400, TWO),
    ("a line of JSON behind it", b"{\"model\":\"demo\"}\n{\"model\":\"llama3\"}\n", 400, TWO),
    ("model and name that disagree", br#"{"model":"demo","name":"llama3"}"#, 400, TWO),
    ("a field name of invalid UTF-8", b"{\"model\":\"demo\",\"\xff\":1}", 400, TWO),
    ("a field name of half a pair", br#"{"model":"demo","\ud800":1}"#, 400, TWO),
    ("a byte order mark", b"\xef\xbb\xbf{\"model\":\"demo\"}", 400, BAD),
    ("UTF-16", b"\xff\xfe{\0}\0", 400, BAD),
    ("UTF-16 in the other order", b"\xfe\xff\0{\0}", 400, BAD),
    ("null", b"null", 400, BAD),
    ("a list", br#"[{"model":"demo"}]"#, 400, BAD),
    ("a text", br#""demo""#, 400, BAD),
    ("a form's body", b"model=demo", 400, BAD),
    ("a comment", br#"{"model":"demo"/*,"model":"llama3"*/}"#, 400, BAD),
    ("a comma at the end", br#"{"model":"demo",}"#, 400, BAD),
    ("single quotes", b"{'model':'demo'}", 400, BAD),
    ("no quotes", b"{model:\"demo\"}", 400, BAD),
    ("a line break in a text", b"{\"model\":\"de\nmo\"}", 400, BAD),
    ("an escape that is none", br#"{"model":"\x64emo"}"#, 400, BAD),
    ("a number with a zero in front", br#"{"model":"demo","x":01}"#, 400, BAD),
    ("NaN", br#"{"model":"demo","x":NaN}"#, 400, BAD),
    ("an object that does not end", br#"{"model":"demo""#, 400, BAD),
    ("a form feed as a blank", b"{\"model\":\"demo\"\x0c}", 400, BAD),
    ("a wide blank", "{\"model\":\"demo\"\u{a0}}".as_bytes(), 400, BAD),
    ("nothing", b"", 400, "missing_body"),
    ("blanks", b" \r\n\t ", 400, "missing_body"),
    ("a model that is a number", br#"{"model":7}"#, 400, TYPE),
    ("a model that is a list", br#"{"model":["demo"]}"#, 400, TYPE),
    ("a model that is an object", br#"{"model":{"name":"demo"}}"#, 400, TYPE),
    ("stream as a text", br#"{"model":"demo","stream":"false"}"#, 400, TYPE),
    ("options as a list", br#"{"model":"demo","options":[1]}"#, 400, TYPE),
    ("_debug_render_only as a number", br#"{"model":"demo","_debug_render_only":1}"#, 400, TYPE),
    ("a model of invalid UTF-8", b"{\"model\":\"demo\xff\"}", 400, NAME),
    ("a model of half a pair", br#"{"model":"demo\ud800"}"#, 400, NAME),
    ("a model with a NUL", br#"{"model":"demo\u0000"}"#, 400, NAME),
    ("a model that is a path", br#"{"model":"../../etc/passwd"}"#, 400, NAME),
    ("a model with a digest", br#"{"model":"demo@sha256:00"}"#, 400, NAME),
    ("a model with a percent code", br#"{"model":"library%2Fllama3"}"#, 400, NAME),
    ("a model with a backslash", br#"{"model":"library\\llama3"}"#, 400, NAME),
    ("a model with a Kelvin sign", "{\"model\":\"\u{212a}imi\"}".as_bytes(), 400, NAME),
    ("a model both local and in the cloud", br#"{"model":"demo:cloud:local"}"#, 400, NAME),
    ("no model", br#"{"messages":[]}"#, 400, "model_required"),
    ("an empty model", br#"{"model":""}"#, 400, "model_required"),
    ("a model that is null", br#"{"model":null}"#, 400, "model_required"),
];

/// Path, body, what comes of it with the usual key. (Management has rows of its own.)
const ASKED: &[(&str, &str, u16, &str)] = &[
    ("/api/chat", r#"{"model":"demo:cloud"}"#, 403, "missing_scope"),
    ("/api/chat", r#"{"model":"demo:1b-cloud"}"#, 403, "missing_scope"),
    ("/api/chat", r#"{"model":"DEMO:CLOUD"}"#, 403, "missing_scope"),
    ("/api/chat", r#"{"model":"demo:clou\u0064"}"#, 403, "missing_scope"),
    ("/api/generate", r#"{"model":"stub"}"#, 403, "missing_scope"),
    ("/api/embed", r#"{"model":"library/STUB"}"#, 403, "missing_scope"),
    ("/api/embeddings", r#"{"model":"stub:local"}"#, 403, "missing_scope"),
    ("/api/show", r#"{"model":"","name":"stub"}"#, 403, "missing_scope"),
    ("/v1/embeddings", r#"{"model":"stub"}"#, 403, "missing_scope"),
    ("/v1/completions", r#"{"model":"stub:latest"}"#, 403, "missing_scope"),
    ("/v1/messages", r#"{"model":"demo:cloud"}"#, 403, "missing_scope"),
    (
        "/v1/messages",
        r#"{"model":"demo","tools":[{"type":"web_search_20250305","name":"web_search"}]}"#,
        403,
        "missing_scope",
    ),
    (
        "/v1/messages",
        r#"{"model":"demo","tools":[{"type":"custom"},{"type":"web_sear\u0063h_1"}]}"#,
        403,
        "missing_scope",
    ),
    ("/v1/messages", r#"{"model":"demo","tools":[{"type":"custom","Type":"web_search_1"}]}"#, 400, TWO),
    ("/v1/messages", r#"{"model":"demo","tools":[{"type":"web_search_1","type":"custom"}]}"#, 400, TWO),
    ("/v1/responses", r#"{"model":"demo","tools":[{"type":"web_search"}]}"#, 403, "missing_scope"),
    (
        "/v1/responses",
        r#"{"model":"demo","tools":[{"type":"namespace","tools":[{"type":"web_search"}]}]}"#,
        403,
        "missing_scope",
    ),
    ("/v1/responses", r#"{"model":"demo","Tools":[{"type":"web_search"}]}"#, 400, TWO),
    ("/api/generate", r#"{"model":"demo","_debug_render_only":true}"#, 403, "missing_scope"),
    ("/v1/chat/completions", r#"{"model":"demo","_debug_render_only":true}"#, 403, "missing_scope"),
    ("/api/chat", r#"{"model":"demo","_Debug_Render_Only":true}"#, 400, TWO),
    ("/api/show", r#"{"model":"demo","verbose":true}"#, 403, "missing_scope"),
    ("/api/show", r#"{"model":"demo","VERBOSE":true}"#, 400, TWO),
    ("/api/show", r#"{"model":"demo","verbo\u017fe":true}"#, 400, TWO),
    ("/api/pull", r#"{"model":"demo"}"#, 403, "missing_scope"),
    ("/api/push", r#"{"model":"demo"}"#, 403, "missing_scope"),
    ("/api/create", r#"{"model":"demo","from":"qwen3"}"#, 403, "missing_scope"),
    ("/api/copy", r#"{"source":"demo","destination":"x"}"#, 403, "missing_scope"),
    ("/api/me", "", 403, "missing_scope"),
    ("/api/signout", "{}", 403, "missing_scope"),
    ("/api/experimental/web_search", r#"{"query":"x"}"#, 403, "missing_scope"),
    ("/api/experimental/web_fetch", r#"{"url":"https://x.example"}"#, 403, "missing_scope"),
    ("/metrics", "", 405, "method_not_allowed"),
];

/// With a key that may do everything.
const MANAGED: &[(&str, &str, u16, &str)] = &[
    ("/api/pull", r#"{"model":"evil.example/a/b"}"#, 403, "registry_not_allowed"),
    ("/api/pull", r#"{"name":"evil.example/a/b"}"#, 403, "registry_not_allowed"),
    ("/api/pull", r#"{"model":"demo","name":"evil.example/a/b"}"#, 400, TWO),
    ("/api/pull", r#"{"model":"127.0.0.1:6379/a/b"}"#, 403, "registry_not_allowed"),
    ("/api/pull", r#"{"model":"hf.co.evil.example/a/b"}"#, 403, "registry_not_allowed"),
    ("/api/pull", r#"{"model":"hf.co:8443/a/b"}"#, 403, "registry_not_allowed"),
    ("/api/pull", r#"{"model":"http://hf.co/a/b"}"#, 403, "insecure_refused"),
    ("/api/pull", r#"{"model":"demo","insecure":true}"#, 403, "insecure_refused"),
    ("/api/pull", r#"{"model":"demo","insecure":false,"INSECURE":true}"#, 400, TWO),
    ("/api/push", r#"{"model":"evil.example/a/b"}"#, 403, "registry_not_allowed"),
    ("/api/push", r#"{"model":"demo","insecure":true}"#, 403, "insecure_refused"),
    ("/api/create", r#"{"model":"x","from":"evil.example/a/b"}"#, 403, "registry_not_allowed"),
    ("/api/create", r#"{"model":"evil.example/a/b","from":"demo"}"#, 403, "registry_not_allowed"),
    ("/api/create", r#"{"model":"x","from":"demo","FROM":"evil.example/a/b"}"#, 400, TWO),
    ("/api/create", r#"{"model":"x","from":"/etc/passwd"}"#, 400, NAME),
    ("/api/create", r#"{"model":"x","from":["demo"]}"#, 400, TYPE),
    ("/api/create", r#"{"model":"x","modelfile":"FROM evil.example/a/b"}"#, 400, TYPE),
    ("/api/create", r#"{"model":"x","ModelFile":"FROM evil.example/a/b"}"#, 400, TWO),
    ("/api/create", r#"{"model":"x","path":"/etc/passwd"}"#, 400, TYPE),
    ("/api/create", r#"{"model":"x","files":{"a":"sha256:../../../etc/passwd"}}"#, 400, TYPE),
    (
        "/api/create",
        r#"{"model":"x","files":{"../a":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}}"#,
        400,
        TYPE,
    ),
    ("/api/copy", r#"{"source":"evil.example/a/b","destination":"x"}"#, 403, "registry_not_allowed"),
    ("/api/copy", r#"{"source":"demo","destination":"evil.example/a/b"}"#, 403, "registry_not_allowed"),
    ("/api/copy", r#"{"source":"demo","destination":"x","Source":"qwen3"}"#, 400, TWO),
];

#[test]
fn bodies_have_one_reading_and_ask_for_nothing_that_the_key_may_not_have() {
    let chat = CHAT.iter().map(|(what, body, status, code)| {
        refused(*what, call("POST", "/api/chat", "@PLAIN@", body), *status, code)
    });
    let with_key = |key: &'static str| {
        move |(path, body, status, code): &(&str, &str, u16, &'static str)| {
            refused(format!("{path} {body}"), call("POST", path, key, body.as_bytes()), *status, code)
        }
    };
    let mut rows: Vec<Refused> = chat.collect();
    rows.extend(ASKED.iter().map(with_key("@PLAIN@")));
    rows.extend(MANAGED.iter().map(with_key("@ALL@")));
    let deep =
        |levels: usize| format!("{{\"model\":\"demo\",\"x\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    rows.push(refused("65 levels", call("POST", "/api/chat", "@ALL@", deep(64).as_bytes()), 400, MANY));
    rows.push(refused(
        "100,000 levels",
        call("POST", "/api/chat", "@ALL@", deep(100_000).as_bytes()),
        400,
        MANY,
    ));
    let fields: String = (0..300).map(|number| format!(",\"f{number}\":1")).collect();
    let body = format!("{{\"model\":\"demo\"{fields}}}");
    rows.push(refused("300 fields", call("POST", "/api/chat", "@ALL@", body.as_bytes()), 400, MANY));
    let body = format!("{{\"model\":\"demo\",\"{}\":1}}", "f".repeat(300));
    rows.push(refused(
        "a field name of 300 bytes",
        call("POST", "/api/chat", "@ALL@", body.as_bytes()),
        400,
        MANY,
    ));
    let body = format!("{{\"model\":\"{}\"}}", "m".repeat(2000));
    rows.push(refused(
        "a model of 2000 bytes",
        call("POST", "/api/chat", "@ALL@", body.as_bytes()),
        400,
        NAME,
    ));
    let body = br#"{"model":"demo"}"#;
    rows.push(refused(
        "DELETE without its scope",
        call("DELETE", "/api/delete", "@PLAIN@", body),
        403,
        "missing_scope",
    ));
    let chunked = b"POST /api/chat HTTP/1.1\r\nHost: g\r\nx-api-key: @ALL@\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"model\":\"demo\",\r\n10\r\n\"MODEL\":\"llama\"}\r\n0\r\n\r\n";
    rows.push(refused("two readings over two chunks", *chunked, 400, TWO));
    for coding in ["zstd", "gzip", "br", "deflate", "identity, zstd", "aws-chunked", "x"] {
        for path in ["/api/chat", "/v1/chat/completions", "/v1/embeddings"] {
            let fields = format!("x-api-key: @ALL@\r\nContent-Encoding: {coding}\r\n");
            rows.push(refused(
                format!("{coding} to {path}"),
                with("POST", path, &fields, body),
                415,
                "unsupported_encoding",
            ));
        }
    }
    assert!(rows.len() >= 140, "{}", rows.len());
    all_are_refused(&rows);
}
