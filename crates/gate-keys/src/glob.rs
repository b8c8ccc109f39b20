//! Patterns of model names: which models a key may use.
//!
//! A pattern is written like a name and read like one: case does not matter, the default host and namespace may be left
//! away, no tag means `:latest` unless the pattern ends in `*`. `*` stands for any run of characters, `/` and `:` too.
//! So `qwen3*` means `qwen3.example.com/x/y` as well, a model of another registry: `qwen3:*` is what people want to say.
//! Reading a pattern must never widen it: `library/*` stays within Ollama's own library, although the names in it are
//! shown without that word.
//!
//! `:local` and `:cloud` at the end say where the model must run. What runs in Ollama's cloud is another model than the one of
//! that name here: `glm` does not mean `glm:cloud`, `glm:*` and `glm:cloud` do.

use gate_types::ModelName;
use std::fmt;

const DEFAULT_HOST: &str = "registry.ollama.ai/";
const DEFAULT_NAMESPACE: &str = "library/";
const DEFAULT_TAG: &str = ":latest";
/// Host 350, namespace, model and tag 80 each, three separators, and room for the word that says where it runs.
const LONGEST: usize = 600;

/// A checked pattern. Its text form reads back to the same pattern.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ModelGlob {
    text: Box<str>,
    /// Where the part that is matched begins in `text`, and how long it is.
    start: usize,
    end: usize,
    reach: Reach,
    runs: Runs,
}

/// How far a `*` may reach. A name in the library has no slash, one in the default registry at most one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Reach {
    Library,
    Registry,
    Anywhere,
}

/// Where the model must run for the pattern to mean it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Runs {
    Wherever,
    Locally,
    InTheCloud,
}

/// A text that is not a pattern of model names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadGlob {
    /// Nothing at all.
    #[error("the model pattern is empty")]
    Empty,
    /// Longer than any model name can be.
    #[error("the model pattern is {0} bytes long, {LONGEST} are allowed")]
    TooLong(usize),
    /// A character that no model name holds.
    #[error("the model pattern {text:?} holds {character:?}")]
    Character {
        /// The pattern as given.
        text: String,
        /// The first such character.
        character: char,
    },
    /// Without a `*`, and not a model name either.
    #[error("{0:?} is no model name")]
    NotAName(String),
}

impl BadGlob {
    /// What to do about it, in one line.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            BadGlob::Empty => "leave the models out to allow every model",
            BadGlob::TooLong(_) | BadGlob::NotAName(_) => {
                "write it like a model name: qwen3:8b, qwen3:*, hf.co/acme/*"
            }
            BadGlob::Character { .. } => {
                "the only wildcard is *, which stands for any run of characters: qwen3:*"
            }
        }
    }
}

