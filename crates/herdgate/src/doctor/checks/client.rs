//! The client's half: is the key taken, and does it cross a network in clear?

use crate::doctor::facts::{Facts, Models, Place, What};
use crate::doctor::finding::{Cure, Finding};

const CHECK: &str = "client";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let of = |place| one(facts, place);
    facts.places.iter().flat_map(of).collect()
}

fn one(facts: &Facts, place: &Place) -> Vec<Finding> {
    let Some(models) = place.models.as_ref().filter(|_| facts.asked.as_client) else { return Vec::new() };
    let mut findings = vec![taken(place, models)];
    // Between addresses of one machine nobody is on the way.
    let is_away = !place.is_own && place.open().is_some_and(|dial| !dial.address.ip().is_loopback());
    if is_away && !place.is_tls {
        let https = place.url.replacen("http://", "https://", 1);
        findings.push(
            Finding::warn(CHECK, &place.url, "the key crosses the network in clear")
                .because("whoever is on the way can read it, and use it")
                .cured(
                    Cure::run("[tls]\nself_signed = true")
                        .on(place.host.clone())
                        .within("herdgate.toml")
                        .note(format!("then clients write {https}; a VPN between does it, too")),
                ),
        );
    }
    findings
}

fn taken(place: &Place, models: &Models) -> Finding {
    let bad = |seen: &str| Finding::bad(CHECK, &place.url, seen);
    let made =
        || Cure::run("herdgate key create NAME").on(place.host.clone()).note("then: export HERDGATE_KEY=...");
    match models.status {
        Some(200) => {
            let is_gate = place.served.as_ref().is_some_and(|served| matches!(served.what, What::Gate(_)));
            let whose = if is_gate { "" } else { "; but nobody there asks for one" };
            Finding::ok(CHECK, &place.url, format!("the key is taken{whose}"))
        }
        Some(status @ (401 | 403)) => {
            let said =
                if models.refusal.is_empty() { String::new() } else { format!(": {}", models.refusal) };
            bad(&format!("the key is refused with {status}{said}"))
                .because("every request with it is refused")
                .cured(
                    Cure::run("herdgate key list")
                        .on(place.host.clone())
                        .note("shows which keys are valid")
                        .or(made()),
                )
        }
        Some(429) => bad("too many wrong keys came from this address")
            .because("some program of this machine shows a wrong key again and again")
            .cured(made()),
        Some(status) => bad(&format!("answers {status} to who shows the key: {}", models.refusal))
            .because("no request is served")
            .cured(Cure::run("herdgate doctor").on(place.host.clone())),
        None => bad("does not answer who shows the key")
            .because("no request is served")
            .cured(Cure::run("herdgate doctor").on(place.host.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::{Asked, Dial, End, Served};
    use crate::doctor::finding::Mark;

    fn found(status: u16, address: &str, is_tls: bool) -> Vec<(Mark, String)> {
        judged(status, address, is_tls, false)
    }

    fn judged(status: u16, address: &str, is_tls: bool, is_own: bool) -> Vec<(Mark, String)> {
        let dial = Dial { address: address.parse().unwrap(), end: End::Open, micros: 1 };
        let place = Place {
            url: "http://gate:7860".into(),
            host: "gate".into(),
            is_tls,
            is_own,
            dials: vec![dial],
            served: Some(Served { what: What::Gate(None), ..Served::default() }),
            models: Some(Models {
                is_keyed: true,
                status: Some(status),
                refusal: "no".into(),
                ..Models::default()
            }),
            ..Place::default()
        };
        let asked = Asked { as_client: true, ..Asked::default() };
        let facts = Facts { asked, places: vec![place], ..Facts::default() };
        judge(&facts).into_iter().map(|finding| (finding.mark, finding.seen)).collect()
    }

    #[test]
    fn a_key_is_taken_or_refused_and_never_sent_in_clear_without_a_word() {
        let taken = (Mark::Ok, "the key is taken".to_owned());
        assert_eq!(found(200, "127.0.0.1:7860", false), std::slice::from_ref(&taken));
        assert_eq!(found(200, "10.0.0.2:7860", true), std::slice::from_ref(&taken));
        assert_eq!(judged(200, "172.17.0.1:7860", false, true), std::slice::from_ref(&taken));
        let clear = (Mark::Warn, "the key crosses the network in clear".to_owned());
        assert_eq!(found(200, "10.0.0.2:7860", false), [taken, clear]);
        for (status, seen) in
            [(401, "refused with 401: no"), (429, "too many wrong keys"), (503, "answers 503")]
        {
            let told = found(status, "127.0.0.1:7860", false);
            assert!(told[0].0 == Mark::Bad && told[0].1.contains(seen), "{told:?}");
        }
    }
}
