//! The side of the gate that leaves: starts the fresh one, hands everything over, and goes only when that one serves.

use super::{FLAG, MOST_FDS, VERSION, ready_to_wait, receive, send};
use crate::cmd::tied;
use crate::server::bind::Bound;
use crate::server::local::Hands;
use crate::server::{control, notify};
use anyhow::{Context as _, anyhow, bail, ensure};
use gate_store::DirLock;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// How long a fresh start has to read its settings and open everything, and then to look at its upstreams.
const START_TIME: Duration = Duration::from_secs(60);
/// How long it must have served before it is left alone.
const TRIAL: Duration = Duration::from_secs(2);
/// Messages that are read of one that is gone.
const LAST_WORDS: usize = 4;
/// How long one that failed has to end.
const LAST_MOMENT: Duration = Duration::from_secs(5);

/// The program that this process was started from, and how.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    program: PathBuf,
    args: Vec<OsString>,
}

impl Origin {
    /// Of this process. To be asked at its start, before another file lies in the program's place.
    ///
    /// # Errors
    /// Where the system does not say.
    pub(crate) fn of_this() -> io::Result<Self> {
        let own = std::env::current_exe()?;
        let mut args = std::env::args_os();
        // As it was called: a link stays one, and may lead to another version later.
        let called = args.next().and_then(|name| called(Path::new(&name)));
        let is_own = |path: &PathBuf| {
            let id = |path: &Path| path.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
            id(path).is_some() && id(path) == id(&own)
        };
        let program = called.filter(is_own).unwrap_or(own);
        Ok(Self { program, args: args.filter(|arg| arg != FLAG).collect() })
    }

    /// Starts it anew, under a parent of its own (`foster.rs`).
    fn command(&self) -> Command {
        let mut command = Command::from(tied::own());
        command.args(["foster", "--"]).arg(&self.program).args(&self.args).arg(FLAG);
        // What was agreed upon with this process alone.
        for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID"] {
            command.env_remove(name);
        }
        command
    }
}

/// The file behind the name that a program was called by.
fn called(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return std::path::absolute(name).ok();
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The sockets of one listener, once more.
struct Listening {
    /// As the settings name it.
    asked: String,
    is_lent: bool,
    sockets: Vec<TcpListener>,
}

impl Listening {
    /// Copies of what is `bound`. As long as they are held, the sockets stay open.
    fn of(bound: &Bound) -> io::Result<Self> {
        let sockets = bound.sockets.iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?;
        Ok(Self { asked: bound.listener.address.to_string(), is_lent: bound.is_lent, sockets })
    }
}

/// Everything that a fresh start gets.
pub(crate) struct Offer {
    origin: Origin,
    listening: Vec<Listening>,
    metrics: Option<Listening>,
    /// Held until the end of this process: while it drains, too, the directory is not free.
    lock: Option<DirLock>,
}

impl Offer {
    /// Of these listeners, and of the lock where there is one.
    pub(crate) fn of(
        origin: Origin,
        bound: &[Bound],
        metrics: Option<&Bound>,
        lock: Option<DirLock>,
    ) -> io::Result<Self> {
        let listening = bound.iter().map(Listening::of).collect::<Result<_, _>>()?;
        let metrics = metrics.map(Listening::of).transpose()?;
        Ok(Self { origin, listening, metrics, lock })
    }

    /// Lets go of the listeners, copies of sockets that are about to be closed: while one is held, all stay open, and nobody is
    /// refused there. What is left is the lock.
    pub(crate) fn close(self) -> Option<DirLock> {
        self.lock
    }

    /// Hands over whenever it is asked to, and comes back once that has worked.
    /// Certificates are asked for only where it `renews`: not from the first word to the fresh start on.
    pub(crate) async fn until_taken(
        &self,
        locals: &control::Locals,
        renews: &watch::Sender<bool>,
        asked: &mut Signal,
    ) {
        loop {
            if asked.recv().await.is_none() {
                return std::future::pending().await;
            }
            renews.send_replace(false);
            match self.hand_over(locals, asked).await {
                Ok(()) => return,
                Err(error) => {
                    renews.send_replace(true);
                    tracing::error!("the gate was not handed over and goes on as before: {error:#}");
                    notify::ready("serving; a hand-over has failed");
                }
            }
        }
    }

    async fn hand_over(&self, locals: &control::Locals, asked: &mut Signal) -> anyhow::Result<()> {
        ensure!(
            std::process::id() != 1,
            "this is process 1, and the container would end with it; start it under an init, or replace the container"
        );
        tracing::info!("SIGUSR2: starting {} to hand the gate over", self.origin.program.display());
        let mut fresh = Fresh::start(&self.origin).await?;
        let outcome = async {
            self.send_all(&fresh, locals).await?;
            let ready = fresh.hear("ready", asked).await?;
            let _lent = Lent::of(locals);
            fresh.say(&json!({"go": true}), &[]).await?;
            fresh.hear("serving", asked).await?;
            fresh.proves_itself(asked).await?;
            let taken = ready["locals"].as_array().into_iter().flatten();
            let taken = taken.filter_map(Value::as_u64).filter_map(|place| usize::try_from(place).ok());
            locals.hands.send_replace(Hands::Given(taken.collect()));
            anyhow::Ok(())
        };
        if let Err(error) = outcome.await {
            return Err(fresh.gave_up(error).await);
        }
        // First, because a service manager looks once whether it is its own child, and ends no other one with patience.
        fresh.is_let_go().await;
        notify::main_process_is(fresh.id);
        // It goes on without hearing it, too.
        let _gone = fresh.say(&json!({"yours": true}), &[]).await;
        tracing::info!("the gate was handed over to process {}", fresh.id);
        Ok(())
    }

    async fn send_all(&self, fresh: &Fresh, locals: &control::Locals) -> anyhow::Result<()> {
        fresh.say(&json!({"version": VERSION, "process": std::process::id()}), &[]).await?;
        for (kind, listening) in self
            .listening
            .iter()
            .map(|one| ("listen", one))
            .chain(self.metrics.iter().map(|one| ("metrics", one)))
        {
            let item = json!({"item": kind, "asked": listening.asked, "lent": listening.is_lent});
            for sockets in listening.sockets.chunks(MOST_FDS) {
                let fds: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
                fresh.say(&item, &fds).await?;
            }
        }
        if let Some(lock) = &self.lock {
            fresh.say(&json!({"item": "lock"}), &[lock.as_fd()]).await?;
        }
        for (place, local) in locals.all.iter().enumerate() {
            let Some(copies) = local.held.copies()? else { continue };
            let item = json!({
                "item": "local",
                "place": place,
                "name": local.program.name(),
                "address": local.address.to_string(),
            });
            let fds: Vec<_> = copies.iter().map(|fd: &OwnedFd| fd.as_fd()).collect();
            fresh.say(&item, &fds).await?;
        }
        fresh.say(&json!({"all": true}), &[]).await
    }
}

/// While it is held nobody here watches the started programs.
struct Lent<'l>(&'l control::Locals);

