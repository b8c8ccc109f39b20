//! Who may ask: programs, and pages that this machine itself serves. No page of the web may, for it would ask with the key of
//! whoever looks at it. First of all that happens to a request; decides by its head alone.
//!
//! A browser tells two things that a page cannot change: where the page is from (`Origin`, `Sec-Fetch-Site`), and under which
//! name it asks (`Host`). A page whose own name was made to mean this machine (DNS rebinding) asks under that name.

use super::listen::{At, Reach};
use gate_proxy::{bare, name_and_port};
use http::{HeaderMap, HeaderValue, header, request::Parts};
use std::net::{IpAddr, SocketAddr};

/// The door of one listener.
#[derive(Debug)]
pub(super) struct Door {
    port: u16,
    reach: Reach,
    names: Vec<String>,
}

/// Who was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Guest {
    /// A program.
    Program,
    /// A page from this origin, which is of this machine.
    Page(HeaderValue),
}

/// Who was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stranger {
    /// It asks for another host than this one.
    Host,
    /// It is a page from elsewhere.
    Page,
}

impl Stranger {
    /// What it is told.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Stranger::Host => {
                "this port belongs to the programs of this machine: ask for it as localhost, 127.0.0.1 or [::1], with its \
                 port; any other name could be that of a web page"
            }
            Stranger::Page => {
                "this port belongs to the programs of this machine; pages of the web may not use it"
            }
        }
    }
}

impl Door {
    pub(super) fn new(at: &At, bound: SocketAddr) -> Self {
        Door { port: bound.port(), reach: at.reach, names: at.names.clone() }
    }

    /// Lets in or not.
    pub(super) fn admit(&self, head: &Parts) -> Result<Guest, Stranger> {
        let host =
            only(&head.headers, header::HOST).and_then(|host| host.to_str().ok()).ok_or(Stranger::Host)?;
        if !self.is_own(host) || !head.uri.authority().is_none_or(|named| self.is_own(named.as_str())) {
            return Err(Stranger::Host);
        }
        if head.headers.contains_key(header::ORIGIN) {
            let origin = only(&head.headers, header::ORIGIN).filter(|origin| is_of_this_machine(origin));
            return origin.cloned().map(Guest::Page).ok_or(Stranger::Page);
        }
        // What a page only shows or follows comes without an origin.
        let is_from_elsewhere =
            head.headers.get_all("sec-fetch-site").iter().any(|site| site.as_bytes() == b"cross-site");
        if is_from_elsewhere { Err(Stranger::Page) } else { Ok(Guest::Program) }
    }

    /// Whether that is how programs ask for this listener. An address in place of a name is no page's name.
    fn is_own(&self, host: &str) -> bool {
        let Some((name, port)) = host_and_port(host) else { return false };
        let address: Option<IpAddr> = name.parse().ok();
        match self.reach {
            Reach::Machine => {
                port.unwrap_or(80) == self.port
                    && (is_localhost(name) || address.is_some_and(|address| address.is_loopback()))
            }
            // Others may know it by another port.
            Reach::Network => {
                is_localhost(name)
                    || address.is_some()
                    || self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
            }
        }
    }
}

