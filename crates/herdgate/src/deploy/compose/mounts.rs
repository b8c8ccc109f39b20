//! What containers of a stack are given of this machine's files: the settings, what the settings name, and the key.

use super::yaml::{Map, Node};
use super::{ComposeArgs, Mode, place};
use crate::deploy::{Ground, tame_path};
use gate_config::{Place, SecretFile};
use std::path::{Path, PathBuf};

/// Where the gate of an image looks for its settings, and paths of them begin.
const ETC: &str = "/etc/herdgate";
/// The secret that the key is.
const KEY: &str = "auth-token";
/// The secret that the authority of a gate elsewhere is: not one, but mounted like one.
const CA: &str = "gate-ca";

/// Files of the machine that containers see.
pub(super) struct Mounts {
    /// The settings file.
    settings: Option<String>,
    files: Vec<File>,
    key: Option<Key>,
    /// The authority of a gate elsewhere.
    ca: Option<String>,
    /// Variables of this environment that the stack would not have.
    lost: Vec<String>,
    is_coolify: bool,
}

/// A file that the settings name.
struct File {
    name: String,
    source: String,
    target: String,
}

struct Key {
    source: String,
    /// How it comes to be, where nobody named one.
    how: Option<&'static str>,
}

impl Mounts {
    pub(super) fn of(asked: &ComposeArgs, ground: &Ground<'_>, mode: Mode) -> anyhow::Result<Self> {
        let mut made = Mounts {
            settings: None,
            files: Vec::new(),
            key: key(asked, mode)?,
            ca: asked.ca.as_deref().map(|file| place("--ca", file)).transpose()?,
            lost: Vec::new(),
            is_coolify: asked.coolify,
        };
        if mode == Mode::Consumer {
            return Ok(made);
        }
        made.lost = lost(ground);
        if let Some(file) = &ground.loaded.file {
            // What lies where the command is run lies beside the stack.
            let file = file.strip_prefix(ground.here).unwrap_or(file);
            let file = if asked.coolify { ground.absolute(file) } else { file.to_owned() };
            made.settings = Some(place("the settings file's path", &file)?);
        }
        for (name, path) in named(ground) {
            let from = if asked.coolify { ground.absolute(&path) } else { path.clone() };
            let target = Path::new(ETC).join(&path);
            let target = tame_path("a path of the settings", &target)?.to_owned();
            let source = place("a path of the settings", &from)?;
            if !made.files.iter().any(|file| file.target == target) {
                made.files.push(File { name, source, target });
            }
        }
        Ok(made)
    }

    /// The file of the key, and how it comes to be.
    pub(super) fn key_file(&self) -> Option<(&str, Option<&'static str>)> {
        self.key.as_ref().map(|key| (key.source.as_str(), key.how))
    }

    /// Where a container that has the key finds it.
    pub(super) fn key_inside(&self) -> Option<String> {
        self.key.as_ref().map(|_| format!("/run/secrets/{KEY}"))
    }

    /// Where `connect` finds the authority of the gate.
    pub(super) fn ca_inside(&self) -> Option<String> {
        self.ca.as_ref().map(|_| format!("/run/secrets/{CA}"))
    }

    /// The secrets of `connect`.
    pub(super) fn of_connect(&self) -> Vec<String> {
        let ca = self.ca.iter().map(|_| CA.to_owned());
        self.key_alone().into_iter().chain(ca).collect()
    }

    /// What a service that has the key alone is given.
    fn key_alone(&self) -> Vec<String> {
        self.key.iter().map(|_| KEY.to_owned()).collect()
    }

    /// The volumes of the gate that are files.
    pub(super) fn volumes(&self) -> Vec<String> {
        let settings = self.settings.iter().map(|file| format!("{file}:{ETC}/herdgate.toml:ro"));
        let files = self.files.iter().filter(|_| self.is_coolify);
        settings.chain(files.map(|file| format!("{}:{}:ro", file.source, file.target))).collect()
    }

    /// The secrets of the gate.
    pub(super) fn of_gate(&self) -> Node {
        let mut all: Vec<Node> = self.key_alone().into_iter().map(Node::Text).collect();
        for file in self.files.iter().filter(|_| !self.is_coolify) {
            let mut one = Map::default();
            one.put("source", file.name.clone()).put("target", file.target.clone());
            all.push(one.into());
        }
        Node::List(all)
    }

