//! `Spec` to [`Config`]: each value applied in the order of its rank, then what holds between values.

use crate::config::Config;
use crate::listen::Listen;
use crate::listener::{self, Listener};
use crate::problem::{Place, Problem};
use crate::read::apply;
use crate::route;
use crate::spec::{Given, Item, Known, Rank, Raw, Spec};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
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
    /// The settings file that was read, where there was one.
    pub file: Option<PathBuf>,
}

impl Config {
    /// Makes the settings of what was said.
    pub(crate) fn check(mut spec: Spec) -> Result<Loaded, Vec<Problem>> {
        let (keys, routes) = (std::mem::take(&mut spec.keys), std::mem::take(&mut spec.routes));
        let mut config = Config { auth_token: spec.auth_token.take(), keys, routes, ..Config::default() };
        let mut origins = BTreeMap::new();
        let (mut problems, mut warnings) = (spec.problems, spec.warnings);
        // Stable, and lowest first: the last to be applied is the one that is heard.
        spec.given.sort_by_key(|given| given.rank);
        for given in &spec.given {
            match apply(given, &mut config) {
                Ok(()) => {
                    origins.insert(given.setting.key, given.item.place.clone());
                }
                Err(more) => problems.extend(more),
            }
        }
        if problems.is_empty() {
            problems.extend(own_upstream(&config, &origins));
            problems.extend(route::astray(&config));
            problems.extend(route::unrouted(&config, origins.get("upstreams")));
            problems.extend(metrics_at_listener(&config, &origins));
            problems.extend(no_pair(&config, &origins));
            problems.extend(callers(&config, &origins));
            problems.extend(listener::problems(&config, origins.get("listen.address")));
            warnings.extend(replaced(&spec.given));
            problems.extend(two_folders(&config, &origins));
            warnings.extend(api_as_base(&config, origins.get("upstreams")));
            warnings.extend(credential_in_clear(&config, origins.get("upstreams")));
        }
        problems.sort();
        warnings.sort();
        if problems.is_empty() {
            Ok(Loaded { config, warnings, origins, file: spec.file })
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
