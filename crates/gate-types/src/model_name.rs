//! Model names. Ollama accepts at least eight spellings of one model; every check here sees one.
//!
//! Form and bounds as Ollama reads them (v0.24.0 and v0.32.15, `types/model/name.go`): `[[scheme://]host/][namespace/]model[:tag]`,
//! case does not matter, host part up to 350 bytes, every other part up to 80. Defaults: host `registry.ollama.ai`,
//! namespace `library`, tag `latest`.
//!
//! A final `:local` or `:cloud` says where to run the model (`internal/modelref`), but not on every route: a model that is
//! made, copied or sent to a registry is called so, the ending is its tag. So there are two ways to read a name.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

const DEFAULT_HOST: &str = "registry.ollama.ai";
const DEFAULT_NAMESPACE: &str = "library";
const DEFAULT_TAG: &str = "latest";
const HOST_BYTES: usize = 350;
const PART_BYTES: usize = 80;

/// A model's canonical name: lower case, with its tag, without the default host and namespace. Where a model runs in the
/// cloud its tag says so: `glm:cloud`, `gpt-oss:120b-cloud`.
///
/// Names that are equal are one model to Ollama; names that are not are two on its disk.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelName {
    /// Shared: a request names its model in several places.
    short: Arc<str>,
    cloud: bool,
}

/// A text that is no model's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Empty, too long, too many parts, or with a character that no name may hold.
    #[error("invalid model name")]
    Invalid,
    /// Two endings that say where to run it.
    #[error("use either :local or :cloud, not both")]
    LocalAndCloud,
}

impl ModelName {
    /// Reads a name as it is asked for: to run or show a model, to fetch or delete it, or to make another from it.
    ///
    /// Ollama drops `:local`. To its cloud it sends the name without `:cloud` or `-cloud`; to fetch or delete what stands
    /// for that here it makes both into the tag, `x:cloud` or `x:1b-cloud`, and so does this.
    ///
    /// # Errors
    /// [`BadName`] for all that Ollama refuses, and for what it takes but nobody writes: blanks before the ending's word, and
    /// tags too long for `-cloud` to fit behind.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        if let Some(name) = plain(text) {
            return Ok(name);
        }
        let text = text.trim();
        let Some((base, place)) = ending(text) else { return Self::in_full(text) };
        if ending(base).is_some() {
            return Err(BadName::LocalAndCloud);
        }
        match place {
            Place::Here => Self::in_full(base),
            Place::Cloud if split_tag(base).1.is_some() => Self::in_full(&[base, "-cloud"].concat()),
            Place::Cloud => Self::in_full(text),
        }
    }

    /// Reads a name as a model is called on disk: in lists, and where a model is made, copied, or sent to a registry.
    /// `:local` and `:cloud` are tags like others there; nobody can ask for a model with the tag `local`.
    ///
    /// # Errors
    /// [`BadName`] for all that Ollama refuses.
    pub fn parse_stored(text: &str) -> Result<Self, BadName> {
        plain(text).map_or_else(|| Self::in_full(text), Ok)
    }

    fn in_full(name: &str) -> Result<Self, BadName> {
        let (path, tag) = split_tag(name);
        let tag = tag.unwrap_or(DEFAULT_TAG);
        let mut parts = path.rsplitn(3, '/');
        let model = parts.next().unwrap_or_default();
        let namespace = parts.next().unwrap_or(DEFAULT_NAMESPACE);
        let host = parts.next().unwrap_or(DEFAULT_HOST);
        let host = host.split_once("://").map_or(host, |(_scheme, host)| host);
        let sound = is_part(model, PART_BYTES, ".")
            && is_part(tag, PART_BYTES, ".")
            && is_part(namespace, PART_BYTES, "")
            && is_part(host, HOST_BYTES, ".:");
        if !sound {
            return Err(BadName::Invalid);
        }
        let cloud = tag.eq_ignore_ascii_case("cloud") || strip_ending(tag, "-cloud").is_some();
        Ok(ModelName { short: join(host, namespace, model, tag), cloud })
    }

    /// The canonical name without the default host and namespace, tag always there: `qwen3:8b`, `hf.co/acme/x:latest`.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.short
    }

    /// The registry that Ollama would fetch it from or send it to: the host in front, in lower case, with its port.
    #[must_use]
    pub fn registry(&self) -> &str {
        // A name with a host has its namespace too, whatever that is.
        let mut slashes = self.short.bytes().enumerate().filter(|(_, byte)| *byte == b'/');
        match (slashes.next(), slashes.next()) {
            (Some((end, _)), Some(_)) => &self.short[..end],
            _ => DEFAULT_HOST,
        }
    }

    /// Whether Ollama would send a request for this name to its cloud service.
    #[must_use]
    pub fn is_cloud(&self) -> bool {
        self.cloud
    }

    /// What the cloud service calls the model, with its tag; `None` for one that does not run there.
    #[must_use]
    pub fn in_cloud(&self) -> Option<Cow<'_, str>> {
        if !self.cloud {
            return None;
        }
        match self.short.strip_suffix("-cloud") {
            Some(name) => Some(name.into()),
            None => self.short.strip_suffix("cloud").map(|name| [name, DEFAULT_TAG].concat().into()),
        }
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short)
    }
}

