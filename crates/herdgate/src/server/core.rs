//! The data plane: one thread with a current-thread runtime per core, its own listening sockets and upstream pool, no
//! work stealing. A core never waits for the control plane.

use gate_proxy::{Gate, Shared, serve_connection};
use gate_upstream::{Client, ClientLimits, Endpoint, Tls};
use std::io;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::LocalSet;

/// How long accepting rests after the system refused a connection for want of descriptors or memory.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// How often idle upstream connections are looked through.
const POOL_TURN: Duration = Duration::from_secs(10);

/// What every core is built from.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) shared: Arc<Shared>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) tls: Tls,
    pub(crate) client: ClientLimits,
    /// One permit per client connection, over all cores.
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) stop: watch::Receiver<bool>,
    /// Told when a core has ended, for whatever reason: a gate with a deaf core must not look alive.
    pub(crate) ended: Arc<Notify>,
}

/// Tells that a core has ended, also when it panics.
struct TellEnd(Arc<Notify>);

impl Drop for TellEnd {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Starts the thread of core `index`. It ends soon after `plan.stop` turns true.
///
/// # Errors
/// Where the system gives no thread.
pub(crate) fn start(
    index: usize,
    sockets: Vec<StdListener>,
    plan: Plan,
) -> io::Result<JoinHandle<io::Result<()>>> {
    std::thread::Builder::new().name(format!("core-{index}")).spawn(move || {
        let _tell = TellEnd(Arc::clone(&plan.ended));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, serve(sockets, plan))
    })
}

async fn serve(sockets: Vec<StdListener>, plan: Plan) -> io::Result<()> {
    let seed = getrandom::u64().unwrap_or_default();
    let client = Client::new(plan.endpoints, plan.tls, plan.client);
    let gate = Rc::new(Gate::new(plan.shared, client, Box::new(crate::logging::Access), seed));
    let mut duties = tokio::task::JoinSet::new();
    duties.spawn_local(Rc::clone(&gate.sweep).run());
    duties.spawn_local(tend_pool(Rc::clone(&gate)));
    duties.spawn_local(crate::logging::gather());
    for socket in sockets {
        let listener = TcpListener::from_std(socket)?;
        duties.spawn_local(accept(listener, Rc::clone(&gate), Arc::clone(&plan.connections)));
    }
    let mut stop = plan.stop;
    tokio::select! {
        // An error means that the control plane is gone: as good a reason to stop.
        _stopped = stop.wait_for(|stop| *stop) => Ok(()),
        ended = duties.join_next() => Err(io::Error::other(format!("a duty of the core ended: {ended:?}"))),
    }
}

async fn tend_pool(gate: Rc<Gate>) {
    loop {
        tokio::time::sleep(POOL_TURN).await;
        gate.upstream.sweep();
    }
}

/// Accepts for ever. A connection waits for its permit, one per listener; beyond that they wait in the kernel's queue.
async fn accept(listener: TcpListener, gate: Rc<Gate>, connections: Arc<Semaphore>) {
    let mut clients = tokio::task::JoinSet::new();
    let mut complained = false;
    loop {
        while clients.try_join_next().is_some() {}
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if !complained && !is_clients_doing(&error) {
                    complained = true;
                    tracing::warn!("cannot accept connections: {error}; waiting");
                }
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        complained = false;
        // Tokens are small writes that must not wait for an acknowledgement.
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
        let gate = Rc::clone(&gate);
        clients.spawn_local(async move {
            serve_connection(&gate, stream, peer.ip()).await;
            drop(permit);
        });
    }
}

/// The client was gone before it was accepted: nothing to say.
fn is_clients_doing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}
