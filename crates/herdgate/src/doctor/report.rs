//! Tells the findings: a line each for people, with colour only on a terminal, or one JSON object for programs.

use super::finding::{Cure, Finding, Mark};
use serde::Serialize;
use serde_json::json;
use std::io::{self, Write};

/// How lines look.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    is_utf8: bool,
    has_colour: bool,
}

/// Findings that no terminal shows at once.
const LONG: usize = 6;
/// Room for the names of checks.
const COLUMN: usize = 12;

impl Style {
    /// What a terminal, or what stands in its place, can show (locale(7): the first of three variables that is set counts).
    pub(crate) fn of(is_terminal: bool, variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
        let locale = locale.to_ascii_lowercase();
        let is_dumb = set("TERM").is_none_or(|term| term == "dumb");
        Style {
            is_utf8: locale.contains("utf-8") || locale.contains("utf8"),
            // https://no-color.org: any text in it counts.
            has_colour: is_terminal && !is_dumb && set("NO_COLOR").is_none(),
        }
    }

    fn mark(self, mark: Mark) -> String {
        let (sign, colour) = match (mark, self.is_utf8) {
            (Mark::Ok, true) => ("\u{2713}", 32),
            (Mark::Ok, false) => ("+", 32),
            (Mark::Warn, _) => ("!", 33),
            (Mark::Bad, true) => ("\u{2717}", 31),
            (Mark::Bad, false) => ("x", 31),
        };
        if self.has_colour { format!("\x1b[{colour}m{sign}\x1b[0m") } else { sign.to_owned() }
    }
}

/// Writes the findings for people, by what they are about.
pub(crate) fn lines(findings: &[Finding], style: Style, out: &mut dyn Write) -> io::Result<()> {
    let mut about = "";
    for finding in findings {
        if finding.about != about {
            writeln!(out, "{}", plain(&finding.about))?;
            about = &finding.about;
        }
        writeln!(out, "  {} {:COLUMN$}{}", style.mark(finding.mark), finding.check, plain(&finding.seen))?;
        if !finding.why.is_empty() {
            detail(out, "why", &finding.why)?;
        }
        if let Some(first) = &finding.cure {
            cure(out, "cure", first)?;
        }
    }
    writeln!(out, "{}", sum(findings))?;
    // Who reads the end of a long report finds its beginning.
    match findings.iter().find(|finding| finding.mark == Mark::Bad).filter(|_| findings.len() > LONG) {
        Some(first) => writeln!(out, "begin with: {}, {}", plain(&first.about), plain(&first.seen)),
        None => Ok(()),
    }
}

fn detail(out: &mut dyn Write, word: &str, text: &str) -> io::Result<()> {
    writeln!(out, "    {:COLUMN$}{}", format!("{word}:"), plain(text))
}

fn cure(out: &mut dyn Write, word: &str, cure: &Cure) -> io::Result<()> {
    let place = match (&cure.on, &cure.file) {
        (Some(machine), Some(file)) => Some(format!("on {machine}, in {file}:")),
        (Some(machine), None) => Some(format!("on {machine}:")),
        (None, Some(file)) => Some(format!("in {file}:")),
        (None, None) => None,
    };
    let mut word = match place {
        Some(place) => {
            detail(out, word, &place)?;
            String::new()
        }
        None => format!("{word}:"),
    };
    for command in &cure.run {
        for line in command.lines() {
            writeln!(out, "    {word:COLUMN$}{}", plain(line))?;
            word.clear();
        }
    }
    if let Some(note) = &cure.note {
        writeln!(out, "    {:COLUMN$}({})", "", plain(note))?;
    }
    cure.or.iter().try_for_each(|other| self::cure(out, "or", other))
}

fn sum(findings: &[Finding]) -> String {
    let count = |mark| findings.iter().filter(|finding| finding.mark == mark).count();
    match (count(Mark::Bad), count(Mark::Warn)) {
        (0, 0) => "nothing is wrong".to_owned(),
        (0, 1) => "nothing fails; 1 thing to look at".to_owned(),
        (0, looks) => format!("nothing fails; {looks} things to look at"),
        (1, 0) => "1 thing is wrong".to_owned(),
        (bad, 0) => format!("{bad} things are wrong"),
        (1, looks) => format!("1 thing is wrong, {looks} to look at"),
        (bad, looks) => format!("{bad} things are wrong, {looks} to look at"),
    }
}

