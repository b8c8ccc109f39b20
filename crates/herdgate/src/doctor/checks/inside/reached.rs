//! An address that a container knows, and where nobody lets it in.

use super::super::{GATE, HOST};
use super::{bad, given, shared};
use crate::doctor::checks::docker::lines;
use crate::doctor::checks::{at, drop_in};
use crate::doctor::facts::{Container, End, Inside, Place};
use crate::doctor::finding::{Cure, Finding};
use std::net::IpAddr;

/// localhost, in a container.
pub(super) fn itself_asked(inside: &Inside, place: &Place) -> Finding {
    let container = &inside.container;
    let seen = format!("{} asks {}, which is the container itself", container.name, place.host);
    let beside = inside
        .others
        .iter()
        .find(|other| other.is_ollama && other.is_running && shared(container, other).is_some());
    let cure = match beside {
        Some(other) => lines(container, given(inside, place, &other.name)),
        None => lines(
            container,
            format!("{}\nextra_hosts:\n  - \"{HOST}:host-gateway\"", given(inside, place, HOST)),
        ),
    };
    bad(place, seen)
        .because("localhost in a container is the container; its host has another name")
        .cured(cure)
}

/// The name leads to this machine, and nobody is there.
pub(super) fn on_host(inside: &Inside, place: &Place, ip: IpAddr, end: &End) -> Finding {
    let (name, port) = (&inside.container.name, place.port);
    let there = || inside.host_listens.iter().filter(|listens| listens.port() == port);
    let is_open = |listens: &&std::net::SocketAddr| {
        listens.ip() == ip || listens.ip().is_unspecified() && (listens.is_ipv6() || ip.is_ipv4())
    };
    if there().any(|listens| is_open(&listens)) && *end != End::Refused {
        let from = place.from.map_or_else(|| "172.16.0.0/12".to_owned(), |from| network(inside, from));
        let seen = format!("{} is open, and lets nothing in from {name}", at(&ip.to_string(), port));
        return bad(place, seen)
            .because("a firewall of this machine drops what comes from its containers")
            .cured(
                Cure::run(format!("sudo iptables -I INPUT -p tcp -s {from} --dport {port} -j ACCEPT"))
                    .or(Cure::run(format!("sudo ufw allow from {from} to any port {port} proto tcp")))
                    .or(Cure::run(format!("sudo herdgate deploy firewall --allow {from} --write"))
                        .note("for the gate's port; kept over a reboot")),
            );
    }
    let listen = at(&ip.to_string(), port);
    if let Some(loopback) = there().find(|listens| listens.ip().is_loopback()) {
        let seen = format!("{listen} refuses {name}: on this machine only {loopback} listens");
        let gate = Cure::run(format!("herdgate serve --listen {listen} --upstream http://{loopback}"))
            .note("the gate listens where packets of containers arrive, and asks for a key; the server stays on loopback");
        return bad(place, seen)
            .because("packets of containers come in at the bridge's address, not on loopback")
            .cured(gate.or(
                drop_in("OLLAMA_HOST", &listen).note("without a key, for every container of this machine"),
            ));
    }
    bad(place, format!("{listen} refuses {name}: nobody listens on this machine at port {port}"))
        .because("the server that it asks is not there, or has another port")
        .cured(
            Cure::run("sudo systemctl start ollama")
                .or(Cure::run(format!("sudo ss -tlnp | grep -E '11434|{GATE}|{port}'"))
                    .note("shows who listens where")),
        )
}

/// The network that this address of the container's is in.
fn network(inside: &Inside, own: IpAddr) -> String {
    let bits = inside.addresses.iter().find(|(ip, _)| *ip == own).map(|(_, bits)| *bits);
    let network = bits.and_then(|bits| gate_types::Cidr::of(own, bits));
    network.map_or_else(|| own.to_string(), |network| network.to_string())
}

/// An address of its own network.
pub(super) fn neighbour(inside: &Inside, place: &Place, end: &End) -> Option<Finding> {
    let is_it = |other: &&Container| other.name == place.host || other.aliases.contains(&place.host);
    let other = inside.others.iter().find(is_it)?;
    let (engine, name, port) = (&inside.engine, &other.name, place.port);
    let finding =
        |does: &str| bad(place, format!("the container {name} is there, and {does} at port {port}"));
    let is_loopback = |host: &String| {
        ["127.", "localhost", "[::1]"]
            .iter()
            .any(|start| host.trim_start_matches("http://").starts_with(start))
    };
    if let Some(host) = other.listens.as_ref().filter(|host| is_loopback(host)) {
        return Some(
            finding("nobody listens for others")
                .because(format!(
                    "its OLLAMA_HOST is {host}: its own loopback, which no other container reaches"
                ))
                .cured(lines(other, "environment:\n  OLLAMA_HOST: 0.0.0.0".to_owned())),
        );
    }
    let does = if *end == End::Refused { "refuses" } else { "does not answer" };
    Some(
        finding(does)
            .because("its server has another port, or has not started; ports that are published count outside alone")
            .cured(Cure::run(format!("{engine} logs --tail 50 {name}")).then(format!("{engine} port {name}"))),
    )
}
