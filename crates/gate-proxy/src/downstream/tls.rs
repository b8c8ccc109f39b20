//! TLS with clients: the handshake, and what a connection over it can do besides carrying bytes.
//!
//! Stands before everything else that is done with a connection. The certificate comes from above; nothing here knows which.

use super::ClientStream;
use super::conn::Conn;
use super::h1;
use crate::crowd::Guest;
use crate::sweep::Watch;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

impl ClientStream for TlsStream<TcpStream> {
    fn reset_on_drop(&self) {
        self.get_ref().0.reset_on_drop();
    }
}

/// Serves the connection of a client that speaks TLS until either side ends it. `watch` has the one time limit of handshake and
/// first head together, and a connection in its handshake makes room for others as one that rests.
pub(super) async fn serve(guest: Guest, socket: TcpStream, config: Arc<ServerConfig>, watch: Watch) {
    // Needed once: an open connection shall not hold its room.
    let shaken = Box::pin(async {
        let mut handshake = pin!(TlsAcceptor::from(config).accept(socket));
        poll_fn(|cx| match handshake.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => watch.poll_late(cx).map(|()| None),
        })
        .await
    });
    match shaken.await {
        Some(Ok(stream)) => h1::serve(Conn::watched(stream, guest, watch), true).await,
        Some(Err(error)) => {
            tracing::debug!("{} and this gate have not agreed on TLS: {error}", guest.entered.peer);
        }
        None => {}
    }
}
