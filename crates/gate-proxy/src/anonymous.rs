//! Who may come in without a key, at a listener that was told to allow it: from named networks, directly, and as the key that
//! the settings name. An address is a weak credential: whatever passes requests on has one too. So everything that looks
//! like being passed on, or like a web page in somebody's browser, is refused.
//!
//! Decides only; the key is that of the ring in force, so its scopes, its end and its revocation are those of any key.

use crate::downstream::Head;
use crate::host::is_of_the_house;
use gate_h1::Version;
use gate_keys::{Key, KeyRing, State, UnixSeconds};
use gate_types::{Cidr, is_public};
use std::cell::RefCell;
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// Knows from which addresses nobody is let in without a key, wherever they lie: those at which others may stand who are not in
/// the network, such as a router's. Asked for each connection that would be let in.
pub trait Strangers: Debug + Send + Sync {
    /// Who stands at `peer`, which connected before `since`.
    fn standing(&self, peer: IpAddr, since: Instant) -> Standing;
}

/// Who stands at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Itself.
    Itself,
    /// Anybody: it is a router's, or the gate's own.
    Anybody,
    /// One who may be a router.
    Unsure,
    /// That is not known yet; worth asking again a little later.
    Later,
}

/// A list that does not change.
impl Strangers for Vec<IpAddr> {
    fn standing(&self, peer: IpAddr, _since: Instant) -> Standing {
        if self.contains(&peer) { Standing::Anybody } else { Standing::Itself }
    }
}

/// Who is let in without a key, and as whom. Each core has its own.
#[derive(Debug)]
pub struct Anonymous {
    networks: Vec<Cidr>,
    acts_as: String,
    never: Arc<dyn Strangers>,
    found: RefCell<Option<Found>>,
}

/// What was found in a ring: the key, or that it has no valid one.
#[derive(Debug)]
struct Found {
    ring: Weak<KeyRing>,
    key: Option<Arc<Key>>,
}

/// What a connection's addresses say of requests without a key that come over it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Keyless {
    /// Its listener lets nobody in so.
    #[default]
    Closed,
    /// They act as the key of the listener.
    Let,
    /// It comes from none of the networks.
    Outside,
    /// It came by a proxy.
    Proxied,
    /// It asked at an address that is anybody's.
    Public,
    /// Others may stand where it comes from.
    Shared,
    /// Others may stand there, or not: a router nearby cannot be told from it.
    Unsure,
    /// As [`Keyless::Unsure`], until it was asked again.
    Later,
}

impl Keyless {
    /// Why they are not let in where some are, in words for their sender. Tells no address and no network.
    pub(crate) fn objection(self) -> Option<&'static str> {
        match self {
            Keyless::Closed | Keyless::Let => None,
            Keyless::Outside => Some("this one comes from none of these"),
            Keyless::Proxied => Some("this one came by a proxy"),
            Keyless::Public => Some("this one asked at a public address of the gate"),
            Keyless::Shared => {
                Some("this one comes from a router or the gate's own machine, behind which anybody may be")
            }
            Keyless::Unsure | Keyless::Later => Some(
                "this one may come from a router: one beside it has not told the gate its link address (MAC) yet, or \
                 shares it with others",
            ),
        }
    }
}

impl Anonymous {
    /// Lets callers from `networks` in as the key of the name `acts_as`, but for those that `never` names.
    #[must_use]
    pub fn new(networks: Vec<Cidr>, acts_as: String, never: Arc<dyn Strangers>) -> Self {
        Self { networks, acts_as, never, found: RefCell::default() }
    }

    /// What holds for a connection from `peer` to `local`, which was there before `since`.
    pub(crate) fn judge(&self, peer: IpAddr, local: IpAddr, since: Instant) -> Keyless {
        let (peer, local) = (peer.to_canonical(), local.to_canonical());
        if is_public(peer) || !self.networks.iter().any(|network| network.contains(peer)) {
            Keyless::Outside
        } else if is_public(local) {
            Keyless::Public
        } else if peer.is_loopback() {
            Keyless::Let
        } else if peer == local {
            Keyless::Shared
        } else {
            match self.never.standing(peer, since) {
                Standing::Itself => Keyless::Let,
                Standing::Anybody => Keyless::Shared,
                Standing::Unsure => Keyless::Unsure,
                Standing::Later => Keyless::Later,
            }
        }
    }

