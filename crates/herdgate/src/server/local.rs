//! The Ollama or engine that the gate starts by itself: found, started on a loopback port of its own, watched, started
//! again with back-off, ended with the gate. Its log lines come out on standard error behind its name.
//!
//! It has a process group of its own: a Ctrl-C in the gate's terminal is for the gate, which lets its requests end first.

mod output;
mod program;

pub(crate) use program::{Program, find, find_engine};

use crate::cmd::tied;
use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::time::Instant;

/// First wait before a start after an unexpected end; doubled each time up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A run of this length proves that the program works: the next wait is the first one again.
const SOUND_RUN: Duration = Duration::from_secs(60);
/// How long it may take to end after it was asked to.
const END_TIME: Duration = Duration::from_secs(5);

/// What the gate wants of what it started. Only ever moves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Care {
    /// It runs, and is started again where it does not.
    Keep,
    /// The gate is ending: what still runs needs it, but it is not started again.
    LastUse,
    /// It is ended.
    End,
}

/// What a started program finds around it, beyond what the gate itself found.
#[derive(Clone)]
pub(crate) struct Surroundings {
    /// Where models lie: what the settings say, and else where the engine looks.
    models_dir: Option<PathBuf>,
    engine_models: PathBuf,
    env: BTreeMap<String, String>,
}

impl Surroundings {
    /// As the settings say.
    ///
    /// # Errors
    /// Where the working directory is not known and a folder is named in relation to it.
    pub(crate) fn of(settings: &gate_config::Local, data: &Path) -> anyhow::Result<Self> {
        let absolute = |path: &PathBuf| std::path::absolute(path).context("local.models_dir");
        Ok(Self {
            models_dir: settings.models_dir.as_ref().map(absolute).transpose()?,
            engine_models: data.join("models"),
            env: settings.env.clone(),
        })
    }
}

impl fmt::Debug for Surroundings {
    /// Without the variables' values, one of which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Surroundings(models in {:?}, env {:?})", self.models_dir, self.env.keys())
    }
}

/// What to start and where it shall listen.
#[derive(Debug)]
pub(crate) struct Local {
    program: Program,
    address: SocketAddr,
    given: Surroundings,
}

impl Local {
    /// Chooses a free loopback port for `program`. It stays the same over restarts.
    ///
    /// # Errors
    /// Where no port is free.
    pub(crate) fn new(program: Program, given: Surroundings) -> anyhow::Result<Self> {
        let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no loopback port is free")?;
        Ok(Self { program, address: probe.local_addr()?, given })
    }

    /// The program.
    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// Where it answers, once it does.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs the program until `care` says that it is to end, starting it again whenever it ends while it is to be kept.
    pub(crate) async fn run(self, mut care: watch::Receiver<Care>) {
        let mut wait = FIRST_WAIT;
        loop {
            let begun = Instant::now();
            match self.start() {
                Ok(running) => running.until_ended(&mut care).await,
                Err(error) => tracing::error!("cannot start {}: {error}", self.program.path().display()),
            }
            if *care.borrow() > Care::Keep {
                return;
            }
            if begun.elapsed() >= SOUND_RUN {
                wait = FIRST_WAIT;
            }
            tracing::warn!("{} ended; starting it again in {:.1} s", self.program.name(), wait.as_secs_f32());
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(LONGEST_WAIT),
                // Gone with the control plane, as good as ending.
                _ending = care.wait_for(|care| *care > Care::Keep) => return,
            }
        }
    }

    fn start(&self) -> std::io::Result<Running> {
        let mut command = match &self.program {
            Program::Ollama(path) => {
                // It does not watch its standard input, so the system is asked to end it with the gate.
                let mut command = Command::from(tied::command(path));
                command.arg("serve").env("GIN_MODE", "release");
                command
            }
            Program::Engine(path) => {
                let mut command = Command::new(path);
                command.args(["--exit-with-parent", "--listen", &self.address.to_string(), "--models-dir"]);
                // A failed assertion in llama.cpp would start a debugger where one is installed.
                let models = self.given.models_dir.as_ref().unwrap_or(&self.given.engine_models);
                command.arg(models).env("GGML_NO_BACKTRACE", "1");
                command
            }
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours(name)) {
            command.env_remove(name);
        }
        command.envs(&self.given.env);
        if let Program::Ollama(_) = self.program {
            command.envs(self.given.models_dir.iter().map(|dir| ("OLLAMA_MODELS", dir)));
            command.env("OLLAMA_HOST", self.address.to_string());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        let mut child = command.spawn()?;
        let name = self.program.name();
        let logs = [
            child.stdout.take().map(|pipe| tokio::task::spawn_local(output::pass_on(name, pipe))),
            child.stderr.take().map(|pipe| tokio::task::spawn_local(output::pass_on(name, pipe))),
        ];
        // The engine ends when its standard input closes: a gate that is killed leaves no orphan.
        let alive = child.stdin.take();
        Ok(Running { name, child, _alive: alive, logs })
    }
}

