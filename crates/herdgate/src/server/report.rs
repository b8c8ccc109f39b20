//! What the start-up says to the person who started it: where it listens, which upstreams it found, what is wrong with
//! each, and a line to try. Talk for people; logs are elsewhere.

use super::acme;
use super::bind::Bound;
use super::first_key::FirstKey;
use super::local::Program;
use super::own_ca::OwnCa;
use super::prober::Latest;
use super::upstreams::words;
use gate_config::{Anonymous, Config, Listener};
use gate_proxy::NotYet;
use gate_upstream::Endpoint;
use gate_upstream::probe::{ModelEntry, Probe};
use std::fmt::Write as _;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

/// Model names shown per upstream.
const NAMES_SHOWN: usize = 6;

/// What there is to say of a listener.
pub(super) struct Door {
    pub(super) address: SocketAddr,
    pub(super) is_tls: bool,
    listener: Listener,
}

impl Door {
    pub(super) fn of(bound: &Bound, config: &Config) -> Self {
        Door {
            address: bound.address,
            is_tls: bound.listener.is_tls(config),
            listener: bound.listener.clone(),
        }
    }

    fn scheme(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }

    fn note(&self) -> &'static str {
        match (self.is_tls, self.listener.redirect) {
            (true, _) => "",
            (false, true) => "  (plain, only points to https)",
            (false, false) => "  (plain)",
        }
    }
}

/// Says every address under which the gate can be reached, where keys would cross a network in clear, and where none is needed.
pub(super) fn listening(
    talk: &mut dyn Write,
    doors: &[Door],
    metrics: Option<SocketAddr>,
    has_key: impl Fn(&str) -> bool,
) {
    let mut text = format!("herdgate {}\n", env!("CARGO_PKG_VERSION"));
    let mut in_clear = None;
    for door in doors {
        let (scheme, note) = (door.scheme(), door.note());
        for address in reachable(door.address) {
            if !door.is_tls && !door.listener.redirect && !address.ip().is_loopback() {
                in_clear = in_clear.or(Some(address.port()));
            }
            line(&mut text, format_args!("  listening on  {scheme}://{address}{note}"));
        }
    }
    if let Some(address) = metrics {
        line(&mut text, format_args!("  metrics at    http://{address}/metrics  (no key)"));
    }
    if let Some(port) = in_clear {
        line(
            &mut text,
            format_args!(
                "  warning: without TLS, keys cross the network in clear; listen on 127.0.0.1 alone"
            ),
        );
        if doors.iter().any(|door| door.is_tls) {
            line(&mut text, format_args!("           (127.0.0.1:{port}), or leave out tls = false there"));
        } else {
            line(
                &mut text,
                format_args!(
                    "           (--listen 127.0.0.1:{port}), or have a certificate: in the settings,"
                ),
            );
            line(
                &mut text,
                format_args!("           tls.domain for a public name, tls.self_signed = true for any other"),
            );
        }
    }
    for door in doors {
        if let Some(Anonymous { networks, acts_as }) = &door.listener.insecure_anonymous {
            let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
            let (address, networks) = (door.address, networks.join(" and "));
            line(
                &mut text,
                format_args!("  warning: {address} lets callers from {networks} in without a key"),
            );
            line(
                &mut text,
                format_args!("           (insecure_anonymous): they act as the key \"{acts_as}\""),
            );
            if !has_key(acts_as) {
                let cure = format!("herdgate key create {acts_as}");
                line(&mut text, format_args!("           there is no valid key of that name: {cure}"));
            }
        }
    }
    say(talk, &text);
}

/// Says what clients must trust, where the gate vouches for itself, or which authority does.
pub(super) fn trust(talk: &mut dyn Write, own_ca: Option<&OwnCa>, authority: Option<&acme::Told>) {
    let mut text = String::new();
    if let Some(own_ca) = own_ca {
        line(&mut text, format_args!("  trust         {}", own_ca.path().display()));
        line(&mut text, format_args!("                SHA-256 {}", own_ca.fingerprint()));
    }
    if let Some(acme::Told { names, authority, until, is_wanted }) = authority {
        let names = names.join(", ");
        match until {
            Some(until) if *is_wanted => {
                line(&mut text, format_args!("  certificate   for {names}, good until {until}"));
            }
            Some(until) => {
                line(
                    &mut text,
                    format_args!("  certificate   for {names} is asked for; the one before serves"),
                );
                line(&mut text, format_args!("                until then, at the latest until {until}"));
            }
            None => {
                line(
                    &mut text,
                    format_args!("  certificate   none yet for {names}: handshakes fail until then"),
                );
            }
        }
        line(
            &mut text,
            format_args!("                by {authority}; tls.domain agrees to its terms of service"),
        );
    }
    say(talk, &text);
}

