//! Does an Ollama answer who shows no key, where others than this machine reach it?

use super::{GATE, bound};
use crate::doctor::facts::{Facts, Place, Role, Served, What};
use crate::doctor::finding::{Cure, Finding};
use std::net::IpAddr;

const CHECK: &str = "key";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    // Whether a container gets past the gate is told by the check of containers.
    let is_asked = |place: &&Place| facts.inside.is_none() || place.role != Role::Upstream;
    let judge = |place: &Place| {
        let served = place.served.as_ref()?;
        neighbour(facts, place, served).or_else(|| one(facts, place, served))
    };
    facts.places.iter().filter(is_asked).filter_map(judge).collect()
}

/// Within a network of containers an Ollama does without keys.
fn neighbour(facts: &Facts, place: &Place, served: &Served) -> Option<Finding> {
    let inside = facts.inside.as_ref()?;
    let is_ollama = matches!(served.what, What::Ollama(_) | What::Engine(_));
    let is_near = place.open().is_some_and(|dial| inside.is_neighbour(dial.address.ip()));
    let is_keyless = served.keyless.is_some_and(|status| (200..300).contains(&status));
    let seen = "answers without a key, to the containers of its own network";
    (is_ollama && is_near && is_keyless).then(|| Finding::ok(CHECK, &place.url, seen))
}

fn one(facts: &Facts, place: &Place, served: &Served) -> Option<Finding> {
    let is_gate = match served.what {
        What::Gate(_) => true,
        What::Ollama(_) | What::Engine(_) => false,
        What::Unknown | What::Guarded(_) | What::HostCheck | What::Moved(..) | What::Other(..) => {
            return None;
        }
    };
    let status = served.keyless?;
    if !(200..300).contains(&status) {
        return Some(Finding::ok(CHECK, &place.url, format!("who shows no key is told {status}")));
    }
    let open = place.open()?.address;
    if is_gate {
        let finding = Finding::warn(CHECK, &place.url, "this gate lets this machine in without a key");
        return Some(
            finding
                .because("insecure_anonymous: everybody in that network uses the models in one key's name"),
        );
    }
    if let Some(also) = place.also_at.first() {
        let shown: Vec<String> = place.also_at.iter().map(ToString::to_string).collect();
        let seen = format!("anybody who reaches {} uses its models: it wants no key", shown.join(" or "));
        return Some(
            Finding::bad(CHECK, &place.url, seen)
                .because(
                    "it is bound to more than loopback, so that every gate before it can be walked around",
                )
                .cured(bound(facts, place, also.ip())),
        );
    }
    if open.ip().is_loopback() {
        return Some(Finding::ok(CHECK, &place.url, "answers without a key, on loopback"));
    }
    let allow = place.from.map_or_else(|| "GATE_ADDRESS".to_owned(), |from| from.to_string());
    let on = |cure: Cure| if place.is_own { cure } else { cure.on(place.host.clone()) };
    if place.role == Role::Upstream && !place.is_own {
        let finding = Finding::warn(CHECK, &place.url, "answers this gate without a key");
        return Some(
            finding
                .because("whoever else reaches that port goes past the gate: a firewall there shall let only the gate in")
                .cured(on(Cure::run(format!(
                    "sudo herdgate deploy ollama-override --bind {} --allow {allow} --write",
                    open.ip()
                )))),
        );
    }
    let port = open.port();
    Some(
        Finding::bad(
            CHECK,
            &place.url,
            format!("anybody who reaches {open} uses its models: it wants no key"),
        )
        .because("Ollama has no keys of its own: who finds it also deletes, replaces and copies models")
        .cured(on(Cure::run("sudo herdgate deploy ollama-override --write")
            .then(format!("herdgate serve --listen {open} --upstream http://127.0.0.1:{port}"))
            .note("Ollama goes back to loopback (OLLAMA_HOST=127.0.0.1), and the gate takes its address"))),
    )
}

/// What binds it to loopback: known where this machine is looked at, offered in all ways elsewhere.
fn bound(facts: &Facts, place: &Place, ip: IpAddr) -> Cure {
    let gate = format!(
        "binds it to loopback; others come by the gate: herdgate serve --listen {}:{GATE}",
        bracketed(ip)
    );
    if let Some(machine) = &facts.machine {
        let mut sockets = machine.sockets.iter().filter(|socket| socket.address.port() == place.port);
        if let Some(socket) =
            sockets.find(|socket| !socket.is_loopback()).filter(|socket| socket.owner.is_some())
        {
            return bound::cure(machine, socket).note(gate);
        }
    }
    Cure::run("sudo herdgate deploy ollama-override --write --run").note(gate).or(Cure::run(format!(
        "ports:\n  - \"127.0.0.1:{}:11434\"",
        place.port
    ))
    .within("docker-compose.yml, at Ollama's service")
    .note("where it runs in a container: Docker publishes past ufw; better still, no ports at all"))
}

fn bracketed(ip: IpAddr) -> String {
    if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::End;
    use crate::doctor::finding::Mark;

    fn found(role: Role, address: &str, is_own: bool, what: What, keyless: u16) -> Option<Finding> {
        let served = Some(Served { what, keyless: Some(keyless), ..Served::default() });
        let place = Place { served, ..Place::gpu1(role, address, End::Open, is_own) };
        judge(&Facts { places: vec![place], ..Facts::default() }).pop()
    }

    #[test]
    fn an_ollama_without_a_key_belongs_on_loopback() {
        let ollama = || What::Ollama("0.24.0".into());
        let gate = || What::Gate(Some("0.24.0".into()));
        let (away, here) = ("10.0.0.2:11434", "127.0.0.1:11434");
        for (role, address, is_own, what, keyless, mark) in [
            (Role::Target, away, false, ollama(), 200, Some(Mark::Bad)),
            (Role::Target, here, true, ollama(), 200, Some(Mark::Ok)),
            (Role::Upstream, here, true, ollama(), 200, Some(Mark::Ok)),
            (Role::Upstream, away, false, ollama(), 200, Some(Mark::Warn)),
            (Role::Upstream, away, true, ollama(), 200, Some(Mark::Bad)),
            (Role::Target, away, false, gate(), 401, Some(Mark::Ok)),
            (Role::Target, away, false, gate(), 200, Some(Mark::Warn)),
            (Role::Target, away, false, What::Other(200, String::new()), 200, None),
        ] {
            let finding = found(role, address, is_own, what.clone(), keyless);
            assert_eq!(finding.map(|finding| finding.mark), mark, "{role:?} {address} {what:?} {keyless}");
        }
        let cure = found(Role::Upstream, away, false, ollama(), 200).unwrap().cure.unwrap();
        assert_eq!(
            cure.run,
            ["sudo herdgate deploy ollama-override --bind 10.0.0.2 --allow 10.0.0.1 --write"]
        );
    }

    #[test]
    fn one_that_others_reach_beside_loopback_is_not_on_loopback() {
        let served = Served { what: What::Ollama("0.24.0".into()), keyless: Some(200), ..Served::default() };
        let also_at = vec!["10.0.0.2:11434".parse().unwrap()];
        let loopback = Place::gpu1(Role::Upstream, "127.0.0.1:11434", End::Open, true);
        let place = Place { served: Some(served), also_at, ..loopback };
        let found = judge(&Facts { places: vec![place], ..Facts::default() }).remove(0);
        assert!(
            found.mark == Mark::Bad && found.seen.contains("reaches 10.0.0.2:11434 uses"),
            "{}",
            found.seen
        );
    }
}
