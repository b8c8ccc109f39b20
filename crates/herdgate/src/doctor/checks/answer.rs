//! Is it an Ollama, a gate, or something else that answers there?

use super::{taken, time};
use crate::doctor::facts::{Facts, Failed, Machine, Place, Program, Role, Served, What};
use crate::doctor::finding::{Cure, Finding, Mark};

const CHECK: &str = "answer";
/// So far away a server costs something at every question.
const FAR: u64 = 100_000;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let judge = |place: &Place| {
        let finding = one(facts, place, place.served.as_ref()?)?;
        Some(match owner(facts, place).filter(|_| finding.mark == Mark::Bad) {
            Some((machine, owner)) => known(machine, place, owner, finding),
            None => finding,
        })
    };
    facts.places.iter().filter_map(judge).collect()
}

/// Who has the port where the gate of this machine should listen, where that is not a gate.
fn owner<'f>(facts: &'f Facts, place: &Place) -> Option<(&'f Machine, &'f Program)> {
    let machine = facts.machine.as_ref().filter(|_| place.role == Role::Listener)?;
    let address = place.open()?.address;
    let socket = machine.sockets.iter().find(|socket| socket.is_in_the_way_of(address))?;
    Some((machine, socket.owner.as_ref().filter(|owner| !owner.is("herdgate"))?))
}

/// Its name says more than what it answers.
fn known(machine: &Machine, place: &Place, owner: &Program, finding: Finding) -> Finding {
    let address = place.open().map(|dial| dial.address);
    let elsewhere = address.map(|address| taken::elsewhere(machine, address));
    let seen = format!("{}; it is {}", finding.seen, owner.shown());
    let cure = elsewhere.into_iter().fold(taken::stop(owner), Cure::or);
    Finding { seen, ..finding }
        .because("the gate cannot start there, and clients reach what is there without it")
        .cured(cure)
}

fn one(facts: &Facts, place: &Place, served: &Served) -> Option<Finding> {
    if place.tls.as_ref().is_some_and(|tls| tls.fault.is_some()) {
        return None;
    }
    if served.is_tls {
        return Some(wants_tls(place));
    }
    if let Some(failed) = &served.failed {
        return Some(unheard(place, failed));
    }
    let is = match &served.what {
        What::Unknown => return None,
        What::Ollama(version) => format!("Ollama {version}"),
        What::Engine(level) => format!("herdgate-engine (as Ollama {level})"),
        What::Gate(Some(version)) => format!("a herdgate, Ollama {version} behind it"),
        What::Gate(None) => return Some(empty_gate(facts, place)),
        What::Guarded(status) => return Some(guarded(place, *status)),
        What::HostCheck => return Some(host_check(place)),
        What::Moved(status, there) => return Some(moved(facts, place, *status, there)),
        What::Other(status, server) => return Some(other(place, *status, server)),
    };
    if place.role == Role::Listener && !matches!(served.what, What::Gate(_)) {
        return Some(not_the_gate(place, &is));
    }
    let Some(micros) = served.micros else { return Some(Finding::ok(CHECK, &place.url, is)) };
    let seen = format!("{is}, answers in {}", time(micros));
    if micros < FAR {
        return Some(Finding::ok(CHECK, &place.url, seen));
    }
    Some(Finding::warn(CHECK, &place.url, seen).because(
        "every question waits that long before a model begins: the server is far away, or overloaded",
    ))
}

fn wants_tls(place: &Place) -> Finding {
    let url = place.url.replacen("http://", "https://", 1);
    Finding::bad(CHECK, &place.url, format!("port {} speaks TLS, and was asked in plain HTTP", place.port))
        .because("the URL says http:// where https:// belongs; without a scheme, programs of Ollama's take http://")
        .cured(Cure::run(format!("herdgate doctor {url}")).note("write this URL wherever the other stands"))
}

fn unheard(place: &Place, failed: &Failed) -> Finding {
    let seen = match failed {
        Failed::Closed => "it takes connections, and closes them without an answer".to_owned(),
        Failed::NoHttp => "what answers there does not speak HTTP".to_owned(),
        Failed::Silent => "it takes connections, and does not answer within 5 s".to_owned(),
        Failed::Other(why) => format!("no answer: {why}"),
    };
    let why = match failed {
        Failed::Closed => {
            "a tunnel or a published port of a container takes connections for a server that is away"
        }
        Failed::NoHttp => "another program has this port",
        Failed::Silent => "the server hangs, or a proxy before it waits for a server that is away",
        Failed::Other(_) => "no client gets an answer",
    };
    let port = place.port;
    Finding::bad(CHECK, &place.url, seen).because(why).cured(
        Cure::run(format!("sudo ss -tlnp 'sport = :{port}'")).on(place.host.clone()).note(
            "shows who listens; Ollama: sudo systemctl restart ollama; its container: docker restart ollama",
        ),
    )
}

