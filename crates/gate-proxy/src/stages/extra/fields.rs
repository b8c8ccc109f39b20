//! What of the heads passes on a route beside the built-in ones. There nobody knows which fields mean something, so all pass but
//! those that are listed here: credentials, where the client is and came from, a browser's own business, and whatever is about one
//! connection alone (RFC 9110, section 7.6.1).

use super::socket;
use crate::anonymous::is_passed_on;
use crate::downstream::{AnswerHead, Downstream, Head};
use crate::rules::ExtraRoute;
use crate::stages::attempt::Live;
use crate::stages::intake::Target;
use crate::trace::Trace;
use gate_keys::KEY_PREFIX;
use gate_upstream::Ask;
use gate_wire::{GateError, Reason};

/// About one connection alone, whoever sends them; each side writes its own.
const OF_CONNECTION: [&str; 12] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "content-length",
    "expect",
];

/// What no upstream sees of a client beyond that; `anonymous.rs` has the fields that tell where a client is.
const OF_CLIENT: [&str; 9] = [
    "authorization",
    "x-api-key",
    "cookie",
    "cookie2",
    "host",
    "origin",
    "referer",
    "x-request-id",
    "max-forwards",
];
const FAMILIES_OF_CLIENT: [&str; 5] = ["proxy-", "sec-", "access-control-", "herdgate-", "x-real-"];

/// What no client sees of an upstream: what would bind a browser to it, lead it elsewhere whatever the status, or unlock the gate's
/// pages to others.
const OF_UPSTREAM: [&str; 10] = [
    "set-cookie",
    "set-cookie2",
    "www-authenticate",
    "strict-transport-security",
    "alt-svc",
    "clear-site-data",
    "refresh",
    "x-request-id",
    "server",
    "herdgate-hops",
];
const FAMILIES_OF_UPSTREAM: [&str; 3] = ["access-control-", "proxy-", "sec-"];

/// The fields by which a WebSocket is agreed on (RFC 6455, section 11.3).
const SOCKET: &str = "sec-websocket-";

/// What is sent to the upstream.
pub(super) struct Asked<'h> {
    method: &'h str,
    path: String,
    fields: Vec<(&'h str, &'h str)>,
}

impl Asked<'_> {
    pub(super) fn ask(&self) -> Ask<'_> {
        Ask { method: self.method, path: &self.path, fields: &self.fields, body: b"" }
    }
}

/// Writes the request anew as the upstream gets it, with the gate's `own` fields; `route` matches its path.
pub(super) fn asked<'h>(
    head: &'h Head,
    target: Target<'_>,
    route: &ExtraRoute,
    own: [(&'static str, Option<&'h str>); 2],
) -> Asked<'h> {
    let is_socket = socket::is_wanted(head);
    let passes = |name: &str| {
        let is_of_socket = is_socket && begins(name, SOCKET);
        let is_back = is_in(name, &OF_CONNECTION, &[]) || is_in(name, &OF_CLIENT, &FAMILIES_OF_CLIENT);
        // To CGI and its heirs `_` and `-` are the same: such a field could be any of these.
        let may_pass = !is_back && !is_passed_on(name.as_bytes()) && !name.contains('_');
        is_of_socket || (may_pass && !is_named_in(name.as_bytes(), head.all("connection")))
    };
    let kept = head.texts().filter(|(name, value)| passes(name) && !value.contains(KEY_PREFIX));
    Asked {
        method: head.method(),
        path: route.template.upstream_target(target.path_and_query).unwrap_or_default(),
        fields: kept.chain(own.into_iter().filter_map(|(name, value)| Some((name, value?)))).collect(),
    }
}

/// A key in the address or among a WebSocket's protocols would reach the upstream, and its logs.
pub(super) fn hold_no_key(head: &Head, target: Target<'_>) -> Result<(), GateError> {
    let protocols = head.all("sec-websocket-protocol").map(String::from_utf8_lossy);
    if target.path_and_query.contains(KEY_PREFIX)
        || protocols.into_iter().any(|list| list.contains(KEY_PREFIX))
    {
        return Err(GateError::new(Reason::BadRequest).saying(
            "an API key stands in the address or in Sec-WebSocket-Protocol, from where the model server would see it; send it in \
             Authorization or x-api-key alone",
        ));
    }
    Ok(())
}

