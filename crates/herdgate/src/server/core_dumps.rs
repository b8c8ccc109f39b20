//! No core dumps: memory holds prompts, and with `AUTH_TOKEN` a key. Two locks, because a dump that is piped to a program
//! passes by the first. The second also keeps other processes of the same user from reading memory and environment.

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Turns them off for this process; programs that it starts inherit the limit.
pub(super) fn turn_off() {
    let tell = |what: &str, done: Result<(), Errno>| {
        if let Err(error) = done {
            tracing::warn!("core dumps cannot be turned off ({what}): {error}");
        }
    };
    tell("RLIMIT_CORE", setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }));
    tell("PR_SET_DUMPABLE", set_dumpable_behavior(DumpableBehavior::NotDumpable));
}