impl<'l> Lent<'l> {
    fn of(locals: &'l control::Locals) -> Self {
        locals.hands.send_replace(Hands::Lent);
        Self(locals)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        // Given for good stays given.
        self.0.hands.send_if_modified(|hands| {
            let is_lent = *hands == Hands::Lent;
            if is_lent {
                *hands = Hands::Own;
            }
            is_lent
        });
    }
}

/// The fresh start. Ended when this is dropped, unless it is on its own by then.
struct Fresh {
    foster: Foster,
    id: u32,
    socket: UnixStream,
}

/// Its parent until then, and the way to that.
struct Foster {
    process: Child,
    word: UnixStream,
    has_let_go: bool,
}

impl Drop for Foster {
    fn drop(&mut self) {
        if !self.has_let_go {
            self.end();
        }
    }
}

impl Foster {
    fn start(origin: &Origin) -> anyhow::Result<Self> {
        let (ours, theirs) = pair()?;
        let process = origin.command().stdin(Stdio::from(theirs)).spawn()?;
        Ok(Self { process, word: ours, has_let_go: false })
    }

    /// Tells it something; it may be gone.
    fn tell(&self, said: &Value, fds: &[BorrowedFd<'_>]) {
        let _gone = send(self.word.as_fd(), said, fds);
    }

    /// Has it end the fresh start.
    fn end(&self) {
        self.tell(&json!({"end": true}), &[]);
    }

    /// Its next word.
    async fn says(&self, limit: Duration) -> anyhow::Result<Value> {
        let hear = || receive(self.word.as_fd());
        let told = timeout(limit, self.word.async_io(Interest::READABLE, hear)).await??;
        told.map(|(said, _)| said).context(ENDED)
    }

    /// Waits until it has left. Nothing is left behind; what takes longer is reaped when it ends.
    async fn leaves(&mut self) -> bool {
        matches!(timeout(LAST_MOMENT, self.process.wait()).await, Ok(Ok(_)))
    }
}

/// A socket to talk over, and its other end.
fn pair() -> anyhow::Result<(UnixStream, OwnedFd)> {
    const NO_SOCKET: &str = "no socket to talk over";
    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let (ours, theirs) = pair.context(NO_SOCKET)?;
    Ok((ready_to_wait(ours).context(NO_SOCKET)?, theirs))
}

impl Fresh {
    async fn start(origin: &Origin) -> anyhow::Result<Self> {
        let cause = || format!("cannot start {}", origin.program.display());
        let (socket, theirs) = pair()?;
        let foster = Foster::start(origin).with_context(cause)?;
        foster.tell(&json!({"start": true}), &[theirs.as_fd()]);
        drop(theirs);
        let told = foster.says(START_TIME).await.with_context(cause)?;
        match told["process"].as_u64().and_then(|id| u32::try_from(id).ok()) {
            Some(id) => Ok(Self { foster, id, socket }),
            None => Err(anyhow!("{}", told["cannot"].as_str().unwrap_or(ENDED)).context(cause())),
        }
    }

