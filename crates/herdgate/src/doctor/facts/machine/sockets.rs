//! Who listens on this machine: `/proc/net/tcp` and the programs whose descriptors these sockets are (proc(5)). Another user's
//! programs are seen by root alone.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// `TCP_LISTEN`, as the table writes it.
const LISTENS: &str = "0A";
const MOST: usize = 4096;
const LETTERS: usize = 120;

/// A program that runs.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Program {
    pub(in crate::doctor) pid: u32,
    pub(in crate::doctor) name: String,
    /// The service that it belongs to.
    pub(in crate::doctor) unit: Option<String>,
    /// The container that it runs in.
    pub(in crate::doctor) container: Option<String>,
}

impl Program {
    pub(in crate::doctor) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// For people.
    pub(in crate::doctor) fn shown(&self) -> String {
        match &self.unit {
            Some(unit) => format!("{} (pid {}, {unit})", self.name, self.pid),
            None => format!("{} (pid {})", self.name, self.pid),
        }
    }
}

/// A socket that takes connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::doctor) struct Socket {
    pub(in crate::doctor) address: SocketAddr,
    #[serde(default)]
    pub(in crate::doctor) owner: Option<Program>,
    /// The version of an Ollama that answers there to whoever shows no key. Asked where others than this machine reach it.
    #[serde(default)]
    pub(in crate::doctor) keyless_ollama: Option<String>,
}

impl Socket {
    pub(in crate::doctor) fn is_loopback(&self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }

    /// Whether a socket at `other` could not be beside it: on Linux one of all addresses is in the way of each.
    pub(in crate::doctor) fn is_in_the_way_of(&self, other: SocketAddr) -> bool {
        let (own, its) = (self.address.ip().to_canonical(), other.ip().to_canonical());
        let everywhere = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let meets = own.is_ipv4() == its.is_ipv4() || own == everywhere || its == everywhere;
        self.address.port() == other.port()
            && (own == its || (meets && (own.is_unspecified() || its.is_unspecified())))
    }
}

/// Everything that listens, and the programs that run.
pub(in crate::doctor::facts) fn look() -> (Vec<Socket>, Vec<Program>) {
    let mut lines: Vec<(SocketAddr, u64)> = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        lines.extend(fs::read_to_string(table).unwrap_or_default().lines().filter_map(listening));
    }
    let (owners, programs) = owners();
    let socket = |(address, inode): &(SocketAddr, u64)| Socket {
        address: *address,
        owner: owners.get(inode).and_then(|at| programs.get(*at)).cloned(),
        keyless_ollama: None,
    };
    let mut sockets: Vec<Socket> = lines.iter().take(MOST).map(socket).collect();
    sockets.sort_by_key(|socket| socket.address);
    // One for each core is one for people.
    sockets.dedup_by_key(|socket| socket.address);
    (sockets, programs)
}

/// Whether a program is in the network that this one is in. Of others' programs only root is told; who is not leaves out those of
/// containers.
pub(super) fn is_in_own_network(program: &Program) -> bool {
    let network = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    match (network(&program.pid.to_string()), network("thread-self")) {
        (Some(its), Some(own)) => its == own,
        _ => program.container.is_none(),
    }
}

fn listening(line: &str) -> Option<(SocketAddr, u64)> {
    let mut columns = line.split_whitespace().skip(1);
    let local = columns.next()?;
    let (_remote, state) = (columns.next()?, columns.next()?);
    let inode = columns.nth(5)?.parse().ok()?;
    (state == LISTENS).then_some(())?;
    let (ip, port) = local.split_once(':')?;
    Some((SocketAddr::new(address(ip)?, u16::from_str_radix(port, 16).ok()?), inode))
}

