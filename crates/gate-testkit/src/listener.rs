//! The listening side of an [`Ollama`](crate::Ollama): a thread with a runtime of its own, so that a test which blocks its
//! runtime, or pauses its clock, does not stop the server. Ends with the handle.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::connection::{self, Wire as _};
use crate::order::Accept;
use crate::shared::Shared;

/// What the handle asks of the thread; each is answered when it is done.
#[derive(Debug)]
pub(crate) enum Control {
    /// Close the listening socket.
    Refuse(oneshot::Sender<std::io::Result<()>>),
    /// Open it again on the same port.
    Accept(oneshot::Sender<std::io::Result<()>>),
    /// Drop all connections.
    Drop(oneshot::Sender<std::io::Result<()>>),
}

pub(crate) async fn run(
    shared: Arc<Shared>,
    listener: TcpListener,
    address: SocketAddr,
    mut control: mpsc::Receiver<Control>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            asked = control.recv() => match asked {
                None => return,
                Some(Control::Refuse(done)) => {
                    listener = None;
                    tell(done, Ok(()));
                }
                Some(Control::Accept(done)) => {
                    let opened = match listener.take() {
                        Some(open) => Ok(open),
                        None => TcpListener::bind(address).await,
                    };
                    let result = opened.map(|open| listener = Some(open));
                    tell(done, result);
                }
                Some(Control::Drop(done)) => {
                    connections.shutdown().await;
                    tell(done, Ok(()));
                }
            },
            stream = accepted(listener.as_ref()) => {
                start(&shared, &mut connections, stream);
                while connections.try_join_next().is_some() {}
            }
        }
    }
}

fn tell(done: oneshot::Sender<std::io::Result<()>>, result: std::io::Result<()>) {
    // A handle that no longer waits does not want to know.
    drop(done.send(result));
}

async fn accepted(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => return stream,
            // Out of file descriptors: they come back when connections end.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

fn start(shared: &Arc<Shared>, connections: &mut JoinSet<()>, stream: TcpStream) {
    // Each write is to be seen apart; a socket that refuses the option is dead already.
    drop(stream.set_nodelay(true));
    let ordered = shared.accepts().pop_front();
    match ordered {
        Some(Accept::Close) => drop(stream),
        Some(Accept::Reset) => {
            stream.arm_reset();
            drop(stream);
        }
        Some(Accept::Silent) => {
            connections.spawn(async move {
                std::future::pending::<()>().await;
                drop(stream);
            });
        }
        None => {
            connections.spawn(connection::serve(Arc::clone(shared), stream));
        }
    }
}
