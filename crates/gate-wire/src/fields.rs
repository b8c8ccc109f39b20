//! Names of fields: which ones Ollama reads, and which ones its decoder takes for each other.
//!
//! Go's decoder matches a field's name without regard to case, and folds two letters outside ASCII onto `s` and `k`
//! (U+017F and U+212A). So two names may be one field; here they are found out.

use crate::problem::Fault;
use std::borrow::Cow;

/// So many fields may stand in the body's object, and so many in its `options`.
pub const MAX_FIELDS: usize = 256;
/// The longest name of such a field, in bytes.
pub const MAX_NAME: usize = 256;

const INLINE: usize = 24;

/// Every field that Ollama v0.24.0 to v0.32.15 reads at the top of a body on any route of the table, in order.
static KNOWN: [&str; 76] = [
    "_debug_render_only",
    "adapters",
    "background",
    "context",
    "conversation",
    "destination",
    "dimensions",
    "draft_files",
    "draft_quantize",
    "encoding_format",
    "files",
    "format",
    "frequency_penalty",
    "from",
    "height",
    "images",
    "include",
    "info",
    "input",
    "insecure",
    "instructions",
    "keep_alive",
    "license",
    "logprobs",
    "max_output_tokens",
    "max_results",
    "max_tokens",
    "messages",
    "metadata",
    "model",
    "modelfile",
    "name",
    "options",
    "output_config",
    "parameters",
    "parser",
    "password",
    "path",
    "presence_penalty",
    "prompt",
    "quantization",
    "quantize",
    "query",
    "raw",
    "reasoning",
    "reasoning_effort",
    "remote_host",
    "renderer",
    "requires",
    "response_format",
    "seed",
    "shift",
    "source",
    "steps",
    "stop",
    "stop_sequences",
    "stream",
    "stream_options",
    "suffix",
    "system",
    "temperature",
    "template",
    "text",
    "think",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_logprobs",
    "top_p",
    "truncate",
    "truncation",
    "url",
    "username",
    "verbose",
    "width",
];

/// The known field that `name` is a second spelling of.
pub(crate) fn other_spelling(name: &str) -> Option<&'static str> {
    let folded = folded(name);
    if folded == name {
        return None;
    }
    KNOWN.binary_search(&folded.as_str()).ok().and_then(|place| KNOWN.get(place)).copied()
}

/// Whether folding leaves a name as it is, seen at a glance: lower case and ASCII throughout.
pub(crate) fn is_plain(name: &[u8]) -> bool {
    match (name.last_chunk::<8>(), name.first_chunk::<4>(), name.last_chunk::<4>()) {
        (Some(last), _, _) => {
            is_plain_word(*last) && name.as_chunks::<8>().0.iter().all(|word| is_plain_word(*word))
        }
        (None, Some([a, b, c, d]), Some([e, f, g, h])) => is_plain_word([*a, *b, *c, *d, *e, *f, *g, *h]),
        _ => name.iter().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()),
    }
}

const fn is_plain_word(bytes: [u8; 8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(bytes);
    // In each byte the high bit says: from `A` on, behind `Z`. No sum of seven bits reaches the next byte.
    let low = word & !HIGHS;
    let upper = (low + ONES * (0x80 - b'A' as u64)) & !(low + ONES * (0x7f - b'Z' as u64));
    (word | upper) & HIGHS == 0
}

/// The name as Go compares it.
pub(crate) fn folded(name: &str) -> String {
    let fold = |c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => char::to_ascii_lowercase(&c),
    };
    name.chars().map(fold).collect()
}

/// The names of one object so far. Equal ones are found by their bytes: fold first what is to be equal when folded.
pub(crate) struct Names<'b> {
    first: [&'b [u8]; INLINE],
    count: usize,
    more: Vec<Cow<'b, [u8]>>,
}

impl<'b> Names<'b> {
    pub(crate) fn new() -> Self {
        Names { first: [b""; INLINE], count: 0, more: Vec::new() }
    }

    /// Adds a name; `false` if it was there.
    pub(crate) fn add(&mut self, name: Cow<'b, [u8]>) -> Result<bool, Fault> {
        if name.len() > MAX_NAME {
            return Err(Fault::LongFieldName);
        }
        let first = self.first.get(..self.count).unwrap_or_default();
        if first.contains(&&*name) || self.more.contains(&name) {
            return Ok(false);
        }
        if self.count + self.more.len() == MAX_FIELDS {
            return Err(Fault::TooManyFields);
        }
        match (name, self.first.get_mut(self.count)) {
            (Cow::Borrowed(name), Some(place)) => {
                *place = name;
                self.count += 1;
            }
            (name, _) => self.more.push(name),
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_are_told_at_every_length() {
        for length in 1..20 {
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    let mut name = vec![b'_'; length];
                    name[place] = byte;
                    let is_sound = byte.is_ascii() && !byte.is_ascii_uppercase();
                    assert_eq!(is_plain(&name), is_sound, "{byte:#x} at {place} of {length}");
                }
            }
        }
    }

    #[test]
    fn the_known_are_in_order_and_in_lower_case() {
        assert!(KNOWN.is_sorted());
        assert!(KNOWN.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }

    #[test]
    fn second_spellings_are_seen_through() {
        assert_eq!(other_spelling("MODEL"), Some("model"));
        assert_eq!(other_spelling("\u{17f}tream"), Some("stream"));
        assert_eq!(other_spelling("option\u{17f}"), Some("options"));
        assert_eq!(other_spelling("\u{212a}eep_alive"), Some("keep_alive"));
        assert_eq!(other_spelling("model"), None);
        assert_eq!(other_spelling("Foo"), None);
        assert_eq!(other_spelling("\u{ff4d}odel"), None, "full-width letters fold onto nothing");
    }
}
