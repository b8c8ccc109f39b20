//! Who counts as one client where clients are counted by address.

use std::net::IpAddr;

/// An IPv4 address, or the /64 of IPv6 that one host usually has to itself: the least that one customer of a provider has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Network {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Network {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Network::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Network::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_an_ipv4_address_or_an_ipv6_network() {
        let same = |a: &str, b: &str| Network::of(a.parse().unwrap()) == Network::of(b.parse().unwrap());
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"), "as a dual-stack socket shows it");
        assert!(!same("192.0.2.1", "192.0.2.2") && !same("::ffff:192.0.2.1", "::ffff:192.0.2.2"));
        assert!(same("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
    }
}
