//! `herdgate serve`: settings in force, then the server until a signal ends it.

use crate::cli::EXIT_FAILURE;
use crate::cmd::settings;
use crate::{logging, server};
use gate_config::Flags;
use std::io::Write;

/// Runs the gate until it is told to end.
pub(crate) fn run(flags: &Flags, talk: &mut dyn Write) -> u8 {
    // Before it is read: what is written in between is seen as a change.
    let file = server::Stamp::of(flags);
    let (loaded, places) = match settings::load(flags) {
        Ok(loaded) => loaded,
        Err(problems) => return settings::tell(&problems, talk),
    };
    logging::start(loaded.config.log);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let given = server::Given { loaded, flags: flags.clone(), file };
    let outcome = server::run(given, &places.data, talk);
    logging::finish();
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            // The first line says what failed, the causes why; a hint is the last of them.
            let _closed = writeln!(talk, "error: {error:#}");
            EXIT_FAILURE
        }
    }
}
