//! Listening sockets: one per core on each address. The first bind of an address is exclusive, so that a second herdgate
//! fails instead of taking half of the connections; only then is the port opened to the sockets of the other cores.

use super::handover::{Sockets, Taken};
use super::holder;
use anyhow::{Context as _, anyhow};
use gate_config::{Listen, Listener};
use listenfd::ListenFd;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

/// Connections that wait to be accepted, per socket. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The sockets of one address, one per core, and the address that they are bound to (port 0 resolved).
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) address: SocketAddr,
    pub(crate) sockets: Vec<TcpListener>,
    /// Somebody else, such as systemd, holds it too, and goes on listening when the gate has ended.
    pub(crate) is_lent: bool,
    /// What the settings say of it.
    pub(crate) listener: Listener,
}

/// What says where to listen, and cures an address that cannot be had.
#[derive(Debug, Clone, Copy)]
pub(super) enum SetBy {
    /// `--listen`, and the settings of that kind.
    Listen,
    /// `metrics.address`.
    Metrics,
}

/// The listening sockets that the process was started with (`sd_listen_fds(3)`), none where there are none. It is too late
/// to give such a port a socket for each core, so all cores accept from the same one: whoever is free does.
///
/// # Errors
/// Where one of them is no listening TCP socket.
fn lent(listeners: &[Listener], cores: usize) -> anyhow::Result<Vec<Bound>> {
    let mut given = ListenFd::from_env();
    (0..given.len())
        .map(|place| {
            let socket = given.take_tcp_listener(place)?.context("was taken already")?;
            let kind = SockRef::from(&socket);
            anyhow::ensure!(kind.is_listener()?, "does not listen");
            kind.set_nonblocking(true)?;
            let address = socket.local_addr()?;
            let copies = (1..cores).map(|_| socket.try_clone()).collect::<io::Result<Vec<_>>>()?;
            let listener = of_address(listeners, address);
            Ok(Bound {
                address,
                sockets: std::iter::once(socket).chain(copies).collect(),
                is_lent: true,
                listener,
            })
        })
        .enumerate()
        .map(|(place, bound)| {
            bound.with_context(|| format!("socket {place} of those that the service manager handed over"))
        })
        .collect()
}

/// The sockets that the service manager gave, else those of the settings. What a gate before this one had is taken from it.
///
/// # Errors
/// As [`lent`] and [`listen`].
pub(super) fn all(listeners: &[Listener], cores: usize, before: &mut Taken) -> anyhow::Result<Vec<Bound>> {
    let mut given = lent(listeners, cores)?;
    for sockets in before.lent() {
        let bound = taken(sockets, cores)?;
        given.push(Bound { listener: of_address(listeners, bound.address), ..bound });
    }
    if !given.is_empty() {
        return Ok(given);
    }
    let bind = |listener: &Listener| {
        let bound = match before.listener(&listener.address.to_string()) {
            Some(sockets) => taken(sockets, cores)?,
            None => listen(&listener.address, cores, SetBy::Listen)?,
        };
        Ok(Bound { listener: listener.clone(), ..bound })
    };
    listeners.iter().map(bind).collect()
}

/// The listener of the metrics alone.
///
/// # Errors
/// As [`listen`].
pub(super) fn metrics(door: &Listen, before: &mut Taken) -> anyhow::Result<Bound> {
    match before.metrics(&door.to_string()) {
        Some(sockets) => taken(sockets, 1),
        None => listen(door, 1, SetBy::Metrics),
    }
}

/// The sockets of a gate before this one, at least one for each core: connections wait at every one of them.
fn taken(from: Sockets, cores: usize) -> anyhow::Result<Bound> {
    let Sockets { mut sockets, is_lent, .. } = from;
    let first = sockets.first().context("a listener without a socket was handed over")?;
    let address = first.local_addr()?;
    for place in sockets.len()..cores {
        let copy = sockets[place % sockets.len()].try_clone()?;
        sockets.push(copy);
    }
    Ok(Bound { address, sockets, is_lent, listener: Listener::at(Listen { address }) })
}

/// What the settings say of a socket that somebody else has bound: those of the `[[listen]]` with its very address, of which
/// every address may be every one of IPv4 alone. Of any other nothing is known but the address.
fn of_address(listeners: &[Listener], address: SocketAddr) -> Listener {
    let is_it = |listener: &&Listener| {
        let own = listener.address;
        let is_all =
            own.is_everywhere() && address.ip().is_unspecified() && own.address.port() == address.port();
        own.address == address || is_all
    };
    let named = listeners.iter().find(is_it);
    named.cloned().unwrap_or_else(|| Listener::at(Listen { address }))
}

/// Binds what a setting names, for `cores` threads. Where it is the dual-stack default and there is no IPv6, that is all of
/// IPv4 instead.
///
/// # Errors
/// As `bind(2)`, with what to do about it: taken, not an address of this machine, not allowed.
pub(super) fn listen(door: &Listen, cores: usize, set_by: SetBy) -> anyhow::Result<Bound> {
    let bound = match bind(door.address, cores) {
        Err(error) if door.is_everywhere() && lacks_ipv6(&error) => {
            bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), door.address.port()), cores)
        }
        outcome => outcome,
    };
    bound.map_err(|error| cannot_listen(door, set_by, &error))
}

