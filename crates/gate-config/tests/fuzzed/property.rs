//! What must hold for any bytes as settings: the properties that corpus replay and fuzz targets share.

use gate_config::{
    Config, FileAccess, Flags, KeyPart, Loaded, Sources, UpstreamUrl, changes, ollama_host, to_toml,
};
use std::io;
use std::path::Path;

struct NoFiles;

impl FileAccess for NoFiles {
    fn read(&self, _path: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// The forms themselves are another crate's; here it is enough that some are good and some are not.
fn key_form(part: KeyPart<'_>) -> Result<String, (String, &'static str)> {
    let (KeyPart::Name(text) | KeyPart::Digest(text) | KeyPart::Model(text)) = part;
    let is_good = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b':' | b'*'));
    if is_good { Ok(text.to_ascii_lowercase()) } else { Err(("is odd".to_owned(), "write it otherwise")) }
}

fn route_form(path: &str) -> Result<(), (String, &'static str)> {
    let is_good = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/{}".contains(&b));
    if is_good { Ok(()) } else { Err(("is odd".to_owned(), "write it otherwise")) }
}

fn load(text: &str) -> Result<Loaded, Vec<gate_config::Problem>> {
    let sources = Sources {
        flags: Flags::default(),
        env: [].into(),
        file: Some(("herdgate.toml".into(), text.to_owned())),
        files: &NoFiles,
        token_form: |_| Ok(()),
        key_form,
        route_form,
    };
    gate_config::load(&sources)
}

/// Reads `bytes` as a settings file: problems are told in one line each and in order; what is fine is written out as
/// settings that mean the same.
pub(crate) fn settings(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match load(&text) {
        Err(problems) => {
            assert!(!problems.is_empty() && problems.is_sorted(), "{text}");
            for problem in &problems {
                let told = problem.to_string();
                assert!(!told.chars().any(char::is_control), "{told:?}");
            }
        }
        Ok(loaded) => {
            let written = to_toml(&loaded, false);
            let again = load(&written).unwrap_or_else(|problems| panic!("{written}\n{problems:#?}"));
            // Upstreams that nobody gave are written as a comment, and of keys only what may be shown.
            let Config { upstreams_given, keys, .. } = loaded.config.clone();
            let mut upstreams = again.config.upstreams;
            for (again, upstream) in upstreams.iter_mut().zip(&loaded.config.upstreams) {
                again.headers.clone_from(&upstream.headers);
            }
            let again =
                Loaded { config: Config { upstreams, upstreams_given, keys, ..again.config }, ..again };
            assert_eq!(again.config, loaded.config, "{written}");
            assert_eq!(changes(&loaded, &again), [], "{written}");
        }
    }
}

/// Reads `bytes` as the value of `OLLAMA_HOST`: what it means is an upstream that settings may name.
pub(crate) fn host(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match ollama_host(&text) {
        Err(bad) => assert!(!bad.to_string().contains('\n') && !bad.hint().is_empty(), "{text}"),
        Ok(reading) => {
            let shown = reading.url.to_string();
            assert!(!shown.chars().any(|c| c.is_control() || c == '@'), "{shown:?}");
            let again = UpstreamUrl::parse(&shown).unwrap_or_else(|bad| panic!("{text:?} {shown:?}: {bad}"));
            assert_eq!(again, reading.url, "{text:?}");
        }
    }
}
