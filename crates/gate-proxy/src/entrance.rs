//! How clients come in: what holds for one listener, and what that makes of one connection. Decided when a connection comes;
//! requests read the answer and nothing else, so that what is switched off costs them nothing.
//!
//! Pure: addresses in, a [`Way`] out. Never reads a byte of a connection.

use crate::anonymous::{Anonymous, Keyless};
use crate::downstream::Head;
use crate::forwarded;
use gate_h1::proxy::Announced;
use gate_types::Cidr;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

/// What holds for everybody who comes in by one listener. Each core has its own.
#[derive(Debug, Default)]
pub struct Entrance {
    /// Whether clients speak TLS.
    pub is_tls: bool,
    /// Nothing is served: clients are sent to this port of the same host, which speaks TLS.
    pub redirect: Option<u16>,
    /// The proxies that may say where a client is.
    pub trusted_proxies: Vec<Cidr>,
    /// Who is let in without a key.
    pub anonymous: Option<Anonymous>,
    /// The value of `Strict-Transport-Security`; only where clients speak TLS.
    pub hsts: Option<String>,
}

/// What was decided about one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Way {
    /// The other end is a trusted proxy: what its requests say of their clients counts.
    pub(crate) is_proxied: bool,
    /// What comes over it has crossed a network in clear.
    pub(crate) is_clear: bool,
    /// Whether a request without a key may act as that of the listener.
    pub(crate) keyless: Keyless,
    /// Nothing is served.
    pub(crate) redirects: bool,
    /// Answers tell browsers to stay with TLS.
    pub(crate) has_hsts: bool,
}

impl Entrance {
    /// Whether this is a proxy that may say where a client is.
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|proxies| proxies.contains(peer))
    }

    /// What holds for a connection of `peer` to `local`, which is only asked for where somebody is let in without a key.
    /// `announced` is what a proxy said of it, and then `peer` is who that named.
    pub(crate) fn way(&self, peer: IpAddr, local: Option<IpAddr>, announced: Option<Announced>) -> Way {
        let is_proxied = self.trusts(peer);
        let is_direct = !is_proxied && announced.is_none();
        let is_tls = self.is_tls || announced.is_some_and(|announced| announced.is_tls);
        let judge = |anonymous: &Anonymous| match local {
            Some(local) if is_direct => anonymous.judge(peer, local, Instant::now()),
            Some(_) => Keyless::Proxied,
            // Where it arrived is not known.
            None => Keyless::Public,
        };
        Way {
            is_proxied,
            is_clear: !is_tls && !peer.is_loopback(),
            keyless: self.anonymous.as_ref().map_or(Keyless::Closed, judge),
            redirects: self.redirect.is_some(),
            has_hsts: self.hsts.is_some(),
        }
    }
}

/// A connection's entrance, and what was decided about it.
#[derive(Debug, Clone)]
pub(crate) struct Entered {
    pub(crate) entrance: Rc<Entrance>,
    pub(crate) way: Way,
    /// The client, or the last proxy before it that said nothing of the connection.
    pub(crate) peer: IpAddr,
    /// Whose certificate the client has shown.
    pub(crate) certificate: Option<Rc<str>>,
}

/// Where one request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) address: IpAddr,
    /// The request has crossed a network in clear.
    pub(crate) is_clear: bool,
}

impl Entered {
    /// Where a request on this connection comes from.
    pub(crate) fn source(&self, head: &Head) -> Source {
        if self.way.is_proxied {
            self.told(head)
        } else {
            Source { address: self.peer, is_clear: self.way.is_clear }
        }
    }

    #[cold]
    fn told(&self, head: &Head) -> Source {
        let address = forwarded::client(head, self.peer, |peer| self.entrance.trusts(peer));
        let is_clear = match forwarded::is_https(head) {
            Some(is_https) => !is_https && !address.is_loopback(),
            None => self.way.is_clear,
        };
        Source { address, is_clear }
    }

    /// The port that clients are sent to, where nothing is served.
    pub(crate) fn redirect(&self) -> Option<u16> {
        if self.way.redirects { self.entrance.redirect } else { None }
    }

