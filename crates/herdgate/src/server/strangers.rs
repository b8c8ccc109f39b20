//! From which addresses nobody is let in without a key, though they lie in a network that is named: where others may stand. These
//! change with the machine's network, so they are looked at anew every two seconds, and by who connects.
//!
//! An address that is refused is this machine's own, a router's, or the first of a network. A router has more addresses than the one
//! by which a route names it: so whoever has the link address (MAC) of a router is that router. One that has not told its own may be
//! anybody on its link, and until it has nobody there is let in. Nor where it tells one that routers share (VRRP): what it sends as
//! itself comes from another.
//!
//! A router that the kernel has asked in vain is no exception. It may be there all the same, under another address, and show the world
//! by that one: it was started again and has not been asked since, it has lost the address that the route names, or it is kept
//! from answering.

use super::neighbourhood::Neighbourhood;
use super::netlink::{self, Neighbour, Router};
use anyhow::Context as _;
use arc_swap::ArcSwap;
use gate_proxy::{Standing, Strangers};
use gate_types::Cidr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

/// The addresses from which nobody is let in without a key, at one listener.
#[derive(Debug)]
pub(super) struct Never {
    networks: Vec<Cidr>,
    seen: ArcSwap<Seen>,
    neighbourhood: Arc<Neighbourhood>,
}

impl Never {
    /// Looks at the network as it is now.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub(super) fn of(networks: Vec<Cidr>, neighbourhood: Arc<Neighbourhood>) -> anyhow::Result<Self> {
        let seen = ArcSwap::from_pointee(look(&networks, &neighbourhood)?);
        Ok(Self { networks, seen, neighbourhood })
    }

    /// Looks anew.
    pub(super) fn look(&self) -> anyhow::Result<()> {
        self.seen.store(Arc::new(look(&self.networks, &self.neighbourhood)?));
        Ok(())
    }
}

impl Strangers for Never {
    fn standing(&self, peer: IpAddr, since: Instant) -> Standing {
        let seen = self.seen.load();
        match seen.stands(peer, &self.neighbourhood.told().neighbours) {
            Stands::Elsewhere => return Standing::Anybody,
            Stands::Beside => return Standing::Itself,
            // Who has just come was no neighbour by then; the kernel knows it since it was answered.
            Stands::Unknown | Stands::Unsure => {}
        }
        let told = match self.neighbourhood.told_after(since, Instant::now(), netlink::neighbours) {
            Ok(Some(told)) => told,
            Ok(None) => return Standing::Later,
            Err(error) => {
                tracing::debug!(
                    "{peer} is not let in without a key: this machine's neighbours cannot be read: {error}"
                );
                return Standing::Unsure;
            }
        };
        match seen.stands(peer, &told.neighbours) {
            Stands::Elsewhere => Standing::Anybody,
            Stands::Beside | Stands::Unknown => Standing::Itself,
            Stands::Unsure => {
                let routers: Vec<IpAddr> =
                    hidden(&seen.routers, &told.neighbours).map(|router| router.address).collect();
                tracing::debug!(
                    "{peer} is not let in without a key: it may be one of the routers {routers:?}, whose link addresses are not \
                     known or shared"
                );
                Standing::Unsure
            }
        }
    }
}

/// The network at one look.
#[derive(Debug, Default)]
struct Seen {
    /// Nobody is let in from these; sorted.
    refused: Vec<IpAddr>,
    routers: Vec<Router>,
}

/// Where a caller stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// At an address that is refused, or it is a router.
    Elsewhere,
    /// On a link of this machine, and it is no router.
    Beside,
    /// On no link, as far as is known: it came as itself by way of others.
    Unknown,
    /// On a link with a router that may be it.
    Unsure,
}

impl Seen {
    /// Where `peer` stands among these neighbours. Decides only.
    fn stands(&self, peer: IpAddr, neighbours: &[Neighbour]) -> Stands {
        if self.refused.binary_search(&peer).is_ok() {
            return Stands::Elsewhere;
        }
        let mut stands = Stands::Unknown;
        // One address may be on several links.
        for own in neighbours.iter().filter(|neighbour| neighbour.address == peer) {
            let is_own = |found: &Neighbour| found.hardware == own.hardware;
            if self.routers.iter().any(|router| resolved(router, neighbours).any(is_own)) {
                return Stands::Elsewhere;
            }
            let may_be = |router: &Router| router.interface == 0 || router.interface == own.interface;
            if hidden(&self.routers, neighbours).any(may_be) {
                stands = Stands::Unsure;
            } else if stands == Stands::Unknown {
                stands = Stands::Beside;
            }
        }
        stands
    }
}

