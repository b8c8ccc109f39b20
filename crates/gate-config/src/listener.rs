//! `[[listen]]`: one listener with what holds for who comes in by it, from a table of the file to a checked [`Listener`].
//!
//! What a key's name looks like is told from above ([`KeyForm`]). What holds between listeners and the rest of the settings is
//! checked by [`problems`], once all of them are known.

use crate::config::Config;
use crate::keys::{KeyForm, KeyPart};
use crate::listen::Listen;
use crate::problem::{Place, Plain, Problem};
use crate::read::{address, items, read_all, switch, wants};
use crate::spec::{Item, Known, Raw};
use crate::tables::{self, Field, Table};
use gate_types::{Cidr, is_public};
use std::fmt;

/// The section's name.
pub(crate) const SECTION: &str = "listen";
/// What may stand in it.
const FIELDS: [&str; 5] = ["address", "tls", "redirect", "trusted_proxies", "insecure_anonymous"];
const ANONYMOUS: [&str; 2] = ["networks", "as"];
/// Most networks of one list; a connection is compared with each.
pub(crate) const MOST_NETWORKS: usize = 64;

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens.
    pub address: Listen,
    /// Whether it speaks TLS; `None`: if `[tls]` gives a certificate.
    pub tls: Option<bool>,
    /// It serves nothing, and sends everybody to the first listener that speaks TLS.
    pub redirect: bool,
    /// The port that clients find TLS at, where that is not the one it listens on: behind a map of ports.
    pub redirect_port: Option<u16>,
    /// The proxies that may say where a client is; `None`: those of `server.trusted_proxies`.
    pub trusted_proxies: Option<Vec<Cidr>>,
    /// Who is let in without a key.
    pub insecure_anonymous: Option<Anonymous>,
}

/// `insecure_anonymous`: who is let in without a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anonymous {
    /// Where they must come from; not empty, none of it public.
    pub networks: Vec<Cidr>,
    /// The name of the key that they act as.
    pub acts_as: String,
}

impl Listener {
    /// One that is nothing but an address.
    #[must_use]
    pub const fn at(address: Listen) -> Self {
        Listener {
            address,
            tls: None,
            redirect: false,
            redirect_port: None,
            trusted_proxies: None,
            insecure_anonymous: None,
        }
    }

    /// Whether clients are spoken to in TLS here.
    #[must_use]
    pub fn is_tls(&self, config: &Config) -> bool {
        !self.redirect && self.tls.unwrap_or(true) && config.tls.is_on()
    }

    /// The proxies that are believed here.
    #[must_use]
    pub fn trusted<'c>(&'c self, config: &'c Config) -> &'c [Cidr] {
        self.trusted_proxies.as_deref().unwrap_or(&config.server.trusted_proxies)
    }

    /// Whether it is more than an address.
    pub(crate) fn has_rules(&self) -> bool {
        *self != Listener::at(self.address)
    }

