//! The checks, in the order in which a person would look. Each is a pure judgement over the facts; where an earlier one explains
//! what is wrong, the facts of the later ones are not there, and they say nothing.

mod answer;
mod backup;
mod bound;
mod certificate;
mod client;
mod clock;
mod disk;
mod docker;
mod environment;
mod exported;
mod firewall;
mod front;
mod gate;
mod gpu;
#[cfg(test)]
mod hostile;
mod inside;
mod key;
mod keys;
mod logs;
mod memory;
mod model;
mod name;
mod nofile;
mod ntp;
mod origins;
mod port;
mod question;
#[cfg(test)]
mod recorded;
mod rights;
mod service;
mod taken;
mod unit;
mod update;
mod version;

use super::facts::{Facts, Machine, Place, Role};
use super::finding::{Cure, Finding, Mark};
use super::foreign;

/// What findings about this machine are about.
const MACHINE: &str = "this machine";
/// The port that a gate has by itself.
const GATE: u16 = gate_config::Listen::DEFAULT.address.port();
/// By which a container finds its host.
const HOST: &str = "host.docker.internal";

const ALL: &[fn(&Facts) -> Vec<Finding>] = &[
    // Why nobody answers is seen at the service first.
    service::judge,
    unit::judge,
    taken::judge,
    bound::judge,
    front::judge,
    docker::judge,
    firewall::judge,
    environment::judge,
    exported::judge,
    gpu::judge,
    disk::judge,
    rights::judge,
    keys::judge,
    backup::judge,
    nofile::judge,
    logs::judge,
    ntp::judge,
    inside::judge,
    name::judge,
    port::judge,
    certificate::judge,
    answer::judge,
    gate::judge,
    clock::judge,
    key::judge,
    client::judge,
    version::judge,
    origins::judge,
    model::judge,
    memory::judge,
    question::judge,
    update::judge,
];

/// Everything that the facts tell, by what it is about: this machine, then servers in the order of the settings; each check in the
/// order above. No word from outside stands in a cure that a shell would read as more than a word.
pub(crate) fn judge(facts: &Facts) -> Vec<Finding> {
    match foreign::marked(facts) {
        Some(facts) => all(&facts).into_iter().map(foreign::told).collect(),
        None => all(facts).into_iter().map(|finding| Finding { cure: None, ..finding }).collect(),
    }
}

fn all(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = ALL.iter().flat_map(|check| check(facts)).collect();
    // What only the gate asks is not a container's to find sound.
    let is_of_gate = |place: &Place| facts.inside.is_some() && place.role == Role::Upstream;
    findings.retain(|finding| {
        let mut of = facts.places.iter().filter(|place| place.url == finding.about);
        finding.check == inside::CHECK || !of.any(is_of_gate)
    });
    let told: Vec<String> = findings
        .iter()
        .filter(|finding| finding.mark == Mark::Bad && finding.check != gate::CHECK)
        .map(|finding| finding.about.clone())
        .collect();
    findings.retain(|finding| finding.check != gate::CHECK || !told.contains(&finding.about));
    let places = facts.places.iter().map(|place| place.url.clone());
    let first = facts.inside.iter().map(inside::about).chain([MACHINE.to_owned()]);
    let mut order: Vec<String> = first.chain(places).collect();
    for finding in &findings {
        if !order.contains(&finding.about) {
            order.push(finding.about.clone());
        }
    }
    for finding in &mut findings {
        let is_here = |place: &&Place| match &facts.inside {
            Some(inside) => place.open().is_some_and(|dial| inside.is_host(dial.address.ip())),
            None => place.is_own,
        };
        let own = facts.places.iter().filter(is_here).filter(|place| place.url == finding.about);
        let names: Vec<&str> = own.map(|place| place.host.as_str()).collect();
        finding.cure = finding.cure.take().map(|cure| cure.here(&names));
    }
    findings.sort_by_key(|finding| order.iter().position(|about| *about == finding.about));
    findings
}

/// Sets a variable of Ollama's service where no update loses it.
fn drop_in(variable: &str, value: &str) -> Cure {
    let folder = "/etc/systemd/system/ollama.service.d";
    let file = variable.trim_start_matches("OLLAMA_").to_ascii_lowercase().replace('_', "-");
    Cure::run(format!("sudo mkdir -p {folder}"))
        .then(format!(
            "printf '[Service]\\nEnvironment=\"{variable}={value}\"\\n' | sudo tee {folder}/{file}.conf"
        ))
        .then("sudo systemctl daemon-reload && sudo systemctl restart ollama")
}

/// A fact as a word of a command. Of what else a shell reads as more than a word nothing gets here (`foreign.rs`).
fn with_blanks(text: &str) -> String {
    if text.contains(' ') { crate::deploy::shell_word(text) } else { text.to_owned() }
}

/// A time for people.
fn time(micros: u64) -> String {
    match micros {
        0..1_000 => "under 1 ms".to_owned(),
        1_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => format!("{}.{} s", micros / 1_000_000, micros % 1_000_000 / 100_000),
    }
}

/// Host and port, with brackets around IPv6.
fn at(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Where the gate of this machine is found from here.
fn gate_at(machine: &Machine) -> String {
    let listener = machine.listeners.first().copied().unwrap_or_else(|| ([127, 0, 0, 1], GATE).into());
    if listener.ip().is_unspecified() {
        format!("127.0.0.1:{}", listener.port())
    } else {
        listener.to_string()
    }
}
