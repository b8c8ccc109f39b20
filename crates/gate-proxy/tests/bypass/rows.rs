//! The rows and how they are played.

use crate::house::{House, run};
use crate::wire::{Client, json};
use gate_keys::ModelGlob;
use gate_types::ModelName;
use std::time::Duration;

/// A request that must not get through.
pub(crate) struct Refused {
    pub(crate) what: String,
    /// As it is sent; `@ALL@` stands for a key with every scope, `@PLAIN@` for one with the usual ones, `@QWEN@` for one with
    /// every scope that may use `qwen3:*` alone, `@DEMO@` for one that may use `demo` and `demo:1b`.
    pub(crate) send: Vec<u8>,
    pub(crate) status: u16,
    pub(crate) code: &'static str,
}

/// A request that must get through.
pub(crate) struct Passes {
    pub(crate) what: String,
    pub(crate) send: Vec<u8>,
    /// Method and path that the upstream is asked for.
    pub(crate) line: String,
    pub(crate) body: Vec<u8>,
}

/// One that is refused.
pub(crate) fn refused(
    what: impl Into<String>,
    send: impl Into<Vec<u8>>,
    status: u16,
    code: &'static str,
) -> Refused {
    Refused { what: what.into(), send: send.into(), status, code }
}

/// A request with a JSON body, framed as most clients do it.
pub(crate) fn call(method: &str, path: &str, key: &str, body: &[u8]) -> Vec<u8> {
    with(method, path, &format!("Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"), body)
}

/// A request with these fields and this body.
pub(crate) fn with(method: &str, path: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: gate\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

struct Keys {
    all: String,
    plain: String,
    qwen: String,
    demo: String,
}

impl Keys {
    fn of(house: &House) -> Self {
        let scopes = || "infer,embed,read,manage,cloud".parse().unwrap();
        let limited = |patterns: &'static [&str]| {
            house.add_key(move |key| {
                key.scopes = scopes();
                key.models = patterns.iter().map(|pattern| ModelGlob::parse(pattern).unwrap()).collect();
            })
        };
        Keys {
            all: house.add_key(move |key| key.scopes = scopes()),
            plain: house.key.clone(),
            qwen: limited(&["qwen3:*"]),
            demo: limited(&["demo", "demo:1b"]),
        }
    }

    /// The keys in their places. No place is in a body, so lengths stay right.
    fn put_into(&self, send: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(send.len() + 100);
        let mut rest = send;
        while let Some((&byte, more)) = rest.split_first() {
            let places = [
                ("@ALL@", &self.all),
                ("@PLAIN@", &self.plain),
                ("@QWEN@", &self.qwen),
                ("@DEMO@", &self.demo),
            ];
            let place = places.into_iter().find(|(place, _)| rest.starts_with(place.as_bytes()));
            match place {
                Some((place, key)) => {
                    out.extend_from_slice(key.as_bytes());
                    rest = &rest[place.len()..];
                }
                None => {
                    out.push(byte);
                    rest = more;
                }
            }
        }
        out
    }
}

fn house() -> House {
    let house = House::new(1);
    house.probed(0, &["demo", "qwen3", "qwen3:8b", "llama3"], &[]);
    house.shared.stubs.learn(gate_types::UpstreamId(0), &[ModelName::parse("stub").unwrap()]);
    house.change_rules(|rules| rules.manage.push = true);
    house
}

/// What stands in Anthropic's shape for a code, which it has no room for: its `error.type`, and what its text says.
const ANTHROPIC: [(&str, &str, &str); 6] = [
    ("invalid_key", "authentication_error", "the API key is unknown, expired or revoked"),
    ("missing_scope", "permission_error", "it lacks the scope \"cloud\""),
    ("model_not_allowed", "permission_error", "the API key may not use the model '"),
    ("unknown_route", "not_found_error", "nothing is open at this path"),
    ("method_not_allowed", "api_error", "this method is not open at this path; use POST"),
    ("ambiguous_body", "invalid_request_error", "the field "),
];

/// Whether the client is told `code`. The record has it in any case.
fn is_told(code: &str, text: &str) -> bool {
    if text.contains(&format!("\"code\":\"{code}\"")) {
        return true;
    }
    let Ok(body) = serde_json::from_str::<serde_json::Value>(text) else { return false };
    let (kind, says) = (body["error"]["type"].as_str(), body["error"]["message"].as_str());
    let is_it = |(of, type_, text): &(&str, &str, &str)| {
        *of == code && kind == Some(type_) && says.is_some_and(|says| says.contains(text))
    };
    body["type"] == "error" && ANTHROPIC.iter().any(is_it)
}

/// Each row is refused as it says, and no upstream hears of it.
pub(crate) fn all_are_refused(rows: &[Refused]) {
    run(async {
        let house = house();
        let keys = Keys::of(&house);
        let mut wrong = Vec::new();
        for row in rows {
            let mut client = house.connect();
            let sent = client.try_send(&keys.put_into(&row.send)).await;
            assert!(sent, "{}: the gate closed before it was asked", row.what);
            let is_head = row.send.starts_with(b"HEAD ");
            let asked = async { if is_head { client.head().await } else { client.answer().await } };
            let Ok(answer) = tokio::time::timeout(Duration::from_secs(60), asked).await else {
                wrong.push(format!("{}: no answer", row.what));
                continue;
            };
            let code =
                house.records().last().and_then(|record| record.get("reason").cloned()).unwrap_or_default();
            let text = String::from_utf8_lossy(&answer.data);
            let told = is_head || is_told(&code, &text);
            if (answer.status, code.as_str(), told) != (row.status, row.code, true) {
                let got = format!("{} {code} {text}", answer.status);
                wrong.push(format!("{}: wants {} {}, got {got}", row.what, row.status, row.code));
            }
            if house.dialled(0) != 0 {
                wrong.push(format!("{}: the upstream was connected to", row.what));
                break;
            }
        }
        assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    });
}

/// Each row arrives as it says.
pub(crate) fn all_pass(rows: &[Passes]) {
    run(async {
        let house = house();
        let keys = Keys::of(&house);
        let mut upstream = None;
        for (number, row) in rows.iter().enumerate() {
            let mut client: Client = house.connect();
            client.send(keys.put_into(&row.send)).await;
            let told = format!("{{\"number\": {number} , \"text\":\"\\u00e9 \u{e9}\"}}\n");
            let asking = house.asked(0, &mut upstream);
            let asked = tokio::time::timeout(Duration::from_secs(60), asking).await;
            let Ok(asked) = asked else { panic!("{}: {:?}", row.what, client.answer().await) };
            upstream.as_mut().unwrap().send(json(200, &told)).await;
            let line = format!("{} HTTP/1.1", row.line);
            assert_eq!(asked.head.lines().next(), Some(line.as_str()), "{}", row.what);
            assert_eq!(
                asked.body.escape_ascii().to_string(),
                row.body.escape_ascii().to_string(),
                "{}",
                row.what
            );
            for hidden in ["authorization", "x-api-key", "cookie", "origin", "referer", "forwarded"] {
                assert!(!asked.head.to_ascii_lowercase().contains(hidden), "{}: {}", row.what, asked.head);
            }
            let answer = loop {
                let answer = client.answer().await;
                if answer.status != 100 {
                    break answer;
                }
            };
            assert_eq!((answer.status, answer.text()), (200, told.as_str()), "{}", row.what);
        }
    });
}
