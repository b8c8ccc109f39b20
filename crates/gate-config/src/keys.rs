//! `[[key]]`: keys that stand in the settings by their digest, from tables of the file to checked [`KeySetting`]s.
//!
//! What a name, a digest and a pattern look like is told from above ([`KeyForm`]), as keys are no settings. A digest is
//! never shown: somebody may have written the key itself there.

use crate::nearest::nearest;
use crate::problem::{Place, Plain, Problem};
use crate::spec::{Item, Raw};
use crate::tables::Table;
use gate_types::ScopeSet;
use std::collections::BTreeMap;
use std::fmt;

/// The section's name.
pub(crate) const SECTION: &str = "key";
/// What may stand in it.
const FIELDS: [&str; 4] = ["name", "digest", "scopes", "models"];
/// Most keys; more belong into the store.
pub(crate) const MOST_KEYS: usize = 1000;
/// Most patterns of one key: more are a mistake, or belong in a pattern. On the command line as well.
pub const MOST_MODELS: usize = 100;

/// A part of a key, whose form others know.
#[derive(Clone, Copy)]
pub enum KeyPart<'t> {
    /// What the key is called.
    Name(&'t str),
    /// The digest by which it is found.
    Digest(&'t str),
    /// A pattern of the models that it may use.
    Model(&'t str),
}

/// Checks a part of a key. Gives its one spelling, or reason and hint, which never repeat a digest.
pub type KeyForm = fn(KeyPart<'_>) -> Result<String, (String, &'static str)>;

/// `[[key]]`, its parts as text in their one spelling: the types of keys live on the floor above, which has checked them by its
/// [`KeyForm`].
#[derive(Clone, PartialEq, Eq)]
pub struct KeySetting {
    /// What people call it; no two have the same.
    pub name: String,
    /// The digest by which it is found; no two have the same.
    pub digest: String,
    /// What it may do; not empty.
    pub scopes: ScopeSet,
    /// Which models it may use; an empty list means every model.
    pub models: Vec<String>,
    /// Where it stands.
    pub place: Place,
}

impl fmt::Debug for KeySetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KeySetting { name, digest: _, scopes, models, place } = self;
        write!(f, "KeySetting({name}, scopes {scopes}, models {models:?}, at {place})")
    }
}

impl KeySetting {
    /// Whether these are the same keys in the same order, wherever they stand.
    #[must_use]
    pub fn are_same(some: &[Self], others: &[Self]) -> bool {
        let placed =
            |(one, other): (&Self, &Self)| *one == KeySetting { place: one.place.clone(), ..other.clone() };
        some.len() == others.len() && some.iter().zip(others).all(placed)
    }
}

/// Reads all tables, or gives all problems of all of them.
pub(crate) fn read(raw: Vec<Table>, form: KeyForm) -> Result<Vec<KeySetting>, Vec<Problem>> {
    let (mut keys, mut problems) = (Vec::<KeySetting>::new(), Vec::new());
    if let Some(first_too_many) = raw.get(MOST_KEYS) {
        let reason = format!("holds more than {MOST_KEYS} keys");
        problems.push(
            Problem::new(first_too_many.place.clone(), reason)
                .hint("the store holds as many as you like: herdgate key create NAME"),
        );
    }
    for raw in raw.into_iter().take(MOST_KEYS) {
        match one(&raw, form, &mut problems) {
            Some(key) => keys.push(key),
            None => continue,
        }
    }
    twice(&keys, &mut problems);
    if problems.is_empty() { Ok(keys) } else { Err(problems) }
}

fn one(raw: &Table, form: KeyForm, problems: &mut Vec<Problem>) -> Option<KeySetting> {
    let before = problems.len();
    let mut items = BTreeMap::new();
    let placed: Vec<(&str, Item)> = raw
        .fields
        .iter()
        .map(|field| (field.name.as_str(), Item { place: field.place.clone(), ..field.item.clone() }))
        .collect();
    for (name, item) in &placed {
        if FIELDS.contains(name) {
            items.insert(*name, item);
        } else {
            problems.push(unknown(name, &item.place));
        }
    }
    let mut part = |name: &'static str, example: &str| {
        let Some(item) = items.get(name) else {
            let reason = format!("a key without {name}");
            problems.push(Problem::new(raw.place.clone(), reason).hint(format!("write {name} = {example}")));
            return None;
        };
        let Raw::Text(text) = &item.raw else {
            problems.push(Problem::new(item.place.clone(), format!("{name} wants a text between quotes")));
            return None;
        };
        let checked = form(if name == "name" { KeyPart::Name(text) } else { KeyPart::Digest(text) });
        checked.map_err(|bad| problems.push(bad_part(&item.place, bad))).ok()
    };
    let name = part("name", "\"ci\"");
    let digest = part("digest", "\"sha256:…\"; herdgate key mint NAME prints all of it");
    let scopes = items.get("scopes").map_or(Some(ScopeSet::DEFAULT), |item| scopes(item, problems));
    let models = items.get("models").map_or(Some(Vec::new()), |item| models(item, form, problems));
    let key = KeySetting {
        name: name?,
        digest: digest?,
        scopes: scopes?,
        models: models?,
        place: raw.place.clone(),
    };
    (problems.len() == before).then_some(key)
}

