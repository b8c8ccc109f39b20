//! A strict scanner over JSON bytes (RFC 8259): skips values, checks every byte of them, allocates nothing.
//!
//! Stricter than Go's decoder nowhere in grammar, and never laxer: what it passes, Go reads, and to the same end.
//! Bytes of strings that are no valid UTF-8 pass, as in Go; who needs the text of a string asks [`text`] for it.

use crate::problem::{BodyProblem, Fault};
use std::borrow::Cow;
use std::ops::Range;

/// So many levels of objects and arrays may lie in each other, the body's own object counted.
pub const MAX_DEPTH: u32 = 64;

pub(crate) type Scan<T> = Result<T, BodyProblem>;

/// A string as it stands in the body.
#[derive(Debug, Clone)]
pub(crate) struct Quoted {
    /// What lies between the quotes.
    pub(crate) inner: Range<usize>,
    /// Whether there is a backslash in it.
    pub(crate) is_escaped: bool,
}

/// A place in a body.
pub(crate) struct Scanner<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Scanner<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Scanner { bytes, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Steps over `byte` if it is the next.
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    pub(crate) fn blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// The problem of not finding `what` here.
    pub(crate) fn expected(&self, what: &'static str) -> BodyProblem {
        let fault = if self.at < self.bytes.len() { Fault::Expected(what) } else { Fault::Truncated };
        BodyProblem { fault, at: self.at }
    }

    /// A field's name and the colon behind it.
    pub(crate) fn name(&mut self) -> Scan<Quoted> {
        self.blanks();
        if self.peek() != Some(b'"') {
            return Err(self.expected("a field's name in double quotes"));
        }
        let name = self.string()?;
        self.blanks();
        if !self.take(b':') {
            return Err(self.expected("a colon"));
        }
        self.blanks();
        Ok(name)
    }

    /// What stands behind a value in an object: true for a comma, false for the end.
    pub(crate) fn more_fields(&mut self) -> Scan<bool> {
        self.blanks();
        if self.take(b',') {
            Ok(true)
        } else if self.take(b'}') {
            Ok(false)
        } else {
            Err(self.expected("a comma or a closing brace"))
        }
    }

    /// What stands behind a value in an array: true for a comma, false for the end.
    pub(crate) fn more_items(&mut self) -> Scan<bool> {
        self.blanks();
        if self.take(b',') {
            Ok(true)
        } else if self.take(b']') {
            Ok(false)
        } else {
            Err(self.expected("a comma or a closing bracket"))
        }
    }

    /// Steps over the bracket or brace that the next byte is, `outer` levels deep already.
    pub(crate) fn enter(&mut self, outer: u32) -> Scan<()> {
        if outer >= MAX_DEPTH {
            return Err(BodyProblem { fault: Fault::TooDeep, at: self.at });
        }
        self.at += 1;
        Ok(())
    }

