//! Which servers are looked at: a target, those of the settings, and those around a container.

use super::Look;
use super::machine::Container;
use super::places::{MOST, Role};
use super::tls::Trust;
use gate_config::{Config, Listener, Locations, UpstreamUrl};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A server that shall be looked at.
pub(super) struct Goal {
    pub(super) url: UpstreamUrl,
    pub(super) role: Role,
    pub(super) trust: Trust,
    /// A server that only routes of the settings lead to is no Ollama, and is asked nothing.
    pub(super) is_ollama: bool,
    pub(super) is_guess: bool,
}

pub(super) fn of_target(look: &Look, url: UpstreamUrl) -> Goal {
    let trust = Trust::of_target(look.roots.clone(), look.bearer.clone());
    Goal { url, role: Role::Target, trust, is_ollama: true, is_guess: false }
}

/// A client of OpenAI's dialect is told a URL with its version; what is asked here has none.
pub(super) fn without_version(mut url: UpstreamUrl) -> UpstreamUrl {
    for end in ["/v1", "/api"] {
        url.base = url.base.strip_suffix(end).unwrap_or(&url.base).to_owned();
    }
    url
}

/// What belongs to this machine alone is looked for at the address by which a container finds the machine.
pub(super) fn around_it(
    config: &Config,
    locations: &Locations,
    container: &Container,
    gateway: Option<IpAddr>,
) -> Vec<Goal> {
    let mut goals = of_settings(config, locations);
    for goal in &mut goals {
        let is_loopback =
            goal.url.host == "localhost" || goal.url.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if is_loopback && !container.on_host {
            goal.url.host = gateway.map(|ip| ip.to_string()).unwrap_or_default();
        }
        // Nobody shall be shown what the settings keep for the gate.
        goal.trust = goal.trust.without_credentials();
    }
    goals.retain(|goal| !goal.url.host.is_empty() && goal.is_ollama);
    goals
}

/// The upstreams, then every listener, as who is on this machine reaches it.
pub(super) fn of_settings(config: &Config, locations: &Locations) -> Vec<Goal> {
    let upstreams = config.upstreams.iter().map(|upstream| Goal {
        url: upstream.url.clone(),
        role: Role::Upstream,
        trust: Trust::of_upstream(upstream),
        is_ollama: upstream.is_ollama,
        is_guess: !config.upstreams_given && config.local.enabled,
    });
    let listeners = config.listen.iter().map(|listener| Goal {
        url: nearest(listener, config),
        role: Role::Listener,
        trust: Trust::of_gate(config, locations),
        is_ollama: true,
        is_guess: false,
    });
    upstreams.chain(listeners).take(MOST).collect()
}

fn nearest(listener: &Listener, config: &Config) -> UpstreamUrl {
    let address = listener.address.address;
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() && listener.address.is_everywhere() => {
            Ipv4Addr::LOCALHOST.into()
        }
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    UpstreamUrl {
        tls: listener.is_tls(config),
        host: ip.to_string(),
        port: address.port(),
        base: String::new(),
    }
}
