//! Questions for addresses and their answers, as name servers and `.local` names have them (RFC 1035): read as strictly as an address
//! needs, and no further.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Records that are read of an answer.
const RECORDS: u16 = 64;
const LONGEST_LABEL: usize = 63;
const LONGEST_NAME: usize = 255;
/// Types of records (RFC 1035, section 3.2.2; RFC 3596).
pub(super) const A: u16 = 1;
pub(super) const AAAA: u16 = 28;
const CNAME: u16 = 5;
const IN: u16 = 1;
/// Of the third byte: that somebody else shall look further.
const RECURSION: u8 = 1;

/// What a name server says of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Addresses(Vec<IpAddr>),
    /// There is no such name.
    NoName,
    /// It cannot, or will not say.
    Refused,
}

/// A question for the addresses of one type. None for what is no name.
pub(super) fn question(id: u16, recurses: bool, host: &str, kind: u16) -> Option<Vec<u8>> {
    let [high, low] = id.to_be_bytes();
    let mut question = vec![high, low, if recurses { RECURSION } else { 0 }, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in host.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok()?;
        if label.is_empty() || label.len() > LONGEST_LABEL {
            return None;
        }
        question.push(length);
        question.extend_from_slice(label.as_bytes());
    }
    question.push(0);
    question.extend_from_slice(&kind.to_be_bytes());
    question.extend_from_slice(&IN.to_be_bytes());
    Some(question)
}

/// What an answer to the question with this number says; none for anything else that came.
pub(super) fn reply(answer: &[u8], id: u16, host: &str) -> Option<Reply> {
    let is_answer = number(answer, 0)? == id && answer.get(2)? & 0x80 != 0;
    is_answer.then(|| match answer.get(3).map(|byte| byte & 0x0f) {
        Some(0) => Reply::Addresses(addresses(answer, host)),
        Some(3) => Reply::NoName,
        _ => Reply::Refused,
    })
}

/// The addresses that an answer has for this name, or for what it says is its real name.
pub(super) fn addresses(answer: &[u8], host: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    // What was read before it breaks off is not believed either.
    if read(answer, host, &mut found).is_none() {
        found.clear();
    }
    found
}

fn read(answer: &[u8], host: &str, found: &mut Vec<IpAddr>) -> Option<()> {
    let (questions, records) = (number(answer, 4)?, number(answer, 6)?);
    let mut place = 12;
    for _ in 0..questions.min(RECORDS) {
        place = name(answer, place)?.1 + 4;
    }
    let mut wanted = host.trim_end_matches('.').to_owned();
    for _ in 0..records.min(RECORDS) {
        let (whose, after) = name(answer, place)?;
        let kind = number(answer, after)?;
        // The highest bit of the class says that old answers are no longer true (RFC 6762, section 10.2).
        let is_in = number(answer, after + 2)? & 0x7fff == IN;
        let (from, length) = (after + 10, usize::from(number(answer, after + 8)?));
        let data = answer.get(from..from + length)?;
        if is_in && whose.eq_ignore_ascii_case(&wanted) {
            match kind {
                A => found.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into()),
                AAAA => found.push(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into()),
                CNAME => wanted = name(answer, from)?.0,
                _ => {}
            }
        }
        place = from + length;
    }
    Some(())
}

fn number(answer: &[u8], place: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*answer.get(place)?, *answer.get(place + 1)?]))
}

/// A name, and the place behind it. Parts of it may stand further in front (RFC 1035, section 4.1.4), each before the last.
fn name(answer: &[u8], begin: usize) -> Option<(String, usize)> {
    let (mut text, mut place, mut after) = (String::new(), begin, None);
    loop {
        let length = *answer.get(place)?;
        match length {
            0 => return Some((text, after.unwrap_or(place + 1))),
            1..=63 => {
                let label = answer.get(place + 1..place + 1 + usize::from(length))?;
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(std::str::from_utf8(label).ok()?);
                place += 1 + usize::from(length);
            }
            192.. => {
                let to = usize::from(length & 0x3f) << 8 | usize::from(*answer.get(place + 1)?);
                after.get_or_insert(place + 2);
                // Only back, so that it ends.
                place = Some(to).filter(|to| *to < place)?;
            }
            _ => return None,
        }
        if text.len() > LONGEST_NAME {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(whose: &[u8], data: &[u8]) -> Vec<u8> {
        let mut answer = vec![0, 7, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0];
        answer.extend_from_slice(b"\x04cuda\x05local\x00\x00\x01\x00\x01");
        answer.extend_from_slice(whose);
        answer.extend_from_slice(&[0, 1, 0x80, 1, 0, 0, 0, 120, 0, u8::try_from(data.len()).unwrap()]);
        answer.extend_from_slice(data);
        answer
    }

    #[test]
    fn an_answer_has_an_address_or_none() {
        let whole = answer(b"\x04CUDA\x05local\x00", &[192, 168, 1, 100]);
        assert_eq!(addresses(&whole, "cuda.local"), [IpAddr::from([192, 168, 1, 100])]);
        let short = answer(&[192, 12], &[10, 0, 0, 2]);
        assert_eq!(addresses(&short, "cuda.local."), [IpAddr::from([10, 0, 0, 2])]);
        assert!(addresses(&short, "other.local").is_empty());
        for wrong in
            [answer(&[192, 28], &[10, 0, 0, 2]), answer(&[192, 12], &[10, 0, 0]), answer(&[0x80], &[0; 4])]
        {
            assert!(addresses(&wrong, "cuda.local").is_empty());
        }
        for cut in 0..short.len() {
            assert!(addresses(&short[..cut], "cuda.local").is_empty(), "{cut}");
        }
    }

    #[test]
    fn a_real_name_has_the_address_of_the_other() {
        let mut alias = vec![0, 7, 0x81, 0x80, 0, 0, 0, 2, 0, 0, 0, 0];
        alias.extend_from_slice(b"\x01a\x00\x00\x05\x00\x01\x00\x00\x00\x01\x00\x03\x01b\x00");
        alias.extend_from_slice(b"\x01b\x00\x00\x1c\x00\x01\x00\x00\x00\x01\x00\x10");
        alias.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
        let expected = Reply::Addresses(vec![Ipv6Addr::LOCALHOST.into()]);
        assert_eq!(reply(&alias, 7, "a"), Some(expected));
        assert_eq!(reply(&alias, 8, "a"), None);
        alias[3] |= 3;
        assert_eq!(reply(&alias, 7, "a"), Some(Reply::NoName));
        alias[3] ^= 1;
        assert_eq!(reply(&alias, 7, "a"), Some(Reply::Refused));
        alias[2] = 1;
        assert_eq!(reply(&alias, 7, "a"), None);
    }

    #[test]
    fn only_names_are_asked_for() {
        let asked = question(7, true, "cuda.local", A).unwrap();
        assert_eq!(&asked[..4], [0, 7, 1, 0]);
        assert_eq!(&asked[12..], b"\x04cuda\x05local\x00\x00\x01\x00\x01");
        let long = format!("{}.local", "a".repeat(64));
        assert_eq!((question(0, false, "a..local", A), question(0, false, &long, A)), (None, None));
    }
}