/// Puts down the head of an upstream's answer.
pub(crate) fn begin<D: Downstream>(live: &Live, down: &mut D, trace: &mut Trace) {
    trace.status = live.answer.status();
    let id = trace.id;
    let upstreams = passing(live.answer.fields());
    let fields: Vec<_> =
        upstreams.chain([("x-request-id", id.as_bytes())]).chain(trace.cors.fields()).collect();
    down.begin(&AnswerHead { status: live.answer.status(), fields: &fields, framing: live.answer.framing() });
    if live.own_idle.is_some() {
        down.limit_silence(live.own_idle);
    }
}

/// Whether an answer sends its reader past the gate, where the client would show its key. A redirect has one `Location` that every
/// reader takes for a path of the gate's. What is no redirect may name another place (a `201` does): nobody goes there by itself.
pub(super) fn leads_away<'a>(status: u16, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> bool {
    if !(300..400).contains(&status) {
        return false;
    }
    let mut locations = fields.filter(|(name, _)| name.eq_ignore_ascii_case(b"location"));
    match (locations.next(), locations.next()) {
        (None, _) => false,
        (Some((_, to)), None) => !is_path_here(to),
        (Some(_), Some(_)) => true,
    }
}

/// Whether this leads to a path of the same host for everybody. Browsers read `\` as `/` and leave out tabs and line ends
/// (WHATWG URL, 4.4).
fn is_path_here(to: &[u8]) -> bool {
    let has_slashes = || to.windows(2).any(|two| two == b"//");
    to.starts_with(b"/") && to.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'\\') && !has_slashes()
}

/// The fields of an upstream's answer that reach the client.
pub(super) fn passing<'a>(
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone + 'a,
) -> impl Iterator<Item = (&'a str, &'a [u8])> + 'a {
    let all = fields.clone();
    let nominated = move || {
        all.clone().filter(|(name, _)| name.eq_ignore_ascii_case(b"connection")).map(|(_, value)| value)
    };
    fields.filter_map(move |(name, value)| {
        let text = std::str::from_utf8(name).ok()?;
        let is_back = is_in(text, &OF_CONNECTION, &[]) || is_in(text, &OF_UPSTREAM, &FAMILIES_OF_UPSTREAM);
        (!is_back && !is_named_in(name, nominated())).then_some((text, value))
    })
}

/// The fields of an upstream's `101` that agree on the WebSocket.
pub(super) fn agreeing<'a>(
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])> + 'a,
) -> impl Iterator<Item = (&'a str, &'a [u8])> + 'a {
    let texts = fields.filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value)));
    texts.filter(|(name, _)| begins(name, SOCKET))
}

fn begins(name: &str, start: &str) -> bool {
    name.get(..start.len()).is_some_and(|part| part.eq_ignore_ascii_case(start))
}

fn is_in(name: &str, names: &[&str], families: &[&str]) -> bool {
    names.iter().any(|listed| name.eq_ignore_ascii_case(listed))
        || families.iter().any(|family| begins(name, family))
}

