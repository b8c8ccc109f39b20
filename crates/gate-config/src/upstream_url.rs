//! The address of an upstream, and the strict reader for those that stand in settings and flags.
//!
//! One grammar for settings and for `OLLAMA_HOST` (see `ollama_host`): what differs is what a fault leads to. Never shows
//! the text it refuses: a password may be in it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The port of an address without scheme and port.
pub(crate) const OLLAMA_PORT: u16 = 11434;

/// Where one upstream is. No credentials, no query: what is in here may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpstreamUrl {
    /// Whether to speak TLS (`https`).
    pub tls: bool,
    /// Lower-case name, or IP address; IPv6 without brackets. Never `0.0.0.0` or `::`.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
    /// Put in front of every path: empty, or `/x/y` without a slash at the end.
    pub base: String,
}

impl UpstreamUrl {
    /// Where an Ollama listens unless told otherwise: `http://127.0.0.1:11434`.
    #[must_use]
    pub fn local_ollama() -> Self {
        UpstreamUrl {
            tls: false,
            host: Ipv4Addr::LOCALHOST.to_string(),
            port: OLLAMA_PORT,
            base: String::new(),
        }
    }

    /// Host and port as the `Host` field wants them: brackets around IPv6, no port where the scheme implies it.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = Bracketed(&self.host);
        if self.port == if self.tls { 443 } else { 80 } {
            host.to_string()
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// Reads an upstream as settings and flags name it.
    ///
    /// `http://` or `https://` (lower case) with port 80 or 443 where none is said; without a scheme `http` and port
    /// 11434. `0.0.0.0` and `::` become the loopback address, as in Ollama's clients; `ollama.com` alone is its https
    /// service. A base path may follow.
    ///
    /// # Errors
    /// [`BadUrl`] by cause; user and password, query, fragment, an unknown scheme and a port outside 1 to 65535 among them.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        let text = text.trim();
        if text.is_empty() {
            return Err(BadUrl::Empty);
        }
        let parts = split(text)?;
        let (tls, implied) = match parts.scheme {
            None => (false, OLLAMA_PORT),
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            Some(_) => return Err(BadUrl::Scheme),
        };
        let (host, port) = host_and_port(parts.authority);
        if host.is_empty() {
            return Err(BadUrl::NoHost);
        }
        let port = match port {
            None => implied,
            Some(port) => read_port(port).ok_or(BadUrl::Port)?,
        };
        build(tls, host, port, parts.path)
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", Bracketed(&self.host), self.port, self.base)
    }
}

struct Bracketed<'a>(&'a str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') { write!(f, "[{}]", self.0) } else { f.write_str(self.0) }
    }
}

/// Why a text is not the address of an upstream. Never holds the text: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// A scheme other than http and https.
    #[error("has a scheme other than http:// and https://")]
    Scheme,
    /// An `@`: user, password or token in front of the host.
    #[error("has credentials (or another \"@\") in it")]
    Credentials,
    /// A `?`.
    #[error("has a query (\"?\")")]
    Query,
    /// A `#`.
    #[error("has a fragment (\"#\")")]
    Fragment,
    /// A scheme or port, and no host.
    #[error("has no host")]
    NoHost,
    /// Digits alone.
    #[error("is a number, which is neither a host name nor an IP address")]
    PortAlone,
    /// Neither an IP address nor a host name.
    #[error("has a host that is neither an IP address nor a host name")]
    Host,
    /// The port is not 1 to 65535.
    #[error("has a port that is not a number from 1 to 65535")]
    Port,
    /// A base path with empty, `.` or `..` parts, or characters that no path may hold.
    #[error("has a base path that is not plain")]
    Path,
}

impl BadUrl {
    /// How to write it instead.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            BadUrl::Credentials => {
                "write \"https://host:port\" without them; a credential stands in its [[upstream]]: token_file, or headers"
            }
            BadUrl::Query | BadUrl::Fragment => {
                "an upstream is scheme, host, port and base path: \"https://host:port/base\""
            }
            BadUrl::PortAlone => "write \"http://127.0.0.1:11434\" for an Ollama on this machine",
            BadUrl::Host => "write names in ASCII, and IPv6 addresses as \"http://[::1]:11434\"",
            BadUrl::Path => "write it as \"/base/path\", without \"//\", \".\" and \"..\"",
            BadUrl::Empty | BadUrl::Scheme | BadUrl::NoHost | BadUrl::Port => {
                "write \"http://host:11434\" or \"https://host\""
            }
        }
    }
}

