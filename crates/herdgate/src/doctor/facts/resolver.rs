//! Looking a name up as a container's programs do it: by its own `/etc/hosts` and the name servers of its own `/etc/resolv.conf`, among
//! them Docker's 127.0.0.11. Runs in the container's network; of its file system it reads these two files and follows no link out.

use super::dns::{A, AAAA, Reply, question, reply};
use super::{dial, names};
use crate::together::together;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// For one name server: half of what glibc gives it, so that three have their turn (resolv.conf(5)).
const TIME: Duration = Duration::from_millis(2_000);
/// resolv.conf(5): more are not asked. Endings that are tried, and bytes of a file and of an answer.
const SERVERS: usize = 3;
const ENDINGS: usize = 6;
const FILE: u64 = 256 << 10;
const ANSWER: usize = 4096;
const PORT: u16 = 53;

/// Where a container's files are found from here.
#[derive(Debug, Clone)]
pub(super) struct Root(pub(super) PathBuf);

impl Root {
    /// Nothing where there is no such file. A link leads to a file of the container, never to one of this machine.
    pub(super) fn read(&self, path: &str) -> String {
        let open = || {
            let folder =
                openat(CWD, &self.0, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            openat2(folder, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
        };
        let Ok(file) = open().map(File::from) else { return String::new() };
        let mut bytes = Vec::new();
        if file.metadata().is_ok_and(|stat| stat.is_file()) {
            // What could be read counts.
            let _part = file.take(FILE).read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The addresses in the order in which programs try them, or why there are none.
    pub(super) async fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        let own = names::addresses_of(&self.read("etc/hosts"), host);
        if !own.is_empty() {
            return Ok(own);
        }
        if host.eq_ignore_ascii_case("localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
        }
        let servers = Servers::read(&self.read("etc/resolv.conf"));
        let mut why = String::new();
        for name in servers.whole_names(host) {
            match servers.ask(&name).await {
                Ok(found) if !found.is_empty() => return Ok(in_order(found)),
                Ok(_none) => {}
                Err(silent) => why = silent,
            }
        }
        Err(if why.is_empty() { servers.shown("says that there is no such name") } else { why })
    }
}

/// `/etc/resolv.conf`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Servers {
    servers: Vec<IpAddr>,
    endings: Vec<String>,
    /// A name with so many dots is tried as it is before any ending.
    dots: usize,
}

impl Servers {
    fn read(text: &str) -> Self {
        let mut read = Servers { servers: Vec::new(), endings: Vec::new(), dots: 1 };
        for line in text.lines().map(|line| line.split(['#', ';']).next().unwrap_or_default()) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    read.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()))
                }
                // The last of such lines counts.
                Some("search" | "domain") => read.endings = words.take(ENDINGS).map(str::to_owned).collect(),
                Some("options") => {
                    let dots = words.filter_map(|word| word.strip_prefix("ndots:")?.parse().ok()).next_back();
                    read.dots = dots.unwrap_or(read.dots);
                }
                _ => {}
            }
        }
        read.servers.truncate(SERVERS);
        if read.servers.is_empty() {
            read.servers.push(Ipv4Addr::LOCALHOST.into());
        }
        read
    }

    /// The names that are asked for in its place, one after the other.
    fn whole_names(&self, host: &str) -> Vec<String> {
        if host.ends_with('.') {
            return vec![host.to_owned()];
        }
        let mut names: Vec<String> = self.endings.iter().map(|ending| format!("{host}.{ending}")).collect();
        let is_first = host.matches('.').count() >= self.dots;
        names.insert(if is_first { 0 } else { names.len() }, host.to_owned());
        names
    }

    /// What the first of them that answers says; none where there is no such name.
    async fn ask(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        for server in &self.servers {
            let asked = [A, AAAA].map(|kind| timeout(TIME, one(*server, name, kind)));
            let heard: Vec<Reply> = together(asked.into_iter().collect())
                .await
                .into_iter()
                .filter_map(|reply| reply.ok().flatten())
                .collect();
            let is_told = heard.iter().any(|reply| *reply != Reply::Refused);
            if is_told {
                let all = heard.into_iter().flat_map(|reply| match reply {
                    Reply::Addresses(found) => found,
                    Reply::NoName | Reply::Refused => Vec::new(),
                });
                return Ok(all.collect());
            }
        }
        Err(self.shown("does not answer"))
    }

    fn shown(&self, does: &str) -> String {
        let servers: Vec<String> = self.servers.iter().map(ToString::to_string).collect();
        format!("its name server {} {does}", servers.join(", "))
    }
}

async fn one(server: IpAddr, name: &str, kind: u16) -> Option<Reply> {
    let id = u16::try_from(getrandom::u32().unwrap_or_default() >> 16).unwrap_or_default();
    let question = question(id, true, name, kind)?;
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 16], 0).into() };
    let socket = UdpSocket::bind(any).await.ok()?;
    socket.connect(SocketAddr::new(server, PORT)).await.ok()?;
    socket.send(&question).await.ok()?;
    let mut buffer = vec![0; ANSWER];
    loop {
        let length = socket.recv(&mut buffer).await.ok()?;
        if let Some(reply) = buffer.get(..length).and_then(|answer| reply(answer, id, name)) {
            return Some(reply);
        }
    }
}

/// IPv6 first where there is a way to it (RFC 6724): the way is asked for, nothing is sent.
fn in_order(mut found: Vec<IpAddr>) -> Vec<IpAddr> {
    found.dedup();
    found.sort_by_key(|ip| match (ip.is_ipv6(), dial::source(SocketAddr::new(*ip, PORT)).is_some()) {
        (true, true) => 0,
        (false, _) => 1,
        (true, false) => 2,
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_of_names_are_read_as_programs_do() {
        let docker = Servers::read(
            "# Generated by Docker Engine.\nnameserver 127.0.0.11\nsearch lan example.org\noptions edns0 ndots:0\n",
        );
        assert_eq!(docker.servers, [IpAddr::from([127, 0, 0, 11])]);
        assert_eq!(docker.whole_names("ollama"), ["ollama", "ollama.lan", "ollama.example.org"]);
        let cluster = Servers::read("nameserver 10.0.0.1\nsearch a.svc\noptions ndots:5\n");
        assert_eq!(cluster.whole_names("x.y"), ["x.y.a.svc", "x.y"]);
        assert_eq!(cluster.whole_names("x.y."), ["x.y."]);
        assert_eq!(Servers::read("").servers, [IpAddr::from(Ipv4Addr::LOCALHOST)]);
    }

    #[test]
    fn links_of_a_container_lead_nowhere_outside() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root(dir.path().to_owned());
        std::fs::create_dir_all(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/real"), "10.0.0.2 gpu1\n").unwrap();
        std::os::unix::fs::symlink("/etc/real", dir.path().join("etc/hosts")).unwrap();
        assert_eq!(root.read("etc/hosts"), "10.0.0.2 gpu1\n");
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("etc/resolv.conf")).unwrap();
        assert_eq!(root.read("etc/resolv.conf"), "");
        assert_eq!(root.read("etc"), "");
    }
}
