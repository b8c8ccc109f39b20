//! `herdgate foster`, which no person calls: the parent of a fresh start of the gate until that is on its own.
//!
//! A service manager ends with patience only what it knows as its own child, and looks once, when it is told of a new main
//! process. Were the old gate its parent, the fresh one would be killed outright at the next stop, and with it every stream. So
//! this process starts it, and ends before the manager is told. Until then it tells the old gate how the fresh one ended.
//!
//! Its standard input is a socket. The old gate says `start`, with what is to be the fresh one's standard input, and gets
//! `process` or `cannot`. Then it says `alone` or `end`, or is gone, which the fresh one sees for itself; or this one says `ended`.

use super::{receive, send};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::json;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::process::{Command, Stdio};

/// Starts the program and waits for its end or for a word.
pub(crate) fn run(command: &[OsString], talk: &mut dyn Write) -> u8 {
    match foster(io::stdin().as_fd(), command) {
        Ok(()) => 0,
        Err(error) => {
            // A closed standard error leaves the exit code to tell it.
            let _closed = writeln!(talk, "ERROR nobody was there to start a gate for: {error}");
            crate::cli::EXIT_FAILURE
        }
    }
}

fn foster(old: BorrowedFd<'_>, command: &[OsString]) -> io::Result<()> {
    let Some((_start, fds)) = receive(old)? else { return Ok(()) };
    let (Some((program, args)), Some(input)) = (command.split_first(), fds.into_iter().next()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut child = match Command::new(program).args(args).stdin(Stdio::from(input)).spawn() {
        Ok(child) => child,
        Err(error) => return Ok(send(old, &json!({"cannot": error.to_string()}), &[])?),
    };
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    if send(old, &json!({"process": child.id()}), &[]).is_err() {
        // Nobody has anything for it any more.
        return child.kill();
    }
    loop {
        let mut wanted = [&old, &handle.as_fd()].map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN));
        match poll(&mut wanted, None) {
            Err(Errno::INTR) => continue,
            polled => polled?,
        };
        let [word, end] = wanted.map(|fd| !fd.revents().is_empty());
        if end {
            let status = child.wait()?.to_string();
            return Ok(send(old, &json!({"ended": status}), &[])?);
        }
        if word {
            // An old gate that did not hear all is seen to be gone first, and its last word comes after that.
            let heard = match receive(old)? {
                None => receive(old)?,
                heard => heard,
            };
            match heard {
                Some((said, _)) if said.get("end").is_some() => child.kill()?,
                _ => return Ok(()),
            }
        }
    }
}
