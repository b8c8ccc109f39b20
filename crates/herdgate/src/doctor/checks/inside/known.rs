//! A name that a container does not know, and where it is known.

use super::super::HOST;
use super::{bad, given, shared};
use crate::doctor::checks::docker::lines;
use crate::doctor::checks::name;
use crate::doctor::facts::{Container, Inside, Place};
use crate::doctor::finding::{Cure, Finding};
use std::net::IpAddr;

/// Networks that nobody made, and that have no names (Docker's documents: "Default bridge").
const NAMELESS: [&str; 2] = ["bridge", "podman"];

pub(super) fn unknown(inside: &Inside, place: &Place) -> Finding {
    let (container, host) = (&inside.container, &place.host);
    let names = place.names.clone().unwrap_or_default();
    let why = names.failed.as_deref().unwrap_or("it has no address");
    let finding = bad(place, format!("{} does not know {host}: {why}", container.name));
    if host == HOST {
        let cure = lines(container, format!("extra_hosts:\n  - \"{HOST}:host-gateway\""));
        let cure = match inside.gateway {
            Some(gateway) => cure.or(told_now(inside, host, gateway)),
            None => cure,
        };
        return finding
            .because("on Linux a container knows its host by that name only where it was started so")
            .cured(cure);
    }
    let is_called = |other: &&Container| other.name == *host || other.aliases.contains(host);
    if let Some(other) = inside.others.iter().find(is_called) {
        return apart(inside, other, finding);
    }
    if let Some(address) = names.on_host {
        let to = if address.is_loopback() { "host-gateway".to_owned() } else { address.to_string() };
        let ip = if address.is_loopback() { inside.gateway.unwrap_or(address) } else { address };
        return finding
            .because("this machine knows the name, by its own /etc/hosts or by multicast; its containers know neither")
            .cured(lines(container, format!("extra_hosts:\n  - \"{host}:{to}\"")).or(told_now(inside, host, ip)));
    }
    let known: Vec<String> = inside
        .others
        .iter()
        .filter(|other| shared(&inside.container, other).is_some())
        .flat_map(|other| std::iter::once(&other.name).chain(&other.aliases))
        .chain(&names.known)
        .cloned()
        .collect();
    if let Some(near) = name::near(host, &known) {
        return finding
            .because(format!("its network has a {near}: is that what was meant?"))
            .cured(lines(container, given(inside, place, near)));
    }
    finding.because("neither its network nor this machine has that name").cured(
        Cure::run("hostname -I").on(host).or(lines(
            container,
            format!("extra_hosts:\n  - \"{host}:ADDRESS\""),
        )
        .within(format!("the service of {} in docker-compose.yml, with that ADDRESS", container.name))),
    )
}

/// Until it is made anew.
fn told_now(inside: &Inside, host: &str, ip: IpAddr) -> Cure {
    let Inside { engine, container, .. } = inside;
    Cure::run(format!("{engine} exec -u 0 {} sh -c 'echo \"{ip} {host}\" >> /etc/hosts'", container.name))
        .note("at once, until the container is made anew; where its image has a shell")
}

/// A container of that name is there, and the name is unknown here.
fn apart(inside: &Inside, other: &Container, finding: Finding) -> Finding {
    let Inside { engine, container, .. } = inside;
    let (own, its) = (&container.name, &other.name);
    if !other.is_running {
        return finding
            .because(format!("the container {its} does not run, and names are those of running ones"))
            .cured(
                Cure::run(format!("{engine} start {its}"))
                    .or(Cure::run(format!("{engine} logs --tail 50 {its}"))),
            );
    }
    let named = other.networks.iter().find(|network| !NAMELESS.contains(&network.as_str()));
    match (shared(container, other), named) {
        (None, Some(network)) => finding
            .because(format!("they share no network: {its} is in {}, {own} in {}", other.networks.join(", "), container.networks.join(", ")))
            .cured(Cure::run(format!("{engine} network connect {network} {own}")).note("at once, until it is made anew").or(
                lines(container, format!("networks: [default, {network}]\n# and at the end of the file:\nnetworks:\n  {network}:\n    external: true"))
                    .note("for good; then: docker compose up -d"),
            )),
        (Some(_), Some(_)) => finding
            .because("they share a network, and its name server does not answer for it")
            .cured(Cure::run(format!("{engine} restart {own}"))),
        (_, None) => finding
            .because(format!("the network {} has no names: only networks that somebody made have them", other.networks.join(", ")))
            .cured(
                Cure::run(format!("{engine} network create models"))
                    .then(format!("{engine} network connect models {its}"))
                    .then(format!("{engine} network connect models {own}")),
            ),
    }
}
