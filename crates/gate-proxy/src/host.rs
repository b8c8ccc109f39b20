//! Host names as requests write them: what is name and what is port, and whether a name is one that nobody outside can give.
//!
//! Pure; looks nothing up.

use std::net::IpAddr;

/// Splits the port off; a colon within the brackets of an address is not its.
#[must_use]
pub fn name_and_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (authority, None),
    }
}

/// The name without the brackets that an address of IPv6 stands in.
#[must_use]
pub fn bare(name: &str) -> &str {
    name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name)
}

/// Endings of names that no public name server answers for (RFC 6761, RFC 6762, and the one that is reserved for such use).
const OF_THE_HOUSE: [&str; 3] = [".localhost", ".local", ".internal"];

/// Whether a `Host` is an address, or a name that nobody outside can give to it: a page whose own name was bound anew to the
/// gate's address asks for that name.
pub(crate) fn is_of_the_house(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let (name, _port) = name_and_port(host);
    let lower = name.to_ascii_lowercase();
    bare(name).parse::<IpAddr>().is_ok()
        || !name.contains('.')
        || OF_THE_HOUSE.iter().any(|end| lower.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_behind_the_name_and_not_within_an_address() {
        for (authority, name, port) in [
            ("gate", "gate", None),
            ("gate:7860", "gate", Some("7860")),
            ("gate:", "gate", Some("")),
            ("[::1]", "::1", None),
            ("[::1]:80", "::1", Some("80")),
            ("[::1", "[:", Some("1")),
        ] {
            let (written, found) = name_and_port(authority);
            assert_eq!((bare(written), found), (name, port), "{authority}");
        }
    }
}
