//! `Spec` to [`Config`]: each value applied in the order of its rank, then what holds between values.

use crate::config::{Acme, Config};
use crate::listen::Listen;
use crate::listener::{self, Listener};
use crate::problem::{Place, Problem};
use crate::read::{apply, items};
use crate::route;
use crate::setting::MOST_LISTENERS;
use crate::spec::{Given, Item, Known, Rank, Raw, Spec};
use gate_types::Cidr;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// Checked settings, with where each came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What is not wrong and yet not as it should be, sorted by place.
    pub warnings: Vec<Problem>,
    /// Where each setting came from, by its key (`limits.head`); what is not in here is a default.
    pub origins: BTreeMap<&'static str, Place>,
    /// Where each of [`Config::listen`] stands; none where nobody named any.
    pub listeners: Vec<Place>,
    /// The settings file that was read, where there was one.
    pub file: Option<PathBuf>,
}

impl Config {
    /// Makes the settings of what was said.
    ///
    /// What holds between values is looked at also where others are wrong, as long as every value that it is about was read:
    /// whoever mends one line shall not find the next fault only then.
    pub(crate) fn check(mut spec: Spec) -> Result<Loaded, Vec<Problem>> {
        let (keys, routes) = (std::mem::take(&mut spec.keys), std::mem::take(&mut spec.routes));
        let mut config = Config { auth_token: spec.auth_token.take(), keys, routes, ..Config::default() };
        let mut origins = BTreeMap::new();
        let (mut problems, mut warnings) = (spec.problems, spec.warnings);
        let mut unread = spec.unread;
        // Stable, and lowest first: the last to be applied is the one that is heard.
        spec.given.sort_by_key(|given| given.rank);
        for given in &spec.given {
            match apply(given, &mut config) {
                Ok(()) => {
                    origins.insert(given.setting.key, given.item.place.clone());
                }
                Err(more) => {
                    problems.extend(more);
                    unread.add(given.setting.key);
                }
            }
        }
        let read = |keys: &[&str]| !unread.holds(keys);
        let listeners = listener_places(&spec.given);
        if read(&["upstreams", "listen.address"]) {
            problems.extend(own_upstream(&config, &origins));
        }
        if read(&["upstreams", "route"]) {
            problems.extend(route::astray(&config));
            problems.extend(route::unrouted(&config, origins.get("upstreams")));
        }
        if read(&["metrics.address", "listen.address"]) {
            problems.extend(metrics_at_listener(&config, &origins));
        }
        if read(&["tls.cert", "tls.key", "tls.self_signed", "tls.domain"]) {
            problems.extend(no_pair(&config, &origins));
            if read(&["tls.client_ca", "tls.client_required"]) {
                problems.extend(callers(&config, &origins));
            }
            if read(&["listen.address"]) {
                problems.extend(listener::problems(&config, &listeners));
            }
        }
        if read(&["local.models_dir", "local.env"]) {
            problems.extend(two_folders(&config, &origins));
        }
        warnings.extend(replaced(&spec.given));
        warnings.extend(trusts_everybody(&config, &origins, &listeners));
        warnings.extend(no_public_name(&config, origins.get("tls.domain")));
        warnings.extend(api_as_base(&config, origins.get("upstreams")));
        warnings.extend(credential_in_clear(&config, origins.get("upstreams")));
        warnings.extend(models_for_nobody(&config, origins.get("local.models")));
        problems.sort();
        warnings.sort();
        if problems.is_empty() {
            Ok(Loaded { config, warnings, origins, listeners, file: spec.file })
        } else {
            Err(problems)
        }
    }
}

/// An upstream that is one of our own listeners: whoever points `OLLAMA_HOST` at the gate for clients and starts the gate
/// in the same shell gets a loop, and so does whoever gives the gate Ollama's port and names no upstream.
fn own_upstream(config: &Config, origins: &BTreeMap<&'static str, Place>) -> Option<Problem> {
    let is_own = |host: &str, port| {
        let ip = if host == "localhost" {
            Some(IpAddr::V4(Ipv4Addr::LOCALHOST))
        } else {
            host.parse::<IpAddr>().ok()
        };
        // Any other address may be another machine's; whether it is ours is not known without asking the system.
        let here = |ip: IpAddr| {
            let covers = |own: &Listener| {
                let own = own.address;
                own.covers(ip, port) && (ip.is_loopback() || own.address.ip() == ip)
            };
            config.listen.iter().any(covers)
        };
        ip.is_some_and(here)
    };
    let own =
        config.upstreams.iter().map(|upstream| &upstream.url).find(|url| is_own(&url.host, url.port))?;
    let place = origins.get("upstreams").or_else(|| origins.get("listen.address"))?;
    let problem = Problem::new(place.clone(), format!("the upstream {own} is herdgate's own address"));
    Some(problem.hint("name the Ollama server behind it, on another port or machine: --upstream URL"))
}

