//! Does the name stand for an address, and does the first of several addresses lead to the server?

use super::{HOST, at, inside, time};
use crate::doctor::facts::{Dial, End, Facts, Names, Place, is_local};
use crate::doctor::finding::{Cure, Finding};
use std::net::IpAddr;

const CHECK: &str = "name";
/// A name server that takes longer is in the way of every new connection.
const SLOW: u64 = 2_000_000;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let places = facts.places.iter().filter(|place| !inside::is_told(facts, place));
    places.filter_map(|place| Some(one(place, place.names.as_ref()?))).collect()
}

fn one(place: &Place, names: &Names) -> Finding {
    let host = &place.host;
    if names.addresses.is_empty() {
        return unknown(place, names);
    }
    let shown: Vec<String> = names.addresses.iter().map(ToString::to_string).collect();
    let seen = format!("{host} is {} ({})", shown.join(", "), time(names.micros));
    if let Some(finding) = first_fails(place, names) {
        return finding;
    }
    if names.micros >= SLOW {
        let slow = Finding::warn(CHECK, &place.url, format!("{seen}: slow"));
        return slow
            .because("every program that connects there waits for the name first")
            .cured(hosts_line(host, names.addresses[0]));
    }
    Finding::ok(CHECK, &place.url, seen)
}

/// The name has no address.
fn unknown(place: &Place, names: &Names) -> Finding {
    let host = &place.host;
    let why = names.failed.as_deref().unwrap_or("it has no address");
    let finding = Finding::bad(CHECK, &place.url, format!("{host} cannot be looked up: {why}"));
    if host == HOST {
        return docker(finding, names, place.port);
    }
    if let Some(near) = near(host, &names.known) {
        let cure = Cure::run(format!("herdgate doctor {}", at(near, place.port)));
        return finding.because(format!("this machine knows a {near}: is that what was meant?")).cured(cure);
    }
    let (because, cure) = if is_local(host) {
        (
            "names that end in .local are asked for by multicast on the same network: containers, VPNs and machines without \
             a resolver for them (libnss-mdns) know none",
            known_address(host, place.port, names),
        )
    } else {
        ("no program of this machine gets there by that name", ask_for_address(host))
    };
    let address = names.heard.map_or_else(|| "ADDRESS".to_owned(), |heard| heard.to_string());
    finding.because(because).cured(if names.in_container { in_compose(host, &address, cure) } else { cure })
}

/// Docker gives the name of its host only to who asks for it (`--add-host`).
fn docker(finding: Finding, names: &Names, port: u16) -> Finding {
    let gateway = names.gateway.map(IpAddr::V4).filter(|_| names.in_container);
    let compose = Cure::run(format!("extra_hosts:\n  - \"{HOST}:host-gateway\""))
        .within("docker-compose.yml, at the service")
        .note("then: docker compose up -d");
    let cure = match gateway {
        Some(gateway) => compose.or(hosts_line(HOST, gateway).note("until the container is made anew")),
        None => compose.or(Cure::run(format!("herdgate doctor 127.0.0.1:{port}"))
            .note("outside of containers the host is this machine itself")),
    };
    finding
        .because("on Linux a container knows its host by that name only where it was started so")
        .cured(cure)
}

/// What can be done without knowing the address.
fn ask_for_address(host: &str) -> Cure {
    Cure::run("hostname -I").on(host).then(format!("echo \"ADDRESS {host}\" | sudo tee -a /etc/hosts")).note(
        "the first on that machine, it prints its ADDRESS; the second here, or write the address instead of the name",
    )
}

/// With the address that its owner tells on the network.
fn known_address(host: &str, port: u16, names: &Names) -> Cure {
    let Some(heard) = names.heard else { return ask_for_address(host) };
    hosts_line(host, heard.into())
        .note(format!(
            "{heard} is what a machine of this network says, and may change: give it a fixed address"
        ))
        .or(Cure::run("sudo apt-get install libnss-mdns")
            .note("lets all programs of this machine ask as this one did"))
        .or(Cure::run(format!("herdgate doctor http://{heard}:{port}"))
            .note("write the address instead of the name"))
}