/// The three parts of an address, none of them checked.
pub(crate) struct Parts<'a> {
    pub(crate) scheme: Option<&'a str>,
    pub(crate) authority: &'a str,
    /// Without its first slash.
    pub(crate) path: &'a str,
}

/// Splits an address as Ollama's clients do, after refusing what may hide a credential.
pub(crate) fn split(text: &str) -> Result<Parts<'_>, BadUrl> {
    // Anywhere, not only before the first slash: a password may hold a slash or a question mark.
    if text.contains('@') {
        return Err(BadUrl::Credentials);
    }
    if text.contains('?') {
        return Err(BadUrl::Query);
    }
    if text.contains('#') {
        return Err(BadUrl::Fragment);
    }
    let text = if text == "ollama.com" { "https://ollama.com" } else { text };
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    Ok(Parts { scheme, authority, path })
}

/// Splits host and port; the port only where a colon announces one. A bare IPv6 address is a host.
pub(crate) fn host_and_port(authority: &str) -> (&str, Option<&str>) {
    if let Some(inside) = authority.strip_prefix('[')
        && let Some((host, behind)) = inside.split_once(']')
    {
        return match behind.strip_prefix(':') {
            Some(port) if is_v6(host) => (host, Some(port)),
            None if is_v6(host) && behind.is_empty() => (host, None),
            // The whole is the host, which `build` refuses for its bracket.
            _ => (authority, None),
        };
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// A port from 1 to 65535.
pub(crate) fn read_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|port| *port != 0)
}

/// Checks host and path and puts the parts together.
pub(crate) fn build(tls: bool, host: &str, port: u16, path: &str) -> Result<UpstreamUrl, BadUrl> {
    let host = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => Ipv4Addr::LOCALHOST.to_string(),
        Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => Ipv6Addr::LOCALHOST.to_string(),
        Ok(ip) => ip.to_string(),
        Err(_) => host_name(host)?,
    };
    let path = path.trim_end_matches('/');
    if path.is_empty() {
        return Ok(UpstreamUrl { tls, host, port, base: String::new() });
    }
    if path.split('/').all(is_plain_segment) {
        Ok(UpstreamUrl { tls, host, port, base: format!("/{path}") })
    } else {
        Err(BadUrl::Path)
    }
}

fn is_v6(text: &str) -> bool {
    text.parse::<Ipv6Addr>().is_ok()
}

/// Letters, digits, `-` and `_` in labels of 1 to 63, 253 in all (RFC 1123 2.1; the underscore as container networks use
/// it). A name whose last label is a number is a mistyped IPv4 address.
fn host_name(host: &str) -> Result<String, BadUrl> {
    if !host.is_empty() && host.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BadUrl::PortAlone);
    }
    let bare = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        let sound = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        sound && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let numeric_end = bare.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if bare.len() <= 253 && !numeric_end && bare.split('.').all(label) {
        Ok(host.to_ascii_lowercase())
    } else {
        Err(BadUrl::Host)
    }
}

/// RFC 3986 3.3 `pchar`s without `@`; dot segments have two readings and are not taken.
fn is_plain_segment(segment: &str) -> bool {
    let mut bytes = segment.bytes();
    if matches!(segment, "" | "." | "..") {
        return false;
    }
    while let Some(b) = bytes.next() {
        let sound = match b {
            // An encoded dot, slash or percent sign has two readings; control characters have no business in a path.
            b'%' => decoded([bytes.next(), bytes.next()])
                .is_some_and(|b| !b.is_ascii_control() && !matches!(b, b'.' | b'/' | b'\\' | b'%')),
            b => b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:".contains(&b),
        };
        if !sound {
            return false;
        }
    }
    true
}

