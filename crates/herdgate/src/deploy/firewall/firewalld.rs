//! firewalld: a policy of its own before all zones, which ends nothing but what it turns away. Published ports go through Docker's own
//! zone, and a rich rule cannot see the port that was asked for: for those there is the script of `iptables`.

use super::iptables::{self, Reach};
use super::{Names, Port, of_family};
use crate::deploy::{Act, Deployment, Ground, Made};
use std::fmt::Write as _;

pub(super) fn add(deployment: &mut Deployment, names: Names, ports: &[Port], ground: &Ground<'_>) {
    let path = format!("/etc/firewalld/policies/{}.xml", names.table);
    let policy = policy(names, &path, ports);
    deployment.files.push(Made::new(path, policy));
    deployment.then.extend([Act::of("firewall-cmd --check-config"), Act::of("firewall-cmd --reload")]);
    iptables::add(deployment, names, ports, ground, Reach::Published);
    deployment.after_undo.push(Act::of("firewall-cmd --reload"));
}

fn policy(names: Names, path: &str, ports: &[Port]) -> String {
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
         <!-- Who reaches the gate and Ollama, for firewalld.\n     \
         Made by `herdgate deploy`; belongs at {path}. -->\n\
         <policy priority=\"-100\" target=\"CONTINUE\">\n  \
         <short>{}</short>\n  \
         <description>Only some networks reach the gate, and nobody Ollama past it.</description>\n  \
         <ingress-zone name=\"ANY\"/>\n  \
         <egress-zone name=\"HOST\"/>\n",
        names.table
    );
    for port in ports {
        let number = port.number;
        // Writing to a text cannot fail.
        let _written = writeln!(text, "  <!-- {} -->", port.whose);
        for (family, is_v6) in [("ipv4", false), ("ipv6", true)] {
            for network in of_family(port, is_v6) {
                let _written = writeln!(
                    text,
                    "  <rule priority=\"-2\" family=\"{family}\">\n    <source address=\"{network}\"/>\n    \
                     <port port=\"{number}\" protocol=\"tcp\"/>\n    <accept/>\n  </rule>"
                );
            }
        }
        let _written = writeln!(
            text,
            "  <rule priority=\"-1\">\n    <port port=\"{number}\" protocol=\"tcp\"/>\n    <drop/>\n  </rule>"
        );
    }
    text.push_str("</policy>\n");
    text
}
