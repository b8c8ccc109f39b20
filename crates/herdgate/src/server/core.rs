//! The data plane: one thread with a current-thread runtime per core, its own listening sockets and upstream pool, no
//! work stealing. A core never waits for the control plane.

use super::leave;
use super::tls::Speaking;
use gate_proxy::{Entrance, Gate, Shared, serve_socket};
use gate_upstream::{Client, ClientLimits, Roster, Tls};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::{IpAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet};

/// How long accepting rests after the system refused a connection for want of descriptors or memory.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// How a client whose machine vanished is found: after so much silence it is asked, so often, so many times.
const KEEP_ALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);
/// How often idle upstream connections are looked through.
const POOL_TURN: Duration = Duration::from_secs(10);

/// What every core is built from.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) shared: Arc<Shared>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) tls: Tls,
    pub(crate) stage: watch::Receiver<Stage>,
    /// Told when a core has ended, for whatever reason: a gate with a deaf core must not look alive. Closed once all have.
    pub(crate) ended: mpsc::Sender<()>,
}

/// A listening socket of one core, and what holds there.
pub(crate) struct Door {
    pub(crate) socket: StdListener,
    /// Somebody else goes on listening at it.
    pub(crate) is_lent: bool,
    pub(crate) entrance: Entrance,
    /// What is spoken there; nothing but TCP where there is none.
    pub(crate) speaking: Option<Speaking>,
}

/// A core's sign of life.
#[derive(Debug, Default)]
pub(crate) struct Pulse(AtomicU64);

impl Pulse {
    const ENDED: u64 = u64::MAX;
    const REST: Duration = Duration::from_millis(250);

    /// How often it has beaten; none once the core has ended.
    pub(super) fn beats(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|beats| *beats != Self::ENDED)
    }

    /// Beats for ever, where somebody looks for it.
    async fn beat(&self) {
        if sd_notify::watchdog_enabled().is_none() {
            return std::future::pending().await;
        }
        loop {
            self.0.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Self::REST).await;
        }
    }
}

/// How long clients that wait without a request may still begin one where the gate ends: nobody is there behind it, and whoever
/// ends it waits for that.
const LAST_CALL: Duration = Duration::from_secs(1);
/// The same where another gate has taken over. Nobody waits for this one, and a client that was busy elsewhere for a moment
/// shall find its connection open.
const LAST_CALL_PASSED_ON: Duration = Duration::from_secs(5);

/// How far the end of the data plane has come. Only ever moves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Requests are served.
    Serve,
    /// As [`Stage::Drain`], but somebody else accepts at the same sockets: nobody is turned away.
    Pass,
    /// Listeners close, what runs goes on, connections end behind it. A core ends with its last connection.
    Drain,
    /// What still runs is told so, each in its dialect, and cut.
    Cut { is_passed_on: bool },
    /// A core ends at once.
    End { is_passed_on: bool },
}

impl Stage {
    /// The first of all [`Stage::Cut`].
    pub(crate) const CUT: Self = Self::Cut { is_passed_on: false };
    /// The first of all [`Stage::End`].
    const END: Self = Self::End { is_passed_on: false };

    /// Somebody else accepts at the same sockets, now and until nobody connects any more. Stays so in the stages behind
    /// [`Stage::Pass`]: who looks late sees none but the latest.
    pub(crate) const fn is_passed_on(self) -> bool {
        match self {
            Self::Serve | Self::Drain => false,
            Self::Pass => true,
            Self::Cut { is_passed_on } | Self::End { is_passed_on } => is_passed_on,
        }
    }

    /// What runs is cut.
    pub(crate) fn cut(&mut self) {
        *self = Self::Cut { is_passed_on: self.is_passed_on() };
    }

    /// Everything ends.
    pub(crate) fn end(&mut self) {
        *self = Self::End { is_passed_on: self.is_passed_on() };
    }
}

/// Tells that a core has ended, also when it panics.
struct TellEnd(mpsc::Sender<()>, Arc<Pulse>);

impl Drop for TellEnd {
    fn drop(&mut self) {
        // A full channel says the same already.
        let _told = self.0.try_send(());
        self.1.0.store(Pulse::ENDED, Ordering::Relaxed);
    }
}

/// The threads of the data plane.
pub(crate) type Threads = Vec<JoinHandle<io::Result<()>>>;

/// Starts a thread for each core, with its own socket of every listener. Also gives the sign of life of each.
///
/// # Errors
/// Where the system gives no thread.
pub(crate) fn start_all(doors: Vec<Vec<Door>>, plan: &Plan) -> io::Result<(Threads, Vec<Arc<Pulse>>)> {
    let pulses: Vec<Arc<Pulse>> = doors.iter().map(|_| Arc::default()).collect();
    let threads = doors
        .into_iter()
        .zip(&pulses)
        .enumerate()
        .map(|(index, (doors, pulse))| start(index, doors, Arc::clone(pulse), plan.clone()))
        .collect::<io::Result<_>>()?;
    Ok((threads, pulses))
}

/// Starts the thread of core `index`. It ends as `plan.stage` says.
///
/// # Errors
/// Where the system gives no thread.
fn start(
    index: usize,
    doors: Vec<Door>,
    pulse: Arc<Pulse>,
    plan: Plan,
) -> io::Result<JoinHandle<io::Result<()>>> {
    std::thread::Builder::new().name(format!("core-{index}")).spawn(move || {
        let _tell = TellEnd(plan.ended.clone(), Arc::clone(&pulse));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, serve(doors, pulse, plan))
    })
}

