//! The trial: a file is loaded and used once by a child process before this one touches it.
//!
//! llama.cpp ends its whole process on failed assertions and on exceptions of C++; a damaged or mislabelled file must not
//! take the engine and everybody's requests with it. The child loads the file, tokenises every byte value, computes two
//! tokens and ends; how it ended is the verdict.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// A load that makes no end within this time is given up (Ollama's `OLLAMA_LOAD_TIMEOUT`).
const PATIENCE: Duration = Duration::from_secs(300);
const KEPT_STDERR: u64 = 256 * 1024;

/// What the moment brought about, and not the file, holds for this long.
const MOMENT: Duration = Duration::from_secs(60);
/// The kernel's signal to a process when memory is short.
const SIGKILL: i32 = 9;

/// What a trial found. It is kept, so that nobody can occupy the engine by asking for a bad file again and again.
#[derive(Debug)]
pub(crate) struct Verdict {
    outcome: Result<(), String>,
    /// The file that was tried.
    of: Option<Stamp>,
    /// `None`: for as long as the file stays as it is.
    until: Option<Instant>,
}

/// Time of the last change and length: what tells a file from its successor.
type Stamp = (SystemTime, u64);

impl Verdict {
    /// Loads `path` in a child process; takes 300 s at worst.
    pub(crate) fn reach(path: &Path) -> Verdict {
        // Before the trial: a file that changes meanwhile is tried again.
        let of = stamp(path);
        match run(path) {
            Ok(()) => Verdict { outcome: Ok(()), of, until: None },
            Err(Failure::OfTheFile(reason)) => Verdict { outcome: Err(reason), of, until: None },
            Err(Failure::OfTheMoment(reason)) => {
                Verdict { outcome: Err(reason), of, until: Instant::now().checked_add(MOMENT) }
            }
        }
    }

    /// Whether the file may be used.
    ///
    /// # Errors
    /// The reason, in one line, without the path.
    pub(crate) fn outcome(&self) -> &Result<(), String> {
        &self.outcome
    }

    /// Whether it still tells the truth about `path`.
    pub(crate) fn holds_for(&self, path: &Path) -> bool {
        self.until.is_none_or(|end| Instant::now() < end) && stamp(path) == self.of
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let about = path.metadata().ok()?;
    Some((about.modified().ok()?, about.len()))
}

/// Why a trial failed.
#[derive(Debug)]
enum Failure {
    /// It would fail again.
    OfTheFile(String),
    /// It may succeed at another time.
    OfTheMoment(String),
}

fn run(path: &Path) -> Result<(), Failure> {
    let untried = |what: &str, e: std::io::Error| Failure::OfTheMoment(format!("cannot be tried: {what}{e}"));
    let program = std::env::current_exe().map_err(|e| untried("own program not found: ", e))?;
    let mut child = Command::new(program)
        .arg("--try")
        .arg(path)
        .env("GGML_NO_BACKTRACE", "1")
        .env("RUST_LOG", "error")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| untried("", e))?;
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
                let given_up = child.kill().and_then(|()| child.wait());
                let still =
                    given_up.err().map_or_else(String::new, |e| format!(", and cannot be given up: {e}"));
                let reason = format!("did not load within {} s{still}", PATIENCE.as_secs());
                return Err(Failure::OfTheFile(reason));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(e) => return Err(untried("", e)),
        }
    };
    let said = reader.join().unwrap_or_default();
    if status.success() { Ok(()) } else { Err(failure(status, &said)) }
}

fn failure(status: ExitStatus, said: &str) -> Failure {
    let reason = reason(said);
    let told = match status.signal() {
        Some(SIGKILL) => {
            let reason = "was killed while it was tried; perhaps memory is short".into();
            return Failure::OfTheMoment(reason);
        }
        Some(signal) if reason.is_empty() => format!("ends llama.cpp (signal {signal})"),
        Some(signal) => format!("ends llama.cpp (signal {signal}): {reason}"),
        None => own_words(said).unwrap_or_else(|| match reason.as_str() {
            "" => "cannot be loaded by llama.cpp".into(),
            reason => format!("cannot be loaded by llama.cpp: {reason}"),
        }),
    };
    Failure::OfTheFile(told)
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
    fn a_verdict_holds_for_the_file_that_was_tried() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let of = stamp(file.path());
        let verdict = |of, until| Verdict { outcome: Err("bad".into()), of, until };
        let past = Instant::now();
        assert!(verdict(of, None).holds_for(file.path()));
        assert!(verdict(of, Some(past + MOMENT)).holds_for(file.path()));
        assert!(!verdict(of, Some(past)).holds_for(file.path()), "its moment is over");
        assert!(!verdict(None, None).holds_for(file.path()), "there was no file then");
        std::fs::write(file.path(), "longer").unwrap();
        assert!(!verdict(of, None).holds_for(file.path()), "the file has changed");
    }

    #[test]
    fn a_kill_is_not_the_files_fault() {
        let ended = |signal| failure(ExitStatus::from_raw(signal), "");
        assert!(matches!(ended(SIGKILL), Failure::OfTheMoment(_)));
        assert!(matches!(ended(6), Failure::OfTheFile(reason) if reason == "ends llama.cpp (signal 6)"));
    }

    #[test]
    fn own_words_come_before_none() {
        assert_eq!(own_words("x\nherdgate-engine: its vocabulary\n").as_deref(), Some("its vocabulary"));
        assert_eq!(own_words("herdgate-engine: cannot be loaded: null result from llama cpp\n"), None);
    }
}
