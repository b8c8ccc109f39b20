//! One given value into the [`Config`]: its type, its unit and its bounds, or the problem in words that state them.

use crate::config::Config;
use crate::listen::Listen;
use crate::listener::{self, Listener};
use crate::problem::{Place, Plain, Problem};
use crate::setting::{Form, MOST_LISTENERS, MOST_UPSTREAMS};
use crate::spec::{Given, Item, Known, Raw};
use crate::units::{BadUnit, ByteSize, duration, show_duration};
use crate::upstream::Upstream;
use crate::upstream_url::UpstreamUrl;
use crate::variables::variables;
use gate_types::{ModelName, OriginPattern};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Puts a value where it belongs in `config`.
pub(crate) fn apply(given: &Given, config: &mut Config) -> Result<(), Vec<Problem>> {
    let item = &given.item;
    let one = |problem: Problem| vec![problem];
    match &given.setting.form {
        Form::Upstreams => {
            config.upstreams = upstreams(item)?;
            config.upstreams_given = true;
        }
        Form::Listeners => config.listen = listeners(item)?,
        Form::Switch { slot } => *slot(config) = switch(item).map_err(one)?,
        Form::Size { slot, least, most } => {
            let read = |text: &str| text.parse::<ByteSize>();
            *slot(config) = measure(item, read, least, most, ByteSize::to_string, "32KiB").map_err(one)?;
        }
        Form::Time { slot, least, most } => {
            let show = |time: &Duration| show_duration(*time);
            *slot(config) = measure(item, duration, least, most, show, "10s").map_err(one)?;
        }
        Form::Count { slot, least, most } => *slot(config) = count(item, *least, *most, "").map_err(one)?,
        Form::MaybeTime { slot, least, most } => {
            let none = matches!(&item.raw, Raw::Text(word) | Raw::Word(word) if word == "none");
            let show = |time: &Duration| show_duration(*time);
            let time = || measure(item, duration, least, most, show, "180d");
            *slot(config) = if none { None } else { Some(time().map_err(one)?) };
        }
        Form::Networks { slot, example } => *slot(config) = listener::networks(item, example, 0)?,
        Form::Listener { slot } => {
            let none = matches!(&item.raw, Raw::Text(word) | Raw::Word(word) if word == "none");
            *slot(config) = if none { None } else { Some(address(item).map_err(one)?) };
        }
        Form::File { slot, example } => {
            *slot(config) = path(item, "a file's path", example).map_err(one)?;
        }
        Form::Folder { slot, example } => {
            *slot(config) = path(item, "a folder's path", example).map_err(one)?;
        }
        Form::Models { slot, example, most } => {
            *slot(config) = texts(item, "a model's name", example, |item| model(item, example), 0..=*most)?;
        }
        Form::Variables { slot, example, most } => *slot(config) = variables(item, example, *most)?,
        Form::Threads { least, most } => {
            let auto = matches!(&item.raw, Raw::Text(word) | Raw::Word(word) if word == "auto");
            let number = || count(item, *least, *most, " or \"auto\"").map(Some);
            config.server.threads = if auto { None } else { number().map_err(one)? };
        }
        Form::Texts { slot, what, example, read, least, most } => {
            let read = |item: &Item| {
                let text = text(item, what)?;
                read(text).map_err(|bad| bad_text(item, text, bad, example))
            };
            *slot(config) = texts(item, what, example, read, *least..=*most)?;
        }
        Form::Line { set, what, example, read, .. } => {
            let text = text(item, what).map_err(one)?;
            set(config, read(text).map_err(|bad| one(bad_text(item, text, bad, example)))?);
        }
        Form::Domains { example, most } => {
            let alone = match &item.raw {
                Raw::Text(_) => Item { place: item.place.clone(), raw: Raw::List(vec![item.clone()]) },
                _ => item.clone(),
            };
            config.tls.domains =
                texts(&alone, "a host's name", example, |item| domain(item, example), 0..=*most)?;
        }
        Form::Origins { example, most } => {
            config.cors.origins = texts(item, "an origin", example, |item| origin(item, example), 0..=*most)?;
        }
        Form::Word { words, set, .. } => set(config, word(item, words).map_err(one)?),
    }
    Ok(())
}