/// Hands over the first key, with a line to try it, or says where an earlier start left it.
pub(super) fn first_key(
    talk: &mut dyn Write,
    first: Option<&FirstKey>,
    own_ca: Option<&OwnCa>,
    authority: Option<&acme::Told>,
    doors: &[Door],
) {
    let Some(first) = first else { return };
    let Some(door) = doors.iter().find(|door| !door.listener.redirect) else { return };
    let own_ca = own_ca.filter(|_| door.is_tls);
    let trust = own_ca.map_or_else(String::new, |ca| format!("--cacert {} ", ca.path().display()));
    let host = match authority.filter(|_| door.is_tls).and_then(|told| told.names.first()) {
        Some(name) if door.address.port() == 443 => name.clone(),
        Some(name) => format!("{name}:{}", door.address.port()),
        None => nearest(door.address).to_string(),
    };
    let url = format!("{trust}{}://{host}", door.scheme());
    let mut text = String::new();
    match first {
        FirstKey::Shown(secret) => {
            line(&mut text, format_args!("  first key     {}  (shown once: keep it)", secret.expose()));
            line(
                &mut text,
                format_args!(
                    "  try it        curl {url}/api/tags -H 'Authorization: Bearer {}'",
                    secret.expose()
                ),
            );
        }
        FirstKey::Written(path) => {
            let path = path.display();
            line(&mut text, format_args!("  first key     written to {path}"));
            line(
                &mut text,
                format_args!(
                    "  try it        curl {url}/api/tags -H \"Authorization: Bearer $(cat {path})\""
                ),
            );
        }
        FirstKey::Lies(path) => {
            line(&mut text, format_args!("  first key     lies in {}", path.display()));
        }
    }
    say(talk, &text);
}

/// Says what each upstream is, or what is wrong with it, in one line each.
pub(super) fn upstreams(
    talk: &mut dyn Write,
    endpoints: &[Endpoint],
    found: &[Latest],
    started: &[Program],
    not_yet: &NotYet,
) {
    let mut text = String::new();
    for program in started {
        line(&mut text, format_args!("  started       {}", words(program)));
    }
    for (endpoint, latest) in endpoints.iter().zip(found) {
        let state = match latest.borrow().as_deref() {
            Some(probe) => state(endpoint, endpoints.len() == 1, probe),
            None => "no answer yet".to_owned(),
        };
        line(&mut text, format_args!("  upstream      {endpoint}  {state}"));
    }
    if let NotYet::NothingFound(hint) = not_yet {
        line(&mut text, format_args!("  warning: {hint}"));
    }
    say(talk, &text);
}

fn state(endpoint: &Endpoint, is_only: bool, probe: &Probe) -> String {
    let version = match &probe.version {
        Ok(version) => version,
        Err(reason) if probe.leads_back => {
            return format!("refused: {reason}; take it out of the settings");
        }
        Err(_) if probe.is_other => return "answers; its routes lead there, and nothing else".to_owned(),
        Err(reason) => return reason.as_str().to_owned(),
    };
    let server = match version.strip_suffix("-herdgate") {
        Some(level) => format!("herdgate-engine (as Ollama {level})"),
        None => format!("Ollama {version}"),
    };
    match &probe.models {
        Ok(models) if models.is_empty() => {
            let on = if is_only { String::new() } else { format!(" --on {endpoint}") };
            format!("{server}, no models: `herdgate pull NAME{on}` gets one")
        }
        Ok(models) => format!("{server}, {}", names(models)),
        Err(reason) => format!("{server}, but its models cannot be listed: {reason}"),
    }
}