    /// A string; the next byte is its first quote.
    pub(crate) fn string(&mut self) -> Scan<Quoted> {
        let start = self.at + 1;
        let mut is_escaped = false;
        let mut at = start;
        loop {
            at += plain_run(self.bytes.get(at..).unwrap_or_default());
            match self.bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    is_escaped = true;
                    at += self.escape(at)?;
                }
                Some(_) => return Err(BodyProblem { fault: Fault::ControlInString, at }),
                None => return Err(BodyProblem { fault: Fault::Truncated, at }),
            }
        }
        self.at = at + 1;
        Ok(Quoted { inner: start..at, is_escaped })
    }

    /// The length of the escape at `at`.
    fn escape(&self, at: usize) -> Scan<usize> {
        match self.bytes.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(2),
            Some(b'u') => match self.bytes.get(at + 2..at + 6) {
                Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => Ok(6),
                _ => Err(BodyProblem { fault: Fault::BadEscape, at }),
            },
            Some(_) => Err(BodyProblem { fault: Fault::BadEscape, at }),
            None => Err(BodyProblem { fault: Fault::Truncated, at: at + 1 }),
        }
    }

    /// Any value, `outer` levels deep already. The next byte is its first.
    pub(crate) fn value(&mut self, outer: u32) -> Scan<()> {
        // Bit 0 is the innermost container: set for an object. MAX_DEPTH keeps it within 64 bits.
        let mut kinds: u64 = 0;
        let mut depth = outer;
        loop {
            let opens = match self.peek() {
                Some(b'{') => Some(true),
                Some(b'[') => Some(false),
                _ => None,
            };
            if let Some(is_object) = opens {
                if depth >= MAX_DEPTH {
                    return Err(BodyProblem { fault: Fault::TooDeep, at: self.at });
                }
                depth += 1;
                kinds = kinds << 1 | u64::from(is_object);
                self.at += 1;
                self.blanks();
                let is_empty = self.peek() == Some(if is_object { b'}' } else { b']' });
                if !is_empty {
                    if is_object {
                        self.name()?;
                    }
                    continue;
                }
            } else {
                self.scalar()?;
            }
            loop {
                if depth == outer {
                    return Ok(());
                }
                let is_object = kinds & 1 == 1;
                self.blanks();
                if self.take(if is_object { b'}' } else { b']' }) {
                    kinds >>= 1;
                    depth -= 1;
                } else if self.take(b',') {
                    if is_object {
                        self.name()?;
                    } else {
                        self.blanks();
                    }
                    break;
                } else {
                    return Err(self.expected(if is_object {
                        "a comma or a closing brace"
                    } else {
                        "a comma or a closing bracket"
                    }));
                }
            }
        }
    }

    fn scalar(&mut self) -> Scan<()> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.expected("a value")),
        }
    }

    fn word(&mut self, word: &'static str) -> Scan<()> {
        for byte in word.bytes() {
            if !self.take(byte) {
                return Err(self.expected(word));
            }
        }
        Ok(())
    }

    fn number(&mut self) -> Scan<()> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        // Whole numbers, the common case, are done with one look.
        if !matches!(self.peek(), Some(b'.' | b'e' | b'E')) {
            return Ok(());
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _signed = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Scan<()> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        match rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len()) {
            0 => Err(self.expected("a digit")),
            count => {
                self.at += count;
                Ok(())
            }
        }
    }
}

/// The text of a string; `None` where it is none: invalid UTF-8, or half of a surrogate pair.
pub(crate) fn text<'b>(bytes: &'b [u8], quoted: &Quoted) -> Option<Cow<'b, str>> {
    let raw = std::str::from_utf8(bytes.get(quoted.inner.clone())?).ok()?;
    if !quoted.is_escaped {
        return Some(Cow::Borrowed(raw));
    }
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, escape)) = rest.split_once('\\') {
        out.push_str(before);
        let (c, after) = unescape(escape)?;
        out.push(c);
        rest = after;
    }
    out.push_str(rest);
    Some(Cow::Owned(out))
}

/// The character of the escape that `rest` begins with behind its backslash, and what follows.
fn unescape(rest: &str) -> Option<(char, &str)> {
    let (kind, rest) = rest.split_at_checked(1)?;
    let c = match kind {
        "b" => '\u{8}',
        "f" => '\u{c}',
        "n" => '\n',
        "r" => '\r',
        "t" => '\t',
        "u" => {
            let (unit, rest) = hex4(rest)?;
            if !(0xd800..0xdc00).contains(&unit) {
                return Some((char::from_u32(unit)?, rest));
            }
            let (low, rest) = hex4(rest.strip_prefix("\\u")?)?;
            let low = low.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
            return Some((char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + low)?, rest));
        }
        other => other.chars().next()?,
    };
    Some((c, rest))
}

fn hex4(rest: &str) -> Option<(u32, &str)> {
    let (digits, rest) = rest.split_at_checked(4)?;
    Some((u32::from_str_radix(digits, 16).ok()?, rest))
}

/// How many bytes go by before a quote, a backslash, a control byte or the end.
///
/// Words of eight bytes first: names, short values and code full of escapes end within a few. What goes on is text, and
/// wide blocks are faster there.
fn plain_run(bytes: &[u8]) -> usize {
    const WORDS: usize = 4;
    let mut done = 0;
    let mut words = WORDS;
    while let Some(word) = bytes.get(done..).and_then(|rest| rest.first_chunk::<8>()) {
        let marks = special_marks(u64::from_le_bytes(*word));
        if marks != 0 {
            return done + marks.trailing_zeros() as usize / 8;
        }
        done += 8;
        words -= 1;
        if words == 0 {
            done += plain_blocks::<128>(bytes.get(done..).unwrap_or_default());
            done += plain_blocks::<32>(bytes.get(done..).unwrap_or_default());
            words = WORDS;
        }
    }
    let rest = bytes.get(done..).unwrap_or_default();
    done + rest.iter().position(|byte| is_special(*byte)).unwrap_or(rest.len())
}