/// What stands there, for a problem that wants something else there.
fn kind(raw: &Raw) -> &'static str {
    match raw {
        Raw::Text(_) | Raw::Word(_) | Raw::Read(_) => "a text",
        Raw::Number(_) => "a number",
        Raw::Switch(_) => "true or false",
        Raw::List(_) => "a list",
        Raw::Table(_) => "a table",
        Raw::Other(kind) => kind,
    }
}

pub(crate) fn wants(item: &Item, wanted: &str) -> Problem {
    Problem::new(item.place.clone(), format!("wants {wanted}, not {}", kind(&item.raw)))
}

/// A path, or nothing. One that cannot be shown between quotes is none that anybody chose.
pub(crate) fn path(item: &Item, what: &str, example: &str) -> Result<Option<PathBuf>, Problem> {
    let text = text(item, what)?;
    match text {
        "none" => Ok(None),
        "" => Err(bad_text(item, text, "is empty", example)),
        _ if text.contains(|c: char| c.is_control() || matches!(c, '"' | '\\')) => {
            Err(bad_text(item, text, "has a quote, a backslash or a control character", example))
        }
        _ => Ok(Some(PathBuf::from(text))),
    }
}

pub(crate) fn switch(item: &Item) -> Result<bool, Problem> {
    match &item.raw {
        Raw::Switch(value) => Ok(*value),
        Raw::Word(word) => match word.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(Problem::new(item.place.clone(), "wants true or false")),
        },
        Raw::Text(text) if matches!(text.as_str(), "true" | "false") => {
            Err(wants(item, "true or false").hint("write it without quotes"))
        }
        Raw::Text(_) | Raw::Number(_) | Raw::List(_) | Raw::Read(_) | Raw::Table(_) | Raw::Other(_) => {
            Err(wants(item, "true or false"))
        }
    }
}

fn word<'i>(item: &'i Item, words: &[&str]) -> Result<&'i str, Problem> {
    let list = words.join(", ");
    match &item.raw {
        Raw::Text(text) | Raw::Word(text) if words.contains(&text.as_str()) => Ok(text),
        Raw::Text(text) | Raw::Word(text) => {
            let problem = Problem::new(item.place.clone(), format!("\"{}\" is none of {list}", Plain(text)));
            Err(match crate::nearest::nearest(text, words.iter().copied()) {
                Some(near) => problem.hint(format!("did you mean \"{near}\"?")),
                None => problem,
            })
        }
        Raw::Number(_) | Raw::Switch(_) | Raw::List(_) | Raw::Read(_) | Raw::Table(_) | Raw::Other(_) => {
            Err(wants(item, &format!("one of {list}")))
        }
    }
}

pub(crate) fn count<N: TryFrom<i64> + PartialOrd + Display>(
    item: &Item,
    least: N,
    most: N,
    or: &str,
) -> Result<N, Problem> {
    let wanted = format!("a whole number from {least} to {most}{or}");
    let number = match &item.raw {
        Raw::Number(number) => Some(*number),
        Raw::Word(word) if word.bytes().all(|b| b.is_ascii_digit()) => word.parse().ok(),
        Raw::Word(_) => None,
        Raw::Text(text) if text.bytes().all(|b| b.is_ascii_digit()) => {
            return Err(wants(item, &wanted).hint("write it without quotes"));
        }
        Raw::Text(_) | Raw::Switch(_) | Raw::List(_) | Raw::Read(_) | Raw::Table(_) | Raw::Other(_) => {
            return Err(wants(item, &wanted));
        }
    };
    let number = number.and_then(|number| N::try_from(number).ok());
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| Problem::new(item.place.clone(), format!("wants {wanted}")))
}

/// A size or a time between two bounds.
pub(crate) fn measure<M: PartialOrd + Copy>(
    item: &Item,
    read: impl Fn(&str) -> Result<M, BadUnit>,
    least: &M,
    most: &M,
    show: impl Fn(&M) -> String,
    example: &str,
) -> Result<M, Problem> {
    let bounds = format!("{} to {}", show(least), show(most));
    let hint = format!("write it like \"{example}\"; from {bounds}");
    let text = match &item.raw {
        Raw::Text(text) | Raw::Word(text) => text,
        Raw::Number(number) => {
            let reason = format!("{number} {}", BadUnit::NoUnit);
            return Err(Problem::new(item.place.clone(), reason).hint(hint));
        }
        Raw::Switch(_) | Raw::List(_) | Raw::Read(_) | Raw::Table(_) | Raw::Other(_) => {
            return Err(wants(item, "a number with a unit").hint(hint));
        }
    };
    let value = read(text)
        .map_err(|bad| Problem::new(item.place.clone(), format!("\"{}\" {bad}", Plain(text))).hint(hint))?;
    if (*least..=*most).contains(&value) {
        Ok(value)
    } else {
        let side = if value < *least { "below" } else { "above" };
        Err(Problem::new(item.place.clone(), format!("{} is {side} what is allowed: {bounds}", show(&value))))
    }
}

