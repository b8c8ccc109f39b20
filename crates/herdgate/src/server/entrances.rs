//! What the settings say of each listener, as the cores need it; and the addresses from which nobody is let in without a key, which
//! change with the machine's network.

use super::bind::Bound;
use super::core::Door;
use super::tls::Speaking;
use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use gate_config::Config;
use gate_proxy::{Anonymous, Entrance};
use gate_types::Cidr;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the machine's addresses and routes are looked at, where anybody is let in without a key.
const LOOK: Duration = Duration::from_secs(2);

/// The addresses from which nobody is let in without a key, at one listener.
struct Never {
    networks: Vec<Cidr>,
    addresses: Arc<ArcSwap<Vec<IpAddr>>>,
}

impl Never {
    fn look(&self) -> anyhow::Result<()> {
        let now = never(&self.networks)?;
        if now != **self.addresses.load() {
            self.addresses.store(Arc::new(now));
        }
        Ok(())
    }
}

/// All listeners that let somebody in without a key.
#[derive(Default)]
pub(super) struct Unkeyed {
    doors: Vec<Never>,
    looked: Option<Instant>,
    /// Why the latest look failed: told once.
    failed: Option<String>,
}

impl Unkeyed {
    /// Looks anew at where nobody may come from. While that fails, what was seen last counts.
    pub(super) fn look(&mut self) {
        let is_due = self.looked.is_none_or(|looked| looked.elapsed() >= LOOK);
        if self.doors.is_empty() || !is_due {
            return;
        }
        self.looked = Some(Instant::now());
        let failed = self.doors.iter().find_map(|door| door.look().err()).map(|error| format!("{error:#}"));
        match (&failed, &self.failed) {
            (Some(why), before) if before.as_ref() != Some(why) => {
                tracing::warn!("insecure_anonymous keeps the addresses that it has refused so far: {why}");
            }
            (None, Some(_)) => tracing::info!("insecure_anonymous sees this machine's addresses again"),
            (Some(_) | None, _) => {}
        }
        self.failed = failed;
    }
}

/// What each listener is on each of `cores` cores.
///
/// # Errors
/// Where callers shall come in without a key, and the addresses from which none may are not to be had.
pub(super) fn doors(
    bound: Vec<Bound>,
    config: &Config,
    speaking: Option<&Speaking>,
    cores: usize,
) -> anyhow::Result<(Vec<Vec<Door>>, Unkeyed)> {
    let secure = bound.iter().find(|bound| bound.listener.is_tls(config)).map(|bound| bound.address.port());
    let mut unkeyed = Unkeyed::default();
    let mut doors: Vec<Vec<Door>> = (0..cores).map(|_| Vec::new()).collect();
    for Bound { sockets, is_lent, listener, address: _ } in bound {
        let is_tls = listener.is_tls(config);
        let anonymous = match &listener.insecure_anonymous {
            None => None,
            Some(anonymous) => {
                let networks = anonymous.networks.clone();
                let addresses = Arc::new(ArcSwap::from_pointee(never(&networks)?));
                unkeyed.doors.push(Never { networks, addresses: Arc::clone(&addresses) });
                Some((anonymous, addresses))
            }
        };
        if listener.redirect && secure.is_none() {
            bail!("the listener {listener} redirects, and no socket that was handed over speaks TLS");
        }
        // Those of a gate before this one may be more than its cores, and connections come by each of them.
        for (place, socket) in sockets.into_iter().enumerate() {
            let anonymous = anonymous.as_ref().map(|(anonymous, never)| {
                Anonymous::with(anonymous.networks.clone(), anonymous.acts_as.clone(), Arc::clone(never))
            });
            let entrance = Entrance {
                is_tls,
                redirect: secure
                    .filter(|_| listener.redirect)
                    .map(|own| listener.redirect_port.unwrap_or(own)),
                trusted_proxies: listener.trusted(config).to_vec(),
                anonymous,
                hsts: config.tls.hsts.filter(|_| is_tls).map(|time| format!("max-age={}", time.as_secs())),
            };
            let speaking = speaking.filter(|_| is_tls).map(Arc::clone);
            doors[place % cores].push(Door { socket, is_lent, entrance, speaking });
        }
    }
    Ok((doors, unkeyed))
}

