//! What must hold for any bytes where somebody writes about keys: the property that corpus replay and fuzz target share.
//! Each reader takes them or refuses them; what it takes it writes in one spelling, and reads back as the same.

use gate_keys::{
    KEY_LENGTH, KEY_PREFIX, KeyName, KeyRing, Mark, ModelGlob, Span, SshKey, Verdict, digest_text,
    is_well_formed,
};
use gate_types::{ModelName, Secret};

/// Reads `bytes` as each of them.
pub(crate) fn text(bytes: &[u8]) {
    let known = KeyRing::default().check(bytes, 0);
    assert_eq!(matches!(known, Verdict::Unknown), is_well_formed(bytes), "{known:?}");
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    key(text);
    public_key(text);
    digest(text);
    if let Ok(name) = KeyName::parse(text) {
        assert_eq!(name.as_str(), text);
    }
    if let Ok(span) = Span::parse(text) {
        assert!(span.after(0) >= 0 && span.after(i64::MAX) == i64::MAX, "{text}");
        assert_eq!(Span::parse(&span.to_string()), Ok(span), "{text}");
    }
    if let Ok(glob) = ModelGlob::parse(text) {
        let again = ModelGlob::parse(glob.as_str());
        assert_eq!(again.as_ref(), Ok(&glob), "{text}");
        assert!(!glob.as_str().contains(','), "a pattern that a comma list would cut: {text}");
        for model in ["qwen3:8b", "hf.co/acme/model:q4", text] {
            if let Ok(model) = ModelName::parse(model) {
                assert_eq!(glob.matches(&model), again.as_ref().is_ok_and(|glob| glob.matches(&model)));
            }
        }
    }
}

fn key(text: &str) {
    if !is_well_formed(text) {
        return;
    }
    assert!(text.len() == KEY_LENGTH && text.starts_with(KEY_PREFIX), "{text}");
    assert!(Mark::from_digest_text(text).is_err(), "a key as its own digest");
    let mark = Mark::of(&Secret::new(text.to_owned()));
    assert!(text.starts_with(&mark.prefix) && mark.prefix.len() < 12, "{text}");
    // A character that was mistyped is noticed.
    let (before, last) = text.split_at(text.len() - 7);
    let other = if last.starts_with('a') { "b" } else { "a" };
    assert!(!is_well_formed(format!("{before}{other}{}", &last[1..])), "{text}");
}

fn public_key(text: &str) {
    match SshKey::parse(text) {
        Ok(key) => {
            let line = text.lines().map(str::trim).find(|line| line.starts_with("ssh-ed25519"));
            let bare: Vec<&str> = line.unwrap_or_default().split_ascii_whitespace().take(2).collect();
            assert_eq!(SshKey::parse(&bare.join(" ")).as_ref(), Ok(&key), "{text}");
            let printed = digest_text(&key.mark());
            assert_eq!(Mark::from_digest_text(&printed), Ok(key.mark()), "{text}");
        }
        Err(bad) => {
            let told = format!("{bad}{}", bad.hint());
            // What could be a secret is a long word; whole sentences a fuzzer finds in the texts of the errors themselves.
            let is_repeated = |word: &str| word.len() >= 40 && told.contains(word);
            assert!(!text.split_whitespace().any(is_repeated), "{told}");
        }
    }
}

fn digest(text: &str) {
    if let Ok(mark) = Mark::from_digest_text(text) {
        let printed = digest_text(&mark);
        assert_eq!(Mark::from_digest_text(&printed).as_ref(), Ok(&mark), "{text}");
        assert!(printed.eq_ignore_ascii_case(text), "{text}");
    }
}
