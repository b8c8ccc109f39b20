//! `herdgate doctor`: facts are gathered, then judged. Stands beside the server and shares nothing with its data plane.
//!
//! `facts` asks, waits and reads, each step with its own limit; `checks` are pure judgements over what it found, in the order in
//! which a person would look; `report` tells them. It never changes anything: cures are told, and run by whoever reads them.

mod checks;
mod facts;
mod finding;
mod foreign;
mod report;

pub(crate) use checks::judge;
pub(crate) use facts::{Facts, Look};
pub(crate) use finding::{Finding, Mark};
pub(crate) use report::{Style, json, lines, value};

use anyhow::Context as _;
use std::time::Duration;

/// Gathers the facts, within a minute.
///
/// # Errors
/// Where a container cannot be looked from, or there is not even a runtime.
pub(crate) fn gather(look: &Look) -> anyhow::Result<Facts> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start")?;
    let facts = runtime.block_on(Box::pin(facts::gather(look)))?;
    // A name that is still being looked up has a thread of its own, which nobody waits for.
    runtime.shutdown_timeout(Duration::ZERO);
    Ok(facts)
}
