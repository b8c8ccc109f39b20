//! A new TCP connection, up to its first byte of HTTP or TLS: behind a trusted proxy what that says of its client, by the PROXY
//! protocol, comes first. From anybody else such a header is what it looks like: no HTTP, and no TLS.

use super::conn::Conn;
use super::h1;
use super::tls::{self, Handshakes};
use crate::crowd::Guest;
use crate::sweep::Watch;
use gate_h1::proxy::{self, Announced, FIRST, FIXED};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Serves a connection among `served` until either side ends it; with TLS where there is a `config`.
pub fn serve_socket(
    guest: Guest,
    socket: TcpStream,
    config: Option<Arc<Handshakes>>,
    served: &mut JoinSet<()>,
) {
    // Each has its own future: a plain connection shall not hold the room of the others.
    if guest.is_proxied() {
        served.spawn_local(announced(guest, socket, config));
    } else if guest.is_undecided() {
        served.spawn_local(decided(guest, socket, config));
    } else {
        match config {
            None => served.spawn_local(h1::serve_connection(guest, socket)),
            Some(config) => {
                let watch = guest.gate.sweep.watch();
                watch.rest(guest.gate.rules().limits.head_time);
                served.spawn_local(tls::serve(guest, socket, config, watch))
            }
        };
    }
}

/// One time limit holds for what the proxy says, handshake and first head together.
async fn announced(mut guest: Guest, mut socket: TcpStream, config: Option<Arc<Handshakes>>) {
    let gate = Rc::clone(&guest.gate);
    let watch = gate.sweep.watch();
    watch.rest(gate.rules().limits.head_time);
    match Box::pin(in_time(&mut socket, &watch)).await {
        None => return,
        Some(Ok(None)) => {}
        // One too many of its address is told in the log and closed, as at any other entrance.
        Some(Ok(Some(announced))) => {
            if guest.announce(announced).is_err() {
                return;
            }
        }
        Some(Err(error)) => {
            return tracing::debug!("{}, a trusted proxy, sent no PROXY header: {error}", guest.entered.peer);
        }
    }
    serve(guest, socket, config, watch).await;
}

/// The time limit holds for the moments before it is known whether the client needs a key, too.
async fn decided(mut guest: Guest, socket: TcpStream, config: Option<Arc<Handshakes>>) {
    let gate = Rc::clone(&guest.gate);
    let watch = gate.sweep.watch();
    watch.rest(gate.rules().limits.head_time);
    // Where that address is not to be had the client is gone.
    let Ok(local) = socket.local_addr() else { return };
    guest.decide(local.ip()).await;
    serve(guest, socket, config, watch).await;
}

async fn serve(guest: Guest, socket: TcpStream, config: Option<Arc<Handshakes>>, watch: Watch) {
    match config {
        None => Box::pin(h1::serve(Box::new(Conn::watched(socket, guest, watch)), true)).await,
        Some(config) => Box::pin(tls::serve(guest, socket, config, watch)).await,
    }
}

/// None where it is late.
async fn in_time(socket: &mut TcpStream, watch: &Watch) -> Option<io::Result<Option<Announced>>> {
    let mut read = pin!(header(socket));
    poll_fn(|cx| match read.as_mut().poll(cx) {
        Poll::Ready(read) => Poll::Ready(Some(read)),
        Poll::Pending => watch.poll_late(cx).map(|()| None),
    })
    .await
}

/// Takes such a header off the connection, if it begins with one.
async fn header(socket: &mut TcpStream) -> io::Result<Option<Announced>> {
    let mut first = [0];
    if socket.peek(&mut first).await? == 0 || first != [FIRST] {
        return Ok(None);
    }
    let mut fixed = [0; FIXED];
    socket.read_exact(&mut fixed).await?;
    let length = proxy::rest(&fixed).ok_or(io::ErrorKind::InvalidData)?;
    let mut rest = vec![0; length];
    socket.read_exact(&mut rest).await?;
    proxy::read(&fixed, &rest).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