    /// The section of the file.
    pub(super) fn secrets(&self) -> Map {
        let mut secrets = Map::default();
        let files = self.files.iter().filter(|_| !self.is_coolify);
        let key = self.key.iter().map(|key| (KEY, key.source.as_str()));
        let ca = self.ca.iter().map(|file| (CA, file.as_str()));
        for (name, source) in
            key.chain(ca).chain(files.map(|file| (file.name.as_str(), file.source.as_str())))
        {
            let mut one = Map::default();
            one.put("file", source);
            secrets.put(name, one);
        }
        secrets
    }

    pub(super) fn notes(&self, owner: &str) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.lost.is_empty() {
            notes.push(format!(
                "the stack does not have this environment: write what {} says into the settings file",
                self.lost.join(", ")
            ));
        }
        let files: Vec<&str> = self.settings.iter().map(String::as_str).collect();
        let files: Vec<&str> =
            files.into_iter().chain(self.files.iter().map(|file| file.source.as_str())).collect();
        if owner != "0" && !files.is_empty() {
            notes.push(format!(
                "the gate is user {owner} in its container and must be able to read {}: setfacl -m u:{owner}:r FILE",
                files.join(", ")
            ));
        }
        if let Some(file) = &self.ca {
            notes.push(format!("{file} is the gate's tls-ca.pem, which holds no secret: chmod 0644 {file}"));
        }
        if let Some(key) = &self.key {
            notes.push(format!(
                "{} holds the key, one line, for user {owner} alone (chown {owner}, chmod 0400)",
                key.source
            ));
        }
        notes
    }
}

fn key(asked: &ComposeArgs, mode: Mode) -> anyhow::Result<Option<Key>> {
    if asked.coolify {
        return Ok(None);
    }
    if let Some(file) = &asked.auth_token_file {
        return Ok(Some(Key { source: place("--auth-token-file", file)?, how: None }));
    }
    let needs = mode == Mode::Consumer || asked.open_webui || asked.n8n;
    let how = match mode {
        Mode::Consumer => "herdgate key create this-stack > auth-token    # at the gate",
        Mode::Stack | Mode::AllInOne | Mode::Provider => "openssl rand -hex 32 > auth-token",
    };
    Ok(needs.then(|| Key { source: "./auth-token".to_owned(), how: Some(how) }))
}

/// The files that the settings name, and what each is called as a secret.
fn named(ground: &Ground<'_>) -> Vec<(String, PathBuf)> {
    let config = ground.config();
    let tls = &config.tls;
    let own = [
        ("tls-cert", &tls.cert),
        ("tls-key", &tls.key),
        ("tls-client-ca", &tls.client_ca),
        ("tls-acme-ca", &tls.acme.ca),
    ];
    let mut all: Vec<(String, PathBuf)> =
        own.into_iter().filter_map(|(name, path)| Some((name.to_owned(), path.clone()?))).collect();
    for (place, upstream) in config.upstreams.iter().enumerate() {
        let client = upstream.client.as_ref();
        let files: [(&str, Option<&SecretFile>); 4] = [
            ("token", upstream.token.as_ref()),
            ("ca", upstream.ca.as_ref()),
            ("client-cert", client.map(|(cert, _)| cert)),
            ("client-key", client.map(|(_, key)| key)),
        ];
        all.extend(
            files.into_iter().filter_map(|(name, file)| {
                Some((format!("upstream{}-{name}", place + 1), file?.path.clone()))
            }),
        );
    }
    all
}

/// Variables that say what the stack does not say in their place.
fn lost(ground: &Ground<'_>) -> Vec<String> {
    let said = ["upstreams", "listen.address", "local.models"];
    let mut names: Vec<String> = ground
        .loaded
        .origins
        .iter()
        .filter(|(key, _)| !said.contains(key))
        .filter_map(|(_, place)| match place {
            Place::Env { name, .. } => Some(name.clone()),
            Place::File { .. } | Place::Flag { .. } | Place::Path(_) => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}
