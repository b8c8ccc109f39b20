//! Where a port of a container is to be found, and names that containers cannot look up: what the options of a stack may say.

use crate::deploy::tame;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// `--publish`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publish {
    Nowhere,
    Port(u16),
    At(SocketAddr),
}

impl FromStr for Publish {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "is no PORT, nor IP:PORT of this machine, nor `none`; the port inside is the gate's own";
        match (text, text.parse::<u16>(), text.parse::<SocketAddr>()) {
            ("none", ..) => Ok(Publish::Nowhere),
            (_, Ok(port), _) if port > 0 => Ok(Publish::Port(port)),
            (_, _, Ok(address)) if address.port() > 0 => Ok(Publish::At(address)),
            _ => Err(wrong),
        }
    }
}

impl Publish {
    /// Whether every network reaches it.
    pub(super) fn is_everywhere(self) -> bool {
        match self {
            Publish::Nowhere => false,
            Publish::Port(_) => true,
            Publish::At(address) => address.ip().is_unspecified(),
        }
    }

    /// As `ports` has it.
    pub(super) fn to(self, inside: u16) -> Option<String> {
        match self {
            Publish::Nowhere => None,
            Publish::Port(port) => Some(format!("{port}:{inside}")),
            Publish::At(address) => Some(format!("{address}:{inside}")),
        }
    }

    /// The same for another port.
    pub(super) fn beside(self, port: u16) -> Self {
        match self {
            Publish::Nowhere => Publish::Nowhere,
            Publish::Port(_) => Publish::Port(port),
            Publish::At(address) => Publish::At(SocketAddr::new(address.ip(), port)),
        }
    }
}

/// `--host`: as `extra_hosts` has it.
pub(super) fn host(text: &str) -> Result<String, String> {
    let wrong = || "is no NAME:IP, nor NAME:host-gateway".to_owned();
    let (name, place) = text.split_once(':').ok_or_else(wrong)?;
    let is_place = place == "host-gateway" || place.parse::<IpAddr>().is_ok();
    if !is_place || name.contains(['/', '=', ',', '@', '*', '%']) {
        return Err(wrong());
    }
    tame("the name", name).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// What is to be said of a name that containers cannot look up and `--host` does not give.
pub(super) fn unknown(name: &str, hosts: &[String]) -> Option<String> {
    let is_given =
        |host: &String| host.split_once(':').is_some_and(|(given, _)| given.eq_ignore_ascii_case(name));
    let is_unknown = name.to_ascii_lowercase().ends_with(".local") && !hosts.iter().any(is_given);
    is_unknown.then(|| format!("containers cannot look up {name}: say --host {name}:IP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_what_docker_takes() {
        for (text, shown) in [
            ("7860", Some("7860:1")),
            ("127.0.0.1:80", Some("127.0.0.1:80:1")),
            ("[::1]:80", Some("[::1]:80:1")),
            ("none", None),
        ] {
            assert_eq!(text.parse::<Publish>().unwrap().to(1).as_deref(), shown);
        }
        for text in ["", "0", "70000", "host:80", "127.0.0.1", "127.0.0.1:0", "1-2"] {
            assert!(text.parse::<Publish>().is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_are_a_name_and_a_place() {
        for text in ["cuda.local:192.168.1.100", "gpu:host-gateway", "gpu:fd00::1"] {
            assert_eq!(host(text).as_deref(), Ok(text));
        }
        for text in ["cuda.local", "a b:1.2.3.4", "gpu:1.2.3", "gpu:other", ":1.2.3.4", "a/b:1.2.3.4"] {
            assert!(host(text).is_err(), "{text}");
        }
    }
}
