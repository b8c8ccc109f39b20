//! `[[route]]`: paths that are open beside the built-in ones, from tables of the file to checked [`RouteSetting`]s.
//!
//! What a path may look like, and which are built in, is told from above ([`RouteForm`]): the table of routes is no setting.

use crate::config::Config;
use crate::problem::{Place, Plain, Problem};
use crate::read::text;
use crate::show::quoted;
use crate::spec::{Item, Raw};
use crate::tables::{Table, get, unknown};
use crate::upstream::Upstream;
use gate_types::Scope;
use std::collections::BTreeMap;

/// The section's name.
pub(crate) const SECTION: &str = "route";
/// What may stand in it.
const FIELDS: [&str; 4] = ["path", "class", "upstream", "upgrade"];
/// Most routes: each request that the built-in ones do not take is compared with all of them.
pub(crate) const MOST_ROUTES: usize = 64;
/// What a route may ask of a key. `cloud` is about accounts at ollama.com, which no other path can be.
const CLASSES: [Scope; 4] = [Scope::Infer, Scope::Embed, Scope::Read, Scope::Manage];

/// Checks a route's path; gives reason and hint where it cannot be one.
pub type RouteForm = fn(&str) -> Result<(), (String, &'static str)>;

/// `[[route]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSetting {
    /// A path, or the beginning of one with `{rest}` behind it; no two have the same.
    pub path: String,
    /// The scope that a key needs.
    pub class: Scope,
    /// The name of the upstream that it leads to; there is one of that name.
    pub upstream: String,
    /// Whether WebSockets pass.
    pub upgrade: bool,
    /// Where it stands.
    pub place: Place,
}

impl RouteSetting {
    /// Whether these are the same routes, wherever they stand.
    pub(crate) fn are_same(some: &[Self], others: &[Self]) -> bool {
        let placed =
            |(one, other): (&Self, &Self)| *one == RouteSetting { place: one.place.clone(), ..other.clone() };
        some.len() == others.len() && some.iter().zip(others).all(placed)
    }

    /// All that is said of it, as it stands in a settings file.
    pub(crate) fn lines(&self) -> [String; 4] {
        let RouteSetting { path, class, upstream, upgrade, place: _ } = self;
        [
            format!("path = {}", quoted(path)),
            format!("class = {}", quoted(class.as_str())),
            format!("upstream = {}", quoted(upstream)),
            format!("upgrade = {upgrade}"),
        ]
    }
}

/// Reads all tables, or gives all problems of all of them.
pub(crate) fn read(raw: &[Table], form: RouteForm) -> Result<Vec<RouteSetting>, Vec<Problem>> {
    let (mut routes, mut problems) = (Vec::<RouteSetting>::new(), Vec::new());
    if let Some(first_too_many) = raw.get(MOST_ROUTES) {
        let reason = format!("holds more than {MOST_ROUTES} routes");
        let hint = "{rest} in a path stands for all that lies below it";
        problems.push(Problem::new(first_too_many.place.clone(), reason).hint(hint));
    }
    for table in raw.iter().take(MOST_ROUTES) {
        problems.extend(unknown(&table.fields, &FIELDS, " of a route"));
        routes.extend(one(table, form, &mut problems));
    }
    let mut paths = BTreeMap::new();
    for route in &routes {
        if let Some(other) = paths.insert(&route.path, &route.place) {
            let reason = format!("there is a route for {} at {other} already", route.path);
            problems.push(Problem::new(route.place.clone(), reason).hint("leave one of them out"));
        }
    }
    if problems.is_empty() { Ok(routes) } else { Err(problems) }
}

fn one(table: &Table, form: RouteForm, problems: &mut Vec<Problem>) -> Option<RouteSetting> {
    let mut wanted = |name: &str, example: &str| {
        let item = get(&table.fields, name);
        if item.is_none() {
            let problem = Problem::new(table.place.clone(), format!("a route without {name}"));
            problems.push(problem.hint(format!("write {name} = {example}")));
        }
        item
    };
    let path = wanted("path", "\"/tts/v1/{rest}\"");
    let class = wanted("class", "\"infer\"; a key needs this scope");
    let upstream = wanted("upstream", "\"NAME\", the name of an [[upstream]]");
    let mut take = |read: Result<String, Problem>| read.map_err(|problem| problems.push(problem)).ok();
    let path = path.and_then(|item| take(path_of(item, form)));
    let class = class.and_then(|item| take(class_of(item).map(|class| class.to_string())));
    let upstream = upstream.and_then(|item| take(text(item, "an upstream's name").map(str::to_owned)));
    let upgrade = match get(&table.fields, "upgrade").map(|item| (item, &item.raw)) {
        None => Some(false),
        Some((_, Raw::Switch(switch))) => Some(*switch),
        Some((item, _)) => {
            let problem = Problem::new(item.place.clone(), "upgrade wants true or false");
            problems.push(problem.hint("upgrade = true lets WebSockets pass"));
            None
        }
    };
    Some(RouteSetting {
        path: path?,
        class: class?.parse().ok()?,
        upstream: upstream?,
        upgrade: upgrade?,
        place: table.place.clone(),
    })
}

fn path_of(item: &Item, form: RouteForm) -> Result<String, Problem> {
    let path = text(item, "a path")?;
    match form(path) {
        Ok(()) => Ok(path.to_owned()),
        Err((reason, hint)) => {
            Err(Problem::new(item.place.clone(), format!("\"{}\" {reason}", Plain(path))).hint(hint))
        }
    }
}

fn class_of(item: &Item) -> Result<Scope, Problem> {
    let word = text(item, "a class")?;
    CLASSES.into_iter().find(|class| class.as_str() == word).ok_or_else(|| {
        let problem = Problem::new(item.place.clone(), format!("unknown class \"{}\"", Plain(word)));
        problem.hint("the classes are infer, embed, read and manage: the scope that a key needs")
    })
}

/// An upstream that is no Ollama, and that no route leads to: nobody would ever ask it anything.
pub(crate) fn unrouted(config: &Config, place: Option<&Place>) -> Option<Problem> {
    let is_routed = |upstream: &Upstream| {
        config.routes.iter().any(|route| upstream.name.as_ref() == Some(&route.upstream))
    };
    let lost = config.upstreams.iter().find(|upstream| !upstream.is_ollama && !is_routed(upstream))?;
    let reason = format!("no [[route]] leads to the upstream {lost}, which is no Ollama");
    let hint = "write [[route]] with path, class and upstream = its name, or leave out ollama = false";
    Some(Problem::new(place?.clone(), reason).hint(hint))
}

/// Routes that lead nowhere: to an upstream that nobody has given this name.
pub(crate) fn astray(config: &Config) -> Vec<Problem> {
    let names: Vec<&str> = config.upstreams.iter().filter_map(|upstream| upstream.name.as_deref()).collect();
    let is_astray = |route: &&RouteSetting| !names.contains(&route.upstream.as_str());
    let problem = |route: &RouteSetting| {
        let reason = format!("no upstream has the name \"{}\"", Plain(&route.upstream));
        let problem = Problem::new(route.place.clone(), reason);
        if names.is_empty() {
            return problem.hint("give the upstream its name: [[upstream]], and below it url and name");
        }
        problem.hint(format!("there are {}", names.join(", ")))
    };
    config.routes.iter().filter(is_astray).map(problem).collect()
}
