//! Opening a connection: resolve, try every address in order, TLS. One limit over all of it.
//!
//! Only the cold path comes here; its future is large and boxed by the caller. Sends nothing of a request.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::endpoint::Endpoint;
use crate::error::UpstreamError;
use crate::socket::Socket;
use crate::tls::Tls;

/// A silent upstream is asked whether it is still there after this long, then at [`KEEPALIVE_EVERY`]: a model may load
/// for minutes without a byte, and a machine that lost its power must not look like one.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_TRIES: u32 = 3;
/// Unacknowledged bytes end a connection after this long; the system's own limit is a quarter of an hour.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_FOR: Duration = Duration::from_secs(60);

/// Connects to `endpoint` within `limit`.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    tls: &Tls,
    limit: Duration,
) -> Result<Socket, UpstreamError> {
    let deadline = Instant::now() + limit;
    let late = || UpstreamError::ConnectTimeout { at: Arc::clone(endpoint.label()), after: limit };
    let addresses = timeout_at(deadline, lookup_host((endpoint.host(), endpoint.port())))
        .await
        .map_err(|_| late())?
        .map_err(|cause| UpstreamError::Resolve { at: Arc::clone(endpoint.label()), cause })?;
    let addresses: Vec<SocketAddr> = addresses.collect();
    let stream = match first_open(&addresses, deadline).await {
        Ok(stream) => stream,
        Err(cause) if cause.kind() == io::ErrorKind::TimedOut => return Err(late()),
        Err(cause) => {
            let at = Arc::clone(endpoint.label());
            return Err(if addresses.is_empty() {
                UpstreamError::Resolve { at, cause }
            } else {
                UpstreamError::Connect { at, cause, addresses: addresses.len() }
            });
        }
    };
    let Some(name) = endpoint.server_name() else {
        return Ok(Socket::Tcp(stream));
    };
    let failed = |cause| UpstreamError::Tls { at: Arc::clone(endpoint.label()), cause };
    let config = tls.config().map_err(|error| failed(error.into()))?;
    let handshake = TlsConnector::from(config).connect(name.clone(), stream);
    let stream = timeout_at(deadline, handshake).await.map_err(|_| late())?.map_err(failed)?;
    Ok(Socket::Tls(Box::new(stream)))
}

/// The first address that takes a connection, in the resolver's order. Each gets its share of the time that is left, so
/// that a dead first one does not use up the others' chance.
async fn first_open(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (place, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let left = u32::try_from(addresses.len() - place).unwrap_or(u32::MAX);
        let until = now + deadline.saturating_duration_since(now) / left;
        match timeout_at(until, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                tune(&stream)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(KEEPALIVE_TRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_FOR))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;

    use super::*;

    async fn closed_port() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        listener.local_addr().unwrap()
    }

    #[tokio::test]
    async fn the_second_address_is_tried_when_the_first_refuses() {
        let closed = closed_port().await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let open = listener.local_addr().unwrap();
        let deadline = Instant::now() + Duration::from_secs(3);
        let stream = first_open(&[closed, open], deadline).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
        assert!(stream.nodelay().unwrap());
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
    }

    #[tokio::test]
    async fn the_last_refusal_is_told_when_all_refuse() {
        let addresses = [closed_port().await, closed_port().await];
        let deadline = Instant::now() + Duration::from_secs(3);
        let error = first_open(&addresses, deadline).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    /// A listener whose queue is full, so that it answers no further connection at all, and what fills it.
    #[cfg(target_os = "linux")]
    fn deaf() -> (SocketAddr, impl Sized) {
        use std::net::TcpStream as Blocking;
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = Blocking::connect_timeout(&address, Duration::from_millis(200)) {
            queued.push(stream);
        }
        (address, (socket, queued))
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_deaf_first_address_leaves_time_for_the_second() {
        let (deaf, _kept) = deaf();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let open = listener.local_addr().unwrap();
        let stream = first_open(&[deaf, open], Instant::now() + Duration::from_secs(2)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_deaf_upstream_is_given_up_on_in_time() {
        let (deaf, _kept) = deaf();
        let endpoint = Endpoint::new(false, "127.0.0.1", deaf.port(), "").unwrap();
        let limit = Duration::from_millis(300);
        let error = connect(&endpoint, &Tls::system(), limit).await.err().unwrap();
        assert!(error.is_connect());
        assert_eq!(
            error.to_string(),
            format!("http://127.0.0.1:{}: no connection within 300 ms", deaf.port())
        );
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_not_a_connect_failure() {
        let error = first_open(&[], Instant::now() + Duration::from_secs(3)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
