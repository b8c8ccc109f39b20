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
    let rule =
        format!("{path} {{\\n  size 100M\\n  rotate 4\\n  compress\\n  copytruncate\\n  missingok\\n}}\\n");
    Finding::warn(CHECK, MACHINE, seen)
        .because("it grows until the disk is full")
        .cured(Cure::run(format!("printf '{rule}' | sudo tee /etc/logrotate.d/{program}")))
}
