//! ufw: its own commands, which it keeps over a restart by itself. Rules come before those that are there, such as an
//! `ufw allow 11434/tcp` of earlier days. Published ports pass by ufw: for those there is the script of `iptables`.

use super::iptables::{self, Reach};
use super::{Names, Port, is_of_v6};
use crate::deploy::{Act, Deployment, Ground};
use gate_types::Cidr;

pub(super) fn add(deployment: &mut Deployment, names: Names, ports: &[Port], ground: &Ground<'_>) {
    iptables::add(deployment, names, ports, ground, Reach::Published);
    for port in ports {
        // Each is put before the one before it, so the one that turns everybody away comes first here and last there.
        let number = port.number;
        let to = port.at.map_or_else(|| "any".to_owned(), |at| at.to_string());
        let deny = format!("deny proto tcp from any to {to} port {number}");
        // A network of the other family never comes to that address, and ufw takes no rule of both.
        let fits = |network: &&Cidr| port.at.is_none_or(|at| is_of_v6(network) == at.is_ipv6());
        let allow = port
            .allow
            .iter()
            .filter(fits)
            .map(|network| format!("allow proto tcp from {network} to {to} port {number}"));
        for rule in std::iter::once(deny).chain(allow) {
            deployment.then.push(Act::of(&format!("ufw prepend {rule} comment {}", names.table)));
            deployment.after_undo.push(Act::of(&format!("ufw delete {rule}")));
        }
    }
    deployment.then.push(Act::of("ufw status verbose"));
    deployment
        .notes
        .push("rules of ufw count once it is active: `ufw status` says so, `ufw enable` makes it".to_owned());
}
