//! Networks as people write them: `172.18.0.0/24`, `fd00::/8`, one address alone; and which of them are nobody else's.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network by its first address and the number of bits that all its addresses share (RFC 4632, RFC 4291 section 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    first: IpAddr,
    bits: u8,
}

/// Why a text is no network, as the end of a sentence that begins with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCidr {
    /// Neither an address nor a network.
    #[error("is no network: write it like 172.18.0.0/24, fd00::/8 or 192.168.1.7")]
    Form,
    /// More bits than the address has, or none that can be read.
    #[error("has no number of bits that an address has: 0 to 32 behind IPv4, 0 to 128 behind IPv6")]
    Bits,
    /// An address in a network where the network's own stands.
    #[error("is an address in {0}: write that, or /{1} for it alone")]
    NotFirst(Cidr, u8),
}

impl Cidr {
    /// The network of that many bits that `ip` is in; none where an address has fewer. An IPv4 address in the form of IPv6
    /// counts as what it is.
    #[must_use]
    pub fn of(ip: IpAddr, bits: u8) -> Option<Self> {
        let ip = ip.to_canonical();
        (bits <= width(ip)).then(|| Cidr { first: first_of(ip, bits), bits })
    }

    /// Whether the address is one of it.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.first.is_ipv4() && first_of(ip, self.bits) == self.first
    }

    /// Whether every address of it is for use within one house, as [`is_public`] knows them.
    #[must_use]
    pub fn is_private(&self) -> bool {
        PRIVATE.iter().any(|(first, bits)| {
            *bits <= self.bits && Cidr { first: *first, bits: *bits }.contains(self.first)
        })
    }

    /// The first address that a host can have: by custom that of the router, and of the machine that holds a bridge of
    /// containers. None where the network is a host, or a link of two.
    #[must_use]
    pub fn first_host(&self) -> Option<IpAddr> {
        if width(self.first) - self.bits < 2 {
            return None;
        }
        Some(match self.first {
            IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() | 1)),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() | 1)),
        })
    }
}

/// Ranges that no router of the internet carries: RFC 1918, RFC 4193, loopback, link-local, and those that providers and
/// overlay networks share (RFC 6598).
const PRIVATE: [(IpAddr, u8); 9] = [
    (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), 12),
    (IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(100, 64, 0, 0)), 10),
    (IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), 7),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
];

/// Whether an address may be anybody's: it is in none of the ranges that are for use within one house.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    !PRIVATE.iter().any(|(first, bits)| Cidr { first: *first, bits: *bits }.contains(ip))
}

fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn first_of(ip: IpAddr, bits: u8) -> IpAddr {
    let left = u32::from(width(ip) - bits);
    match ip {
        IpAddr::V4(ip) => {
            IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & u32::MAX.checked_shl(left).unwrap_or(0)))
        }
        IpAddr::V6(ip) => {
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & u128::MAX.checked_shl(left).unwrap_or(0)))
        }
    }
}

impl FromStr for Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let (address, bits) = match text.trim().split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text.trim(), None),
        };
        let ip: IpAddr = address.parse().map_err(|_| BadCidr::Form)?;
        let bits = match bits {
            None => width(ip),
            Some(bits) if !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().map_err(|_| BadCidr::Bits)?
            }
            Some(_) => return Err(BadCidr::Bits),
        };
        if bits > width(ip) {
            return Err(BadCidr::Bits);
        }
        if ip != ip.to_canonical() {
            return Err(BadCidr::Form);
        }
        let network = Cidr { first: first_of(ip, bits), bits };
        if network.first == ip { Ok(network) } else { Err(BadCidr::NotFirst(network, width(ip))) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bits == width(self.first) {
            return write!(f, "{}", self.first);
        }
        write!(f, "{}/{}", self.first, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn forms() {
        for (text, shown) in [
            ("172.18.0.0/24", "172.18.0.0/24"),
            (" 10.0.0.0/8 ", "10.0.0.0/8"),
            ("192.168.1.7", "192.168.1.7"),
            ("192.168.1.7/32", "192.168.1.7"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("FD00::/8", "fd00::/8"),
            ("::1", "::1"),
        ] {
            assert_eq!(cidr(text).to_string(), shown);
        }
        for text in ["", "gpu1", "172.18.0/24", "[::1]", "::ffff:10.0.0.0/104", "fe80::1%eth0"] {
            assert_eq!(text.parse::<Cidr>(), Err(BadCidr::Form), "{text:?}");
        }
        for text in ["10.0.0.0/", "10.0.0.0/8/8", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/999", "::/129"] {
            assert_eq!(text.parse::<Cidr>(), Err(BadCidr::Bits), "{text:?}");
        }
        let told = "172.18.0.5/24".parse::<Cidr>().unwrap_err().to_string();
        assert_eq!(told, "is an address in 172.18.0.0/24: write that, or /32 for it alone");
    }

    #[test]
    fn an_address_is_in_a_network_or_not() {
        let net = cidr("172.18.0.0/24");
        assert!(net.contains(ip("172.18.0.0")) && net.contains(ip("172.18.0.255")));
        assert!(net.contains(ip("::ffff:172.18.0.9")), "as a dual-stack socket shows it");
        assert!(!net.contains(ip("172.18.1.0")) && !net.contains(ip("172.17.255.255")));
        assert!(!net.contains(ip("::1")) && !cidr("::/0").contains(ip("10.0.0.1")));
        assert!(cidr("0.0.0.0/0").contains(ip("255.255.255.255")));
        assert!(cidr("fd00::/8").contains(ip("fdff::1")) && !cidr("fd00::/8").contains(ip("fe00::1")));
        assert!(cidr("10.1.2.3").contains(ip("10.1.2.3")) && !cidr("10.1.2.3").contains(ip("10.1.2.4")));
        assert_eq!(Cidr::of(ip("172.18.0.9"), 24), Some(net));
        assert_eq!(Cidr::of(ip("172.18.0.9"), 33), None);
    }

    #[test]
    fn public_is_what_is_nobodys_own() {
        for own in [
            "10.255.0.1",
            "172.31.0.1",
            "192.168.0.1",
            "127.0.0.9",
            "169.254.1.1",
            "100.64.0.1",
            "::1",
            "fe80::1",
            "fd12::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_public(ip(own)), "{own}");
        }
        for public in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "192.169.0.1",
            "2001:db8::1",
            "::ffff:8.8.8.8",
            "0.0.0.0",
            "::",
        ] {
            assert!(is_public(ip(public)), "{public}");
        }
        for (net, is_private) in [
            ("10.0.0.0/8", true),
            ("10.0.0.0/7", false),
            ("0.0.0.0/0", false),
            ("172.16.0.0/11", false),
            ("fd00::/8", true),
            ("::/0", false),
        ] {
            let net: Cidr = net.parse().unwrap_or_else(|_| Cidr::of(ip("172.16.0.0"), 11).unwrap());
            assert_eq!(net.is_private(), is_private, "{net}");
        }
    }

    #[test]
    fn the_routers_usual_place() {
        assert_eq!(cidr("172.18.0.0/16").first_host(), Some(ip("172.18.0.1")));
        assert_eq!(cidr("fd00::/64").first_host(), Some(ip("fd00::1")));
        assert_eq!(cidr("172.18.0.4/30").first_host(), Some(ip("172.18.0.5")));
        assert_eq!((cidr("172.18.0.4/31").first_host(), cidr("172.18.0.4").first_host()), (None, None));
    }
}
