//! Turns the bytes of tokens into text that may be sent: whole characters only, and nothing that may still become a
//! stop string.

/// The text of one answer while it grows.
#[derive(Debug)]
pub(crate) struct Voice {
    stops: Vec<String>,
    /// Bytes of a character that is not complete yet.
    partial: Vec<u8>,
    /// Text held back because a stop string may begin in it.
    held: String,
}

impl Voice {
    pub(crate) fn new(mut stops: Vec<String>) -> Voice {
        stops.retain(|stop| !stop.is_empty());
        Voice { stops, partial: Vec::new(), held: String::new() }
    }

    /// Takes a token's bytes; returns what may be sent now, and whether a stop string was met.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> (String, bool) {
        self.partial.extend_from_slice(bytes);
        let text = self.whole_characters();
        self.held.push_str(&text);
        let first = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = first {
            self.held.truncate(at);
            self.partial.clear();
            return (std::mem::take(&mut self.held), true);
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What was held back, when the answer ends otherwise.
    pub(crate) fn finish(&mut self) -> String {
        let mut text = std::mem::take(&mut self.held);
        text.push_str(&String::from_utf8_lossy(&self.partial));
        self.partial.clear();
        text
    }

    fn whole_characters(&mut self) -> String {
        let mut text = String::new();
        let bytes = std::mem::take(&mut self.partial);
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            let bad = chunk.invalid();
            let at_the_end = bytes.as_ptr_range().end == bad.as_ptr_range().end;
            if at_the_end && may_be_completed(bad) {
                self.partial = bad.to_vec();
            } else if !bad.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        text
    }
}

/// Whether more bytes could make this the beginning of one character (RFC 3629).
fn may_be_completed(bytes: &[u8]) -> bool {
    let width = match bytes.first() {
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        _ => return false,
    };
    // `utf8_chunks` puts only a sound beginning into one invalid piece.
    bytes.len() < width
}

/// Length of the longest end of `text` that is a beginning of `stop`, in bytes.
fn overlap(text: &str, stop: &str) -> usize {
    let most = stop.len().saturating_sub(1).min(text.len());
    (1..=most)
        .rev()
        .find(|n| {
            text.is_char_boundary(text.len() - n)
                && stop.as_bytes().starts_with(&text.as_bytes()[text.len() - n..])
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(stops: &[&str], pieces: &[&[u8]]) -> (Vec<String>, bool) {
        let mut voice = Voice::new(stops.iter().map(|s| (*s).to_owned()).collect());
        let mut all = Vec::new();
        for piece in pieces {
            let (text, stopped) = voice.push(piece);
            all.push(text);
            if stopped {
                return (all, true);
            }
        }
        all.push(voice.finish());
        (all, false)
    }

    #[test]
    fn a_character_is_never_cut() {
        let euro = "€".as_bytes();
        let (said, _) = spoken(&[], &[&euro[..1], &euro[1..2], &euro[2..], b"!"]);
        assert_eq!(said, ["", "", "€", "!", ""]);
        let (said, _) = spoken(&[], &[b"a\xff", b"b\xe2", b"c", b"\xf0\x9f"]);
        assert_eq!(said, ["a\u{fffd}", "b", "\u{fffd}c", "", "\u{fffd}"]);
    }

    #[test]
    fn a_stop_string_is_never_shown() {
        let (said, stopped) = spoken(&["gateway"], &[b"The ", b"gate", b"way is"]);
        assert_eq!((said.concat().as_str(), stopped), ("The ", true));
        let (said, stopped) = spoken(&["gateway"], &[b"The ", b"gate", b" is", b" a ga"]);
        assert_eq!(said, ["The ", "", "gate is", " a ", "ga"]);
        assert!(!stopped);
    }

    #[test]
    fn the_first_of_several_stops_wins() {
        let (said, stopped) = spoken(&["", "ccc", "bb"], &[b"abbccc"]);
        assert_eq!((said.concat().as_str(), stopped), ("a", true));
        let (said, stopped) = spoken(&["aab"], &[b"a", b"a", b"a", b"b"]);
        assert_eq!((said.concat().as_str(), stopped), ("a", true));
    }

    #[test]
    fn stops_may_lie_across_characters_and_tokens() {
        let (said, stopped) = spoken(&["é!"], &["caf".as_bytes(), &[0xc3], &[0xa9], b"!x"]);
        assert_eq!((said.concat().as_str(), stopped), ("caf", true));
        let (said, stopped) = spoken(&["éé"], &["é".as_bytes(), "è".as_bytes()]);
        assert_eq!((said.concat().as_str(), stopped), ("éè", false));
    }
}
