//! Containers: do they find the Ollama that they were told of, and do they let strangers past the gate?

use super::{GATE, HOST, MACHINE};
use crate::doctor::facts::{Container, Facts, Machine, Socket};
use crate::doctor::finding::{Cure, Finding};
use std::net::IpAddr;

const CHECK: &str = "docker";
const FILE: &str = "docker-compose.yml";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(machine) = &facts.machine else { return Vec::new() };
    let found = machine.containers.iter().map(|container| one(machine, container));
    found.flatten().collect()
}

fn one(machine: &Machine, container: &Container) -> Vec<Finding> {
    let name = &container.name;
    if container.is_restarting || (!container.is_running && container.exit != 0) {
        return vec![down(container)];
    }
    if !container.is_running {
        return Vec::new();
    }
    let asked = container.asks.iter().filter_map(|url| asks(machine, container, url));
    let mut findings: Vec<Finding> = published(machine, container).into_iter().chain(asked).collect();
    findings.extend(fronted(container));
    findings.extend(tunnelled(machine, container));
    findings.extend(unlike_a_service(machine, container));
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, MACHINE, format!("the container {name} runs")));
    }
    findings
}

/// The place of a setting, as the container was made.
fn service(container: &Container) -> String {
    format!("the service of {} in {FILE}", container.name)
}

pub(super) fn lines(container: &Container, text: String) -> Cure {
    let up = if container.is_composed {
        "then: docker compose up -d"
    } else {
        "for `docker run`: make it anew so"
    };
    Cure::run(text).within(service(container)).note(up)
}

fn down(container: &Container) -> Finding {
    let Container { name, exit, .. } = container;
    let does = if container.is_restarting { "fails again and again" } else { "has ended" };
    let told = container.last_error.as_deref().map_or(format!("code {exit}"), str::to_owned);
    let finding = Finding::bad(CHECK, MACHINE, format!("the container {name} {does}: {told}"));
    let lower = told.to_ascii_lowercase();
    if container.oom_killed || *exit == 137 {
        return finding
            .because("it was killed: no memory was left for its models")
            .cured(lines(container, "environment:\n  OLLAMA_MAX_LOADED_MODELS: \"1\"".to_owned()));
    }
    if lower.contains("could not select device driver") || lower.contains("nvidia-container") {
        return finding.because("Docker cannot hand the card on").cured(
            Cure::run("sudo apt-get install -y nvidia-container-toolkit")
                .then("sudo nvidia-ctk runtime configure --runtime=docker")
                .then("sudo systemctl restart docker")
                .then(format!("docker start {name}")),
        );
    }
    finding
        .because("requests get no answer from it")
        .cured(Cure::run(format!("docker logs --tail 50 {name}")).then(format!("docker restart {name}")))
}

/// An Ollama without a key on an address of the host.
fn published(machine: &Machine, container: &Container) -> Option<Finding> {
    if !container.is_ollama {
        return None;
    }
    let (ip, port) = container.published.iter().find(|(ip, _)| !ip.is_loopback())?;
    let name = &container.name;
    let past = machine.firewall.as_ref().filter(|firewall| firewall.is_ufw()).map_or("", |_| ", past ufw");
    let text = format!("ports:\n  - \"127.0.0.1:{port}:11434\"");
    Some(
        Finding::bad(CHECK, MACHINE, format!("the container {name} publishes Ollama on {ip}:{port}{past}"))
            .because("it wants no key, and Docker lets packets to published ports in before a firewall of the host sees them")
            .cured(lines(container, text).or(Cure::run("sudo herdgate deploy firewall --allow 127.0.0.1/32 --write").note("where it must stay: rules in the chain DOCKER-USER"))),
    )
}

/// A domain that leads to an Ollama itself.
fn fronted(container: &Container) -> Option<Finding> {
    let label = container.fronted.as_ref()?;
    let name = &container.name;
    let seen = format!("a domain leads to the container {name} itself: {label}");
    let line = label.split('=').next().unwrap_or_default();
    // A remark, because lines beside it are not known here: an own `labels:` would stand in the place of all.
    let list = if line == "VIRTUAL_HOST" { "environment" } else { "labels" };
    let lines = lines(container, format!("# {list}: delete the line {line}, and leave the others"));
    let cure = lines
        .note("in Coolify: take the domain off this service, and give it to the gate's; then deploy anew");
    Some(if container.is_guarded {
        Finding::warn(CHECK, MACHINE, seen)
            .because(
                "its one credential opens everything, deleting models too, and nobody is told from others",
            )
            .cured(cure)
    } else {
        Finding::bad(CHECK, MACHINE, seen)
            .because("whoever knows the domain uses, pulls and deletes models without a key")
            .cured(cure)
    })
}

