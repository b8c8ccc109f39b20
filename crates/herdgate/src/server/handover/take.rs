//! The side of the gate that begins: takes what the old one hands over, and tells it how the start goes.

use super::{VERSION, ready_to_wait, receive, send};
use crate::server::local::Strings;
use anyhow::{Context as _, bail, ensure};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use serde_json::{Value, json};
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::Interest;

/// Of the words for a failure.
const LONGEST_WHY: usize = 2048;
/// How long the old one may take for its next word. It has everything at hand.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that was handed over.
pub(crate) struct Handed {
    pub(crate) taken: Taken,
    pub(crate) voice: Voice,
}

/// What another gate had, to be taken by whoever needs it. What nobody takes is closed.
#[derive(Default)]
pub(crate) struct Taken {
    listening: Vec<Sockets>,
    metrics: Vec<Sockets>,
    lock: Option<OwnedFd>,
    locals: Vec<HandedLocal>,
}

/// The sockets of a listener.
pub(crate) struct Sockets {
    asked: String,
    pub(crate) is_lent: bool,
    pub(crate) sockets: Vec<TcpListener>,
}

/// A program that the other gate started and that runs.
pub(crate) struct HandedLocal {
    /// Which of the old gate's programs it was.
    pub(crate) place: u64,
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) strings: Strings,
}

/// The way to the old gate, for as long as it waits.
pub(crate) struct Voice {
    socket: Rc<OwnedFd>,
    /// The old gate's process.
    process: u64,
}

/// The same for whoever has nothing but a failure to tell.
pub(crate) struct OldGate(Rc<OwnedFd>);

impl OldGate {
    /// Tells that this start has failed. The old gate goes on.
    pub(crate) fn failed(&self, why: &str) {
        let why: String = why.chars().take(LONGEST_WHY).collect();
        // It may be gone.
        let _gone = send(self.0.as_fd(), &json!({"failed": why}), &[]);
    }
}

impl Handed {
    /// What comes by the standard input.
    ///
    /// # Errors
    /// Where nothing comes, or what this herdgate does not understand.
    pub(crate) fn receive() -> anyhow::Result<Self> {
        const NOBODY: &str = "nobody hands a gate over: --handed-over is for herdgate alone";
        let socket = io::stdin().as_fd().try_clone_to_owned().context(NOBODY)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).ok().context(NOBODY)?;
        // What is started from here shall not hear us.
        let nothing = File::open("/dev/null").context("no standard input")?;
        rustix::stdio::dup2_stdin(&nothing).context("no standard input")?;
        let next = || receive(socket.as_fd()).ok().flatten();
        let (hello, _) = next().context(NOBODY)?;
        let process = hello["process"].as_u64().unwrap_or_default();
        if hello["version"].as_u64() != Some(VERSION) {
            OldGate(Rc::new(socket))
                .failed("it is another version of herdgate, which cannot take over from this one");
            bail!(
                "the gate that runs is another version of herdgate, from which nothing can be taken over\nhint: end that gate, and start this one"
            );
        }
        let mut taken = Taken::default();
        loop {
            let (said, fds) = next().context("the gate that runs has said too little")?;
            if said.get("all").is_some() {
                break;
            }
            taken.put(&said, fds).context("the gate that runs has handed over something strange")?;
        }
        Ok(Self { taken, voice: Voice { socket: Rc::new(socket), process } })
    }

    /// Whom to tell of a failure.
    pub(crate) fn old_gate(&self) -> OldGate {
        OldGate(Rc::clone(&self.voice.socket))
    }
}

impl Taken {
    fn put(&mut self, said: &Value, mut fds: Vec<OwnedFd>) -> anyhow::Result<()> {
        match said["item"].as_str() {
            Some("listen") => self.listening.push(Sockets::of(said, fds)?),
            Some("metrics") => self.metrics.push(Sockets::of(said, fds)?),
            Some("lock") => self.lock = fds.pop(),
            Some("local") => self.locals.push(HandedLocal {
                place: said["place"].as_u64().context("a program without a place")?,
                name: said["name"].as_str().unwrap_or_default().to_owned(),
                address: said["address"]
                    .as_str()
                    .and_then(|text| text.parse().ok())
                    .context("a program without an address")?,
                strings: Strings::handed_over(fds).context("a program without its strings")?,
            }),
            // A newer herdgate may have more; what is not understood is closed.
            _ => {}
        }
        Ok(())
    }

    /// All sockets of the listener that the settings name so.
    pub(crate) fn listener(&mut self, asked: &str) -> Option<Sockets> {
        take(&mut self.listening, asked)
    }

    /// The sockets that a service manager had given to the old gate.
    pub(crate) fn lent(&mut self) -> Vec<Sockets> {
        let (lent, own) =
            std::mem::take(&mut self.listening).into_iter().partition(|sockets| sockets.is_lent);
        self.listening = own;
        lent
    }

    /// The same for the listener of the metrics.
    pub(crate) fn metrics(&mut self, asked: &str) -> Option<Sockets> {
        take(&mut self.metrics, asked)
    }

    /// The lock of the data directory.
    pub(crate) fn lock(&mut self) -> Option<OwnedFd> {
        self.lock.take()
    }

    /// Whether a program of this name runs.
    pub(crate) fn has_local(&self, name: &str) -> bool {
        self.locals.iter().any(|local| local.name == name)
    }

    /// A program of this name that runs.
    pub(crate) fn local(&mut self, name: &str) -> Option<HandedLocal> {
        let place = self.locals.iter().position(|local| local.name == name)?;
        Some(self.locals.swap_remove(place))
    }
}

/// Those that were asked for so, in as many messages as they came.
fn take(all: &mut Vec<Sockets>, asked: &str) -> Option<Sockets> {
    let (wanted, other) = std::mem::take(all).into_iter().partition(|sockets| sockets.asked == asked);
    *all = other;
    let wanted: Vec<Sockets> = wanted;
    wanted.into_iter().reduce(|mut all, more| {
        all.sockets.extend(more.sockets);
        all
    })
}

impl Sockets {
    fn of(said: &Value, fds: Vec<OwnedFd>) -> anyhow::Result<Self> {
        let sockets: Vec<TcpListener> = fds.into_iter().map(TcpListener::from).collect();
        for socket in &sockets {
            ensure!(socket2::SockRef::from(socket).is_listener()?, "a socket that does not listen");
        }
        let asked = said["asked"].as_str().unwrap_or_default().to_owned();
        Ok(Self { asked, is_lent: said["lent"].as_bool().unwrap_or_default(), sockets })
    }
}

impl Voice {
    /// Everything is opened, and these of the old gate's programs were taken. Comes back when they are this one's to watch.
    pub(crate) fn ready(&self, locals: &[u64]) {
        let told = send(self.socket.as_fd(), &json!({"ready": {"locals": locals}}), &[]);
        // An old gate that is gone cannot go on with anything.
        let _heard = told.is_ok().then(|| receive(self.socket.as_fd()));
    }

    /// Requests are served, and the upstreams were looked at.
    pub(crate) fn serving(&self) {
        let _gone = send(self.socket.as_fd(), &json!({"serving": true}), &[]);
    }

    /// Waits until the old gate leaves, or is gone.
    pub(crate) async fn until_ours(self) {
        if let Ok(socket) = self.socket.try_clone().and_then(ready_to_wait) {
            let _word = socket.async_io(Interest::READABLE, || receive(socket.as_fd())).await;
        }
        tracing::info!("took the gate over from process {}", self.process);
    }
}
