//! A table of nftables' own, with chains before those of others: what it drops is gone whatever they say, what it lets pass they
//! still judge. It holds for forwarded ports as well, so nothing need be put into Docker's chains.

use super::{BRIDGES, Names, Port, of_family};
use crate::deploy::{Act, Deployment, Ground, Made, Way};
use std::fmt::Write as _;
use std::path::Path;

const MAIN: &str = "/etc/nftables.conf";

pub(super) fn add(deployment: &mut Deployment, names: Names, ports: &[Port], ground: &Ground<'_>) {
    let table = names.table;
    let rules = format!("/etc/nftables.d/{table}.nft");
    let mut text = ground.head(Path::new(&rules), "Who reaches the gate and Ollama, for nftables.");
    text.push_str(&format!(
        "# Included by /etc/nftables.conf, which nftables.service loads when the machine starts.\n\n\
         # Anew each time: made if it is not there, so that it can be removed.\n\
         table inet {table}\n\
         delete table inet {table}\n\n\
         table inet {table} {{\n",
    ));
    let mut chain = |name: &str, hook: &str, before: &str, what: &str| {
        // Writing to a text cannot fail.
        let _written = writeln!(
            text,
            "\tchain {name} {{\n\t\ttype filter hook {hook} priority filter - 5; policy accept;{before}"
        );
        for port in ports {
            let _written = writeln!(text, "\t\t{what} {} jump port-{}", port.number, port.number);
        }
        text.push_str("\t}\n\n");
    };
    chain("input", "input", "\n\t\tiif \"lo\" accept", "tcp dport");
    chain(
        "published",
        "forward",
        "\n\t\t# What Docker publishes: by the port that was asked for, which is not the container's.",
        "meta l4proto tcp ct direction original ct status dnat ct original proto-dst",
    );
    straight(&mut text, ports);
    for port in ports {
        let _written = writeln!(text, "\t# {}", port.whose);
        let _written = writeln!(text, "\tchain port-{} {{", port.number);
        for (family, is_v6) in [("ip", false), ("ip6", true)] {
            for network in of_family(port, is_v6) {
                let _written = writeln!(text, "\t\t{family} saddr {network} accept");
            }
        }
        text.push_str("\t\tdrop\n\t}\n\n");
    }
    text.truncate(text.trim_end().len());
    text.push_str("\n}\n");
    let include = format!("include \"{rules}\"\n");
    deployment.files.push(Made::new(&rules, text));
    deployment.files.push(Made { mode: 0o755, way: Way::Block, ..Made::new(MAIN, include) });
    deployment.then.extend([
        Act::of(&format!("nft -f {rules}")),
        // Not --now: a start flushes what Docker has set.
        Act::of("systemctl enable nftables.service"),
    ]);
    deployment.after_undo.push(Act::of(&format!("nft delete table inet {table}")));
}

/// Packets to a container's own address, from elsewhere than a container: a neighbour may have set a route there.
fn straight(text: &mut String, ports: &[Port]) {
    let priority = "type filter hook forward priority filter - 5; policy accept;";
    // Writing to a text cannot fail.
    let _written = writeln!(
        text,
        "\tchain straight {{\n\t\t{priority}\n\t\t# To a container's own address, which a neighbour may have a route to."
    );
    text.push_str("\t\tct status dnat accept\n\t\tct direction reply accept\n");
    for bridge in BRIDGES {
        let _written = writeln!(text, "\t\tiifname \"{bridge}*\" accept");
    }
    for bridge in BRIDGES {
        let _written = writeln!(text, "\t\toifname \"{bridge}*\" jump inside");
    }
    text.push_str("\t}\n\n\tchain inside {\n");
    for port in ports {
        let _written = writeln!(text, "\t\ttcp dport {} jump port-{}", port.number, port.number);
    }
    text.push_str("\t}\n\n");
}
