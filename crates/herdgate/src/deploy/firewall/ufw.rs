//! ufw: its own commands, which it keeps over a restart by itself. Rules come before those that are there, such as an
//! `ufw allow 11434/tcp` of earlier days. Published ports pass by ufw: for those there is the script of `iptables`.

use super::Port;
use super::iptables::{self, Reach};
use crate::deploy::{Act, Deployment, Ground};

pub(super) fn add(deployment: &mut Deployment, ports: &[Port], ground: &Ground<'_>) {
    iptables::add(deployment, ports, ground, Reach::Published);
    for port in ports {
        // Each is put before the one before it, so the one that turns everybody away comes first here and last there.
        let number = port.number;
        let deny = format!("deny proto tcp from any to any port {number}");
        let allow =
            port.allow.iter().map(|network| format!("allow proto tcp from {network} to any port {number}"));
        for rule in std::iter::once(deny).chain(allow) {
            deployment.then.push(Act::of(&format!("ufw prepend {rule} comment herdgate")));
            deployment.after_undo.push(Act::of(&format!("ufw delete {rule}")));
        }
    }
    deployment.then.push(Act::of("ufw status verbose"));
    deployment
        .notes
        .push("rules of ufw count once it is active: `ufw status` says so, `ufw enable` makes it".to_owned());
}
