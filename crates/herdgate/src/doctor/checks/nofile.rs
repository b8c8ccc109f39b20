//! May the gate open as many files as it shall have clients?

use super::{MACHINE, service};
use crate::doctor::facts::{Facts, Machine};
use crate::doctor::finding::{Cure, Finding};

const CHECK: &str = "nofile";
/// One for a client, one for the server behind it, and some for everything else.
const EACH: u64 = 2;
const BESIDE: u64 = 64;
/// As many clients as a company has; to have room for fewer deserves a word, also where the settings allow for more.
const ENOUGH: u64 = 1000;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    facts.machine.as_ref().and_then(one).into_iter().collect()
}

fn one(machine: &Machine) -> Option<Finding> {
    let hard = machine.files.hard?;
    let wanted = (machine.connections as u64).min(ENOUGH);
    if hard >= wanted * EACH + BESIDE {
        return None;
    }
    let gate = machine.files.gate.as_ref();
    let whose = gate
        .map_or("a program that is started here".to_owned(), |gate| format!("the gate, {}", gate.shown()));
    let seen = format!("{whose} may open {hard} files, and shall have up to {} clients", machine.connections);
    let service = machine.services.iter().find(|service| !service.is_ollama());
    let cure = match (service, gate) {
        (Some(service), _) => service::drop_in(service, "files.conf", "LimitNOFILE=65536")
            .then("sudo systemctl restart herdgate"),
        (None, Some(gate)) => Cure::run(format!("sudo prlimit --pid {} --nofile=65536:65536", gate.pid))
            .note("until it ends; then, before it is started: ulimit -n 65536"),
        (None, None) => Cure::run("ulimit -n 65536").note("as root, or in /etc/security/limits.conf"),
    };
    Some(Finding::warn(CHECK, MACHINE, seen).because("further clients wait until others leave").cured(cure))
}