fn upstreams(item: &Item) -> Result<Vec<Upstream>, Vec<Problem>> {
    let items = items(item, "an upstream", "upstreams = [\"http://host:11434\"]", 1..=MOST_UPSTREAMS)?;
    let upstreams = read_all(&items, |item| match &item.raw {
        Raw::Read(Known::Upstream(upstream)) => Ok(Upstream::clone(upstream)),
        Raw::Table(_) => Err(wants(item, "an upstream's address between quotes")
            .hint("write [[upstream]], and below it url = \"http://host:11434\" and all else about it")),
        _ => upstream_url(item).map(Upstream::at),
    })?;
    let twice = (1..upstreams.len())
        .filter(|at| upstreams[..*at].iter().any(|other| other.url == upstreams[*at].url));
    let problems: Vec<Problem> = twice
        .map(|at| {
            let reason = format!("the upstream {} stands here twice", upstreams[at].url);
            Problem::new(items[at].place.clone(), reason)
        })
        .collect();
    if problems.is_empty() { Ok(upstreams) } else { Err(problems) }
}

/// Where an upstream is.
pub(crate) fn upstream_url(item: &Item) -> Result<UpstreamUrl, Problem> {
    match &item.raw {
        Raw::Text(text) | Raw::Word(text) => UpstreamUrl::parse(text).map_err(|bad| {
            // The value is not shown: a password may be in it. A flag or a variable names it already.
            let subject = if let Place::File { .. } = item.place { "this upstream " } else { "" };
            Problem::new(item.place.clone(), format!("{subject}{bad}")).hint(bad.hint())
        }),
        Raw::Number(_) | Raw::Switch(_) | Raw::List(_) | Raw::Read(_) | Raw::Table(_) | Raw::Other(_) => {
            Err(wants(item, "an upstream's address between quotes"))
        }
    }
}

fn listeners(item: &Item) -> Result<Vec<Listener>, Vec<Problem>> {
    let items = items(item, "a listener", "[listen] address = \":7860\"", 1..=MOST_LISTENERS)?;
    let listen = read_all(&items, |item| match &item.raw {
        Raw::Read(Known::Listener(listener)) => Ok(Listener::clone(listener)),
        _ => listener::at(item).map(Listener::at),
    })?;
    let mut problems = Vec::new();
    for (at, own) in listen.iter().enumerate() {
        let clashes = |one: Listen, other: Listen| one.covers(other.address.ip(), other.address.port());
        let clash = listen[..at]
            .iter()
            .find(|other| clashes(other.address, own.address) || clashes(own.address, other.address));
        if let Some(other) = clash {
            let reason = format!("{own} and {other} are the same port of the same address");
            problems.push(Problem::new(items[at].place.clone(), reason));
        }
    }
    if problems.is_empty() { Ok(listen) } else { Err(problems) }
}

/// One address to listen on.
pub(crate) fn address(item: &Item) -> Result<Listen, Problem> {
    match &item.raw {
        Raw::Text(text) | Raw::Word(text) => text.parse::<Listen>().map_err(|bad| {
            // A URL with a password in the wrong place is still a password.
            let shown =
                if text.contains('@') { "the address".to_owned() } else { format!("\"{}\"", Plain(text)) };
            Problem::new(item.place.clone(), format!("{shown} {bad}")).hint(bad.hint())
        }),
        Raw::Number(_) => Err(wants(item, "an address").hint("write address = \":7860\"")),
        Raw::Switch(_) | Raw::List(_) | Raw::Read(_) | Raw::Table(_) | Raw::Other(_) => {
            Err(wants(item, "an address between quotes"))
        }
    }
}

