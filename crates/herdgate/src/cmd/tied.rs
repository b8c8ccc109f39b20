//! `herdgate tied`, which no person calls: guards another program for the gate, and ends it with the gate, however that ends.
//!
//! The guard is the program's parent, because the gate that started it may hand it over to the next gate and end. It holds
//! one end of a socket: as long as any gate holds the other, the program runs; a word or the end of all gates ends it, and
//! how it ended is the last that the guard says. A guard that is killed takes the program with it: the system is asked for
//! that in the child itself, between fork and exec. There only unsafe code could run; a program of its own that turns into
//! the other one needs none, so that is what `--to` is.

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, getppid, kill_process_group, pidfd_open, pidfd_send_signal,
    set_parent_process_death_signal,
};
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// As a shell ends where a program cannot be run.
const EXIT_CANNOT_RUN: u8 = 126;
/// How long the program may take to end after it was asked to.
pub(crate) const END_TIME: Duration = Duration::from_secs(5);

/// Arguments of `herdgate tied`.
#[derive(Debug, Args)]
pub(crate) struct TiedArgs {
    /// Become the program, and do not outlive this process
    #[arg(long)]
    to: Option<i32>,
    /// The program, with its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// A command that guards `program`. Its standard input must be a socket.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = own();
    command.args(["tied", "--"]).arg(program);
    command
}

/// Still this very program where another was installed in its place.
pub(crate) fn own() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("herdgate");
    command
}

/// Guards the program to its end, or becomes it.
pub(crate) fn run(args: &TiedArgs, talk: &mut dyn Write) -> u8 {
    let Some((program, rest)) = args.command.split_first() else { return EXIT_CANNOT_RUN };
    let failed = match args.to {
        Some(parent) => become_it(parent, program, rest, talk),
        None => match guard(&args.command) {
            Ok(()) => return 0,
            Err(error) => Some(error),
        },
    };
    if let Some(error) = failed {
        // A closed standard error leaves the exit code to tell it.
        let _closed = writeln!(talk, "ERROR cannot start {}: {error}", program.to_string_lossy());
    }
    EXIT_CANNOT_RUN
}

/// Comes back only where that failed.
fn become_it(parent: i32, program: &OsString, rest: &[OsString], talk: &mut dyn Write) -> Option<io::Error> {
    // Ollama ends its runners when it is asked to end.
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        let _closed = writeln!(talk, "WARN it may outlive a gate that is killed: {error}");
    }
    // The parent may have died before it was asked for.
    if getppid() != Pid::from_raw(parent) {
        return None;
    }
    Some(Command::new(program).args(rest).exec())
}

fn guard(command: &[OsString]) -> io::Result<()> {
    let gate: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    let mut gate = UnixStream::from(gate);
    let mut child = own();
    child.args(["tied", "--to", &std::process::id().to_string(), "--"]).args(command);
    // A group of its own, with its children: they can be ended together. An open input, which tells who asks that the gate
    // is there.
    let mut child = child.stdin(Stdio::piped()).process_group(0).spawn()?;
    let watched = pid(&child).and_then(|pid| Ok((pid, pidfd_open(pid, PidfdFlags::empty())?)));
    let (pid, handle) = watched.inspect_err(|_| drop(child.kill()))?;
    loop {
        let mut wanted = [of(gate.as_fd()), of(handle.as_fd())];
        match poll(&mut wanted, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        // Whatever comes, and that no gate is left, is the word to end.
        if !wanted[1].revents().is_empty() {
            break;
        }
        if !wanted[0].revents().is_empty() {
            end(pid, &handle);
            break;
        }
    }
    let status = child.wait()?;
    // Nobody may be left to hear it.
    let _heard = write!(gate, "{status}");
    Ok(())
}

fn pid(child: &Child) -> io::Result<Pid> {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    id.ok_or_else(|| io::Error::other("it has no process number"))
}

fn of(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::from_borrowed_fd(fd, PollFlags::IN)
}

/// Asks the program to end (Ollama ends its own children then), and kills it and its children when it does not. It was not
/// waited for yet, so that its number is nobody else's.
fn end(pid: Pid, handle: &OwnedFd) {
    // Gone already is as good.
    let _gone = pidfd_send_signal(handle, Signal::TERM);
    let limit = Timespec { tv_sec: END_TIME.as_secs().cast_signed(), tv_nsec: 0 };
    let ended = poll(&mut [of(handle.as_fd())], Some(&limit)).is_ok_and(|ended| ended > 0);
    if !ended {
        let _gone = kill_process_group(pid, Signal::KILL);
    }
}