/// Where the servers behind it are looked at, too, the cure is theirs.
fn empty_gate(facts: &Facts, place: &Place) -> Finding {
    let finding = Finding::bad(CHECK, &place.url, "a herdgate, and no model server behind it answers")
        .because("every request gets 502 or 503");
    if place.role != Role::Listener {
        return finding.cured(Cure::run("herdgate doctor").on(place.host.clone()));
    }
    let is_away = |place: &&Place| place.role == Role::Upstream && place.open().is_none();
    let models = Cure::run("herdgate models").note("tells what the gate hears of each of them");
    finding.cured(match facts.places.iter().find(is_away) {
        Some(away) if away.is_own => {
            Cure::run("sudo systemctl start ollama").or(Cure::run("ollama serve")).or(models)
        }
        Some(away) => Cure::run("sudo systemctl start ollama").on(away.host.clone()).or(models),
        None => models,
    })
}

fn guarded(place: &Place, status: u16) -> Finding {
    let seen = format!("answers {status} before it says what it is");
    match place.role {
        Role::Upstream => Finding::bad(CHECK, &place.url, seen)
            .because("it wants a credential of the gate, and none or another stands in the settings")
            .cured(
                Cure::run(format!(
                    "[[upstream]]\nurl = \"{}\"\ntoken_file = \"/etc/herdgate/upstream-token\"",
                    place.url
                ))
                .within("herdgate.toml"),
            ),
        Role::Target | Role::Listener => Finding::warn(CHECK, &place.url, seen)
            .because("a proxy stands before it and wants a credential")
            .cured(Cure::run(format!("HERDGATE_KEY=... herdgate doctor --as-client {}", place.url))),
    }
}

fn host_check(place: &Place) -> Finding {
    let seen = format!("answers 403 with nothing in it: Ollama's Host check refuses \"{}\"", place.host);
    let address = place.open().map(|dial| dial.address.to_string()).unwrap_or_default();
    let scheme = if place.is_tls { "https" } else { "http" };
    Finding::bad(CHECK, &place.url, seen)
        .because("an Ollama that is bound to loopback answers to localhost and addresses alone")
        .cured(
            Cure::run(format!("herdgate doctor {scheme}://{address}"))
                .note("write the address instead of the name"),
        )
}

/// A listener that is there for who forgot the "s".
fn moved(facts: &Facts, place: &Place, status: u16, there: &str) -> Finding {
    let seen = format!("only points to {there} ({status})");
    if place.role == Role::Listener {
        return Finding::ok(CHECK, &place.url, seen);
    }
    let (option, note) = if facts.asked.as_client {
        (
            " --as-client",
            "; the key was not shown here; one that programs showed here was readable: herdgate key rotate NAME",
        )
    } else {
        ("", "")
    };
    Finding::bad(CHECK, &place.url, seen)
        .because("nothing is served in clear there, and most programs that speak to Ollama do not follow")
        .cured(
            Cure::run(format!("herdgate doctor{option} {there}"))
                .note(format!("write this URL wherever the other stands{note}")),
        )
}

fn other(place: &Place, status: u16, server: &str) -> Finding {
    let named = if server.is_empty() { String::new() } else { format!(" ({server})") };
    let port = place.port;
    if (300..400).contains(&status) {
        return Finding::bad(
            CHECK,
            &place.url,
            format!("answers {status}{named}: it sends clients to another address"),
        )
        .because("most programs that speak to Ollama do not follow")
        .cured(Cure::run(format!("curl -sI {}/api/version", place.url)).note("Location is the URL to use"));
    }
    if matches!(status, 502..=504) {
        return Finding::bad(
            CHECK,
            &place.url,
            format!("answers {status}{named}: a proxy whose server is away"),
        )
        .because("the proxy runs, and what it passes requests to does not answer")
        .cured(Cure::run("sudo systemctl start ollama").on(place.host.clone()));
    }
    if let Some(bare) = ["/v1", "/api"].iter().find_map(|end| place.url.strip_suffix(end)) {
        let seen = format!("answers {status}{named} to /api/version below {}", place.url);
        return Finding::bad(CHECK, &place.url, seen)
            .because("only clients of OpenAI's dialect are given a URL that ends in /v1; all others, this program too, add the path by themselves")
            .cured(Cure::run(format!("herdgate doctor {bare}")).note("write this URL where the other fails"));
    }
    Finding::bad(CHECK, &place.url, format!("is no Ollama: answers {status}{named} to /api/version"))
        .because("another program has this port, or the URL lacks a path")
        .cured(
            Cure::run(format!("sudo ss -tlnp 'sport = :{port}'"))
                .on(place.host.clone())
                .note("shows who listens"),
        )
}

