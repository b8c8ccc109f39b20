//! Looking a name up, as every program of this machine does it, and what could stand in its place where it is unknown.

use super::multicast;
use super::resolver::Root;
use serde::{Deserialize, Serialize};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::net::lookup_host;
use tokio::time::timeout;

/// glibc asks each name server for 5 s, and then again (resolv.conf(5)): who waits longer than this has no use for the name.
const TIME: Duration = Duration::from_secs(6);

/// What a name stands for.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Names {
    /// In the order in which programs try them.
    pub(in crate::doctor) addresses: Vec<IpAddr>,
    /// What the system says where there is none.
    pub(in crate::doctor) failed: Option<String>,
    pub(in crate::doctor) micros: u64,
    /// The lines of `/etc/hosts` that say something about it.
    pub(in crate::doctor) hosts: Vec<String>,
    /// What who has a name that ends in `.local` says of itself, where the system knows none.
    pub(in crate::doctor) heard: Option<Ipv4Addr>,
    /// Other names of `/etc/hosts`.
    pub(in crate::doctor) known: Vec<String>,
    /// Whether this runs in a container.
    pub(in crate::doctor) in_container: bool,
    /// Where packets leave this machine: in a container, its host.
    pub(in crate::doctor) gateway: Option<Ipv4Addr>,
    /// What the machine of a container that is looked from knows, where the container does not.
    pub(in crate::doctor) on_host: Option<IpAddr>,
}

/// Whose files and name servers tell what a name stands for.
pub(super) enum Eyes {
    /// This program's.
    Here,
    /// Those of a container whose network this thread is in.
    Inside(Root),
}

impl Eyes {
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        match self {
            Eyes::Here => {
                let found = lookup_host((host, 0)).await.map_err(|error| {
                    let text = error.to_string();
                    // Only the resolver's own words.
                    text.rsplit(": ").next().unwrap_or(&text).to_owned()
                })?;
                Ok(found.map(|address| address.ip()).collect())
            }
            Eyes::Inside(root) => root.look_up(host).await,
        }
    }

    fn hosts(&self) -> String {
        match self {
            Eyes::Here => fs::read_to_string("/etc/hosts").unwrap_or_default(),
            Eyes::Inside(root) => root.read("etc/hosts"),
        }
    }
}

pub(super) async fn look_up(eyes: &Eyes, host: &str) -> Names {
    let begun = Instant::now();
    let found = timeout(TIME, eyes.addresses(host)).await;
    let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    let hosts = eyes.hosts();
    let mut names = Names { micros, hosts: lines_of(&hosts, host), ..Names::default() };
    match found {
        Ok(Ok(found)) => {
            for address in found {
                if !names.addresses.contains(&address) {
                    names.addresses.push(address);
                }
            }
        }
        Ok(Err(why)) => names.failed = Some(why),
        Err(_late) => names.failed = Some(format!("no answer within {} s", TIME.as_secs())),
    }
    if names.addresses.is_empty() {
        names.failed.get_or_insert_with(|| "it has no address".to_owned());
        names.known = others(&hosts, host);
        let is_inside = matches!(eyes, Eyes::Inside(_));
        if is_local(host) && !is_inside {
            names.heard = multicast::ask(host).await;
        }
        names.in_container = is_inside || in_container();
        names.gateway = own_gateway();
    }
    names
}

/// Names that are asked for on the same network alone (RFC 6762, section 3).
pub(in crate::doctor) fn is_local(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("local")) && host.contains('.')
}

/// hosts(5): an address, then names; a `#` begins a comment.
fn entries(hosts: &str) -> impl Iterator<Item = (&str, Vec<&str>)> {
    hosts.lines().map(|line| {
        let text = line.split('#').next().unwrap_or_default();
        (line.trim(), text.split_whitespace().skip(1).collect())
    })
}

/// What the lines for this name say.
pub(super) fn addresses_of(hosts: &str, host: &str) -> Vec<IpAddr> {
    lines_of(hosts, host).iter().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

/// Where packets leave the network that this thread is in.
pub(super) fn own_gateway() -> Option<Ipv4Addr> {
    fs::read_to_string("/proc/thread-self/net/route").ok().and_then(|table| gateway(&table))
}

fn lines_of(hosts: &str, host: &str) -> Vec<String> {
    let is_it = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(host));
    entries(hosts).filter(|(_, names)| is_it(names)).map(|(line, _)| line.to_owned()).collect()
}

fn others(hosts: &str, host: &str) -> Vec<String> {
    let names = entries(hosts).flat_map(|(_, names)| names).map(str::to_owned);
    names.filter(|name| !name.eq_ignore_ascii_case(host)).take(256).collect()
}

/// Docker and Podman leave a file; the others an environment.
fn in_container() -> bool {
    Path::new("/.dockerenv").exists()
        || Path::new("/run/.containerenv").exists()
        || std::env::var_os("container").is_some()
        || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

/// The router of the default route in `/proc/net/route`, whose numbers are in the machine's byte order (proc(5)).
fn gateway(table: &str) -> Option<Ipv4Addr> {
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let (to, by) = (columns.next()?, columns.next()?);
        let number = u32::from_str_radix(by, 16).ok()?;
        (to == "00000000" && number != 0).then(|| Ipv4Addr::from(number.to_ne_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_tell_of_names() {
        let hosts = "127.0.0.1 localhost\n# 10.0.0.9 gpu1\n10.0.0.2\tGPU1 gpu1.lan # the big one\n";
        assert_eq!(lines_of(hosts, "gpu1"), ["10.0.0.2\tGPU1 gpu1.lan # the big one"]);
        assert!(lines_of(hosts, "gpu9").is_empty());
        assert_eq!(others(hosts, "gpu1"), ["localhost", "gpu1.lan"]);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn the_default_route_leads_to_the_host() {
        let table = "Iface\tDestination\tGateway \tFlags\neth0\t0011A8C0\t00000000\t0001\neth0\t00000000\t010011AC\t0003\n";
        assert_eq!(gateway(table), Some(Ipv4Addr::new(172, 17, 0, 1)));
        assert_eq!(gateway("Iface\n"), None);
    }
}