    /// The key that its callers act as; none where there is no valid one of that name.
    pub(crate) fn key(&self, ring: &Arc<KeyRing>, now: UnixSeconds) -> Option<Arc<Key>> {
        let is_valid = |key: &Key| matches!(key.state(now), State::Active | State::Overlapping);
        let mut found = self.found.borrow_mut();
        // Kept weakly, the old ring's place cannot become another's. What is over does not begin again within one ring.
        if let Some(Found { ring: of, key }) = &*found
            && std::ptr::eq(of.as_ptr(), Arc::as_ptr(ring))
            && key.as_ref().is_none_or(|key| is_valid(key))
        {
            return key.clone();
        }
        let named = ring.all().filter(|key| key.name.as_str() == self.acts_as && is_valid(key));
        // Where one is replacing the other, the newer one.
        let key = named.max_by_key(|key| (key.state(now) == State::Active, key.id)).cloned();
        *found = Some(Found { ring: Arc::downgrade(ring), key: key.clone() });
        key
    }

    /// The name of that key.
    pub(crate) fn acts_as(&self) -> &str {
        &self.acts_as
    }
}

/// Fields by which proxies and tunnels tell of the client that they pass on.
const PASSED_ON: [&str; 21] = [
    "herdgate-hops",
    "x-forwarded",
    "forwarded-for",
    "x-remote-ip",
    "wl-proxy-client-ip",
    "proxy-client-ip",
    "proxy-connection",
    "x-varnish",
    "surrogate-capability",
    "x-bluecoat-via",
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "client-ip",
    "true-client-ip",
    "cdn-loop",
    "x-scheme",
    "x-proxyuser-ip",
    "x-host",
];
/// What the names of such fields begin with.
const PASSED_ON_FAMILIES: [&str; 18] = [
    "x-akamai-",
    "x-cloud-trace-",
    "x-nf-",
    "ali-cdn-",
    "incap-",
    "x-forwarded-",
    "x-original-",
    "x-envoy-",
    "x-amzn-",
    "x-appengine-",
    "x-azure-",
    "x-vercel-",
    "cf-",
    "fly-",
    "fastly-",
    "ngrok-",
    "tailscale-",
    "x-arr-",
];

/// What makes a request one that may not come without a key, wherever it comes from; in words for its sender. `is_allowed` says
/// that the settings allow the web page that it comes from.
pub(crate) fn objection(head: &Head, is_allowed: bool) -> Option<&'static str> {
    if head.version == Version::H10 {
        return Some("this one came over HTTP/1.0, as from a proxy");
    }
    if head.names().any(is_passed_on) {
        return Some("this one has a field of a proxy or tunnel that passes it on");
    }
    let is_cross = head.first("sec-fetch-site").is_some_and(|site| site != b"none" && site != b"same-origin");
    if (head.first("origin").is_some() || is_cross) && !is_allowed {
        return Some("this one comes from a web page, of an origin that cors.origins does not name");
    }
    if !head.first("host").is_some_and(is_of_the_house) {
        return Some("this one asks for a public name: use the address, or a name without a dot");
    }
    None
}