/// Where each of the listeners stands that are heard.
fn listener_places(given: &[Given]) -> Vec<Place> {
    let heard = given.iter().rfind(|given| given.setting.key == "listen.address");
    let items = heard.and_then(|given| items(&given.item, "a listener", "", 1..=MOST_LISTENERS).ok());
    items.unwrap_or_default().into_iter().map(|item| item.place).collect()
}

/// Proxies that are everybody: then every caller says itself where it comes from.
fn trusts_everybody(
    config: &Config,
    origins: &BTreeMap<&'static str, Place>,
    listeners: &[Place],
) -> Vec<Problem> {
    let everybody =
        [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)].map(|all| Cidr::of(all, 0));
    let own = config.listen.iter().zip(listeners);
    let own = own.filter_map(|(listener, place)| Some((listener.trusted_proxies.as_ref()?, place)));
    let usual = origins.get("server.trusted_proxies").map(|place| (&config.server.trusted_proxies, place));
    let all = own.chain(usual).flat_map(|(proxies, place)| proxies.iter().map(move |proxy| (proxy, place)));
    let all = all.filter(|(proxy, _)| everybody.contains(&Some(**proxy)));
    let warn = |(proxy, place): (&Cidr, &Place)| {
        let reason = format!(
            "trusted_proxies holds {proxy}: every caller is believed when it says that it comes from another address"
        );
        Problem::new(place.clone(), reason)
            .hint("name the proxy's own address, or the network that it stands in")
    };
    all.map(warn).collect()
}

/// Names at the end of those that no public authority vouches for: they are nobody's (RFC 6761, 6762 and 8375; ICANN for
/// `internal`).
const NOBODYS: [&str; 6] = ["localhost", "local", "test", "invalid", "internal", "home.arpa"];

/// Names for which a public authority will be asked in vain. One that the settings name may know them.
fn no_public_name(config: &Config, place: Option<&Place>) -> Vec<Problem> {
    let Some(place) = place.filter(|_| config.tls.acme.directory == Acme::default().directory) else {
        return Vec::new();
    };
    let is_nobodys = |name: &&String| {
        let below =
            |end: &&str| name.strip_suffix(*end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        !name.contains('.') || NOBODYS.iter().any(below)
    };
    let warn = |name: &String| {
        let reason = format!("no public authority gives a certificate for \"{name}\"");
        Problem::new(place.clone(), reason).hint(
            "write a name that everybody finds in the DNS, or self_signed = true in place of domain, which vouches for the \
             names and addresses of this machine",
        )
    };
    config.tls.domains.iter().filter(is_nobodys).map(warn).collect()
}

/// Listeners of the file that say more than an address, and that somebody replaced by one.
fn replaced(given: &[Given]) -> Option<Problem> {
    let listeners = || given.iter().filter(|given| given.setting.key == "listen.address");
    let by = listeners().find(|given| given.rank > Rank::File)?;
    let of_file = listeners().find(|given| given.rank == Rank::File)?;
    let Raw::List(items) = &of_file.item.raw else { return None };
    let has_rules =
        |item: &Item| matches!(&item.raw, Raw::Read(Known::Listener(listener)) if listener.has_rules());
    items.iter().any(has_rules).then(|| {
        let reason = "replaces every [[listen]] of the file, and what else stands in them does not count";
        let hint = format!("leave it out, or {} out of the file", of_file.item.place);
        Problem::new(by.item.place.clone(), reason).hint(hint)
    })
}

/// Metrics at an address where requests are served: one of the two would not get it.
fn metrics_at_listener(config: &Config, origins: &BTreeMap<&'static str, Place>) -> Option<Problem> {
    let (own, place) = (config.metrics.address?, origins.get("metrics.address")?);
    let clashes = |other: &Listen| {
        other.covers(own.address.ip(), own.address.port())
            || own.covers(other.address.ip(), other.address.port())
    };
    let other = config.listen.iter().map(|listener| listener.address).find(clashes)?;
    let reason = format!("{own} and the listener {other} are the same port of the same address");
    Some(
        Problem::new(place.clone(), reason).hint("choose another port; /metrics is open at the listener too"),
    )
}

/// Certificates of callers that nobody could judge, or nobody would ask for.
fn callers(config: &Config, origins: &BTreeMap<&'static str, Place>) -> Option<Problem> {
    let tls = &config.tls;
    if tls.client_required && tls.client_ca.is_none() {
        let place = origins.get("tls.client_required")?.clone();
        let problem = Problem::new(place, "tls.client_required without tls.client_ca");
        return Some(problem.hint("name the file of those who vouch for callers: tls.client_ca"));
    }
    if tls.client_ca.is_some() && !tls.is_on() {
        let problem = Problem::new(origins.get("tls.client_ca")?.clone(), "tls.client_ca without TLS");
        return Some(
            problem.hint("name the gate's own certificate too: tls.cert and tls.key, or tls.domain"),
        );
    }
    None
}

/// A certificate without its key, a key alone, or two certificates.
fn no_pair(config: &Config, origins: &BTreeMap<&'static str, Place>) -> Option<Problem> {
    let ways = [
        ("tls.self_signed", config.tls.self_signed),
        ("tls.domain", !config.tls.domains.is_empty()),
        ("tls.cert", config.tls.cert.is_some()),
    ];
    let mut given = ways.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name);
    if let (Some(one), Some(other)) = (given.next(), given.next()) {
        let problem = Problem::new(origins.get(one)?.clone(), format!("{one} and {other}, both"));
        return Some(problem.hint("leave one of the two out: a listener shows one certificate"));
    }
    let (given, lacks) = match (&config.tls.cert, &config.tls.key) {
        (Some(_), None) => ("tls.cert", "tls.key"),
        (None, Some(_)) => ("tls.key", "tls.cert"),
        (None, None) | (Some(_), Some(_)) => return None,
    };
    let problem = Problem::new(origins.get(given)?.clone(), format!("{given} without {lacks}"));
    Some(problem.hint(format!("name both files, or neither: {lacks} is the other one of the pair")))
}

