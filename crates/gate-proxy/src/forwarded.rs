//! What proxies write into a request about its client: `X-Forwarded-For` and `X-Forwarded-Proto`. Read only where a trusted
//! proxy is at the other end; whoever wrote what stands further left is known by the address to its right alone.

use crate::downstream::Head;
use std::net::IpAddr;

/// Addresses that are looked at, from the right: there are not that many proxies in a row.
const MOST: usize = 32;

/// The client: the right-most address that is no trusted proxy. `peer` is one. Where an entry is no address, whoever wrote it is
/// the last that is known.
pub(crate) fn client(head: &Head, peer: IpAddr, is_trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut lists: Vec<&[u8]> = head.all("x-forwarded-for").collect();
    lists.reverse();
    let mut known = peer;
    for entry in lists.iter().flat_map(|list| list.rsplit(|byte| *byte == b',')).take(MOST) {
        let Some(address) = address(entry) else { return known };
        known = address;
        if !is_trusted(address) {
            return known;
        }
    }
    known
}

/// An address, with or without port, brackets and quotes.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let ip = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0.parse().ok()?,
        None => match text.parse() {
            Ok(ip) => ip,
            Err(_) => text.rsplit_once(':')?.0.parse::<std::net::Ipv4Addr>().ok()?.into(),
        },
    };
    Some(IpAddr::to_canonical(&ip))
}

/// Whether the client speaks TLS with the first proxy; none where no proxy says so. Of several words every one must be `https`.
pub(crate) fn is_https(head: &Head) -> Option<bool> {
    let words = head.all("x-forwarded-proto").flat_map(|list| list.split(|byte| *byte == b','));
    words.map(|word| word.trim_ascii().eq_ignore_ascii_case(b"https")).reduce(|all, one| all && one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &str) -> Head {
        Head::parse(&format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", fields.replace('\n', "\r\n")))
    }

    #[test]
    fn the_right_most_address_that_is_no_proxy_is_the_client() {
        let of = |fields: &str| {
            let is_trusted = |ip: IpAddr| ip.to_string().starts_with("10.");
            client(&head(fields), "10.0.0.1".parse().unwrap(), is_trusted).to_string()
        };
        for (fields, client) in [
            ("", "10.0.0.1"),
            ("X-Forwarded-For: 203.0.113.9\n", "203.0.113.9"),
            ("X-Forwarded-For: 1.1.1.1, 203.0.113.9\n", "203.0.113.9"),
            ("X-Forwarded-For: 1.1.1.1, 203.0.113.9 , 10.0.0.2,10.0.0.3\n", "203.0.113.9"),
            (
                "X-Forwarded-For: 1.1.1.1\nx-forwarded-for: 203.0.113.9\nX-FORWARDED-FOR: 10.0.0.2\n",
                "203.0.113.9",
            ),
            ("X-Forwarded-For: 10.0.0.2, 10.0.0.3\n", "10.0.0.2"),
            ("X-Forwarded-For: 203.0.113.9:4711\n", "203.0.113.9"),
            ("X-Forwarded-For: 2001:db8::9\n", "2001:db8::9"),
            ("X-Forwarded-For: \"[2001:db8::9]:4711\"\n", "2001:db8::9"),
            ("X-Forwarded-For: ::ffff:203.0.113.9\n", "203.0.113.9"),
            ("X-Forwarded-For: 1.1.1.1, unknown\n", "10.0.0.1"),
            ("X-Forwarded-For: 1.1.1.1, unknown, 10.0.0.2\n", "10.0.0.2"),
            ("X-Forwarded-For: 1.1.1.1,\n", "10.0.0.1"),
            ("X-Forwarded-For:\n", "10.0.0.1"),
            ("X-Forwarded-For: 203.0.113.9, _hidden:5\n", "10.0.0.1"),
        ] {
            assert_eq!(of(fields), client, "{fields}");
        }
        let long = format!("X-Forwarded-For: 1.1.1.1{}\n", ", 10.0.0.2".repeat(100));
        assert_eq!(of(&long), "10.0.0.2");
    }

    #[test]
    fn every_word_must_be_https() {
        let of = |words: &str| is_https(&head(words));
        assert_eq!(of(""), None);
        for (words, is) in [
            ("https", true),
            (" HTTPS ", true),
            ("http", false),
            ("https, http", false),
            ("https,https", true),
            ("", false),
        ] {
            assert_eq!(of(&format!("X-Forwarded-Proto: {words}\n")), Some(is), "{words}");
        }
        assert_eq!(of("X-Forwarded-Proto: https\nX-Forwarded-Proto: http\n"), Some(false));
    }
}