async fn serve(doors: Vec<Door>, pulse: Arc<Pulse>, plan: Plan) -> io::Result<()> {
    let seed = getrandom::u64().unwrap_or_default();
    let client = Client::of(plan.roster, plan.tls, ClientLimits::default());
    let gate = Rc::new(Gate::new(plan.shared, client, Box::new(crate::logging::Access), seed));
    let mut duties = JoinSet::new();
    duties.spawn_local(Rc::clone(&gate.sweep).run());
    duties.spawn_local(tend_pool(Rc::clone(&gate)));
    let tended = Rc::clone(&gate);
    duties.spawn_local(async move { tended.tend_leases().await });
    duties.spawn_local(crate::logging::gather());
    duties.spawn_local(async move { pulse.beat().await });
    let mut open = JoinSet::new();
    for Door { socket, is_lent, entrance, speaking } in doors {
        // Tokens are small writes that must not wait for an acknowledgement. What is accepted inherits it.
        SockRef::from(&socket).set_tcp_nodelay(true)?;
        SockRef::from(&socket).set_tcp_keepalive(&KEEP_ALIVE)?;
        let listener = TcpListener::from_std(socket)?;
        let leaving = Leaving { is_lent, stage: plan.stage.clone() };
        let (gate, served) = (Rc::clone(&gate), JoinSet::new());
        open.spawn_local(accept(
            listener,
            leaving,
            Clients { gate, entrance: Rc::new(entrance), speaking, served },
        ));
    }
    let mut stage = plan.stage;
    let ended = |what: &str, how| Err(io::Error::other(format!("{what} ended: {how:?}")));
    tokio::select! {
        // An error means that the control plane is gone: as good a reason to end.
        _ending = stage.wait_for(|stage| *stage >= Stage::Pass) => {}
        how = duties.join_next() => return ended("a duty of the core", how),
        how = open.join_next() => return ended("a listener", how),
    }
    let is_passed_on = stage.borrow().is_passed_on();
    gate.drain.begin(if is_passed_on { LAST_CALL_PASSED_ON } else { LAST_CALL });
    let last_words = async {
        drop(stage.wait_for(|stage| *stage >= Stage::CUT).await);
        gate.leases.end_all();
        let _ended = stage.wait_for(|stage| *stage >= Stage::END).await;
    };
    tokio::select! {
        () = last_words => Ok(()),
        how = duties.join_next() => ended("a duty of the core", how),
        () = async { while open.join_next().await.is_some() {} } => Ok(()),
    }
}

async fn tend_pool(gate: Rc<Gate>) {
    loop {
        tokio::time::sleep(POOL_TURN).await;
        gate.upstream.sweep();
    }
}

/// How a listener is left.
struct Leaving {
    is_lent: bool,
    stage: watch::Receiver<Stage>,
}

impl Leaving {
    fn is_passed_on(&self) -> bool {
        self.stage.borrow().is_passed_on()
    }
}

/// Accepts until the core drains, then what the kernel had accepted by then; ends with the last client's connection.
async fn accept(listener: TcpListener, leaving: Leaving, mut clients: Clients) {
    let mut complained = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = clients.gate.drain.begun() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                complained = false;
                clients.serve(stream, peer.ip()).await;
            }
            Err(error) => {
                if is_clients_doing(&error) {
                    continue;
                }
                if !complained {
                    complained = true;
                    tracing::warn!("cannot accept connections: {error}; waiting");
                }
                // Where descriptors are short, a connection that rests has one.
                clients.gate.make_room();
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    if leaving.is_passed_on() {
        drop(listener);
    } else {
        let serve = async |stream, peer| clients.serve(stream, peer).await;
        leave::close(listener, leaving.is_lent, serve).await;
    }
    while clients.served.join_next().await.is_some() {}
}

/// The connections that came in by one listener.
struct Clients {
    gate: Rc<Gate>,
    entrance: Rc<Entrance>,
    speaking: Option<Speaking>,
    served: JoinSet<()>,
}

impl Clients {
    /// Serves a connection, if the gate lets it in.
    async fn serve(&mut self, stream: TcpStream, peer: IpAddr) {
        while self.served.try_join_next().is_some() {}
        let local = match self.entrance.anonymous {
            None => None,
            Some(_) => stream.local_addr().ok().map(|local| local.ip()),
        };
        let Ok(guest) = self.gate.admit(peer, local, &self.entrance) else { return };
        let config = self.speaking.as_ref().map(|speaking| speaking.load_full());
        serve_socket(guest, stream, config, &mut self.served);
        // One that was made to go shall be gone before the next is let in.
        tokio::task::yield_now().await;
    }
}

/// The client was gone before it was accepted: nothing to say.
fn is_clients_doing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_late_still_sees_that_the_sockets_were_passed_on() {
        for (begun, is_passed_on) in [(Stage::Pass, true), (Stage::Drain, false)] {
            let (stage, staged) = watch::channel(Stage::Serve);
            let leaving = Leaving { is_lent: false, stage: staged };
            assert!(!leaving.is_passed_on());
            stage.send_replace(begun);
            stage.send_modify(Stage::cut);
            assert_eq!(leaving.is_passed_on(), is_passed_on);
            assert!(*stage.borrow() >= Stage::CUT && *stage.borrow() < Stage::END);
            stage.send_modify(Stage::end);
            assert_eq!(leaving.is_passed_on(), is_passed_on);
            assert!(*stage.borrow() >= Stage::END);
        }
    }
}
