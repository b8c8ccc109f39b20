//! Proxies and tunnels of this machine that lead to Ollama's port: their files, and the command lines of those that run.
//!
//! Of a command line only the one word that names the port is kept: others may be secrets.

use super::files;
use super::sockets::Program;
use crate::doctor::facts::dial::is_own;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Where they keep what they are told, by the program.
const PLACES: [(&str, &[&str]); 6] = [
    ("nginx", &["/etc/nginx", "/etc/nginx/conf.d", "/etc/nginx/sites-enabled", "/etc/nginx/http.d"]),
    ("caddy", &["/etc/caddy", "/etc/caddy/conf.d", "/etc/caddy/sites-enabled"]),
    (
        "cloudflared",
        &["/etc/cloudflared", "/root/.cloudflared", "~/.cloudflared", "/usr/local/etc/cloudflared"],
    ),
    ("traefik", &["/etc/traefik", "/etc/traefik/conf.d", "/etc/traefik/dynamic"]),
    ("haproxy", &["/etc/haproxy"]),
    ("apache2", &["/etc/apache2/sites-enabled", "/etc/apache2/conf-enabled", "/etc/httpd/conf.d"]),
];
/// Ollama's own port, on whatever machine.
const OLLAMA: u16 = 11434;
const MOST_FILES: usize = 200;
const MOST_NAMED: usize = 4096;
/// Words of a command line.
const MOST_WORDS: u64 = 64 << 10;
/// Programs that make a port of this machine reachable from elsewhere by their command line alone.
const TUNNELS: [&str; 9] =
    ["cloudflared", "ngrok", "ssh", "autossh", "tailscale", "lt", "bore", "socat", "zrok"];
/// What stands in a file that asks for a credential.
const CREDENTIALS: [&str; 7] = [
    "auth_basic",
    "auth_request",
    "http_authorization",
    "basic_auth",
    "basicauth",
    "forward_auth",
    "Authorization",
];

/// A line that leads to Ollama.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Front {
    pub(in crate::doctor) program: String,
    pub(in crate::doctor) file: String,
    pub(in crate::doctor) line: usize,
    /// As it stands there: `localhost:11434`.
    pub(in crate::doctor) to: String,
    /// Whether that is another machine, where a gate could have Ollama's port.
    pub(in crate::doctor) is_far: bool,
    /// Whether the file asks for a credential somewhere.
    pub(in crate::doctor) asks_credential: bool,
    pub(in crate::doctor) is_running: bool,
    /// Whether others than root, or who asks, choose what is in the file: no command names it.
    pub(in crate::doctor) is_foreign: bool,
}

/// A program that leads to Ollama by what it was started with.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Tunnel {
    pub(in crate::doctor) program: Program,
    /// The word that names the port.
    pub(in crate::doctor) word: String,
}

/// All that pass on what they get.
pub(in crate::doctor::facts) fn programs() -> impl Iterator<Item = &'static str> {
    PLACES.iter().map(|(name, _)| *name).chain(TUNNELS)
}

/// Whether a tunnel runs whose routes are kept elsewhere: Cloudflare's by a token.
pub(super) fn has_unseen(programs: &[Program]) -> bool {
    let by_word =
        |program: &Program| command_line(program.pid).iter().any(|word| word.starts_with("--token"));
    let by_variable = |program: &Program| {
        let bytes = fs::read(format!("/proc/{}/environ", program.pid)).unwrap_or_default();
        bytes.split(|byte| *byte == 0).any(|word| word.starts_with(b"TUNNEL_TOKEN="))
    };
    // Of no other program the variables are read.
    let mut tunnels = programs.iter().filter(|program| program.is("cloudflared"));
    tunnels.any(|program| by_word(program) || by_variable(program))
}

