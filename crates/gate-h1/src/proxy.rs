//! Version 2 of the PROXY protocol (`proxy-protocol.txt` of HAProxy, section 2.2): what a proxy says of a connection before the
//! first byte of it. Pure, bytes in; only what a trusted proxy sends is ever read as one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a proxy said of a connection before its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// Where the client is; none where the proxy asks for itself, or the client has no address.
    pub source: Option<IpAddr>,
    /// The client speaks TLS with the proxy.
    pub is_tls: bool,
}

/// What such a header begins with: nothing that HTTP or TLS could begin with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Its first byte, by which it is told from both.
pub const FIRST: u8 = SIGNATURE[0];
/// Bytes up to where it says how long the rest is.
pub const FIXED: usize = 16;
/// Bytes of the rest: addresses have 36, and what some clouds add to them some hundred.
pub const MOST: usize = 4096;

/// The type of what is said of TLS, and the bit of its first byte that says that the client speaks it (section 2.2.6).
const OF_TLS: u8 = 0x20;
const CLIENT_TLS: u8 = 0x01;

/// How many bytes follow the fixed ones; none where they are no such header, or one that is too long.
#[must_use]
pub fn rest(fixed: &[u8; FIXED]) -> Option<usize> {
    let [.., command, _family, high, low] = *fixed;
    let rest = usize::from(u16::from_be_bytes([high, low]));
    (fixed.starts_with(&SIGNATURE) && matches!(command, 0x20 | 0x21) && rest <= MOST).then_some(rest)
}

/// What the header says; `rest` is as long as it said. None where it is cut short within itself.
#[must_use]
pub fn read(fixed: &[u8; FIXED], rest: &[u8]) -> Option<Announced> {
    let [.., command, family, _, _] = *fixed;
    // A proxy that asks for itself, to see whether anybody is there, is the client.
    if command == 0x20 {
        return Some(Announced { source: None, is_tls: false });
    }
    let (source, addresses): (Option<IpAddr>, usize) = match family {
        0x11 => (Some(Ipv4Addr::from(*rest.first_chunk::<4>()?).into()), 12),
        0x21 => (Some(Ipv6Addr::from(*rest.first_chunk::<16>()?).into()), 36),
        // No TCP over IP: the header says nothing of an address that could be counted.
        _ => return Some(Announced { source: None, is_tls: false }),
    };
    let is_tls = is_tls(rest.get(addresses..)?)?;
    Some(Announced { source: source.map(|ip| ip.to_canonical()), is_tls })
}

/// Whether one of the values says that the client speaks TLS.
fn is_tls(mut values: &[u8]) -> Option<bool> {
    let mut is_tls = false;
    while let [kind, high, low, rest @ ..] = values {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let value = rest.get(..length)?;
        is_tls |= *kind == OF_TLS && value.first().is_some_and(|client| client & CLIENT_TLS != 0);
        values = &rest[length..];
    }
    values.is_empty().then_some(is_tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> ([u8; FIXED], Vec<u8>) {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        let fixed = [&SIGNATURE[..], &[command, family], &length].concat();
        (fixed.try_into().unwrap(), rest.to_vec())
    }

    fn told(command: u8, family: u8, parts: &[&[u8]]) -> Option<(Option<String>, bool)> {
        let (fixed, all) = header(command, family, &parts.concat());
        assert_eq!(rest(&fixed), Some(all.len()));
        read(&fixed, &all).map(|told| (told.source.map(|ip| ip.to_string()), told.is_tls))
    }

    const V4: &[u8] = &[203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x34, 0, 80];

    #[test]
    fn the_source_and_what_is_said_of_tls() {
        let four = || Some("203.0.113.9".to_owned());
        assert_eq!(told(0x21, 0x11, &[V4]), Some((four(), false)));
        let tls = [0x20, 0, 5, 1, 0, 0, 0, 0];
        assert_eq!(told(0x21, 0x11, &[V4, &[4, 0, 1, 0], &tls]), Some((four(), true)));
        assert_eq!(
            told(0x21, 0x11, &[V4, &[0x20, 0, 5, 6, 0, 0, 0, 0]]),
            Some((four(), false)),
            "no client's TLS"
        );
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&"2001:db8::9".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(told(0x21, 0x21, &[&v6]), Some((Some("2001:db8::9".into()), false)));
        v6[..16].copy_from_slice(&Ipv4Addr::new(203, 0, 113, 9).to_ipv6_mapped().octets());
        assert_eq!(told(0x21, 0x21, &[&v6]), Some((four(), false)));
    }

    #[test]
    fn a_proxy_that_asks_for_itself_names_nobody() {
        for (command, family, rest) in
            [(0x20, 0x11, V4), (0x20, 0, &[][..]), (0x21, 0, &[]), (0x21, 0x31, &[0; 216])]
        {
            assert_eq!(told(command, family, &[rest]), Some((None, false)));
        }
    }

    #[test]
    fn what_is_cut_short_or_no_such_header_is_none() {
        for end in 0..V4.len() {
            assert_eq!(told(0x21, 0x11, &[&V4[..end]]), None, "{end}");
        }
        for values in [&[4][..], &[4, 0], &[4, 0, 2, 1], &[4, 255, 255]] {
            assert_eq!(told(0x21, 0x11, &[V4, values]), None, "{values:?}");
        }
        for at in 0..FIXED {
            let (mut fixed, _) = header(0x21, 0x11, V4);
            fixed[at] ^= 0x40;
            assert!(at == 13 || at == 15 || rest(&fixed).is_none(), "{at}");
        }
    }
}