/// The one value of a field.
fn only(fields: &HeaderMap, name: header::HeaderName) -> Option<&HeaderValue> {
    let mut values = fields.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// A page that a program of this machine serves: `http://localhost:3000`. As Ollama has it, whatever its port.
fn is_of_this_machine(origin: &HeaderValue) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    let named = host.and_then(host_and_port);
    named.is_some_and(|(name, _port)| {
        is_localhost(name) || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

fn is_localhost(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
}

/// Name or address, without brackets, and port. `None` for what is no host: a path behind it, a user in front of it.
fn host_and_port(host: &str) -> Option<(&str, Option<u16>)> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if !host.bytes().all(is_plain) {
        return None;
    }
    let (written, port) = name_and_port(host);
    let name = bare(written);
    // A colon without brackets around it is none of a name's.
    if name.contains(['[', ']']) || (name == written && name.contains(':')) {
        return None;
    }
    Some((name, port.map(str::parse).transpose().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Uri};

    fn admit(at: &At, target: &str, fields: &[(&str, &str)]) -> Result<Guest, Stranger> {
        let door = Door::new(at, SocketAddr::new(at.address.ip(), 11434));
        let mut request = Request::get(target.parse::<Uri>().unwrap());
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        door.admit(&request.body(()).unwrap().into_parts().0)
    }

    fn machine() -> At {
        At::machine("127.0.0.1:0").unwrap()
    }

    #[test]
    fn programs_ask_for_this_machine_and_this_port() {
        for host in
            ["localhost:11434", "LocalHost:11434", "127.0.0.1:11434", "[::1]:11434", "127.8.8.8:11434"]
        {
            assert_eq!(admit(&machine(), "/", &[("host", host)]), Ok(Guest::Program), "{host}");
        }
        for host in [
            "",
            "localhost",
            "localhost:80",
            "localhost:11435",
            "localhost:011434x",
            "localhost:",
            "localhost.:11434",
            "localhost.evil.example:11434",
            "evil.example:11434",
            "evil.example",
            "192.168.1.2:11434",
            "0.0.0.0:11434",
            "[::]:11434",
            "[::1:11434",
            "::1:11434",
            "[localhost]:11434x",
            "user@localhost:11434",
            "localhost:11434/x",
            "localhost:11434, evil.example",
            "127.0.0.1.evil.example:11434",
            "2130706433:11434",
            "0x7f.1:11434",
        ] {
            assert_eq!(admit(&machine(), "/", &[("host", host)]), Err(Stranger::Host), "{host}");
        }
        assert_eq!(admit(&machine(), "/", &[]), Err(Stranger::Host));
        let twice = [("host", "localhost:11434"), ("host", "localhost:11434")];
        assert_eq!(admit(&machine(), "/", &twice), Err(Stranger::Host));
    }

    #[test]
    fn a_target_in_full_is_held_to_the_same() {
        let host = [("host", "localhost:11434")];
        assert_eq!(admit(&machine(), "http://127.0.0.1:11434/api/tags", &host), Ok(Guest::Program));
        assert_eq!(admit(&machine(), "http://evil.example/api/tags", &host), Err(Stranger::Host));
    }

    #[test]
    fn pages_of_this_machine_and_no_others() {
        let ask = |fields: &[(&str, &str)]| {
            admit(&machine(), "/", &[&[("host", "localhost:11434")], fields].concat())
        };
        for origin in [
            "http://localhost:3000",
            "https://localhost",
            "http://127.0.0.1:8080",
            "http://[::1]:3000",
            "http://127.0.0.1:11434",
        ] {
            let page = Guest::Page(HeaderValue::from_static(origin));
            assert_eq!(ask(&[("origin", origin), ("sec-fetch-site", "cross-site")]), Ok(page), "{origin}");
        }
        for origin in [
            "null",
            "",
            "https://evil.example",
            "http://localhost.evil.example",
            "http://localhost@evil.example",
            "http://evil.example:11434",
            "http://192.168.1.2:3000",
            "file://",
            "chrome-extension://abcdef",
            "http://localhost:3000/",
            "http://localhost:3000 https://evil.example",
        ] {
            assert_eq!(ask(&[("origin", origin)]), Err(Stranger::Page), "{origin}");
        }
        let twice = [("origin", "http://localhost:1"), ("origin", "https://evil.example")];
        assert_eq!(ask(&twice), Err(Stranger::Page));
        assert_eq!(ask(&[("sec-fetch-site", "cross-site")]), Err(Stranger::Page));
        for site in ["none", "same-site", "same-origin"] {
            assert_eq!(ask(&[("sec-fetch-site", site)]), Ok(Guest::Program), "{site}");
        }
    }

    #[test]
    fn a_listener_for_others_has_addresses_and_the_names_it_was_given() {
        let at = At::network("0.0.0.0:0", &["Host.Docker.Internal".into()]).unwrap();
        for host in ["host.docker.internal:11434", "192.168.1.2:8080", "localhost:11434", "[2001:db8::1]"] {
            assert_eq!(admit(&at, "/", &[("host", host)]), Ok(Guest::Program), "{host}");
        }
        assert_eq!(admit(&at, "/", &[("host", "evil.example:11434")]), Err(Stranger::Host));
        let page = [("host", "192.168.1.2:11434"), ("origin", "http://192.168.1.2:11434")];
        assert_eq!(admit(&at, "/", &page), Err(Stranger::Page));
    }
}
