//! Who is let in and how long for, from outside: keys that end while their streams run, wrong keys, clients that take the
//! gate for a proxy, pages of other origins, and what looks like one thing to the gate and another to somebody else.

use crate::harness::{Ask, Home, testkit};
use gate_testkit::{Fault, Order, Setup};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

fn chat() -> Ask {
    Ask::post("/api/chat", &json!({"model": "demo", "messages": [{"role": "user", "content": "hi"}]}))
}

/// Sends these bytes and reads until the gate closes.
fn raw(to: SocketAddr, bytes: &str) -> String {
    let mut wire = TcpStream::connect(to).unwrap();
    wire.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    wire.write_all(bytes.as_bytes()).unwrap();
    let mut answer = Vec::new();
    wire.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

/// How long a stream that `key` has begun goes on after `then`; the answer as far as it came.
fn stream_until(gate: SocketAddr, key: &str, then: impl FnOnce()) -> (Duration, String) {
    let mut stream = chat().key(key).open(gate);
    assert_eq!(stream.status, 200);
    assert!(stream.piece().unwrap().is_some(), "the stream has begun");
    then();
    let begun = Instant::now();
    let rest = stream.rest();
    assert!(rest.cut.is_some(), "it must not look whole: {rest}");
    (begun.elapsed(), rest.text())
}

#[test]
fn a_key_that_is_revoked_or_expires_takes_its_streams_along() {
    let ollama = testkit(Setup::default());
    ollama.order(Order::always(Fault::StallAfter { bytes: 400, pause: None }).on("/api/chat"));
    let home = Home::new();
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let doomed = home.key("doomed", &[]);
    gate.takes(&doomed);
    let (took, _) = stream_until(gate.address, &doomed, || {
        assert_eq!(home.run(&["key", "revoke", "doomed"]).code, 0);
    });
    assert!(took < Duration::from_secs(1), "the stream of a revoked key went on for {took:?}");
    assert_eq!(chat().key(&doomed).send(gate.address).status, 401);

    let short = home.key("short", &["--expires", "4s"]);
    let made = Instant::now();
    gate.takes(&short);
    stream_until(gate.address, &short, || {});
    let took = made.elapsed();
    assert!(took > Duration::from_secs(2) && took < Duration::from_millis(5500), "{took:?}");
}

#[test]
fn wrong_keys_are_told_so_as_often_as_the_settings_say() {
    let ollama = testkit(Setup::default());
    let home = Home::new().settings("[auth]\nfailures = 3\n");
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let wrong =
        || Ask::get("/api/tags").key("sk-hg-0123456789ABCDEFGHIJKLMNOPQRSTUV2NG9Ws").send(gate.address);
    for _ in 0..3 {
        assert_eq!(wrong().status, 401);
    }
    let answer = wrong();
    assert_eq!((answer.status, answer.json()["code"].as_str()), (429, Some("too_many_failures")), "{answer}");
    let wait: u64 = answer.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    gate.ask(Ask::get("/api/tags")).ok();
    assert_eq!(Ask::get("/api/tags").send(gate.address).status, 401, "no key is no wrong key");
}

#[test]
fn who_takes_the_gate_for_a_proxy_names_a_host_of_the_settings() {
    let ollama = testkit(Setup::default());
    for (settings, name) in [("", "ollama"), ("[auth]\nproxy_names = [\"llm.corp\"]\n", "LLM.corp")] {
        let home = Home::new().settings(settings).env("AUTH_TOKEN", "canary-Tr0ub4dor&3");
        let gate = home.serve(&["--upstream", &ollama.url()]);
        for (host, told) in [(name, "200"), ("example.org", "403"), ("herdgate.example.org", "403")] {
            let fields =
                "Proxy-Authorization: Basic dXNlcjpjYW5hcnktVHIwdWI0ZG9yJjM=\r\nConnection: close\r\n";
            let asked = format!("GET http://{host}:80/api/tags HTTP/1.1\r\nHost: {host}:80\r\n{fields}\r\n");
            let answer = raw(gate.address, &asked);
            assert!(answer.starts_with(&format!("HTTP/1.1 {told} ")), "{host}: {answer}");
        }
    }
}

#[test]
fn pages_of_the_named_origins_may_ask() {
    let ollama = testkit(Setup::default());
    let preflight = |gate: SocketAddr| {
        let page = Ask::new("OPTIONS", "/v1/messages").field("Origin", "http://localhost:5173");
        let asked =
            page.field("Access-Control-Request-Method", "POST").field("Connection", "close").send(gate);
        (asked.status, asked.field("access-control-allow-origin").map(str::to_owned))
    };
    let may = (204, Some("http://localhost:5173".to_owned()));
    for (home, told) in [
        (Home::new(), (403, None)),
        (Home::new().settings("[cors]\norigins = [\"http://localhost:*\"]\n"), may.clone()),
        (Home::new().env("HERDGATE_CORS__ORIGINS", "https://app.example,http://localhost:*"), may.clone()),
        (Home::new().env("OLLAMA_ORIGINS", "http://localhost:*, bad origin"), may),
        (Home::new().env("OLLAMA_ORIGINS", "*"), (204, Some("*".to_owned()))),
        (Home::new().env("OLLAMA_ORIGINS", "*").settings("[cors]\norigins = []\n"), (403, None)),
    ] {
        let gate = home.serve(&["--upstream", &ollama.url()]);
        assert_eq!(preflight(gate.address), told);
    }
}

/// What has two readings, or names no open door, is refused with its code, and no upstream hears of it.
#[test]
fn what_looks_like_one_thing_and_is_another_is_refused() {
    let ollama = testkit(Setup::default());
    let home = Home::new().env("AUTH_TOKEN", "canary-Tr0ub4dor&3");
    let gate = home.serve(&["--upstream", &ollama.url()]);
    let key = "Authorization: Bearer canary-Tr0ub4dor&3\r\nConnection: close\r\n";
    let mut cases = Vec::new();
    let mut case = |status: u16, code: &'static str, line: &str, fields: &str| {
        cases.push((status, code, format!("{line} HTTP/1.1\r\n{fields}{key}\r\n")));
    };
    for fields in ["", "Host: a\r\nHost: a\r\n", "Host: a\r\nHost: b\r\n", "Host:\r\n", "Host: a/b\r\n"] {
        case(400, "bad_request", "GET /api/tags", fields);
    }
    for host in ["a b", "user@a", "a,b", "a;b", "a\\b", "<a>", "a?b"] {
        case(400, "bad_request", "GET /api/tags", &format!("Host: {host}\r\n"));
    }
    let host = "Host: a\r\n";
    for target in [
        "http://b/api/tags",
        "http://a:81/api/tags",
        "http://u@a/api/tags",
        "ftp://a/api/tags",
        "http://a",
        "*",
    ] {
        case(400, "bad_request", &format!("GET {target}"), host);
    }
    case(403, "proxy_target_refused", "CONNECT a:443", host);
    case(403, "proxy_target_refused", "CONNECT /api/tags", host);
    for name in [
        "content_length",
        "Content_Length",
        "transfer_encoding",
        "x_api_key",
        "X_API_KEY",
        "x_request_id",
        "x_forwarded_for",
        "X-Forwarded_For",
        "content_type",
        "proxy_authorization",
        "x_real_ip",
    ] {
        case(400, "bad_request", "GET /api/tags", &format!("{host}{name}: 0\r\n"));
    }
    for path in [
        "/api%2Ftags",
        "/api%2ftags",
        "/api%5Ctags",
        "/api\\tags",
        "//api/tags",
        "/api//tags",
        "/api/tags/",
        "/./api/tags",
        "/api/./tags",
        "/x/../api/tags",
        "/api/x/../tags",
        "/%2e%2e/api/tags",
        "/api/%2e/tags",
        "/api/%74ags",
        "/API/tags",
        "/api/tags;x",
        "/api/tags%00",
        "/api/tags%20",
        "/api/tags%3Fx",
        "/v1/models/..",
        "/v1/models/%2e%2e",
        "/api/blobs/sha256:..",
        "/v1/models/a%252Fb",
    ] {
        case(404, "unknown_route", &format!("GET {path}"), host);
    }
    for method in ["PUT", "PATCH", "TRACE", "get", "PROPFIND", "POST"] {
        case(405, "method_not_allowed", &format!("{method} /api/tags"), host);
    }
    let before = ollama.seen_on("/api/tags").len();
    for (status, code, bytes) in &cases {
        let answer = raw(gate.address, bytes);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes}\n{answer}");
        assert!(answer.contains(&format!("\"{code}\"")), "{bytes}\n{answer}");
    }
    assert!(cases.len() > 50, "{}", cases.len());
    // The gate's own probes ask for the list as well, with another agent; none of the cases came through.
    let seen = ollama.seen_on("/api/tags");
    let ours = seen[before..].iter().filter(|asked| asked.field("x-request-id").is_some()).count();
    assert_eq!(ours, 0);
}