/// Two places for the models of one program.
fn two_folders(config: &Config, origins: &BTreeMap<&'static str, Place>) -> Option<Problem> {
    config.local.models_dir.as_ref()?;
    config.local.env.get("OLLAMA_MODELS")?;
    let problem = Problem::new(
        origins.get("local.models_dir")?.clone(),
        "local.models_dir, and OLLAMA_MODELS in local.env: one place is said twice",
    );
    Some(problem.hint("leave one of the two out"))
}

/// A credential that crosses a network where everybody on the way can read it.
fn credential_in_clear(config: &Config, place: Option<&Place>) -> Vec<Problem> {
    let Some(place) = place else { return Vec::new() };
    let is_here =
        |host: &str| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let in_clear = config
        .upstreams
        .iter()
        .filter(|upstream| upstream.has_credential() && !upstream.url.tls && !is_here(&upstream.url.host));
    let warn = |upstream: &crate::Upstream| {
        let reason = format!("the credential for {upstream} crosses the network in clear");
        Problem::new(place.clone(), reason).hint("speak TLS with it: write https:// in its url")
    };
    in_clear.map(warn).collect()
}

/// Models for the Ollama of this machine, which a gate with named upstreams does not ask.
fn models_for_nobody(config: &Config, place: Option<&Place>) -> Option<Problem> {
    let (first, true) = (config.local.models.first()?, config.upstreams_given) else { return None };
    let reason =
        format!("{first} is not pulled: the upstreams were named, so that they are not the gate's to fill");
    Some(
        Problem::new(place?.clone(), reason).hint("say per upstream what it shall have: [[upstream]] models"),
    )
}

/// Addresses copied from a client's settings often end in the API's own path.
fn api_as_base(config: &Config, place: Option<&Place>) -> Vec<Problem> {
    let Some(place) = place else { return Vec::new() };
    let copied = config
        .upstreams
        .iter()
        .map(|upstream| &upstream.url)
        .filter(|url| url.base.ends_with("/v1") || url.base.ends_with("/api"));
    let warn = |url: &crate::UpstreamUrl| {
        let reason =
            format!("the upstream {url} has a base path: a chat will go to {}/api/chat there", url.base);
        Problem::new(place.clone(), reason)
            .hint("leave the path out unless a proxy there serves Ollama below it")
    };
    copied.map(warn).collect()
}