impl fmt::Debug for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelName({})", self.short)
    }
}

/// The name that is written as nearly all are: `model` or `model:tag` in lower case. Nothing where anything has to be
/// looked at more closely.
fn plain(text: &str) -> Option<ModelName> {
    let mut colon = None;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'_' => {}
            // Not in front: there only letters and digits may stand.
            b'-' | b'.' if at > 0 && colon != Some(at - 1) => {}
            b':' if at > 0 && colon.is_none() => colon = Some(at),
            _ => return None,
        }
    }
    let (model, tag) = colon.map_or((text, DEFAULT_TAG), |at| (&text[..at], &text[at + 1..]));
    let is_short = (1..=PART_BYTES).contains(&model.len()) && (1..=PART_BYTES).contains(&tag.len());
    // Tags that say where a model runs.
    if !is_short || tag.ends_with("cloud") || tag.ends_with("local") {
        return None;
    }
    if colon.is_some() {
        return Some(ModelName { short: text.into(), cloud: false });
    }
    // Put together beside the heap: this runs once per request.
    let mut room = [0; PART_BYTES + 1 + DEFAULT_TAG.len()];
    let end = model.len() + 1 + DEFAULT_TAG.len();
    room[..model.len()].copy_from_slice(model.as_bytes());
    room[model.len()] = b':';
    room[model.len() + 1..end].copy_from_slice(DEFAULT_TAG.as_bytes());
    Some(ModelName { short: std::str::from_utf8(&room[..end]).ok()?.into(), cloud: false })
}

enum Place {
    Here,
    Cloud,
}

/// Where a name says that the model runs, and what stands before that.
fn ending(name: &str) -> Option<(&str, Place)> {
    if let Some(base) = strip_ending(name, ":local") {
        return Some((base, Place::Here));
    }
    if let Some(base) = strip_ending(name, ":cloud") {
        return Some((base, Place::Cloud));
    }
    split_tag(name).1?;
    strip_ending(name, "-cloud").map(|base| (base, Place::Cloud))
}

/// The tag is behind the last colon, but a colon that a slash follows is in the host.
fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    }
}

/// `text` without `ending`, which is matched without regard to case.
fn strip_ending<'t>(text: &'t str, ending: &str) -> Option<&'t str> {
    let (rest, end) = text.split_at_checked(text.len().checked_sub(ending.len())?)?;
    end.eq_ignore_ascii_case(ending).then_some(rest)
}

fn is_part(part: &str, longest: usize, also: &str) -> bool {
    let mut bytes = part.bytes();
    let starts_well = bytes.next().is_some_and(|first| first.is_ascii_alphanumeric() || first == b'_');
    starts_well
        && part.len() <= longest
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-' || also.as_bytes().contains(&b))
}