fn in_compose(host: &str, address: &str, cure: Cure) -> Cure {
    cure.or(Cure::run(format!("extra_hosts:\n  - \"{host}:{address}\"")).within("docker-compose.yml, at the service"))
        .or(Cure::run("network_mode: host").within("docker-compose.yml, at the service").note(
            "not recommended: the container then shares all ports of this machine, and its other networks are gone",
        ))
}

fn hosts_line(host: &str, address: IpAddr) -> Cure {
    Cure::run(format!("echo \"{address} {host}\" | sudo tee -a /etc/hosts"))
}

/// A slip away from a name that this machine knows.
pub(super) fn near<'n>(host: &str, known: &'n [String]) -> Option<&'n str> {
    let far = |name: &str| strsim::osa_distance(&host.to_ascii_lowercase(), &name.to_ascii_lowercase());
    let near = |name: &&'n String| far(name) <= 2.min(host.len() / 3);
    known.iter().filter(near).min_by_key(|name| far(name)).map(String::as_str)
}

/// The first address leads nowhere, and a later one does: IPv6 first, and a server that has IPv4 alone.
fn first_fails(place: &Place, names: &Names) -> Option<Finding> {
    let first = place.dials.first().filter(|dial| dial.end != End::Open)?;
    let open = place.open()?;
    let (host, lost) = (&place.host, first.address.ip());
    let shown = match first.end {
        End::Refused => "refuses",
        _ => "does not answer",
    };
    let seen =
        format!("{host} is {lost} first, which {shown}, and then {}, which answers", open.address.ip());
    let url = place.url.replacen(host.as_str(), &bracketed(open), 1);
    let cure =
        Cure::run(format!("herdgate doctor {url}")).note("write the address instead of the name, everywhere");
    let line = names.hosts.iter().find(|line| line.starts_with(&lost.to_string()));
    let cure = match line {
        Some(line) => Cure::run(format!(
            "hosts=$(sed '/^{lost}[[:space:]].*{host}/d' /etc/hosts) && echo \"$hosts\" | sudo tee /etc/hosts"
        ))
        .note(format!("it takes this line out: {line}"))
        .or(cure),
        None => cure.or(hosts_line(host, open.address.ip())),
    };
    let finding = if first.end == End::Refused {
        Finding::warn(CHECK, &place.url, seen)
            .because("programs that try one address alone fail, the others lose a moment at each connection")
    } else {
        Finding::bad(CHECK, &place.url, seen).because(
            "programs wait at the first address until they give up, or for seconds at each connection",
        )
    };
    Some(finding.cured(cure))
}

