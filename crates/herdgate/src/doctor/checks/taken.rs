//! May the gate listen where it shall: is the port free, and is it allowed to have it?

use super::{GATE, MACHINE};
use crate::doctor::facts::{Facts, Machine, Place, Program, Role};
use crate::doctor::finding::{Cure, Finding};
use std::net::SocketAddr;

const CHECK: &str = "taken";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(machine) = &facts.machine else { return Vec::new() };
    // What answers there by HTTP is named by the check of answers.
    let is_told = |listener: &&SocketAddr| {
        let of_it = |place: &&Place| place.role == Role::Listener && place.port == listener.port();
        let served = facts.places.iter().find(of_it).and_then(|place| place.served.as_ref());
        served.is_some_and(|served| served.failed.is_none())
    };
    let listeners = machine.listeners.iter().filter(|listener| !is_told(listener));
    listeners.filter_map(|listener| one(machine, *listener)).collect()
}

fn one(machine: &Machine, listener: SocketAddr) -> Option<Finding> {
    let port = listener.port();
    if port == 0 {
        return None;
    }
    // systemd holds the socket of a service that is started by it.
    let is_ours = |owner: &Program| owner.is("herdgate") || owner.is("systemd");
    let there: Vec<_> = machine.sockets.iter().filter(|socket| socket.is_in_the_way_of(listener)).collect();
    let other = there.iter().find_map(|socket| {
        let owner = socket.owner.as_ref().filter(|owner| !is_ours(owner))?;
        Some((socket.address, owner))
    });
    if let Some((address, owner)) = other {
        let is_ollama = if owner.is("ollama") { ", an Ollama" } else { "" };
        let seen = format!("{address} is taken by {}{is_ollama}", owner.shown());
        return Some(
            Finding::bad(CHECK, MACHINE, seen)
                .because(format!("the gate shall listen on {listener}, and cannot"))
                .cured(stop(owner).or(elsewhere(machine, listener))),
        );
    }
    let has_service = machine.services.iter().any(|service| !service.is_ollama());
    if !there.is_empty() || has_service || port >= machine.lowest_port {
        return None;
    }
    let low = Cure::run(format!("sudo setcap cap_net_bind_service=+ep {}", machine.program));
    let service = Cure::run("sudo herdgate deploy systemd --write --run");
    let seen = format!("port {port} is below {}: this user may not listen there", machine.lowest_port);
    Some(
        Finding::bad(CHECK, MACHINE, seen).because("the gate cannot start").cured(
            service
                .note("a service that gets the port from systemd")
                .or(low.note("again after each update of herdgate"))
                .or(elsewhere(machine, listener)),
        ),
    )
}

/// What ends a program so that it does not come back.
pub(super) fn stop(owner: &Program) -> Cure {
    match (&owner.unit, &owner.container) {
        (_, Some(container)) => Cure::run(format!("docker stop {container}")),
        (None, None) if owner.is("docker-proxy") => {
            Cure::run("docker ps").note("the container that publishes the port: docker stop NAME")
        }
        (Some(unit), None) if !owner.is("docker-proxy") => {
            Cure::run(format!("sudo systemctl disable --now {}", unit.trim_end_matches(".service")))
        }
        (Some(_), None) => {
            Cure::run("docker ps").note("the container that publishes the port: docker stop NAME")
        }
        (None, None) => Cure::run(format!("sudo kill {}", owner.pid)),
    }
}

/// A port near it that is free.
pub(super) fn elsewhere(machine: &Machine, listener: SocketAddr) -> Cure {
    let is_free = |port: &u16| !machine.sockets.iter().any(|socket| socket.address.port() == *port);
    let low = listener.port() < 1024;
    let first = if low { 8000 + listener.port() } else { listener.port().saturating_add(1) };
    let port = (first..=u16::MAX).find(is_free).unwrap_or(GATE);
    Cure::run(format!("herdgate serve --listen {}", SocketAddr::new(listener.ip(), port)))
}
