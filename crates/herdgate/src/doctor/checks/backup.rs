//! Are the keys and settings of the gate's service kept somewhere else, and lately?

use super::MACHINE;
use crate::doctor::facts::{Backups, Facts};
use crate::doctor::finding::{Cure, Finding};

const CHECK: &str = "backup";
/// The timer makes one a day; a machine that is off over a weekend is no failure.
const OLD: u64 = 8;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let backups = facts.machine.as_ref().and_then(|machine| machine.backups.as_ref());
    backups.map(one).into_iter().collect()
}

fn one(backups: &Backups) -> Finding {
    let seen = match backups.age {
        Some(days) if days < OLD => return Finding::ok(CHECK, MACHINE, "there is a backup of this week"),
        Some(days) => format!("the newest backup is {days} days old"),
        None => "there is no backup of the gate in /var/lib/herdgate-backups".to_owned(),
    };
    let now = Cure::run("sudo herdgate backup /var/lib/herdgate-backups/gate.tar.zst");
    Finding::warn(CHECK, MACHINE, seen)
        .because("with the disk all keys are lost, and every client needs another one")
        .cured(
            Cure::run("sudo herdgate deploy systemd --write --run")
                .note("its timer makes one a day; who keeps them elsewhere may pass over this")
                .or(now.note("one now")),
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Mark;

    #[test]
    fn a_service_has_a_backup_of_this_week() {
        for (age, mark) in
            [(None, Mark::Warn), (Some(0), Mark::Ok), (Some(7), Mark::Ok), (Some(30), Mark::Warn)]
        {
            assert_eq!(one(&Backups { age }).mark, mark, "{age:?}");
        }
    }
}
