//! The Ollama or engine that the gate starts by itself: found, started on a loopback port of its own, watched, started
//! again with back-off, ended with the gate. Its log lines come out on standard error behind its name.
//!
//! It has a process group of its own: a Ctrl-C in the gate's terminal is for the gate, which lets its requests end first.

mod guarded;
mod output;
mod program;

pub(crate) use guarded::Strings;
pub(crate) use program::{Program, find, find_engine};

use super::handover::HandedLocal;
use crate::cmd::tied;
use anyhow::Context as _;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// First wait before a start after an unexpected end; doubled each time up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A run of this length proves that the program works: the next wait is the first one again.
const SOUND_RUN: Duration = Duration::from_secs(60);

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

/// Whose the started programs are, while the gate is handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hands {
    /// This gate's.
    Own,
    /// Another gate tries itself on them; they may come back.
    Lent,
    /// Those at these places are another gate's for good; nothing is started again.
    Given(Vec<usize>),
}

/// The way to a program while it runs, for whoever hands it over.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held(Rc<RefCell<Option<Rc<Strings>>>>);

impl Held {
    /// Copies for another gate; none while the program does not run.
    ///
    /// # Errors
    /// Where the system has no more descriptors.
    pub(crate) fn copies(&self) -> std::io::Result<Option<Vec<OwnedFd>>> {
        self.0.borrow().as_ref().map(|strings| strings.copies()).transpose()
    }
}

/// What to start and where it shall listen.
#[derive(Debug)]
pub(crate) struct Local {
    program: Program,
    address: SocketAddr,
    given: Surroundings,
    /// It runs already, and its place at the gate before this one.
    running: Option<(Strings, u64)>,
    held: Held,
}

impl Local {
    /// Chooses a free loopback port for `program`. It stays the same over restarts.
    ///
    /// # Errors
    /// Where no port is free.
    pub(crate) fn new(program: Program, given: Surroundings) -> anyhow::Result<Self> {
        let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no loopback port is free")?;
        Ok(Self { program, address: probe.local_addr()?, given, running: None, held: Held::default() })
    }

    /// One that a gate before this one started.
    pub(crate) fn handed_over(program: Program, given: Surroundings, running: HandedLocal) -> Self {
        let HandedLocal { place, address, strings, .. } = running;
        Self { program, address, given, running: Some((strings, place)), held: Held::default() }
    }

    /// Its place at the gate that started it, where that was another.
    pub(crate) fn place_before(&self) -> Option<u64> {
        self.running.as_ref().map(|(_, place)| *place)
    }

    /// The way to it.
    pub(crate) fn held(&self) -> Held {
        self.held.clone()
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
    /// It comes back, too, once the program at its `place` is another gate's.
    pub(crate) async fn run(
        mut self,
        place: usize,
        mut care: watch::Receiver<Care>,
        mut hands: watch::Receiver<Hands>,
    ) {
        let mut wait = FIRST_WAIT;
        loop {
            let begun = Instant::now();
            let running = self.running.take().map(|(strings, _)| strings);
            match running.map_or_else(|| self.start(), Ok) {
                Ok(strings) => {
                    let strings = Rc::new(strings);
                    self.held.0.replace(Some(Rc::clone(&strings)));
                    until_ended(&strings, self.program.name(), place, &mut care, &mut hands).await;
                    self.held.0.replace(None);
                }
                Err(error) => tracing::error!("cannot start {}: {error}", self.program.path().display()),
            }
            if *care.borrow() > Care::Keep || matches!(*hands.borrow(), Hands::Given(_)) {
                return;
            }
            if begun.elapsed() >= SOUND_RUN {
                wait = FIRST_WAIT;
            }
            tracing::warn!("{} ended; starting it again in {:.1} s", self.program.name(), wait.as_secs_f32());
            tokio::select! {
                // Nothing is started while another gate may be starting its own.
                () = tokio::time::sleep(wait) => match hands.wait_for(|hands| *hands != Hands::Lent).await.as_deref() {
                    Ok(Hands::Own) => wait = (wait * 2).min(LONGEST_WAIT),
                    Ok(Hands::Given(_) | Hands::Lent) | Err(_) => return,
                },
                // Gone with the control plane, as good as ending.
                _ending = care.wait_for(|care| *care > Care::Keep) => return,
            }
        }
    }

    fn start(&self) -> std::io::Result<Strings> {
        let mut command = tied::command(self.program.path());
        match &self.program {
            Program::Ollama(_) => {
                command.arg("serve").env("GIN_MODE", "release");
            }
            Program::Engine(_) => {
                command.args(["--exit-with-parent", "--listen", &self.address.to_string(), "--models-dir"]);
                // A failed assertion in llama.cpp would start a debugger where one is installed.
                let models = self.given.models_dir.as_ref().unwrap_or(&self.given.engine_models);
                command.arg(models).env("GGML_NO_BACKTRACE", "1");
            }
        }
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours(name)) {
            command.env_remove(name);
        }
        command.envs(&self.given.env);
        if let Program::Ollama(_) = self.program {
            command.envs(self.given.models_dir.iter().map(|dir| ("OLLAMA_MODELS", dir)));
            command.env("OLLAMA_HOST", self.address.to_string());
        }
        Strings::start(command)
    }
}

/// Waits for the program's end, or until it is to end, and ends it then; or until it is another gate's.
async fn until_ended(
    strings: &Strings,
    name: &'static str,
    place: usize,
    care: &mut watch::Receiver<Care>,
    hands: &mut watch::Receiver<Hands>,
) {
    loop {
        let mut listening = match strings.listen(name) {
            Ok(listening) => listening,
            Err(error) => return tracing::error!("{name} cannot be watched: {error}"),
        };
        let is_kept = |hands: &Hands| matches!(hands, Hands::Given(_));
        let is_given = is_kept(&hands.borrow());
        tokio::select! {
            how = listening.ended() => {
                tracing::warn!("{name} ended by itself: {how}");
                return listening.finish().await;
            }
            () = is_to_end(care) => {
                listening.end(name).await;
                return listening.finish().await;
            }
            _lent = hands.wait_for(|hands| *hands != Hands::Own), if !is_given => {}
        }
        // Whatever it writes or does now is for the other gate to hear, or for this one later.
        listening.hush().await;
        let settled = tokio::select! {
            settled = hands.wait_for(|hands| *hands != Hands::Lent) => settled.ok().map(|hands| hands.clone()),
            () = is_to_end(care) => None,
        };
        if matches!(settled, Some(Hands::Given(taken)) if taken.contains(&place)) {
            return;
        }
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
