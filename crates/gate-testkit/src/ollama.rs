//! The handle of a running server: what tests hold.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::connection;
use crate::listener::{self, Control};
use crate::log::{NotSeen, Seen};
use crate::order::{Accept, Fault, Order};
use crate::setup::Setup;
use crate::shared::Shared;

/// A running server. Dropping it closes its port and every connection before `drop` returns.
#[derive(Debug)]
pub struct Ollama {
    /// Where it listens.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    control: Option<mpsc::Sender<Control>>,
    thread: Option<JoinHandle<()>>,
}

/// The server could not be started, or could not take its port back.
#[derive(Debug, thiserror::Error)]
#[error("the test server cannot listen on {address}")]
pub struct NotStarted {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// How long the waiting calls wait: far longer than anything they wait for takes.
const PATIENCE: Duration = Duration::from_secs(10);

impl Ollama {
    /// A server with the default [`Setup`] on a free loopback port.
    ///
    /// # Errors
    /// [`NotStarted`] when there is no port or no thread to be had.
    pub async fn start() -> Result<Self, NotStarted> {
        Self::with(Setup::default()).await
    }

    /// A server with this setup.
    ///
    /// # Errors
    /// [`NotStarted`] when the address is taken, or no thread is to be had.
    pub async fn with(setup: Setup) -> Result<Self, NotStarted> {
        let address = setup.listen;
        let failed = |source| NotStarted { address, source };
        let shared = Arc::new(Shared::new(setup));
        let (control, orders) = mpsc::channel(8);
        let (started, listening) = oneshot::channel();
        let thread = {
            let shared = Arc::clone(&shared);
            let body = move || on_thread(shared, address, orders, started);
            std::thread::Builder::new().name("testkit-ollama".to_owned()).spawn(body).map_err(failed)?
        };
        let addr = listening.await.unwrap_or_else(|_gone| Err(gone())).map_err(failed)?;
        Ok(Self { addr, shared, control: Some(control), thread: Some(thread) })
    }

    /// `http://127.0.0.1:PORT`, as settings name an upstream.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Every request so far, in the order in which their heads were complete.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.log.seen()
    }

    /// The requests for this path so far.
    #[must_use]
    pub fn seen_on(&self, path: &str) -> Vec<Seen> {
        let is_for = |seen: &Seen| seen.target().split('?').next() == Some(path);
        self.seen().into_iter().filter(is_for).collect()
    }

    /// Waits (10 s at most, in the clock of the calling runtime) until what was seen satisfies `fits`.
    ///
    /// # Errors
    /// [`NotSeen`] with what came instead.
    pub async fn until(&self, fits: impl Fn(&[Seen]) -> bool) -> Result<Vec<Seen>, NotSeen> {
        self.shared.log.until(PATIENCE, fits).await
    }

    /// Waits until the peer of the last request for this path has left, and gives that request.
    ///
    /// # Errors
    /// [`NotSeen`] when there was no such request or its peer stayed.
    pub async fn until_left(&self, path: &str) -> Result<Seen, NotSeen> {
        let is_for = |seen: &&Seen| seen.target().split('?').next() == Some(path);
        let left = |seen: &[Seen]| seen.iter().rfind(is_for).is_some_and(|seen| seen.peer_closed.is_some());
        let mut seen = self.until(left).await?;
        let place = seen.iter().rposition(|seen| is_for(&seen)).unwrap_or_default();
        Ok(seen.swap_remove(place))
    }

    /// Connections accepted so far, those that were closed at once not counted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.log.connections()
    }

    /// Connections open now.
    #[must_use]
    pub fn open_connections(&self) -> u64 {
        self.shared.log.open()
    }

    /// Adds an order. Of several that fit a request the oldest counts.
    pub fn order(&self, order: Order) {
        self.shared.orders().push(order);
    }

    /// `order(Order::once(fault).on(path))`.
    pub fn once_on(&self, path: &str, fault: Fault) {
        self.order(Order::once(fault).on(path));
    }

    /// Forgets all orders, those for connections too.
    pub fn clear_orders(&self) {
        self.shared.orders().clear();
        self.shared.accepts().clear();
    }

    /// What happens to the next new connection; called twice, to the one after it too.
    pub fn order_accept(&self, accept: Accept) {
        self.shared.accepts().push_back(accept);
    }

    /// Changes version, models, pace … from the next request on. The address does not change.
    pub fn change(&self, change: impl FnOnce(&mut Setup)) {
        change(&mut self.shared.setup());
    }

    /// Closes the listening socket: connects are refused from now on, open connections stay.
    ///
    /// # Errors
    /// [`NotStarted`] when the server's thread is gone.
    pub async fn refuse(&self) -> Result<(), NotStarted> {
        self.ask(Control::Refuse).await
    }

    /// Listens again, on the same port.
    ///
    /// # Errors
    /// [`NotStarted`] when the port was taken meanwhile.
    pub async fn accept(&self) -> Result<(), NotStarted> {
        self.ask(Control::Accept).await
    }

    /// Drops every open connection, idle ones too, and goes on listening.
    ///
    /// # Errors
    /// [`NotStarted`] when the server's thread is gone.
    pub async fn drop_connections(&self) -> Result<(), NotStarted> {
        self.ask(Control::Drop).await
    }

    /// As kill -9 would: refuses connects and drops every connection.
    ///
    /// # Errors
    /// [`NotStarted`] when the server's thread is gone.
    pub async fn kill(&self) -> Result<(), NotStarted> {
        self.refuse().await?;
        self.drop_connections().await
    }

    /// Serves one connection in memory, on the calling runtime and its clock, until it ends. For paused clocks, which
    /// sockets do not bear.
    pub async fn serve(&self, wire: DuplexStream) {
        connection::serve(Arc::clone(&self.shared), wire).await;
    }

    async fn ask(
        &self,
        control: impl FnOnce(oneshot::Sender<std::io::Result<()>>) -> Control,
    ) -> Result<(), NotStarted> {
        let (done, answer) = oneshot::channel();
        let sent = match &self.control {
            Some(sender) => sender.send(control(done)).await.is_ok(),
            None => false,
        };
        let result = if sent { answer.await.unwrap_or_else(|_gone| Err(gone())) } else { Err(gone()) };
        result.map_err(|source| NotStarted { address: self.addr, source })
    }
}

impl Drop for Ollama {
    fn drop(&mut self) {
        self.control = None;
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been printed by its own hook.
            drop(thread.join());
        }
    }
}

fn gone() -> std::io::Error {
    std::io::Error::other("the server's thread has ended")
}

/// The thread: a runtime, the listener, and their end.
fn on_thread(
    shared: Arc<Shared>,
    address: SocketAddr,
    control: mpsc::Receiver<Control>,
    started: oneshot::Sender<std::io::Result<SocketAddr>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(error))),
    };
    runtime.block_on(async move {
        let bound = TcpListener::bind(address).await;
        match bound.and_then(|listener| Ok((listener.local_addr()?, listener))) {
            Ok((addr, listener)) => {
                if started.send(Ok(addr)).is_ok() {
                    listener::run(shared, listener, addr, control).await;
                }
            }
            Err(error) => drop(started.send(Err(error))),
        }
    });
}
