//! Which bytes may stand where (RFC 9110 section 5.6.2 and 5.5), as tables and small checks over slices.
//!
//! Reading and writing share these, so nothing can be written that would not be read back.

/// True for the bytes of a token: `!#$%&'*+-.^_`|~`, digits, letters.
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// True for a non-empty token.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    // Without an early end, here and below: what is checked is nearly always sound, and short.
    !bytes.is_empty() && bytes.iter().fold(true, |sound, &byte| sound & is_token_byte(byte))
}

/// True where two names of fields are the same, in any case (RFC 9110 section 5.1).
#[must_use]
pub fn same_name(one: &[u8], other: &[u8]) -> bool {
    // Nearly every other field differs in its length. Longer names are compared eight bytes at a time, the last eight
    // first and perhaps once more: byte after byte was a twentieth of what a small request costs.
    if one.len() != other.len() {
        return false;
    }
    if let (Some(last), Some(other_last)) = (one.last_chunk::<8>(), other.last_chunk::<8>()) {
        let mut words = one.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0);
        return same_word(*last, *other_last) && words.all(|(word, other)| same_word(*word, *other));
    }
    one.eq_ignore_ascii_case(other)
}

const fn same_word(one: [u8; 8], other: [u8; 8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(one);
    // Upper and lower case differ in one bit.
    let differs = word ^ u64::from_le_bytes(other);
    if differs == 0 || differs & !(ONES * 0x20) != 0 {
        return differs == 0;
    }
    // In each byte the high bit says: behind `z`, from `a` on, once in lower case. No sum of seven bits reaches the next.
    let low = (word | (ONES * 0x20)) & !HIGHS;
    let behind = low + ONES * (0x7f - b'z' as u64);
    let from = low + ONES * (0x80 - b'a' as u64);
    let letters = (from & !behind & !word & HIGHS) >> 2;
    differs & !letters == 0
}

/// True where every byte may stand in a field value: tab, visible ASCII, space and the bytes above ASCII.
pub(crate) fn is_value(bytes: &[u8]) -> bool {
    let is_sound = |byte: &u8| (*byte == b'\t') | ((*byte >= b' ') & (*byte != 0x7f));
    // Eight bytes at a time, the last eight first and in part once more; where one of them looks odd, as a tab does, all are
    // looked at one by one.
    let is_sound_word =
        |word: &[u8; 8]| !may_hold_control(u64::from_le_bytes(*word)) || word.iter().all(is_sound);
    match bytes.last_chunk() {
        Some(last) => is_sound_word(last) && bytes.as_chunks::<8>().0.iter().all(is_sound_word),
        None => bytes.iter().all(is_sound),
    }
}

/// True where a byte of a word is below 0x20 or 0x7f; true by mistake only beside such a byte.
const fn may_hold_control(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let delete = word ^ (ONES * 0x7f);
    let below_blank = word.wrapping_sub(ONES * 0x20) & !word;
    let is_delete = delete.wrapping_sub(ONES) & !delete;
    (below_blank | is_delete) & HIGHS != 0
}

/// True for a non-empty request target: visible ASCII only, and no fragment, which some recipients cut off.
pub(crate) fn is_target(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.iter().fold(true, |sound, &byte| sound & matches!(byte, b'!'..=b'~') & (byte != b'#'))
}

/// Where the first `mark` stands, which is expected to be near: lines of a head are too short for a search by vectors, whose
/// beginning costs more than such a line.
#[must_use]
pub fn near(mark: u8, bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let marks = ONES * u64::from(mark);
    let (words, rest) = bytes.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        // The lowest high bit is that of a byte that is the mark; a borrow runs upwards only.
        let same = u64::from_le_bytes(*word) ^ marks;
        let found = same.wrapping_sub(ONES) & !same & HIGHS;
        if found != 0 {
            return Some(number * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|byte| *byte == mark).map(|at| words.len() * 8 + at)
}

/// Without the spaces and tabs at both ends.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let b = byte as u8;
        table[byte] = b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_any_case_and_nothing_else_is() {
        for length in 1..20 {
            for place in 0..length {
                for (a, b) in (0..=u8::MAX).flat_map(|a| [a ^ 0x20, a, a ^ 0x80, b'a'].map(|b| (a, b))) {
                    let (mut one, mut other) = (vec![b'X'; length], vec![b'x'; length]);
                    (one[place], other[place]) = (a, b);
                    assert_eq!(
                        same_name(&one, &other),
                        a.eq_ignore_ascii_case(&b),
                        "{a:#x} {b:#x} at {place}"
                    );
                }
            }
        }
        assert!(!same_name(b"date", b"dat"));
        assert!(same_name(b"", b""));
    }

    #[test]
    fn a_near_byte_is_found_wherever_it_stands() {
        for length in 0..40 {
            let mut bytes = vec![b'\n' + 1; length];
            assert_eq!(near(b'\n', &bytes), None);
            for at in (0..length).rev() {
                bytes[at] = b'\n';
                assert_eq!(near(b'\n', &bytes), Some(at), "{length}");
            }
        }
    }

    #[test]
    fn every_byte_is_judged_alike_in_every_place() {
        for byte in 0..=u8::MAX {
            let sound = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
            for place in 0..19 {
                for others in [b'a', b' ', b'~', 0x80, 0xff, b'\t'] {
                    let mut value = [others; 19];
                    value[place] = byte;
                    assert_eq!(is_value(&value), sound, "{byte:#x} at {place} among {others:#x}");
                }
            }
        }
    }
}
