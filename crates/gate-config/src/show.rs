//! The settings as they are: rows for a table or JSON, and TOML that herdgate reads back as the same settings.
//!
//! Never shows the token, only whether there is one and where from.

use crate::check::Loaded;
use crate::config::Config;
use crate::keys::KeySetting;
use crate::listener::Listener;
use crate::problem::{Place, Plain};
use crate::route::{self, RouteSetting};
use crate::setting::{Form, SETTINGS, Setting};
use crate::units::show_duration;
use crate::upstream::{self, Upstream};
use std::fmt::Write;

/// A value as it stands in a settings file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// Between quotes.
    Text(String),
    /// A whole number.
    Number(u64),
    /// `true` or `false`.
    Switch(bool),
    /// Texts.
    List(Vec<String>),
    /// Texts by name.
    Table(Vec<(String, String)>),
}

/// One setting: its name, its value, where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// `section.key`, or `AUTH_TOKEN`.
    pub key: &'static str,
    /// The value; of the token a mask.
    pub value: Shown,
    /// File and line, variable or flag; `None` for a default.
    pub origin: Option<String>,
}

/// The row of a listener that is more than an address.
const LISTENER: &str = "listen";
/// What stands for a secret.
pub(crate) const MASK: &str = "…";

/// Every setting, and the token if there is one.
#[must_use]
pub fn rows(loaded: &Loaded) -> Vec<Row> {
    let setting = |setting: &Setting| Row {
        key: setting.key,
        value: shown(setting, &loaded.config),
        origin: loaded.origins.get(setting.key).map(Place::origin),
    };
    let token = loaded.config.auth_token.iter().map(|token| Row {
        key: "AUTH_TOKEN",
        value: Shown::Text(MASK.to_owned()),
        origin: Some(token.place.origin()),
    });
    let upstream = |upstream: &Upstream| Row {
        key: upstream::SECTION,
        value: Shown::Text(upstream.lines().join(", ").replace('"', "'")),
        origin: loaded.origins.get("upstreams").map(Place::origin),
    };
    let upstreams = loaded.config.upstreams.iter().filter(|upstream| !upstream.is_plain()).map(upstream);
    let key = |key: &KeySetting| Row {
        key: "key",
        value: Shown::Text(format!(
            "{}: digest {MASK}, scopes {}, models {}",
            key.name,
            key.scopes,
            if key.models.is_empty() { "all".to_owned() } else { key.models.join(",") }
        )),
        origin: Some(key.place.origin()),
    };
    let keys = loaded.config.keys.iter().map(key);
    let route = |route: &RouteSetting| Row {
        key: route::SECTION,
        value: Shown::Text(route.lines().join(", ").replace('"', "'")),
        origin: Some(route.place.origin()),
    };
    let routes = loaded.config.routes.iter().map(route);
    let listener = |listener: &Listener| Row {
        key: LISTENER,
        value: Shown::Text(listener.lines().join(", ").replace('"', "'")),
        origin: loaded.origins.get("listen.address").map(Place::origin),
    };
    let listeners = loaded.config.listen.iter().filter(|listener| listener.has_rules()).map(listener);
    SETTINGS
        .iter()
        .map(setting)
        .chain(upstreams)
        .chain(listeners)
        .chain(routes)
        .chain(keys)
        .chain(token)
        .collect()
}

/// The settings as a file. With `origin` each line says where its value came from.
///
/// Upstreams that nobody gave are a comment: given in a file they would keep the gate from starting an Ollama itself.
#[must_use]
pub fn to_toml(loaded: &Loaded, origin: bool) -> String {
    let mut out = String::new();
    let mut section = None;
    let mut routes = loaded.config.routes.iter();
    for row in rows(loaded) {
        let from = match &row.origin {
            _ if !origin => String::new(),
            Some(origin) => format!("  # from {origin}"),
            None => "  # default".to_owned(),
        };
        let (here, name) =
            row.key.rsplit_once('.').map_or((None, row.key), |(section, name)| (Some(section), name));
        if row.key == upstream::SECTION {
            // Told with the setting of which they are a part.
            continue;
        }
        if row.key == "upstreams" && loaded.config.upstreams.iter().any(|upstream| !upstream.is_plain()) {
            for upstream in &loaded.config.upstreams {
                line(&mut out, format_args!("\n[[upstream]]{from}\n{}", upstream.lines().join("\n")));
            }
            continue;
        }
        if row.key == "listen.address" {
            listeners(&mut out, &loaded.config.listen, &from);
            section = here;
            continue;
        }
        if row.key == LISTENER {
            continue;
        }
        if row.key == route::SECTION {
            // One row for each, in the same order.
            let lines = routes.next().map(|route| route.lines().join("\n")).unwrap_or_default();
            line(&mut out, format_args!("\n[[route]]{from}\n{lines}"));
            continue;
        }
        if here != section
            && let Some(here) = here
        {
            line(&mut out, format_args!("\n[{here}]"));
        }
        section = here;
        let value = toml_text(&row.value);
        match row.key {
            // A comment, since it could not be read back without its digest.
            "key" => line(&mut out, format_args!("\n# [[{name}]] {}{from}", Plain(&text_of(&row.value)))),
            "AUTH_TOKEN" => line(&mut out, format_args!("\n# {name} = {value}{from}")),
            // So could not this one either, and the values are nobody's to read.
            "local.env" if is_masked(&row.value) => line(&mut out, format_args!("# {name} = {value}{from}")),
            "upstreams" if row.origin.is_none() => line(&mut out, format_args!("# {name} = {value}{from}")),
            _ => line(&mut out, format_args!("{name} = {value}{from}")),
        }
    }
    out
}

