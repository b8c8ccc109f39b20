//! Answers of real Ollama servers, byte for byte, cut at every place: heads, bodies and the connection's fate.

use std::path::Path;

use crate::property::{Side, read, same_in_any_cut};
use gate_h1::{Framing, Limits};

/// Name, answers a HEAD, the statuses of its messages, framing of the last one, kept alive.
const ANSWERS: [(&str, bool, &[&str], Framing, bool); 14] = [
    ("blob-head", true, &["200"], Framing::None, true),
    ("chat-tools-stream", false, &["200"], Framing::Chunked, true),
    ("cors-preflight-allowed", false, &["204"], Framing::None, true),
    ("generate-predict-1", false, &["200"], Framing::Chunked, true),
    ("http-expect-continue", false, &["100", "200"], Framing::Length(483), true),
    ("http-expect-other", false, &["417"], Framing::Length(0), false),
    ("http-http10-keepalive", false, &["200"], Framing::Length(20), true),
    ("http-http10-stream", false, &["200"], Framing::UntilClose, false),
    ("http-http20", false, &["505"], Framing::UntilClose, false),
    ("http-pipelined", false, &["200", "200"], Framing::Length(17), true),
    ("messages-tools-stream", false, &["200"], Framing::Chunked, true),
    ("pull-unreachable", false, &["200"], Framing::Chunked, true),
    ("root-head", true, &["200"], Framing::None, true),
    ("v1-chat-tools-stream", false, &["200"], Framing::Chunked, true),
];

#[test]
fn real_answers_read_the_same_at_every_cut() {
    for version in ["0.24.0", "0.32.15"] {
        for (name, to_head, statuses, framing, keep_alive) in ANSWERS {
            let path = format!("tests/wire/answers/{version}/{name}.res");
            let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(&path)).expect(&path);
            let side = Side::Responses { to_head };
            let whole = same_in_any_cut(side, &Limits::DEFAULT, &bytes);

            assert_eq!(whole.refused, None, "{path}");
            assert_eq!(whole.used, bytes.len(), "{path}");
            assert!(whole.messages.iter().all(|message| message.complete), "{path}");
            let seen = whole.messages.iter().map(|message| message.first.1.as_str()).collect::<Vec<_>>();
            assert_eq!(seen, statuses, "{path}");
            let last = whole.messages.last().unwrap();
            if !matches!((last.framing, framing), (Framing::Length(_), Framing::Length(_))) {
                assert_eq!(last.framing, framing, "{path}");
            }
            assert_eq!(last.keep_alive, keep_alive, "{path}");

            for cut in 0..bytes.len() {
                let cut_once = read(side, &Limits::DEFAULT, &bytes, std::iter::once(cut));
                assert_eq!(cut_once, whole, "{path} cut at {cut}");
            }
        }
    }
}

#[test]
fn a_streamed_answer_gives_whole_lines() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire/answers/0.32.15/chat-tools-stream.res");
    let bytes = std::fs::read(path).unwrap();
    let whole = read(Side::Responses { to_head: false }, &Limits::DEFAULT, &bytes, std::iter::empty());
    let body = String::from_utf8(whole.messages[0].body.clone()).unwrap();
    assert!(body.ends_with('\n'));
    assert!(body.lines().all(|line| line.starts_with("{\"model\":\"") && line.ends_with('}')));
    assert!(body.lines().last().unwrap().contains("\"done\":true"));
}
