//! The values of one table, each read with its bounds; what is wrong is gathered and the rest read on.

use super::{Header, MOST_HEADERS, MOST_WANTED, MOST_WEIGHT, SecretFile};
use crate::problem::{Place, Plain, Problem};
use crate::read::{count, measure, path, text, wants};
use crate::setting::Setting;
use crate::spec::{Item, Raw};
use crate::tables::Field;
use crate::token::FileAccess;
use crate::units::{duration, show_duration};
use crate::upstream_url::UpstreamUrl;
use gate_types::{ModelName, Secret};
use std::collections::BTreeMap;
use std::time::Duration;

/// Fields that the gate or the framing of a request writes; lower case.
const NOT_HEADERS: &[&str] = &[
    "accept",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "herdgate-hops",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-request-id",
];

/// Reads one table.
pub(super) struct Reader<'r> {
    pub(super) items: &'r BTreeMap<&'r str, &'r Field>,
    pub(super) files: &'r dyn FileAccess,
    pub(super) problems: &'r mut Vec<Problem>,
}

impl Reader<'_> {
    /// The value of a setting that is there, or a problem more.
    fn value<T>(&mut self, name: &str, read: impl FnOnce(&Item) -> Result<T, Problem>) -> Option<T> {
        let item = &self.items.get(name)?.item;
        read(item).map_err(|problem| self.problems.push(problem)).ok()
    }

    pub(super) fn url(&mut self) -> Option<UpstreamUrl> {
        self.value("url", crate::read::upstream_url)
    }

    pub(super) fn name(&mut self) -> Option<String> {
        self.value("name", |item| {
            let name = text(item, "a name")?;
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            if (1..=64).contains(&name.len()) && name.bytes().all(is_plain) {
                return Ok(name.to_owned());
            }
            let reason = format!("\"{}\" is no upstream's name", Plain(name));
            Err(Problem::new(item.place.clone(), reason).hint("names are 1 to 64 of A-Z a-z 0-9 . _ -"))
        })
    }

    pub(super) fn is_ollama(&mut self) -> bool {
        let read = |item: &Item| match &item.raw {
            Raw::Switch(switch) => Ok(*switch),
            _ => Err(wants(item, "true or false")
                .hint("ollama = false: it speaks something else, which a [[route]] leads to")),
        };
        self.value("ollama", read).unwrap_or(true)
    }

    pub(super) fn weight(&mut self) -> u32 {
        self.value("weight", |item| count(item, 1, MOST_WEIGHT, "")).unwrap_or(1)
    }

    pub(super) fn slots(&mut self) -> Option<usize> {
        self.value("slots", |item| count(item, 1, 65_536, ""))
    }

    /// Within the bounds of the setting of `[timeouts]` that it stands in for.
    pub(super) fn time(&mut self, name: &str) -> Option<Duration> {
        self.value(name, |item| {
            let bounds = Setting::find(Some("timeouts"), name).and_then(Setting::time_bounds);
            let (least, most) = bounds.unwrap_or((Duration::ZERO, Duration::MAX));
            measure(item, duration, &least, &most, |time| show_duration(*time), "10s")
        })
    }

    pub(super) fn token(&mut self) -> Option<SecretFile> {
        let found = self.file("token_file", "")?;
        let line = found.text.expose().trim_end_matches(['\r', '\n']);
        let is_token = !line.is_empty() && line.bytes().all(|b| b.is_ascii_graphic());
        if is_token {
            return Some(SecretFile { text: Secret::new(line.to_owned()), ..found });
        }
        let reason = format!("{} holds no token", Plain(&found.path.to_string_lossy()));
        let hint = "the file holds the token alone, on one line, without \"Bearer\"";
        let place = self.items.get("token_file")?.item.place.clone();
        self.problems.push(Problem::new(place, reason).hint(hint));
        None
    }

    /// A file that holds this mark.
    pub(super) fn file(&mut self, name: &'static str, mark: &str) -> Option<SecretFile> {
        let files = self.files;
        self.value(name, |item| {
            let Some(path) = path(item, "a file's path", &format!("{name} = \"/etc/herdgate/{name}.pem\""))?
            else {
                return Ok(None);
            };
            let shown = path.display().to_string();
            let bad = |reason: String| Problem::new(item.place.clone(), reason);
            let text = files.read(&path).map_err(|error| {
                bad(format!("cannot read {}: {}", Plain(&shown), Plain(&error.to_string())))
            })?;
            let text = Secret::new(text);
            if !text.expose().contains(mark) {
                let problem = bad(format!("{} holds nothing in PEM that {name} wants", Plain(&shown)));
                return Err(problem.hint(format!("name the file with {mark}")));
            }
            Ok(Some(SecretFile { path, text }))
        })
        .flatten()
    }

    /// The certificate that is shown to the upstream, with its key.
    pub(super) fn pair(&mut self, place: &Place) -> Option<(SecretFile, SecretFile)> {
        let cert = self.file("client_cert", "BEGIN CERTIFICATE");
        let key = self.file("client_key", "PRIVATE KEY");
        let has = |name| self.items.contains_key(name);
        let lacks = match (has("client_cert"), has("client_key")) {
            (true, false) => "client_cert without client_key",
            (false, true) => "client_key without client_cert",
            (true, true) | (false, false) => return cert.zip(key),
        };
        let problem = Problem::new(place.clone(), lacks).hint("name both files of the pair, or neither");
        self.problems.push(problem);
        None
    }

    pub(super) fn headers(&mut self) -> Vec<Header> {
        let Some(Field { item, .. }) = self.items.get("headers") else { return Vec::new() };
        let Raw::Table(fields) = &item.raw else {
            self.problems.push(wants(item, "a table").hint("write headers = { X-Api-Key = \"…\" }"));
            return Vec::new();
        };
        if fields.len() > MOST_HEADERS {
            let reason = format!("headers holds {} fields; {MOST_HEADERS} are allowed", fields.len());
            self.problems.push(Problem::new(item.place.clone(), reason));
        }
        let mut headers: Vec<Header> = Vec::new();
        for Field { name, place, item } in fields {
            let is_twice = headers.iter().any(|other| other.name.eq_ignore_ascii_case(name));
            match header(name, item) {
                Ok(_) if is_twice => {
                    let reason = format!("the field {} stands here twice", Plain(name));
                    self.problems.push(Problem::new(place.clone(), reason));
                }
                Ok(header) => headers.push(header),
                Err(problem) => self.problems.push(problem),
            }
        }
        headers
    }

    pub(super) fn models(&mut self) -> Vec<ModelName> {
        let Some(Field { item, .. }) = self.items.get("models") else { return Vec::new() };
        let Raw::List(items) = &item.raw else {
            self.problems.push(wants(item, "a list of models").hint("write models = [\"qwen3:8b\"]"));
            return Vec::new();
        };
        if items.len() > MOST_WANTED {
            let reason = format!("models holds {} names; {MOST_WANTED} are allowed", items.len());
            self.problems.push(Problem::new(item.place.clone(), reason));
            return Vec::new();
        }
        let mut models: Vec<ModelName> = Vec::new();
        for item in items {
            let read = text(item, "a model's name").and_then(|text| {
                ModelName::parse(text).map_err(|bad| {
                    let reason = format!("\"{}\" is no model's name: {bad}", Plain(text));
                    Problem::new(item.place.clone(), reason)
                })
            });
            match read {
                Ok(model) if models.contains(&model) => {}
                Ok(model) => models.push(model),
                Err(problem) => self.problems.push(problem),
            }
        }
        models
    }
}

/// One field; its value is shown nowhere.
fn header(name: &str, item: &Item) -> Result<Header, Problem> {
    let bad = |reason: String| Problem::new(item.place.clone(), reason);
    // RFC 9110, 5.6.2; and no "_", which some take for "-".
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^`|~".contains(&b);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_token) {
        return Err(bad(format!("\"{}\" is no name of a field", Plain(name))));
    }
    if NOT_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(bad(format!("herdgate writes the field {name} itself")));
    }
    let value = text(item, "a field's value")?;
    let is_value = |b: u8| b == b'\t' || (b >= b' ' && b != 0x7f);
    if value.is_empty() || value.len() > 4096 || value.trim() != value || !value.bytes().all(is_value) {
        let reason = format!("the value of {name} is empty, too long, or not what a field can hold");
        return Err(bad(reason));
    }
    Ok(Header { name: name.to_owned(), value: Secret::new(value.to_owned()) })
}