/// Words of 32 bits, each in the machine's byte order.
fn address(text: &str) -> Option<IpAddr> {
    let words: Option<Vec<[u8; 4]>> = (0..text.len() / 8)
        .map(|at| u32::from_str_radix(text.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect();
    match words?.as_slice() {
        [word] => Some(Ipv4Addr::from(*word).into()),
        [a, b, c, d] => {
            <[u8; 16]>::try_from([*a, *b, *c, *d].concat()).ok().map(|bytes| Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

/// The programs, and which of them has a socket.
fn owners() -> (HashMap<u64, usize>, Vec<Program>) {
    let (mut owners, mut programs) = (HashMap::new(), Vec::new());
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(name) = fs::read_to_string(entry.path().join("comm")) else { continue };
        let group = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let (unit, container) = home(&group);
        let mut name: String = name.trim().chars().take(LETTERS).collect();
        if name == "ollama" && is_runner(pid) {
            name.push_str(" runner");
        }
        let at = programs.len();
        programs.push(Program { pid, name, unit, container });
        for file in fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten() {
            let Ok(to) = fs::read_link(file.path()) else { continue };
            let inode =
                to.to_str().and_then(|to| to.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode {
                // Who has it first: a socket that was handed on is the first one's too.
                owners.entry(inode).or_insert(at);
            }
        }
    }
    (owners, programs)
}

/// Ollama's own children, which listen for it alone.
fn is_runner(pid: u32) -> bool {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words.split(|byte| *byte == 0).nth(1) == Some(b"runner")
}

/// The service and the container of a control group (cgroups(7)): `0::/system.slice/ollama.service`,
/// `…/docker-0123….scope`, `…/docker/0123…`. Below `/system.slice` root alone names services; elsewhere whoever was given a group does.
fn home(group: &str) -> (Option<String>, Option<String>) {
    let paths = || group.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let unit = paths().find_map(|path| {
        let mut parts = path.strip_prefix("/system.slice/")?.split('/');
        parts.find(|part| !part.ends_with(".slice")).filter(|part| part.ends_with(".service"))
    });
    let is_id = |part: &&str| part.len() == 64 && part.chars().all(|c| c.is_ascii_hexdigit());
    let container = paths()
        .filter(|path| !path.starts_with("/user.slice/"))
        .flat_map(|path| path.split('/'))
        .map(|part| part.trim_end_matches(".scope"))
        .map(|part| part.strip_prefix("docker-").or_else(|| part.strip_prefix("libpod-")).unwrap_or(part))
        .find(is_id);
    (unit.map(str::to_owned), container.map(|id| id.chars().take(12).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn listening_sockets_are_read_from_the_kernels_tables() {
        let four = "   0: 0100007F:2CAA 00000000:0000 0A 00000000:00000000 00:00000000 00000000   997        0 31337 1 0000 100 0 0 10 0";
        assert_eq!(listening(four), Some(("127.0.0.1:11434".parse().unwrap(), 31337)));
        let six = "   1: 00000000000000000000000000000000:2CAA 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000   997        0 4711 1 0000 100 0 0 10 0";
        assert_eq!(listening(six), Some(("[::]:11434".parse().unwrap(), 4711)));
        assert_eq!(listening(&four.replace(" 0A ", " 01 ")), None);
        assert_eq!(listening("  sl  local_address rem_address   st tx_queue"), None);
    }

    #[test]
    fn control_groups_tell_where_a_program_belongs() {
        let id = "ab".repeat(32);
        assert_eq!(home("0::/system.slice/ollama.service\n"), (Some("ollama.service".into()), None));
        assert_eq!(
            home("0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope\n"),
            (None, None)
        );
        for forged in [
            "user.slice/user-1000.slice/user@1000.service/ssh.service",
            "ssh.service",
            "x/system.slice/ssh.service",
        ] {
            assert_eq!(home(&format!("0::/{forged}\n")), (None, None));
        }
        assert_eq!(home("0::/system.slice/a.service/ssh.service\n").0.unwrap(), "a.service");
        assert_eq!(home("0::/system.slice/system-a.slice/a@1.service\n").0.unwrap(), "a@1.service");
        let short = Some("abababababab".to_owned());
        assert_eq!(home(&format!("0::/system.slice/docker-{id}.scope\n")), (None, short.clone()));
        assert_eq!(home(&format!("11:memory:/docker/{id}\n")), (None, short));
    }

    #[test]
    fn one_address_is_in_the_way_of_all_and_all_of_one() {
        let way = |own: &str, other: &str| {
            let socket = Socket { address: own.parse().unwrap(), owner: None, keyless_ollama: None };
            socket.is_in_the_way_of(other.parse().unwrap())
        };
        assert!(
            way("127.0.0.1:80", "0.0.0.0:80")
                && way("127.0.0.1:80", "[::]:80")
                && way("[::]:80", "10.0.0.1:80")
        );
        assert!(!way("127.0.0.1:80", "10.0.0.1:80") && !way("0.0.0.0:80", "0.0.0.0:81"));
        assert!(!way("0.0.0.0:80", "[::1]:80"));
    }
}
