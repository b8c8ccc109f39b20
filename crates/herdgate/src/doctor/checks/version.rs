//! Which holes are known in the version that answers?

use crate::doctor::facts::{Facts, Place, Role, What};
use crate::doctor::finding::{Cure, Finding};
use gate_policy::{holes, mended_by};

const CHECK: &str = "version";
/// Holes that a page in a browser uses, or anybody who may ask at all; all others need the routes that manage models.
const OPEN_TO_ALL: [&str; 1] = ["CVE-2024-28224"];
const SHOWN: usize = 4;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    // What is told of an upstream is not told again of the gate of this machine before it.
    let is_told = |place: &Place| {
        let behind = |other: &Place| other.role == Role::Upstream && version_of(other) == version_of(place);
        place.role == Role::Listener && facts.places.iter().any(behind)
    };
    facts.places.iter().filter(|place| !is_told(place)).filter_map(one).collect()
}

fn version_of(place: &Place) -> Option<&str> {
    match &place.served.as_ref()?.what {
        What::Ollama(version) | What::Gate(Some(version)) => Some(version),
        _ => None,
    }
}

fn one(place: &Place) -> Option<Finding> {
    let served = place.served.as_ref()?;
    let (version, is_gate) = match &served.what {
        What::Ollama(version) => (version, false),
        What::Gate(Some(version)) => (version, true),
        _ => return None,
    };
    let known = holes(version);
    if known.is_empty() {
        return Some(Finding::ok(CHECK, &place.url, format!("no hole is known in {version}")));
    }
    let mut names: Vec<&str> = known.iter().map(|hole| hole.id).collect();
    names.sort_by_key(|name| !OPEN_TO_ALL.contains(name));
    let is_open = OPEN_TO_ALL.contains(&names[0]);
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let seen = format!("Ollama {version} has {}{more}", names.join(", "));
    let update = Cure::run("curl -fsSL https://ollama.com/install.sh | sh")
        .then("herdgate doctor --after-update")
        .note(format!(
            "to {} or later; in Docker: docker pull ollama/ollama, and start it anew",
            mended_by(version)?
        ));
    let update = if place.is_own && !is_gate { update } else { update.on(place.host.clone()) };
    let finding = if is_open && !is_gate {
        Finding::bad(CHECK, &place.url, seen)
            .because("a page in a browser that reaches it can use it: it needs no key and no rights")
    } else if is_gate {
        Finding::warn(CHECK, &place.url, seen)
            .because("behind a gate these need a key that manages models, or a way past the gate")
    } else {
        Finding::warn(CHECK, &place.url, seen).because(
            "whoever may pull or create models there uses them; through a gate that takes the scope manage",
        )
    };
    Some(finding.cured(update))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::Served;
    use crate::doctor::finding::Mark;

    #[test]
    fn only_what_anybody_can_use_is_a_failure() {
        for (what, mark) in [
            (What::Ollama("0.35.0".into()), Some(Mark::Ok)),
            (What::Ollama("0.24.0".into()), Some(Mark::Warn)),
            (What::Ollama("0.1.28".into()), Some(Mark::Bad)),
            (What::Gate(Some("0.1.28".into())), Some(Mark::Warn)),
            (What::Gate(None), None),
            (What::Engine("0.1.28".into()), None),
        ] {
            let served = Some(Served { what: what.clone(), ..Served::default() });
            let place = Place { served, is_own: true, ..Place::default() };
            let finding = judge(&Facts { places: vec![place], ..Facts::default() }).pop();
            assert_eq!(finding.as_ref().map(|finding| finding.mark), mark, "{what:?}");
            if mark == Some(Mark::Bad) {
                let finding = finding.unwrap();
                assert!(
                    finding.seen.contains("has CVE-2024-28224, ") && finding.seen.ends_with(" more"),
                    "{}",
                    finding.seen
                );
                assert!(finding.cure.unwrap().note.unwrap().contains("to 0.35.0"));
            }
        }
    }
}
