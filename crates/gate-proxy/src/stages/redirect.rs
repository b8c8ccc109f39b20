//! A listener that serves nothing and points to TLS. What could be done again there is sent there (RFC 9110, section 15.4.9);
//! what carries a key is told that it was sent in clear, instead of being led to do that again and again without
//! anybody's notice. Nothing is passed on, and no body is read.

use crate::downstream::{Downstream, Head};
use crate::outcome::{Done, Ended};
use crate::stages::intake::Target;
use crate::trace::{Trace, answer_whole};
use gate_wire::{GateError, Reason};
use std::net::Ipv6Addr;

/// Fields that carry a credential, whosever it is. A key of the gate's is found in any field.
const CREDENTIALS: [&str; 6] =
    ["authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"];

/// Answers a request that came to such a listener; `port` speaks TLS.
pub(crate) async fn answer<D: Downstream>(
    port: u16,
    head: &Head,
    target: Target<'_>,
    down: &mut D,
    trace: &mut Trace,
) -> Result<Done, Ended> {
    trace.unrouted(head.method(), target.path);
    let location = location(head, target, port)?;
    let fields = vec![("Location", location.as_bytes())];
    answer_whole(down, 308, fields, b"", trace).await
}

/// Where the client shall go.
fn location(head: &Head, target: Target<'_>, port: u16) -> Result<String, GateError> {
    let host = match head.first_text("host") {
        Some(host) => Some(name_of(host).ok_or_else(|| {
            GateError::new(Reason::BadRequest).saying("the Host is not a host name or address")
        })?),
        None => None,
    };
    let host = host.filter(|_| !target.is_proxied);
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let base = host.map(|host| format!("https://{host}{port}"));
    let there = base.as_deref().unwrap_or("the https address of this gate");
    let has_key = CREDENTIALS.iter().any(|name| head.first(name).is_some())
        || target.path_and_query.contains(gate_keys::KEY_PREFIX)
        || head.texts().any(|(_, value)| value.contains(gate_keys::KEY_PREFIX));
    if has_key {
        return Err(GateError::new(Reason::TlsRequired).saying(format!(
            "a key must not be sent here: this port has no TLS, so whoever listened has read it; use {there}, and \
             replace the key"
        )));
    }
    match base {
        Some(base) if matches!(head.method(), "GET" | "HEAD") => {
            Ok(format!("{base}{}", target.path_and_query))
        }
        _ => Err(GateError::new(Reason::TlsRequired)
            .saying(format!("nothing is served at this port; use {there}"))),
    }
}

/// The name or address of an authority (RFC 3986, 3.2.2 and 3.2.3), strictly: what is sent back is nothing that readers could take
/// for anything else.
fn name_of(authority: &str) -> Option<&str> {
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (&authority[..address.len() + 2], port)
        }
        None => {
            let (name, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            (!name.is_empty() && name.bytes().all(is_plain)).then_some((name, port))?
        }
    };
    let is_port = |digits: &str| {
        digits.is_empty() || (digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok())
    };
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Rules;
    use crate::stages::intake;

    fn led(port: u16, text: &str) -> Result<String, (u16, String)> {
        let head = Head::parse(&text.replace('\n', "\r\n"));
        let rules = Rules::for_tests(&["gate"], &[]);
        let target = intake::check(&rules, &head).unwrap();
        location(&head, target, port).map_err(|error| (error.reason.status(), error.public.into_owned()))
    }

    #[test]
    fn what_asks_only_is_led_to_the_same_place_over_tls() {
        for (port, text, there) in [
            (
                443,
                "GET /api/tags?x=1 HTTP/1.1\nHost: gate.example:80\n\n",
                "https://gate.example/api/tags?x=1",
            ),
            (7861, "HEAD / HTTP/1.1\nHost: gate.example\n\n", "https://gate.example:7861/"),
            (443, "GET //evil.example HTTP/1.1\nHost: gate\n\n", "https://gate//evil.example"),
            (8443, "GET / HTTP/1.1\nHost: [fd00::1]:80\n\n", "https://[fd00::1]:8443/"),
            (443, "GET / HTTP/1.1\nHost: [::1]\n\n", "https://[::1]/"),
            (443, "GET / HTTP/1.1\nHost: my_host.:\n\n", "https://my_host./"),
        ] {
            assert_eq!(led(port, text).as_deref(), Ok(there));
        }
    }

    #[test]
    fn keys_and_changes_are_refused_with_the_address_to_use() {
        for fields in [
            "Authorization: Bearer sk-hg-x\n",
            "authorization: x\n",
            "x-api-key: k\n",
            "Proxy-Authorization: Basic eA==\n",
            "Cookie: a=b\n",
            "api-key: k\n",
            "X-Goog-Api-Key: k\n",
            "X-Whatever: my key is sk-hg-abc\n",
            "Sec-WebSocket-Protocol: a, key.sk-hg-abc\n",
        ] {
            for method in ["GET", "HEAD", "POST", "OPTIONS"] {
                let (status, text) =
                    led(443, &format!("{method} /api/tags HTTP/1.1\nHost: gate\n{fields}\n")).unwrap_err();
                assert_eq!(status, 403);
                assert!(text.contains("https://gate,") && text.contains("replace the key"), "{text}");
            }
        }
        for host in [
            "[::1",
            "a:80:90",
            "a]:b",
            "a:b",
            "[::1]x",
            "[::1]:x",
            "[a]",
            "[::1]]",
            "[]",
            ":80",
            "a:65536",
            "::1",
            "a%41",
            "[fe80::1%25eth0]",
            "[[::1]]",
        ] {
            let (status, text) = led(443, &format!("GET / HTTP/1.1\nHost: {host}\n\n")).unwrap_err();
            assert_eq!(status, 400, "{host}");
            assert!(!text.contains(host), "{text}");
        }
        let (_, text) = led(443, "GET /?key=sk-hg-abc HTTP/1.1\nHost: gate\n\n").unwrap_err();
        assert!(text.contains("replace the key") && !text.contains("sk-hg"), "{text}");
        for text in [
            "POST /api/chat HTTP/1.1\nHost: gate\n\n",
            "DELETE / HTTP/1.1\nHost: gate\n\n",
            "GET / HTTP/1.0\n\n",
            "GET http://gate/ HTTP/1.1\nHost: gate\n\n",
        ] {
            let (status, told) = led(443, text).unwrap_err();
            assert!(status == 403 && told.starts_with("nothing is served"), "{told}");
        }
    }
}
