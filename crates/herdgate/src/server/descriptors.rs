//! File descriptors: as many as the system grants, and some kept back, so that clients can never use up those that the
//! upstreams, the store and the log need.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept back for listeners, store, log, event loops and the local server's pipes.
const KEPT_BACK: u64 = 64;
/// Kept back for upstream connections beyond the slots: listings, uploads, probes.
const BEYOND_SLOTS: u64 = 256;

/// As many connections as a company uses; to have fewer deserves a warning, also where nobody asked for more.
const ENOUGH: usize = 1000;

/// How many client connections there may be: `wanted`, or fewer where descriptors are short. Raises the process's soft
/// limit to the hard one first. `slots` are the requests that all upstreams together may have.
pub(super) fn connections(wanted: usize, slots: usize) -> usize {
    let granted = raise().unwrap_or(u64::MAX);
    let possible = possible(granted, slots);
    let told = format!(
        "{granted} open files are allowed: at most {possible} client connections at a time, not {wanted} as \
         limits.connections says; raise the limit (ulimit -n, LimitNOFILE=) to have more"
    );
    if possible < wanted.min(ENOUGH) {
        tracing::warn!("{told}");
    } else if possible < wanted {
        tracing::debug!("{told}");
    }
    wanted.min(possible)
}

/// A slot needs a descriptor while it is in use, and its connection one more while it waits for the next; but no client needs
/// more than one beside its own.
fn possible(granted: u64, slots: usize) -> usize {
    let upstreams = (slots as u64).saturating_mul(2).saturating_add(BEYOND_SLOTS);
    let rest = granted.saturating_sub(KEPT_BACK);
    usize::try_from((rest / 2).max(rest.saturating_sub(upstreams))).unwrap_or(usize::MAX).max(1)
}

/// The limit of open files after raising it; none where there is no limit.
fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
        return maximum;
    }
    current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_have_theirs_and_clients_the_rest() {
        assert_eq!(possible(1024, 64), 576);
        assert_eq!(possible(20_000, 64), 19_552);
        assert_eq!(possible(20_000, 100_000), 9_968, "never more than one for each client");
        assert_eq!(possible(10, 64), 1);
        assert!(possible(u64::MAX, usize::MAX) > 1 << 60);
    }
}
