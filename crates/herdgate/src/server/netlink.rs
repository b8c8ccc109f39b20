//! What the kernel knows of the network: the routers in all its tables, and who its neighbours are. Asked over a netlink socket
//! (rtnetlink(7)), which answers at once: `/proc/net/route` has the main table alone, and names no router by an address of IPv6.
//!
//! Reads; never changes a route, an address or a neighbour.

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};
use std::io;
use std::net::IpAddr;

/// A router, as a route names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Router {
    pub(super) address: IpAddr,
    /// The interface that it is behind; 0 where the route does not say.
    pub(super) interface: u32,
}

/// Somebody on a link, as the kernel has resolved them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Neighbour {
    pub(super) address: IpAddr,
    pub(super) interface: u32,
    /// The address of the link (MAC); never all zero.
    pub(super) hardware: Box<[u8]>,
}

/// All routers of all tables and families.
///
/// # Errors
/// Where the kernel does not tell.
pub(super) fn routers() -> io::Result<Vec<Router>> {
    let mut all = Vec::new();
    ask(ROUTES, |route| routers_of_route(route, &mut all))?;
    // Where `net.ipv4.nexthop_compat_mode` is 0 routes name their routers by number alone. Kernels before 5.3 know none of these.
    match ask(NEXTHOPS, |nexthop| all.extend(router_of_nexthop(nexthop))) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => {
            return Err(error);
        }
        Ok(()) | Err(_) => {}
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// All neighbours that are resolved.
///
/// # Errors
/// Where the kernel does not tell.
pub(super) fn neighbours() -> io::Result<Vec<Neighbour>> {
    let mut all = Vec::new();
    ask(NEIGHBOURS, |entry| all.extend(neighbour(entry)))?;
    Ok(all)
}

/// A list that can be asked for: the type of the question, that of each answer, and the bytes of what stands in front of an
/// answer's attributes (linux/rtnetlink.h, linux/neighbour.h, linux/nexthop.h).
#[derive(Clone, Copy)]
struct List {
    ask: u16,
    item: u16,
    fixed: usize,
}

const ROUTES: List = List { ask: 26, item: 24, fixed: 12 };
const NEIGHBOURS: List = List { ask: 30, item: 28, fixed: 12 };
const NEXTHOPS: List = List { ask: 106, item: 104, fixed: 8 };

/// Bytes of the header of a message, and the types and flags in it (linux/netlink.h).
const HEADER: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST_DUMP: u16 = 0x301;
/// The list changed while it was told.
const INTERRUPTED: u16 = 0x10;
/// How often a list is asked for that changes meanwhile.
const TRIES: usize = 3;
/// What the kernel fills at most in one turn.
const TURN: usize = 32 << 10;

/// Gives each item of the list, from behind its message's header on.
fn ask(list: List, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    for _ in 0..TRIES {
        if ask_once(list, &mut each)? {
            return Ok(());
        }
    }
    Err(io::Error::other("the network changes all the time"))
}

/// Whether the list held still; items of one that did not are good as far as they go.
fn ask_once(list: List, each: &mut impl FnMut(&[u8])) -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Routes are the protocol of number 0.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    // All families, and nothing else that would narrow it.
    let mut question = vec![0; HEADER + list.fixed];
    let length = u32::try_from(question.len()).map_err(io::Error::other)?;
    question[..4].copy_from_slice(&length.to_ne_bytes());
    question[4..6].copy_from_slice(&list.ask.to_ne_bytes());
    question[6..8].copy_from_slice(&REQUEST_DUMP.to_ne_bytes());
    sendto(&socket, &question, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut turn = vec![0; TURN];
    let mut is_whole = true;
    loop {
        let (_, length) = recv(&socket, &mut turn[..], RecvFlags::TRUNC)?;
        let told = turn.get(..length).filter(|told| !told.is_empty());
        for message in messages(told.ok_or(io::ErrorKind::UnexpectedEof)?) {
            is_whole &= message.flags & INTERRUPTED == 0;
            match message.kind {
                DONE | ERROR => match i32_at(message.body, 0).unwrap_or(0) {
                    0 => return Ok(is_whole),
                    error => return Err(io::Error::from_raw_os_error(error.saturating_neg())),
                },
                kind if kind == list.item => each(message.body),
                _ => {}
            }
        }
    }
}

struct Message<'b> {
    kind: u16,
    flags: u16,
    body: &'b [u8],
}