/// How many bytes lie in whole blocks without a special byte. No branch within a block, so that the compiler makes it a
/// few vector instructions.
fn plain_blocks<const BLOCK: usize>(bytes: &[u8]) -> usize {
    let blocks = bytes.as_chunks::<BLOCK>().0;
    let is_plain = |block: &&[u8; BLOCK]| !block.iter().fold(false, |found, byte| found | is_special(*byte));
    blocks.iter().take_while(is_plain).count() * BLOCK
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// The high bit of the first special byte of a word, and perhaps of bytes behind it (a borrow runs upwards only).
fn special_marks(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let below = |x: u64, n: u64| x.wrapping_sub(ONES * n) & !x;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    (below(word, 0x20) | below(quote, 1) | below(backslash, 1)) & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(bytes: &[u8]) -> Scan<()> {
        let mut scanner = Scanner::new(bytes);
        scanner.blanks();
        scanner.value(0)?;
        scanner.blanks();
        if scanner.at == bytes.len() { Ok(()) } else { Err(scanner.expected("the end")) }
    }

    #[test]
    fn numbers_are_as_the_grammar_says() {
        for good in ["0", "-0", "10", "1.5", "-1.50e+10", "2E-3", "1e5", "0.0", "0e0"] {
            assert_eq!(whole(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in
            ["", "-", "01", "+1", "1.", ".5", "1e", "1e+", "0x1", "1_0", "NaN", "Infinity", "--1", "1.e1"]
        {
            assert!(whole(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn depth_is_bounded_and_counted() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(whole(nested(64).as_bytes()), Ok(()));
        assert_eq!(whole(nested(65).as_bytes()), Err(BodyProblem { fault: Fault::TooDeep, at: 64 }));
        let objects = format!("{}1{}", "{\"a\":".repeat(64), "}".repeat(64));
        assert_eq!(whole(objects.as_bytes()), Ok(()));
    }

    #[test]
    fn texts_are_decoded() {
        for (raw, expected) in [
            (r#""a\/\"\\\b\f\n\r\t""#, Some("a/\"\\\u{8}\u{c}\n\r\t")),
            (r#""\u0041\u00e9\uD83D\uDE00""#, Some("Aé\u{1f600}")),
            (r#""\ud83d""#, None),
            (r#""\ude00""#, None),
            (r#""\ud83dx""#, None),
            (r#""\ud83d\u0041""#, None),
        ] {
            let quoted = Scanner::new(raw.as_bytes()).string().unwrap();
            assert_eq!(text(raw.as_bytes(), &quoted).as_deref(), expected, "{raw}");
        }
        let quoted = Scanner::new(b"\"\xff\"").string().unwrap();
        assert_eq!(text(b"\"\xff\"", &quoted), None);
    }

    proptest! {
        #[test]
        fn a_run_ends_at_the_first_special_byte(mut bytes in prop::collection::vec(0x20u8.., 0..200), at: prop::sample::Index, special in prop::sample::select(&b"\"\\\n\0\x1f"[..])) {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = special;
            }
            let slow = bytes.iter().position(|b| is_special(*b)).unwrap_or(bytes.len());
            prop_assert_eq!(plain_run(&bytes), slow);
        }

        #[test]
        fn what_serde_reads_is_read_and_what_it_refuses_is_refused(bytes in r#"[\[\]{},:"\\a0-2.eE+\- nulltruefs\n]{0,24}"#) {
            // serde_json alone bounds numbers: 1e999 is a value to the grammar.
            let theirs = serde_json::from_str::<Box<serde_json::value::RawValue>>(&bytes).is_ok();
            prop_assert_eq!(whole(bytes.as_bytes()).is_ok(), theirs, "{}", bytes);
        }
    }
}
