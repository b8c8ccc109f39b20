//! Where the gate listens: `:7860`, `127.0.0.1:7860`, `[::1]:80`, `localhost:0`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// One address to listen on. Port 0 lets the system choose.
///
/// `[::]` means every address of the machine, IPv6 and IPv4 on one dual-stack socket, and IPv4 alone where there is no
/// IPv6; `:7860` is the short form of it. `localhost` is 127.0.0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// The address to bind.
    pub address: SocketAddr,
}

impl Listen {
    /// Where herdgate listens unless told otherwise.
    pub const DEFAULT: Listen = Listen::everywhere(7860);

    const fn everywhere(port: u16) -> Self {
        Listen { address: SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port) }
    }

    /// Whether this is `[::]`: dual-stack, or `0.0.0.0` on a machine without IPv6.
    #[must_use]
    pub fn is_everywhere(self) -> bool {
        self.address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    }

    /// Whether a connection to `ip` and `port` of this machine would arrive here. Never true for port 0.
    #[must_use]
    pub fn covers(self, ip: IpAddr, port: u16) -> bool {
        let own = self.address.ip();
        let all_v4 = own == IpAddr::V4(Ipv4Addr::UNSPECIFIED) && ip.is_ipv4();
        port != 0 && self.address.port() == port && (self.is_everywhere() || all_v4 || own == ip)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)
    }
}

/// Why a text is not an address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadListen {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// A scheme in front, or a path behind: a URL.
    #[error("is a URL; an address to listen on is host and port alone")]
    Url,
    /// A number and no colon.
    #[error("has no host")]
    PortAlone,
    /// A host and no port.
    #[error("has no port")]
    NoPort,
    /// The port is not 0 to 65535.
    #[error("has a port that is not a number from 0 to 65535")]
    Port,
    /// An IPv6 address without brackets.
    #[error("is an IPv6 address without brackets")]
    Brackets,
    /// The host is a name.
    #[error("has a host that is neither an IP address nor localhost")]
    Host,
}

impl BadListen {
    /// How to write it instead.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            BadListen::PortAlone => {
                "write \":7860\" for every address, or \"127.0.0.1:7860\" for this machine alone"
            }
            BadListen::Brackets => "write \"[::1]:7860\"",
            BadListen::Empty | BadListen::Url | BadListen::NoPort | BadListen::Port | BadListen::Host => {
                "write \":7860\", \"127.0.0.1:7860\" or \"[::1]:7860\""
            }
        }
    }
}

impl FromStr for Listen {
    type Err = BadListen;

    fn from_str(text: &str) -> Result<Self, BadListen> {
        let text = text.trim();
        if text.is_empty() {
            return Err(BadListen::Empty);
        }
        if text.contains('/') {
            return Err(BadListen::Url);
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(BadListen::PortAlone);
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(BadListen::Brackets);
        }
        let ends_in_bracket = text.starts_with('[') && text.ends_with(']');
        let (host, port) = match text.rsplit_once(':') {
            Some(split) if !ends_in_bracket => split,
            _ => return Err(BadListen::NoPort),
        };
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = if digits { port.parse().ok() } else { None }.ok_or(BadListen::Port)?;
        let ip = match host {
            "" | "*" => return Ok(Listen::everywhere(port)),
            host if host.eq_ignore_ascii_case("localhost") => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
                Some(v6) => v6.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| BadListen::Host)?,
                None if host.contains(':') => return Err(BadListen::Brackets),
                None => host.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| BadListen::Host)?,
            },
        };
        Ok(Listen { address: SocketAddr::new(ip, port) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, shown) in [
            (":7860", Ok("[::]:7860")),
            ("*:7860", Ok("[::]:7860")),
            ("[::]:7860", Ok("[::]:7860")),
            ("0.0.0.0:7860", Ok("0.0.0.0:7860")),
            ("localhost:7860", Ok("127.0.0.1:7860")),
            ("[::1]:80", Ok("[::1]:80")),
            (" 127.0.0.1:0 ", Ok("127.0.0.1:0")),
            ("", Err(BadListen::Empty)),
            ("7860", Err(BadListen::PortAlone)),
            ("http://0.0.0.0:7860", Err(BadListen::Url)),
            ("0.0.0.0:7860/", Err(BadListen::Url)),
            ("127.0.0.1", Err(BadListen::NoPort)),
            ("gpu1", Err(BadListen::NoPort)),
            ("[::1]", Err(BadListen::NoPort)),
            ("::1", Err(BadListen::Brackets)),
            ("fe80::1%eth0:80", Err(BadListen::Brackets)),
            ("127.0.0.1:", Err(BadListen::Port)),
            ("127.0.0.1:+80", Err(BadListen::Port)),
            ("127.0.0.1:65536", Err(BadListen::Port)),
            ("127.0.0.1:http", Err(BadListen::Port)),
            ("gpu1:7860", Err(BadListen::Host)),
            ("127.1:7860", Err(BadListen::Host)),
            ("[127.0.0.1]:7860", Err(BadListen::Host)),
        ] {
            let read = text.parse::<Listen>();
            assert_eq!(read.map(|listen| listen.to_string()), shown.map(str::to_owned), "{text:?}");
            if let Ok(listen) = read {
                assert_eq!(listen.to_string().parse(), Ok(listen), "{text:?}");
            }
        }
    }

    #[test]
    fn the_default_is_every_address() {
        assert_eq!(Listen::DEFAULT.to_string(), "[::]:7860");
        assert!(Listen::DEFAULT.is_everywhere());
    }
}
