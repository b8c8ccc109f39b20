//! How much memory is left: the machine's `MemAvailable`, or less where a control group sets a limit.

use std::path::Path;

/// Bytes that can be had now; `None` where the system does not say.
pub(crate) fn available() -> Option<u64> {
    let machine = meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?);
    match (machine, group(Path::new("/sys/fs/cgroup"))) {
        (Some(machine), Some(group)) => Some(machine.min(group)),
        (machine, group) => machine.or(group),
    }
}

/// A size for people: `3.1 GiB`, `812 MiB`.
pub(crate) fn human(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    if bytes >= 1 << 30 {
        format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
    } else {
        format!("{} MiB", bytes.div_ceil(MIB))
    }
}

fn meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn group(root: &Path) -> Option<u64> {
    let number = |file: &str| std::fs::read_to_string(root.join(file)).ok()?.trim().parse::<u64>().ok();
    let limit = number("memory.max")?;
    let used = number("memory.current")?;
    let statistics = std::fs::read_to_string(root.join("memory.stat")).unwrap_or_default();
    let cache = statistics.lines().find_map(|line| line.strip_prefix("inactive_file "));
    let cache = cache.and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(cache)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tighter_limit_counts() {
        assert_eq!(meminfo("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(meminfo("nothing"), None);
        let root = tempfile::tempdir().unwrap();
        assert_eq!(group(root.path()), None);
        std::fs::write(root.path().join("memory.max"), "1000\n").unwrap();
        std::fs::write(root.path().join("memory.current"), "900\n").unwrap();
        std::fs::write(root.path().join("memory.stat"), "anon 1\ninactive_file 300\n").unwrap();
        assert_eq!(group(root.path()), Some(400));
        std::fs::write(root.path().join("memory.max"), "max\n").unwrap();
        assert_eq!(group(root.path()), None);
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(human(1), "1 MiB");
        assert_eq!(human(3 << 30), "3.0 GiB");
    }
}