/// Where callers may stand who are not in these networks, though their address is: this machine's own addresses, the routers that
/// it knows, and the first address of each network, which is the router's by custom. A bridge of containers
/// shows everybody who comes from outside as its own address, which is one of these on either side of it.
fn never(networks: &[Cidr]) -> anyhow::Result<Vec<IpAddr>> {
    let interfaces = if_addrs::get_if_addrs().context("the addresses of this machine cannot be read")?;
    let own = interfaces.iter().filter(|interface| !interface.is_loopback()).map(|interface| {
        let (ip, bits) = match &interface.addr {
            if_addrs::IfAddr::V4(v4) => (IpAddr::V4(v4.ip), v4.prefixlen),
            if_addrs::IfAddr::V6(v6) => (IpAddr::V6(v6.ip), v6.prefixlen),
        };
        (ip, Cidr::of(ip, bits))
    });
    let own: Vec<(IpAddr, Option<Cidr>)> = own.collect();
    let v4 = fs::read_to_string(ROUTES_V4).with_context(|| format!("{ROUTES_V4} cannot be read"))?;
    // Not there where there is no IPv6.
    let v6 = fs::read_to_string(ROUTES_V6).unwrap_or_default();
    let firsts = own.iter().filter_map(|(_, network)| *network).chain(networks.iter().copied());
    let firsts = firsts.filter_map(|network| network.first_host());
    let mut all: Vec<IpAddr> =
        own.iter().map(|(ip, _)| *ip).chain(firsts).chain(routers_v4(&v4)).chain(routers_v6(&v6)).collect();
    all.retain(|ip| !ip.is_loopback());
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

const ROUTES_V4: &str = "/proc/net/route";
const ROUTES_V6: &str = "/proc/net/ipv6_route";

/// The routers in `/proc/net/route`: the third column, in hexadecimal, as the machine keeps it in memory.
fn routers_v4(table: &str) -> impl Iterator<Item = IpAddr> {
    let gateway = |line: &str| {
        let column = line.split_whitespace().nth(2)?;
        let octets = u32::from_str_radix(column, 16).ok()?.to_ne_bytes();
        Some(Ipv4Addr::from(octets)).filter(|ip| !ip.is_unspecified()).map(IpAddr::V4)
    };
    table.lines().skip(1).filter_map(gateway)
}

/// The routers in `/proc/net/ipv6_route`: the fifth column, 32 hexadecimal digits.
fn routers_v6(table: &str) -> impl Iterator<Item = IpAddr> {
    let gateway = |line: &str| {
        let column = line.split_whitespace().nth(4)?;
        let bits = u128::from_str_radix(column, 16).ok()?;
        Some(Ipv6Addr::from_bits(bits)).filter(|ip| !ip.is_unspecified()).map(IpAddr::V6)
    };
    table.lines().filter_map(gateway)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routers_are_read_from_the_systems_tables() {
        let v4 = "Iface\tDestination\tGateway \tFlags\n\
                  eth0\t00000000\t010012AC\t0003\t0\t0\t0\t00000000\n\
                  eth0\t000012AC\t00000000\t0001\t0\t0\t0\t0000FFFF\n\nnonsense\n";
        let expected = if cfg!(target_endian = "little") { "172.18.0.1" } else { "1.0.18.172" };
        assert_eq!(routers_v4(v4).map(|ip| ip.to_string()).collect::<Vec<_>>(), [expected]);
        let v6 = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                  fd000000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n\
                  fd000000000000000000000000000000 40 00000000000000000000000000000000 00 \
                  00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0\n";
        assert_eq!(routers_v6(v6).map(|ip| ip.to_string()).collect::<Vec<_>>(), ["fd00::1"]);
    }

    #[test]
    fn this_machines_own_addresses_are_among_them_and_loopback_is_not() {
        let all = never(&["172.18.0.0/24".parse().unwrap()]).unwrap();
        assert!(all.contains(&IpAddr::from([172, 18, 0, 1])));
        for interface in if_addrs::get_if_addrs().unwrap() {
            assert_eq!(all.contains(&interface.ip()), !interface.is_loopback(), "{}", interface.ip());
        }
    }
}