/// Who is at the other end of a container's tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    Ollama,
    Gate,
    /// A gate may have Ollama's port, there too.
    Unknown,
}

fn behind(machine: &Machine, container: &Container, host: &str, port: u16) -> Behind {
    let named = |other: &&Container| other.name == host || other.aliases.iter().any(|alias| alias == host);
    if let Some(other) = machine.containers.iter().find(named) {
        return match (other.is_ollama, other.is_gate) {
            (true, _) => Behind::Ollama,
            (false, true) => Behind::Gate,
            (false, false) => Behind::Unknown,
        };
    }
    let ip = host.parse::<IpAddr>().ok();
    let is_loopback = host == "localhost" || ip.is_some_and(|ip| ip.is_loopback());
    let is_own = |ip: IpAddr| machine.addresses.contains(&ip);
    if !(host == HOST || (is_loopback && container.on_host) || ip.is_some_and(is_own)) {
        return Behind::Unknown;
    }
    let is_there = |socket: &&Socket| {
        let at = socket.address.ip();
        socket.address.port() == port
            && (at.is_unspecified() || host == HOST || is_loopback || ip == Some(at))
    };
    let mut there = machine.sockets.iter().filter(is_there);
    let is_ollama = |socket: &Socket| {
        socket.keyless_ollama.is_some() || socket.owner.as_ref().is_some_and(|owner| owner.is("ollama"))
    };
    if there.any(is_ollama) { Behind::Ollama } else { Behind::Unknown }
}

/// A tunnel in a container that leads to an Ollama itself.
fn tunnelled(machine: &Machine, container: &Container) -> Option<Finding> {
    let word = container.tunnels.as_ref()?;
    let name = &container.name;
    let (host, port) = split(word.split_once("://").map_or(word.as_str(), |(_, rest)| rest));
    let is_near = |other: &&Container| {
        other.is_gate
            && other.is_running
            && other.networks.iter().any(|network| container.networks.contains(network))
    };
    let gate = machine.containers.iter().find(is_near).map_or("GATE", |gate| gate.name.as_str());
    let to = format!("http://{gate}:{GATE}");
    let note = if gate == "GATE" {
        "GATE: the name of the gate's service in a network that both are in; with the other words that are there"
    } else {
        "with the other words that are there"
    };
    let cure = lines(container, format!("command: {} {to}", leads(&container.image))).note(note);
    match behind(machine, container, host, port) {
        Behind::Ollama => Some(
            Finding::bad(
                CHECK,
                MACHINE,
                format!("the tunnel of the container {name} leads to Ollama itself: {word}"),
            )
            .because("whoever finds the other end uses, pulls and deletes models without a key")
            .cured(cure),
        ),
        Behind::Unknown => Some(
            Finding::warn(
                CHECK,
                MACHINE,
                format!("the tunnel of the container {name} leads to port {port}, which is Ollama's by itself: {word}"),
            )
            .because("where that is an Ollama and not a gate, whoever finds the other end uses and deletes its models without a key")
            .cured(cure),
        ),
        Behind::Gate => None,
    }
}

/// How such a tunnel is told where to lead.
fn leads(image: &str) -> &'static str {
    if image.contains("ngrok") { "http" } else { "tunnel --url" }
}

