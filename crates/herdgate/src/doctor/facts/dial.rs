//! Connecting: does somebody listen, is it refused, or does nothing come back; and where it fails, what stands around it.

use crate::together::together;
use gate_config::Listen;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For one address: three tries of TCP (RFC 6298, section 2: the first is repeated after a second, then after two).
pub(super) const TIME: Duration = Duration::from_millis(3500);
/// Addresses of one name.
const MOST: usize = 8;
/// A machine that answers at all says something at one of these: ssh, web, and one that nobody has.
const OTHERS: [u16; 4] = [22, 80, 443, 1];
/// Where Ollama, and the gate, listen unless they are told otherwise.
const USUAL: [u16; 2] = [11434, Listen::DEFAULT.address.port()];
/// A router or firewall says no within a moment; that nobody has an address takes the kernel three seconds (arp(7)).
const MOMENT: Duration = Duration::from_secs(1);

/// How connecting ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::doctor) enum End {
    /// Somebody listens.
    Open,
    /// The machine is there, and nobody listens on the port, or a firewall says so.
    Refused,
    /// A firewall or router turned it away.
    Filtered,
    /// Nobody has this address, as far as the network knows.
    Unreachable,
    /// This machine knows no way there.
    NoRoute,
    /// Nothing came back.
    Silent,
    /// Something else.
    Other(String),
}

/// One try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::doctor) struct Dial {
    pub(in crate::doctor) address: SocketAddr,
    pub(in crate::doctor) end: End,
    pub(in crate::doctor) micros: u64,
}

/// What was seen around an address that could not be connected to.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Around {
    /// Whether somebody listens on the same port of this machine's loopback.
    pub(in crate::doctor) loopback_listens: bool,
    /// Whether anything came back from another port there.
    pub(in crate::doctor) other_ports_answer: bool,
    /// Of the ports that Ollama and the gate have by themselves, one that is open there.
    pub(in crate::doctor) usual: Option<u16>,
}

pub(super) async fn dial_all(addresses: &[SocketAddr]) -> Vec<Dial> {
    together(addresses.iter().take(MOST).map(|address| dial(*address, TIME)).collect()).await
}

pub(super) async fn dial(address: SocketAddr, limit: Duration) -> Dial {
    let begun = Instant::now();
    let end = match timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(_stream)) => End::Open,
        Ok(Err(error)) => end_of(&error, begun.elapsed()),
        Err(_late) => End::Silent,
    };
    Dial { address, end, micros: u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX) }
}

fn end_of(error: &io::Error, took: Duration) -> End {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => End::Refused,
        io::ErrorKind::HostUnreachable if took < MOMENT => End::Filtered,
        io::ErrorKind::HostUnreachable => End::Unreachable,
        // What a firewall of this machine answers to itself.
        io::ErrorKind::PermissionDenied => End::Filtered,
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => End::NoRoute,
        io::ErrorKind::TimedOut => End::Silent,
        _ => End::Other(error.to_string()),
    }
}

/// Looks around an address that could not be connected to.
pub(super) async fn around(address: SocketAddr, is_own: bool) -> Around {
    let loopback: SocketAddr = ([127, 0, 0, 1], address.port()).into();
    let looks_back = is_own && !address.ip().is_loopback();
    let others = OTHERS.map(|port| dial(SocketAddr::new(address.ip(), port), TIME));
    let usual = USUAL.iter().filter(|port| **port != address.port());
    let usual = usual.map(|port| dial(SocketAddr::new(address.ip(), *port), TIME)).collect();
    let (others, usual, loopback_listens) =
        tokio::join!(together(others.into_iter().collect()), together(usual), async {
            looks_back && dial(loopback, TIME).await.end == End::Open
        });
    let usual = usual.iter().find(|dial| dial.end == End::Open).map(|dial| dial.address.port());
    let answers = |dial: &Dial| matches!(dial.end, End::Open | End::Refused);
    Around { loopback_listens, other_ports_answer: others.iter().any(answers), usual }
}

/// Whether it is this machine's own.
pub(super) fn is_own(ip: IpAddr) -> bool {
    let own = if_addrs::get_if_addrs().unwrap_or_default();
    ip.is_loopback() || own.iter().any(|interface| interface.ip() == ip)
}

/// The address that packets leave from; nothing is sent for it.
pub(super) fn source(to: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 16], 0).into() };
    let socket = std::net::UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}