fn messages(bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    parts(bytes, HEADER, |head| usize::try_from(u32_at(head, 0)?).ok())
        .filter_map(|(head, body)| Some(Message { kind: u16_at(head, 4)?, flags: u16_at(head, 6)?, body }))
}

/// Attributes by their types, without the bits that say how to read them.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let all = parts(bytes, 4, |head| u16_at(head, 0).map(usize::from));
    all.filter_map(|(head, value)| Some((u16_at(head, 2)? & 0x3fff, value)))
}

/// Cuts what stands one behind the other, each aligned to four bytes: a head of `fixed` bytes that says how long it is with its
/// body, and that body. Ends where they are not what they say.
fn parts(
    mut bytes: &[u8],
    fixed: usize,
    length: impl Fn(&[u8]) -> Option<usize>,
) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let length = length(bytes.get(..fixed)?)?;
        let (head, body) = bytes.get(..length)?.split_at_checked(fixed)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((head, body))
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Only an address of its family's length is one; that of nobody is none.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let ip = match bytes.len() {
        4 => IpAddr::from(*bytes.first_chunk::<4>()?),
        16 => IpAddr::from(*bytes.first_chunk::<16>()?).to_canonical(),
        _ => return None,
    };
    Some(ip).filter(|ip| !ip.is_unspecified())
}

/// Attributes of a route.
const OUT: u16 = 4;
const GATEWAY: u16 = 5;
const MULTIPATH: u16 = 9;
const VIA: u16 = 18;

fn routers_of_route(route: &[u8], into: &mut Vec<Router>) {
    let Some(described) = route.get(ROUTES.fixed..) else { return };
    routers_among(described, 0, into);
    // One route by several routers: each with its interface in its head, and attributes of its own.
    for (_, paths) in attributes(described).filter(|(kind, _)| *kind == MULTIPATH) {
        for (head, own) in parts(paths, 8, |head| u16_at(head, 0).map(usize::from)) {
            routers_among(own, u32_at(head, 4).unwrap_or(0), into);
        }
    }
}

fn routers_among(described: &[u8], interface: u32, into: &mut Vec<Router>) {
    let out = attributes(described).find(|(kind, _)| *kind == OUT).and_then(|(_, value)| u32_at(value, 0));
    let interface = out.unwrap_or(interface);
    let addresses = attributes(described).filter_map(|(kind, value)| match kind {
        GATEWAY => address(value),
        // A router of another family than the route's: that family stands in front.
        VIA => address(value.get(2..)?),
        _ => None,
    });
    into.extend(addresses.map(|address| Router { address, interface }));
}

fn router_of_nexthop(nexthop: &[u8]) -> Option<Router> {
    const OUT: u16 = 5;
    const GATEWAY: u16 = 6;
    let described = nexthop.get(NEXTHOPS.fixed..)?;
    let value = |wanted| attributes(described).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let interface = value(OUT).and_then(|value| u32_at(value, 0)).unwrap_or(0);
    Some(Router { address: address(value(GATEWAY)?)?, interface })
}