/// The canonical text, made in one allocation: this runs once per request.
fn join(host: &str, namespace: &str, model: &str, tag: &str) -> Arc<str> {
    let is_default_host = host.eq_ignore_ascii_case(DEFAULT_HOST);
    let is_default_namespace = is_default_host && namespace.eq_ignore_ascii_case(DEFAULT_NAMESPACE);
    let host = if is_default_host { ["", ""] } else { [host, "/"] };
    let namespace = if is_default_namespace { ["", ""] } else { [namespace, "/"] };
    let mut short = [host[0], host[1], namespace[0], namespace[1], model, ":", tag].concat();
    short.make_ascii_lowercase();
    short.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn eight_spellings_are_one_model() {
        let spellings = [
            "llama3",
            "llama3:latest",
            "library/llama3",
            "registry.ollama.ai/library/llama3:latest",
            "https://registry.ollama.ai/library/llama3",
            " llama3 ",
            "LLAMA3",
            "llama3:local",
        ];
        for spelling in spellings {
            let name = ModelName::parse(spelling).unwrap();
            assert_eq!(name.short(), "llama3:latest", "{spelling}");
            assert_eq!(name.to_string(), "llama3:latest", "{spelling}");
            assert!(!name.is_cloud(), "{spelling}");
        }
    }

    #[test]
    fn the_longest_parts_are_taken() {
        let (part, host) = ("x".repeat(80), "h".repeat(350));
        for (text, short) in [
            (part.clone(), format!("{part}:latest")),
            (format!("{part}:{part}"), format!("{part}:{part}")),
            (format!("{host}/{part}/{part}:{part}"), format!("{host}/{part}/{part}:{part}")),
        ] {
            assert_eq!(ModelName::parse(&text).unwrap().short(), short);
        }
        for text in [
            format!("{part}x:1"),
            format!("x:{part}x"),
            format!("{part}x/x"),
            format!("x/x:{part}x"),
            format!("{host}h/x/x"),
        ] {
            assert_eq!(ModelName::parse(&text), Err(BadName::Invalid), "{text}");
        }
    }

    #[test]
    fn parts_that_are_not_default_stay() {
        for (text, short) in [
            ("User/Demo-FIM", "user/demo-fim:latest"),
            ("hf.co/Acme/X:Q4_K_M", "hf.co/acme/x:q4_k_m"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("qwen3:8b", "qwen3:8b"),
        ] {
            assert_eq!(ModelName::parse(text).unwrap().short(), short);
        }
    }

    #[test]
    fn a_registry_is_the_host_in_front() {
        for (text, registry) in [
            ("qwen3", "registry.ollama.ai"),
            ("user/demo", "registry.ollama.ai"),
            ("REGISTRY.ollama.ai/user/demo", "registry.ollama.ai"),
            ("hf.co/Acme/X:Q4", "hf.co"),
            ("HF.co:443/library/x", "hf.co:443"),
            ("hf.co./a/b", "hf.co."),
            ("localhost:5000/library/b", "localhost:5000"),
            ("https://hf.co/a/b", "hf.co"),
            ("169.254.169.254/a/b", "169.254.169.254"),
        ] {
            assert_eq!(ModelName::parse(text).unwrap().registry(), registry, "{text}");
        }
    }

    #[test]
    fn what_ollama_refuses_is_refused() {
        let long = "x".repeat(81);
        for text in [
            "",
            " ",
            "library\\demo",
            "demo:",
            "demo@sha256:00",
            "../demo",
            "demo:a:b",
            "demo\u{212a}",
            "de\0mo",
            "library%2Fdemo",
            "demo/",
            "a/b/c/d",
            "démo",
            "-demo",
            "demo:-a",
            "demo:.a",
            "a.b/demo",
            "https://demo",
            "https://a/demo",
            long.as_str(),
        ] {
            assert_eq!(ModelName::parse(text), Err(BadName::Invalid), "{text:?}");
            assert_eq!(ModelName::parse_stored(text), Err(BadName::Invalid), "{text:?}");
        }
        for text in ["demo:cloud:local", "demo:1b-cloud:local", "demo:1b-cloud:cloud", "demo:local-cloud"] {
            assert_eq!(ModelName::parse(text), Err(BadName::LocalAndCloud), "{text:?}");
        }
    }

    #[test]
    fn a_model_in_the_cloud_is_another_than_the_one_here() {
        for (text, short, in_cloud) in [
            ("demo:cloud", "demo:cloud", "demo:latest"),
            ("Library/Demo:Cloud", "demo:cloud", "demo:latest"),
            ("demo:1B-Cloud", "demo:1b-cloud", "demo:1b"),
            ("demo:1b:cloud", "demo:1b-cloud", "demo:1b"),
            ("localhost:5000/a/demo:cloud", "localhost:5000/a/demo:cloud", "localhost:5000/a/demo:latest"),
        ] {
            let name = ModelName::parse(text).unwrap();
            assert!(name.is_cloud(), "{text}");
            assert_eq!((name.short(), name.in_cloud().as_deref()), (short, Some(in_cloud)), "{text}");
        }
        for text in ["demo", "my-cloud", "demo:local", "demo:cloudy", "cloud"] {
            let name = ModelName::parse(text).unwrap();
            assert!(!name.is_cloud() && name.in_cloud().is_none(), "{text}");
        }
        assert_eq!(format!("{:?}", ModelName::parse("Demo:cloud").unwrap()), "ModelName(demo:cloud)");
    }

    #[test]
    fn on_disk_the_endings_are_tags() {
        for (text, short, is_cloud) in [
            ("demo:local", "demo:local", false),
            ("demo:cloud", "demo:cloud", true),
            ("DEMO:1b-cloud", "demo:1b-cloud", true),
            ("demo", "demo:latest", false),
        ] {
            let name = ModelName::parse_stored(text).unwrap();
            assert_eq!((name.short(), name.is_cloud()), (short, is_cloud), "{text}");
        }
        for text in [" demo", "demo ", "demo:1b:cloud", "demo:1b:local", "demo:cloud:local"] {
            assert_eq!(ModelName::parse_stored(text), Err(BadName::Invalid), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn the_short_way_and_the_long_way_read_the_same(text in "[a-z0-9_.:-]{1,100}|[a-z]{1,3}[:-](cloud|local)") {
            let long = ModelName::parse(&format!("registry.ollama.ai/library/{text}"));
            prop_assert_eq!(ModelName::parse(&text), long);
        }

        #[test]
        fn a_canonical_name_is_its_own_spelling(text in "[a-zA-Z0-9_./:-]{1,40}") {
            if let Ok(name) = ModelName::parse(&text) {
                prop_assert_eq!(ModelName::parse(name.short()).unwrap(), name.clone());
                prop_assert_eq!(ModelName::parse_stored(name.short()).unwrap(), name);
            }
        }
    }
}