impl ModelGlob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`BadGlob`] if it is empty, too long, holds a character that names cannot hold, or has no `*` and is no name.
    pub fn parse(text: &str) -> Result<Self, BadGlob> {
        let given = text.trim();
        if given.is_empty() {
            return Err(BadGlob::Empty);
        }
        if given.len() > LONGEST {
            return Err(BadGlob::TooLong(given.len()));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':' | '*');
        if let Some(character) = given.chars().find(|&c| !allowed(c)) {
            return Err(BadGlob::Character { text: given.to_owned(), character });
        }
        let lower = given.to_ascii_lowercase();
        let lower = lower.split_once("://").map_or(lower.as_str(), |(_scheme, rest)| rest);
        // What is left is read again wherever it is stored: a second scheme would make another pattern of it then.
        if lower.contains("://") {
            return Err(BadGlob::NotAName(given.to_owned()));
        }
        let (name, runs) = split_runs(lower);
        if split_runs(name).1 != Runs::Wherever {
            return Err(BadGlob::NotAName(given.to_owned()));
        }
        let glob = if name.contains('*') { Self::wild(name, runs) } else { Self::plain(name, runs, given)? };
        // The tag that a pattern without one gets counts, or a store could not read what it holds.
        match glob.text.len() {
            long if long > LONGEST => Err(BadGlob::TooLong(long)),
            _ => Ok(glob),
        }
    }

    /// Whether this pattern means `name`. Takes time in proportion to the lengths of both.
    #[must_use]
    pub fn matches(&self, name: &ModelName) -> bool {
        let called = match self.runs {
            Runs::Wherever => Some(name.short().into()),
            Runs::Locally => (!name.is_cloud()).then(|| name.short().into()),
            Runs::InTheCloud => name.in_cloud(),
        };
        let slashes = || name.short().bytes().filter(|&byte| byte == b'/').count();
        let reached = match self.reach {
            Reach::Library => slashes() == 0,
            Reach::Registry => slashes() <= 1,
            Reach::Anywhere => true,
        };
        reached && called.is_some_and(|called| matches_wild(self.matched(), &called))
    }

    /// The pattern in its canonical spelling.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn matched(&self) -> &str {
        self.text.get(self.start..self.end).unwrap_or_default()
    }

    fn plain(name: &str, runs: Runs, given: &str) -> Result<Self, BadGlob> {
        let name = ModelName::parse(name).ok().filter(|name| runs == Runs::Wherever || !name.is_cloud());
        let name = name.ok_or_else(|| BadGlob::NotAName(given.to_owned()))?;
        Ok(Self::assemble("", name.short(), "", Reach::Anywhere, runs))
    }

    fn wild(name: &str, runs: Runs) -> Self {
        let (said, rest, reach) = match name.strip_prefix(DEFAULT_HOST) {
            Some(rest) => match rest.strip_prefix(DEFAULT_NAMESPACE) {
                Some(rest) => (DEFAULT_NAMESPACE, rest, Reach::Library),
                None => (DEFAULT_HOST, rest, Reach::Registry),
            },
            None => match name.strip_prefix(DEFAULT_NAMESPACE) {
                Some(rest) => (DEFAULT_NAMESPACE, rest, Reach::Library),
                None => ("", name, Reach::Anywhere),
            },
        };
        // As in a name: the last colon starts a tag unless a slash follows it. `localhost:5000/…` has none.
        let has_tag = rest.rsplit_once(':').is_some_and(|(_, tag)| !tag.contains('/'));
        let tag = if has_tag || rest.ends_with('*') { "" } else { DEFAULT_TAG };
        Self::assemble(said, rest, tag, reach, runs)
    }

    fn assemble(said: &str, rest: &str, tag: &str, reach: Reach, runs: Runs) -> Self {
        let mut text = String::with_capacity(said.len() + rest.len() + tag.len() + runs.word().len());
        text.push_str(said);
        for character in rest.chars() {
            // Two stars mean no more than one.
            if character != '*' || !text.ends_with('*') {
                text.push(character);
            }
        }
        text.push_str(tag);
        let end = text.len();
        text.push_str(runs.word());
        ModelGlob { text: text.into(), start: said.len(), end, reach, runs }
    }
}

impl Runs {
    const fn word(self) -> &'static str {
        match self {
            Runs::Wherever => "",
            Runs::Locally => ":local",
            Runs::InTheCloud => ":cloud",
        }
    }
}

/// `:local` and `:cloud` at the end are no tags: they say where a model runs, in a pattern as in a name.
fn split_runs(name: &str) -> (&str, Runs) {
    for runs in [Runs::Locally, Runs::InTheCloud] {
        if let Some(rest) = name.strip_suffix(runs.word()) {
            return (rest, runs);
        }
    }
    (name, Runs::Wherever)
}

