//! Paths, targets, methods, hosts and queries.

use crate::rows::{Refused, all_are_refused, call, refused, with};

const CHAT: &[u8] = br#"{"model":"demo","messages":[]}"#;
const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Other ways to write a path that is open, and what the table does not name.
const UNKNOWN: &[(&str, &str)] = &[
    ("POST", "//api/pull"),
    ("POST", "/api//pull"),
    ("POST", "/api/pull/"),
    ("POST", "/api/pull//"),
    ("POST", "/./api/pull"),
    ("POST", "/api/./pull"),
    ("POST", "/x/../api/pull"),
    ("POST", "/api/chat/../pull"),
    ("POST", "/api/%70ull"),
    ("POST", "/api%2Fpull"),
    ("POST", "/api%2fpull"),
    ("POST", "/%61pi/pull"),
    ("POST", "/api/pull%00"),
    ("POST", "/api/pull%20"),
    ("POST", "/api/pull;x=y"),
    ("POST", "/api;x/pull"),
    ("POST", "/api/%2e%2e/api/pull"),
    ("POST", "/api/%252e%252e/pull"),
    ("POST", "/api\\pull"),
    ("POST", "/api%5cpull"),
    ("POST", "/API/pull"),
    ("POST", "/Api/Pull"),
    ("POST", "/api/pull%3Fx"),
    ("POST", "/api/pull%23"),
    ("POST", "/api/chat%0d%0aX:%20y"),
    ("GET", "/api/status"),
    ("GET", "/api"),
    ("GET", "/debug/pprof/"),
    ("DELETE", "/api/user/keys/AAAA"),
    ("GET", "/api/experimental/model-recommendations"),
    ("POST", "/api/experimental/aliases"),
    ("POST", "/api/blobs/sha256:../../../etc/passwd"),
    ("HEAD", "/api/blobs/sha256:0"),
    ("POST", "/api/blobs/"),
    ("POST", "/api/blobs/{digest}"),
    ("POST", "/v1/images/generations"),
    ("POST", "/v1/images/edits"),
    ("POST", "/v1/audio/speech"),
    ("GET", "/v1/responses/resp_1"),
    ("POST", "/v1/chat/completions/"),
    ("POST", "/v1%2Fchat%2Fcompletions"),
    ("POST", "/v1/chat%2Fcompletions"),
    ("GET", "/v1/models/"),
    ("GET", "/v1/models/{model}"),
    ("GET", "/v1/models/../../api/tags"),
    ("GET", "/v1/models/%2e%2e%2fdemo"),
    ("GET", "/v1/models/d%65mo"),
    ("GET", "/v1/models/demo%00"),
    ("GET", "/v1/models/a%252Fb"),
    ("GET", "/v1/models//demo"),
    ("GET", "/v1/models/demo?"),
    ("POST", "/v1/messages/count_tokens"),
    ("POST", "/v1/messages/"),
    ("POST", "/v1/messages%2Fcount_tokens"),
    ("POST", "/chat/completions"),
    ("POST", "/t/token/api/chat"),
];