    /// The lines of its table in a settings file.
    pub(crate) fn lines(&self) -> Vec<String> {
        let list = |networks: &[Cidr]| {
            let quoted: Vec<String> = networks.iter().map(|network| format!("\"{network}\"")).collect();
            format!("[{}]", quoted.join(", "))
        };
        let mut lines = vec![format!("address = \"{}\"", self.address)];
        lines.extend(self.tls.map(|tls| format!("tls = {tls}")));
        let port = self.redirect_port.map_or_else(|| "true".to_owned(), |port| port.to_string());
        lines.extend(self.redirect.then(|| format!("redirect = {port}")));
        lines.extend(
            self.trusted_proxies.iter().map(|proxies| format!("trusted_proxies = {}", list(proxies))),
        );
        lines.extend(self.insecure_anonymous.iter().map(|Anonymous { networks, acts_as }| {
            format!("insecure_anonymous = {{ networks = {}, as = \"{acts_as}\" }}", list(networks))
        }));
        lines
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// Reads all tables, each to an item that stands where its address does, or gives all problems of all of them. Tables that say
/// nothing are none where there is only one.
pub(crate) fn read(tables: &[Table], form: KeyForm) -> Result<Vec<Item>, Vec<Problem>> {
    let (mut items, mut problems) = (Vec::new(), Vec::new());
    for table in tables {
        problems.extend(tables::unknown(&table.fields, &FIELDS, ""));
        if table.fields.is_empty() && tables.len() == 1 {
            continue;
        }
        if let Some(listener) = one(table, tables.len() > 1, form, &mut problems) {
            let place = tables::get(&table.fields, "address").map_or(&table.place, |item| &item.place);
            items.push(Item { place: place.clone(), raw: Raw::Read(Known::Listener(Box::new(listener))) });
        }
    }
    if problems.is_empty() { Ok(items) } else { Err(problems) }
}

fn one(
    table: &Table,
    is_one_of_several: bool,
    form: KeyForm,
    problems: &mut Vec<Problem>,
) -> Option<Listener> {
    let get = |name| tables::get(&table.fields, name);
    let before = problems.len();
    let mut keep = |problem: Problem| problems.push(problem);
    let address = match get("address") {
        Some(item) => at(item).map_err(&mut keep).ok(),
        None if is_one_of_several => {
            let problem = Problem::new(table.place.clone(), "a listener without an address");
            keep(problem.hint("write address = \":7860\" in it"));
            None
        }
        None => Some(Listen::DEFAULT),
    };
    let mut word = |name| get(name).and_then(|item| switch(item).map_err(&mut keep).ok());
    let tls = word("tls");
    let (redirect, redirect_port) = get("redirect").map_or((false, None), |item| {
        redirection(item).unwrap_or_else(|problem| {
            problems.push(problem);
            (false, None)
        })
    });
    let trusted_proxies = get("trusted_proxies").and_then(|item| match networks(item, PROXIES, 0) {
        Ok(networks) => Some(networks),
        Err(more) => {
            problems.extend(more);
            None
        }
    });
    let insecure_anonymous = get("insecure_anonymous").and_then(|item| anonymous(item, form, problems));
    let listener =
        Listener { address: address?, tls, redirect, redirect_port, trusted_proxies, insecure_anonymous };
    (problems.len() == before).then_some(listener)
}

/// Whether a listener redirects, and where to if not to a port of this gate's own.
fn redirection(item: &Item) -> Result<(bool, Option<u16>), Problem> {
    let hint = "true leads to the listener with TLS; 443 to the port that clients reach it by";
    match &item.raw {
        Raw::Switch(switch) => Ok((*switch, None)),
        Raw::Number(number) => match u16::try_from(*number) {
            Ok(port) if port > 0 => Ok((true, Some(port))),
            Ok(_) | Err(_) => {
                Err(Problem::new(item.place.clone(), format!("{number} is no port")).hint(hint))
            }
        },
        _ => Err(wants(item, "true, false or a port").hint(hint)),
    }
}

/// The address of a listener.
pub(crate) fn at(item: &Item) -> Result<Listen, Problem> {
    match &item.raw {
        Raw::List(_) => Err(wants(item, "one address").hint("write [[listen]] once for each address")),
        _ => address(item),
    }
}

const PROXIES: &str = "trusted_proxies = [\"10.0.0.0/8\"]";

/// A list of networks, none of them twice.
pub(crate) fn networks(item: &Item, example: &str, least: usize) -> Result<Vec<Cidr>, Vec<Problem>> {
    let list = items(item, "a network", example, least..=MOST_NETWORKS)?;
    let networks = read_all(&list, |item| match &item.raw {
        Raw::Text(text) | Raw::Word(text) => text.parse::<Cidr>().map_err(|bad| {
            Problem::new(item.place.clone(), format!("\"{}\" {bad}", Plain(text)))
                .hint(format!("write {example}"))
        }),
        _ => Err(wants(item, "a network between quotes")),
    })?;
    let twice = (1..networks.len()).filter(|at| networks[..*at].contains(&networks[*at]));
    let problems: Vec<Problem> = twice
        .map(|at| Problem::new(list[at].place.clone(), format!("{} stands here twice", networks[at])))
        .collect();
    if problems.is_empty() { Ok(networks) } else { Err(problems) }
}

const EXAMPLE: &str = "insecure_anonymous = { networks = [\"172.18.0.0/24\"], as = \"stack\" }";

fn anonymous(item: &Item, form: KeyForm, problems: &mut Vec<Problem>) -> Option<Anonymous> {
    let Raw::Table(fields) = &item.raw else {
        problems.push(wants(item, "a table").hint(format!("write {EXAMPLE}")));
        return None;
    };
    problems.extend(tables::unknown(fields, &ANONYMOUS, " of insecure_anonymous"));
    let networks = field(fields, "networks", item, problems).and_then(|item| private(item, problems));
    let acts_as = field(fields, "as", item, problems).and_then(|item| {
        let Raw::Text(name) = &item.raw else {
            problems.push(wants(item, "a key's name between quotes"));
            return None;
        };
        form(KeyPart::Name(name))
            .map_err(|(reason, hint)| problems.push(Problem::new(item.place.clone(), reason).hint(hint)))
            .ok()
    });
    Some(Anonymous { networks: networks?, acts_as: acts_as? })
}

fn field<'f>(fields: &'f [Field], name: &str, whole: &Item, problems: &mut Vec<Problem>) -> Option<&'f Item> {
    let found = tables::get(fields, name);
    if found.is_none() {
        let problem = Problem::new(whole.place.clone(), format!("insecure_anonymous without {name}"));
        problems.push(problem.hint(format!("write {EXAMPLE}")));
    }
    found
}