    /// The field that tells browsers to stay with TLS.
    pub(crate) fn hsts(&self) -> Option<&str> {
        if self.way.has_hsts { self.entrance.hsts.as_deref() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn entrance() -> Entrance {
        let trusted_proxies = vec!["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        let anonymous = Some(Anonymous::new(
            vec!["172.18.0.0/24".parse().unwrap(), "10.9.0.0/16".parse().unwrap()],
            "stack".to_owned(),
            Arc::new(vec![]),
        ));
        Entrance { trusted_proxies, anonymous, ..Entrance::default() }
    }

    #[test]
    fn nothing_holds_for_a_plain_listener_on_loopback() {
        assert_eq!(Entrance::default().way(ip("127.0.0.1"), None, None), Way::default());
    }

    #[test]
    fn a_connection_is_in_clear_where_a_network_lies_between_and_no_tls() {
        let clear = |is_tls, peer: &str, announced| {
            Entrance { is_tls, ..entrance() }.way(ip(peer), None, announced).is_clear
        };
        let announced = |is_tls| Some(Announced { source: None, is_tls });
        for (is_tls, peer, told, is_clear) in [
            (false, "127.0.0.1", None, false),
            (false, "::1", None, false),
            (false, "192.0.2.1", None, true),
            (false, "172.18.0.9", None, true),
            (true, "192.0.2.1", None, false),
            (false, "192.0.2.1", announced(false), true),
            (false, "192.0.2.1", announced(true), false),
            (true, "192.0.2.1", announced(false), false),
        ] {
            assert_eq!(clear(is_tls, peer, told), is_clear, "{peer} {told:?}");
        }
    }

    #[test]
    fn nobody_is_anonymous_behind_a_proxy() {
        let keyless =
            |peer: &str, announced| entrance().way(ip(peer), Some(ip("172.18.0.2")), announced).keyless;
        assert_eq!(keyless("172.18.0.9", None), Keyless::Let);
        assert_eq!(keyless("10.9.0.9", None), Keyless::Proxied, "in both lists");
        let announced = Announced { source: Some(ip("172.18.0.9")), is_tls: false };
        assert_eq!(keyless("172.18.0.9", Some(announced)), Keyless::Proxied);
        let nowhere = entrance().way(ip("172.18.0.9"), None, None).keyless;
        assert_eq!(nowhere, Keyless::Public, "where it arrived is not known");
        let plain = Entrance::default().way(ip("172.18.0.9"), Some(ip("172.18.0.2")), None).keyless;
        assert_eq!(plain, Keyless::Closed);
    }

    #[test]
    fn what_a_trusted_proxy_says_of_a_request_counts_and_nobody_elses_word() {
        let source = |peer: &str, fields: &str| {
            let entrance = Rc::new(entrance());
            let way = entrance.way(ip(peer), None, None);
            let head = Head::parse(&format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
            let source = Entered { entrance, way, peer: ip(peer), certificate: None }.source(&head);
            (source.address.to_string(), source.is_clear)
        };
        let told = |address: &str, is_clear| (address.to_owned(), is_clear);
        let (client, https) = ("X-Forwarded-For: 203.0.113.9\r\n", "X-Forwarded-Proto: https\r\n");
        assert_eq!(source("192.0.2.1", &format!("{client}{https}")), told("192.0.2.1", true));
        assert_eq!(source("10.0.0.1", client), told("203.0.113.9", true), "the last way was plain");
        assert_eq!(source("::1", client), told("203.0.113.9", false), "nothing is known of the first");
        assert_eq!(source("10.0.0.1", &format!("{client}{https}")), told("203.0.113.9", false));
        let http = "X-Forwarded-Proto: http\r\n";
        assert_eq!(source("::1", &format!("{client}{http}")), told("203.0.113.9", true));
        assert_eq!(source("::1", &format!("X-Forwarded-For: 127.0.0.1\r\n{http}")), told("127.0.0.1", false));
    }
}
