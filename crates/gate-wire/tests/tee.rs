//! The end reader over what real Ollama servers answered: whole answers are whole at their last record and not before, and
//! the silent deaths are seen.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test may")]

use gate_wire::{End, EndReader, Form, GateError, Reason, RouteId, Tokens, ending};
use std::path::PathBuf;

const VERSIONS: [&str; 2] = ["0.24.0", "0.32.15"];

/// A recording's content type and data.
fn recorded(name: &str) -> (String, Vec<u8>) {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../gate-testkit/golden"));
    let path = folder.join(format!("{name}.res"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let text = std::str::from_utf8(&bytes[..head]).unwrap();
    let kind = text.lines().find_map(|line| line.strip_prefix("Content-Type: ")).unwrap_or_default();
    let mut rest = &bytes[head + 4..];
    if !text.contains("Transfer-Encoding: chunked") {
        return (kind.to_owned(), rest.to_vec());
    }
    let mut data = Vec::new();
    loop {
        let line = rest.iter().position(|&byte| byte == b'\r').unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        data.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 2 + size + 2..];
        if size == 0 {
            return (kind.to_owned(), data);
        }
    }
}

fn read(route: RouteId, kind: &str, data: &[u8]) -> EndReader {
    let mut reader = EndReader::new(route, Some(kind.as_bytes()));
    reader.feed(data);
    reader
}

type Counts = Option<(u64, u64)>;

/// Recordings that end well, and the tokens that they tell; 0.24.0 counted the same.
const WHOLE: &[(RouteId, &str, Counts)] = &[
    (RouteId::Generate, "generate-stream", Some((21, 22))),
    (RouteId::Generate, "generate-logprobs-stream", Some((21, 3))),
    (RouteId::Generate, "generate-think-stream", Some((22, 11))),
    (RouteId::Generate, "generate-nonstream", Some((21, 22))),
    (RouteId::Generate, "generate-load", None),
    (RouteId::Chat, "chat-stream", Some((21, 22))),
    (RouteId::Chat, "chat-tools-stream", Some((46, 8))),
    (RouteId::Chat, "chat-tools-think-stream", Some((46, 14))),
    (RouteId::Chat, "chat-nonstream", Some((21, 22))),
    (RouteId::Embed, "embedder-embed", Some((5, 0))),
    (RouteId::Embeddings, "embedder-legacy", None),
    (RouteId::Create, "create-stream", None),
    (RouteId::Create, "create-nonstream", None),
    (RouteId::V1Chat, "v1-chat-stream", None),
    (RouteId::V1Chat, "v1-chat-stream-usage", Some((21, 22))),
    (RouteId::V1Chat, "v1-chat-tools-stream", None),
    (RouteId::V1Chat, "v1-chat", Some((21, 22))),
    (RouteId::V1Completions, "v1-completions-stream", None),
    (RouteId::V1Completions, "v1-completions-stream-usage", Some((21, 3))),
    (RouteId::V1Completions, "v1-completions", Some((21, 22))),
    (RouteId::V1Embeddings, "embedder-v1", Some((5, 0))),
    (RouteId::V1Responses, "v1-responses-stream", Some((21, 22))),
    (RouteId::V1Responses, "v1-responses-max-stream", Some((21, 3))),
    (RouteId::V1Responses, "v1-responses-tools-stream", Some((46, 14))),
    (RouteId::V1Responses, "v1-responses", Some((21, 22))),
    (RouteId::V1Messages, "messages-stream", Some((21, 22))),
    (RouteId::V1Messages, "messages-tools-stream", Some((46, 14))),
    (RouteId::V1Messages, "messages-nonstream", Some((21, 22))),
];

#[test]
fn whole_answers_are_whole_at_the_end_of_their_last_record() {
    for version in VERSIONS {
        for (route, name, tokens) in WHOLE {
            let (kind, data) = recorded(&format!("{version}/{name}"));
            let whole = read(*route, &kind, &data);
            assert_eq!(whole.end(), Some(End::Done), "{version}/{name}");
            assert!(!whole.event_is_open(), "{version}/{name}");
            let tokens = tokens.map(|(prompt, completion)| Tokens { prompt, completion });
            assert_eq!(whole.tokens(), tokens, "{version}/{name}");
            let full = data.trim_ascii_end().len();
            for cut in 1..full {
                assert!(!read(*route, &kind, &data[..cut]).is_whole(), "{version}/{name} cut at {cut}");
            }
            assert!(read(*route, &kind, &data[..full]).is_whole(), "{version}/{name}");
        }
    }
}

#[test]
fn silent_deaths_are_seen_and_told_errors_known() {
    let silent = [
        (RouteId::Generate, "repeat-generate-stream"),
        (RouteId::Chat, "repeat-chat-stream"),
        (RouteId::V1Chat, "repeat-v1-chat-stream"),
        (RouteId::V1Chat, "faults/crash-v1-chat-stream"),
        (RouteId::V1Completions, "repeat-v1-completions-stream"),
        (RouteId::V1Completions, "faults/crash-v1-completions-stream"),
        (RouteId::V1Responses, "repeat-v1-responses-stream"),
        (RouteId::V1Responses, "faults/crash-v1-responses-stream"),
        (RouteId::V1Messages, "repeat-messages-stream"),
        (RouteId::V1Messages, "faults/crash-messages-stream"),
    ];
    let told = [
        (RouteId::Generate, "faults/crash-generate-stream"),
        (RouteId::Chat, "faults/crash-chat-stream"),
        (RouteId::Pull, "pull-unreachable"),
        (RouteId::Push, "push-missing"),
    ];
    for version in VERSIONS {
        for (route, name) in silent {
            let (kind, data) = recorded(&format!("{version}/{name}"));
            assert_eq!(read(route, &kind, &data).end(), None, "{version}/{name}");
        }
        for (route, name) in told {
            let (kind, data) = recorded(&format!("{version}/{name}"));
            assert_eq!(read(route, &kind, &data).end(), Some(End::Failed), "{version}/{name}");
        }
    }
}

/// Content cannot end an answer.
#[test]
fn only_the_records_own_fields_count() {
    let lines = "application/x-ndjson";
    for line in [
        r#"{"message":{"tool_calls":[{"function":{"arguments":{"done":true,"error":"x"}}}]},"done":false,"x":1}"#,
        r#"{"message":{"content":"\",\"done\":true,\"x\":\""},"done":false,"x":1}"#,
        r#"{"response":"{\"done\":true}","x":1}"#,
        r#"{"context":[{"done":true}],"usage":{"done":true},"response":{"done":true}}"#,
        r#"{"done":"true"}"#,
        r#"[{"done":true}]"#,
        r#"{}{"done":true}"#,
        r#"x{"done":true}"#,
        r#"{"done":true}"x""#,
        r#"{"done":true"#,
        r#"{"model":"m","done":true,"done":false}"#,
    ] {
        let data = format!("{line}\n");
        assert_eq!(read(RouteId::Chat, lines, data.as_bytes()).end(), None, "{line}");
    }
    for line in
        [r#"{"done":true}"#, r#" { "eval_count" : 3 , "done" : true , "x":[{}] } "#, "{\"done\":true}\r"]
    {
        assert_eq!(read(RouteId::Chat, lines, line.as_bytes()).end(), Some(End::Done), "{line}");
    }
    let events = "text/event-stream";
    for (route, data) in [
        (
            RouteId::V1Chat,
            "data: {\"id\":\"1\",\"choices\":[{\"delta\":{\"content\":\"\\n\\ndata: [DONE]\"}}]}\n\n",
        ),
        (RouteId::V1Chat, ": [DONE]\n\ndata: [DONE] not\n\nevent: [DONE]\n\n"),
        (RouteId::V1Chat, "data: {\"id\":\"1\",\"error\":null}\n\n"),
        (
            RouteId::V1Responses,
            "event: response.output_text.delta\ndata: {\"delta\":\"response.completed\"}\n\n",
        ),
        (RouteId::V1Responses, "event: response.completed\n\n"),
        (RouteId::V1Responses, "event: response.completed\ndata: {\"response\":{\"a\":\n\n"),
        (RouteId::V1Responses, "data: {\"response\":{\"type\":\"response.completed\"},\"type\":\"x\"}\n\n"),
        (RouteId::V1Messages, "event: message_stopped\ndata: {\"type\":\"message_stopped\"}\n\n"),
    ] {
        assert_eq!(read(route, events, data.as_bytes()).end(), None, "{data}");
    }
}

#[test]
fn what_is_no_stream_of_the_route_is_not_read() {
    for (route, kind) in [
        (RouteId::Chat, "text/plain"),
        (RouteId::Chat, "text/event-stream"),
        (RouteId::V1Chat, "application/x-ndjson"),
        (RouteId::Blob, "application/x-ndjson"),
        (RouteId::Copy, ""),
    ] {
        let reader = read(route, kind, b"{\"done\":");
        assert_eq!((reader.form(), reader.end(), reader.tokens()), (Form::Opaque, Some(End::Done), None));
    }
    let mut json = EndReader::new(RouteId::Delete, Some(b"Application/JSON"));
    assert!(json.is_whole(), "an empty body misses nothing");
    json.feed(b"{\"a\":");
    assert!(!json.is_whole());
    json.feed(b"[1]}");
    assert!(json.is_whole());
    assert!(read(RouteId::Show, "application/json", b"null ").is_whole(), "what is no object is not read");
}

/// What each dialect's clients read as an error.
#[test]
fn the_ending_of_each_dialect() {
    let error = GateError::new(Reason::UpstreamTimeout);
    let public = &error.public;
    let told = |route, kind: &str, data: &str, fill| {
        ending(route, &read(route, kind, data.as_bytes()), &error, "r-1", fill)
    };
    let native = format!("{{\"error\":\"{public}\",\"code\":\"upstream_timeout\"}}\n");
    let lines = "application/x-ndjson";
    assert_eq!(told(RouteId::Chat, lines, "", 0), native);
    assert_eq!(told(RouteId::Chat, lines, "{\"a\":1}\n", 0), native);
    assert_eq!(told(RouteId::Generate, lines, "{\"a\"", 0), format!("\n{native}"));
    let filled = told(RouteId::Generate, lines, "{\"a\"", 200);
    assert_eq!((filled.len(), filled.trim_end()), (200, format!("\n{native}").trim_end()));
    assert_eq!(told(RouteId::Chat, lines, "{\"done\":true}\n", 0), "");
    assert_eq!(told(RouteId::Chat, lines, "{\"error\":\"own\"}", 0), "");
    assert_eq!(told(RouteId::Chat, "application/json", "{", 0), "");

    let events = "text/event-stream";
    let object = format!(
        "\"error\":{{\"message\":\"{public}\",\"type\":\"api_error\",\"param\":null,\"code\":\"upstream_timeout\"}}"
    );
    let openai = format!("data: {{{object}}}\n\n");
    assert_eq!(told(RouteId::V1Chat, events, "", 0), openai);
    assert_eq!(told(RouteId::V1Chat, events, "data: {}\n\n", 0), openai);
    assert_eq!(told(RouteId::V1Chat, events, "data: {}\n", 0), format!("\n{openai}"));
    assert_eq!(told(RouteId::V1Completions, events, "data: {", 0), format!("\n\n{openai}"));
    assert_eq!(told(RouteId::V1Completions, events, "data: {", 400).len(), 400);
    assert_eq!(
        told(RouteId::V1Responses, events, "event: a\ndata: {}\n\nevent: b\ndata: {}\n\n", 0),
        format!(
            "event: error\ndata: {{{object},\"type\":\"error\",\"code\":\"upstream_timeout\",\
             \"message\":\"{public}\",\"param\":null,\"sequence_number\":2}}\n\n"
        )
    );
    assert_eq!(
        told(RouteId::V1Messages, events, "event: ping\n", 0),
        format!(
            "\nevent: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"api_error\",\"message\":\"{public}\"}},\
             \"request_id\":\"r-1\"}}\n\n"
        )
    );
}
