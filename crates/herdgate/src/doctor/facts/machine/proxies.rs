//! The variables by which programs find a proxy.

use std::collections::BTreeMap;
use std::env;

/// curl reads `http_proxy` in small letters alone; most others read both.
pub(super) const NAMES: [&str; 8] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// Those that are set around this program.
pub(super) fn look() -> BTreeMap<String, String> {
    let value = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    NAMES.iter().filter_map(|name| Some(((*name).to_owned(), masked(&value(name)?)))).collect()
}

/// Without a user and a password.
pub(super) fn masked(value: &str) -> String {
    match value.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.split_once("://").map(|(scheme, _)| format!("{scheme}://"));
            format!("{}...@{host}", scheme.unwrap_or_default())
        }
        None => value.to_owned(),
    }
}