fn neighbour(entry: &[u8]) -> Option<Neighbour> {
    const ADDRESS: u16 = 1;
    const HARDWARE: u16 = 2;
    let interface = u32_at(entry, 4)?;
    let described = entry.get(NEIGHBOURS.fixed..)?;
    let value = |wanted| attributes(described).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let hardware = value(HARDWARE).filter(|hardware| hardware.iter().any(|byte| *byte != 0))?;
    Some(Neighbour { address: address(value(ADDRESS)?)?, interface, hardware: hardware.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut made = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
        made.resize(made.len().next_multiple_of(4), 0);
        made
    }

    fn routers_in(attributes: &[Vec<u8>]) -> Vec<String> {
        let route = [&[0; 12][..], &attributes.concat()].concat();
        let mut all = Vec::new();
        routers_of_route(&route, &mut all);
        all.iter().map(|router| format!("{}%{}", router.address, router.interface)).collect()
    }

    fn ip6(text: &str) -> Vec<u8> {
        text.parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec()
    }

    #[test]
    fn routers_of_each_form_of_route() {
        let out = attribute(OUT, &7_u32.to_ne_bytes());
        let by = |ip: &[u8]| attribute(GATEWAY, ip);
        assert_eq!(routers_in(&[attribute(1, &[10, 0, 0, 0]), out.clone()]), Vec::<String>::new());
        assert_eq!(routers_in(&[out.clone(), by(&[172, 18, 0, 1])]), ["172.18.0.1%7"]);
        assert_eq!(routers_in(&[by(&ip6("fe80::1")), out.clone()]), ["fe80::1%7"]);
        let via = [&10_u16.to_ne_bytes()[..], &ip6("fe80::2")].concat();
        assert_eq!(routers_in(&[attribute(VIA, &via), out.clone()]), ["fe80::2%7"]);
        let path = |interface: u32, gateway: &[u8]| {
            let own = by(gateway);
            let length = u16::try_from(8 + own.len()).unwrap().to_ne_bytes();
            [&length[..], &[0, 0], &interface.to_ne_bytes(), &own].concat()
        };
        let paths = [path(3, &[10, 0, 0, 1]), path(4, &ip6("fe80::3"))].concat();
        assert_eq!(routers_in(&[attribute(MULTIPATH, &paths)]), ["10.0.0.1%3", "fe80::3%4"]);
        assert_eq!(routers_in(&[by(&[0; 4]), by(&[1, 2, 3])]), Vec::<String>::new(), "nobody's");
        let nexthop =
            [&[0; 8][..], &attribute(5, &9_u32.to_ne_bytes()), &attribute(6, &ip6("fe80::4"))].concat();
        let router = Router { address: "fe80::4".parse().unwrap(), interface: 9 };
        assert_eq!(router_of_nexthop(&nexthop), Some(router));
        let blackhole = [&[0; 8][..], &attribute(4, &[])].concat();
        assert_eq!(router_of_nexthop(&blackhole), None);
    }

    #[test]
    fn neighbours_are_those_with_an_address_of_their_link() {
        let entry = |hardware: &[u8]| {
            let fixed = [&[2, 0, 0, 0][..], &3_u32.to_ne_bytes(), &[2, 0, 0, 0]].concat();
            [fixed, attribute(1, &[172, 18, 0, 9]), attribute(2, hardware)].concat()
        };
        let found = neighbour(&entry(&[2, 0, 0, 0, 0, 9])).unwrap();
        assert_eq!((found.address.to_string(), found.interface), ("172.18.0.9".into(), 3));
        assert_eq!(*found.hardware, [2, 0, 0, 0, 0, 9]);
        assert_eq!(neighbour(&entry(&[0; 6])), None, "a loopback's");
        assert_eq!(neighbour(&entry(&[])), None, "not resolved");
    }

    #[test]
    fn what_is_cut_short_or_says_nonsense_of_itself_ends_there() {
        let route = [attribute(OUT, &7_u32.to_ne_bytes()), attribute(GATEWAY, &[10, 0, 0, 1])].concat();
        for end in 0..route.len() {
            assert_eq!(attributes(&route[..end]).count(), end / 8, "{end}");
        }
        for length in [0_u16, 3, 9, u16::MAX] {
            let bytes = [&length.to_ne_bytes()[..], &[5, 0, 1, 2, 3, 4]].concat();
            assert_eq!(attributes(&bytes).count(), 0, "{length}");
        }
        assert_eq!(messages(&[0; 64]).count(), 0);
    }

    #[test]
    fn this_machines_kernel_tells() {
        routers().unwrap();
        neighbours().unwrap();
    }
}
