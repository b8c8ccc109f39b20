//! Words that come from outside, on their way into a cure: names of files, units, containers, models and hosts, what programs were
//! started with, what certificates and servers say. A cure is pasted into root's shell.
//!
//! Before the checks see a fact, every character of its words that a shell or a terminal could read as more than itself is marked:
//! moved into planes of Unicode that nobody writes in. A mark stays through all cutting and joining, so that no check has to think of
//! it. Behind the checks, what is told to people is moved back, and a word of a cure that has a mark is not told: NAME stands for it.

use super::facts::Facts;
use super::finding::{Cure, Finding};
use serde_json::{Map, Value};

/// Where marked characters are: planes 15 and 16, which Unicode leaves to private use.
const MARKS: u32 = 0xF_0000;
/// Characters of one plane.
const PLANE: u32 = 0x1_0000;
/// Facts that are whole lines of others' words, by which checks tell what happened: blanks stay what they are.
const LINES: [&str; 6] = ["last_error", "error", "failed", "listened", "hosts", "computes"];
/// The firewall's own words, of which cures have several at a time, and a folder, which is quoted where it stands in one; blanks stay
/// where nothing else is wrong.
const RULES: [&str; 3] = ["text", "chain", "OLLAMA_MODELS"];
/// What stands in a cure for a word that cannot.
const NAME: &str = "NAME";
const WHY: &str = "NAME is not written here: a shell would read more than a name in it; look for it above, and write it in quotes";

/// The facts with their words marked; none where they do not fit any more.
pub(super) fn marked(facts: &Facts) -> Option<Facts> {
    let all = serde_json::to_value(facts).ok()?;
    serde_json::from_value(value(all, "")).ok()
}

fn value(fact: Value, of: &str) -> Value {
    match fact {
        Value::String(text) => {
            let is_rule = RULES.contains(&of) && text.chars().all(|c| c == ' ' || is_plain(c));
            Value::String(mark(&text, is_rule || LINES.contains(&of)))
        }
        Value::Array(all) => all.into_iter().map(|one| value(one, of)).collect(),
        Value::Object(all) => {
            let pair = |(name, one): (String, Value)| (mark(&name, false), value(one, &name));
            Value::Object(all.into_iter().map(pair).collect::<Map<_, _>>())
        }
        other => other,
    }
}

/// What stands for itself in a shell, in quotes and out of them, in `printf`, YAML and a URL.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._/@:+-,=".contains(c)
}

fn mark(text: &str, is_line: bool) -> String {
    // Every host and every origin, in lists that have it alone; and what is read as an address again.
    if text == "*" || text.parse::<std::net::SocketAddr>().is_ok() {
        return text.to_owned();
    }
    let stays = |at: usize, c: char| match c {
        // A word that begins so would be an option.
        '-' => at > 0 || is_line,
        ' ' => is_line,
        '[' | ']' => is_of_address(text, at, c),
        c => is_plain(c),
    };
    text.char_indices().map(|(at, c)| if stays(at, c) { c } else { moved(c) }).collect()
}

/// Whether a bracket is one of an IPv6 address.
fn is_of_address(text: &str, at: usize, c: char) -> bool {
    let (from, to) = match c {
        '[' => (Some(at + 1), text[at..].find(']').map(|end| at + end)),
        _ => (text[..at].rfind('[').map(|start| start + 1), Some(at)),
    };
    let inner = from.zip(to).and_then(|(from, to)| text.get(from..to));
    inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
}

fn moved(c: char) -> char {
    let code = u32::from(c);
    // Beyond the second plane there is nothing that a name is written in.
    let code = if code < 2 * PLANE { code } else { u32::from(char::REPLACEMENT_CHARACTER) };
    char::from_u32(MARKS + code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn is_marked(c: char) -> bool {
    u32::from(c) >= MARKS
}

fn unmarked(text: &str) -> String {
    let back = |c| if is_marked(c) { char::from_u32(u32::from(c) - MARKS) } else { Some(c) };
    text.chars().map(|c| back(c).unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// The finding as it is told: in people's words everything as it was, in commands no word that has a mark.
pub(super) fn told(finding: Finding) -> Finding {
    let Finding { mark, check, about, seen, why, cure } = finding;
    let (about, seen, why) = (unmarked(&about), unmarked(&seen), unmarked(&why));
    Finding { mark, check, about, seen, why, cure: cure.map(safe) }
}

fn safe(cure: Cure) -> Cure {
    let Cure { run, on, file, note, or } = cure;
    let has_mark = run.iter().chain(&note).any(|text| text.contains(is_marked));
    let note = note.map(|note| refused(&note));
    let note = match (has_mark, note) {
        (true, Some(note)) => Some(format!("{note}; {WHY}")),
        (true, None) => Some(WHY.to_owned()),
        (false, note) => note,
    };
    Cure {
        run: run.iter().map(|command| refused(command)).collect(),
        on: on.map(|machine| unmarked(&machine)),
        file: file.map(|file| unmarked(&file)),
        note,
        or: or.into_iter().map(safe).collect(),
    }
}

/// Each word that has a mark is NAME instead, whole.
fn refused(command: &str) -> String {
    let is_of_word = |c: char| is_marked(c) || (is_plain(c) && c != '=' && c != ',');
    let mut safe = String::new();
    let mut rest = command;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        safe.push_str(if word.contains(is_marked) { NAME } else { word });
        let next = behind.find(is_of_word).unwrap_or(behind.len());
        let (between, behind) = behind.split_at(next);
        safe.push_str(between);
        rest = behind;
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_back_as_what_they_were() {
        for text in [
            "gpu1",
            "x;touch y",
            "\u{9b}2J\u{202e}",
            "日本語 \u{1f600}",
            "-rf",
            "a[b]",
            "http://[::1]:11434/$(x)",
        ] {
            assert_eq!(unmarked(&mark(text, false)), text);
        }
        for text in ["http://[fd00::2]:11434", "[::1]:80", "*", "llama3.2:1b", "/usr/share/ollama/.ollama"] {
            assert_eq!(mark(text, false), text);
        }
        assert_eq!(mark("INPUT -p tcp", true), "INPUT -p tcp");
        assert!(mark("INPUT -p tcp; x", true).contains(is_marked) && mark("a b", false).contains(is_marked));
    }

    #[test]
    fn a_word_with_a_mark_is_not_told() {
        let hostile = mark("x';touch y\n", false);
        let cure = Cure::run(format!("OLLAMA_HOST=http://gpu1:11434/{hostile} ollama pull 'a {hostile}b'"))
            .note("slow");
        let cure = told(Finding::ok("x", &hostile, "y").cured(cure)).cure.unwrap();
        assert_eq!(cure.run, ["OLLAMA_HOST=NAME ollama pull 'a NAME'"]);
        assert!(cure.note.unwrap().starts_with("slow; NAME is not written here"));
    }
}