/// Networks that may be let in without a key: none of them anybody's on the internet.
fn private(item: &Item, problems: &mut Vec<Problem>) -> Option<Vec<Cidr>> {
    let networks = match networks(item, "networks = [\"172.18.0.0/24\"]", 1) {
        Ok(networks) => networks,
        Err(more) => {
            problems.extend(more);
            return None;
        }
    };
    let public: Vec<&Cidr> = networks.iter().filter(|network| !network.is_private()).collect();
    for network in &public {
        let reason = format!("{network} is not a private network: nobody is let in from there without a key");
        problems.push(
            Problem::new(item.place.clone(), reason)
                .hint("name the network of the stack alone: docker network inspect NAME shows it"),
        );
    }
    public.is_empty().then_some(networks)
}

/// What is wrong with listeners beside the other settings: all of it. `places` is where each stands.
pub(crate) fn problems(config: &Config, places: &[Place]) -> Vec<Problem> {
    let has_tls = config.listen.iter().any(|listener| listener.is_tls(config));
    let judge = |(listener, place): (&Listener, &Place)| {
        let mut problems = Vec::new();
        let mut tell = |reason: &str, hint: &str| {
            problems
                .push(Problem::new(place.clone(), format!("the listener {listener} {reason}")).hint(hint));
        };
        let own = listener.address.address.ip();
        if listener.redirect && listener.tls == Some(true) {
            tell(
                "has tls = true and redirect = true",
                "leave tls out: who comes to be redirected does not speak TLS yet",
            );
        } else if listener.tls == Some(true) && !config.tls.is_on() {
            tell(
                "has tls = true, and there is no certificate",
                "name one in [tls], or write self_signed = true there",
            );
        }
        if listener.redirect && !has_tls {
            tell(
                "redirects, and no listener speaks TLS",
                "add a [[listen]] for it, and a certificate in [tls]",
            );
        }
        if listener.redirect && listener.insecure_anonymous.is_some() {
            tell("redirects, and lets callers in without a key", "give each its own [[listen]]");
        }
        if listener.insecure_anonymous.is_some() && !own.is_unspecified() && is_public(own) {
            tell(
                "is public, and would let callers in without a key",
                "listen on the address in the private network",
            );
        }
        problems
    };
    config.listen.iter().zip(places).flat_map(judge).collect()
}