/// `ports` are Ollama's on this machine.
pub(super) fn look(programs: &[Program], ports: &[u16]) -> (Vec<Front>, Vec<Tunnel>) {
    let home = std::env::var("HOME").unwrap_or_default();
    let mut named: Vec<Named> = Vec::new();
    for (program, folders) in PLACES {
        for folder in folders {
            let entries = fs::read_dir(folder.replace('~', &home)).into_iter().flatten().flatten();
            named.extend(entries.map(|entry| (program.to_owned(), false, entry.path())));
        }
    }
    let mut tunnels = Vec::new();
    for program in programs {
        let is_front = PLACES.iter().find(|(name, _)| program.is(name));
        let is_tunnel = TUNNELS.contains(&program.name.as_str());
        if is_front.is_none() && !is_tunnel {
            continue;
        }
        let words = command_line(program.pid);
        let is_foreign = !files::is_program_ours(program.pid);
        if let Some((name, _)) = is_front {
            named.extend(files_of(&words).into_iter().map(|path| ((*name).to_owned(), is_foreign, path)));
        }
        let leads = |word: &&String| {
            ports.iter().any(|port| target(word, *port).is_some() || word.parse() == Ok(*port))
        };
        if let Some(word) = words.iter().skip(1).find(leads).filter(|_| is_tunnel) {
            tunnels.push(Tunnel { program: program.clone(), word: bare(word, ports) });
        }
    }
    (of_files(named, programs, ports), tunnels)
}

/// The program, whether who named the file may want anything by it, and the file.
type Named = (String, bool, PathBuf);

fn of_files(mut named: Vec<Named>, programs: &[Program], ports: &[u16]) -> Vec<Front> {
    // What others name takes the place of nothing.
    named.sort();
    named.truncate(MOST_NAMED);
    let mut known = HashSet::new();
    named.retain(|(program, _, path)| known.insert((program.clone(), fs::canonicalize(path).ok())));
    let mut fronts = Vec::new();
    for (program, is_foreign, path) in named.iter().take(MOST_FILES) {
        let Some(text) = files::read(path) else { continue };
        let is_running = programs.iter().any(|one| one.is(program));
        let is_foreign = *is_foreign || !files::is_ours(path);
        let found = of(program, path, &text, ports).into_iter();
        fronts.extend(found.map(|front| Front { is_running, is_foreign, ..front }));
    }
    fronts
}

fn command_line(pid: u32) -> Vec<String> {
    let mut bytes = Vec::new();
    let file = fs::File::open(format!("/proc/{pid}/cmdline"));
    let _gone = file.and_then(|file| file.take(MOST_WORDS).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    let words: Vec<String> = text.split('\0').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    // nginx writes its whole command line into the first word: "nginx: master process nginx -c FILE".
    match words.as_slice() {
        [one] => one.split(' ').map(str::to_owned).collect(),
        _ => words,
    }
}

/// The word, where it is an address with what may stand before it; else the address alone: a user's name and a password stand before an
/// `@`.
fn bare(word: &str, ports: &[u16]) -> String {
    let is_address = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:/[]".contains(&byte));
    let target = || ports.iter().find_map(|port| target(word, *port)).unwrap_or_default();
    if is_address { word.to_owned() } else { target() }
}

/// The files that its command line names.
fn files_of(words: &[String]) -> Vec<PathBuf> {
    let named = |pair: &[String]| {
        ["-c", "-f", "--config"].contains(&pair[0].as_str()).then(|| PathBuf::from(&pair[1]))
    };
    let joined = words.iter().filter_map(|word| word.strip_prefix("--config=").map(PathBuf::from));
    // Another's folder is not this one's.
    words.windows(2).filter_map(named).chain(joined).filter(|path| path.is_absolute()).collect()
}

/// The lines of a file that lead to one of the ports on this machine.
fn of(program: &str, path: &Path, text: &str, ports: &[u16]) -> Vec<Front> {
    let asks_credential = code(text).any(|(_, line)| CREDENTIALS.iter().any(|word| line.contains(word)));
    let front = |(number, line): (usize, &str)| {
        let listens = ["listen ", "bind ", "Listen "].iter().any(|word| line.trim_start().starts_with(word));
        let near = ports.iter().find_map(|port| target(line, *port));
        let is_far = near.is_none();
        let to = near.or_else(|| named(line, OLLAMA).filter(|_| is_far)).filter(|_| !listens)?;
        Some(Front {
            program: program.to_owned(),
            file: path.display().to_string(),
            line: number,
            to,
            is_far,
            asks_credential,
            is_running: false,
            is_foreign: false,
        })
    };
    code(text).filter_map(front).collect()
}

/// Numbered lines without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(at, line)| (at + 1, line.split('#').next().unwrap_or_default()))
}

