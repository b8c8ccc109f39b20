//! What updates of Ollama are known to break: settings in the unit, which the installer writes anew, and what versions changed.

use crate::doctor::facts::{Facts, Place, Role, Unit, What};
use crate::doctor::finding::{Cure, Finding};

const CHECK: &str = "update";
const ABOUT: &str = "Ollama's service";
const DIRECTORY: &str = "/etc/systemd/system/ollama.service.d";

/// Versions that behave otherwise than those before, and how a client feels it.
const CHANGES: [((u64, u64, u64), &str); 4] = [
    (
        (0, 1, 29),
        "an Ollama on loopback answers 403 to Host names that it does not know, also behind a proxy",
    ),
    ((0, 32, 0), "models without embeddings answer 501 to the embedding routes"),
    ((0, 32, 5), "the routes for making pictures are gone"),
    ((0, 32, 14), "preflights of origins that are not allowed get 405"),
];

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(unit) = &facts.unit else { return Vec::new() };
    let mut findings = vec![settings(facts, unit)];
    findings.extend(facts.places.iter().filter_map(changed));
    findings
}

fn settings(facts: &Facts, unit: &Unit) -> Finding {
    if !unit.is_there {
        return Finding::ok(
            CHECK,
            ABOUT,
            "there is no ollama.service here: an update of a container keeps its settings",
        );
    }
    if !unit.own.is_empty() {
        let names: Vec<&str> = unit.own.iter().map(|(name, _)| name.as_str()).collect();
        let seen = format!("ollama.service itself sets {}", names.join(", "));
        return Finding::warn(CHECK, ABOUT, seen)
            .because("the next update writes that file anew, and they are lost")
            .cured(moved());
    }
    if unit.laid_over.is_empty() {
        if let Some(lost) = unreached(facts) {
            let seen = format!(
                "neither ollama.service nor a drop-in sets anything, and {} is not reached",
                lost.url
            );
            let gate = Cure::run("sudo herdgate deploy ollama-override --write --run").note(
                "keeps it on loopback, where a gate here asks it: upstreams = [\"http://127.0.0.1:11434\"]",
            );
            let back = Cure::run(format!(
                "sudo herdgate deploy ollama-override --bind {} --allow GATE_ADDRESS --write --run",
                lost.dials.first().map_or_else(|| lost.host.clone(), |dial| dial.address.ip().to_string())
            ))
            .note("for a gate on another machine, which alone is let in");
            return Finding::bad(CHECK, ABOUT, seen)
                .because("an update has written the unit anew: OLLAMA_HOST is lost, and Ollama listens on loopback alone")
                .cured(gate.or(back));
        }
        return Finding::ok(CHECK, ABOUT, "sets nothing that an update could lose");
    }
    let names: Vec<&str> = unit.laid_over.iter().map(|(name, _)| name.as_str()).collect();
    Finding::ok(CHECK, ABOUT, format!("a drop-in, which updates leave alone, sets {}", names.join(", ")))
}

/// An Ollama of this machine that should be reached off loopback, and is not.
fn unreached(facts: &Facts) -> Option<&Place> {
    let is_lost = |place: &&Place| {
        let loopback = place.around.as_ref().is_some_and(|around| around.loopback_listens);
        place.is_own && loopback && matches!(place.role, Role::Upstream | Role::Target)
    };
    facts.places.iter().find(is_lost)
}

/// The same lines in a drop-in, and out of the unit. A secret may be among them: none is shown.
fn moved() -> Cure {
    let unit = "/etc/systemd/system/ollama.service";
    Cure::run(format!("sudo mkdir -p {DIRECTORY}"))
        .then(format!(
            "(echo '[Service]'; sudo grep '^Environment=.*OLLAMA_' {unit}) | sudo tee -a {DIRECTORY}/override.conf >/dev/null"
        ))
        .then(format!("sudo sed -i '/^Environment=.*OLLAMA_/d' {unit}"))
        .then("sudo systemctl daemon-reload && sudo systemctl restart ollama")
}

