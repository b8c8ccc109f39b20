//! A file that is no TOML, statement by statement: what is wrong with each is told once, and the rest can still be read.
//!
//! A parser that goes on behind a mistake takes what follows it for a part of it: one bracket that is not closed would be a
//! dozen problems. In a settings file a statement begins on a line of its own, so each can be looked at alone.

use toml::de::DeTable;

/// Mistakes after which the rest of the file is not looked at.
const MOST: usize = 32;
/// How many further statements a value may seem to hold: lines of a long array that look like statements themselves.
const LONGEST: usize = 16;

/// What is left of the text.
pub(crate) struct Readable {
    /// The text with blanks where the mistakes are, so that all else stands where it stood.
    pub(crate) text: String,
    /// Where each mistake is, in bytes, and what it is.
    pub(crate) mistakes: Vec<(usize, String)>,
}

/// Takes out every statement that cannot be read by itself. Below a broken `[section]` all is taken out up to the next.
pub(crate) fn readable(text: &str) -> Readable {
    let mut left = Readable { text: text.to_owned(), mistakes: Vec::new() };
    let starts = statements(text);
    let end_of = |place: usize| starts.get(place).copied().unwrap_or(text.len());
    let mut place = 0;
    while let Some(start) = starts.get(place).copied() {
        let longer = (place + 1..=place + 1 + LONGEST).take_while(|next| *next <= starts.len());
        let whole = longer.into_iter().find(|next| mistake(&text[start..end_of(*next)]).is_none());
        if let Some(next) = whole {
            place = next;
            continue;
        }
        let end = end_of(place + 1);
        let good = good_lines(&text[start..end]);
        let broken = start + good;
        if let Some((at, what)) = mistake(&text[broken..end]) {
            left.mistakes.push((broken + at, what));
        }
        place += 1;
        let is_section = text[broken..end].trim_start().starts_with('[');
        while is_section && place < starts.len() && !text[starts[place]..].trim_start().starts_with('[') {
            place += 1;
        }
        let until = if left.mistakes.len() < MOST { end_of(place) } else { text.len() };
        left.text.replace_range(broken..until, &blank(&text[broken..until]));
        if until == text.len() {
            break;
        }
    }
    left
}

/// Where the statements begin; what stands before the first is one too.
fn statements(text: &str) -> Vec<usize> {
    let mut starts = vec![0];
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if at > 0 && begins_statement(line) {
            starts.push(at);
        }
        at += line.len();
    }
    starts
}

fn begins_statement(line: &str) -> bool {
    let line = line.trim_start();
    let is_key = |key: &str| {
        let key = key.trim_end();
        let of_key = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'"' | b'\'');
        !key.is_empty() && key.bytes().all(of_key)
    };
    line.starts_with('[') || line.split_once('=').is_some_and(|(key, _)| is_key(key))
}

/// The first mistake in a text.
fn mistake(text: &str) -> Option<(usize, String)> {
    let error = DeTable::parse(text).err()?;
    let message: Vec<&str> = error.message().lines().collect();
    Some((error.span().unwrap_or_default().start, message.join(": ")))
}

/// How much of a broken statement is a whole one: a line that belongs to nothing stands behind it.
fn good_lines(text: &str) -> usize {
    let ends = text.split_inclusive('\n').take(LONGEST).scan(0, |end, line| {
        *end += line.len();
        Some(*end)
    });
    ends.filter(|end| *end < text.len() && mistake(&text[..*end]).is_none()).last().unwrap_or(0)
}

/// As many bytes, and as many lines, of nothing.
fn blank(text: &str) -> String {
    text.bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> (Vec<usize>, String) {
        let left = readable(text);
        assert_eq!(left.text.len(), text.len());
        let lines = left.mistakes.iter().map(|(at, _)| text[..*at].matches('\n').count() + 1).collect();
        (lines, left.text.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn one_mistake_is_one_mistake() {
        let rows: &[(&str, &[usize], &str)] = &[
            ("a = 1\n[b]\nc = 2\n", &[], "a = 1 [b] c = 2"),
            ("a = [\"x\"\n[b]\nc = 2\nd = 3\n", &[1], "[b] c = 2 d = 3"),
            ("a = [\n  \"x\",\n  \"y\"\nb = 1\n", &[3], "b = 1"),
            ("[b\nc = 2\n[d]\ne = 1\n", &[1], "[d] e = 1"),
            ("a = 5KiB\nb = x\nc = 1\n", &[1, 2], "c = 1"),
            ("a = 1\nb 2\nc = 3\n", &[2], "a = 1 c = 3"),
            ("a = \"x\nb = 1\n", &[1], "b = 1"),
            ("= 1\na = 2\n", &[1], "a = 2"),
            ("a = [\n  { b = 1,\n    c = 2 },\n]\nd = ]\n", &[5], "a = [ { b = 1, c = 2 }, ]"),
        ];
        for (text, mistakes, left) in rows {
            assert_eq!(told(text), (mistakes.to_vec(), (*left).to_owned()), "{text}");
        }
    }

    #[test]
    fn a_file_of_mistakes_is_not_told_for_ever() {
        assert_eq!(readable(&"a =\n".repeat(10_000)).mistakes.len(), MOST);
    }
}