/// The router among the neighbours.
fn resolved<'a>(router: &'a Router, neighbours: &'a [Neighbour]) -> impl Iterator<Item = &'a Neighbour> {
    neighbours.iter().filter(|neighbour| {
        neighbour.address == router.address
            && (router.interface == 0 || router.interface == neighbour.interface)
    })
}

/// Routers whose link address is not known.
fn silent<'a>(routers: &'a [Router], neighbours: &'a [Neighbour]) -> impl Iterator<Item = &'a Router> {
    routers.iter().filter(|router| resolved(router, neighbours).next().is_none())
}

/// Routers that cannot be told from others on their link: silent ones, and those whose link address is not theirs alone.
fn hidden<'a>(routers: &'a [Router], neighbours: &'a [Neighbour]) -> impl Iterator<Item = &'a Router> {
    let is_shared = |router: &&Router| resolved(router, neighbours).any(|found| is_virtual(&found.hardware));
    let shared = routers.iter().filter(is_shared);
    silent(routers, neighbours).chain(shared)
}

/// Link addresses that whichever router is in charge answers with: VRRP and CARP (RFC 9568, 7.3), HSRP and GLBP.
const VIRTUAL: [&[u8]; 6] = [
    &[0x00, 0x00, 0x5e, 0x00, 0x01],
    &[0x00, 0x00, 0x5e, 0x00, 0x02],
    &[0x00, 0x00, 0x0c, 0x07, 0xac],
    &[0x00, 0x00, 0x0c, 0x9f],
    &[0x00, 0x05, 0x73, 0xa0],
    &[0x00, 0x07, 0xb4, 0x00],
];

fn is_virtual(hardware: &[u8]) -> bool {
    VIRTUAL.iter().any(|start| hardware.starts_with(start))
}

/// Looks at addresses, routes and neighbours; the kernel is made to ask for routers that it has not resolved.
fn look(networks: &[Cidr], neighbourhood: &Neighbourhood) -> anyhow::Result<Seen> {
    let interfaces = if_addrs::get_if_addrs().context("the addresses of this machine cannot be read")?;
    let own = interfaces.iter().filter(|interface| !interface.is_loopback()).map(|interface| {
        let (ip, bits) = match &interface.addr {
            if_addrs::IfAddr::V4(v4) => (IpAddr::V4(v4.ip), v4.prefixlen),
            if_addrs::IfAddr::V6(v6) => (IpAddr::V6(v6.ip), v6.prefixlen),
        };
        (ip, Cidr::of(ip, bits))
    });
    let own: Vec<(IpAddr, Option<Cidr>)> = own.collect();
    let routers = netlink::routers().context("the routes of this machine cannot be read")?;
    let told = neighbourhood.renew(Instant::now(), netlink::neighbours);
    let told = told.context("the neighbours of this machine cannot be read")?;
    silent(&routers, &told.neighbours).for_each(wake);
    let firsts = own.iter().filter_map(|(_, network)| *network).chain(networks.iter().copied());
    let firsts = firsts.filter_map(|network| network.first_host());
    let routed = routers.iter().map(|router| router.address);
    let mut refused: Vec<IpAddr> = own.iter().map(|(ip, _)| *ip).chain(firsts).chain(routed).collect();
    refused.retain(|ip| !ip.is_loopback());
    refused.sort_unstable();
    refused.dedup();
    Ok(Seen { refused, routers })
}

