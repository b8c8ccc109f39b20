//! Are there variables around programs of this machine that send them to a proxy instead of the gate or Ollama?

use super::MACHINE;
use crate::doctor::facts::{Facts, Machine};
use crate::doctor::finding::{Cure, Finding};
use gate_types::Cidr;
use std::net::IpAddr;

const CHECK: &str = "proxy";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    facts.machine.as_ref().and_then(one).into_iter().collect()
}

fn one(machine: &Machine) -> Option<Finding> {
    let set = |names: &[&'static str]| {
        names.iter().find_map(|name| machine.proxies.get(*name).map(|value| (*name, value.as_str())))
    };
    let (name, value) = set(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])?;
    let (_, exempt) = set(&["no_proxy", "NO_PROXY"]).unwrap_or_default();
    let mut hosts: Vec<&str> = vec!["localhost", "127.0.0.1"];
    for host in machine.upstreams.iter().map(String::as_str) {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    let missing: Vec<&str> = hosts.into_iter().filter(|host| !is_exempt(host, exempt)).collect();
    if missing.is_empty() {
        let seen = format!("{name} is set, and NO_PROXY leaves the servers here out");
        return Some(Finding::ok(CHECK, MACHINE, seen));
    }
    let known = exempt.split(',').map(str::trim).filter(|word| !word.is_empty());
    let list = known.chain(missing.iter().copied()).collect::<Vec<_>>().join(",");
    Some(
        Finding::warn(CHECK, MACHINE, format!("{name}={value}, and NO_PROXY lacks {}", missing.join(", ")))
            .because("curl and most clients here ask the proxy for them, which does not know them, or buffers and cuts streams")
            .cured(
                Cure::run(format!("export NO_PROXY={list} no_proxy={list}"))
                    .note("kept: the same two in /etc/environment"),
            ),
    )
}

/// As most programs read it: names with everything below them, addresses, networks, and `*`.
fn is_exempt(host: &str, list: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let ip = host.parse::<IpAddr>().ok();
    let words = list.split(',').map(|word| word.trim().to_ascii_lowercase()).filter(|word| !word.is_empty());
    words.into_iter().any(|word| {
        let below = word.trim_start_matches('*').trim_start_matches('.');
        word == "*"
            || host == below
            || host.ends_with(&format!(".{below}"))
            || ip.is_some_and(|ip| word.parse::<Cidr>().is_ok_and(|network| network.contains(ip)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_left_out_is_read_as_programs_do() {
        for (host, list, is) in [
            ("gpu1.lan", ".lan", true),
            ("gpu1.lan", "lan", true),
            ("gpu1", "gpu1,localhost", true),
            ("gpu11", "gpu1", false),
            ("10.0.0.2", "10.0.0.0/8", true),
            ("10.0.0.2", "10.0.0.20", false),
            ("gpu1", "*", true),
            ("gpu1", "", false),
        ] {
            assert_eq!(is_exempt(host, list), is, "{host} in {list}");
        }
    }
}