/// The host and port of this machine that a line names: `localhost:11434`.
fn target(line: &str, port: u16) -> Option<String> {
    named(line, port).filter(|to| {
        let host = to.rsplit_once(':').map(|(host, _)| host).unwrap_or_default();
        ["localhost", "0.0.0.0", "[::1]"].contains(&host)
            || host.starts_with("127.")
            || host.trim_matches(['[', ']']).parse().is_ok_and(is_own)
    })
}

/// The host and port that a line names.
fn named(line: &str, port: u16) -> Option<String> {
    let port = format!(":{port}");
    let ends = |at: &usize| !line[at + port.len()..].starts_with(|c: char| c.is_ascii_digit());
    let at = line.match_indices(&port).map(|(at, _)| at).find(ends)?;
    let host = line[..at].rsplit(|c: char| !(c.is_ascii_alphanumeric() || ".-_[]:".contains(c))).next()?;
    // A tunnel of ssh's names its own port before: 8080:localhost:11434.
    let host = match host.rfind('[') {
        Some(bracket) => &host[bracket..],
        None => host.rsplit(':').next().unwrap_or(host),
    };
    (!host.is_empty()).then(|| format!("{host}{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(program: &str, text: &str) -> Vec<(usize, String, bool)> {
        let fronts = of(program, Path::new("/etc/x"), text, &[11434]);
        fronts.into_iter().map(|front| (front.line, front.to, front.asks_credential)).collect()
    }

    #[test]
    fn lines_that_lead_to_ollama_are_found_in_every_language() {
        let nginx = "server {\n  listen 11434;\n  location / {\n    # proxy_pass http://localhost:11434;\n    proxy_pass http://localhost:11434;\n  }\n}\n";
        assert_eq!(lines("nginx", nginx), [(5, "localhost:11434".into(), false)]);
        let caddy = "x {\n\treverse_proxy localhost:11434\n}\n";
        assert_eq!(lines("caddy", caddy), [(2, "localhost:11434".into(), false)]);
        let upstream = "upstream o {\n  server 127.0.0.1:11434;\n  server cuda2.local:11434;\n}\nif ($http_authorization != \"x\") { return 401; }\n";
        assert_eq!(
            lines("nginx", upstream),
            [(2, "127.0.0.1:11434".into(), true), (3, "cuda2.local:11434".into(), true)]
        );
        let tunnel = "tunnel: abc\ningress:\n  - hostname: o.example\n    service: http://localhost:11434\n";
        assert_eq!(lines("cloudflared", tunnel), [(4, "localhost:11434".into(), false)]);
        assert_eq!(
            lines("nginx", "proxy_pass http://127.0.0.1:7860;\nproxy_pass http://127.0.0.1:114345;"),
            []
        );
    }

    #[test]
    fn command_lines_name_ports_in_their_own_ways() {
        assert_eq!(target("http://localhost:11434", 11434).unwrap(), "localhost:11434");
        assert_eq!(target("80:localhost:11434", 11434).unwrap(), "localhost:11434");
        assert_eq!(target("http://[::1]:11434/", 11434).unwrap(), "[::1]:11434");
        assert_eq!(target("gpu1:11434", 11434), None);
        let words = ["nginx", "-c", "/tmp/n.conf", "--config=/tmp/x", "-c", "n.conf"].map(str::to_owned);
        assert_eq!(files_of(&words), [PathBuf::from("/tmp/n.conf"), PathBuf::from("/tmp/x")]);
        assert_eq!(bare("80:localhost:11434", &[11434]), "80:localhost:11434");
        for secret in ["http://me:pw@localhost:11434", "a;touch x;http://localhost:11434"] {
            assert_eq!(bare(secret, &[11434]), "localhost:11434");
        }
    }
}
