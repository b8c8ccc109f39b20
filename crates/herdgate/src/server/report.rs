//! What the start-up says to the person who started it: where it listens, which upstreams it found, what is wrong with
//! each, and a line to try. Talk for people; logs are elsewhere.

use super::first_key::FirstKey;
use super::local::Program;
use super::own_ca::OwnCa;
use super::prober::Latest;
use super::upstreams::words;
use gate_proxy::NotYet;
use gate_upstream::Endpoint;
use gate_upstream::probe::{ModelEntry, Probe};
use std::fmt::Write as _;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

/// Model names shown per upstream.
const NAMES_SHOWN: usize = 6;

/// Says every address under which the gate can be reached, and where keys would cross a network in clear.
pub(super) fn listening(
    talk: &mut dyn Write,
    scheme: &str,
    bound: &[SocketAddr],
    metrics: Option<SocketAddr>,
) {
    let mut text = format!("herdgate {}\n", env!("CARGO_PKG_VERSION"));
    let mut in_clear = None;
    for address in bound.iter().flat_map(|address| reachable(*address)) {
        let is_plain = scheme == "http";
        if is_plain && !address.ip().is_loopback() {
            in_clear = in_clear.or(Some(address.port()));
        }
        let note = if is_plain { "  (plain)" } else { "" };
        line(&mut text, format_args!("  listening on  {scheme}://{address}{note}"));
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
        line(&mut text, format_args!("           (--listen 127.0.0.1:{port}), or name a certificate"));
        line(&mut text, format_args!("           (tls.cert and tls.key in the settings)"));
    }
    say(talk, &text);
}

/// Says what clients must trust, where the gate vouches for itself.
pub(super) fn authority(talk: &mut dyn Write, own_ca: Option<&OwnCa>) {
    let Some(own_ca) = own_ca else { return };
    let mut text = String::new();
    line(&mut text, format_args!("  trust         {}", own_ca.path().display()));
    line(&mut text, format_args!("                SHA-256 {}", own_ca.fingerprint()));
    say(talk, &text);
}

/// Hands over the first key, with a line to try it, or says where an earlier start left it.
pub(super) fn first_key(
    talk: &mut dyn Write,
    first: Option<&FirstKey>,
    scheme: &str,
    own_ca: Option<&OwnCa>,
    bound: &[SocketAddr],
) {
    let Some(first) = first else { return };
    let Some(address) = bound.first() else { return };
    let trust = own_ca.map_or_else(String::new, |ca| format!("--cacert {} ", ca.path().display()));
    let url = format!("{trust}{scheme}://{}", nearest(*address));
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
            Some(probe) => state(endpoint, probe),
            None => "no answer yet".to_owned(),
        };
        line(&mut text, format_args!("  upstream      {endpoint}  {state}"));
    }
    if let NotYet::NothingFound(hint) = not_yet {
        line(&mut text, format_args!("  warning: {hint}"));
    }
    say(talk, &text);
}

fn state(endpoint: &Endpoint, probe: &Probe) -> String {
    let version = match &probe.version {
        Ok(version) => version,
        Err(reason) => return reason.as_str().to_owned(),
    };
    let server = match version.strip_suffix("-herdgate") {
        Some(level) => format!("herdgate-engine (as Ollama {level})"),
        None => format!("Ollama {version}"),
    };
    match &probe.models {
        Ok(models) if models.is_empty() => format!("{server}, no models: `{} NAME` gets one", pull(endpoint)),
        Ok(models) => format!("{server}, {}", names(models)),
        Err(reason) => format!("{server}, but its models cannot be listed: {reason}"),
    }
}

/// The command that pulls a model there: Ollama's own client looks at its usual port unless told otherwise.
fn pull(endpoint: &Endpoint) -> String {
    let is_usual = endpoint.port() == 11434 && matches!(endpoint.host(), "127.0.0.1" | "localhost");
    if is_usual { "ollama pull".to_owned() } else { format!("OLLAMA_HOST={endpoint} ollama pull") }
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
        let said = |scheme: &str, bound: &str| {
            let mut talk = Vec::new();
            listening(&mut talk, scheme, &[bound.parse().unwrap()], None);
            String::from_utf8(talk).unwrap()
        };
        assert!(said("http", "192.0.2.1:7860").contains("in clear"));
        assert!(said("http", "192.0.2.1:17860").contains("--listen 127.0.0.1:17860"));
        assert!(!said("http", "127.0.0.1:7860").contains("in clear"));
        assert!(!said("https", "192.0.2.1:7860").contains("in clear"));
    }
}
