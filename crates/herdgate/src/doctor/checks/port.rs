//! Does somebody listen: open, refused, turned away by a firewall, or nothing at all.

use super::{GATE, at, inside, time};
use crate::doctor::facts::{Around, Dial, End, Facts, Place, Role, Socket, What};
use crate::doctor::finding::{Cure, Finding};

const CHECK: &str = "port";
const FIREWALL: &str =
    "a firewall there lets other ports pass, or speaks for this one: no client gets through";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let places = facts.places.iter().filter(|place| !inside::is_told(facts, place));
    places
        .filter_map(|place| {
            let known = || needless(facts, place).or_else(|| other_port(facts, place));
            known().or_else(|| one(facts, place))
        })
        .collect()
}

/// Nobody named it, and the gate that runs asks another: one that it has started, or was told of.
fn needless(facts: &Facts, place: &Place) -> Option<Finding> {
    let running = facts.running.as_ref().filter(|running| running.asks(&place.url).is_none())?;
    let first = place.dials.first().filter(|first| place.is_guess && first.end == End::Refused)?;
    let asked: Vec<&str> = running.behind.iter().map(|one| one.url.as_str()).collect();
    let asked = if asked.is_empty() { "none".to_owned() } else { asked.join(", ") };
    let seen = format!("no Ollama listens on {}; the gate that runs asks {asked}", first.address);
    Some(Finding::ok(CHECK, &place.url, seen))
}

/// Whether a gate runs that has nothing else to ask: by its own word, or because nothing is behind it.
fn is_needed(facts: &Facts, place: &Place) -> bool {
    let is_empty = |place: &Place| {
        place.role == Role::Listener
            && place.served.as_ref().is_some_and(|served| served.what == What::Gate(None))
    };
    match &facts.running {
        Some(running) => running.asks(&place.url).is_some(),
        None => facts.places.iter().any(is_empty),
    }
}

/// The Ollama of this machine has another port than the gate asks it at.
fn other_port(facts: &Facts, place: &Place) -> Option<Finding> {
    let machine = facts.machine.as_ref().filter(|_| place.role == Role::Upstream && place.is_own)?;
    let first = place.dials.first().filter(|first| first.end == End::Refused && place.open().is_none())?;
    let is_there = |socket: &&Socket| socket.owner.as_ref().is_some_and(|owner| owner.is("ollama"));
    let there = machine.sockets.iter().find(is_there).filter(|socket| socket.address.port() != place.port)?;
    let (asked, port) = (first.address, there.address.port());
    let ip = if there.address.ip().is_unspecified() {
        "127.0.0.1".to_owned()
    } else {
        there.address.ip().to_string()
    };
    let seen = format!("no Ollama listens on {asked}; one listens on {}", there.address);
    let finding = if place.is_guess {
        Finding::warn(CHECK, &place.url, seen)
            .because("a gate that is not told starts another one, which has none of its models")
    } else {
        Finding::bad(CHECK, &place.url, seen).because("every request that goes there fails")
    };
    let url = format!("http://{}", at(&ip, port));
    let lines = Cure::run(format!("upstreams = [\"{url}\"]")).within("herdgate.toml");
    Some(finding.cured(
        lines.note("in the place of the other").or(Cure::run(format!("herdgate serve --upstream {url}"))),
    ))
}

/// Whether a gate is meant to be there: who shows a key expects one, and at its usual port nobody expects anything else.
fn is_gates(facts: &Facts, place: &Place) -> bool {
    facts.asked.as_client || place.port == GATE
}

