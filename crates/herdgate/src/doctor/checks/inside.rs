//! What a container finds in its network: does it know the name, does somebody listen where its packets arrive, does it get past the
//! gate? The cures are the container's.

mod known;
mod reached;

use super::at;
use crate::doctor::facts::{Container, Facts, Inside, Place, Role, What};
use crate::doctor::finding::{Cure, Finding};
use std::net::IpAddr;

pub(super) const CHECK: &str = "container";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(inside) = &facts.inside else { return Vec::new() };
    let found = facts.places.iter().filter_map(|place| one(facts, place));
    std::iter::once(itself(facts, inside)).chain(found).collect()
}

/// Whether the checks of names and ports leave this server to this one.
pub(super) fn is_told(facts: &Facts, place: &Place) -> bool {
    let is_of_gate = facts.inside.is_some() && place.role == Role::Upstream;
    is_of_gate || (place.open().is_none() && one(facts, place).is_some())
}

fn one(facts: &Facts, place: &Place) -> Option<Finding> {
    let inside = facts.inside.as_ref()?;
    if place.role == Role::Upstream {
        return Some(upstream(inside, place));
    }
    if place.names.as_ref().is_some_and(|names| names.addresses.is_empty()) {
        return Some(known::unknown(inside, place));
    }
    if place.open().is_some() {
        return keyless(inside, place);
    }
    let first = place.dials.first()?;
    let ip = first.address.ip();
    if place.role == Role::Listener {
        return Some(no_gate(inside, place, ip));
    }
    if ip.is_loopback() && !inside.container.on_host {
        return Some(reached::itself_asked(inside, place));
    }
    if inside.is_host(ip) {
        return Some(reached::on_host(inside, place, ip, &first.end));
    }
    inside.is_neighbour(ip).then(|| reached::neighbour(inside, place, &first.end)).flatten()
}

/// A gate that wants a key, asked by who was given none.
fn keyless(inside: &Inside, place: &Place) -> Option<Finding> {
    let container = &inside.container;
    let served = place.served.as_ref()?;
    let is_named = place.role == Role::Target && container.asks.iter().any(|url| url.starts_with(&place.url));
    let wants = matches!(served.what, What::Gate(_) | What::Guarded(_)) && served.keyless == Some(401);
    if !is_named || !wants || container.has_key {
        return None;
    }
    let name = &container.name;
    Some(
        Finding::warn(CHECK, &place.url, format!("it wants a key, and no variable of {name} holds one"))
            .because("unless somebody typed one into its own settings (Open WebUI: Admin Panel, Settings, Connections), all it asks gets 401")
            .cured(Cure::run(format!("herdgate key create {name}")).note("the key goes into its variables or its settings, as a bearer token")),
    )
}

/// The findings about it are about this.
pub(super) fn about(inside: &Inside) -> String {
    format!("the container {}", inside.container.name)
}

fn itself(facts: &Facts, inside: &Inside) -> Finding {
    let container = &inside.container;
    let own: Vec<String> = inside
        .addresses
        .iter()
        .filter(|(ip, _)| ip.is_ipv4() && !ip.is_loopback())
        .map(|(ip, _)| ip.to_string())
        .collect();
    let network =
        if container.on_host { "the host's network".to_owned() } else { container.networks.join(", ") };
    let asks: Vec<String> = container
        .asks
        .iter()
        .enumerate()
        .map(|(at, url)| container.asked_by.get(at).map_or_else(|| url.clone(), |by| format!("{url} ({by})")))
        .collect();
    let asks = match asks.as_slice() {
        [] if facts.asked.is_target => String::new(),
        [] => "; its variables name no Ollama".to_owned(),
        all => format!("; asks {}", all.join(", ")),
    };
    let seen = format!("seen from inside: {} in {network}{asks}", own.join(", "));
    Finding::ok(CHECK, &about(inside), seen)
}

fn bad(place: &Place, seen: impl Into<String>) -> Finding {
    Finding::bad(CHECK, &place.url, seen)
}

/// The variable that gave this URL, so that a cure can give another.
fn given(inside: &Inside, place: &Place, host: &str) -> String {
    let container = &inside.container;
    let at = container.asks.iter().position(|url| url.trim_end_matches('/').starts_with(&place.url));
    let by = at.and_then(|at| container.asked_by.get(at)).map_or("OLLAMA_BASE_URL", String::as_str);
    let url = at.and_then(|at| container.asks.get(at)).unwrap_or(&place.url);
    format!("environment:\n  {by}: {}", url.replacen(&place.host, host, 1))
}

fn shared<'c>(one: &'c Container, other: &Container) -> Option<&'c String> {
    one.networks.iter().find(|network| other.networks.contains(network))
}

