//! Short ways to say things to `gate_config::load` in tests.

use gate_config::{FileAccess, Flags, KeyPart, Loaded, Sources};
use std::io;
use std::path::Path;

/// What somebody said, in few words.
#[derive(Default, Clone, Copy)]
pub(crate) struct Said<'a> {
    pub(crate) file: Option<&'a str>,
    pub(crate) env: &'a [(&'a str, &'a str)],
    pub(crate) upstream: &'a [&'a str],
    pub(crate) listen: &'a [&'a str],
    pub(crate) no_local: bool,
}

/// The few files that there are.
struct FewFiles;

impl FileAccess for FewFiles {
    fn read(&self, path: &Path) -> io::Result<String> {
        match path.to_str() {
            Some("/t/token") => Ok("canary-token\n".to_owned()),
            Some("/t/empty") => Ok("\n".to_owned()),
            Some("/t/cert.pem") => Ok("-----BEGIN CERTIFICATE-----\n".to_owned()),
            Some("/t/key.pem") => Ok("-----BEGIN PRIVATE KEY-----\ncanary\n".to_owned()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }
}

/// Loads it; problems as they are shown.
pub(crate) fn load(said: Said<'_>) -> Result<Loaded, Vec<String>> {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let sources = Sources {
        flags: Flags {
            upstream: owned(said.upstream),
            listen: owned(said.listen),
            no_local: said.no_local,
            ..Flags::default()
        },
        env: said.env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        file: said.file.map(|text| ("herdgate.toml".into(), text.to_owned())),
        files: &FewFiles,
        key_form: |part| match part {
            KeyPart::Name(text) | KeyPart::Model(text) if text.contains(' ') => {
                Err(("holds a blank".to_owned(), "leave it out"))
            }
            KeyPart::Digest(text) if !text.starts_with("sha256:") => {
                Err(("is no digest".to_owned(), "make one"))
            }
            KeyPart::Name(text) | KeyPart::Digest(text) | KeyPart::Model(text) => {
                Ok(text.to_ascii_lowercase())
            }
        },
        route_form: |path| match path.starts_with("/api/") {
            true => Err(("is built in".to_owned(), "name another")),
            false => Ok(()),
        },
        token_form: |token| match token.expose() {
            "changeme" => Err(("the token is known to everybody".to_owned(), "make another")),
            _ => Ok(()),
        },
    };
    gate_config::load(&sources).map_err(|problems| problems.iter().map(ToString::to_string).collect())
}
