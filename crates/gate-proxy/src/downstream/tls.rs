//! TLS with clients: the handshake, and what a connection over it can do besides carrying bytes.
//!
//! Stands before everything else that is done with a connection. The certificate comes from above; nothing here knows which.

mod bounded;

use super::ClientStream;
use super::conn::Conn;
use super::h1;
use crate::certificate;
use crate::crowd::Guest;
use crate::sweep::Watch;
use bounded::Bounded;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::{Acceptor, ClientHello};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

/// The protocol by which an authority asks whether a name leads here, RFC 8737.
const CHALLENGE: &[u8] = b"acme-tls/1";

/// What handshakes are answered with.
#[derive(Debug)]
pub struct Handshakes {
    /// Clients'.
    pub usual: Arc<ServerConfig>,
    /// Those of an authority that looks whether a name leads here. Nothing is served over such a connection.
    pub challenge: Option<Arc<ServerConfig>>,
}

impl ClientStream for TlsStream<Bounded> {
    fn reset_on_drop(&self) {
        self.get_ref().0.socket().reset_on_drop();
    }
}

/// Serves the connection of a client that speaks TLS until either side ends it. `watch` has the one time limit of handshake and
/// first head together, and a connection in its handshake makes room for others as one that rests.
pub(super) async fn serve(mut guest: Guest, socket: TcpStream, with: Arc<Handshakes>, watch: Watch) {
    // Needed once: an open connection shall not hold its room.
    let shaken = Box::pin(async {
        let mut handshake = pin!(shake(Bounded::new(socket), with));
        poll_fn(|cx| match handshake.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => watch.poll_late(cx).map(|()| None),
        })
        .await
    });
    match shaken.await {
        Some(Ok(Some(mut stream))) => {
            stream.get_mut().0.lift();
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            guest.entered.certificate = shown.and_then(|shown| certificate::subject(shown));
            h1::serve(Box::new(Conn::watched(stream, guest, watch)), true).await;
        }
        Some(Err((error, socket))) => {
            tracing::debug!("{} and this gate have not agreed on TLS: {error}", guest.entered.peer);
            if let Some(socket) = socket.and_then(Bounded::plain) {
                Box::pin(h1::refuse_plain(Box::new(Conn::watched(socket, guest, watch)))).await;
            }
        }
        Some(Ok(None)) | None => {}
    }
}

/// Why there is none, and the socket where it has not begun.
type NoHandshake = (io::Error, Option<Bounded>);

/// The connection of a client; none where it was an authority's, which is over with the handshake.
async fn shake(socket: Bounded, with: Arc<Handshakes>) -> Result<Option<TlsStream<Bounded>>, NoHandshake> {
    let Some(challenge) = &with.challenge else {
        let shaken = TlsAcceptor::from(Arc::clone(&with.usual)).accept(socket).into_fallible().await;
        return shaken.map(Some).map_err(|(error, socket)| (error, Some(socket)));
    };
    let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), socket);
    let begun = match (&mut acceptor).await {
        Ok(begun) => begun,
        Err(error) => return Err((error, acceptor.take_io())),
    };
    let broken = |error| (error, None);
    if !is_challenge(&begun.client_hello()) {
        return begun.into_stream(Arc::clone(&with.usual)).await.map(Some).map_err(broken);
    }
    let mut stream = begun.into_stream(Arc::clone(challenge)).await.map_err(broken)?;
    stream.shutdown().await.map_err(broken)?;
    Ok(None)
}

fn is_challenge(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|offered| offered.eq([CHALLENGE]))
}