fn one(facts: &Facts, place: &Place) -> Option<Finding> {
    let is_gates = is_gates(facts, place);
    if let Some(open) = place.open() {
        let seen = format!("{} is open ({})", open.address, time(open.micros));
        return Some(Finding::ok(CHECK, &place.url, seen));
    }
    let first = place.dials.first()?;
    let around = place.around.clone().unwrap_or_default();
    if place.role == Role::Listener && first.end == End::Refused {
        let seen = format!("no gate listens on {}", first.address);
        return Some(Finding::warn(CHECK, &place.url, seen).cured(Cure::run("herdgate serve")));
    }
    let address = first.address;
    if place.is_guess && first.end == End::Refused && !is_needed(facts, place) {
        let seen = format!("no Ollama listens on {address}, where one would be");
        let finding = Finding::warn(CHECK, &place.url, seen);
        return Some(
            finding
                .because("a gate that finds none starts one itself, where it is installed")
                .cured(Cure::run("herdgate serve")),
        );
    }
    Some(match &first.end {
        End::Refused if place.role == Role::Target && !around.loopback_listens && around.usual.is_some() => {
            elsewhere(place, first, around.usual.unwrap_or_default())
        }
        End::Refused if is_gates => refused_by_gate(place, first, &around),
        End::Refused => refused(place, first, &around),
        End::Filtered => {
            let seen = format!("{address} is turned away by a firewall or router on the way");
            Finding::bad(CHECK, &place.url, seen).because(FIREWALL).cured(let_in(place, is_gates))
        }
        End::Silent if around.other_ports_answer => {
            let seen = format!("{address} is silent, while other ports of that machine answer");
            Finding::bad(CHECK, &place.url, seen).because(FIREWALL).cured(let_in(place, is_gates))
        }
        End::Silent => {
            let seen = format!("{address} does not answer, on no port that was tried");
            Finding::bad(CHECK, &place.url, seen)
                .because("the machine is off, has another address, or a firewall drops everything")
                .cured(Cure::run("hostname -I").on(&place.host).or(let_in(place, is_gates)))
        }
        End::Unreachable => {
            let seen = format!("nobody has the address {}", address.ip());
            Finding::bad(CHECK, &place.url, seen)
                .because("the machine is off, or has another address on this network")
                .cured(Cure::run("hostname -I").on(&place.host))
        }
        End::NoRoute => {
            let seen = format!("this machine knows no way to {}", address.ip());
            Finding::bad(CHECK, &place.url, seen)
                .because("its network is down, or a VPN that leads there is not connected")
                .cured(Cure::run(format!("ip route get {}", address.ip())))
        }
        End::Open | End::Other(_) => {
            let seen = format!("{address} cannot be connected to: {}", words(&first.end));
            Finding::bad(CHECK, &place.url, seen)
        }
    })
}

fn words(end: &End) -> &str {
    match end {
        End::Other(why) => why,
        _ => "no connection",
    }
}

fn refused(place: &Place, first: &Dial, around: &Around) -> Finding {
    let address = first.address;
    if around.loopback_listens {
        let seen = format!("{address} refuses, while 127.0.0.1:{} of this machine answers", place.port);
        let gate = Cure::run(format!(
            "herdgate serve --listen {address} --upstream http://127.0.0.1:{}",
            place.port
        ))
        .note("the gate listens there and asks for a key; the server stays on loopback");
        return Finding::bad(CHECK, &place.url, seen)
            .because("the server is bound to loopback alone: no other machine and no container reaches it")
            .cured(gate);
    }
    let seen = format!("{address} refuses connections");
    let on = if place.is_own { None } else { Some(place.host.clone()) };
    let start = Cure { on: on.clone(), ..Cure::run("sudo systemctl start ollama") };
    let finding = Finding::bad(CHECK, &place.url, seen);
    if place.is_own {
        return finding.because("nobody listens there").cured(start.or(Cure::run("ollama serve")));
    }
    let bound = Cure { on, ..Cure::run(bind(place)) };
    finding
        .because("nobody listens there, or only on 127.0.0.1 of that machine, as Ollama does by itself")
        .cured(start.or(bound.note("where it runs, and listens on its loopback alone")))
}

/// Another port of that machine is one of those that were meant, as a rule.
fn elsewhere(place: &Place, first: &Dial, port: u16) -> Finding {
    let what = if port == GATE { "a gate has by itself" } else { "Ollama has by itself" };
    let seen =
        format!("{} refuses connections, while port {port} there, which {what}, is open", first.address);
    let url = place.url.replacen(&format!(":{}", place.port), &format!(":{port}"), 1);
    let cure = Cure::run(format!("herdgate doctor {url}"))
        .note("where that port is meant: write this URL wherever the other stands");
    Finding::bad(CHECK, &place.url, seen).because("nobody listens at the port that was asked for").cured(cure)
}

