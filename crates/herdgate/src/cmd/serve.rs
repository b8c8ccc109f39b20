//! `herdgate serve`: settings in force, then the server until a signal ends it.

use crate::cli::EXIT_FAILURE;
use crate::cmd::settings;
use crate::{logging, server};
use gate_config::Flags;
use std::io::Write;

/// Runs the gate until it is told to end.
pub(crate) fn run(flags: &Flags, is_handed_over: bool, talk: &mut dyn Write) -> u8 {
    let handed = match is_handed_over.then(server::Handed::receive).transpose() {
        Ok(handed) => handed,
        Err(error) => {
            // A closed standard error leaves the exit code to tell it.
            let _closed = writeln!(talk, "error: {error:#}");
            return EXIT_FAILURE;
        }
    };
    // Before it is read: what is written in between is seen as a change.
    let file = server::Stamp::of(flags);
    // A gate that runs wants to know why this one does not begin.
    let old = handed.as_ref().map(server::Handed::old_gate);
    let (loaded, places) = match settings::load(flags) {
        Ok(loaded) => loaded,
        Err(problems) => {
            if let Some(old) = &old {
                let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
                old.failed(&words.join("; "));
            }
            return settings::tell(&problems, talk);
        }
    };
    logging::start(loaded.config.log);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let given = server::Given { loaded, flags: flags.clone(), file, handed };
    let outcome = server::run(given, &places.data, talk);
    logging::finish();
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            if let Some(old) = &old {
                old.failed(&format!("{error:#}").replace('\n', "; "));
            }
            // The first line says what failed, the causes why; a hint is the last of them.
            let _closed = writeln!(talk, "error: {error:#}");
            EXIT_FAILURE
        }
    }
}
