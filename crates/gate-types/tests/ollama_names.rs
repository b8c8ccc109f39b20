//! Names as Ollama reads them (v0.24.0, `types/model/name.go`, `internal/modelref/modelref.go`), told again step by step, as
//! the other side of ours: whatever ours takes, Ollama takes, and acts on the model that ours names.

use gate_types::ModelName;
use proptest::prelude::*;

#[derive(Clone, Copy, PartialEq)]
enum Source {
    Unsaid,
    Local,
    Cloud,
}

/// Host, namespace, model and tag in lower case, defaults in; nothing where Ollama says that the name is invalid.
fn stored(text: &str) -> Option<[String; 4]> {
    let mut rest = text;
    let mut tag = "latest";
    if let Some(colon) = rest.rfind(':')
        && rest.rfind('/').is_none_or(|slash| slash < colon)
    {
        (rest, tag) = (&rest[..colon], &rest[colon + 1..]);
    }
    let (mut host, mut namespace) = ("registry.ollama.ai", "library");
    let mut model = rest;
    if let Some((before, last)) = rest.rsplit_once('/') {
        (namespace, model) = (before, last);
        if let Some((before, last)) = before.rsplit_once('/') {
            (host, namespace) = (before, last);
            if let Some((_scheme, behind)) = host.split_once("://") {
                host = behind;
            }
        }
    }
    let is_sound = |part: &str, longest: usize, also: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        (1..=longest).contains(&part.len())
            && part.bytes().enumerate().all(|(at, byte)| {
                is_plain(byte) || at > 0 && (byte == b'-' || also.as_bytes().contains(&byte))
            })
    };
    let is_sound = is_sound(host, 350, ".:")
        && is_sound(namespace, 80, "")
        && is_sound(model, 80, ".")
        && is_sound(tag, 80, ".");
    is_sound.then(|| [host, namespace, model, tag].map(str::to_ascii_lowercase))
}

fn suffix(text: &str) -> Option<(String, Source)> {
    let (base, last) = text.rsplit_once(':')?;
    let word = last.trim();
    match word.to_ascii_lowercase().as_str() {
        "cloud" => Some((base.to_owned(), Source::Cloud)),
        "local" => Some((base.to_owned(), Source::Local)),
        lower if !word.contains('/') && lower.ends_with("-cloud") => {
            Some((format!("{base}:{}", &word[..word.len() - "-cloud".len()]), Source::Cloud))
        }
        _ => None,
    }
}

/// What stands before the ending, and where the model runs.
fn asked(text: &str) -> Option<(String, Source)> {
    let text = text.trim();
    match suffix(text) {
        _ if text.is_empty() => None,
        Some((base, _)) if suffix(&base).is_some() => None,
        Some(found) => Some(found),
        None => Some((text.to_owned(), Source::Unsaid)),
    }
}

/// The name that is fetched or deleted.
fn fetched(text: &str) -> Option<[String; 4]> {
    let (base, source) = asked(text)?;
    let has_tag = base.rfind(':').is_some_and(|colon| base.rfind('/').is_none_or(|slash| slash < colon));
    match source {
        Source::Cloud if has_tag => stored(&format!("{base}-cloud")),
        Source::Cloud => stored(&format!("{base}:cloud")),
        Source::Unsaid | Source::Local => stored(&base),
    }
}

fn check(text: &str) {
    let ours = ModelName::parse_stored(text).ok();
    assert_eq!(ours.is_some(), stored(text).is_some(), "{text:?} as it is stored");
    assert_eq!(ours.and_then(|name| stored(name.short())), stored(text), "{text:?} as it is stored");
    let Ok(name) = ModelName::parse(text) else { return };
    let theirs = fetched(text);
    assert!(theirs.is_some(), "{text:?} is taken here, and not by Ollama");
    assert_eq!(stored(name.short()), theirs, "{text:?} as it is fetched");
    let Some((base, source)) = asked(text) else { return };
    assert_eq!(name.is_cloud(), source == Source::Cloud, "{text:?}");
    let run = name.in_cloud().unwrap_or_else(|| name.short().into());
    assert_eq!(stored(&run), stored(&base), "{text:?} as it is run");
}

#[test]
fn endings_of_all_kinds() {
    let ends =
        ["", ":", ":1b", ":local", ":cloud", ":Cloud", "-cloud", ":1b-cloud", ":LOCAL", ": cloud", " "];
    for name in ["x", "", "a/x", "h.example/a/x", "h:1/a/x", "https://h/a/x", "https://x", "a/b/c/x", " x"] {
        for first in ends {
            for second in ends {
                check(&format!("{name}{first}{second}"));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn whatever_is_taken_is_the_model_that_ollama_acts_on(text in "(https?://)?([a-cA-C.:-]{1,4}/){0,3}[a-cA-C_./:@ -]{0,5}(:(local|CLOUD|1b|1b-cloud|-cloud)){0,2} ?") {
        check(&text);
    }

    #[test]
    fn any_text(text in "\\PC{0,30}") {
        check(&text);
    }

    #[test]
    fn long_parts(text in "(x{348,352}/)?(y{79,81}/)?z{79,81}(:t{73,81})?(:cloud|:local|-cloud)?") {
        check(&text);
    }
}
