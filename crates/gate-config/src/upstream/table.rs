//! From tables to upstreams: which settings there are, and what must hold between them.

use super::fields::Reader;
use super::{SECTION, Upstream};
use crate::nearest::nearest;
use crate::problem::{Place, Plain, Problem};
use crate::setting::MOST_UPSTREAMS;
use crate::tables::{Field, Table};
use crate::token::FileAccess;
use std::collections::BTreeMap;

/// What may stand in a table.
const FIELDS: [&str; 13] = [
    "url",
    "name",
    "ollama",
    "weight",
    "slots",
    "token_file",
    "headers",
    "ca",
    "client_cert",
    "client_key",
    "connect",
    "idle",
    "models",
];

/// Reads all tables, or gives all problems of all of them. Also gives where each upstream stands.
pub(crate) fn read(raw: &[Table], files: &dyn FileAccess) -> Result<Vec<(Place, Upstream)>, Vec<Problem>> {
    let (mut read, mut problems) = (Vec::<(Place, Upstream)>::new(), Vec::new());
    if let Some(first_too_many) = raw.get(MOST_UPSTREAMS) {
        let reason = format!("holds more than {MOST_UPSTREAMS} upstreams");
        problems.push(Problem::new(first_too_many.place.clone(), reason));
    }
    for raw in raw.iter().take(MOST_UPSTREAMS) {
        if let Some(upstream) = one(raw, files, &mut problems) {
            read.push((raw.place.clone(), upstream));
        }
    }
    problems.extend(same_names(&read));
    if problems.is_empty() { Ok(read) } else { Err(problems) }
}

fn one(raw: &Table, files: &dyn FileAccess, problems: &mut Vec<Problem>) -> Option<Upstream> {
    let before = problems.len();
    let mut items = BTreeMap::new();
    for field in &raw.fields {
        if FIELDS.contains(&field.name.as_str()) {
            items.insert(field.name.as_str(), field);
        } else {
            problems.push(unknown(&field.name, &field.place));
        }
    }
    if !items.contains_key("url") {
        let problem = Problem::new(raw.place.clone(), "an upstream without url");
        problems.push(problem.hint("write url = \"http://host:11434\""));
    }
    let mut reader = Reader { items: &items, files, problems };
    let url = reader.url();
    let client = reader.pair(&raw.place);
    let upstream = Upstream {
        name: reader.name(),
        is_ollama: reader.is_ollama(),
        weight: reader.weight(),
        slots: reader.slots(),
        token: reader.token(),
        headers: reader.headers(),
        ca: reader.file("ca", "BEGIN CERTIFICATE"),
        client,
        connect: reader.time("connect"),
        idle: reader.time("idle"),
        models: reader.models(),
        ..Upstream::at(url?)
    };
    problems.extend(at_odds(&upstream, &items));
    (problems.len() == before).then_some(upstream)
}

/// What was said of an upstream that cannot hold together.
fn at_odds(upstream: &Upstream, items: &BTreeMap<&str, &Field>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let place = |name: &str| items.get(name).map(|field| field.place.clone());
    if !upstream.url.tls {
        for name in ["ca", "client_cert"] {
            if let Some(place) = place(name) {
                let reason = format!("{name} for an upstream without TLS");
                problems.push(Problem::new(place, reason).hint("write https:// in its url"));
            }
        }
    }
    if !upstream.is_ollama {
        for place in ["weight", "slots", "models"].into_iter().filter_map(|name| Some((name, place(name)?))) {
            let reason = format!("{} for an upstream that is no Ollama", place.0);
            problems.push(
                Problem::new(place.1, reason)
                    .hint("it is about running models: leave it out, or ollama = false"),
            );
        }
    }
    let is_authorization = |name: &str| name.eq_ignore_ascii_case("authorization");
    if upstream.token.is_some()
        && upstream.headers.iter().any(|header| is_authorization(&header.name))
        && let Some(place) = place("headers")
    {
        let problem = Problem::new(place, "Authorization in headers, and token_file");
        problems.push(problem.hint("token_file is sent as Authorization: leave one of the two out"));
    }
    problems
}

fn unknown(name: &str, place: &Place) -> Problem {
    let problem = Problem::new(place.clone(), format!("unknown setting \"{}\" of an upstream", Plain(name)));
    let meant = match name {
        "timeouts" => Some("connect and idle stand in the upstream itself: connect = \"3s\""),
        "token" | "api_key" | "key" | "password" => {
            Some("a secret stands in a file of its own: token_file = \"/run/secrets/upstream\"")
        }
        "insecure" | "verify" | "skip_verify" | "insecure_skip_verify" => {
            Some("certificates are always checked; name the authority's file: ca = \"/etc/ssl/own-ca.pem\"")
        }
        _ => None,
    };
    match (meant, nearest(name, FIELDS)) {
        (Some(hint), _) => problem.hint(hint),
        (None, Some(near)) => problem.hint(format!("did you mean \"{near}\"?")),
        (None, None) => problem.hint(format!("there are {}", FIELDS.join(", "))),
    }
}

fn same_names(read: &[(Place, Upstream)]) -> Vec<Problem> {
    let mut names = BTreeMap::new();
    let mut problems = Vec::new();
    for (place, upstream) in read {
        let Some(name) = &upstream.name else { continue };
        if let Some(other) = names.insert(name, place) {
            let reason = format!("there is an [[{SECTION}]] \"{name}\" at {other} already");
            problems.push(Problem::new(place.clone(), reason).hint("give each its own name"));
        }
    }
    problems
}
