//! Can others go past the gate, to an Ollama of this machine that wants no key?

use super::MACHINE;
use crate::doctor::facts::{Facts, Machine, Place, Socket};
use crate::doctor::finding::{Cure, Finding};

const CHECK: &str = "bound";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(machine) = &facts.machine else { return Vec::new() };
    // What is told of an upstream is not told again.
    let of_loopback = |place: &Place| place.open().is_none_or(|dial| dial.address.ip().is_loopback());
    let is_told = |socket: &&Socket| {
        let mut places =
            facts.places.iter().filter(|place| place.is_own && place.port == socket.address.port());
        places.any(|place| !place.also_at.is_empty() || !of_loopback(place))
    };
    let sockets = || machine.sockets.iter().filter(|socket| !is_told(socket));
    let mut findings: Vec<Finding> = sockets().filter_map(|socket| one(machine, socket)).collect();
    let is_behind = |socket: &&Socket| {
        let is_gate = socket.owner.as_ref().is_some_and(|owner| owner.is("herdgate"));
        socket.is_loopback() && machine.ollama_ports.contains(&socket.address.port()) && !is_gate
    };
    if findings.is_empty()
        && let Some(socket) = sockets().find(is_behind)
    {
        findings.push(Finding::ok(CHECK, MACHINE, format!("{} is for this machine alone", socket.address)));
    }
    findings
}

fn one(machine: &Machine, socket: &Socket) -> Option<Finding> {
    let version = socket.keyless_ollama.as_ref()?;
    let address = socket.address;
    let all = address.ip().is_unspecified();
    let whose = if all { "every address of this machine" } else { "an address that others reach" };
    let seen = format!("Ollama {version} listens on {address}, {whose}, and wants no key");
    Some(
        Finding::bad(CHECK, MACHINE, seen)
            .because("who reaches it uses, pulls and deletes models, and goes around the gate")
            .cured(cure(machine, socket)),
    )
}

/// What binds the Ollama there to loopback, by who it is.
pub(super) fn cure(machine: &Machine, socket: &Socket) -> Cure {
    let port = socket.address.port();
    let serve = format!("OLLAMA_HOST=127.0.0.1:{port} ollama serve");
    let owner = socket.owner.as_ref();
    if owner.is_some_and(|owner| owner.is("docker-proxy") || owner.container.is_some()) {
        return Cure::run(format!("ports:\n  - \"127.0.0.1:{port}:11434\""))
            .on("the service in docker-compose.yml")
            .note("then: docker compose up -d");
    }
    let is_service = machine.services.iter().any(|service| service.is_ollama() && service.is_running());
    match owner {
        Some(owner) if owner.unit.is_none() => Cure::run(format!("sudo kill {}", owner.pid)).then(serve),
        None if !is_service => Cure::run(serve).note("instead of the one that runs"),
        Some(_) | None => {
            let folder = "/etc/systemd/system/ollama.service.d";
            let text = format!("[Service]\\nEnvironment=\"OLLAMA_HOST=127.0.0.1:{port}\"\\n");
            let by_hand = Cure::run(format!("sudo mkdir -p {folder}"))
                .then(format!("printf '{text}' | sudo tee {folder}/zz-loopback.conf"))
                .then("sudo systemctl daemon-reload")
                .then("sudo systemctl restart ollama");
            Cure::run("sudo herdgate deploy ollama-override --write --run").or(by_hand)
        }
    }
}
