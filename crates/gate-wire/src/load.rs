//! What Ollama says where a model could not be loaded: its own failure behind a 500, which another server need not share.
//!
//! A 500 alone says little: Ollama answers a wrongly typed option with it, too, and a runner that died in the middle of its
//! work, which the same request might bring about again.

/// How such a text begins. From v0.24.0 to v0.32.15 the runner's name changed and nothing else.
const FAILURES: [&[u8]; 6] = [
    b"llama-server process has terminated",
    b"llama runner process has terminated",
    b"timed out waiting for llama-server to start",
    b"timed out waiting for llama runner to start",
    b"model runner has unexpectedly stopped",
    b"model requires more system memory",
];

/// Bytes of a refusal that are looked through: these texts stand at its beginning, in every dialect.
const LOOKED_THROUGH: usize = 4 << 10;

/// Whether the body of a 500 says that the model's runner died or gave up while loading, in whatever dialect.
#[must_use]
pub fn is_load_failure(body: &[u8]) -> bool {
    let body = &body[..body.len().min(LOOKED_THROUGH)];
    // Each of them is the beginning of a JSON string.
    let mut strings =
        body.iter().enumerate().filter(|(_, byte)| **byte == b'"').map(|(at, _)| &body[at + 1..]);
    strings.any(|text| FAILURES.iter().any(|failure| text.starts_with(failure)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_that_failed_is_told_from_other_failures_in_every_dialect() {
        let shapes = |text: &str| {
            [
                format!(r#"{{"error":"{text}"}}"#),
                format!(r#"{{"error":{{"message":"{text}","type":"api_error","param":null,"code":null}}}}"#),
                format!(
                    r#"{{"type":"error","error":{{"type":"api_error","message":"{text}"}},"request_id":"req_1"}}"#
                ),
            ]
        };
        for (text, is_load) in [
            ("llama-server process has terminated: exit status 2", true),
            ("llama runner process has terminated: cudaMalloc failed: out of memory", true),
            ("timed out waiting for llama-server to start - progress 0.50 - ", true),
            ("model requires more system memory (64.0 GiB) than is available (7.5 GiB)", true),
            ("model runner has unexpectedly stopped, this may be due to resource limitations", true),
            ("option \\\"num_ctx\\\" must be of type integer", false),
            ("an error was encountered while running the model: unexpected EOF", false),
            ("invalid: llama-server process has terminated", false),
            ("", false),
        ] {
            for body in shapes(text) {
                assert_eq!(is_load_failure(body.as_bytes()), is_load, "{body}");
            }
        }
        assert!(!is_load_failure(b""));
        assert!(!is_load_failure(b"\""));
    }
}
