//! What a started program writes, line by line into the gate's own log, behind the program's name.

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;

/// Bytes of one log line that are passed on.
const LINE_BYTES: usize = 4096;

/// Passes a program's output on, line by line, cut at [`LINE_BYTES`]; to its end or until it is `hushed`: what was not read
/// by then is somebody else's.
pub(super) async fn pass_on(
    name: &'static str,
    pipe: impl AsyncRead + Unpin,
    mut hushed: watch::Receiver<bool>,
) {
    let mut lines = BufReader::with_capacity(LINE_BYTES, pipe);
    let mut line = Vec::new();
    loop {
        let is_all_told = lines.buffer().is_empty();
        let part = tokio::select! {
            // However much is written: what was read is passed on, and nothing more is read.
            biased;
            _hushed = hushed.wait_for(|hushed| *hushed), if is_all_told => &[],
            part = lines.fill_buf() => part.unwrap_or_default(),
        };
        if part.is_empty() {
            return tell(name, &mut line);
        }
        let (taken, ended) = match part.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (part.len(), false),
        };
        line.extend_from_slice(&part[..taken]);
        lines.consume(taken);
        if ended || line.len() >= LINE_BYTES {
            tell(name, &mut line);
        }
    }
}

fn tell(name: &str, line: &mut Vec<u8>) {
    if line.is_empty() {
        return;
    }
    let text = String::from_utf8_lossy(line);
    // Its text is not ours: control characters would reach the terminal.
    let text: String = text.trim_end().chars().filter(|sign| !sign.is_control() || *sign == '\t').collect();
    retell(name, &text);
    line.clear();
}

/// Logs a line of a started program at the level that it claims. What is no warning is for those who look for a fault: an
/// Ollama writes three lines for every probe.
fn retell(name: &str, text: &str) {
    if claims(text, "ERROR") {
        tracing::error!(target: "herdgate::local", "{name} | {text}");
    } else if claims(text, "WARN") {
        tracing::warn!(target: "herdgate::local", "{name} | {text}");
    } else {
        tracing::debug!(target: "herdgate::local", "{name} | {text}");
    }
}

/// Whether a line says that it is of `level`, in the ways of Go's and Rust's loggers.
fn claims(text: &str, level: &str) -> bool {
    let mut words = text.split_ascii_whitespace().take(4);
    words.any(|word| {
        word == level
            || word.strip_prefix("level=") == Some(level)
            || word.trim_matches(['[', ']', ':']) == level
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_read_once_it_is_hushed() {
        let (hush, hushed) = watch::channel(true);
        let mut pipe = &b"of the next gate"[..];
        pass_on("x", &mut pipe, hushed).await;
        assert_eq!(pipe, b"of the next gate");
        drop(hush);
    }

    #[test]
    fn the_level_of_a_line_is_seen() {
        assert!(claims("time=2026-11-21T12:00:00Z level=WARN source=x.go:1 msg=\"low memory\"", "WARN"));
        assert!(claims("2026-11-21T12:00:00Z  WARN herdgate_engine: skipped: bad.gguf", "WARN"));
        assert!(!claims("[GIN] 2026/11/21 - 12:00:00 | 200 | GET \"/api/version\"", "WARN"));
        assert!(!claims("msg of somebody who talks about a level=WARNING at length", "WARN"));
    }
}