/// What a client was told, and what it finds there.
fn asks(machine: &Machine, container: &Container, url: &str) -> Option<Finding> {
    let rest = url.split_once("://")?.1;
    let (host, port) = split(rest);
    let name = &container.name;
    let lost = |seen: String, why: &str, cure: Cure| {
        Some(Finding::bad(CHECK, MACHINE, seen).because(why).cured(cure))
    };
    if container.on_host {
        return None;
    }
    if host == "localhost" || host.starts_with("127.") {
        let text = format!(
            "environment:\n  OLLAMA_BASE_URL: http://{HOST}:{port}\nextra_hosts:\n  - \"{HOST}:host-gateway\""
        );
        return lost(
            format!("the container {name} asks {url}, which is itself"),
            "localhost in a container is the container; its host has another name",
            lines(container, text),
        );
    }
    let is_given = container.extra_hosts.iter().any(|line| line.starts_with(&format!("{host}:")));
    if host == HOST && !is_given {
        return lost(
            format!("the container {name} asks {url}, and does not know that name"),
            "on Linux a container knows its host by that name only where it was started so",
            lines(container, format!("extra_hosts:\n  - \"{HOST}:host-gateway\"")),
        );
    }
    if host == HOST {
        return unheard(machine, container, url, port);
    }
    if host.ends_with(".local") && !is_given {
        return lost(
            format!("the container {name} asks {url}: names that end in .local are unknown in containers"),
            "they are asked for by multicast, which does not leave a container's network",
            lines(container, format!("extra_hosts:\n  - \"{host}:ADDRESS\""))
                .note(format!("ADDRESS: getent ahostsv4 {host}")),
        );
    }
    let other = machine.containers.iter().find(|other| other.name == host)?;
    if other.networks.iter().any(|network| container.networks.contains(network)) {
        return None;
    }
    let network = other.networks.first()?;
    lost(
        format!("the container {name} asks {url}, and shares no network with {host}"),
        "containers of different stacks do not know each other's names",
        Cure::run(format!("docker network connect {network} {name}"))
            .note("until it is made anew; for good: that network as external in docker-compose.yml"),
    )
}

/// The name is known: does somebody listen where packets from containers arrive?
fn unheard(machine: &Machine, container: &Container, url: &str, port: u16) -> Option<Finding> {
    let mut there = machine.sockets.iter().filter(|socket| socket.address.port() == port);
    let first = there.next()?;
    if !first.is_loopback() || there.any(|socket| !socket.is_loopback()) {
        return None;
    }
    let name = &container.name;
    Some(
        Finding::bad(
            CHECK,
            MACHINE,
            format!("the container {name} asks {url}, and only {} listens", first.address),
        )
        .because("packets of containers come in at the bridge's address, not on loopback")
        .cured(
            Cure::run(format!(
                "herdgate serve --listen 172.17.0.1:{port} --upstream http://127.0.0.1:{port}"
            ))
            .note("the bridge's address: ip -4 addr show docker0; the container then needs a key"),
        ),
    )
}

fn split(rest: &str) -> (&str, u16) {
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().unwrap_or(80)),
        None => (authority, 80),
    }
}

/// What works now, and will not for ever.
fn unlike_a_service(machine: &Machine, container: &Container) -> Vec<Finding> {
    let name = &container.name;
    let mut findings = Vec::new();
    if !container.is_ollama && !container.is_gate && !container.has_own_front {
        return findings;
    }
    if let Some(folder) = &container.forgets {
        let what = if container.is_gate { "its keys" } else { "its models" };
        findings.push(
            Finding::warn(CHECK, MACHINE, format!("the container {name} keeps {folder} in itself"))
                .because(format!("{what} are gone when it is made anew: with each update of its image"))
                .cured(lines(container, format!("volumes:\n  - {name}-data:{folder}\n# and at the end of the file:\nvolumes:\n  {name}-data:"))),
        );
    }
    if (container.is_ollama || container.has_own_front) && machine.gpu.has_cards() && !container.has_gpu {
        findings.push(
            Finding::warn(CHECK, MACHINE, format!("the container {name} was given none of this machine's cards"))
                .because("its models run on the processor")
                .cured(lines(container, "deploy:\n  resources:\n    reservations:\n      devices:\n        - driver: nvidia\n          count: all\n          capabilities: [gpu]".to_owned())),
        );
    }
    if !container.is_started_again {
        findings.push(
            Finding::warn(CHECK, MACHINE, format!("the container {name} is not started with the machine"))
                .because("after the next reboot nobody is there")
                .cured(Cure::run(format!("docker update --restart unless-stopped {name}"))),
        );
    }
    if !container.log_is_bound {
        findings.push(
            Finding::warn(
                CHECK,
                MACHINE,
                format!("the output of the container {name} is kept without a bound"),
            )
            .because("it grows until the disk is full")
            .cured(lines(
                container,
                "logging:\n  driver: json-file\n  options:\n    max-size: 50m\n    max-file: \"3\""
                    .to_owned(),
            )),
        );
    }
    findings
}
