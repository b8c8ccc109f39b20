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
static KNOWN: [&str; 71] = [
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
    "max_tokens",
    "messages",
    "metadata",
    "model",
    "name",
    "options",
    "output_config",
    "parameters",
    "parser",
    "password",
    "presence_penalty",
    "prompt",
    "quantization",
    "quantize",
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
    "username",
    "verbose",
    "width",
];

/// The known field that `name` is a second spelling of. `folded` is what [`fold`] made of it.
pub(crate) fn other_spelling(name: &str, folded: &str) -> Option<&'static str> {
    // Lower case and ASCII throughout: either exactly known or exactly unknown.
    if name.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
        return None;
    }
    let lower = folded.to_ascii_lowercase();
    KNOWN.binary_search(&lower.as_str()).ok().and_then(|place| KNOWN.get(place)).copied()
}

/// The name with the two foreign letters folded; its ASCII letters keep their case.
pub(crate) fn fold<'n>(name: &Cow<'n, str>) -> Cow<'n, str> {
    if name.is_ascii() {
        return name.clone();
    }
    let folded = name.chars().map(|c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c,
    });
    Cow::Owned(folded.collect())
}

/// The names of one object so far.
pub(crate) struct Names<'b> {
    first: [Cow<'b, str>; INLINE],
    count: usize,
    more: Vec<Cow<'b, str>>,
    same: fn(&str, &str) -> bool,
}

impl<'b> Names<'b> {
    /// Names of a Go struct's fields: case does not tell them apart.
    pub(crate) fn of_fields() -> Self {
        Names::new(str::eq_ignore_ascii_case)
    }

    /// Names of a Go map's entries: only equal bytes are equal.
    pub(crate) fn of_options() -> Self {
        Names::new(|a, b| a == b)
    }

    fn new(same: fn(&str, &str) -> bool) -> Self {
        Names { first: [const { Cow::Borrowed("") }; INLINE], count: 0, more: Vec::new(), same }
    }

    /// Adds a name; `false` if it was there.
    pub(crate) fn add(&mut self, name: Cow<'b, str>) -> Result<bool, Fault> {
        if name.len() > MAX_NAME {
            return Err(Fault::LongFieldName);
        }
        let mut known = self.first.iter().take(self.count).chain(&self.more);
        if known.any(|other| other.len() == name.len() && (self.same)(other, &name)) {
            return Ok(false);
        }
        if let Some(place) = self.first.get_mut(self.count) {
            *place = name;
            self.count += 1;
        } else if self.count + self.more.len() < MAX_FIELDS {
            self.more.push(name);
        } else {
            return Err(Fault::TooManyFields);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_are_in_order_and_in_lower_case() {
        assert!(KNOWN.is_sorted());
        assert!(KNOWN.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }

    #[test]
    fn second_spellings_are_seen_through() {
        let spelled = |name: &str| other_spelling(name, &fold(&Cow::Borrowed(name)));
        assert_eq!(spelled("MODEL"), Some("model"));
        assert_eq!(spelled("\u{17f}tream"), Some("stream"));
        assert_eq!(spelled("option\u{17f}"), Some("options"));
        assert_eq!(spelled("\u{212a}eep_alive"), Some("keep_alive"));
        assert_eq!(spelled("model"), None);
        assert_eq!(spelled("Foo"), None);
        assert_eq!(spelled("\u{ff4d}odel"), None, "full-width letters fold onto nothing");
    }
}
