//! What was said, by whom and where: flags, variables and file as one list of [`Given`] values, nothing of it checked yet.
//!
//! Unknown names end here: an error in the file, a warning in the environment.

use crate::document;
use crate::keys::{self, KeyForm, KeySetting};
use crate::listener::{self, Listener};
use crate::nearest::nearest;
use crate::ollama_host::{Reading, ollama_host};
use crate::problem::{Place, Plain, Problem};
use crate::route::{self, RouteForm, RouteSetting};
use crate::setting::{SETTINGS, Setting};
use crate::tables::{Field, Table};
use crate::token::{self, AuthToken, FileAccess, TokenForm};
use crate::unread::Unread;
use crate::upstream::{self, Upstream};
use gate_types::{ModelName, OriginPattern};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// The settings that the command line knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--listen`, each one.
    pub listen: Vec<String>,
    /// `--upstream`, each one.
    pub upstream: Vec<String>,
    /// `--no-local`.
    pub no_local: bool,
    /// `--config`; used by [`crate::locate`].
    pub config: Option<PathBuf>,
    /// `--data`; used by [`crate::locate`].
    pub data: Option<PathBuf>,
}

/// All that settings are made from.
pub struct Sources<'a> {
    /// The command line.
    pub flags: Flags,
    /// The environment; see [`environment`].
    pub env: BTreeMap<String, String>,
    /// The settings file's name, as problems shall show it, and its text. `None` where there is none.
    pub file: Option<(PathBuf, String)>,
    /// Reads the files that variables name.
    pub files: &'a dyn FileAccess,
    /// What the parts of a key of the settings look like.
    pub key_form: KeyForm,
    /// What the path of a route of the settings looks like.
    pub route_form: RouteForm,
    /// What a token must be like.
    pub token_form: TokenForm,
}

/// The environment as [`Sources`] want it. Bytes that are not UTF-8 become U+FFFD, which no setting accepts.
pub fn environment(variables: impl IntoIterator<Item = (OsString, OsString)>) -> BTreeMap<String, String> {
    let text = |os: OsString| os.to_string_lossy().into_owned();
    variables.into_iter().map(|(name, value)| (text(name), text(value))).collect()
}

/// Who said it; a later one is heard over an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    Ollama,
    File,
    Env,
    Flag,
}

/// One value as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Raw {
    /// A text between quotes in the file.
    Text(String),
    /// A text from outside of the file, where nothing has quotes: the setting's form says what it is.
    Word(String),
    Number(i64),
    Switch(bool),
    List(Vec<Item>),
    /// A table of the file within another.
    Table(Vec<Field>),
    /// Read already.
    Read(Known),
    /// Something that no setting takes, by its name in TOML.
    Other(&'static str),
}

/// A value that has been read where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    Upstream(Box<Upstream>),
    Listener(Box<Listener>),
    Origin(OriginPattern),
    Model(ModelName),
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) place: Place,
    pub(crate) raw: Raw,
}

/// A setting that somebody gave.
pub(crate) struct Given {
    pub(crate) rank: Rank,
    pub(crate) setting: &'static Setting,
    pub(crate) item: Item,
}

/// All that was given, and what is wrong with it so far.
#[derive(Default)]
pub(crate) struct Spec {
    pub(crate) given: Vec<Given>,
    /// The tables of listeners.
    pub(crate) raw_listeners: Vec<Table>,
    /// The tables of keys, and then what they mean.
    pub(crate) raw_keys: Vec<Table>,
    /// The tables of upstreams.
    pub(crate) raw_upstreams: Vec<Table>,
    /// The tables of routes, and then what they mean.
    pub(crate) raw_routes: Vec<Table>,
    pub(crate) routes: Vec<RouteSetting>,
    pub(crate) keys: Vec<KeySetting>,
    pub(crate) auth_token: Option<AuthToken>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
    /// What was given and could not be read.
    pub(crate) unread: Unread,
    /// The settings file, where there is one.
    pub(crate) file: Option<PathBuf>,
}

impl Spec {
    /// Collects everything from all sources.
    pub(crate) fn gather(sources: &Sources<'_>) -> Self {
        let mut spec = Spec::default();
        if let Some((name, text)) = &sources.file {
            document::read(&mut spec, name, text);
            spec.file = Some(name.clone());
        }
        spec.gather_listeners(sources.key_form);
        match keys::read(std::mem::take(&mut spec.raw_keys), sources.key_form) {
            Ok(keys) => spec.keys = keys,
            Err(problems) => spec.problems.extend(problems),
        }
        match route::read(&std::mem::take(&mut spec.raw_routes), sources.route_form) {
            Ok(routes) => spec.routes = routes,
            Err(problems) => {
                spec.problems.extend(problems);
                spec.unread.add(route::SECTION);
            }
        }
        spec.gather_upstreams(sources.files);
        spec.gather_env(&sources.env);
        spec.gather_flags(&sources.flags);
        spec.gather_ollama(&sources.env);
        spec.gather_origins(&sources.env);
        spec.gather_models(&sources.env);
        match token::find(&sources.env, sources.files, sources.token_form) {
            Ok(token) => {
                spec.warnings.extend(token.as_ref().and_then(token::short));
                spec.auth_token = token;
            }
            Err(problems) => spec.problems.extend(problems),
        }
        spec
    }

