//! The trial: a file is loaded and used once by a child process before this one touches it.
//!
//! llama.cpp ends its whole process on failed assertions and on exceptions of C++; a damaged or mislabelled file must not
//! take the engine and everybody's requests with it. The child loads the file, tokenises every byte value, computes two
//! tokens and ends; how it ended is the verdict.

use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A load that makes no end within this time is given up (Ollama's `OLLAMA_LOAD_TIMEOUT`).
const PATIENCE: Duration = Duration::from_secs(300);
const KEPT_STDERR: u64 = 256 * 1024;

/// Loads `path` in a child process.
///
/// # Errors
/// The reason, in one line, without the path.
pub(crate) fn run(path: &Path) -> Result<(), String> {
    let program =
        std::env::current_exe().map_err(|e| format!("cannot be tried: own program not found: {e}"))?;
    let mut child = Command::new(program)
        .arg("--try")
        .arg(path)
        .env("GGML_NO_BACKTRACE", "1")
        .env("RUST_LOG", "error")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot be tried: {e}"))?;
    let stderr = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        // An unreadable pipe leaves the text empty: the status still tells.
        stderr.map(|pipe| pipe.take(KEPT_STDERR).read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    });
    let started = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if started.elapsed() > PATIENCE => {
                child.kill().and_then(|()| child.wait()).map_err(|e| format!("cannot be given up: {e}"))?;
                return Err(format!("did not load within {} s", PATIENCE.as_secs()));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(e) => return Err(format!("cannot be tried: {e}")),
        }
    };
    let said = reader.join().unwrap_or_default();
    if status.success() { Ok(()) } else { Err(verdict(status, &said)) }
}

fn verdict(status: ExitStatus, said: &str) -> String {
    let reason = reason(said);
    match std::os::unix::process::ExitStatusExt::signal(&status) {
        Some(signal) if reason.is_empty() => format!("ends llama.cpp (signal {signal})"),
        Some(signal) => format!("ends llama.cpp (signal {signal}): {reason}"),
        None => own_words(said).unwrap_or_else(|| match reason.as_str() {
            "" => "cannot be loaded by llama.cpp".into(),
            reason => format!("cannot be loaded by llama.cpp: {reason}"),
        }),
    }
}

/// What the child itself found, unless it only repeats that llama.cpp gave no reason.
fn own_words(said: &str) -> Option<String> {
    let words = said.lines().find_map(|line| line.strip_prefix("herdgate-engine: "))?;
    (!words.contains("null result")).then(|| shorten(words))
}

/// The line of llama.cpp that tells most.
fn reason(said: &str) -> String {
    if said.contains("foreign exceptions") {
        return "it threw an exception; the vocabulary is probably of another kind than the file says".into();
    }
    // Behind "failed to load model from" nothing follows but the file's name; the reason came before.
    let told = || said.lines().filter_map(|line| Some(line.split_once("error loading model: ")?.1));
    let told = told().find(|reason| !reason.contains("failed to load model from"));
    let logged = || said.lines().find_map(|line| Some(line.split_once(" ERROR llama-cpp-2: ")?.1));
    let asserted = || said.lines().find(|line| line.contains("GGML_ASSERT") || line.contains("GGML_ABORT"));
    let last = || said.lines().rev().find(|line| !line.trim().is_empty());
    let line = told.or_else(logged).or_else(asserted).or_else(last).unwrap_or_default();
    // What the log adds to llama.cpp's words, and the folder of its sources.
    let line = line.split(" module=").next().unwrap_or_default();
    let line = match line.split_once(".cpp:") {
        Some((path, _)) => line.get(path.rfind('/').map_or(0, |slash| slash + 1)..).unwrap_or(line),
        None => line,
    };
    shorten(line.trim())
}

fn shorten(line: &str) -> String {
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_telling_line() {
        let said = "noise\nE error loading model: unknown model architecture: 'x' module=\"m\"\nE failed\n";
        assert_eq!(reason(said), "unknown model architecture: 'x'");
        let said = "T ERROR llama-cpp-2: duplicate tensor 'a' module=\"g\"\n\
                    T ERROR llama-cpp-2: error loading model: llama_model_loader: failed to load model from x.gguf\n";
        assert_eq!(reason(said), "duplicate tensor 'a'");
        assert_eq!(
            reason("a\n/b/c/ggml.cpp:1: GGML_ASSERT(x) failed\nz\n"),
            "ggml.cpp:1: GGML_ASSERT(x) failed"
        );
        assert_eq!(reason("a\nlast words\n\n"), "last words");
        assert_eq!(reason(""), "");
    }

    #[test]
    fn own_words_come_before_none() {
        assert_eq!(own_words("x\nherdgate-engine: its vocabulary\n").as_deref(), Some("its vocabulary"));
        assert_eq!(own_words("herdgate-engine: cannot be loaded: null result from llama cpp\n"), None);
    }
}
