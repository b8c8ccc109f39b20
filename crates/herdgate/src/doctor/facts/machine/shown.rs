//! What of others' words may be shown: a URL without who asks and what is asked, a variable where it is no secret.

use super::proxies::masked;
use gate_config::UpstreamUrl;

/// Parts of names of variables that hold a secret.
const SECRETS: [&str; 7] = ["KEY", "TOKEN", "SECRET", "PASS", "AUTH", "CREDENTIAL", "CONFIGS"];

/// The value as it may be shown.
pub(in crate::doctor::facts) fn value(name: &str, value: &str) -> String {
    if is_secret(name) { "...".to_owned() } else { masked(value) }
}

pub(in crate::doctor::facts) fn is_secret(name: &str) -> bool {
    SECRETS.iter().any(|word| name.to_ascii_uppercase().contains(word))
}

/// A line that somebody wrote, in which a URL may stand.
pub(super) fn line(text: &str) -> String {
    let word = |word: &str| if word.contains("://") { masked(word) } else { word.to_owned() };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// Scheme, host, port and path; none for what is no address of a server.
pub(super) fn url(text: &str) -> Option<String> {
    let (scheme, rest) = text.trim().split_once("://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit('@').next()?;
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let is_plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~/-".contains(&byte));
    let url = format!("{scheme}://{host}{path}");
    (is_plain && UpstreamUrl::parse(&url).is_ok()).then_some(url)
}

/// URLs apart by `;`, which a password may have in it.
pub(super) fn urls(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for part in text.split(';') {
        match all.last_mut() {
            Some(last) if !part.trim_start().starts_with("http") => {
                last.push(';');
                last.push_str(part);
            }
            _ => all.push(part.to_owned()),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        for (text, shown) in [
            ("http://me:hunter2@gpu1:11434", Some("http://gpu1:11434")),
            ("https://gw/v1?api_key=sk-SECRET3", Some("https://gw/v1")),
            ("http://[fd00::2]:11434/v1/", Some("http://[fd00::2]:11434/v1/")),
            ("http://127.0.0.1:11434/$(touch$IFS'x')", None),
            ("http://u:12/3@h:1", None),
            ("http://x$(touch y).local:11434", None),
            ("gpu1", None),
        ] {
            assert_eq!(url(text).as_deref(), shown, "{text}");
        }
        let all = urls("http://u:sec;ret2@h:1;http://gpu2:11434");
        let shown: Vec<_> = all.iter().filter_map(|one| url(one)).collect();
        assert_eq!(shown, ["http://h:1", "http://gpu2:11434"]);
        assert_eq!(line("cannot ask http://me:pw@gpu1: refused"), "cannot ask http://...@gpu1: refused");
        assert_eq!(value("OLLAMA_API_KEY", "sk-SECRET"), "...");
        assert_eq!(value("OLLAMA_HOST", "0.0.0.0"), "0.0.0.0");
    }
}
