//! `herdgate deploy firewall`: who reaches the gate's ports, and that nobody reaches Ollama's past it.
//!
//! These rules turn away, at these ports alone; they open nothing that another rule closes, and no policy is changed. A port that
//! Docker publishes does not pass INPUT: its packets are sent on to a container before any rule there, with the container's address
//! and port. They are known by the port that they were sent to at first (conntrack), in `DOCKER-USER` or before it. What is sent straight
//! to a container's address, by a neighbour that has a route there, is known by the bridge that it goes to and the port there.

mod firewalld;
mod iptables;
mod nftables;
#[cfg(test)]
mod tests;
mod ufw;

use super::{Base, Deployment, Ground};
use clap::Args;
use gate_types::Cidr;
use std::net::IpAddr;

/// The word of the command.
pub(crate) const KIND: &str = "firewall";
/// Ollama's port, unless somebody gave it another.
pub(crate) const OLLAMA_PORT: u16 = 11434;

/// How the names of bridges begin on which containers are.
const BRIDGES: [&str; 3] = ["docker", "br-", "podman"];

/// Options of `herdgate deploy firewall`.
#[derive(Debug, Args)]
pub(crate) struct FirewallArgs {
    /// Networks that may reach the gate, with commas between them; loopback always may
    #[arg(long, value_name = "CIDR,…", required = true, value_delimiter = ',')]
    pub(crate) allow: Vec<Cidr>,
    /// Networks that may reach Ollama's port past the gate: a gate elsewhere, a bridge of containers [default: none]
    #[arg(long, value_name = "CIDR,…", value_delimiter = ',')]
    pub(crate) allow_ollama: Vec<Cidr>,
    #[command(flatten)]
    pub(crate) tool: ToolArgs,
}

/// Which program holds the rules.
#[derive(Debug, Clone, Default, Args)]
#[group(multiple = false)]
pub(crate) struct ToolArgs {
    /// Rules for ufw
    #[arg(long)]
    pub(crate) ufw: bool,
    /// Rules for firewalld
    #[arg(long)]
    pub(crate) firewalld: bool,
    /// A table of nftables; where none is named, this one: it works beside all others
    #[arg(long)]
    pub(crate) nftables: bool,
    /// Rules for iptables and ip6tables, with a service that sets them
    #[arg(long)]
    pub(crate) iptables: bool,
}

/// What the rules of one kind are called. Each kind has names of its own: all hold at once, and none takes back another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Names {
    /// Of the table, the policy, and of files.
    pub(crate) table: &'static str,
    /// Of the script and its service.
    pub(crate) script: &'static str,
    /// Of the chains of iptables.
    pub(crate) chain: &'static str,
}

/// Those of `herdgate deploy firewall`.
const NAMES: Names = Names { table: "herdgate", script: "herdgate-firewall", chain: "HERDGATE" };

/// One TCP port, and who may reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) number: u16,
    pub(crate) allow: Vec<Cidr>,
    /// The one address of this machine that it is at; none: all of them.
    pub(crate) at: Option<IpAddr>,
    /// Whose it is, as part of a comment.
    pub(crate) whose: &'static str,
}

/// Makes the rules for the gate of these settings.
///
/// # Errors
/// Never so far; as all kinds.
pub(crate) fn make(asked: &FirewallArgs, ground: &Ground<'_>) -> anyhow::Result<Deployment> {
    let mut notes = Vec::new();
    let ports = ports(asked, ground, &mut notes);
    let mut deployment = Deployment::new(KIND, Base::System, Vec::new());
    guard(&mut deployment, NAMES, &ports, &asked.tool, ground);
    deployment.notes.splice(0..0, notes);
    Ok(deployment)
}

fn ports(asked: &FirewallArgs, ground: &Ground<'_>, notes: &mut Vec<String>) -> Vec<Port> {
    let config = ground.config();
    let open = config.listen.iter().map(|listener| listener.address.address);
    let mut numbers: Vec<u16> = open
        .filter(|address| address.port() != 0 && !address.ip().is_loopback())
        .map(|address| address.port())
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.is_empty() {
        notes.push("the gate listens on this machine alone: there is nothing to allow".to_owned());
    }
    for (family, is_v6) in [("IPv4", false), ("IPv6", true)] {
        if !asked.allow.iter().any(|network| is_of_v6(network) == is_v6) {
            notes.push(format!("no network of {family} is allowed: over {family} nobody reaches the gate"));
        }
    }
    if !config.tls.domains.is_empty() && numbers.contains(&443) {
        notes.push(
            "tls.domain: the authority connects to port 443 from anywhere, and gives no certificate where it cannot"
                .to_owned(),
        );
    }
    let gate = numbers.iter().map(|number| Port {
        number: *number,
        allow: distinct(&asked.allow),
        at: None,
        whose: "the gate's",
    });
    let ollama = ollama_ports(ground).into_iter().filter(|port| !numbers.contains(port));
    let allow = distinct(&asked.allow_ollama);
    gate.chain(ollama.map(|number| Port { number, allow: allow.clone(), at: None, whose: "Ollama's" }))
        .collect()
}

/// The usual one, and those at which the settings have an upstream on this machine.
fn ollama_ports(ground: &Ground<'_>) -> Vec<u16> {
    let local = ground.config().upstreams.iter().filter(|one| super::is_loopback(&one.url.host));
    let mut ports: Vec<u16> = local.map(|one| one.url.port).chain([OLLAMA_PORT]).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn distinct(networks: &[Cidr]) -> Vec<Cidr> {
    let mut found: Vec<Cidr> = Vec::new();
    for network in networks {
        if !found.contains(network) {
            found.push(*network);
        }
    }
    found
}

/// Adds the rules to a deployment: their files, what must follow, and how they are taken back.
pub(crate) fn guard(
    deployment: &mut Deployment,
    names: Names,
    ports: &[Port],
    tool: &ToolArgs,
    ground: &Ground<'_>,
) {
    if tool.ufw {
        ufw::add(deployment, names, ports, ground);
    } else if tool.firewalld {
        firewalld::add(deployment, names, ports, ground);
    } else if tool.iptables {
        iptables::add(deployment, names, ports, ground, iptables::Reach::All);
    } else {
        nftables::add(deployment, names, ports, ground);
    }
    deployment.notes.push(
        "a container of this machine comes from its bridge's network (docker network inspect NAME): allow that too where one is a client"
            .to_owned(),
    );
}

/// The networks of one family.
fn of_family(port: &Port, is_v6: bool) -> impl Iterator<Item = &Cidr> {
    port.allow.iter().filter(move |network| is_of_v6(network) == is_v6)
}

fn is_of_v6(network: &Cidr) -> bool {
    network.to_string().contains(':')
}