fn bind(address: SocketAddr, cores: usize) -> io::Result<Bound> {
    let first = open(address)?;
    first.bind(&address.into())?;
    first.listen(BACKLOG)?;
    // From here on the port is ours: sockets of this user may join it.
    first.set_reuse_port(cores > 1)?;
    let first = TcpListener::from(first);
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..cores {
        let next = open(address)?;
        next.set_reuse_port(true)?;
        next.bind(&address.into())?;
        next.listen(BACKLOG)?;
        sockets.push(next.into());
    }
    Ok(Bound { address, sockets, is_lent: false, listener: Listener::at(Listen { address }) })
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for old connections in TIME_WAIT; two listeners on one port still exclude each other.
    socket.set_reuse_address(true)?;
    if let SocketAddr::V6(v6) = address {
        socket.set_only_v6(!v6.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported)
        // EAFNOSUPPORT on Linux; the standard library has no kind for it.
        || error.raw_os_error() == Some(97)
}

fn cannot_listen(listen: &Listen, set_by: SetBy, error: &io::Error) -> anyhow::Error {
    let port = listen.address.port();
    match error.kind() {
        ErrorKind::AddrInUse => {
            let holder =
                holder::of(listen.address).map_or_else(String::new, |holder| format!(" by {holder}"));
            let other = SocketAddr::new(listen.address.ip(), if port < u16::MAX { port + 1 } else { 7860 });
            let cure = match set_by {
                SetBy::Listen => format!("with --listen, for example --listen {other}"),
                SetBy::Metrics => format!("in metrics.address, for example \"{other}\""),
            };
            anyhow!(
                "cannot listen on {listen}{}: the port is taken{holder}\n\
                 hint: end that program, or choose another address {cure}",
                if let SetBy::Metrics = set_by { " for the metrics" } else { "" },
            )
        }
        ErrorKind::PermissionDenied if port < 1024 => anyhow!(
            "cannot listen on {listen}: ports below 1024 need a privilege\n\
             hint: use a port of 1024 or above, or grant CAP_NET_BIND_SERVICE"
        ),
        ErrorKind::AddrNotAvailable => anyhow!(
            "cannot listen on {listen}: no interface of this machine has that address\n\
             hint: `ip address` lists them; :{port} listens on all"
        ),
        _ => anyhow!("cannot listen on {listen}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
    }

    #[test]
    fn each_core_has_a_socket_on_the_same_port() {
        let bound = bind(loopback(), 3).unwrap();
        assert_eq!(bound.sockets.len(), 3);
        for socket in &bound.sockets {
            assert_eq!(socket.local_addr().unwrap(), bound.address);
        }
    }

    #[test]
    fn a_second_gate_on_the_port_fails() {
        for cores in [1, 2] {
            let bound = bind(loopback(), cores).unwrap();
            let second = bind(bound.address, cores).unwrap_err();
            assert_eq!(second.kind(), ErrorKind::AddrInUse);
        }
    }

    #[test]
    fn the_cure_of_a_taken_port_names_its_setting() {
        let bound = bind(loopback(), 1).unwrap();
        let door = Listen { address: bound.address };
        let told = |set_by| listen(&door, 1, set_by).unwrap_err().to_string();
        assert!(
            told(SetBy::Listen).contains("hint: end that program, or choose another address with --listen")
        );
        let metrics = told(SetBy::Metrics);
        assert!(metrics.contains("metrics.address") && !metrics.contains("--listen"), "{metrics}");
    }

    #[test]
    fn a_socket_from_elsewhere_has_the_rules_of_its_very_address() {
        let plain = |text: &str| Listener { tls: Some(false), ..Listener::at(text.parse().unwrap()) };
        let listeners = [plain(":80"), plain("10.0.0.1:81"), plain("127.0.0.1:0")];
        let of = |text: &str| of_address(&listeners, text.parse().unwrap()).tls;
        assert_eq!((of("[::]:80"), of("10.0.0.1:81")), (Some(false), Some(false)));
        assert_eq!((of("0.0.0.0:80"), of("0.0.0.0:81")), (Some(false), None));
        assert_eq!((of("10.0.0.1:80"), of("127.0.0.1:4711")), (None, None));
    }

    #[test]
    fn connections_reach_every_core() {
        let bound = bind(loopback(), 2).unwrap();
        let clients: Vec<_> = (0..64).map(|_| std::net::TcpStream::connect(bound.address).unwrap()).collect();
        for socket in &bound.sockets {
            let mut accepted = 0;
            while socket.accept().is_ok() {
                accepted += 1;
            }
            assert!(accepted > 0, "a core without a connection among {}", clients.len());
        }
    }
}
