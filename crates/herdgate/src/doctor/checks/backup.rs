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
    let folder = &backups.folder;
    let seen = match backups.age {
        Some(days) if days < OLD => return Finding::ok(CHECK, MACHINE, "there is a backup of this week"),
        Some(days) => format!("the newest backup in {folder} is {days} days old"),
        None => format!("there is no backup of the gate in {folder}"),
    };
    Finding::warn(CHECK, MACHINE, seen)
        .because("with the disk all keys are lost, and every client needs another one")
        .cured(cure(backups))
}

/// What makes units is no cure beside those that are there: it would write them without the options that they were made with.
fn cure(backups: &Backups) -> Cure {
    if backups.has_unit {
        let now = Cure::run("sudo systemctl start herdgate-backup.service");
        return now.then("sudo systemctl enable --now herdgate-backup.timer");
    }
    Cure::run(format!("sudo herdgate backup {}/gate.tar.zst", backups.folder))
        .note("one now; who keeps backups elsewhere may pass over this")
        .or(Cure::run("sudo herdgate deploy systemd --write --run").note(
            "with a timer that makes one a day: the service's units are written anew, so add the options that they were made with",
        ))
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
            let backups = Backups { age, folder: "/srv/kept".into(), has_unit: true };
            assert_eq!(one(&backups).mark, mark, "{age:?}");
        }
    }

    #[test]
    fn units_that_are_there_are_not_written_anew() {
        let told = |has_unit| one(&Backups { age: None, folder: "/srv/kept".into(), has_unit });
        let with = told(true);
        assert_eq!(with.seen, "there is no backup of the gate in /srv/kept");
        let cure = with.cure.unwrap();
        assert_eq!(cure.run[0], "sudo systemctl start herdgate-backup.service");
        assert_eq!(cure.or, []);
        assert_eq!(told(false).cure.unwrap().run, ["sudo herdgate backup /srv/kept/gate.tar.zst"]);
    }
}