fn bad_part(place: &Place, (reason, hint): (String, &'static str)) -> Problem {
    Problem::new(place.clone(), reason).hint(hint)
}

fn unknown(name: &str, place: &Place) -> Problem {
    let problem = Problem::new(place.clone(), format!("unknown setting \"{}\" of a key", Plain(name)));
    match nearest(name, FIELDS) {
        Some(near) => problem.hint(format!("did you mean \"{near}\"?")),
        None if name == "expires" => problem
            .hint("a key of the settings ends when it is taken out of them; keys of the store may expire"),
        None => problem.hint(format!("there are {}", FIELDS.join(", "))),
    }
}

/// The texts of a list, or none and a problem.
fn texts<'i>(
    item: &'i Item,
    name: &str,
    example: &str,
    problems: &mut Vec<Problem>,
) -> Option<Vec<(&'i str, &'i Place)>> {
    let list = match &item.raw {
        Raw::List(items) => items
            .iter()
            .map(|item| match &item.raw {
                Raw::Text(text) => Some((text.as_str(), &item.place)),
                _ => None,
            })
            .collect::<Option<Vec<_>>>(),
        _ => None,
    };
    match list {
        Some(list) if !list.is_empty() => return Some(list),
        Some(_) => problems.push(
            Problem::new(item.place.clone(), format!("{name} is empty"))
                .hint(format!("write {name} = {example}, or leave it out for the usual")),
        ),
        None => problems.push(
            Problem::new(item.place.clone(), format!("{name} wants a list of texts"))
                .hint(format!("write {name} = {example}")),
        ),
    }
    None
}

fn scopes(item: &Item, problems: &mut Vec<Problem>) -> Option<ScopeSet> {
    let words = texts(item, "scopes", "[\"infer\", \"read\"]", problems)?;
    let mut set = Vec::new();
    for (word, place) in words {
        match word.parse::<gate_types::Scope>() {
            Ok(scope) => set.push(scope),
            Err(_) => problems.push(
                Problem::new(place.clone(), format!("unknown scope \"{}\"", Plain(word)))
                    .hint("the scopes are infer, embed, read, manage and cloud"),
            ),
        }
    }
    Some(ScopeSet::of(&set))
}

fn models(item: &Item, form: KeyForm, problems: &mut Vec<Problem>) -> Option<Vec<String>> {
    let patterns = texts(item, "models", "[\"qwen3:*\"]", problems)?;
    if patterns.len() > MOST_MODELS {
        let reason = format!("models holds {} patterns; {MOST_MODELS} are allowed", patterns.len());
        problems.push(Problem::new(item.place.clone(), reason));
        return None;
    }
    let mut models = Vec::new();
    for (pattern, place) in patterns {
        match form(KeyPart::Model(pattern)) {
            Ok(pattern) if models.contains(&pattern) => {}
            Ok(pattern) => models.push(pattern),
            Err(bad) => problems.push(bad_part(place, bad)),
        }
    }
    Some(models)
}

fn twice(keys: &[KeySetting], problems: &mut Vec<Problem>) {
    let (mut names, mut digests) = (BTreeMap::new(), BTreeMap::new());
    for key in keys {
        if let Some(other) = names.insert(&key.name, &key.place) {
            let reason = format!("there is a key \"{}\" at {other} already", key.name);
            problems.push(Problem::new(key.place.clone(), reason).hint("give each its own name"));
        }
        if let Some(other) = digests.insert(&key.digest, &key.place) {
            let reason = format!("the key \"{}\" has the digest of the one at {other}", key.name);
            problems.push(
                Problem::new(key.place.clone(), reason).hint("make each its own: herdgate key mint NAME"),
            );
        }
    }
}
