//! What the themes share: a home for one gate, running programs, a client that sees the bytes, and the three kinds of
//! upstream. Everything here ends what it started, also when a test fails.

pub(crate) mod browser;
pub(crate) mod front;
pub(crate) mod home;
pub(crate) mod http;
pub(crate) mod load;
pub(crate) mod network;
pub(crate) mod pebble;
pub(crate) mod peer;
pub(crate) mod running;

pub(crate) use front::Nginx;
pub(crate) use home::{Gate, Home};
pub(crate) use http::{Answer, Ask};
pub(crate) use network::Networks;
pub(crate) use peer::{Demo, Peer};
pub(crate) use running::Running;

use std::io::Write as _;
use std::time::{Duration, Instant};

/// How long anything may take that a test waits for: far longer than it does on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something that cannot be waited on.
const LOOK: Duration = Duration::from_millis(10);

/// Looks until there is something, within `limit`.
#[track_caller]
pub(crate) fn within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(LOOK);
    }
}

/// As [`within`], as patient as can be.
#[track_caller]
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look)
}

/// Whether what is missing must fail the test instead of leaving it out.
pub(crate) fn is_required() -> bool {
    std::env::var_os("HERDGATE_TEST_REQUIRE").is_some_and(|value| value == "1")
}

/// Leaves a test out, saying why, or fails it where nothing may be left out.
#[track_caller]
pub(crate) fn leave_out(why: &str) {
    assert!(!is_required(), "cannot run, and HERDGATE_TEST_REQUIRE=1: {why}");
    mention(why);
}

/// Says what is left out where it is seen, also when the test passes: the macros' output is kept back then.
pub(crate) fn mention(why: &str) {
    let _closed = writeln!(std::io::stderr(), "LEFT OUT: {why}");
}

/// Runs what the test kit does asynchronously.
pub(crate) fn now<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// An Ollama of the test kit with this setup.
pub(crate) fn testkit(setup: gate_testkit::Setup) -> gate_testkit::Ollama {
    now(gate_testkit::Ollama::with(setup)).unwrap()
}
