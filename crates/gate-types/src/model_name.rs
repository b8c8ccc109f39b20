//! Model names. Ollama accepts at least eight spellings of one model; every check here sees one.
//!
//! Form and bounds as Ollama reads them (v0.24.0 and v0.32.15): `[scheme://][host/][namespace/]model[:tag]`, case does
//! not matter, host part up to 350 bytes, every other part up to 80. Defaults: host `registry.ollama.ai`, namespace
//! `library`, tag `latest`. A final `:local` or `:cloud` says where to run the model and is no tag.

use std::fmt;
use std::sync::Arc;

const DEFAULT_HOST: &str = "registry.ollama.ai";
const DEFAULT_NAMESPACE: &str = "library";
const DEFAULT_TAG: &str = "latest";
const HOST_BYTES: usize = 350;
const PART_BYTES: usize = 80;

/// A model's canonical name: lower case, with its tag, without the default host and namespace.
///
/// Two spellings are equal exactly when Ollama would run the same model for them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelName {
    /// Shared: a request names its model in several places.
    short: Arc<str>,
    cloud: bool,
}

/// A text that Ollama would not take as a model name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Empty, too long, too many parts, or with a character that no name may hold.
    #[error("invalid model name")]
    Invalid,
    /// Both `:local` and `:cloud` were asked for.
    #[error("use either :local or :cloud, not both")]
    LocalAndCloud,
}

impl ModelName {
    /// Reads any spelling of a name.
    ///
    /// # Errors
    /// [`BadName`] where Ollama itself answers 400.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        if let Some(name) = plain(text) {
            return Ok(name);
        }
        let (name, source) = strip_source(text.trim())?;
        let name = name.split_once("://").map_or(name, |(_scheme, rest)| rest);
        let (path, tag) = match name.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, tag),
            _ => (name, DEFAULT_TAG),
        };
        let mut parts = path.rsplitn(3, '/');
        let model = parts.next().unwrap_or_default();
        let namespace = parts.next().unwrap_or(DEFAULT_NAMESPACE);
        let host = parts.next().unwrap_or(DEFAULT_HOST);
        let sound = is_part(model, PART_BYTES, ".")
            && is_part(tag, PART_BYTES, ".")
            && is_part(namespace, PART_BYTES, "")
            && is_part(host, HOST_BYTES, ".:");
        if !sound {
            return Err(BadName::Invalid);
        }
        let cloud = match source {
            Source::Local => false,
            Source::Cloud => true,
            Source::Unsaid => strip_ending(tag, "-cloud").is_some(),
        };
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
        match self.short.split_once('/') {
            Some((host, rest)) if rest.contains('/') => host,
            _ => DEFAULT_HOST,
        }
    }

    /// Whether Ollama would send a request for this name to its cloud service.
    #[must_use]
    pub fn is_cloud(&self) -> bool {
        self.cloud
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short)
    }
}

impl fmt::Debug for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelName({}{})", self.short, if self.cloud { " in the cloud" } else { "" })
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

enum Source {
    Unsaid,
    Local,
    Cloud,
}

fn strip_source(name: &str) -> Result<(&str, Source), BadName> {
    let (rest, source) = if let Some(rest) = strip_ending(name, ":local") {
        (rest, Source::Local)
    } else if let Some(rest) = strip_ending(name, ":cloud") {
        (rest, Source::Cloud)
    } else {
        return Ok((name, Source::Unsaid));
    };
    if strip_ending(rest, ":local").is_some() || strip_ending(rest, ":cloud").is_some() {
        return Err(BadName::LocalAndCloud);
    }
    Ok((rest, source))
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
            "a.b/demo",
            long.as_str(),
        ] {
            assert_eq!(ModelName::parse(text), Err(BadName::Invalid), "{text:?}");
        }
        assert_eq!(ModelName::parse("demo:cloud:local"), Err(BadName::LocalAndCloud));
    }

    #[test]
    fn cloud_names_are_seen() {
        assert!(ModelName::parse("demo:cloud").unwrap().is_cloud());
        assert!(ModelName::parse("demo:1B-Cloud").unwrap().is_cloud());
        assert!(!ModelName::parse("demo:1b-cloud:local").unwrap().is_cloud());
        assert!(!ModelName::parse("my-cloud").unwrap().is_cloud());
        let shown = format!("{:?}", ModelName::parse("Demo:cloud").unwrap());
        assert_eq!(shown, "ModelName(demo:latest in the cloud)");
    }

    proptest! {
        #[test]
        fn the_short_way_and_the_long_way_read_the_same(text in "[a-z0-9_.:-]{1,100}|[a-z]{1,3}[:-](cloud|local)") {
            let long = ModelName::parse(&format!("registry.ollama.ai/library/{text}"));
            prop_assert_eq!(ModelName::parse(&text), long);
        }

        #[test]
        fn a_canonical_name_is_its_own_spelling(text in "[a-zA-Z0-9_./:-]{1,40}") {
            if let Ok(name) = ModelName::parse(&text) && !name.is_cloud() {
                prop_assert_eq!(ModelName::parse(name.short()).unwrap(), name);
            }
        }
    }
}
