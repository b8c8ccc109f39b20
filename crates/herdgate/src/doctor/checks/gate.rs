//! What a gate knows of itself: servers that it gets no models from, models that do not come, and whether it is ready.
//!
//! Another check that calls the same server wrong says more about it, and is left to it.

use crate::doctor::facts::{Behind, Facts, Place, Pulled, Role, What};
use crate::doctor::finding::{Cure, Finding};

pub(super) const CHECK: &str = "gate";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let behind = facts.running.iter().flat_map(|running| &running.behind);
    let of_servers = behind.flat_map(|one| {
        let pulls = one.pulls.iter().map(|pull| self::pull(one, pull));
        lost(one).into_iter().chain(pulls)
    });
    of_servers.chain(facts.places.iter().filter_map(|place| ready(facts, place))).collect()
}

/// A server that tells the gate nothing.
fn lost(behind: &Behind) -> Option<Finding> {
    let url = &behind.url;
    let why = crate::reach::without_its_name(behind.failed.as_deref()?, url);
    let finding = Finding::bad(CHECK, url, format!("the gate gets no models from it: {why}"));
    let is_guarded = ["401", "403"].iter().any(|status| why.contains(&format!("answers {status}")));
    if is_guarded {
        let lines = format!("[[upstream]]\nurl = \"{url}\"\ntoken_file = \"/etc/herdgate/upstream-token\"");
        return Some(
            finding
                .because("it wants a key of the gate, and gets none or another: every request there fails")
                .cured(
                    Cure::run(lines)
                        .within("herdgate.toml")
                        .note("with a key of that server in this file: chmod 600"),
                ),
        );
    }
    let looked = Cure::run(format!("herdgate doctor {url}")).note("looks at that server alone");
    Some(finding.because("every request for a model that only it has gets 502 or 503").cured(looked))
}

fn pull(behind: &Behind, pull: &Pulled) -> Finding {
    let Pulled { model, state, failing, hint } = pull;
    let Some(why) = failing else {
        return Finding::warn(CHECK, &behind.url, format!("{model} is not there yet: {state}"))
            .because("requests for it get 503 until it is there")
            .cured(Cure::run("herdgate models").note("tells how far it is"));
    };
    let hint = hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    Finding::bad(CHECK, &behind.url, format!("{model} is not there, and cannot be pulled: {why}"))
        .because(format!("every request for it fails until it is there{hint}"))
        .cured(Cure::run(format!("herdgate pull {model}")).note("once its reason has gone"))
}