/// The same where a gate was expected, whose listeners its settings say.
fn refused_by_gate(place: &Place, first: &Dial, around: &Around) -> Finding {
    let on = |cure: Cure| if place.is_own { cure } else { cure.on(place.host.clone()) };
    let address = first.address;
    let listen = on(Cure::run(format!("[listen]\naddress = \":{}\"", place.port))
        .within("herdgate.toml")
        .note("every address of the machine; counts from the next start on"));
    if around.loopback_listens {
        let seen = format!("{address} refuses, while 127.0.0.1:{} of this machine answers", place.port);
        return Finding::bad(CHECK, &place.url, seen)
            .because("the gate listens on loopback alone: no other machine and no container reaches it")
            .cured(listen);
    }
    let start = on(Cure::run("sudo systemctl start herdgate").note("in a container: docker compose up -d"));
    let finding = Finding::bad(CHECK, &place.url, format!("{address} refuses connections"));
    if place.is_own {
        return finding.because("no gate listens there").cured(start.or(Cure::run("herdgate serve")));
    }
    finding.because("no gate listens there, or only on 127.0.0.1 of that machine").cured(start.or(listen))
}

/// Binds Ollama to the address that was asked for, for this machine alone.
fn bind(place: &Place) -> String {
    let allow = place.from.map(|from| format!(" --allow {from}")).unwrap_or_default();
    let address = place.dials.first().map(|dial| dial.address.ip().to_string()).unwrap_or_default();
    format!("sudo herdgate deploy ollama-override --bind {address}{allow} --write")
}

