//! Does the clock of this machine follow others?

use super::MACHINE;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Cure, Finding};

const CHECK: &str = "ntp";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let follows = facts.machine.as_ref().and_then(|machine| machine.is_synchronised);
    follows.map(one).into_iter().collect()
}

fn one(follows: bool) -> Finding {
    if follows {
        return Finding::ok(CHECK, MACHINE, "the clock follows others");
    }
    Finding::warn(CHECK, MACHINE, "the clock follows nobody")
        .because("a clock that is off makes certificates invalid, and lets keys end too early or too late")
        .cured(Cure::run("sudo timedatectl set-ntp true"))
}