/// Open paths, other methods.
const METHODS: &[(&str, &str)] = &[
    ("GET", "/api/pull"),
    ("PUT", "/api/chat"),
    ("PATCH", "/api/chat"),
    ("DELETE", "/api/pull"),
    ("POST", "/api/delete"),
    ("POST", "/api/tags"),
    ("FOO", "/api/chat"),
    ("post", "/api/chat"),
    ("TRACE", "/api/chat"),
    ("GET", "/v1/chat/completions"),
    ("DELETE", "/v1/models/demo"),
    ("HEAD", "/api/ps"),
    ("POST", "/v1/models"),
    ("GET", "/v1/messages"),
    ("PUT", "/api/blobs/sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
];

/// Targets and hosts that disagree, or are none: between the request line's target and the fields.
const HOSTS: &[(&str, &str, &str)] = &[
    ("absolute form of another host", "http://other/api/chat", "Host: gate\r\n"),
    ("absolute form of another port", "http://gate:80/api/chat", "Host: gate:8080\r\n"),
    ("absolute form with a user", "http://user@gate/api/chat", "Host: gate\r\n"),
    ("absolute form of another scheme", "ftp://gate/api/chat", "Host: gate\r\n"),
    ("absolute form without a path", "http://gate", "Host: gate\r\n"),
    ("a target without a slash", "api/chat", "Host: gate\r\n"),
    ("an asterisk", "*", "Host: gate\r\n"),
    ("an authority", "gate:80", "Host: gate\r\n"),
    ("no Host", "/api/chat", ""),
    ("two Hosts", "/api/chat", "Host: gate\r\nHost: gate\r\n"),
    ("two Hosts that differ", "/api/chat", "Host: gate\r\nX: y\r\nHOST: other\r\n"),
    ("an empty Host", "/api/chat", "Host:\r\n"),
    ("a Host with a user", "/api/chat", "Host: user@gate\r\n"),
    ("a Host with a path", "/api/chat", "Host: gate/api\r\n"),
    ("a Host with a blank", "/api/chat", "Host: gate other\r\n"),
    ("a list of Hosts", "/api/chat", "Host: gate, other\r\n"),
    ("a Host outside of ASCII", "/api/chat", "Host: g\u{e4}te\r\n"),
];

#[test]
fn paths_methods_and_hosts() {
    let unknown = UNKNOWN.iter().filter(|(_, path)| !path.ends_with('?'));
    let mut rows: Vec<Refused> = unknown
        .map(|(method, path)| {
            refused(format!("{method} {path}"), call(method, path, "@ALL@", CHAT), 404, "unknown_route")
        })
        .collect();
    rows.extend(METHODS.iter().map(|(method, path)| {
        refused(format!("{method} {path}"), call(method, path, "@ALL@", CHAT), 405, "method_not_allowed")
    }));
    rows.extend(HOSTS.iter().map(|(what, target, host)| {
        let fields = format!("{host}Authorization: Bearer @ALL@\r\nContent-Length: 0\r\n\r\n");
        refused(*what, format!("POST {target} HTTP/1.1\r\n{fields}"), 400, "bad_request")
    }));
    // A proxy to nowhere else, with a credential for a proxy or without any.
    for target in [
        "http://evil.example/api/chat",
        "http://evil.example:11434/api/chat",
        "https://ollama.com/api/chat",
        "http://10.0.0.1/api/tags",
    ] {
        let host = target.split('/').nth(2).unwrap();
        for fields in ["", "Proxy-Authorization: Basic eDp5\r\n"] {
            let send = format!("POST {target} HTTP/1.1\r\nHost: {host}\r\n{fields}Content-Length: 0\r\n\r\n");
            rows.push(refused(format!("{target} {fields}"), send, 403, "proxy_target_refused"));
        }
    }
    for (method, override_field) in
        [("POST", "X-HTTP-Method-Override: DELETE"), ("GET", "X-HTTP-Method: POST")]
    {
        let fields = format!("x-api-key: @ALL@\r\n{override_field}\r\n");
        let path = if method == "POST" { "/api/delete" } else { "/api/chat" };
        rows.push(refused(override_field, with(method, path, &fields, CHAT), 405, "method_not_allowed"));
    }
    for path in [
        format!("/api/blobs/sha256:{DIGEST}/.."),
        format!("/api/blobs/sha256:{DIGEST}%2f.."),
        format!("/api/blobs/SHA256:{DIGEST}"),
    ] {
        rows.push(refused(
            path.clone(),
            with("POST", &path, "x-api-key: @ALL@\r\n", b"x"),
            404,
            "unknown_route",
        ));
    }
    assert!(rows.len() >= 95, "{}", rows.len());
    all_are_refused(&rows);
}