/// Each piece between two stars is taken at the first place where it fits: if any choice matches, this one does.
fn matches_wild(pattern: &str, name: &str) -> bool {
    let Some((first, pattern)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let (middle, last) = pattern.rsplit_once('*').unwrap_or(("", pattern));
    for piece in middle.split('*') {
        let Some(place) = rest.find(piece) else { return false };
        rest = rest.get(place + piece.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

impl fmt::Display for ModelGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ModelGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelGlob({})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn glob(text: &str) -> ModelGlob {
        ModelGlob::parse(text).unwrap()
    }

    fn name(text: &str) -> ModelName {
        ModelName::parse(text).unwrap()
    }

    #[test]
    fn what_a_pattern_means() {
        let table: &[(&str, &[&str], &[&str])] = &[
            (
                "llama3",
                &["llama3", "LLAMA3:latest", "library/llama3"],
                &["llama3:8b", "llama3.1", "acme/llama3"],
            ),
            ("Library/Llama3", &["llama3"], &["acme/llama3"]),
            ("registry.ollama.ai/library/llama3:8B", &["llama3:8b"], &["llama3"]),
            ("llama3*", &["llama3", "llama3:8b", "llama3.1:70b"], &["codellama3", "acme/llama3"]),
            ("llama3:*", &["llama3", "llama3:8b"], &["llama3.1:8b", "llama3.example.com/x/y"]),
            ("llama3*", &["llama3.example.com/x/y", "llama3/x"], &[]),
            ("*", &["llama3", "acme/x:1", "hf.co/acme/x:q4"], &[]),
            ("*:8b", &["llama3:8b", "hf.co/acme/x:8b"], &["llama3", "llama3:18b-q4"]),
            ("*llama3", &["codellama3", "acme/llama3", "llama3"], &["llama3:8b"]),
            ("qwen*coder", &["qwen3-coder"], &["qwen3-coder:30b", "qwen3"]),
            ("*a*a:*", &["aa", "banana:1b"], &["a", "bba"]),
            ("hf.co/*", &["hf.co/acme/x:q4", "hf.co/b/y"], &["acme/x", "hf.com/acme/x"]),
            ("hf.co/acme/*:q4*", &["hf.co/acme/x:q4_k_m"], &["hf.co/acme/x:q8_0"]),
            ("acme/*", &["acme/x", "acme/y:2"], &["x", "bacme/x"]),
            ("localhost:5000/a/*b", &["localhost:5000/a/xb"], &["localhost:5000/a/xb:2"]),
            ("https://registry.ollama.ai/library/q*", &["qwen3"], &["q/x"]),
        ];
        for (pattern, yes, no) in table {
            for text in *yes {
                assert!(glob(pattern).matches(&name(text)), "{pattern} should mean {text}");
            }
            for text in *no {
                assert!(!glob(pattern).matches(&name(text)), "{pattern} should not mean {text}");
            }
        }
    }

    #[test]
    fn naming_the_default_place_does_not_widen_a_pattern() {
        let library = glob("library/*");
        assert!(library.matches(&name("qwen3:8b")));
        assert!(!library.matches(&name("acme/qwen3:8b")));
        assert!(!library.matches(&name("hf.co/acme/qwen3:8b")));
        let registry = glob("registry.ollama.ai/*");
        assert!(registry.matches(&name("acme/qwen3:8b")));
        assert!(!registry.matches(&name("hf.co/acme/qwen3:8b")));
    }

    #[test]
    fn where_a_model_runs_is_part_of_the_pattern() {
        let cloud = glob("*:cloud");
        assert!(cloud.matches(&name("glm:cloud")) && cloud.matches(&name("gpt-oss:120b-cloud")));
        assert!(!cloud.matches(&name("glm")));
        let local = glob("glm:local");
        assert!(local.matches(&name("glm")) && local.matches(&name("glm:local")));
        assert!(!local.matches(&name("glm:cloud")));
        assert!(glob("glm:cloud").matches(&name("glm:cloud")) && !glob("glm:cloud").matches(&name("glm")));
        assert!(!glob("glm").matches(&name("glm:cloud")) && glob("glm:*").matches(&name("glm:cloud")));
        for pattern in
            ["gpt-oss:120b-cloud", "gpt-oss:120b:cloud", "gpt-oss:*b:cloud", "*:cloud", "gpt-oss:*"]
        {
            for spelling in ["gpt-oss:120b-cloud", "gpt-oss:120b:cloud"] {
                assert!(glob(pattern).matches(&name(spelling)), "{pattern} should mean {spelling}");
            }
        }
        assert!(!glob("gpt-oss:120b").matches(&name("gpt-oss:120b:cloud")));
    }

    #[test]
    fn canonical_text() {
        for (text, canonical) in [
            (" Llama3 ", "llama3:latest"),
            ("registry.ollama.ai/library/Q*", "library/q*"),
            ("a**b", "a*b:latest"),
            ("GLM:cloud", "glm:latest:cloud"),
        ] {
            assert_eq!((glob(text).as_str(), glob(text).to_string().as_str()), (canonical, canonical));
            assert_eq!(glob(canonical), glob(text), "{canonical}");
        }
    }

    #[test]
    fn what_is_no_pattern() {
        assert_eq!(ModelGlob::parse(" "), Err(BadGlob::Empty));
        assert_eq!(glob(&"*".repeat(600)), glob("*"));
        assert!(matches!(ModelGlob::parse(&"*".repeat(601)), Err(BadGlob::TooLong(601))));
        let untagged = |length| ModelGlob::parse(&format!("*{}", "a".repeat(length)));
        assert_eq!(untagged(592).unwrap().as_str().len(), 600);
        assert_eq!(untagged(593), Err(BadGlob::TooLong(601)), "too long with its tag");
        for text in ["qwen?", "qwen[3]", "a b", "a,b", "a\\b", "ä*", "a\0*"] {
            assert!(matches!(ModelGlob::parse(text), Err(BadGlob::Character { .. })), "{text}");
        }
        for text in [
            "a/b/c/d",
            "demo:",
            "-demo",
            "demo:cloud:local",
            "demo:1b-cloud:cloud",
            ":cloud",
            "http://a*://b",
        ] {
            assert!(matches!(ModelGlob::parse(text), Err(BadGlob::NotAName(_))), "{text}");
        }
    }

    #[test]
    fn each_refusal_says_what_to_write_instead() {
        for (text, word) in
            [(" ", "leave the models out"), ("a/b/c/d", "qwen3:8b"), ("qwen?", "wildcard is *")]
        {
            let hint = ModelGlob::parse(text).unwrap_err().hint();
            assert!(hint.contains(word), "{text}: {hint}");
        }
    }

    #[test]
    fn many_stars_cost_no_more_than_few() {
        // Backtracking would need about 2^100 steps here; this returns before anybody can look.
        let pattern = glob(&format!("{}b*", "a*".repeat(200)));
        assert!(!pattern.matches(&name(&"a".repeat(80))));
    }

    /// The definition of a match, as slow and as plain as can be.
    fn plainly(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|skip| plainly(rest, &text[skip..])),
            Some((byte, rest)) => {
                text.split_first().is_some_and(|(have, more)| have == byte && plainly(rest, more))
            }
        }
    }

    proptest! {
        #[test]
        fn it_matches_what_the_definition_says(pattern in "[ab:/*]{0,8}", text in "[ab:/]{0,10}") {
            prop_assert_eq!(matches_wild(&pattern, &text), plainly(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn a_canonical_pattern_is_its_own_spelling(text in "[a-cA-C_./:*-]{1,20}(:cloud|:local)?") {
            if let Ok(pattern) = ModelGlob::parse(&text) {
                prop_assert_eq!(ModelGlob::parse(pattern.as_str()), Ok(pattern));
            }
        }

        #[test]
        fn a_name_as_a_pattern_means_that_name_alone(text in "[a-c]{1,2}(/[a-c]{1,2})?(:[a-c]{1,2})?", other in "[a-c]{1,2}(/[a-c]{1,2})?(:[a-c]{1,2})?") {
            prop_assert_eq!(glob(&text).matches(&name(&other)), name(&text) == name(&other));
        }
    }
}