    pub(crate) fn give(&mut self, rank: Rank, setting: &'static Setting, place: Place, raw: Raw) {
        self.given.push(Given { rank, setting, item: Item { place, raw } });
    }

    /// All tables of listeners are one value, which a flag or a variable replaces as a whole.
    fn gather_listeners(&mut self, form: KeyForm) {
        let Some(setting) = Setting::find(Some(listener::SECTION), "address") else { return };
        match listener::read(&std::mem::take(&mut self.raw_listeners), form) {
            Ok(items) => {
                if let Some(place) = items.first().map(|item| item.place.clone()) {
                    self.give(Rank::File, setting, place, Raw::List(items));
                }
            }
            Err(problems) => {
                self.problems.extend(problems);
                self.unread.add(setting.key);
            }
        }
    }

    /// `[[upstream]]`, all of them, as the setting `upstreams`: whoever names upstreams elsewhere is heard over all of them.
    fn gather_upstreams(&mut self, files: &dyn FileAccess) {
        let raw = std::mem::take(&mut self.raw_upstreams);
        let (Some(first), Some(setting)) = (raw.first(), Setting::find(None, "upstreams")) else { return };
        let place = first.place.clone();
        if let Some(list) = self.given.iter().find(|given| given.setting.key == setting.key) {
            let problem = Problem::new(place, format!("[[upstream]], and upstreams at {}", list.item.place));
            self.unread.add(setting.key);
            self.problems.push(problem.hint("write all of them in one way, [[upstream]] with url for each"));
            return;
        }
        match upstream::read(&raw, files) {
            Ok(upstreams) => {
                let known =
                    |(place, upstream)| Item { place, raw: Raw::Read(Known::Upstream(Box::new(upstream))) };
                let items = upstreams.into_iter().map(known).collect();
                self.give(Rank::File, setting, place, Raw::List(items));
            }
            Err(problems) => {
                self.problems.extend(problems);
                self.unread.add(setting.key);
            }
        }
    }