/// Sends an empty datagram to the port where everything is thrown away (RFC 863), for which the kernel must ask the router for its
/// link address. A router that is not there has none, and then nothing is sent.
fn wake(router: &Router) {
    const DISCARD: u16 = 9;
    let (own, to): (IpAddr, SocketAddr) = match router.address {
        IpAddr::V4(ip) => (Ipv4Addr::UNSPECIFIED.into(), (ip, DISCARD).into()),
        IpAddr::V6(ip) => {
            (Ipv6Addr::UNSPECIFIED.into(), SocketAddrV6::new(ip, DISCARD, 0, router.interface).into())
        }
    };
    let sent = UdpSocket::bind((own, 0)).and_then(|socket| socket.send_to(&[], to));
    if let Err(error) = sent {
        tracing::debug!("the router {} cannot be asked for its link address: {error}", router.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn router(address: &str, interface: u32) -> Router {
        Router { address: ip(address), interface }
    }

    fn neighbour(address: &str, interface: u32, hardware: u8) -> Neighbour {
        Neighbour { address: ip(address), interface, hardware: Box::new([2, 0, 0, 0, 0, hardware]) }
    }

    #[test]
    fn whoever_is_a_router_stands_elsewhere_by_whatever_address() {
        let routers = [
            router("fe80::1", 2),
            router("fe80::2", 0),
            router("fe80::7", 3),
            router("10.0.0.254", 5),
            router("fd77::254", 6),
        ];
        let refused = vec![ip("172.18.0.1"), ip("172.18.0.3")];
        let seen = Seen { refused, routers: routers.to_vec() };
        let known = [
            neighbour("fe80::1", 2, 1),
            neighbour("fe80::1", 4, 0x44), // another of that name, on a link where no route leads
            neighbour("fe80::2", 2, 2),
            neighbour("172.18.0.9", 2, 9),
            neighbour("172.18.0.51", 2, 1),
            neighbour("fd00::51", 4, 1),
            neighbour("172.18.0.52", 2, 2),
            neighbour("172.18.0.44", 2, 0x44),
            neighbour("10.0.0.7", 3, 7),
            neighbour("10.0.0.8", 5, 8),
            neighbour("fd77::20", 6, 0x20),
            neighbour("10.0.0.9", 7, 9),
        ];
        for (peer, expected) in [
            ("172.18.0.1", Stands::Elsewhere),
            ("172.18.0.3", Stands::Elsewhere),
            ("172.18.0.9", Stands::Beside),
            ("172.18.0.51", Stands::Elsewhere),
            ("fd00::51", Stands::Elsewhere), // the same router, on another of its links
            ("172.18.0.52", Stands::Elsewhere),
            ("172.18.0.44", Stands::Beside),
            ("10.0.0.7", Stands::Unsure), // fe80::7 is silent there
            ("10.0.0.8", Stands::Unsure),
            ("fd77::20", Stands::Unsure),
            ("10.0.0.9", Stands::Beside), // where no route leads
            ("172.18.0.10", Stands::Unknown),
        ] {
            assert_eq!(seen.stands(ip(peer), &known), expected, "{peer}");
        }
        assert_eq!(silent(&routers, &known).collect::<Vec<_>>(), routers[2..].iter().collect::<Vec<_>>());
        let unheard = &known[3..4];
        assert_eq!(seen.stands(ip("172.18.0.9"), unheard), Stands::Unsure, "no router has told");
        let none = Seen::default();
        assert_eq!(none.stands(ip("172.18.0.9"), &known), Stands::Beside);
    }

    #[test]
    fn a_router_that_tells_its_link_address_is_told_from_others() {
        for (address, peer) in
            [("10.0.0.254", "10.0.0.20"), ("fd77::254", "fd77::20"), ("fe80::1", "fd77::20")]
        {
            let seen = Seen { routers: vec![router(address, 5)], ..Seen::default() };
            let beside = [neighbour(peer, 5, 0x20), neighbour("10.0.0.8", 5, 8)];
            let stands = |told: &[Neighbour], peer| seen.stands(ip(peer), &[&beside[..], told].concat());
            assert_eq!(stands(&[], peer), Stands::Unsure, "{address}");
            assert_eq!(stands(&[], "10.0.0.8"), Stands::Unsure, "{address}");
            let told = [neighbour(address, 5, 0x20)];
            assert_eq!(stands(&told, peer), Stands::Elsewhere, "{address}");
            assert_eq!(stands(&told, "10.0.0.8"), Stands::Beside, "{address}");
            for shared in ["00005e000107", "00005e000201", "00000c07ac0a", "00000c9ff001", "000573a00001"] {
                let bytes = (0..6).map(|at| u8::from_str_radix(&shared[2 * at..2 * at + 2], 16).unwrap());
                let told = [Neighbour { hardware: bytes.collect(), ..told[0].clone() }];
                assert_eq!(stands(&told, "10.0.0.8"), Stands::Unsure, "{address} has {shared}");
                assert_eq!(silent(&seen.routers, &told).count(), 0, "it has been asked");
            }
        }
    }

    #[test]
    fn this_machines_own_addresses_are_refused_and_loopback_is_not() {
        let neighbourhood = Neighbourhood::of(Instant::now(), netlink::neighbours).unwrap();
        let seen = look(&["172.18.0.0/24".parse().unwrap()], &neighbourhood).unwrap();
        assert!(seen.refused.contains(&ip("172.18.0.1")));
        for interface in if_addrs::get_if_addrs().unwrap() {
            let is_refused = seen.refused.contains(&interface.ip());
            assert_eq!(is_refused, !interface.is_loopback(), "{}", interface.ip());
        }
    }
}