/// Where the gate should listen there is something else.
fn not_the_gate(place: &Place, is: &str) -> Finding {
    let port = place.port;
    Finding::bad(CHECK, &place.url, format!("{is} answers where the gate should listen"))
        .because("the gate cannot start there, and clients reach what is there without it")
        .cured(
            Cure::run(format!("sudo ss -tlnp 'sport = :{port}'"))
                .note("shows who it is; end it (sudo systemctl stop ollama), or give the gate another port")
                .or(Cure::run(format!(
                    "herdgate serve --listen 127.0.0.1:{}",
                    port.wrapping_add(1).max(1024)
                ))),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(role: Role, served: Served) -> Finding {
        let place = Place {
            url: "http://gpu1:11434".into(),
            role,
            host: "gpu1".into(),
            port: 11434,
            served: Some(served),
            ..Place::default()
        };
        judge(&Facts { places: vec![place], ..Facts::default() }).pop().unwrap()
    }

    fn is(what: What) -> Served {
        Served { what, micros: Some(400), ..Served::default() }
    }

    #[test]
    fn what_answers_is_named() {
        use Mark::{Bad, Ok, Warn};
        let ollama = || What::Ollama("0.24.0".into());
        let moved = || What::Moved(308, "https://gpu1:7860".into());
        for (role, served, mark, seen) in [
            (Role::Target, is(ollama()), Ok, "Ollama 0.24.0, answers in under 1 ms"),
            (Role::Target, Served { micros: Some(250_000), ..is(ollama()) }, Warn, "answers in 250 ms"),
            (Role::Listener, is(ollama()), Bad, "Ollama 0.24.0 answers where the gate should listen"),
            (Role::Target, is(What::Engine("0.24.0".into())), Ok, "herdgate-engine (as Ollama 0.24.0)"),
            (Role::Target, is(What::Gate(Some("0.24.0".into()))), Ok, "a herdgate, Ollama 0.24.0 behind it"),
            (Role::Target, is(What::Gate(None)), Bad, "no model server behind it"),
            (Role::Target, is(What::Guarded(401)), Warn, "answers 401 before"),
            (Role::Upstream, is(What::Guarded(401)), Bad, "answers 401 before"),
            (Role::Target, is(What::HostCheck), Bad, "Host check refuses \"gpu1\""),
            (Role::Target, is(What::Other(302, String::new())), Bad, "answers 302"),
            (Role::Target, is(moved()), Bad, "only points to https://gpu1:7860 (308)"),
            (Role::Listener, is(moved()), Ok, "only points to https://gpu1:7860 (308)"),
            (
                Role::Target,
                is(What::Other(502, "nginx".into())),
                Bad,
                "502 (nginx): a proxy whose server is away",
            ),
            (Role::Target, is(What::Other(404, "Apache".into())), Bad, "is no Ollama: answers 404 (Apache)"),
            (Role::Target, Served { is_tls: true, ..is(What::Other(400, String::new())) }, Bad, "speaks TLS"),
        ] {
            let finding = found(role, served.clone());
            assert_eq!(finding.mark, mark, "{served:?}");
            assert!(finding.seen.contains(seen), "{served:?}: {}", finding.seen);
            assert!(mark != Bad || finding.cure.is_some(), "{served:?}");
        }
        let served = Some(is(What::Other(404, String::new())));
        let place = Place { url: "http://gpu1:11434/v1".into(), served, ..Place::default() };
        let found_below = judge(&Facts { places: vec![place], ..Facts::default() }).remove(0);
        assert_eq!(found_below.cure.unwrap().run, ["herdgate doctor http://gpu1:11434"]);
        let listener = Place {
            url: "http://gate:7860".into(),
            role: Role::Listener,
            served: Some(is(What::Gate(None))),
            ..Place::default()
        };
        let away = Place { role: Role::Upstream, is_own: true, ..Place::default() };
        for (places, cure) in [
            (vec![listener.clone()], "herdgate models"),
            (vec![away, listener], "sudo systemctl start ollama"),
        ] {
            let told = judge(&Facts { places, ..Facts::default() }).remove(0);
            assert_eq!(told.cure.unwrap().run, [cure]);
        }
        for failed in [Failed::Closed, Failed::NoHttp, Failed::Silent, Failed::Other("x".into())] {
            let served = Served { failed: Some(failed), ..Served::default() };
            assert_eq!(found(Role::Target, served).mark, Bad);
        }
        let wrong =
            found(Role::Target, Served { is_tls: true, failed: Some(Failed::NoHttp), ..Served::default() });
        assert_eq!(wrong.cure.unwrap().run, ["herdgate doctor https://gpu1:11434"]);
    }
}
