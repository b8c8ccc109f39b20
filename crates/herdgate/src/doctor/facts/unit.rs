//! The service that Ollama's installer makes, and what is laid over it: files alone.

use super::machine::{files, shown};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// Where the installer writes it, anew at each update.
const UNIT: &str = "/etc/systemd/system/ollama.service";
/// What an update leaves alone.
const DROP_INS: &str = "/etc/systemd/system/ollama.service.d";
const MOST: usize = 64;

/// What an update of Ollama may have changed.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Unit {
    /// Whether there is one.
    pub(in crate::doctor) is_there: bool,
    /// `OLLAMA_…` variables that are set in the unit itself, with their values, as far as these are no secrets.
    pub(in crate::doctor) own: Vec<(String, String)>,
    /// Those of drop-ins.
    pub(in crate::doctor) laid_over: Vec<(String, String)>,
}

pub(super) fn look() -> Unit {
    let text = fs::read_to_string(UNIT);
    let mut over = String::new();
    let mut files: Vec<_> =
        fs::read_dir(DROP_INS).into_iter().flatten().flatten().map(|file| file.path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "conf"));
    files.sort();
    for file in files.iter().take(MOST) {
        over.push_str(&read(file));
        over.push('\n');
    }
    Unit {
        is_there: text.is_ok(),
        own: variables(text.as_deref().unwrap_or_default()),
        laid_over: variables(&over),
    }
}

fn read(file: &Path) -> String {
    files::read(file).unwrap_or_default()
}

/// `Environment=` (systemd.exec(5)): assignments apart by blanks, each of which may stand in quotes.
fn variables(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in text.lines() {
        let Some(rest) = line.trim().strip_prefix("Environment=") else { continue };
        for word in words(rest) {
            if let Some((name, value)) = word.split_once('=')
                && name.starts_with("OLLAMA_")
            {
                found.push((name.to_owned(), shown::value(name, value)));
            }
        }
    }
    found
}

/// Words apart by blanks, each of which may stand in quotes.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in text.chars() {
        match quote {
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            None if c.is_whitespace() => words.push(String::new()),
            _ => words.last_mut().into_iter().for_each(|word| word.push(c)),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_stand_in_quotes_or_not() {
        let text = "[Service]\nEnvironment=\"OLLAMA_HOST=0.0.0.0\" OLLAMA_KEEP_ALIVE=24h\nEnvironment=OLLAMA_API_KEY=sk-SECRET\nEnvironment='PATH=/bin'\n#Environment=OLLAMA_X=1\n";
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            variables(text),
            [pair("OLLAMA_HOST", "0.0.0.0"), pair("OLLAMA_KEEP_ALIVE", "24h"), pair("OLLAMA_API_KEY", "...")]
        );
    }
}