fn text_of(value: &Shown) -> String {
    match value {
        Shown::Text(text) => text.clone(),
        Shown::Number(_) | Shown::Switch(_) | Shown::List(_) | Shown::Table(_) => toml_text(value),
    }
}

/// One `[listen]`, or `[[listen]]` for each of several.
fn listeners(out: &mut String, listeners: &[Listener], from: &str) {
    let head = if listeners.len() == 1 { "[listen]" } else { "[[listen]]" };
    for listener in listeners {
        line(out, format_args!("\n{head}"));
        for setting in listener.lines() {
            line(out, format_args!("{setting}{from}"));
        }
    }
}

/// The value of a setting in `config`.
pub(crate) fn shown(setting: &Setting, config: &Config) -> Shown {
    // Slots are one function for reading and writing; a copy keeps the original out of reach.
    let mut config = config.clone();
    match &setting.form {
        Form::Upstreams => {
            Shown::List(config.upstreams.iter().map(|upstream| upstream.url.to_string()).collect())
        }
        Form::Listeners => Shown::List(config.listen.iter().map(ToString::to_string).collect()),
        Form::Switch { slot } => Shown::Switch(*slot(&mut config)),
        Form::Size { slot, .. } => Shown::Text(slot(&mut config).to_string()),
        Form::Time { slot, .. } => Shown::Text(show_duration(*slot(&mut config))),
        Form::MaybeTime { slot, .. } => {
            Shown::Text(slot(&mut config).map_or_else(|| "none".to_owned(), show_duration))
        }
        Form::Networks { slot, .. } => {
            Shown::List(slot(&mut config).iter().map(ToString::to_string).collect())
        }
        Form::Count { slot, .. } => Shown::Number(u64::try_from(*slot(&mut config)).unwrap_or(u64::MAX)),
        Form::Listener { slot } => {
            Shown::Text(slot(&mut config).map_or_else(|| "none".to_owned(), |door| door.to_string()))
        }
        Form::Models { slot, .. } => Shown::List(slot(&mut config).iter().map(ToString::to_string).collect()),
        Form::Variables { slot, .. } => {
            let masked = |(name, value): (&String, &String)| {
                let value = if is_secret(name, value) { MASK.to_owned() } else { value.clone() };
                (name.clone(), value)
            };
            Shown::Table(slot(&mut config).iter().map(masked).collect())
        }
        Form::File { slot, .. } | Form::Folder { slot, .. } => {
            let path = slot(&mut config).as_ref();
            Shown::Text(path.map_or_else(|| "none".to_owned(), |path| path.display().to_string()))
        }
        Form::Threads { .. } => match config.server.threads {
            Some(threads) => Shown::Number(threads.into()),
            None => Shown::Text("auto".to_owned()),
        },
        Form::Texts { slot, .. } => Shown::List(slot(&mut config).clone()),
        Form::Line { get, .. } => Shown::Text(get(&config).unwrap_or("none").to_owned()),
        Form::Domains { .. } => Shown::List(config.tls.domains.clone()),
        Form::Origins { .. } => Shown::List(config.cors.origins.iter().map(ToString::to_string).collect()),
        Form::Word { get, .. } => Shown::Text(get(&config).to_owned()),
    }
}

/// Whether a variable of a started program is one that nobody shall read over a shoulder: a password in a proxy's address too.
fn is_secret(name: &str, value: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let says_so = ["KEY", "TOKEN", "SECRET", "PASSWORD"].iter().any(|word| name.contains(word));
    says_so || value.contains('@')
}

fn is_masked(value: &Shown) -> bool {
    matches!(value, Shown::Table(pairs) if pairs.iter().any(|(_, value)| value == MASK))
}

/// A value in TOML.
pub(crate) fn toml_text(value: &Shown) -> String {
    match value {
        Shown::Text(text) => quoted(text),
        Shown::Number(number) => number.to_string(),
        Shown::Switch(switch) => switch.to_string(),
        Shown::List(items) => {
            format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "))
        }
        // A variable's name needs no quotes.
        Shown::Table(pairs) if pairs.is_empty() => "{}".to_owned(),
        Shown::Table(pairs) => {
            let pair = |(name, value): &(String, String)| format!("{name} = {}", quoted(value));
            format!("{{ {} }}", pairs.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
    }
}

/// Between quotes. No value of ours holds a quote, a backslash or a control character; the checks see to that.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn line(out: &mut String, line: std::fmt::Arguments<'_>) {
    // A String takes whatever is written to it.
    let _always_ok: std::fmt::Result = writeln!(out, "{line}");
}