/// What the started program must not see: the gate's own settings and secrets, the upstream the gate was pointed at, and what
/// the service manager agreed upon with the gate alone.
fn is_ours(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("HERDGATE_")
        || matches!(
            &*name,
            "AUTH_TOKEN"
                | "AUTH_TOKEN_FILE"
                | "CREDENTIALS_DIRECTORY"
                | "LISTEN_FDNAMES"
                | "LISTEN_FDS"
                | "LISTEN_PID"
                | "NOTIFY_SOCKET"
                | "WATCHDOG_PID"
                | "WATCHDOG_USEC"
                | "OLLAMA_URL"
                | "OLLAMA_BASE_URL"
                | "OLLAMA_HOST"
        )
}

struct Running {
    name: &'static str,
    child: Child,
    _alive: Option<ChildStdin>,
    logs: [Option<tokio::task::JoinHandle<()>>; 2],
}

impl Running {
    /// Waits for the program's end, or until it is to end, and ends it then.
    async fn until_ended(mut self, care: &mut watch::Receiver<Care>) {
        tokio::select! {
            status = self.child.wait() => match status {
                Ok(status) => tracing::warn!("{} ended by itself: {status}", self.name),
                Err(error) => tracing::warn!("{} cannot be watched: {error}", self.name),
            },
            () = is_to_end(care) => self.end().await,
        }
        for mut log in self.logs.into_iter().flatten() {
            // The last lines are read; a grandchild that keeps the pipe open must not hold us.
            if tokio::time::timeout(Duration::from_millis(200), &mut log).await.is_err() {
                log.abort();
            }
        }
    }

    /// Asks it to end (Ollama ends its own children then), and kills it and its children when it does not.
    async fn end(&mut self) {
        let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) else {
            return;
        };
        if let Err(error) = kill_process(pid, Signal::TERM) {
            tracing::debug!("{} was gone already: {error}", self.name);
        }
        if tokio::time::timeout(END_TIME, self.child.wait()).await.is_err() {
            if let Err(error) = kill_process_group(pid, Signal::KILL) {
                tracing::warn!("{} could not be ended: {error}", self.name);
            }
            let _reaped = self.child.wait().await;
        }
    }
}

/// Waits until the program is to end; the control plane's end says so too.
async fn is_to_end(care: &mut watch::Receiver<Care>) {
    let _ending = care.wait_for(|care| *care == Care::End).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_pointers_are_not_inherited() {
        for name in ["AUTH_TOKEN", "HERDGATE_DATA", "NOTIFY_SOCKET", "OLLAMA_HOST", "OLLAMA_URL"] {
            assert!(is_ours(OsStr::new(name)), "{name}");
        }
        for name in ["OLLAMA_MODELS", "PATH", "CUDA_VISIBLE_DEVICES"] {
            assert!(!is_ours(OsStr::new(name)), "{name}");
        }
    }
}
