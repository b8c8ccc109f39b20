//! Asks the network itself for a name that ends in `.local` (RFC 6762): where programs of this machine know none, a person who is told
//! the address can give them one.
//!
//! One question on each network of this machine, heard by who has the name; what comes back is read as strictly as an address
//! needs, and believed only as a proposal.

use super::dns::{A, addresses, question};
use crate::together::together;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Who has the name answers within half a second (RFC 6762, section 6).
const TIME: Duration = Duration::from_millis(1500);
const GROUP: (Ipv4Addr, u16) = (Ipv4Addr::new(224, 0, 0, 251), 5353);
/// Bytes of an answer (section 17), and networks of this machine.
const MOST: usize = 9000;
const NETWORKS: usize = 16;

/// The address of this name, where somebody says that he has it.
pub(super) async fn ask(host: &str) -> Option<Ipv4Addr> {
    let question = question(0, false, host, A)?;
    let networks = if_addrs::get_if_addrs().unwrap_or_default();
    let own = networks.iter().filter_map(|network| match network.ip() {
        IpAddr::V4(ip) if !ip.is_loopback() => Some(ip),
        _ => None,
    });
    let asked = own.take(NETWORKS).map(|own| timeout(TIME, on(own, &question, host))).collect();
    together(asked).await.into_iter().find_map(|heard| heard.ok().flatten())
}

async fn on(own: Ipv4Addr, question: &[u8], host: &str) -> Option<Ipv4Addr> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).ok()?;
    socket.set_multicast_if_v4(&own).ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.bind(&SocketAddr::from((own, 0)).into()).ok()?;
    let socket = UdpSocket::from_std(socket.into()).ok()?;
    socket.send_to(question, GROUP).await.ok()?;
    let mut buffer = vec![0; MOST];
    loop {
        let (length, _from) = socket.recv_from(&mut buffer).await.ok()?;
        let heard = buffer.get(..length).map(|answer| addresses(answer, host)).unwrap_or_default();
        if let Some(IpAddr::V4(address)) = heard.into_iter().find(IpAddr::is_ipv4) {
            return Some(address);
        }
    }
}
