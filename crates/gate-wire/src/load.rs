//! What Ollama says where a model could not be loaded: its own failure behind a 500, which another server need not share.
//!
//! A 500 alone says little: Ollama answers a wrongly typed option with it, too, and a runner that died in the middle of its
//! work, which the same request might bring about again.

/// How such a text begins. `llm/server.go` of v0.24.0 says "llama runner", `llm/llama_server.go` of v0.32.15 "llama-server";
/// "model failed to load" is all that v0.24.0 says where its runner died while it loaded.
const FAILURES: [&[u8]; 15] = [
    b"model failed to load",
    b"model requires more system memory",
    b"model runner has unexpectedly stopped",
    b"llama runner process has terminated",
    b"llama-server process has terminated",
    b"llama runner process no longer running",
    b"llama-server process no longer running",
    b"timed out waiting for llama runner to start",
    b"timed out waiting for llama-server to start",
    b"error starting runner",
    b"error starting llama-server",
    b"llama-server startup failed",
    b"llama-server reported out-of-memory",
    b"failed to allocate memory for model",
    b"failed to commit memory for model",
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
            (
                "model failed to load, this may be due to resource limitations or an internal error, check ollama server logs \
                 for details",
                true,
            ),
            ("llama-server process has terminated: exit status 2", true),
            ("llama runner process no longer running: 2 GGML_ASSERT", true),
            ("llama-server reported out-of-memory during startup: cudaMalloc", true),
            ("error starting runner: fork/exec: no such file", true),
            ("failed to commit memory for model", true),
            ("model 'failed to load' not found", false),
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
