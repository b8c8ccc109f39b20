//! A started program as the gate sees it: a socket to its guard (`cmd/tied.rs`) and what it writes. All of that can be handed
//! over to the next gate, which then sees the same.

use super::output;
use crate::cmd::tied::END_TIME;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Bytes of the guard's last words.
const LAST_WORDS: usize = 256;
/// How long the last lines may take; a grandchild that keeps the pipe open must not hold us.
const LAST_LINES: Duration = Duration::from_millis(200);
/// What the guard may take longer than the program.
const GUARD_TIME: Duration = Duration::from_secs(2);

/// The way to a guard, and what its program writes on standard output and error.
#[derive(Debug)]
pub(crate) struct Strings {
    guard: OwnedFd,
    logs: [OwnedFd; 2],
}

impl Strings {
    /// Starts `command`, which must be one of `tied::command`.
    ///
    /// # Errors
    /// Where the system starts nothing.
    pub(super) fn start(command: Command) -> io::Result<Self> {
        let (ours, guards) = StdStream::pair()?;
        let mut command = tokio::process::Command::from(command);
        command.stdin(OwnedFd::from(guards)).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Not the gate's: a Ctrl-C in its terminal is for the gate alone. How the program ended the guard says itself; the
        // runtime waits for guards that nobody else waits for.
        let mut child = command.process_group(0).spawn()?;
        let piped = || io::Error::other("it has no pipes");
        let logs = [
            child.stdout.take().ok_or_else(piped)?.into_owned_fd()?,
            child.stderr.take().ok_or_else(piped)?.into_owned_fd()?,
        ];
        Ok(Self { guard: ours.into(), logs })
    }

    /// What another gate handed over.
    pub(crate) fn handed_over(fds: Vec<OwnedFd>) -> Option<Self> {
        let [guard, out, err] = <[OwnedFd; 3]>::try_from(fds).ok()?;
        Some(Self { guard, logs: [out, err] })
    }

    /// The same once more, for another gate.
    pub(crate) fn copies(&self) -> io::Result<Vec<OwnedFd>> {
        let all = [&self.guard, &self.logs[0], &self.logs[1]];
        all.into_iter().map(|fd| fd.as_fd().try_clone_to_owned()).collect()
    }

    /// Listens to what the program writes and how it ends, for as long as this is held.
    pub(super) fn listen(&self, name: &'static str) -> io::Result<Listening> {
        let socket = StdStream::from(self.guard.try_clone()?);
        socket.set_nonblocking(true)?;
        let guard = UnixStream::from_std(socket)?;
        let (hush, hushed) = watch::channel(false);
        let mut logs = JoinSet::new();
        for log in &self.logs {
            let pipe = pipe::Receiver::from_owned_fd(log.try_clone()?)?;
            logs.spawn_local(output::pass_on(name, pipe, hushed.clone()));
        }
        Ok(Listening { guard, logs, hush })
    }
}

/// The ear on a program.
pub(super) struct Listening {
    guard: UnixStream,
    logs: JoinSet<()>,
    hush: watch::Sender<bool>,
}

impl Listening {
    /// How the program ended, in words, once it has.
    pub(super) async fn ended(&mut self) -> String {
        let mut said = Vec::new();
        loop {
            let mut part = [0; LAST_WORDS];
            match self.guard.read(&mut part).await {
                Ok(0) | Err(_) => break,
                Ok(read) if said.len() < LAST_WORDS => said.extend_from_slice(&part[..read]),
                Ok(_) => {}
            }
        }
        match String::from_utf8_lossy(&said).trim() {
            "" => "it was killed with its guard".to_owned(),
            said => said.to_owned(),
        }
    }

    /// Has it ended, and waits for that.
    pub(super) async fn end(&mut self, name: &str) {
        // Gone already is as good.
        let _gone = self.guard.try_write(b"end");
        if timeout(END_TIME + GUARD_TIME, self.ended()).await.is_err() {
            tracing::warn!("{name} could not be ended");
        }
    }

    /// The last lines.
    pub(super) async fn finish(mut self) {
        let _late = timeout(LAST_LINES, async { while self.logs.join_next().await.is_some() {} }).await;
    }

    /// Leaves everything that is not read yet to another gate.
    pub(super) async fn hush(mut self) {
        self.hush.send_replace(true);
        while self.logs.join_next().await.is_some() {}
    }
}
