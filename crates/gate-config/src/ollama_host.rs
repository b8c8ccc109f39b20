//! `OLLAMA_HOST` (and `OLLAMA_URL`, `OLLAMA_BASE_URL`) as Ollama's own client reads it, to find the upstream by it.
//!
//! Rules measured on Ollama v0.33.0-rc2's `envconfig`. Where that reader would connect somewhere nobody meant, here it is
//! a problem: credentials are mis-read there as the host, an unknown scheme fails at the first request, port 0 too.

use crate::upstream_url::{BadUrl, OLLAMA_PORT, UpstreamUrl, build, host_and_port, read_port, split};
use std::net::Ipv4Addr;

/// What an `OLLAMA_HOST` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Where a client would connect.
    pub url: UpstreamUrl,
    /// The port could not be read and the scheme's default stands in for it, as in Ollama, which warns too.
    pub bad_port: bool,
}

/// Reads the variable's value as a client does; an empty one is the default, `http://127.0.0.1:11434`.
///
/// Trimmed of blanks, then of quotes. Without a scheme: `http`, port 11434; `http://` implies 80, `https://` 443; schemes
/// are compared with their case, so `HTTPS://` keeps 11434. `0.0.0.0`, `::` and no host at all become loopback. What
/// follows the first slash is the base path.
///
/// # Errors
/// [`BadUrl`], where the client would fail or go astray.
pub fn ollama_host(value: &str) -> Result<Reading, BadUrl> {
    let value = value.trim().trim_matches(['"', '\'']);
    let parts = split(value)?;
    let (tls, implied) = match parts.scheme {
        None => (false, OLLAMA_PORT),
        Some("http") => (false, 80),
        Some("https") => (true, 443),
        Some(scheme) if scheme.eq_ignore_ascii_case("http") => (false, OLLAMA_PORT),
        Some(scheme) if scheme.eq_ignore_ascii_case("https") => (true, OLLAMA_PORT),
        Some(_) => return Err(BadUrl::Scheme),
    };
    let (host, port) = host_and_port(parts.authority);
    let loopback = Ipv4Addr::LOCALHOST.to_string();
    let host = if host.is_empty() { &loopback } else { host };
    let (port, bad_port) = match port {
        None => (implied, false),
        Some(port) if !port.is_empty() && port.bytes().all(|b| b == b'0') => return Err(BadUrl::Port),
        Some(port) => read_port(port).map_or((implied, true), |port| (port, false)),
    };
    Ok(Reading { url: build(tls, host, port, parts.path)?, bad_port })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every row of the table of Ollama's own rules, in its order. Two rows differ from Ollama on purpose: with
    /// credentials its client connects to a host called `user`, or builds no request at all; here both are a problem.
    #[test]
    fn every_row_of_ollamas_rules() {
        let bad = |shown: &'static str| Ok((shown, true));
        let good = |shown: &'static str| Ok((shown, false));
        type Row = (&'static str, Result<(&'static str, bool), BadUrl>);
        let rows: &[Row] = &[
            ("", good("http://127.0.0.1:11434")),
            ("1.2.3.4", good("http://1.2.3.4:11434")),
            ("host", good("http://host:11434")),
            ("host:8080", good("http://host:8080")),
            (":1234", good("http://127.0.0.1:1234")),
            ("0.0.0.0", good("http://127.0.0.1:11434")),
            ("::1", good("http://[::1]:11434")),
            ("[::1]", good("http://[::1]:11434")),
            ("[::1]:99", good("http://[::1]:99")),
            ("http://host", good("http://host:80")),
            ("https://host", good("https://host:443")),
            ("ollama.com", good("https://ollama.com:443")),
            ("http://host:99999", bad("http://host:80")),
            ("host:abc", bad("http://host:11434")),
            ("http://", good("http://127.0.0.1:80")),
            ("HTTPS://host", good("https://host:11434")),
            ("https://host/base/path", good("https://host:443/base/path")),
            ("https://user:pw@host", Err(BadUrl::Credentials)),
            ("https://tok@host", Err(BadUrl::Credentials)),
            ("https://tok@host:8443", Err(BadUrl::Credentials)),
            // Not rows of the table: its words around it, and what follows from them.
            (" \"host:8080\" ", good("http://host:8080")),
            ("'https://host'", good("https://host:443")),
            ("   ", good("http://127.0.0.1:11434")),
            ("0.0.0.0:8080", good("http://127.0.0.1:8080")),
            ("::", good("http://[::1]:11434")),
            ("[::]:8080", good("http://[::1]:8080")),
            ("http://0.0.0.0", good("http://127.0.0.1:80")),
            ("https://host:abc", bad("https://host:443")),
            ("host:-1", bad("http://host:11434")),
            ("host:", bad("http://host:11434")),
            ("host/base/", good("http://host:11434/base")),
            ("http://ollama.com", good("http://ollama.com:80")),
            ("host:0", Err(BadUrl::Port)),
            ("ftp://host", Err(BadUrl::Scheme)),
            ("11434", Err(BadUrl::PortAlone)),
            ("ho st", Err(BadUrl::Host)),
            ("host?x=1", Err(BadUrl::Query)),
            ("host/#x", Err(BadUrl::Fragment)),
        ];
        for (value, expected) in rows {
            let read = ollama_host(value).map(|read| (read.url.to_string(), read.bad_port));
            assert_eq!(read, expected.map(|(shown, bad)| (shown.to_owned(), bad)), "{value:?}");
        }
    }

    #[test]
    fn a_refusal_never_repeats_the_password() {
        let problem = ollama_host("https://user:canary@host").unwrap_err();
        assert!(!format!("{problem:?} {problem} {}", problem.hint()).contains("canary"));
    }

    proptest! {
        #[test]
        fn settings_and_variable_agree_where_both_read_and_the_port_is_sound(text in "(https?://)?[a-z0-9.:\\[\\]/-]{1,16}") {
            if let (Ok(setting), Ok(variable)) = (UpstreamUrl::parse(&text), ollama_host(&text)) {
                prop_assert_eq!(setting, variable.url);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            if let Ok(read) = ollama_host(&text) {
                prop_assert!(read.url.port != 0 && !read.url.host.is_empty());
            }
        }
    }
}