fn names(models: &[ModelEntry]) -> String {
    let mut names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(NAMES_SHOWN);
    let mut text = format!("{} model{}: ", names.len(), if names.len() == 1 { "" } else { "s" });
    text.push_str(&names[..names.len() - more].join(", "));
    if more > 0 {
        let _infallible = write!(text, " and {more} more");
    }
    text
}

/// The addresses behind one bound address: itself, or each of the machine's where it is bound to all.
fn reachable(bound: SocketAddr) -> Vec<SocketAddr> {
    if !bound.ip().is_unspecified() {
        return vec![bound];
    }
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let ips = interfaces.into_iter().map(|interface| interface.ip());
    let mut addresses: Vec<SocketAddr> =
        ips.filter(|ip| is_shown(*ip, bound.is_ipv6())).map(|ip| SocketAddr::new(ip, bound.port())).collect();
    addresses.sort_by_key(|address| (!address.ip().is_loopback(), address.is_ipv6(), address.ip()));
    addresses.dedup();
    if addresses.is_empty() { vec![bound] } else { addresses }
}

/// Link-local addresses need a zone that differs on every client; nobody types them.
fn is_shown(ip: IpAddr, dual_stack: bool) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => dual_stack && !ip.is_unicast_link_local(),
    }
}

/// The address to type on this very machine.
fn nearest(bound: SocketAddr) -> SocketAddr {
    if bound.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], bound.port())) } else { bound }
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _infallible = writeln!(text, "{words}");
}

fn say(talk: &mut dyn Write, text: &str) {
    // A closed standard error must not end the gate.
    let _closed = talk.write_all(text.as_bytes()).and_then(|()| talk.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_of_the_machine_stand_for_the_unspecified_one() {
        let shown = reachable(SocketAddr::from(([0, 0, 0, 0], 7860)));
        assert_eq!(shown[0], SocketAddr::from(([127, 0, 0, 1], 7860)));
        assert!(shown.iter().all(|address| address.is_ipv4()));
    }

    #[test]
    fn a_warning_is_given_where_keys_cross_a_network() {
        let said = |is_tls: bool, bound: &str| said(is_tls, Listener::at(bound.parse().unwrap()));
        assert!(said(false, "192.0.2.1:7860").contains("in clear"));
        assert!(said(false, "192.0.2.1:17860").contains("--listen 127.0.0.1:17860"));
        assert!(!said(false, "127.0.0.1:7860").contains("in clear"));
        assert!(!said(true, "192.0.2.1:7860").contains("in clear"));
    }

    #[test]
    fn a_plain_listener_beside_one_with_tls_needs_no_certificate() {
        let door = |is_tls, text: &str| {
            let listener = Listener::at(text.parse().unwrap());
            Door { address: listener.address.address, is_tls, listener }
        };
        let mut talk = Vec::new();
        listening(&mut talk, &[door(true, "192.0.2.1:1"), door(false, "192.0.2.1:2")], None, |_| true);
        let said = String::from_utf8(talk).unwrap();
        assert!(said.contains("or leave out tls = false there") && !said.contains("certificate"), "{said}");
    }

    fn said(is_tls: bool, listener: Listener) -> String {
        let mut talk = Vec::new();
        let address = listener.address.address;
        listening(&mut talk, &[Door { address, is_tls, listener }], None, |name| name == "ci");
        String::from_utf8(talk).unwrap()
    }

    #[test]
    fn a_listener_that_wants_no_key_or_serves_nothing_is_told_of() {
        let at = Listener::at("172.18.0.2:7860".parse().unwrap());
        let redirects = said(false, Listener { redirect: true, ..at.clone() });
        assert!(redirects.contains("only points to https") && !redirects.contains("in clear"), "{redirects}");
        let networks = vec!["172.18.0.0/24".parse().unwrap()];
        let anonymous = Some(Anonymous { networks, acts_as: "stack".to_owned() });
        let told = said(true, Listener { insecure_anonymous: anonymous, ..at });
        assert!(
            told.contains("warning: 172.18.0.2:7860 lets callers from 172.18.0.0/24 in without a key"),
            "{told}"
        );
        assert!(told.contains("the key \"stack\"") && told.contains("herdgate key create stack"), "{told}");
    }
}