    fn gather_flags(&mut self, flags: &Flags) {
        let items = |name: &'static str, texts: &[String]| {
            let place = |at: usize| Place::Flag { name, item: (texts.len() > 1).then_some(at + 1) };
            let item = |(at, text): (usize, &String)| Item { place: place(at), raw: Raw::Word(text.clone()) };
            texts.iter().enumerate().map(item).collect::<Vec<_>>()
        };
        for (name, texts) in [("--upstream", &flags.upstream), ("--listen", &flags.listen)] {
            if let (false, Some(setting)) = (texts.is_empty(), by_flag(name)) {
                self.give(
                    Rank::Flag,
                    setting,
                    Place::Flag { name, item: None },
                    Raw::List(items(name, texts)),
                );
            }
        }
        let name = "--no-local";
        if let (true, Some(setting)) = (flags.no_local, by_flag(name)) {
            self.give(Rank::Flag, setting, Place::Flag { name, item: None }, Raw::Switch(false));
        }
    }

    /// Empty variables count as not given: container files pass variables on that nobody set.
    fn gather_env(&mut self, env: &BTreeMap<String, String>) {
        let mut known: BTreeMap<String, &'static Setting> =
            SETTINGS.iter().map(|setting| (setting.variable(), setting)).collect();
        // Stands before its long form in the order of names: the long form is heard where both are given.
        known.extend(Setting::find(Some("log"), "level").map(|level| (LOG_VARIABLE.to_owned(), level)));
        for (name, value) in env.iter().filter(|(name, _)| name.starts_with("HERDGATE_")) {
            let Some(setting) = known.get(name) else {
                if !is_no_setting(name) {
                    self.warnings.push(unknown_variable(name, known.keys().map(String::as_str)));
                }
                continue;
            };
            if value.contains('\u{fffd}') {
                self.problems.push(not_utf8(name));
                self.unread.add(setting.key);
            } else if !value.trim().is_empty() {
                self.give(Rank::Env, setting, Place::env(name), Raw::Word(value.trim().to_owned()));
            }
        }
    }

    /// `OLLAMA_ORIGINS`, where nobody else names origins. What Ollama would not start with is left out and told.
    fn gather_origins(&mut self, env: &BTreeMap<String, String>) {
        let name = "OLLAMA_ORIGINS";
        let Some(setting) = Setting::find(Some("cors"), "origins") else { return };
        let Some(list) =
            env.get(name).filter(|_| !self.given.iter().any(|given| given.setting.key == setting.key))
        else {
            return;
        };
        let place = Place::env(name);
        let mut origins: Vec<OriginPattern> = Vec::new();
        for text in list.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            match OriginPattern::parse(text) {
                Ok(pattern) if origins.contains(&pattern) => {}
                Ok(pattern) => origins.push(pattern),
                Err(bad) => {
                    let reason = format!("\"{}\" {bad}; it is left out", Plain(text));
                    self.warnings.push(Problem::new(place.clone(), reason));
                }
            }
        }
        if !origins.is_empty() {
            let item = |origin| Item { place: place.clone(), raw: Raw::Read(Known::Origin(origin)) };
            let items = origins.into_iter().map(item).collect();
            self.give(Rank::Ollama, setting, place.clone(), Raw::List(items));
        }
    }

    /// `OLLAMA_MODEL`, where nobody else names models. Other programs read it too: what is no name is left out and told.
    fn gather_models(&mut self, env: &BTreeMap<String, String>) {
        let name = "OLLAMA_MODEL";
        let Some(setting) = Setting::find(Some("local"), "models") else { return };
        if self.given.iter().any(|given| given.setting.key == setting.key) {
            return;
        }
        let place = Place::env(name);
        let mut models: Vec<ModelName> = Vec::new();
        let list = env.get(name).map(String::as_str).unwrap_or_default();
        for text in list.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            match ModelName::parse(text) {
                Ok(model) if models.contains(&model) => {}
                Ok(model) => models.push(model),
                Err(_) => {
                    let reason = format!("\"{}\" is no model's name; it is left out", Plain(text));
                    self.warnings.push(Problem::new(place.clone(), reason).hint("names look like qwen3:8b"));
                }
            }
        }
        if !models.is_empty() {
            let item = |model| Item { place: place.clone(), raw: Raw::Read(Known::Model(model)) };
            let items = models.into_iter().map(item).collect();
            self.give(Rank::Ollama, setting, place.clone(), Raw::List(items));
        }
    }

    /// The variables of Ollama's own clients, where nobody else names an upstream: the first that says something.
    fn gather_ollama(&mut self, env: &BTreeMap<String, String>) {
        let Some(setting) = Setting::find(None, "upstreams") else { return };
        // Another program's variable must not keep the gate from starting where it is not even heard.
        if self.given.iter().any(|given| given.setting.key == setting.key) {
            return;
        }
        let said = |name| {
            let value = env.get(name).filter(|value: &&String| !value.trim().is_empty());
            value.map(|value| (name, value))
        };
        let Some((name, value)) = OLLAMA_VARIABLES.into_iter().find_map(said) else { return };
        let place = Place::env(name);
        match ollama_host(value) {
            Ok(Reading { url, bad_port }) => {
                if bad_port {
                    let reason =
                        format!("has a port that cannot be read; {} is taken, as Ollama does", url.port);
                    self.warnings.push(Problem::new(place.clone(), reason));
                }
                let item = Item {
                    place: place.clone(),
                    raw: Raw::Read(Known::Upstream(Box::new(Upstream::at(url)))),
                };
                self.give(Rank::Ollama, setting, place, Raw::List(vec![item]));
            }
            Err(bad) => self.problems.push(Problem::new(place, bad.to_string()).hint(bad.hint())),
        }
    }
}

const OLLAMA_VARIABLES: [&str; 3] = ["OLLAMA_URL", "OLLAMA_BASE_URL", "OLLAMA_HOST"];

/// What one types to see more: short for the variable of `log.level`.
const LOG_VARIABLE: &str = "HERDGATE_LOG";

/// Variables of herdgate that are no settings: where things are, a client's key.
const NO_SETTINGS: [&str; 3] = ["HERDGATE_CONFIG", "HERDGATE_DATA", "HERDGATE_KEY"];

fn is_no_setting(name: &str) -> bool {
    NO_SETTINGS.contains(&name) || name.starts_with("HERDGATE_TEST_")
}

fn unknown_variable<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Problem {
    let problem = Problem::new(Place::env(name), "unknown variable, ignored");
    let rest = name.trim_start_matches("HERDGATE_");
    if rest.starts_with("AUTH_TOKEN") {
        return problem.hint(format!("did you mean {}?", Plain(rest)));
    }
    // Without what they all begin with, or everything would be near.
    let names = known.chain(NO_SETTINGS).filter_map(|name| name.strip_prefix("HERDGATE_"));
    match nearest(rest, names) {
        Some(near) => problem.hint(format!("did you mean HERDGATE_{near}?")),
        None => problem,
    }
}

pub(crate) fn not_utf8(name: &str) -> Problem {
    Problem::new(Place::env(name), "is not UTF-8")
}

fn by_flag(flag: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.flag == Some(flag))
}
