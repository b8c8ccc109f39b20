//! `herdgate tied`, which no person calls: becomes another program that the system ends when the gate dies, however it dies.
//!
//! What asks the system for that must run in the child itself, between fork and exec. There only unsafe code could run; a
//! program of its own that turns into the other one needs none.

use clap::Args;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// As a shell ends where a program cannot be run.
const EXIT_CANNOT_RUN: u8 = 126;

/// Arguments of `herdgate tied`.
#[derive(Debug, Args)]
pub(crate) struct TiedArgs {
    /// The process that it shall not outlive
    parent: i32,
    /// What to become, with its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// A command that runs `program` and does not outlive the thread that starts it.
pub(crate) fn command(program: &Path) -> Command {
    // Still this very program where another was installed in its place.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("herdgate").args(["tied", &std::process::id().to_string(), "--"]).arg(program);
    command
}

/// Becomes the program. Comes back only where that failed.
pub(crate) fn run(args: &TiedArgs, talk: &mut dyn Write) -> u8 {
    // Ollama ends its runners when it is asked to end.
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        // A closed standard error leaves the exit code to tell it.
        let _closed = writeln!(talk, "WARN it may outlive a gate that is killed: {error}");
    }
    // The parent may have died before it was asked for.
    if getppid() != Pid::from_raw(args.parent) {
        return EXIT_CANNOT_RUN;
    }
    let Some((program, rest)) = args.command.split_first() else { return EXIT_CANNOT_RUN };
    let error = Command::new(program).args(rest).exec();
    let _closed = writeln!(talk, "ERROR cannot start {}: {error}", program.to_string_lossy());
    EXIT_CANNOT_RUN
}