    /// Leaves it to whoever takes in orphans: the service manager, where there is one.
    async fn is_let_go(&mut self) {
        self.foster.has_let_go = true;
        self.foster.tell(&json!({"alone": true}), &[]);
        if !self.foster.leaves().await {
            tracing::warn!("process {} may not be the service manager's own child", self.id);
        }
    }

    async fn say(&self, said: &Value, fds: &[BorrowedFd<'_>]) -> anyhow::Result<()> {
        let send = || send(self.socket.as_fd(), said, fds).map_err(io::Error::from);
        match timeout(START_TIME, self.socket.async_io(Interest::WRITABLE, send)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                bail!(ENDED)
            }
            Ok(Err(error)) => Err(error).context("it does not listen"),
            Err(_late) => bail!("it does not listen"),
        }
    }

    /// Waits until it says this. Who asks for another hand-over meanwhile is refused.
    async fn hear(&self, word: &str, asked: &mut Signal) -> anyhow::Result<Value> {
        let limit = Instant::now() + START_TIME;
        let hear = || receive(self.socket.as_fd());
        loop {
            tokio::select! {
                heard = self.socket.async_io(Interest::READABLE, hear) => return match heard.context("it cannot be heard")? {
                    Some((said, _)) if said.get(word).is_some() => Ok(said[word].clone()),
                    Some((said, _)) => match said["failed"].as_str() {
                        Some(why) => Err(anyhow!("{why}")),
                        None => Err(anyhow!("it does not understand this gate")),
                    },
                    None => Err(anyhow!(ENDED)),
                },
                () = sleep_until(limit) => bail!("it was not {word} within {} s", START_TIME.as_secs()),
                _ = asked.recv() => refuse(),
            }
        }
    }

    /// Waits for the time in which it must not fail.
    async fn proves_itself(&self, asked: &mut Signal) -> anyhow::Result<()> {
        let end = Instant::now() + TRIAL;
        let hear = || receive(self.socket.as_fd());
        loop {
            tokio::select! {
                heard = self.socket.async_io(Interest::READABLE, hear) => match heard {
                    Ok(Some((said, _))) => said["failed"].as_str().map_or(Ok(()), |why| Err(anyhow!("{why}")))?,
                    Ok(None) | Err(_) => bail!(ENDED),
                },
                () = sleep_until(end) => return Ok(()),
                _ = asked.recv() => refuse(),
            }
        }
    }

    /// Ends it, and says how it ended where it did so itself.
    async fn gave_up(mut self, error: anyhow::Error) -> anyhow::Error {
        let by_itself = error.to_string() == ENDED;
        // Its last words may still lie there, behind the news that it is gone.
        let words = (0..LAST_WORDS).filter_map(|_| receive(self.socket.as_fd()).ok().flatten());
        let why =
            words.filter(|_| by_itself).find_map(|(said, _)| said["failed"].as_str().map(str::to_owned));
        if !by_itself {
            self.foster.end();
        }
        let told = self.foster.says(LAST_MOMENT).await.ok();
        let status = told.as_ref().and_then(|told| told["ended"].as_str());
        self.foster.leaves().await;
        if let Some(why) = why {
            return anyhow!("the fresh start failed: {why}");
        }
        match status.filter(|_| by_itself) {
            Some(status) => anyhow!("the fresh start ended before it served: {status}"),
            None => error.context("the fresh start failed"),
        }
    }
}

const ENDED: &str = "it ended before it served";

fn refuse() {
    tracing::warn!("SIGUSR2: the gate is being handed over already");
}
