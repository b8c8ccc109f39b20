//! Is the data directory the gate's alone, and all of it the gate's?

use super::MACHINE;
use crate::doctor::facts::{Facts, Machine, Rights};
use crate::doctor::finding::{Cure, Finding};

const CHECK: &str = "rights";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(machine) = &facts.machine else { return Vec::new() };
    machine.rights.as_ref().map(|rights| one(machine, rights)).into_iter().collect()
}

fn one(machine: &Machine, rights: &Rights) -> Finding {
    let Rights { path, mode, owner, foreign } = rights;
    if *owner != machine.uid && !machine.is_root {
        return Finding::warn(
            CHECK,
            MACHINE,
            format!("{path} is user {owner}'s, and this is user {}", machine.uid),
        )
        .because("what lies there cannot be looked at, and no key can be made")
        .cured(Cure::run("sudo herdgate doctor").note("or as the gate's own user"));
    }
    if let Some(file) = foreign.first() {
        return Finding::bad(CHECK, MACHINE, format!("{path}/{file} is somebody else's than {path}"))
            .because("a gate that runs as the directory's owner cannot write it: a command was run as root")
            .cured(Cure::run(format!("sudo chown -R --reference={path} {path}")));
    }
    if mode & 0o077 != 0 {
        let seen = format!("{path} has mode {mode:04o}: others than its owner can look into it");
        return Finding::warn(CHECK, MACHINE, seen)
            .because("whoever reads keys' digests and the first key, or puts files there, is past the gate")
            .cured(Cure::run(format!("chmod 0700 {path}")));
    }
    Finding::ok(CHECK, MACHINE, format!("{path} is its owner's alone"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Mark;

    #[test]
    fn the_data_directory_is_the_gates_alone() {
        let root = Machine { is_root: true, ..Machine::default() };
        let rights = |mode, owner| Rights { path: "/d".into(), mode, owner, ..Rights::default() };
        assert_eq!(one(&root, &rights(0o700, 990)).mark, Mark::Ok);
        let open = one(&root, &rights(0o755, 990));
        assert_eq!((open.mark, open.cure.unwrap().run), (Mark::Warn, vec!["chmod 0700 /d".to_owned()]));
        let foreign = one(&root, &Rights { foreign: vec!["herdgate.db-wal".into()], ..rights(0o700, 990) });
        assert!(foreign.mark == Mark::Bad && foreign.seen.contains("herdgate.db-wal"));
        let other = Machine { uid: 1000, ..Machine::default() };
        assert_eq!(one(&other, &rights(0o700, 990)).mark, Mark::Warn);
    }
}
