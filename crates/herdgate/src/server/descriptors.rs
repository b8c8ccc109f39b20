//! File descriptors: as many as the system grants, and some kept back, so that clients can never use up those that the
//! upstreams, the store and the log need.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept back for listeners, store, log, event loops and the local server's pipes.
const KEPT_BACK: u64 = 64;

/// As many connections as a company uses; to have fewer deserves a warning, also where nobody asked for more.
const ENOUGH: usize = 1000;

/// How many client connections there may be: `wanted`, or fewer where descriptors are short. Raises the process's soft
/// limit to the hard one first. Each client may need a second descriptor, for its upstream.
pub(super) fn connections(wanted: usize) -> usize {
    let granted = raise().unwrap_or(u64::MAX);
    let possible = usize::try_from(granted.saturating_sub(KEPT_BACK) / 2).unwrap_or(usize::MAX).max(1);
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

/// The limit of open files after raising it; none where there is no limit.
fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
        return maximum;
    }
    current
}
