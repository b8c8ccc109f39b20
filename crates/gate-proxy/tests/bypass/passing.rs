//! What clients rightly send gets through as it came.

use crate::rows::{Passes, all_pass, call, with};
use gate_wire::{BodyKind, Naming, ROUTES};

/// Bodies of `/api/chat` that look odd and have one reading.
const CHAT: &[&str] = &[
    r#"{"model":"demo"}"#,
    r#" { "model" : "demo" } "#,
    "\r\n\t{\"model\"\n:\r\"demo\"}\n\n",
    r#"{"messages":[],"model":"demo"}"#,
    r#"{"model":"DEMO:latest"}"#,
    r#"{"model":" library/Demo "}"#,
    r#"{"model":"d\u0065mo"}"#,
    r#"{"\u006dodel":"demo"}"#,
    r#"{"model":"https://registry.ollama.ai/library/demo"}"#,
    r#"{"model":"demo:local"}"#,
    r#"{"model":"demo","name":""}"#,
    r#"{"model":"demo","name":null}"#,
    r#"{"model":"demo","name":"library/demo:latest"}"#,
    r#"{"model":"demo","stream":null}"#,
    r#"{"model":"demo","stream":false,"options":null}"#,
    r#"{"model":"demo","options":{}}"#,
    r#"{"model":"demo","options":{"seed":1,"SEED":2,"Seed":3}}"#,
    r#"{"model":"demo","options":{"stop":["\n","</s>"],"temperature":1e-3,"num_ctx":4096}}"#,
    r#"{"model":"demo","keep_alive":"5m"}"#,
    r#"{"model":"demo","keep_alive":-1}"#,
    r#"{"model":"demo","keep_alive":1e999}"#,
    r#"{"model":"demo","x":123456789012345678901234567890.12345678901234567890}"#,
    r#"{"model":"demo","unknown":{"Model":"llama3","MODEL":"x","model":"y","model":"z"}}"#,
    r#"{"model":"demo","Unknown":1}"#,
    r#"{"model":"demo","messages":[{"role":"user","content":"{\"model\":\"llama3\"}"}]}"#,
    r#"{"model":"demo","messages":[{"role":"user","content":"\ud83d\ude00 \ud800 \u0000"}]}"#,
    "{\"model\":\"demo\",\"messages\":[{\"role\":\"user\",\"content\":\"gr\u{fc}\u{df} \u{1f600} \u{2028}\u{202e}\u{17f}\u{212a}\"}]}",
    r#"{"model":"demo","messages":[{"role":"user","content":"x","images":["aGVsbG8="]}]}"#,
    r#"{"model":"demo","messages":[{"Role":"user","CONTENT":"x"}]}"#,
    r#"{"model":"demo","format":{"type":"object","properties":{"model":{"type":"string"}}}}"#,
    r#"{"model":"demo","tools":[{"type":"function","function":{"name":"web_search","parameters":{"type":"object","properties":{"type":{"type":"string"}}}}}]}"#,
    r#"{"model":"demo","tools":[]}"#,
    r#"{"model":"demo","tools":null}"#,
    r#"{"model":"demo","think":"high"}"#,
    r#"{"model":"demo","_debug_render_only":false}"#,
    r#"{"model":"demo","":1,"\"":2,"\\":3}"#,
    "{\"model\":\"demo\",\"\u{ff4d}odel\":\"full width is another letter\"}",
];