/// Whether a `Connection` field names it: then it is about that connection alone.
fn is_named_in<'c>(name: &[u8], mut connection: impl Iterator<Item = &'c [u8]>) -> bool {
    connection
        .any(|list| list.split(|byte| *byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gate_types::{Scope, UpstreamId};
    use gate_wire::Template;

    fn sent(fields: &str) -> String {
        let head = Head::parse(&format!("GET /x/a?b HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
        let route = ExtraRoute {
            template: Template::parse("/x/{rest}").unwrap(),
            scope: Scope::Infer,
            upstream: UpstreamId(0),
            upgrade: true,
        };
        let target = Target { path: "/x/a", path_and_query: "/x/a?b", is_proxied: false };
        let asked = asked(&head, target, &route, [("X-Request-Id", Some("t-1")), ("Herdgate-Hops", None)]);
        assert_eq!((asked.method, asked.path.as_str()), ("GET", "/x/a?b"));
        let (last, rest) = asked.fields.split_last().unwrap();
        assert_eq!(last.0, "X-Request-Id");
        rest.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
    }

    #[test]
    fn what_is_the_clients_own_stays_here() {
        for fields in [
            "Authorization: Bearer sk-1\r\n",
            "X-API-Key: a\r\n",
            "Proxy-Authorization: Basic a\r\n",
            "Cookie: a=b\r\n",
            "Origin: http://a\r\n",
            "Referer: http://a\r\n",
            "X-Forwarded-For: 1.2.3.4\r\n",
            "Forwarded: for=1.2.3.4\r\n",
            "CF-Connecting-IP: 1.2.3.4\r\n",
            "X-Real-IP: 1.2.3.4\r\n",
            "Via: 1.1 a\r\n",
            "Sec-Fetch-Site: none\r\n",
            "Sec-WebSocket-Key: a\r\n",
            "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: a\r\n",
            "Connection: x-hop\r\nX-Hop: a\r\n",
            "Keep-Alive: 5\r\n",
            "TE: trailers\r\n",
            "Access-Control-Request-Method: GET\r\n",
            "Some_field: a\r\n",
            "X-Note: my key is sk-hg-abc\r\n",
            "X-Request-Id: mine\r\n",
        ] {
            assert_eq!(sent(fields), "", "{fields}");
        }
    }

    #[test]
    fn the_rest_passes_and_a_sockets_own_fields_with_a_socket() {
        let plain = "Accept: a\r\nRange: bytes=0-\r\nX-Voice: b\r\nContent-Encoding: gzip\r\n";
        assert_eq!(sent(plain), plain.replace('\r', ""));
        let socket = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: a\r\nSec-WebSocket-Version: 13\r\n";
        assert_eq!(sent(socket), "Sec-WebSocket-Key: a\nSec-WebSocket-Version: 13\n");
    }

    #[test]
    fn an_answer_leads_to_a_path_here_or_nowhere() {
        let leads = |status, fields: &[(&str, &str)]| {
            leads_away(status, fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
        };
        for to in ["/", "/tts/b", "/tts/b?x=1&y=%2F#z", "/a:b@c"] {
            assert!(!leads(302, &[("Location", to)]), "{to}");
        }
        for to in [
            "",
            "https://evil/",
            "HTTPS:evil",
            "//evil/x",
            "///evil",
            "/\\evil/x",
            "\\\\evil",
            "/\t/evil/x",
            "/\n/evil",
            "/\u{1}/evil",
            "\t//evil",
            "/ /evil",
            "/a//evil",
            "/a\\..\\",
            "tts/b",
            "?x",
            "/\u{e4}",
            "/\u{7f}",
        ] {
            for status in [300, 301, 302, 303, 307, 308, 399] {
                assert!(leads(status, &[("location", to)]), "{status} {to:?}");
            }
        }
        assert!(leads(302, &[("Location", "/a"), ("location", "https://evil")]));
        assert!(leads(302, &[("Location", "/a"), ("LOCATION", "/a")]), "readers differ about which counts");
        assert!(!leads(201, &[("Location", "https://made.example/1")]), "nobody goes there by itself");
        assert!(!leads(304, &[]) && !leads(302, &[]));
    }

    #[test]
    fn nothing_of_an_upstreams_connection_or_cookies_comes_back() {
        let fields: [(&[u8], &[u8]); 9] = [
            (b"refresh", b"0;url=https://evil"),
            (b"Content-Type", b"audio/wav"),
            (b"Set-Cookie", b"a=b"),
            (b"Connection", b"close, X-Hop"),
            (b"X-Hop", b"a"),
            (b"Access-Control-Allow-Origin", b"*"),
            (b"Content-Length", b"5"),
            (b"X-Voice", b"c"),
            (b"Strict-Transport-Security", b"max-age=1"),
        ];
        let kept: Vec<&str> = passing(fields.into_iter()).map(|(name, _)| name).collect();
        assert_eq!(kept, ["Content-Type", "X-Voice"]);
    }
}