/// The rules that let this machine in, and nobody else.
fn let_in(place: &Place, is_gates: bool) -> Cure {
    let port = place.port;
    let Some(from) = place.from else {
        return Cure::run(format!("sudo ufw allow {port}/tcp")).on(&place.host);
    };
    let iptables = if from.is_ipv6() { "ip6tables" } else { "iptables" };
    let family = if from.is_ipv6() { "ipv6" } else { "ipv4" };
    let here = place.is_own;
    let on = |cure: Cure| if here { cure } else { cure.on(place.host.clone()) };
    let ollama = if is_gates { String::new() } else { format!(" --allow-ollama {from}") };
    let rich = format!("rule family={family} source address={from} port port={port} protocol=tcp accept");
    on(Cure::run(format!("sudo {iptables} -I INPUT -p tcp -s {from} --dport {port} -j ACCEPT")))
        .or(on(Cure::run(format!("sudo ufw allow from {from} to any port {port} proto tcp"))))
        .or(on(Cure::run(format!("sudo firewall-cmd --permanent --add-rich-rule='{rich}'"))
            .then("sudo firewall-cmd --reload")))
        .or(on(Cure::run(format!("sudo herdgate deploy firewall --allow {from}{ollama} --write"))
            .note(format!("for {}: kept over a reboot", at(&place.host, port)))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::{Behind, Running};
    use crate::doctor::finding::Mark;

    fn found(role: Role, end: End, is_own: bool, around: Around) -> Finding {
        let place = Place { around: Some(around), ..Place::gpu1(role, "10.0.0.2:11434", end, is_own) };
        judge(&Facts { places: vec![place], ..Facts::default() }).pop().unwrap()
    }

    #[test]
    fn each_end_has_its_words_and_its_cure() {
        let plain = Around::default;
        let let_in = "sudo iptables -I INPUT -p tcp -s 10.0.0.1 --dport 11434 -j ACCEPT";
        let gate = "herdgate serve --listen 10.0.0.2:11434 --upstream http://127.0.0.1:11434";
        let start = "sudo systemctl start ollama";
        let loopback = Around { loopback_listens: true, ..plain() };
        let others = Around { other_ports_answer: true, ..plain() };
        for (end, is_own, around, seen, cure) in [
            (End::Refused, false, plain(), "refuses connections", start),
            (End::Refused, true, plain(), "refuses connections", start),
            (End::Refused, true, loopback, "while 127.0.0.1:11434 of this machine answers", gate),
            (End::Filtered, false, plain(), "turned away", let_in),
            (End::Silent, false, others, "other ports of that machine answer", let_in),
            (End::Silent, false, plain(), "on no port", "hostname -I"),
            (End::Unreachable, false, plain(), "nobody has the address 10.0.0.2", "hostname -I"),
            (End::NoRoute, false, plain(), "no way to 10.0.0.2", "ip route get 10.0.0.2"),
        ] {
            let finding = found(Role::Target, end.clone(), is_own, around);
            assert_eq!(finding.mark, Mark::Bad, "{end:?}");
            assert!(finding.seen.contains(seen), "{end:?}: {}", finding.seen);
            assert_eq!(finding.cure.unwrap().run, [cure], "{end:?}");
        }
        let open = found(Role::Target, End::Open, false, plain());
        assert_eq!((open.mark, open.seen.as_str()), (Mark::Ok, "10.0.0.2:11434 is open (1 ms)"));
    }

    #[test]
    fn a_usual_port_that_is_open_is_what_was_meant() {
        let usual = |usual| Around { usual, ..Around::default() };
        let found = found(Role::Target, End::Refused, false, usual(Some(7860)));
        assert!(
            found.seen.contains("while port 7860 there, which a gate has by itself, is open"),
            "{}",
            found.seen
        );
        assert_eq!(found.cure.unwrap().run, ["herdgate doctor http://gpu1:7860"]);
    }

    #[test]
    fn where_a_gate_is_expected_its_own_cures_are_named() {
        let start = "sudo systemctl start herdgate";
        let listen = "[listen]\naddress = \":7860\"";
        let loopback = Around { loopback_listens: true, ..Around::default() };
        let others = Around { other_ports_answer: true, ..Around::default() };
        for (end, is_own, around, first, last) in [
            (End::Refused, false, Around::default(), start, listen),
            (End::Refused, true, Around::default(), start, "herdgate serve"),
            (End::Refused, true, loopback, listen, listen),
            (
                End::Silent,
                false,
                others,
                "sudo iptables -I INPUT -p tcp -s 10.0.0.1 --dport 7860 -j ACCEPT",
                "sudo herdgate deploy firewall --allow 10.0.0.1 --write",
            ),
        ] {
            let place = Place::gpu1(Role::Target, "10.0.0.2:7860", end.clone(), is_own);
            let place = Place { around: Some(around), port: 7860, ..place };
            let finding = judge(&Facts { places: vec![place], ..Facts::default() }).pop().unwrap();
            let cure = finding.cure.unwrap();
            assert_eq!(cure.run, [first], "{end:?}");
            assert_eq!(cure.or.last().unwrap_or(&cure).run, [last], "{end:?}");
        }
        let place = Place::gpu1(Role::Target, "10.0.0.2:11434", End::Refused, false);
        let mut facts = Facts { places: vec![place], ..Facts::default() };
        facts.asked.as_client = true;
        assert_eq!(judge(&facts).pop().unwrap().cure.unwrap().run, [start]);
    }

    #[test]
    fn an_ollama_that_nobody_named_may_be_away() {
        let mut facts = Facts::default();
        let dial = Dial { address: "127.0.0.1:11434".parse().unwrap(), end: End::Refused, micros: 9 };
        for is_guess in [true, false] {
            facts.places =
                vec![Place { dials: vec![dial.clone()], is_guess, role: Role::Upstream, ..Place::default() }];
            assert_eq!(judge(&facts)[0].mark == Mark::Warn, is_guess);
        }
        facts.places[0] = Place {
            is_guess: true,
            is_own: true,
            url: "http://127.0.0.1:11434".into(),
            ..facts.places[0].clone()
        };
        let runs =
            |url: &str| Some(Running { behind: vec![Behind { url: url.into(), ..Behind::default() }] });
        facts.running = runs("http://127.0.0.1:11434");
        let needed = judge(&facts).remove(0);
        assert_eq!(
            (needed.mark, needed.cure.unwrap().run[0].as_str()),
            (Mark::Bad, "sudo systemctl start ollama")
        );
        facts.running = runs("http://127.0.0.1:40897");
        let other = judge(&facts).remove(0);
        assert_eq!(other.mark, Mark::Ok, "the gate asks another");
        assert!(other.seen.ends_with("asks http://127.0.0.1:40897"), "{}", other.seen);
    }

    #[test]
    fn a_gate_that_does_not_run_fails_nobody() {
        let finding = found(Role::Listener, End::Refused, true, Around::default());
        assert_eq!((finding.mark, finding.seen.as_str()), (Mark::Warn, "no gate listens on 10.0.0.2:11434"));
        assert_eq!(finding.cure.unwrap().run, ["herdgate serve"]);
    }
}