/// The last of the changes that this version has.
fn changed(place: &Place) -> Option<Finding> {
    let What::Ollama(version) = &place.served.as_ref()?.what else { return None };
    let mut numbers = version.split(['.', '-']).map_while(|part| part.parse::<u64>().ok());
    let own = (numbers.next()?, numbers.next()?, numbers.next()?);
    let ((major, minor, patch), what) = CHANGES.iter().rfind(|(since, _)| own >= *since)?;
    let seen = format!(
        "Ollama {version}; the last change that clients feel came with {major}.{minor}.{patch}: {what}"
    );
    Some(Finding::ok(CHECK, &place.url, seen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::ollama;
    use crate::deploy::testing::make;
    use crate::doctor::facts::Around;
    use crate::doctor::finding::Mark;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    fn found(unit: Unit, is_lost: bool) -> Finding {
        let around = Some(Around { loopback_listens: is_lost, ..Around::default() });
        let place = Place {
            url: "http://10.0.0.2:11434".into(),
            host: "10.0.0.2".into(),
            is_own: true,
            around,
            ..Place::default()
        };
        judge(&Facts { unit: Some(unit), places: vec![place], ..Facts::default() }).remove(0)
    }

    #[test]
    fn what_an_update_loses_is_told_before_and_after() {
        let there = || Unit { is_there: true, ..Unit::default() };
        let own = found(Unit { own: vec![pair("OLLAMA_HOST", "0.0.0.0")], ..there() }, false);
        assert_eq!((own.mark, own.seen.as_str()), (Mark::Warn, "ollama.service itself sets OLLAMA_HOST"));
        let run = own.cure.unwrap().run;
        // The whole line goes where no update comes, and what it sets is not shown: a key could be in it.
        let folder = tempfile::tempdir().unwrap();
        let (unit, dropped) = (folder.path().join("unit"), folder.path().join("override.conf"));
        std::fs::write(&unit, "[Service]\nEnvironment=\"OLLAMA_API_KEY=sk-SECRET\"\nRestart=always\n")
            .unwrap();
        for command in &run[1..3] {
            let command = command
                .replace("sudo ", "")
                .replace(&format!("{DIRECTORY}/override.conf"), dropped.to_str().unwrap());
            let command = command.replace("/etc/systemd/system/ollama.service", unit.to_str().unwrap());
            let done = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
            assert!(done.status.success() && done.stdout.is_empty(), "{command}: {done:?}");
        }
        let text = |path| std::fs::read_to_string(path).unwrap();
        assert_eq!(text(&dropped), "[Service]\nEnvironment=\"OLLAMA_API_KEY=sk-SECRET\"\n");
        assert_eq!(text(&unit), "[Service]\nRestart=always\n");
        let lost = found(there(), true);
        assert!(
            lost.mark == Mark::Bad && lost.seen.contains("http://10.0.0.2:11434 is not reached"),
            "{}",
            lost.seen
        );
        // Every way out is a command that makes something.
        let gate = lost.cure.unwrap();
        for cure in [&gate, &gate.or[0]] {
            let words = cure.run[0].strip_prefix("sudo herdgate deploy ollama-override ").unwrap();
            let words: Vec<&str> = words.strip_suffix("--write --run").unwrap().split_whitespace().collect();
            let words = words.iter().map(|word| word.replace("GATE_ADDRESS", "10.0.0.9")).collect::<Vec<_>>();
            make(ollama::KIND, "", &words.iter().map(String::as_str).collect::<Vec<_>>(), ollama::make)
                .unwrap();
        }
        assert_eq!(found(there(), false).mark, Mark::Ok);
        assert_eq!(
            found(Unit { laid_over: vec![pair("OLLAMA_HOST", "0.0.0.0")], ..there() }, true).mark,
            Mark::Ok
        );
        assert_eq!(found(Unit::default(), true).mark, Mark::Ok);
    }
}
