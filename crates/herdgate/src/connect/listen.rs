//! Where programs find it: an address of this machine alone, unless somebody insists on another.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// An address to listen at, and under which names programs may ask there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) address: SocketAddr,
    pub(crate) reach: Reach,
    /// Beside those that every one has; lower case.
    pub(crate) names: Vec<String>,
}

/// Who can reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The programs of this machine.
    Machine,
    /// Whoever reaches the address.
    Network,
}

/// Why an address cannot be listened at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadAddress {
    /// No address with a port.
    #[error("is not an address of this machine with a port")]
    Form,
    /// Not of this machine alone.
    #[error("can be reached by others, who would then use the gate with your key")]
    Open,
}

impl BadAddress {
    /// What to write instead.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            BadAddress::Form => "write it like 127.0.0.1:11434 or [::1]:11434",
            BadAddress::Open => "if that is what you want, write --insecure-listen instead",
        }
    }
}

impl At {
    /// Reads an address of this machine alone.
    pub(crate) fn machine(text: &str) -> Result<Self, BadAddress> {
        let address = read(text)?;
        if !address.ip().is_loopback() {
            return Err(BadAddress::Open);
        }
        Ok(At { address, reach: Reach::Machine, names: Vec::new() })
    }

    /// Reads any address. `names` are those under which programs of other machines ask.
    pub(crate) fn network(text: &str, names: &[String]) -> Result<Self, BadAddress> {
        let names = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Ok(At { address: read(text)?, reach: Reach::Network, names })
    }
}

fn read(text: &str) -> Result<SocketAddr, BadAddress> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let port = text.strip_prefix("localhost:").and_then(|port| port.parse().ok()).ok_or(BadAddress::Form)?;
    Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_machine_alone_unless_somebody_insists() {
        for text in ["127.0.0.1:11434", "[::1]:0", "127.9.9.9:1", "localhost:80"] {
            assert_eq!(At::machine(text).unwrap().reach, Reach::Machine, "{text}");
        }
        for text in ["0.0.0.0:11434", "[::]:11434", "192.168.1.2:11434"] {
            assert_eq!(At::machine(text), Err(BadAddress::Open), "{text}");
            assert_eq!(At::network(text, &["A".into()]).unwrap().names, ["a"], "{text}");
        }
        for text in
            ["", "11434", "localhost", "gate:11434", "127.0.0.1", "127.0.0.1:70000", "http://127.0.0.1:1"]
        {
            assert_eq!(At::machine(text), Err(BadAddress::Form), "{text}");
            assert_eq!(At::network(text, &[]), Err(BadAddress::Form), "{text}");
        }
    }
}
