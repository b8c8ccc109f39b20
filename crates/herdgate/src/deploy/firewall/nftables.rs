//! A table of nftables' own, with chains before those of others: what it drops is gone whatever they say, what it lets pass they
//! still judge. It holds for forwarded ports as well, so nothing need be put into Docker's chains.

use super::{Port, of_family};
use crate::deploy::{Act, Deployment, Ground, Made, Way};
use std::fmt::Write as _;
use std::path::Path;

const RULES: &str = "/etc/nftables.d/herdgate.nft";
const MAIN: &str = "/etc/nftables.conf";

pub(super) fn add(deployment: &mut Deployment, ports: &[Port], ground: &Ground<'_>) {
    let mut text = ground.head(Path::new(RULES), "Who reaches the gate and Ollama, for nftables.");
    text.push_str(
        "# Included by /etc/nftables.conf, which nftables.service loads when the machine starts.\n\n\
         # Anew each time: made if it is not there, so that it can be removed.\n\
         table inet herdgate\n\
         delete table inet herdgate\n\n\
         table inet herdgate {\n",
    );
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
    deployment.files.push(Made::new(RULES, text));
    let include = format!("include \"{RULES}\"\n");
    deployment.files.push(Made { mode: 0o755, way: Way::Block, ..Made::new(MAIN, include) });
    deployment.then.extend([
        Act::of(&format!("nft -f {RULES}")),
        // Not --now: a start flushes what Docker has set.
        Act::of("systemctl enable nftables.service"),
    ]);
    deployment.after_undo.push(Act::of("nft delete table inet herdgate"));
}