/// What the gate asks is the gate's alone.
fn upstream(inside: &Inside, place: &Place) -> Finding {
    let name = &inside.container.name;
    let served = place.served.as_ref();
    let is_ollama = served.is_some_and(|served| matches!(served.what, What::Ollama(_) | What::Engine(_)));
    let is_keyless =
        served.and_then(|served| served.keyless).is_some_and(|status| (200..300).contains(&status));
    let Some(open) = place.open().map(|dial| dial.address) else {
        return Finding::ok(CHECK, &place.url, format!("{name} does not reach it: the gate alone asks it"));
    };
    if !(is_ollama && is_keyless) {
        return Finding::ok(CHECK, &place.url, format!("{name} reaches it, and gets no model without a key"));
    }
    let seen = format!("{name} uses the models at {open} without a key, past the gate");
    if inside.is_host(open.ip()) || inside.container.on_host {
        return bad(place, seen)
            .because("it is bound to more than loopback: every container of this machine can")
            .cured(Cure::run("sudo herdgate deploy ollama-override --write --run"));
    }
    let is_it = |other: &&Container| other.name == place.host || other.aliases.contains(&place.host);
    let other = inside.others.iter().find(is_it);
    let network = other.and_then(|other| shared(&inside.container, other));
    let finding = Finding::warn(CHECK, &place.url, seen);
    match network {
        Some(network) => finding
            .because("they share a network; only the gate needs to share one with it")
            .cured(Cure::run(format!("{} network disconnect {network} {name}", inside.engine)).note("and in docker-compose.yml, so that it stays so")),
        None => finding
            .because("packets of containers leave with this machine's address, so that a firewall there cannot tell them from the gate's")
            .cured(Cure::run("sudo herdgate deploy ollama-override --write --run").then(format!("herdgate serve --listen {open}")).on(place.host.clone())),
    }
}

