//! Does this machine's firewall close the gate's port, open Ollama's, or forget its rules at the next start?

use super::MACHINE;
use crate::doctor::facts::{Facts, Firewall, Machine, Maker, Rule, Verdict};
use crate::doctor::finding::{Cure, Finding};
use gate_types::Cidr;

const CHECK: &str = "firewall";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(machine) = &facts.machine else { return Vec::new() };
    let Some(wall) = &machine.firewall else { return Vec::new() };
    let mut ports: Vec<u16> =
        machine.listeners.iter().filter(|at| !at.ip().is_loopback()).map(|at| at.port()).collect();
    ports.dedup();
    let closed = ports.iter().filter_map(|port| closed(machine, wall, *port));
    let open = machine.ollama_ports.iter().filter_map(|port| open(wall, *port));
    let all = || ports.iter().chain(&machine.ollama_ports);
    let lost = all().find_map(|port| {
        wall.of_port(*port).find(|rule| !rule.is_kept).map(|rule| forgotten(wall, *port, rule))
    });
    let mut findings: Vec<Finding> = closed.chain(open).chain(lost).collect();
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, MACHINE, format!("{} lets in whom it should", named(wall))));
    }
    findings
}

fn named(wall: &Firewall) -> &'static str {
    match wall.maker {
        Maker::Ufw => "ufw",
        Maker::Firewalld => "firewalld",
        Maker::Iptables => "iptables",
        Maker::Nftables => "nftables",
    }
}

/// A gate listens for others, and nobody gets to it.
fn closed(machine: &Machine, wall: &Firewall, port: u16) -> Option<Finding> {
    let is_gate = |name: &str| name == "herdgate" || name == "systemd";
    let runs = machine.sockets.iter().any(|socket| {
        socket.address.port() == port && socket.owner.as_ref().is_some_and(|owner| is_gate(&owner.name))
    });
    if wall.verdict(port) != Verdict::Closed || !runs {
        return None;
    }
    let cure = match wall.maker {
        Maker::Ufw => Cure::run(format!("sudo ufw allow {port}/tcp")),
        Maker::Firewalld => Cure::run(format!("sudo firewall-cmd --permanent --add-port={port}/tcp"))
            .then("sudo firewall-cmd --reload"),
        Maker::Iptables => Cure::run(format!("sudo iptables -I INPUT -p tcp --dport {port} -j ACCEPT")),
        Maker::Nftables => Cure::run(format!("sudo nft insert rule {} tcp dport {port} accept", wall.chain)),
    };
    Some(
        Finding::bad(
            CHECK,
            MACHINE,
            format!("{} lets nobody in at port {port}, where the gate listens", named(wall)),
        )
        .because("clients on other machines wait until they give up")
        .cured(cure.or(network_of(machine))),
    )
}

/// Letting in the network around this machine alone, where it is known.
fn network_of(machine: &Machine) -> Cure {
    match machine.network.and_then(|(ip, bits)| Cidr::of(ip, bits)) {
        Some(network) => Cure::run(format!("sudo herdgate deploy firewall --allow {network} --write"))
            .note("for this network alone, and kept over a reboot"),
        None => Cure::run("sudo herdgate deploy firewall --allow NETWORK --write")
            .note("NETWORK: where clients are, written like 192.168.1.0/24; kept over a reboot"),
    }
}

/// A rule lets everybody to Ollama's own port.
fn open(wall: &Firewall, port: u16) -> Option<Finding> {
    let rule = wall.of_port(port).find(|rule| rule.accepts && rule.from.is_none())?;
    if wall.verdict(port) != Verdict::Open {
        return None;
    }
    let cure = match wall.maker {
        Maker::Ufw => Cure::run(format!("sudo ufw delete allow {}", rule.text)),
        Maker::Firewalld => Cure::run(format!("sudo firewall-cmd --permanent --remove-port={}", rule.text))
            .then("sudo firewall-cmd --reload"),
        Maker::Iptables => Cure::run(format!("sudo iptables -D {}", rule.text)),
        Maker::Nftables => Cure::run(format!("sudo nft -a list chain {}", wall.chain)).note(format!(
            "shows the handle of the rule; then: sudo nft delete rule {} handle NUMBER",
            wall.chain
        )),
    };
    Some(
        Finding::warn(
            CHECK,
            MACHINE,
            format!("{} lets everybody in at port {port}, which is Ollama's", named(wall)),
        )
        .because("it wants no key; clients belong to the gate's port")
        .cured(cure),
    )
}

/// A rule that is gone after the next start.
fn forgotten(wall: &Firewall, port: u16, rule: &Rule) -> Finding {
    let cure = match wall.maker {
        Maker::Ufw => Cure::run("sudo ufw reload"),
        Maker::Firewalld => Cure::run("sudo firewall-cmd --runtime-to-permanent"),
        Maker::Iptables => Cure::run("sudo apt-get install -y iptables-persistent").then("sudo netfilter-persistent save"),
        Maker::Nftables => Cure::run("(echo '#!/usr/sbin/nft -f'; echo 'flush ruleset'; sudo nft list ruleset) | sudo tee /etc/nftables.conf")
            .then("sudo systemctl enable nftables"),
    };
    Finding::warn(
        CHECK,
        MACHINE,
        format!("{} forgets a rule for port {port} at the next start: {}", named(wall), rule.text),
    )
    .because("after a reboot clients are lost, or strangers come in")
    .cured(cure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_said_where_it_is_known_and_never_guessed() {
        let told = |network: Option<(std::net::IpAddr, u8)>| {
            let addresses = vec!["172.17.0.1".parse().unwrap()];
            network_of(&Machine { network, addresses, ..Machine::default() }).run
        };
        let near = Some(("10.20.1.7".parse().unwrap(), 22));
        assert_eq!(told(near), ["sudo herdgate deploy firewall --allow 10.20.0.0/22 --write"]);
        assert_eq!(told(None), ["sudo herdgate deploy firewall --allow NETWORK --write"]);
    }
}
