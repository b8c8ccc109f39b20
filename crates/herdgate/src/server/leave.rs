//! How a listener is closed without losing anybody: closing one resets every connection that waits in its queue.
//!
//! So new connections are turned away first (by a filter that drops their first packet, which the client sends again a
//! second later, to nobody or to the next gate), then the queue is emptied, and only then is the listener closed.

use socket2::{SockFilter, SockRef};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout_at};

/// How long handshakes that had begun have to end.
const SETTLE: Duration = Duration::from_millis(200);
/// How long the queue may be held up by want of descriptors, and the rest between two tries.
const PATIENCE: Duration = Duration::from_secs(5);
const REST: Duration = Duration::from_millis(50);

/// Closes `listener` once all whose connection the kernel has accepted were handed to `serve`. One that `is_lent` stays
/// open elsewhere: whoever comes later waits there, and nobody is turned away.
pub(super) async fn close(
    listener: TcpListener,
    is_lent: bool,
    mut serve: impl AsyncFnMut(TcpStream, IpAddr),
) {
    let begun = Instant::now();
    let mut settled = begun + SETTLE;
    if is_lent {
        settled = begun;
    } else if let Err(error) = SockRef::from(&listener).attach_filter(&no_new_ones()) {
        tracing::debug!("new connections cannot be turned away before the listener closes: {error}");
    }
    // Under load there is always one more at a socket that stays open.
    while !is_lent || begun.elapsed() < SETTLE {
        let accepted = match timeout_at(settled, listener.accept()).await {
            Ok(accepted) => accepted,
            Err(_settled) => return,
        };
        match accepted {
            Ok((stream, peer)) => serve(stream, peer.ip()).await,
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
            // Descriptors come back as requests end.
            Err(_short) if Instant::now() < settled + PATIENCE => tokio::time::sleep(REST).await,
            Err(error) => return tracing::warn!("cannot accept all of those who waited: {error}"),
        }
    }
}

/// Drops TCP packets with SYN and without ACK, keeps all others. On a listening socket a filter sees the packet from its
/// TCP header on (`tcp_v4_rcv`, `tcp_v6_rcv`); the flags are its 14th byte (RFC 9293, section 3.1).
fn no_new_ones() -> [SockFilter; 5] {
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream as Blocking;

    #[test]
    fn who_is_in_the_queue_is_served_and_who_comes_later_is_refused() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let waiting: Vec<_> = (0..20).map(|_| Blocking::connect(address).unwrap()).collect();
            let mut served = Vec::new();
            close(listener, false, async |stream, _peer| served.push(stream)).await;
            assert_eq!(served.len(), waiting.len());
            for (stream, mut client) in served.into_iter().zip(waiting) {
                let mut stream = stream.into_std().unwrap();
                stream.write_all(b"x").unwrap();
                client.read_exact(&mut [0]).unwrap();
            }
            let late = Blocking::connect(address).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::ConnectionRefused);
        });
    }

    #[test]
    fn nobody_who_connects_while_it_closes_is_reset() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let client = std::thread::spawn(move || {
                let mut connected = Vec::new();
                while let Ok(stream) = Blocking::connect_timeout(&address, SETTLE / 2) {
                    connected.push(stream);
                }
                connected
            });
            tokio::task::yield_now().await;
            let mut served = Vec::new();
            close(listener, false, async |stream, _peer| served.push(stream)).await;
            let connected = tokio::task::spawn_blocking(|| client.join().unwrap()).await.unwrap();
            assert_eq!(served.len(), connected.len());
        });
    }
}
