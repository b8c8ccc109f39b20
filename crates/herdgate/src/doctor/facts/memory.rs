//! How much memory the Ollama of this machine has for models. Nothing is known of one that is elsewhere, nor behind a forwarder.

use super::machine::{Answer, Program, fronts, gpu, sockets};
use serde::{Deserialize, Serialize};
use std::fs;

/// In bytes.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Memory {
    /// Of the machine, what its disks lend it included; less where its container may have less.
    pub(in crate::doctor) ram: u64,
    /// Of its graphics cards.
    pub(in crate::doctor) cards: u64,
    /// Whether there is any card, computing or not.
    pub(in crate::doctor) has_card: bool,
}

impl Memory {
    pub(in crate::doctor) fn all(&self) -> u64 {
        self.ram.saturating_add(self.cards)
    }
}

/// Of whoever listens at that port of this machine.
pub(super) async fn look(port: u16) -> Option<Memory> {
    let (sockets, _) = sockets::look();
    let owner =
        sockets.into_iter().find(|socket| socket.address.port() == port).and_then(|socket| socket.owner);
    if owner.as_ref().is_some_and(forwards) {
        return None;
    }
    let ram = of_machine(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let limit = owner.and_then(|owner| limit(owner.pid)).unwrap_or(u64::MAX);
    let cards = match gpu::cards_alone().await {
        Some(Answer::Cards(cards)) => cards.iter().map(|card| card.mib << 20).sum(),
        Some(Answer::Failed(_)) | None => 0,
    };
    Some(Memory { ram: ram.min(limit), cards, has_card: cards > 0 || gpu::is_seen() })
}

/// What listens in the place of a server that may be anywhere.
fn forwards(owner: &Program) -> bool {
    fronts::programs().any(|name| owner.is(name)) || owner.is("herdgate")
}

/// `MemTotal` and `SwapTotal` (proc(5)): Ollama counts on both.
fn of_machine(meminfo: &str) -> Option<u64> {
    let kib = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some((kib("MemTotal")? + kib("SwapTotal").unwrap_or_default()) << 10)
}

/// `memory.max` of its control group (cgroups(7)); none where nothing is limited.
fn limit(pid: u32) -> Option<u64> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.max")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_the_kernel_counts() {
        let text = "MemTotal:       16384000 kB\nMemFree:          100 kB\nSwapTotal:       1024 kB\n";
        assert_eq!(of_machine(text), Some((16_384_000 + 1024) << 10));
        assert_eq!(of_machine("x"), None);
        assert!(forwards(&Program { name: "ssh".into(), ..Program::default() }));
        assert!(!forwards(&Program { name: "ollama".into(), ..Program::default() }));
    }
}