/// What `/readyz` says, where nothing else explains it.
fn ready(facts: &Facts, place: &Place) -> Option<Finding> {
    let served = place.served.as_ref()?;
    let ready = served.ready.as_ref().filter(|ready| ready.word != "ready")?;
    let is_here = place.role == Role::Listener;
    let behind = facts.running.as_ref().filter(|_| is_here).map(|running| running.behind.as_slice());
    let is_lost = |one: &Behind| one.failed.is_some();
    if ready.status == 200 {
        if behind.is_some_and(|behind| behind.iter().any(is_lost)) {
            return None;
        }
        let log = Cure::run("journalctl -u herdgate -n 50 --no-pager")
            .note("its last lines; without systemd: the output of herdgate serve");
        let cure = if is_here { log } else { Cure::run("herdgate doctor").on(place.host.clone()) };
        return Some(
            Finding::warn(CHECK, &place.url, format!("says of itself that it is {}", ready.word))
                .because("it serves, and something of its own fails: a server behind it, its store of keys, or its certificate")
                .cured(cure),
        );
    }
    if matches!(served.what, What::Gate(None)) {
        // Told as what answers there.
        return None;
    }
    let seen = format!("says of itself that it is {}", ready.word);
    if behind.is_some_and(|behind| !behind.iter().any(is_lost)) {
        return Some(
            Finding::warn(CHECK, &place.url, format!("{seen}, though every server answers it by now"))
                .because("it has just begun, or is about to end")
                .cured(Cure::run("herdgate health --ready")),
        );
    }
    let cure = if is_here {
        Cure::run("herdgate models").note("tells which server does not answer")
    } else {
        Cure::run("herdgate doctor").on(place.host.clone())
    };
    Some(Finding::bad(CHECK, &place.url, seen).because("requests get 502 or 503").cured(cure))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::checks;
    use crate::doctor::facts::{Dial, End, Ready, Running, Served};
    use crate::doctor::finding::Mark;

    fn runs(behind: Vec<Behind>) -> Facts {
        Facts { running: Some(Running { behind }), ..Facts::default() }
    }

    fn behind(failed: Option<&str>) -> Behind {
        let failed = failed.map(str::to_owned);
        Behind { url: "http://127.0.0.1:4".into(), failed, ..Behind::default() }
    }

    fn says(role: Role, status: u16, word: &str, what: What) -> Place {
        let ready = Some(Ready { status, word: word.into() });
        let dial = Dial { address: "127.0.0.1:7860".parse().unwrap(), end: End::Open, micros: 1 };
        let served = Some(Served { what, ready, ..Served::default() });
        Place {
            url: "http://gate:7860".into(),
            host: "gate".into(),
            role,
            dials: vec![dial],
            served,
            ..Place::default()
        }
    }

    #[test]
    fn models_that_do_not_come_are_told_with_the_reason() {
        let pull = |failing: Option<&str>| Pulled {
            model: "qwen3:0.6b".into(),
            state: "pulling: 35 %".into(),
            failing: failing.map(str::to_owned),
            hint: failing.map(|_| "check the network".to_owned()),
        };
        let one =
            Behind { pulls: vec![pull(None), pull(Some("its registry cannot be reached"))], ..behind(None) };
        let told = judge(&runs(vec![one]));
        let seen: Vec<_> = told.iter().map(|finding| (finding.mark, finding.seen.as_str())).collect();
        let lost = "qwen3:0.6b is not there, and cannot be pulled: its registry cannot be reached";
        assert_eq!(seen, [(Mark::Warn, "qwen3:0.6b is not there yet: pulling: 35 %"), (Mark::Bad, lost)]);
        assert_eq!(told[1].why, "every request for it fails until it is there; check the network");
    }

    #[test]
    fn a_server_that_fails_the_gate_is_told_once() {
        let guarded = judge(&runs(vec![behind(Some("it answers 401 to /api/tags"))])).remove(0);
        assert!(guarded.cure.unwrap().run[0].contains("token_file"), "a credential");
        let away = behind(Some("http://127.0.0.1:4: cannot connect: refused"));
        let found = judge(&runs(vec![away.clone()])).remove(0);
        assert_eq!(found.seen, "the gate gets no models from it: cannot connect: refused");
        assert_eq!(found.cure.unwrap().run, ["herdgate doctor http://127.0.0.1:4"]);
        let dial = Dial { address: "127.0.0.1:4".parse().unwrap(), end: End::Refused, micros: 1 };
        let place = Place {
            url: "http://127.0.0.1:4".into(),
            role: Role::Upstream,
            is_own: true,
            dials: vec![dial],
            ..Place::default()
        };
        let told = checks::judge(&Facts { places: vec![place], ..runs(vec![away]) });
        assert_eq!(told.iter().map(|finding| finding.check).collect::<Vec<_>>(), ["port"]);
    }

    #[test]
    fn a_gate_that_is_not_ready_is_told_where_nothing_explains_it() {
        let old = || What::Gate(Some("0.35.0".into()));
        let of = |place: Place, facts: Facts| {
            let found = judge(&Facts { places: vec![place], ..facts });
            found.into_iter().find(|finding| finding.about == "http://gate:7860").map(|found| found.mark)
        };
        let here = |status, word, what| says(Role::Listener, status, word, what);
        assert_eq!(of(here(200, "ready", old()), Facts::default()), None);
        assert_eq!(of(here(200, "degraded", old()), Facts::default()), Some(Mark::Warn));
        assert_eq!(of(here(200, "degraded", old()), runs(vec![behind(Some("x"))])), None);
        assert_eq!(of(here(503, "not ready", old()), runs(vec![behind(Some("x"))])), Some(Mark::Bad));
        assert_eq!(of(here(503, "not ready", old()), runs(vec![behind(None)])), Some(Mark::Warn));
        assert_eq!(of(here(503, "not ready", What::Gate(None)), Facts::default()), None);
        assert_eq!(of(says(Role::Target, 503, "not ready", old()), Facts::default()), Some(Mark::Bad));
    }
}
