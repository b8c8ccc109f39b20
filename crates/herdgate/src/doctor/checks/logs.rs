//! Does something cut the files that the gate's and Ollama's output goes to?

use super::MACHINE;
use crate::doctor::facts::{Facts, LogFile};
use crate::doctor::finding::{Cure, Finding};

const CHECK: &str = "logs";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(machine) = &facts.machine else { return Vec::new() };
    machine.logs.iter().filter(|log| !log.is_rotated).map(one).collect()
}

fn one(log: &LogFile) -> Finding {
    let LogFile { program, path, bytes, .. } = log;
    let seen = format!("the output of {program} goes into {path} ({} MiB), which nothing cuts", bytes >> 20);
    let finding = Finding::warn(CHECK, MACHINE, seen);
    if log.is_foreign {
        return finding.because(
            "it grows until the disk is full; others than root choose what lies there, so that no command of root's should name it: start the program as a service, whose output the journal keeps",
        );
    }
    let rule =
        format!("{path} {{\\n  size 100M\\n  rotate 4\\n  compress\\n  copytruncate\\n  missingok\\n}}\\n");
    finding
        .because("it grows until the disk is full")
        .cured(Cure::run(format!("printf '{rule}' | sudo tee /etc/logrotate.d/{program}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::testing::likes;
    use crate::doctor::facts::Machine;
    use crate::doctor::finding::Mark;
    use std::fs;
    use std::process::Command;

    #[test]
    fn what_nothing_cuts_is_told_with_a_rule_that_does() {
        let log = |is_rotated| LogFile {
            program: "ollama".into(),
            path: "/var/log/ollama.log".into(),
            bytes: 700 << 20,
            is_rotated,
            is_foreign: false,
        };
        let machine = Machine { logs: vec![log(true), log(false)], ..Machine::default() };
        let told = judge(&Facts { machine: Some(machine), ..Facts::default() });
        let [found] = told.as_slice() else { panic!("{told:?}") };
        let seen = "the output of ollama goes into /var/log/ollama.log (700 MiB), which nothing cuts";
        assert_eq!((found.mark, found.seen.as_str()), (Mark::Warn, seen));
        let cure = &found.cure.as_ref().unwrap().run[0];
        assert!(cure.starts_with("printf '/var/log/ollama.log {"), "{cure}");
        // The rule is one that logrotate reads.
        let rule = cure.strip_suffix(" | sudo tee /etc/logrotate.d/ollama").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (log, file) = (folder.path().join("log"), folder.path().join("rule"));
        let written = Command::new("sh").args(["-c", rule]).output().unwrap().stdout;
        let text = String::from_utf8(written).unwrap().replace("/var/log/ollama.log", log.to_str().unwrap());
        fs::write(&log, "a line\n").unwrap();
        fs::write(&file, text).unwrap();
        let state = folder.path().join("state");
        likes("logrotate", &["--state", state.to_str().unwrap(), "--force", file.to_str().unwrap()]);
        if state.exists() {
            assert_eq!(fs::read(&log).unwrap(), b"", "it was cut");
            assert!(folder.path().join("log.1.gz").exists(), "and kept");
        }
    }
}