fn bracketed(dial: &Dial) -> String {
    match dial.address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Mark;

    fn place(host: &str, names: Names, dials: &[(&str, End)]) -> Facts {
        let dial = |(address, end): &(&str, End)| Dial {
            address: address.parse().unwrap(),
            end: end.clone(),
            micros: 9,
        };
        let place = Place {
            url: format!("http://{host}:11434"),
            host: host.to_owned(),
            port: 11434,
            names: Some(names),
            dials: dials.iter().map(dial).collect(),
            ..Place::default()
        };
        Facts { places: vec![place], ..Facts::default() }
    }

    fn told(facts: &Facts) -> (Mark, String, String) {
        let finding = judge(facts).pop().unwrap();
        let mut cures = Vec::new();
        let mut open: Vec<Cure> = finding.cure.into_iter().collect();
        while let Some(cure) = open.pop() {
            cures.extend(cure.run.clone());
            open.extend(cure.or);
        }
        (finding.mark, finding.seen, cures.join("\n"))
    }

    fn lost() -> Names {
        Names { failed: Some("Name or service not known".into()), ..Names::default() }
    }

    #[test]
    fn a_name_without_an_address_is_cured_where_the_client_is() {
        let (mark, seen, cure) = told(&place("cuda.local", lost(), &[]));
        assert_eq!(mark, Mark::Bad);
        assert!(seen.contains("cuda.local cannot be looked up: Name or service not known"), "{seen}");
        assert!(cure.contains("echo \"ADDRESS cuda.local\" | sudo tee -a /etc/hosts"), "{cure}");
        assert!(!cure.contains("extra_hosts"), "{cure}");
        let (_, _, cure) = told(&place("cuda.local", Names { in_container: true, ..lost() }, &[]));
        assert!(cure.contains("- \"cuda.local:ADDRESS\"") && cure.contains("network_mode: host"), "{cure}");
        let heard = Some([192, 168, 1, 100].into());
        let (_, _, cure) = told(&place("cuda.local", Names { heard, in_container: true, ..lost() }, &[]));
        assert!(cure.starts_with("echo \"192.168.1.100 cuda.local\" | sudo tee -a /etc/hosts"), "{cure}");
        assert!(cure.contains("- \"cuda.local:192.168.1.100\""), "{cure}");
        let known = vec!["gpu1".to_owned(), "localhost".to_owned()];
        let (_, _, cure) = told(&place("gpu11", Names { known, ..lost() }, &[]));
        assert_eq!(cure, "herdgate doctor gpu1:11434");
    }

    #[test]
    fn the_host_of_a_container_is_named_where_it_is_started() {
        let (mark, _, cure) = told(&place(HOST, lost(), &[]));
        assert!(mark == Mark::Bad && cure.contains("- \"host.docker.internal:host-gateway\""), "{cure}");
        assert!(cure.contains("herdgate doctor 127.0.0.1:11434"), "{cure}");
        let gateway = Some([172, 17, 0, 1].into());
        let (_, _, cure) = told(&place(HOST, Names { in_container: true, gateway, ..lost() }, &[]));
        assert!(cure.contains("echo \"172.17.0.1 host.docker.internal\""), "{cure}");
    }

    #[test]
    fn an_address_that_comes_first_and_leads_nowhere_is_told() {
        let addresses = vec!["fd00::2".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let names = || Names { addresses: addresses.clone(), micros: 800, ..Names::default() };
        let six = "[fd00::2]:11434";
        let four = ("10.0.0.2:11434", End::Open);
        let (mark, seen, cure) = told(&place("gpu1", names(), &[(six, End::Refused), four.clone()]));
        assert!(mark == Mark::Warn && seen.contains("fd00::2 first, which refuses"), "{seen}");
        assert!(cure.contains("herdgate doctor http://10.0.0.2:11434"), "{cure}");
        let hosts = vec!["fd00::2 gpu1".to_owned()];
        let facts = place("gpu1", Names { hosts, ..names() }, &[(six, End::Silent), four.clone()]);
        let (mark, _, cure) = told(&facts);
        assert!(
            mark == Mark::Bad && cure.contains("sed '/^fd00::2[[:space:]].*gpu1/d' /etc/hosts"),
            "{cure}"
        );
        let (mark, seen, _) = told(&place("gpu1", names(), &[(six, End::Open), four]));
        assert_eq!((mark, seen.as_str()), (Mark::Ok, "gpu1 is fd00::2, 10.0.0.2 (under 1 ms)"));
    }

    #[test]
    fn a_slow_name_is_worth_a_look() {
        let names =
            Names { addresses: vec!["10.0.0.2".parse().unwrap()], micros: 5_012_000, ..Names::default() };
        let (mark, seen, cure) = told(&place("gpu1", names, &[("10.0.0.2:11434", End::Open)]));
        assert!(mark == Mark::Warn && seen.ends_with("(5.0 s): slow"), "{seen}");
        assert!(cure.contains("echo \"10.0.0.2 gpu1\""), "{cure}");
    }
}