/// Texts that are no addresses, each in its one form, none of them twice.
fn texts<T: PartialEq + Display>(
    item: &Item,
    what: &str,
    example: &str,
    read: impl Fn(&Item) -> Result<T, Problem>,
    counts: RangeInclusive<usize>,
) -> Result<Vec<T>, Vec<Problem>> {
    let items = items(item, what, example, counts)?;
    let texts = read_all(&items, read)?;
    let twice = (1..texts.len()).filter(|at| texts[..*at].contains(&texts[*at]));
    let problems: Vec<Problem> = twice
        .map(|at| Problem::new(items[at].place.clone(), format!("\"{}\" stands here twice", texts[at])))
        .collect();
    if problems.is_empty() { Ok(texts) } else { Err(problems) }
}

pub(crate) fn text<'i>(item: &'i Item, what: &str) -> Result<&'i str, Problem> {
    match &item.raw {
        Raw::Text(text) | Raw::Word(text) => Ok(text),
        Raw::Number(_) | Raw::Switch(_) | Raw::List(_) | Raw::Read(_) | Raw::Table(_) | Raw::Other(_) => {
            Err(wants(item, &format!("{what} between quotes")))
        }
    }
}

fn bad_text(item: &Item, text: &str, bad: &str, example: &str) -> Problem {
    Problem::new(item.place.clone(), format!("\"{}\" {bad}", Plain(text))).hint(format!("write {example}"))
}

/// A name that an authority can vouch for by a connection to it: no address, no wildcard.
fn domain(item: &Item, example: &str) -> Result<String, Problem> {
    let text = text(item, "a host's name")?;
    let is_label = |label: &str| {
        matches!(label.len(), 1..=63)
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let bad = match text {
        _ if text.starts_with("*.") => "is a wildcard, which takes a record in the DNS: name each host",
        _ if text.parse::<std::net::IpAddr>().is_ok() => "is an address: tls.self_signed vouches for those",
        _ if !text.is_ascii() => "is not as it stands in the DNS: write it with xn--",
        _ if text.len() > 253 || !text.split('.').all(is_label) => "is no host's name",
        _ => return Ok(text.to_ascii_lowercase()),
    };
    Err(bad_text(item, text, bad, example))
}

fn origin(item: &Item, example: &str) -> Result<OriginPattern, Problem> {
    if let Raw::Read(Known::Origin(pattern)) = &item.raw {
        return Ok(pattern.clone());
    }
    let text = text(item, "an origin")?;
    OriginPattern::parse(text).map_err(|bad| bad_text(item, text, bad.0, example))
}

pub(crate) fn model(item: &Item, example: &str) -> Result<ModelName, Problem> {
    if let Raw::Read(Known::Model(name)) = &item.raw {
        return Ok(name.clone());
    }
    let text = text(item, "a model's name")?;
    ModelName::parse(text).map_err(|_bad| bad_text(item, text, "is no model's name", example))
}

/// The items of a list, which outside of the file is separated by commas; as many as `counts` allows.
pub(crate) fn items(
    item: &Item,
    what: &str,
    example: &str,
    counts: RangeInclusive<usize>,
) -> Result<Vec<Item>, Vec<Problem>> {
    let items = match &item.raw {
        Raw::List(items) => items.clone(),
        Raw::Word(list) => {
            let words: Vec<&str> = list.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
            let place = |at: usize| match &item.place {
                Place::Env { name, .. } if words.len() > 1 => {
                    Place::Env { name: name.clone(), item: Some(at + 1) }
                }
                place => place.clone(),
            };
            let item =
                |(at, word): (usize, &&str)| Item { place: place(at), raw: Raw::Word((*word).to_owned()) };
            words.iter().enumerate().map(item).collect()
        }
        Raw::Text(_) | Raw::Number(_) | Raw::Switch(_) | Raw::Read(_) | Raw::Table(_) | Raw::Other(_) => {
            return Err(vec![
                wants(item, &format!("a list, {what} in each item")).hint(format!("write {example}")),
            ]);
        }
    };
    let reason = match items.len() {
        count if counts.contains(&count) => return Ok(items),
        0 => format!("wants at least {what}"),
        count => format!("holds {count} items; {} are allowed", counts.end()),
    };
    Err(vec![Problem::new(item.place.clone(), reason)])
}

/// Every item read, or every problem of every item.
pub(crate) fn read_all<T>(
    items: &[Item],
    read: impl Fn(&Item) -> Result<T, Problem>,
) -> Result<Vec<T>, Vec<Problem>> {
    let (mut values, mut problems) = (Vec::new(), Vec::new());
    for item in items {
        match read(item) {
            Ok(value) => values.push(value),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(values) } else { Err(problems) }
}
