//! iptables and ip6tables: chains of their own, called first by INPUT and DOCKER-USER, set by a script that a small service runs when
//! the machine starts. ufw and firewalld use the half of it that is for published ports, which pass by theirs.

use super::{Port, of_family};
use crate::deploy::{Act, Deployment, Ground, Made};
use std::fmt::Write as _;
use std::path::Path;

const SCRIPT: &str = "/usr/local/sbin/herdgate-firewall";
const UNIT: &str = "/etc/systemd/system/herdgate-firewall.service";

/// Which packets the script is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Those to this machine, and those to published ports.
    All,
    /// Those to published ports.
    Published,
}

pub(super) fn add(deployment: &mut Deployment, ports: &[Port], ground: &Ground<'_>, reach: Reach) {
    let script = script(ports, ground, reach);
    deployment.files.push(Made { mode: 0o755, ..Made::new(SCRIPT, script) });
    let head = ground.head(Path::new(UNIT), "Sets the rules of herdgate-firewall when the machine starts.");
    deployment.files.push(Made::new(
        UNIT,
        format!(
            "{head}\n\
             [Unit]\n\
             Description=Who reaches herdgate and Ollama\n\
             # After whatever sets all rules anew, and before anything can be reached. Docker uses the chain that it finds.\n\
             After=netfilter-persistent.service iptables.service ip6tables.service ufw.service firewalld.service\n\
             Wants=network-pre.target\n\
             Before=network-pre.target docker.service\n\n\
             [Service]\n\
             Type=oneshot\n\
             RemainAfterExit=yes\n\
             ExecStart={SCRIPT} start\n\
             ExecStop={SCRIPT} stop\n\n\
             [Install]\n\
             WantedBy=multi-user.target\n"
        ),
    ));
    deployment.then.extend([
        Act::of("systemctl daemon-reload"),
        Act::of("systemctl enable herdgate-firewall.service"),
        Act::of("systemctl restart herdgate-firewall.service"),
    ]);
    deployment.before_undo.push(Act::of("systemctl disable --now herdgate-firewall.service"));
    deployment.after_undo.push(Act::of("systemctl daemon-reload"));
}

fn script(ports: &[Port], ground: &Ground<'_>, reach: Reach) -> String {
    let head = ground.head(Path::new(SCRIPT), "Who reaches the gate and Ollama, for iptables and ip6tables.");
    let hooks: &[(&str, &str)] = match reach {
        Reach::All => &[("INPUT", "HERDGATE"), ("DOCKER-USER", "HERDGATE-DOCKER")],
        Reach::Published => &[("DOCKER-USER", "HERDGATE-DOCKER")],
    };
    let each = |word: &str| -> String {
        hooks.iter().map(|(chain, own)| format!("    {word} \"$1\" {chain} {own}\n")).collect()
    };
    let remove: String =
        hooks.iter().map(|(_, own)| format!("    \"$1\" -w -F {own}\n    \"$1\" -w -X {own}\n")).collect();
    let (rules4, rules6) = (rules(ports, reach, false), rules(ports, reach, true));
    let (hook, unhook) = (each("hook"), each("unhook"));
    format!(
        "#!/bin/sh\n{head}\
         # herdgate-firewall start | stop; herdgate-firewall.service does it. Twice is as good as once.\n\
         set -eu\n\n\
         rules_iptables() {{\n    cat <<'END'\n{rules4}END\n}}\n\n\
         rules_ip6tables() {{\n    cat <<'END'\n{rules6}END\n}}\n\n\
         # hook TOOL CHAIN OWN: the chain calls ours before all else, once.\n\
         hook() {{ \"$1\" -w -C \"$2\" -j \"$3\" 2>/dev/null || \"$1\" -w -I \"$2\" 1 -j \"$3\"; }}\n\
         unhook() {{ while \"$1\" -w -D \"$2\" -j \"$3\" 2>/dev/null; do :; done; }}\n\n\
         start() {{\n    \
         # Fills our chains in one step; those of others stay.\n    \
         \"rules_$1\" | \"$1-restore\" -w --noflush\n    \
         # Docker calls it, also where it was here first.\n    \
         \"$1\" -w -N DOCKER-USER 2>/dev/null || :\n{hook}}}\n\n\
         stop() {{\n    \"$1\" -w -n -L {own} >/dev/null 2>&1 || return 0\n{unhook}{remove}}}\n\n\
         case \"${{1:-}}\" in\n    start | stop) ;;\n    *)\n        echo \"usage: $0 start | stop\" >&2\n        exit 64\n        ;;\nesac\n\
         \"$1\" iptables\n\
         # Where the machine has IPv6.\n\
         [ ! -e /proc/net/if_inet6 ] || \"$1\" ip6tables\n",
        own = hooks[0].1,
    )
}

/// As iptables-restore reads it: our chains alone.
fn rules(ports: &[Port], reach: Reach, is_v6: bool) -> String {
    let mut text = String::from("*filter\n");
    if reach == Reach::All {
        text.push_str(":HERDGATE - [0:0]\n");
    }
    text.push_str(":HERDGATE-DOCKER - [0:0]\n");
    if reach == Reach::All {
        text.push_str("-A HERDGATE -i lo -j RETURN\n");
        for port in ports {
            chain(&mut text, "HERDGATE", port, is_v6, &format!("-p tcp --dport {}", port.number));
        }
    }
    for port in ports {
        // The port that was asked for: by now the packet has the container's.
        let published =
            format!("-p tcp -m conntrack --ctstate DNAT --ctorigdstport {} --ctdir ORIGINAL", port.number);
        chain(&mut text, "HERDGATE-DOCKER", port, is_v6, &published);
    }
    text.push_str("COMMIT\n");
    text
}

fn chain(text: &mut String, name: &str, port: &Port, is_v6: bool, what: &str) {
    for network in of_family(port, is_v6) {
        // Writing to a text cannot fail.
        let _written = writeln!(text, "-A {name} -s {network} {what} -j RETURN");
    }
    let _written = writeln!(text, "-A {name} {what} -j DROP");
}
