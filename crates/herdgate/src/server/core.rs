//! The data plane: one thread with a current-thread runtime per core, its own listening sockets and upstream pool, no
//! work stealing. A core never waits for the control plane.

use super::leave;
use gate_proxy::{Gate, Shared, serve_connection};
use gate_upstream::{Client, ClientLimits, Roster, Tls};
use std::io;
use std::net::{IpAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinSet, LocalSet};

/// How long accepting rests after the system refused a connection for want of descriptors or memory.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// How often idle upstream connections are looked through.
const POOL_TURN: Duration = Duration::from_secs(10);

/// What every core is built from.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) shared: Arc<Shared>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) tls: Tls,
    /// One permit per client connection, over all cores.
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) stage: watch::Receiver<Stage>,
    /// Told when a core has ended, for whatever reason: a gate with a deaf core must not look alive. Closed once all have.
    pub(crate) ended: mpsc::Sender<()>,
}

/// How far the end of the data plane has come. Only ever moves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Requests are served.
    Serve,
    /// Listeners close, what runs goes on, connections end behind it. A core ends with its last connection.
    Drain,
    /// A core ends at once.
    End,
}

/// Tells that a core has ended, also when it panics.
struct TellEnd(mpsc::Sender<()>);

impl Drop for TellEnd {
    fn drop(&mut self) {
        // A full channel says the same already.
        let _told = self.0.try_send(());
    }
}

/// Starts the thread of core `index`. It ends as `plan.stage` says.
///
/// # Errors
/// Where the system gives no thread.
pub(crate) fn start(
    index: usize,
    sockets: Vec<StdListener>,
    plan: Plan,
) -> io::Result<JoinHandle<io::Result<()>>> {
    std::thread::Builder::new().name(format!("core-{index}")).spawn(move || {
        let _tell = TellEnd(plan.ended.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, serve(sockets, plan))
    })
}

async fn serve(sockets: Vec<StdListener>, plan: Plan) -> io::Result<()> {
    let seed = getrandom::u64().unwrap_or_default();
    let client = Client::of(plan.roster, plan.tls, ClientLimits::default());
    let gate = Rc::new(Gate::new(plan.shared, client, Box::new(crate::logging::Access), seed));
    let mut duties = JoinSet::new();
    duties.spawn_local(Rc::clone(&gate.sweep).run());
    duties.spawn_local(tend_pool(Rc::clone(&gate)));
    let tended = Rc::clone(&gate);
    duties.spawn_local(async move { tended.tend_leases().await });
    duties.spawn_local(crate::logging::gather());
    let mut doors = JoinSet::new();
    for socket in sockets {
        let listener = TcpListener::from_std(socket)?;
        doors.spawn_local(accept(listener, Rc::clone(&gate), Arc::clone(&plan.connections)));
    }
    let mut stage = plan.stage;
    let ended = |what: &str, how| Err(io::Error::other(format!("{what} ended: {how:?}")));
    tokio::select! {
        // An error means that the control plane is gone: as good a reason to end.
        _ending = stage.wait_for(|stage| *stage >= Stage::Drain) => {}
        how = duties.join_next() => return ended("a duty of the core", how),
        how = doors.join_next() => return ended("a listener", how),
    }
    gate.drain.begin();
    tokio::select! {
        _late = stage.wait_for(|stage| *stage >= Stage::End) => Ok(()),
        how = duties.join_next() => ended("a duty of the core", how),
        () = async { while doors.join_next().await.is_some() {} } => Ok(()),
    }
}

async fn tend_pool(gate: Rc<Gate>) {
    loop {
        tokio::time::sleep(POOL_TURN).await;
        gate.upstream.sweep();
    }
}

/// Accepts until the core drains, then what the kernel had accepted by then; ends with the last client's connection.
async fn accept(listener: TcpListener, gate: Rc<Gate>, connections: Arc<Semaphore>) {
    let mut clients = Clients { gate, connections, served: JoinSet::new() };
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
                if !complained && !is_clients_doing(&error) {
                    complained = true;
                    tracing::warn!("cannot accept connections: {error}; waiting");
                }
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    leave::close(listener, async |stream, peer| clients.serve(stream, peer).await).await;
    while clients.served.join_next().await.is_some() {}
}

/// The connections that came in by one listener.
struct Clients {
    gate: Rc<Gate>,
    connections: Arc<Semaphore>,
    served: JoinSet<()>,
}

impl Clients {
    /// Serves a connection as soon as there is a permit for it. One waits per listener; the rest wait in the kernel's queue.
    async fn serve(&mut self, stream: TcpStream, peer: IpAddr) {
        while self.served.try_join_next().is_some() {}
        // Tokens are small writes that must not wait for an acknowledgement.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.connections).acquire_owned().await else { return };
        let gate = Rc::clone(&self.gate);
        self.served.spawn_local(async move {
            serve_connection(&gate, stream, peer).await;
            drop(permit);
        });
    }
}

/// The client was gone before it was accepted: nothing to say.
fn is_clients_doing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}
