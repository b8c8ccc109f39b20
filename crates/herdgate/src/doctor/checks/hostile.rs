//! Hostile words through all checks: each word of the recorded situations in turn is one that a shell would run, and no cure has more
//! commands or expansions by it than by a harmless word in the same place.

use super::recorded::{Situation, all, cures};
use crate::doctor::facts::Facts;
use crate::doctor::finding::Cure;
use serde_json::Value;
use std::collections::BTreeSet;

const HOSTILE: &str = "';touch PWNED;\"`touch PWNED`$(touch PWNED)\n touch PWNED & # \u{9b}\u{202e}\\";
const HARMLESS: &str = "harmless";

/// The facts as values, and where their words are.
fn words(fact: &Value, place: &str, found: &mut Vec<String>) {
    match fact {
        Value::String(_) => found.push(place.to_owned()),
        Value::Array(all) => {
            all.iter().enumerate().for_each(|(at, one)| words(one, &format!("{place}/{at}"), found));
        }
        Value::Object(all) => all.iter().for_each(|(name, one)| {
            words(one, &format!("{place}/{}", name.replace('~', "~0").replace('/', "~1")), found);
        }),
        _ => {}
    }
}

/// With another word there; none where that is not one of words but of addresses or choices.
fn with(facts: &Value, place: &str, word: &dyn Fn(&str) -> String) -> Option<Facts> {
    let mut facts = facts.clone();
    let there = facts.pointer_mut(place)?;
    *there = Value::String(word(there.as_str()?));
    serde_json::from_value(facts).ok()
}

/// Everything of a command that a shell reads as more than a word.
fn skeleton(command: &str) -> String {
    command.chars().filter(|c| !c.is_ascii_alphanumeric() && !"._/@:+-,= ".contains(*c)).collect()
}

fn commands(facts: &Facts) -> Vec<(bool, String)> {
    let told = |cure: Cure| {
        let is_shell = cure.file.is_none();
        cure.run.into_iter().chain(cure.note).map(move |run| (is_shell, run))
    };
    cures(facts).into_iter().flat_map(told).collect()
}

type Change = Box<dyn Fn(&str, &str) -> String>;

/// The whole word, its beginning, its end, and its middle.
fn changes() -> [Change; 4] {
    [
        Box::new(|_, word| word.to_owned()),
        Box::new(|own, word| format!("{word}{own}")),
        Box::new(|own, word| format!("{own}{word}")),
        Box::new(|own, word| own.replacen('.', &format!(".{word}"), 1)),
    ]
}

#[test]
fn no_word_from_outside_gets_a_command_into_a_cure() {
    let mut seen = 0;
    for Situation { name, facts, .. } in all() {
        let facts = serde_json::to_value(facts).unwrap();
        let mut places = Vec::new();
        words(&facts, "", &mut places);
        for place in places {
            for change in changes() {
                let made = |word: &'static str| with(&facts, &place, &|own| change(own, word));
                let (Some(hostile), Some(harmless)) = (made(HOSTILE), made(HARMLESS)) else { continue };
                let known: BTreeSet<String> =
                    commands(&harmless).iter().map(|(_, run)| skeleton(run)).collect();
                for (_, run) in commands(&hostile) {
                    assert!(!run.contains("PWNED"), "{name}, {place}: {run}");
                    let run = run.replace("'NAME'", "NAME").replace("; NAME is not written here: a shell would read more than a name in it; look for it above, and write it in quotes", "");
                    let bare = skeleton(&run);
                    assert!(
                        known.contains(&bare) || run.starts_with("NAME is"),
                        "{name}, {place}: {run}\n{known:?}"
                    );
                    seen += usize::from(run.contains("NAME"));
                }
            }
        }
    }
    assert!(seen >= 100, "{seen}");
}
