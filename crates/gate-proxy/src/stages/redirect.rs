//! A listener that serves nothing and points to TLS. What could be done again there is sent there (RFC 9110, section 15.4.9);
//! what carries a key is told that it was sent in clear, instead of being led to do that again and again without
//! anybody's notice. Nothing is passed on, and no body is read.

use crate::downstream::{Downstream, Head};
use crate::outcome::{Done, Ended};
use crate::stages::intake::{Target, name_and_port};
use crate::trace::{Trace, answer_whole};
use gate_wire::{GateError, Reason};

/// Fields that carry a credential.
const CREDENTIALS: [&str; 4] = ["authorization", "proxy-authorization", "x-api-key", "cookie"];

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
    let host = head.first_text("host").map(|host| name_and_port(host).0).filter(|_| !target.is_proxied);
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let base = host.map(|host| format!("https://{host}{port}"));
    let there = base.as_deref().unwrap_or("the https address of this gate");
    let has_key = CREDENTIALS.iter().any(|name| head.first(name).is_some())
        || target.path_and_query.contains(gate_keys::KEY_PREFIX);
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
        ] {
            for method in ["GET", "HEAD", "POST", "OPTIONS"] {
                let (status, text) =
                    led(443, &format!("{method} /api/tags HTTP/1.1\nHost: gate\n{fields}\n")).unwrap_err();
                assert_eq!(status, 403);
                assert!(text.contains("https://gate,") && text.contains("replace the key"), "{text}");
            }
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
