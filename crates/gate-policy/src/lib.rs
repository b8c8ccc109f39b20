//! The mind of herdgate: which upstream serves a call, and who waits for one.
//!
//! Floor 2, pure: no IO, no clock, no randomness of its own; time and chance are arguments, so that any case replays
//! from a seed. It decides and never acts: the path and the prober do.

mod arrived;
mod budget;
mod chance;
mod choose;
mod eject;
mod fleet;
mod holes;
mod queue;
mod upstream;
mod version;

pub use budget::{FREE_PER_SECOND, MOST_SAVED, REQUESTS_PER_RETRY, RetryBudget};
pub use chance::Chance;
pub use choose::{Ask, Decision, Why, choose};
pub use eject::{FAILURES_UNTIL_EJECTED, FIRST_EJECTION, Failures, LONGEST_EJECTION, Verdict};
pub use fleet::{Begun, Fleet, Observation, PROBES_UNTIL_DOWN};
pub use holes::{Hole, holes, mended_by};
pub use queue::{Entered, Grant, Queue, QueueLimits, Standing, Ticket};
pub use upstream::{Health, Terms, Upstream};
