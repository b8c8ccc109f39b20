//! Where an upstream is: scheme, host, port, base path, and the texts made from them once.
//!
//! Checked here, so that nothing behind can write a broken `Host` field or request target. Never holds a credential:
//! a URL with userinfo is refused before an [`Endpoint`] exists.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;

/// The address of one upstream, with the `Host` value and the TLS name that belong to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    tls: Option<ServerName<'static>>,
    host: Box<str>,
    port: u16,
    base: Box<str>,
    authority: Box<str>,
    url: Arc<str>,
    label: Arc<str>,
}

/// What is wrong with the parts of an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEndpoint {
    /// Empty, or with a character that no host name or address has.
    #[error("\"{0}\" is not a host name or an IP address")]
    Host(String),
    /// Port 0 cannot be connected to.
    #[error("port 0 cannot be connected to")]
    Port,
    /// The base path does not begin with `/`, or has blanks, control characters, `?` or `#` in it.
    #[error("\"{0}\" is not a base path: it begins with / and has no blank, ? or #")]
    Base(String),
}

impl Endpoint {
    /// Checks the parts and makes the texts.
    ///
    /// `host` is a name or an IP address, IPv6 with or without brackets, with or without a zone. `base` is put in front
    /// of every path: `""` or `/x/y`; slashes at its end are dropped.
    ///
    /// # Errors
    /// [`BadEndpoint`] names the part.
    pub fn new(tls: bool, host: &str, port: u16, base: &str) -> Result<Self, BadEndpoint> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let (address, zone) =
            bare.split_once('%').map_or((bare, None), |(address, zone)| (address, Some(zone)));
        let ip = address.parse::<IpAddr>().ok();
        let sound = match (ip, zone) {
            (Some(IpAddr::V6(_)), Some(zone)) => is_name(zone),
            (Some(_), None) => true,
            (None, None) => is_name(address),
            (_, Some(_)) => false,
        };
        if !sound {
            return Err(BadEndpoint::Host(host.to_owned()));
        }
        if port == 0 {
            return Err(BadEndpoint::Port);
        }
        let base = base.trim_end_matches('/');
        if !is_base(base) {
            return Err(BadEndpoint::Base(base.to_owned()));
        }
        // The zone means something on this machine only: it is dialled, not told (RFC 6874, section 4).
        let shown =
            if matches!(ip, Some(IpAddr::V6(_))) { format!("[{address}]") } else { address.to_owned() };
        let usual = if tls { 443 } else { 80 };
        let authority = if port == usual { shown } else { format!("{shown}:{port}") };
        let name = if tls {
            let name = ServerName::try_from(address.to_owned());
            Some(name.map_err(|_| BadEndpoint::Host(host.to_owned()))?)
        } else {
            None
        };
        let scheme = if tls { "https" } else { "http" };
        let url: Arc<str> = format!("{scheme}://{authority}{base}").into();
        Ok(Endpoint {
            tls: name,
            host: bare.into(),
            port,
            label: Arc::clone(&url),
            url,
            base: base.into(),
            authority: authority.into(),
        })
    }

    /// Whether it is spoken to over TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The host as it is resolved: a name or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What stands in front of every path: `""` or `/x`, without a slash at its end.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The value of the `Host` field: the upstream's own name, never the client's (Ollama refuses foreign ones with a
    /// bare 403). The port is left out where it is the scheme's own (RFC 9110, section 4.2.3).
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The same under a name, by which logs and errors call it from now on.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.label = name.into();
        self
    }

    /// The address as a URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What people call it: its name, where it has one, or its URL.
    #[must_use]
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    pub(crate) fn server_name(&self) -> Option<&ServerName<'static>> {
        self.tls.as_ref()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.label)
    }
}

/// Letters, digits, `.`, `-`, `_`: resolvers know no others. A name in Unicode is written in its `xn--` form.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

fn is_base(base: &str) -> bool {
    base.is_empty()
        || (base.starts_with('/') && base.bytes().all(|b| b.is_ascii_graphic() && b != b'?' && b != b'#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_field_is_the_upstreams_own() {
        for (tls, host, port, base, authority, label) in [
            (false, "localhost", 11434, "", "localhost:11434", "http://localhost:11434"),
            (false, "127.0.0.1", 11434, "/", "127.0.0.1:11434", "http://127.0.0.1:11434"),
            (false, "::1", 11434, "", "[::1]:11434", "http://[::1]:11434"),
            (false, "[::1]", 11434, "", "[::1]:11434", "http://[::1]:11434"),
            (false, "fe80::1%eth0", 11434, "", "[fe80::1]:11434", "http://[fe80::1]:11434"),
            (false, "gpu_1.lan", 80, "", "gpu_1.lan", "http://gpu_1.lan"),
            (true, "ai.example", 443, "/ollama//", "ai.example", "https://ai.example/ollama"),
            (true, "ai.example", 80, "/a/b", "ai.example:80", "https://ai.example:80/a/b"),
        ] {
            let endpoint = Endpoint::new(tls, host, port, base).unwrap();
            assert_eq!(endpoint.authority(), authority);
            assert_eq!(endpoint.to_string(), label);
        }
    }

    #[test]
    fn what_would_break_a_head_is_refused() {
        for host in [
            "",
            "a b",
            "a\r\nX: y",
            "user@host",
            "host/",
            "[::1",
            "::g",
            "1.2.3.4%eth0",
            "name%eth0",
            "ü",
            "::1%",
        ] {
            assert_eq!(
                Endpoint::new(false, host, 1, "").unwrap_err(),
                BadEndpoint::Host(host.to_owned()),
                "{host:?}"
            );
        }
        assert_eq!(Endpoint::new(false, "a", 0, "").unwrap_err(), BadEndpoint::Port);
        for base in ["x", "/a b", "/a\r\n", "/a?b", "/a#b", "/ü"] {
            assert_eq!(
                Endpoint::new(false, "a", 1, base).unwrap_err(),
                BadEndpoint::Base(base.to_owned()),
                "{base:?}"
            );
        }
    }
}