/// Whether a terminal acts upon it, or it turns the order of others around: controls, and the format characters of Unicode.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// What servers say must not move a cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if is_unseen(c) { '?' } else { c }).collect()
}

/// Writes the findings as one object. What stands in it stays; more may come.
pub(crate) fn json(findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    let is_sound = findings.iter().all(|finding| finding.mark != Mark::Bad);
    value(&json!({ "ok": is_sound, "findings": findings }), out)
}

/// Writes JSON that a terminal may show, too: what is unseen stands there by its number.
pub(crate) fn value(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let mut units = [0; 2];
    let mut shown = String::new();
    // The line's end is JSON's own: in words there is none that is not written by its number already.
    for c in serde_json::to_string_pretty(value)?.chars() {
        if c != '\n' && is_unseen(c) {
            c.encode_utf16(&mut units).iter().for_each(|unit| shown.push_str(&format!("\\u{unit:04x}")));
        } else {
            shown.push(c);
        }
    }
    writeln!(out, "{shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        let cure = Cure::run("sudo systemctl start ollama").on("gpu1").or(Cure::run("a\nb").note("slow"));
        vec![
            Finding::ok("name", "http://gpu1:11434", "gpu1 is 10.0.0.2"),
            Finding::bad("port", "http://gpu1:11434", "refused\u{1b}[2J")
                .because("nobody listens")
                .cured(cure),
            Finding::warn("gate", "this machine", "no gate runs"),
        ]
    }

    fn told(style: Style) -> String {
        let mut out = Vec::new();
        lines(&findings(), style, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_finding_is_a_line_with_its_reason_and_every_cure() {
        let expected = "\
http://gpu1:11434
  + name        gpu1 is 10.0.0.2
  x port        refused?[2J
    why:        nobody listens
    cure:       on gpu1:
                sudo systemctl start ollama
    or:         a
                b
                (slow)
this machine
  ! gate        no gate runs
1 thing is wrong, 1 to look at
";
        assert_eq!(told(Style::default()), expected);
    }

    #[test]
    fn the_end_of_a_long_report_names_where_to_begin() {
        let many: Vec<Finding> = findings().into_iter().cycle().take(LONG + 1).collect();
        let mut out = Vec::new();
        lines(&many, Style::default(), &mut out).unwrap();
        let told = String::from_utf8(out).unwrap();
        assert!(told.ends_with("to look at\nbegin with: http://gpu1:11434, refused?[2J\n"), "{told}");
    }

    #[test]
    fn marks_are_drawn_as_the_terminal_can_show_them() {
        let style = |is_terminal, set: &[(&str, &str)]| {
            Style::of(is_terminal, |name| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let utf8 = style(false, &[("LANG", "de_DE.UTF-8"), ("TERM", "xterm")]);
        assert!(told(utf8).contains("  \u{2717} port") && !told(utf8).contains('\x1b'));
        assert!(
            told(style(true, &[("LANG", "C.utf8"), ("TERM", "xterm")]))
                .contains("\x1b[31m\u{2717}\x1b[0m port")
        );
        assert!(told(style(false, &[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")])).contains("  x port"));
        for quiet in [&[("NO_COLOR", "1"), ("TERM", "xterm")][..], &[("TERM", "dumb")], &[]] {
            assert!(!style(true, quiet).has_colour, "{quiet:?}");
        }
        assert!(style(true, &[("NO_COLOR", ""), ("TERM", "xterm")]).has_colour);
    }

    #[test]
    fn nothing_unseen_reaches_a_terminal() {
        let words = "a\u{9b}2J\u{202e}b\u{e0041}\u{1b}";
        let finding = Finding::ok("x", "y", words);
        let (mut text, mut told) = (Vec::new(), Vec::new());
        lines(std::slice::from_ref(&finding), Style::default(), &mut text).unwrap();
        json(&[finding], &mut told).unwrap();
        assert!(String::from_utf8(text).unwrap().contains("a?2J?b??"));
        let value: serde_json::Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(value["findings"][0]["seen"], words);
        assert!(told.is_ascii());
    }

    #[test]
    fn as_json_it_has_no_empty_fields_and_says_whether_all_is_well() {
        let mut out = Vec::new();
        json(&findings(), &mut out).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["ok"], false);
        assert_eq!(
            value["findings"][0],
            json!({"mark": "ok", "check": "name", "about": "http://gpu1:11434", "seen": "gpu1 is 10.0.0.2"})
        );
        assert_eq!(value["findings"][1]["cure"]["or"][0]["run"], json!(["a\nb"]));
    }
}