/// Whether a field of this name tells where a client is that somebody passes on.
pub(crate) fn is_passed_on(name: &[u8]) -> bool {
    // To CGI and its heirs `_` and `-` are the same.
    let is_like = |byte: &u8, read: u8| byte.eq_ignore_ascii_case(&read) || (*byte == b'_' && read == b'-');
    let begins = |read: &str| {
        name.get(..read.len())
            .is_some_and(|start| start.iter().zip(read.bytes()).all(|(byte, read)| is_like(byte, read)))
    };
    PASSED_ON.iter().any(|read| read.len() == name.len() && begins(read))
        || PASSED_ON_FAMILIES.iter().any(|family| begins(family))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gate_keys::{KeyId, KeyName, OsEntropy, mint};
    use gate_types::ScopeSet;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn stack(never: &[&str]) -> Anonymous {
        let networks = vec![
            "172.18.0.0/24".parse().unwrap(),
            "127.0.0.0/8".parse().unwrap(),
            "fd00::/64".parse().unwrap(),
        ];
        let never: Vec<IpAddr> = never.iter().map(|text| ip(text)).collect();
        Anonymous::new(networks, "stack".to_owned(), Arc::new(never))
    }

    #[test]
    fn only_from_its_networks_and_never_from_where_others_stand() {
        use Keyless::{Let, Outside, Public, Shared};
        let stack = stack(&["172.18.0.1", "172.18.0.2", "fd00::1"]);
        for (peer, local, expected) in [
            ("172.18.0.9", "172.18.0.2", Let),
            ("::ffff:172.18.0.9", "::ffff:172.18.0.2", Let),
            ("172.18.0.9", "172.19.0.2", Let),
            ("fd00::9", "fd00::2", Let),
            ("127.0.0.1", "127.0.0.1", Let),
            ("172.18.1.9", "172.18.0.2", Outside),
            ("10.0.0.9", "172.18.0.2", Outside),
            ("172.18.0.1", "172.18.0.2", Shared),
            ("::ffff:172.18.0.1", "172.18.0.2", Shared),
            ("fd00::1", "fd00::2", Shared),
            ("172.18.0.7", "172.18.0.7", Shared),
            ("172.18.0.9", "203.0.113.1", Public),
            ("172.18.0.9", "2001:db8::1", Public),
            ("::1", "::1", Outside),
        ] {
            assert_eq!(stack.judge(ip(peer), ip(local), Instant::now()), expected, "{peer} to {local}");
        }
        let all = vec![Cidr::of(ip("0.0.0.0"), 0).unwrap()];
        let everybody = Anonymous::new(all, "x".to_owned(), Arc::new(vec![]));
        let told = everybody.judge(ip("203.0.113.9"), ip("10.0.0.1"), Instant::now());
        assert_eq!(told, Outside, "a public address, whatever is named");
    }

    fn objects(fields: &str, is_allowed: bool) -> bool {
        let text = format!("GET /api/tags HTTP/1.1\r\n{}\r\n", fields.replace('\n', "\r\n"));
        objection(&Head::parse(&text), is_allowed).is_some()
    }

    #[test]
    fn what_is_passed_on_is_refused() {
        let host = "Host: gate:7860\n";
        assert!(!objects(host, false));
        assert!(!objects(
            &format!("{host}User-Agent: ollama/0.24\nX-Request-Id: 7\nAccept: */*\nCfx: 1\n"),
            false
        ));
        for name in [
            "Forwarded",
            "Via",
            "X-Forwarded-For",
            "X-Forwarded-Proto",
            "X-Forwarded-Server",
            "x-forwarded-client-cert",
            "X-Real-IP",
            "CF-Connecting-IP",
            "Cf-Ray",
            "CF_RAY",
            "cdn-loop",
            "True-Client-IP",
            "X-Original-URL",
            "Fly-Client-IP",
            "Tailscale-User-Login",
            "X-Amzn-Trace-Id",
            "X-Envoy-External-Address",
            "x_real_ip",
        ] {
            assert!(objects(&format!("{host}{name}: 172.18.0.9\n"), true), "{name}");
        }
        let old = Head::parse("GET / HTTP/1.0\r\nHost: gate\r\n\r\n");
        assert!(objection(&old, true).is_some());
    }

    #[test]
    fn pages_are_refused_unless_their_origin_is_allowed() {
        let host = "Host: gate:7860\n";
        for page in [
            "Origin: https://app.example\n",
            "Origin: http://gate:7860\n",
            "Origin: null\n",
            "Sec-Fetch-Site: cross-site\n",
        ] {
            assert!(objects(&format!("{host}{page}"), false), "{page}");
            assert!(!objects(&format!("{host}{page}"), true), "{page}");
        }
        for host in [
            "gate",
            "GATE:80",
            "172.18.0.2:7860",
            "[fd00::2]:7860",
            "[fd00::2]",
            "gate.local",
            "gate.stack.internal:1",
            "a.localhost",
        ] {
            assert!(!objects(&format!("Host: {host}\n"), false), "{host}");
        }
        for host in
            ["evil.example", "172.18.0.2.evil.example:7860", "gate.local.", "internal.example", "1.2.3"]
        {
            assert!(objects(&format!("Host: {host}\n"), true), "{host}");
        }
    }

    fn ring(keys: &[(i64, &str, Option<i64>, Option<i64>)]) -> Arc<KeyRing> {
        let keys = keys.iter().map(|(id, name, expires, revoked)| {
            let mark = mint(&mut OsEntropy).unwrap().mark;
            let mut key = Key::new(KeyId(*id), KeyName::parse(name).unwrap(), mark, ScopeSet::DEFAULT, 0);
            (key.expires, key.revoked) = (*expires, *revoked);
            key
        });
        Arc::new(KeyRing::new(keys.collect::<Vec<_>>()))
    }

    #[test]
    fn the_key_is_the_valid_one_of_its_name_in_the_ring_in_force() {
        let stack = stack(&[]);
        let key = |ring: &Arc<KeyRing>, now| stack.key(ring, now).map(|key| key.id.0);
        let first =
            ring(&[(1, "stack", None, Some(3)), (2, "stack", Some(100), None), (3, "other", None, None)]);
        assert_eq!((key(&first, 5), key(&first, 99)), (Some(2), Some(2)));
        assert_eq!(key(&first, 100), None, "its time is over");
        assert_eq!(key(&ring(&[(2, "stack", None, Some(4))]), 5), None, "revoked");
        assert_eq!(key(&ring(&[(7, "stack", None, None)]), 5), Some(7));
        let empty = ring(&[]);
        assert_eq!((key(&empty, 5), key(&empty, 5)), (None, None));
        assert_eq!(key(&first, 5), Some(2), "another ring");
    }
}