fn decoded(hex: [Option<u8>; 2]) -> Option<u8> {
    let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    Some(digit(hex[0])? << 4 | digit(hex[1])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn upstreams_as_settings_name_them() {
        let long_label = format!("http://{}", "x".repeat(64));
        for (text, shown) in [
            ("gpu1", Ok("http://gpu1:11434")),
            ("GPU1:8080", Ok("http://gpu1:8080")),
            (" http://gpu1 ", Ok("http://gpu1:80")),
            ("http://gpu1:11434/", Ok("http://gpu1:11434")),
            ("https://gpu1.example.org", Ok("https://gpu1.example.org:443")),
            ("https://gpu1./a/b%20c/", Ok("https://gpu1.:443/a/b%20c")),
            ("http://my_ollama:11434", Ok("http://my_ollama:11434")),
            ("::1", Ok("http://[::1]:11434")),
            ("[::1]:99", Ok("http://[::1]:99")),
            ("http://[2001:DB8::1]", Ok("http://[2001:db8::1]:80")),
            ("0.0.0.0", Ok("http://127.0.0.1:11434")),
            ("http://[::]:11434", Ok("http://[::1]:11434")),
            ("ollama.com", Ok("https://ollama.com:443")),
            ("", Err(BadUrl::Empty)),
            ("ftp://gpu1", Err(BadUrl::Scheme)),
            ("HTTPS://gpu1", Err(BadUrl::Scheme)),
            ("unix:///run/ollama.sock", Err(BadUrl::Scheme)),
            ("http://tok@gpu1", Err(BadUrl::Credentials)),
            ("http://user:p/w@gpu1", Err(BadUrl::Credentials)),
            ("http://user:p?w@gpu1", Err(BadUrl::Credentials)),
            ("http://gpu1/?key=1", Err(BadUrl::Query)),
            ("http://gpu1/#x", Err(BadUrl::Fragment)),
            ("http://", Err(BadUrl::NoHost)),
            (":11434", Err(BadUrl::NoHost)),
            ("11434", Err(BadUrl::PortAlone)),
            ("http://gpu 1", Err(BadUrl::Host)),
            ("http://gpü1", Err(BadUrl::Host)),
            ("http://10.0.0.300", Err(BadUrl::Host)),
            ("http://[::1", Err(BadUrl::Host)),
            ("http://[gpu1]", Err(BadUrl::Host)),
            ("http://[::1]x", Err(BadUrl::Host)),
            ("http://1:2:3", Err(BadUrl::Host)),
            ("http://a..b", Err(BadUrl::Host)),
            ("http://-a", Err(BadUrl::Host)),
            (long_label.as_str(), Err(BadUrl::Host)),
            ("gpu1:99999", Err(BadUrl::Port)),
            ("gpu1:0", Err(BadUrl::Port)),
            ("gpu1:", Err(BadUrl::Port)),
            ("gpu1:+80", Err(BadUrl::Port)),
            ("gpu1:abc", Err(BadUrl::Port)),
            ("http://gpu1//a", Err(BadUrl::Path)),
            ("http://gpu1/a/../b", Err(BadUrl::Path)),
            ("http://gpu1/a%2fb", Err(BadUrl::Path)),
            ("http://gpu1/%2e%2e", Err(BadUrl::Path)),
            ("http://gpu1/a%0d%0ab", Err(BadUrl::Path)),
            ("http://gpu1/a b", Err(BadUrl::Path)),
            ("http://gpu1/a%2", Err(BadUrl::Path)),
        ] {
            assert_eq!(
                UpstreamUrl::parse(text).map(|url| url.to_string()),
                shown.map(str::to_owned),
                "{text:?}"
            );
        }
    }

    #[test]
    fn the_host_field_has_brackets_and_leaves_out_an_implied_port() {
        for (text, authority) in [
            ("http://[::1]:11434", "[::1]:11434"),
            ("https://gpu1", "gpu1"),
            ("http://gpu1", "gpu1"),
            ("http://gpu1:443", "gpu1:443"),
        ] {
            assert_eq!(UpstreamUrl::parse(text).unwrap().authority(), authority);
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(text in "(https?://)?[a-z0-9.:\\[\\]-]{1,12}(:[0-9]{1,5})?(/[a-z%0-9./]{0,6})?") {
            if let Ok(url) = UpstreamUrl::parse(&text) {
                prop_assert_eq!(UpstreamUrl::parse(&url.to_string()), Ok(url));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            if let Ok(url) = UpstreamUrl::parse(&text) {
                let shown = url.to_string();
                prop_assert!(shown.is_ascii() && !shown.contains(['@', '?', '#', ' ']), "{}", shown);
            }
        }
    }
}
