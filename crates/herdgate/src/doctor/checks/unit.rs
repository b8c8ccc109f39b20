//! What Ollama's unit and its drop-ins set, and whether an update loses it, or has lost it.

use super::{MACHINE, service};
use crate::doctor::facts::{Facts, Place, Role, Service};
use crate::doctor::finding::{Cure, Finding};

const CHECK: &str = "unit";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(machine) = &facts.machine else { return Vec::new() };
    let Some(service) = machine.services.iter().find(|service| service.is_ollama()) else {
        return Vec::new();
    };
    // Who asks what an update did is told by the check of that name.
    let own = own(service).filter(|_| facts.unit.is_none());
    let mut findings: Vec<Finding> =
        own.into_iter().chain(lost(facts, service)).chain(proxied(service)).collect();
    let names: Vec<&str> =
        service.drop_ins.values().flat_map(|sets| sets.keys()).map(String::as_str).collect();
    if findings.is_empty() && !names.is_empty() {
        let seen = format!("a drop-in, which updates leave alone, sets {}", names.join(", "));
        findings.push(Finding::ok(CHECK, MACHINE, seen));
    }
    findings
}

/// Set in the unit's own file, which the installer writes anew.
fn own(service: &Service) -> Option<Finding> {
    if service.own.is_empty() || !service.file.starts_with("/etc/systemd/system/") {
        return None;
    }
    let (file, folder) = (&service.file, format!("{}.d", service.file));
    let pairs: Vec<String> = service.own.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let lines: Vec<String> = pairs.iter().map(|pair| format!("Environment=\"{pair}\"")).collect();
    let names: Vec<&str> = service.own.keys().map(String::as_str).collect();
    let cure = Cure::run(format!("sudo mkdir -p {folder}"))
        .then(format!("printf '[Service]\\n{}\\n' | sudo tee -a {folder}/override.conf", lines.join("\\n")))
        .then(format!("sudo sed -i.bak -E '/^Environment=[\"\\x27]?({})=/d' {file}", names.join("|")))
        .then("sudo systemctl daemon-reload")
        .then("sudo systemctl restart ollama");
    Some(
        Finding::warn(CHECK, MACHINE, format!("{file} itself sets {}", pairs.join(", ")))
            .because("the next update of Ollama writes that file anew, and it is gone; a drop-in stays")
            .cured(cure),
    )
}

/// Its journal tells that it listened elsewhere before.
fn lost(facts: &Facts, service: &Service) -> Option<Finding> {
    let is_loopback =
        |place: &&String| ["127.", "[::1]", "localhost"].iter().any(|start| place.starts_with(start));
    let now = service.listened.last().filter(is_loopback)?;
    if service.sets.contains_key("OLLAMA_HOST") {
        return None;
    }
    let before = service.listened.iter().rev().find(|place| !is_loopback(place))?;
    let host = before.split(' ').next().unwrap_or_default().replace("[::]", "0.0.0.0");
    let seen = format!("Ollama listens on {now}; before, it listened on {before}: OLLAMA_HOST is lost");
    let why = "an update has written the unit anew";
    let gate = Cure::run("sudo herdgate deploy ollama-override --write")
        .note("keeps Ollama on loopback, where the gate asks it: upstreams = [\"http://127.0.0.1:11434\"]");
    let line = format!("Environment=\"OLLAMA_HOST={host}\"");
    let back = service::drop_in(service, "override.conf", &line).then("sudo systemctl restart ollama");
    Some(match facts.places.iter().find(|place| is_missed(place)) {
        Some(place) => Finding::bad(CHECK, MACHINE, seen)
            .because(format!("{why}, and {} is not reached", place.url))
            .cured(back.note("as it was; without a key for whoever reaches it").or(gate)),
        None => Finding::warn(CHECK, MACHINE, seen)
            .because(format!("{why}: who asked it from elsewhere is refused now, and should ask the gate"))
            .cured(gate.or(back)),
    })
}

fn is_missed(place: &Place) -> bool {
    let loopback = place.around.as_ref().is_some_and(|around| around.loopback_listens);
    place.is_own && loopback && place.role == Role::Upstream
}

/// A proxy for plain HTTP in the service: it pulls by HTTPS alone, and its own clients come by HTTP.
fn proxied(service: &Service) -> Option<Finding> {
    let name = ["HTTP_PROXY", "http_proxy"].into_iter().find(|name| service.sets.contains_key(*name))?;
    let line = "UnsetEnvironment=HTTP_PROXY http_proxy";
    let cure = service::drop_in(service, "zz-no-http-proxy.conf", line).then("sudo systemctl restart ollama");
    Some(
        Finding::warn(CHECK, MACHINE, format!("ollama.service has {name}={}", service.sets.get(name)?))
            .because("Ollama pulls by HTTPS_PROXY alone; this one only comes between its own parts")
            .cured(cure),
    )
}