/// The gate of this machine is not where containers find it.
fn no_gate(inside: &Inside, place: &Place, ip: IpAddr) -> Finding {
    let (name, port) = (&inside.container.name, place.port);
    let listen = at(&ip.to_string(), port);
    let is_there = inside.host_listens.iter().any(|listens| listens.port() == port);
    let seen = format!("{name} does not reach the gate at {listen}");
    let why = if is_there {
        "the gate listens on loopback alone, or a firewall is between"
    } else {
        "no gate listens there"
    };
    Finding::warn(CHECK, &place.url, seen).because(why).cured(
        Cure::run(format!("herdgate serve --listen {listen}"))
            .note("or in the settings: address in [listen]"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::HOST;
    use super::*;
    use crate::doctor::facts::{End, Names, Served};
    use crate::doctor::finding::Mark;

    fn inside() -> Inside {
        let container = |name: &str, network: &str| Container {
            name: name.into(),
            is_running: true,
            is_composed: true,
            networks: vec![network.into()],
            ..Container::default()
        };
        let asks = vec!["http://localhost:11434".to_owned()];
        let asked_by = vec!["OLLAMA_URL".to_owned()];
        let ollama = Container {
            is_ollama: true,
            aliases: vec!["ollama-api".into()],
            ..container("ai-ollama-1", "ai_default")
        };
        Inside {
            engine: "docker".into(),
            container: Container { asks, asked_by, ..container("webui", "webui_default") },
            others: vec![ollama],
            addresses: vec![("172.18.0.2".parse().unwrap(), 16)],
            gateway: Some("172.18.0.1".parse().unwrap()),
            host: vec!["192.168.1.100".parse().unwrap()],
            ..Inside::default()
        }
    }

    fn lost(host: &str) -> Place {
        let names = Some(Names { failed: Some("no such name".into()), ..Names::default() });
        let url = format!("http://{host}:11434");
        Place { url, host: host.into(), port: 11434, names, ..Place::default() }
    }

    fn dialled(role: Role, host: &str, address: &str, end: End) -> Place {
        Place {
            url: format!("http://{host}:11434"),
            host: host.into(),
            ..Place::gpu1(role, address, end, false)
        }
    }

    fn found(inside: Inside, place: Place) -> (Mark, String, Vec<String>) {
        let facts = Facts { inside: Some(inside), places: vec![place], ..Facts::default() };
        let found = judge(&facts).remove(1);
        (found.mark, found.seen, found.cure.unwrap_or_default().run)
    }

    #[test]
    fn a_name_that_a_container_does_not_know_is_cured_where_it_is_started() {
        let run = |inside: Inside, place| found(inside, place).2.join("\n");
        assert_eq!(run(inside(), lost(HOST)), "extra_hosts:\n  - \"host.docker.internal:host-gateway\"");
        assert_eq!(run(inside(), lost("ollama-api")), "docker network connect ai_default webui");
        let mut near = inside();
        near.others[0].networks = vec!["webui_default".into()];
        assert!(run(near.clone(), lost("olama-api")).contains("http://ollama-api:11434"));
        near.others[0].is_running = false;
        assert_eq!(run(near.clone(), lost("ollama-api")), "docker start ai-ollama-1");
        near.others[0].is_running = true;
        (near.container.networks, near.others[0].networks) = (vec!["bridge".into()], vec!["bridge".into()]);
        assert!(run(near, lost("ollama-api")).starts_with("docker network create models"));
        let mut known = lost("cuda.local");
        known.names.as_mut().unwrap().on_host = Some([192, 168, 1, 50].into());
        assert_eq!(run(inside(), known), "extra_hosts:\n  - \"cuda.local:192.168.1.50\"");
        assert_eq!(run(inside(), lost("cuda.local")), "hostname -I");
    }

    #[test]
    fn what_refuses_a_container_is_told_by_where_it_is() {
        let (gateway, refused) = ("172.18.0.1:11434", || End::Refused);
        let asked = |host: &str, address, end| dialled(Role::Target, host, address, end);
        let (_, seen, run) = found(inside(), asked("localhost", "127.0.0.1:11434", refused()));
        assert!(seen.contains("which is the container itself"), "{seen}");
        assert!(
            run[0].starts_with("environment:\n  OLLAMA_URL: http://host.docker.internal:11434"),
            "{run:?}"
        );
        let mut loopback = inside();
        loopback.host_listens = vec!["127.0.0.1:11434".parse().unwrap()];
        let (_, seen, run) = found(loopback, asked(HOST, gateway, refused()));
        assert!(seen.contains("only 127.0.0.1:11434 listens"), "{seen}");
        assert_eq!(run, ["herdgate serve --listen 172.18.0.1:11434 --upstream http://127.0.0.1:11434"]);
        let mut open = inside();
        open.host_listens = vec!["0.0.0.0:11434".parse().unwrap()];
        let from = Some("172.18.0.2".parse().unwrap());
        let (_, seen, run) = found(open, Place { from, ..asked(HOST, gateway, End::Silent) });
        assert!(seen.contains("lets nothing in from webui"), "{seen}");
        assert_eq!(run, ["sudo iptables -I INPUT -p tcp -s 172.18.0.0/16 --dport 11434 -j ACCEPT"]);
        let (_, seen, _) = found(inside(), asked(HOST, gateway, refused()));
        assert!(seen.contains("nobody listens on this machine"), "{seen}");
        let mut shut = inside();
        shut.others[0].listens = Some("127.0.0.1:11434".into());
        let (_, seen, run) = found(shut, asked("ollama-api", "172.18.0.3:11434", refused()));
        assert!(seen.contains("nobody listens for others"), "{seen}");
        assert_eq!(run, ["environment:\n  OLLAMA_HOST: 0.0.0.0"]);
        let (mark, seen, _) =
            found(inside(), dialled(Role::Listener, "172.18.0.1", "172.18.0.1:7860", refused()));
        assert!(mark == Mark::Warn && seen.contains("does not reach the gate at 172.18.0.1"), "{seen}");
    }

    #[test]
    fn a_gate_wants_a_key_of_containers_too() {
        let served =
            |keyless| Some(Served { what: What::Gate(None), keyless: Some(keyless), ..Served::default() });
        let gate = |keyless| Place {
            url: "http://localhost:11434".into(),
            served: served(keyless),
            ..dialled(Role::Target, "localhost", "172.18.0.1:7860", End::Open)
        };
        let told = |inside: Inside, keyless| {
            let facts = Facts { inside: Some(inside), places: vec![gate(keyless)], ..Facts::default() };
            let found = judge(&facts).into_iter().nth(1)?;
            Some((found.mark, found.cure?.run))
        };
        let cure = vec!["herdgate key create webui".to_owned()];
        assert_eq!(told(inside(), 401), Some((Mark::Warn, cure)));
        let mut keyed = inside();
        keyed.container.has_key = true;
        assert_eq!((told(keyed, 401), told(inside(), 200)), (None, None));
    }

    #[test]
    fn what_the_gate_asks_is_the_gates_alone() {
        let gateway = "172.18.0.1:11434";
        let shut = dialled(Role::Upstream, "172.18.0.1", gateway, End::Refused);
        assert_eq!(found(inside(), shut.clone()).0, Mark::Ok);
        let served =
            Some(Served { what: What::Ollama("0.35.0".into()), keyless: Some(200), ..Served::default() });
        let open = |address| Place {
            served: served.clone(),
            ..dialled(Role::Upstream, "ollama-api", address, End::Open)
        };
        let (mark, seen, run) = found(inside(), open(gateway));
        assert!(mark == Mark::Bad && seen.contains("without a key, past the gate"), "{seen}");
        assert_eq!(run, ["sudo herdgate deploy ollama-override --write --run"]);
        let mut near = inside();
        near.others[0].networks = vec!["webui_default".into()];
        let (mark, _, run) = found(near, open("172.18.0.3:11434"));
        assert_eq!(
            (mark, run),
            (Mark::Warn, vec!["docker network disconnect webui_default webui".to_owned()])
        );
    }
}
