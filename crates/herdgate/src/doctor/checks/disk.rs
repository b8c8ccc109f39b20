//! Is there room for models, and for the gate's own data?

use super::MACHINE;
use crate::doctor::facts::{Disk, Facts};
use crate::doctor::finding::{Cure, Finding};

const CHECK: &str = "disk";
const GIB: u64 = 1 << 30;
/// A model of 8 billion parameters, as the registry has it, has 5 GB, and while it is pulled nothing else may take the rest.
const MODEL: u64 = 10 * GIB;
/// The gate's database grows by kilobytes a day; SQLite stops where a page does not fit.
const DATA: u64 = 64 << 20;
const FILES: u64 = 1000;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(machine) = &facts.machine else { return Vec::new() };
    let data = machine.data.as_ref().and_then(data);
    data.into_iter().chain(machine.models.as_ref().map(models)).collect()
}

fn data(disk: &Disk) -> Option<Finding> {
    let path = &disk.path;
    if disk.free >= DATA && disk.free_files.is_none_or(|files| files >= FILES) {
        return None;
    }
    let files = format!("{} files", disk.free_files.unwrap_or_default());
    let left = if disk.free < DATA { bytes(disk.free) } else { files };
    Some(
        Finding::bad(CHECK, MACHINE, format!("{left} left for the gate's data in {path}"))
            .because("keys can be neither made nor revoked")
            .cured(
                Cure::run(format!("df -h {path} && df -i {path}"))
                    .then(format!("sudo du -xah --max-depth=4 $(df --output=target {path} | tail -1) | sort -rh | head -20"))
                    .note("shows what fills that disk; often it is one of these")
                    .or(Cure::run("sudo journalctl --vacuum-size=200M"))
                    .or(Cure::run("docker system prune").note("images and containers that nobody uses"))
                    .or(Cure::run("ollama list").then("ollama rm MODEL")),
            ),
    )
}

fn models(disk: &Disk) -> Finding {
    let seen = format!("{} of {} left for models in {}", bytes(disk.free), bytes(disk.total), disk.path);
    if disk.free >= MODEL {
        return Finding::ok(CHECK, MACHINE, seen);
    }
    let cure = Cure::run("ollama list").then("ollama rm MODEL").note("the ones that nobody uses");
    let elsewhere = Cure::run("sudo herdgate deploy ollama-override --models /LARGER/DISK --write --run");
    Finding::warn(CHECK, MACHINE, seen)
        .because("a pull that does not fit fails at its end; a model of 8 billion parameters has about 5 GB")
        .cured(cure.or(elsewhere))
}

fn bytes(number: u64) -> String {
    if number < GIB { format!("{} MiB", number >> 20) } else { format!("{} GiB", number / GIB) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Mark;

    #[test]
    fn room_is_told_before_it_is_gone() {
        let disk = |free| Disk { path: "/m".into(), free, total: 500 * GIB, free_files: Some(1 << 20) };
        assert_eq!(models(&disk(200 * GIB)).mark, Mark::Ok);
        let low = models(&disk(3 * GIB));
        assert_eq!((low.mark, low.seen.as_str()), (Mark::Warn, "3 GiB of 500 GiB left for models in /m"));
        assert_eq!(data(&disk(GIB)), None);
        assert_eq!(data(&disk(5 << 20)).unwrap().seen, "5 MiB left for the gate's data in /m");
        let full = data(&Disk { free_files: Some(3), ..disk(GIB) }).unwrap();
        assert!(full.mark == Mark::Bad && full.seen.starts_with("3 files left"));
    }
}