/// Path and body, with the usual key.
const USUAL: &[(&str, &str)] = &[
    ("/api/generate", r#"{"model":"demo","prompt":"hi","suffix":"","raw":true,"context":[1,2,3]}"#),
    ("/api/generate", r#"{"model":"demo","keep_alive":0}"#),
    ("/api/embed", r#"{"model":"demo","input":["a","b"],"truncate":true}"#),
    ("/api/embeddings", r#"{"model":"demo","prompt":"a"}"#),
    (
        "/v1/chat/completions",
        r#"{"model":"demo","messages":[{"role":"user","content":[{"type":"text","text":"x"}]}],"stream":true,"stream_options":{"include_usage":true}}"#,
    ),
    (
        "/v1/chat/completions",
        r#"{"model":"demo","messages":[],"tool_choice":"auto","metadata":{"Model":"x"}}"#,
    ),
    ("/v1/completions", r#"{"model":"demo","prompt":"x","max_tokens":5,"logprobs":1}"#),
    ("/v1/embeddings", r#"{"model":"demo","input":"x","encoding_format":"base64"}"#),
    (
        "/v1/responses",
        r#"{"model":"demo","input":[{"type":"web_search_call"}],"tools":[{"type":"function","name":"web_search"}]}"#,
    ),
    ("/v1/responses", r#"{"model":"demo","input":"x","name":"llama3"}"#),
    (
        "/v1/messages",
        r#"{"model":"demo","max_tokens":5,"messages":[{"role":"user","content":"x"}],"tools":[{"name":"web_search","input_schema":{}}]}"#,
    ),
    (
        "/v1/messages",
        r#"{"model":"demo","max_tokens":5,"system":[{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}],"messages":[]}"#,
    ),
];

/// With a key that may do everything.
const MANAGED: &[(&str, &str)] = &[
    ("/api/show", r#"{"model":"","name":"demo","verbose":true}"#),
    ("/api/pull", r#"{"model":"hf.co/Acme/X-GGUF:Q4_K_M","stream":true}"#),
    ("/api/pull", r#"{"name":"demo","insecure":false,"username":"","password":""}"#),
    ("/api/push", r#"{"model":"acme/demo","stream":false}"#),
    (
        "/api/create",
        r#"{"model":"mine","from":"demo","system":"be brief","parameters":{"seed":1},"messages":[]}"#,
    ),
    (
        "/api/create",
        r#"{"model":"mine","files":{"m.gguf":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}}"#,
    ),
    (
        "/api/create",
        r#"{"model":"mine","from":"demo","adapters":{"a/b.gguf":"sha256-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"},"quantize":"q4_0"}"#,
    ),
    ("/api/create", r#"{"model":"mine","from":"demo","remote_host":"https://ollama.com:443"}"#),
    ("/api/copy", r#"{"source":"demo","destination":"acme/demo"}"#),
    ("/api/delete", r#"{"model":"evil.example/a/b"}"#),
    ("/api/chat", r#"{"model":"demo:cloud","_debug_render_only":true}"#),
    ("/api/chat", r#"{"model":"demo:1b:cloud"}"#),
    ("/api/pull", r#"{"model":"demo:1b:cloud"}"#),
    ("/api/delete", r#"{"model":" demo:local "}"#),
    ("/api/copy", r#"{"source":"demo:local","destination":"demo:cloud"}"#),
    ("/api/create", r#"{"model":"demo:local","from":"demo:1b:cloud"}"#),
    ("/api/chat", r#"{"model":"stub"}"#),
    ("/v1/messages", r#"{"model":"demo","tools":[{"type":"web_search_20250305","name":"web_search"}]}"#),
    ("/api/experimental/web_search", r#"{"query":"x","max_results":3}"#),
    ("/api/experimental/web_fetch", r#"{"url":"https://x.example/?a=b"}"#),
    ("/api/me", ""),
    ("/api/signout", ""),
];

/// Fields that change nothing.
const FIELDS: &[&str] = &[
    "Authorization: bearer @PLAIN@\r\n",
    "AUTHORIZATION:Bearer   @PLAIN@  \r\n",
    "x-api-key: @PLAIN@\r\n",
    "x-api-key: @PLAIN@\r\nAuthorization: Bearer @PLAIN@\r\n",
    "x-api-key: @PLAIN@\r\nCookie: a=b\r\nOrigin: https://x.example\r\nReferer: https://x.example/\r\n",
    "x-api-key: @PLAIN@\r\nX-Forwarded-For: 127.0.0.1\r\nForwarded: for=127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\n",
    "x-api-key: @PLAIN@\r\nConnection: authorization, x-api-key\r\n",
    "x-api-key: @PLAIN@\r\nContent-Encoding: identity\r\n",
    "x-api-key: @PLAIN@\r\nanthropic-version: 2023-06-01\r\nanthropic-beta: x\r\n",
    "x-api-key: @PLAIN@\r\nX: a\tb \u{e9}\r\n",
    "x-api-key: @PLAIN@\r\nX_Custom: a name of its own\r\n",
    "x-api-key: @PLAIN@\r\nAccept-Encoding: gzip, zstd\r\nAccept: */*\r\n",
];

fn passes(what: impl Into<String>, send: Vec<u8>, line: impl Into<String>, body: &[u8]) -> Passes {
    Passes { what: what.into(), send, line: line.into(), body: body.to_vec() }
}

fn method(path: &str) -> &'static str {
    if path == "/api/delete" { "DELETE" } else { "POST" }
}

#[test]
fn what_has_one_reading_passes_as_it_came() {
    let mut rows: Vec<Passes> = Vec::new();
    for (path, body, key) in CHAT
        .iter()
        .map(|body| ("/api/chat", *body, "@PLAIN@"))
        .chain(USUAL.iter().map(|(path, body)| (*path, *body, "@PLAIN@")))
        .chain(MANAGED.iter().map(|(path, body)| (*path, *body, "@ALL@")))
    {
        let line = format!("{} {path}", method(path));
        rows.push(passes(
            format!("{path} {body}"),
            call(method(path), path, key, body.as_bytes()),
            line,
            body.as_bytes(),
        ));
    }
    let body = br#"{"model":"qwen3:8b"}"#;
    for fields in FIELDS {
        rows.push(passes(*fields, with("POST", "/api/chat", fields, body), "POST /api/chat", body));
    }
    for target in [
        "/api/chat?model=llama3&x=%00",
        "http://gate/api/chat",
        "http://GATE/api/chat?x",
        "https://gate/api/chat",
    ] {
        rows.push(passes(target, call("POST", target, "@QWEN@", body), "POST /api/chat", body));
    }
    // Every route that names a model, with a key for it alone.
    for route in ROUTES {
        let BodyKind::Json(shape) = route.body else { continue };
        let body = match shape.naming {
            Naming::Nothing => continue,
            Naming::Model | Naming::ModelNative => r#"{"model":"Library/QWEN3:8b"}"#,
            Naming::ModelOrName => r#"{"name":"qwen3:8b","model":""}"#,
            Naming::SourceAndDestination => r#"{"destination":"qwen3:1b","source":"qwen3"}"#,
        };
        let line = format!("{} {}", route.method, route.path);
        rows.push(passes(
            format!("{line} {body}"),
            call(route.method, route.path, "@QWEN@", body.as_bytes()),
            line,
            body.as_bytes(),
        ));
    }
    let chunked = "POST /api/chat HTTP/1.1\r\nHost: g\r\nx-api-key: @QWEN@\r\nTransfer-Encoding: chunked\r\n\r\n8;a=\"b\"\r\n{\"model\"\r\n0C\r\n:\"qwen3:8b\"}\r\n0\r\nX-T: 1\r\n\r\n";
    rows.push(passes("chunked", chunked.into(), "POST /api/chat", body));
    let old = format!(
        "POST /api/chat HTTP/1.0\r\nx-api-key: @QWEN@\r\nContent-Length: 20\r\n\r\n{}",
        "{\"model\":\"qwen3:8b\"}"
    );
    rows.push(passes("HTTP/1.0 without Host", old.into(), "POST /api/chat", body));
    let deep = format!("{{\"model\":\"demo\",\"x\":{}{}}}", "[".repeat(63), "]".repeat(63));
    rows.push(passes(
        "64 levels",
        call("POST", "/api/chat", "@PLAIN@", deep.as_bytes()),
        "POST /api/chat",
        deep.as_bytes(),
    ));
    let large = format!("{{\"model\":\"demo\",\"prompt\":\"{}\"}}", "\u{e9}\\n".repeat(200_000));
    rows.push(passes(
        "800 KB",
        call("POST", "/api/generate", "@PLAIN@", large.as_bytes()),
        "POST /api/generate",
        large.as_bytes(),
    ));
    let mut broken = br#"{"model":"demo","prompt":"x"}"#.to_vec();
    broken[26] = 0xff;
    rows.push(passes(
        "invalid UTF-8 in a prompt",
        call("POST", "/api/generate", "@PLAIN@", &broken),
        "POST /api/generate",
        &broken,
    ));
    let form = b"--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n\0\xff\r\n--X\r\n--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nQwen3\r\n--XX--\r\n";
    let fields = "x-api-key: @QWEN@\r\nContent-Type: multipart/form-data; boundary=XX\r\n";
    let path = "/v1/audio/transcriptions";
    rows.push(passes("a form", with("POST", path, fields, form), format!("POST {path}"), form));
    rows.push(passes(
        "a form and a query",
        with("POST", &format!("{path}?language=de"), fields, form),
        format!("POST {path}"),
        form,
    ));
    let digest = "0123456789abcdef".repeat(4);
    for spelled in ["sha256:", "sha256-", "sha256%3A"] {
        let line = format!("POST /api/blobs/sha256:{digest}");
        let path = format!("/api/blobs/{spelled}{digest}");
        rows.push(passes(
            path.clone(),
            with("POST", &path, "x-api-key: @ALL@\r\n", b"GGUF\0\xff"),
            line,
            b"GGUF\0\xff",
        ));
    }
    assert!(rows.len() >= 90, "{}", rows.len());
    all_pass(&rows);
}
