//! Are there keys that nobody uses, or that work for ever?

use super::MACHINE;
use crate::doctor::facts::{Facts, KeyFacts, Machine};
use crate::doctor::finding::{Cure, Finding};

const CHECK: &str = "keys";
/// Days after which a key that nobody has used, or uses any more, is worth a look.
const UNUSED: i64 = 30;
const LEFT: i64 = 180;
/// Days that a key may live that does not end by itself: those of the cure.
const LIFE: i64 = 90;
/// Names in a line.
const SHOWN: usize = 5;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    facts.machine.as_ref().map(all).unwrap_or_default()
}

fn all(machine: &Machine) -> Vec<Finding> {
    let keys = &machine.keys;
    let picked = |is: &dyn Fn(&KeyFacts) -> bool| -> Vec<&str> {
        keys.iter().filter(|key| is(key)).map(|key| key.name.as_str()).collect()
    };
    let unused = picked(&|key| !key.was_used && key.age >= UNUSED);
    let left = picked(&|key| key.was_used && key.idle >= LEFT);
    let for_ever = picked(&|key| !key.expires && key.age >= LIFE && !unused.contains(&key.name.as_str()));
    let needless = "a key that nobody needs can only be misused";
    let copied = "a secret that was copied somewhere works until somebody notices";
    let mut findings = Vec::new();
    for (names, what, why, act) in [
        (&unused, format!("never used in {UNUSED} days and more"), needless, "revoke"),
        (&left, format!("not used for {LEFT} days and more"), needless, "revoke"),
        (&for_ever, "never end".to_owned(), copied, "set"),
    ] {
        let Some(first) = names.first() else { continue };
        let expires = if act == "set" { " --expires 90d" } else { "" };
        findings.push(
            Finding::warn(CHECK, MACHINE, format!("{what}: {}", shown(names)))
                .because(why)
                .cured(Cure::run(format!("herdgate key {act} {first}{expires}"))),
        );
    }
    if findings.is_empty() && !keys.is_empty() {
        let young = picked(&|key| !key.expires).len();
        let seen = match young {
            0 => format!("{} in use, all of which end", keys.len()),
            _ => format!("{} in use; {young} of them, made within {LIFE} days, have no end", keys.len()),
        };
        findings.push(Finding::ok(CHECK, MACHINE, seen));
    }
    findings
}

fn shown(names: &[&str]) -> String {
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, expires: bool, was_used: bool, age: i64, idle: i64) -> KeyFacts {
        KeyFacts { name: name.into(), expires, was_used, age, idle }
    }

    fn told(keys: Vec<KeyFacts>) -> Vec<String> {
        let machine = Machine { keys, ..Machine::default() };
        all(&machine).into_iter().map(|found| found.seen).collect()
    }

    #[test]
    fn keys_are_told_that_nobody_needs_or_that_never_end() {
        assert!(told(Vec::new()).is_empty());
        assert_eq!(told(vec![key("app", true, true, 400, 2)]), ["1 in use, all of which end"]);
        let fresh = vec![key("app", true, true, 400, 2), key("first", false, true, 3, 2)];
        assert_eq!(told(fresh), ["2 in use; 1 of them, made within 90 days, have no end"]);
        let keys = vec![
            key("old", false, false, 40, 40),
            key("app", false, true, 400, 2),
            key("new", true, false, 3, 3),
            key("left", true, true, 400, 200),
        ];
        let expected =
            ["never used in 30 days and more: old", "not used for 180 days and more: left", "never end: app"];
        assert_eq!(told(keys), expected);
    }
}
