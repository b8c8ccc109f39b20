//! Fields of an answer that lie whole in one piece, as nearly all do, read at one look; and where texts and bare words end.
//!
//! A shortcut of the reader above and never more: what is not that plain is left to it, which comes to the same end.

/// A field that lies whole in one piece, and whose value is a text without an escape, a number or a literal.
pub(super) struct Plain<'b> {
    pub(super) name: &'b [u8],
    pub(super) value: Value<'b>,
    /// From the name's quote to the byte behind the value.
    pub(super) length: usize,
}

pub(super) enum Value<'b> {
    Text(&'b [u8]),
    Bare(&'b [u8]),
}

impl<'b> Plain<'b> {
    /// The field whose name's quote is the first of `bytes`; none where it is not that plain.
    pub(super) fn read(bytes: &'b [u8]) -> Option<Self> {
        let (name, rest) = quoted(bytes)?;
        let value = rest.strip_prefix(b":")?;
        let (value, rest) = match value.first()? {
            b'"' => quoted(value).map(|(text, rest)| (Value::Text(text), rest))?,
            _ => {
                let end = value.iter().position(|byte| is_end(*byte)).filter(|end| *end > 0)?;
                (Value::Bare(&value[..end]), &value[end..])
            }
        };
        Some(Plain { name, value, length: bytes.len() - rest.len() })
    }
}

/// The text that `bytes` begin with, and what follows it; none where it has an escape or is cut.
fn quoted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(b"\"")?;
    let (text, rest) = rest.split_at(until_mark(rest));
    Some((text, rest.strip_prefix(b"\"")?))
}

/// Whether a number or a literal ends before this byte.
pub(super) fn is_end(byte: u8) -> bool {
    matches!(byte, b',' | b':' | b'"' | b'{' | b'}' | b'[' | b']' | 0..=b' ')
}

/// How many bytes go by before a quote, a backslash or the end. Words of eight bytes first: names and short values end
/// before a search by vectors has begun.
pub(super) fn until_mark(bytes: &[u8]) -> usize {
    const WORDS: usize = 4;
    let mut done = 0;
    while let Some(word) = bytes.get(done..).and_then(|rest| rest.first_chunk::<8>()) {
        let marks = marks(u64::from_le_bytes(*word));
        if marks != 0 {
            return done + marks.trailing_zeros() as usize / 8;
        }
        done += 8;
        if done == 8 * WORDS {
            break;
        }
    }
    let rest = bytes.get(done..).unwrap_or_default();
    let is_mark = |byte: &u8| matches!(byte, b'"' | b'\\');
    let more =
        if rest.len() < 8 { rest.iter().position(is_mark) } else { memchr::memchr2(b'"', b'\\', rest) };
    done + more.unwrap_or(rest.len())
}

/// The high bit of the first quote or backslash of a word, and perhaps of bytes behind it (a borrow runs upwards only).
const fn marks(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    ((quote.wrapping_sub(ONES) & !quote) | (backslash.wrapping_sub(ONES) & !backslash)) & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_mark_is_found_wherever_it_stands() {
        for length in 0..60 {
            let plain = vec![b'!'; length];
            assert_eq!(until_mark(&plain), length);
            for at in 0..length {
                for (mark, behind) in [(b'"', b'#'), (b'\\', b']'), (b'"', b'\\')] {
                    let mut bytes = plain.clone();
                    bytes[at] = mark;
                    bytes[at + 1..].fill(behind);
                    assert_eq!(until_mark(&bytes), at, "{length}");
                }
            }
        }
    }
}
