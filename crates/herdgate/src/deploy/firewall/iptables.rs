//! iptables and ip6tables: chains of their own, called first by INPUT and DOCKER-USER, set by a script that a small service runs when
//! the machine starts. ufw and firewalld use the half of it that is for published ports, which pass by theirs.

use super::{BRIDGES, Names, Port, of_family};
use crate::deploy::{Act, Deployment, Ground, Made};
use std::fmt::Write as _;
use std::path::Path;

/// Which packets the script is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Those to this machine, and those to published ports.
    All,
    /// Those to published ports.
    Published,
}

pub(super) fn add(
    deployment: &mut Deployment,
    names: Names,
    ports: &[Port],
    ground: &Ground<'_>,
    reach: Reach,
) {
    let name = names.script;
    let path = format!("/usr/local/sbin/{name}");
    let unit = format!("/etc/systemd/system/{name}.service");
    let script = script(names, &path, ports, ground, reach);
    deployment.files.push(Made { mode: 0o755, ..Made::new(&path, script) });
    let head = ground.head(Path::new(&unit), &format!("Sets the rules of {name} when the machine starts."));
    deployment.files.push(Made::new(
        unit,
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
             ExecStart={path} start\n\
             # Other rules take the place of these in one step.\n\
             ExecReload={path} start\n\
             ExecStop={path} stop\n\n\
             [Install]\n\
             WantedBy=multi-user.target\n"
        ),
    ));
    deployment.then.extend([
        Act::of("systemctl daemon-reload"),
        Act::of(&format!("systemctl enable {name}.service")),
        Act::of(&format!("systemctl reload-or-restart {name}.service")),
    ]);
    deployment.before_undo.push(Act::of(&format!("systemctl disable --now {name}.service")));
    deployment.after_undo.push(Act::of("systemctl daemon-reload"));
}

fn script(names: Names, path: &str, ports: &[Port], ground: &Ground<'_>, reach: Reach) -> String {
    let head = ground.head(Path::new(path), "Who reaches the gate and Ollama, for iptables and ip6tables.");
    let docker = format!("{}-DOCKER", names.chain);
    let hooks: &[(&str, &str)] = match reach {
        Reach::All => &[("INPUT", names.chain), ("DOCKER-USER", &docker)],
        Reach::Published => &[("DOCKER-USER", &docker)],
    };
    let each = |word: &str| -> String {
        hooks.iter().map(|(chain, own)| format!("    {word} \"$1\" {chain} {own}\n")).collect()
    };
    let remove: String =
        hooks.iter().map(|(_, own)| format!("    \"$1\" -w -F {own}\n    \"$1\" -w -X {own}\n")).collect();
    let (rules4, rules6) = (rules(names, ports, reach, false), rules(names, ports, reach, true));
    let (hook, unhook) = (each("hook"), each("unhook"));
    format!(
        "#!/bin/sh\n{head}\
         # {name} start | stop; {name}.service does it. Twice is as good as once.\n\
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
        name = names.script,
    )
}

/// As iptables-restore reads it: our chains alone.
fn rules(names: Names, ports: &[Port], reach: Reach, is_v6: bool) -> String {
    let (own, docker) = (names.chain, format!("{}-DOCKER", names.chain));
    let mut text = String::from("*filter\n");
    if reach == Reach::All {
        text.push_str(&format!(":{own} - [0:0]\n"));
    }
    text.push_str(&format!(":{docker} - [0:0]\n"));
    if reach == Reach::All {
        text.push_str(&format!("-A {own} -i lo -j RETURN\n"));
        for port in ports {
            chain(&mut text, own, port, is_v6, &format!("-p tcp --dport {}", port.number));
        }
    }
    for port in ports {
        // The port that was asked for: by now the packet has the container's.
        let published =
            format!("-p tcp -m conntrack --ctstate DNAT --ctorigdstport {} --ctdir ORIGINAL", port.number);
        chain(&mut text, &docker, port, is_v6, &published);
    }
    straight(&mut text, &docker, ports, is_v6);
    text.push_str("COMMIT\n");
    text
}

/// Packets to a container's own address, from elsewhere than a container: a neighbour may have set a route there.
fn straight(text: &mut String, name: &str, ports: &[Port], is_v6: bool) {
    // Writing to a text cannot fail.
    let _written = writeln!(text, "-A {name} -m conntrack --ctstate DNAT -j RETURN");
    let _written = writeln!(text, "-A {name} -m conntrack --ctdir REPLY -j RETURN");
    for bridge in BRIDGES {
        let _written = writeln!(text, "-A {name} -i {bridge}+ -j RETURN");
    }
    for bridge in BRIDGES {
        for port in ports {
            chain(text, name, port, is_v6, &format!("-o {bridge}+ -p tcp --dport {}", port.number));
        }
    }
}

fn chain(text: &mut String, name: &str, port: &Port, is_v6: bool, what: &str) {
    for network in of_family(port, is_v6) {
        // Writing to a text cannot fail.
        let _written = writeln!(text, "-A {name} -s {network} {what} -j RETURN");
    }
    let _written = writeln!(text, "-A {name} {what} -j DROP");
}
