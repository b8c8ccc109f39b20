//! The rules of `herdgate deploy firewall`, set for real in networks of the test's own: a server with the gate and an Ollama, a container
//! behind it with published ports, a friend and a stranger in front.

use crate::harness::{Home, Networks, is_required, leave_out, until};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a packet that is thrown away is waited for.
const SILENCE: Duration = Duration::from_millis(700);

struct Town {
    net: Networks,
    _listeners: Vec<TcpListener>,
}

/// On the server: the gate at 7861 and, published from a container's port 80, at 7860; Ollama at 11434; something else at 9000 and,
/// published from port 81, at 9001.
const SETTINGS: &str = "[[listen]]\naddress = \":7860\"\n[[listen]]\naddress = \":7861\"\n";

impl Town {
    fn build() -> Option<Self> {
        let net = Networks::make(&["server", "friend", "stranger", "inside"])?;
        // By its name, the container stands on a bridge of Docker's.
        for (name, number, to) in
            [("friend", 1, "to-friend"), ("stranger", 2, "to-stranger"), ("inside", 3, "br-0123456789ab")]
        {
            net.ip(&format!("link add eth0 netns {name} type veth peer name {to} netns server"));
            net.ip(&format!("-n server addr add 10.99.{number}.1/24 dev {to}"));
            net.ip(&format!("-n server addr add fd99:{number}::1/64 dev {to} nodad"));
            net.ip(&format!("-n server link set {to} up"));
            net.ip(&format!("-n {name} addr add 10.99.{number}.2/24 dev eth0"));
            net.ip(&format!("-n {name} addr add fd99:{number}::2/64 dev eth0 nodad"));
            net.ip(&format!("-n {name} link set eth0 up"));
            net.ip(&format!("-n {name} route add default via 10.99.{number}.1"));
            net.ip(&format!("-n {name} -6 route add default via fd99:{number}::1"));
        }
        let at = |name: &str, ports: &[u16]| -> Vec<TcpListener> {
            net.within(name, || ports.iter().map(|port| TcpListener::bind(("::", *port)).unwrap()).collect())
        };
        let listeners = at("server", &[7861, 11434, 9000])
            .into_iter()
            .chain(at("inside", &[80, 81, 7860, 11434]))
            .collect();
        let town = Self { net, _listeners: listeners };
        town.sh("echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding");
        // As Docker does it: DOCKER-USER first, then whatever is published is let through.
        for (tool, inside, open, close) in
            [("iptables", "10.99.3.2", "", ""), ("ip6tables", "fd99:3::2", "[", "]")]
        {
            town.sh(&format!(
                "set -e; {tool} -N DOCKER-USER; {tool} -A FORWARD -j DOCKER-USER; {tool} -A FORWARD -j ACCEPT
                 for ports in 7860:80 9001:81; do
                     {tool} -t nat -A PREROUTING -p tcp --dport ${{ports%:*}} -j DNAT --to-destination {open}{inside}{close}:${{ports#*:}}
                 done"
            ));
        }
        Some(town)
    }

    #[track_caller]
    fn sh(&self, script: &str) {
        let output = self.net.command("server", "sh").args(["-c", script]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{script}\n{said}");
    }

    fn reaches(&self, from: &str, to: &str) -> bool {
        let to: SocketAddr = to.parse().unwrap();
        self.net.within(from, || TcpStream::connect_timeout(&to, SILENCE).is_ok())
    }

    /// With rules that let the friend's networks in.
    #[track_caller]
    fn judge(&self, published_alone: bool) {
        for (number, is_friend) in [(1, true), (2, false)] {
            let name = if is_friend { "friend" } else { "stranger" };
            for server in [format!("10.99.{number}.1"), format!("[fd99:{number}::1]")] {
                let open = |port: u16| format!("{server}:{port}");
                for (port, who) in [
                    (7860, is_friend),
                    (7861, is_friend || published_alone),
                    (11434, published_alone),
                    (9000, true),
                    (9001, true),
                ] {
                    let to = open(port);
                    if who {
                        until(&format!("{name} to reach {to}"), || self.reaches(name, &to).then_some(()));
                    } else {
                        assert!(!self.reaches(name, &to), "{name} reaches {to}");
                    }
                }
            }
        }
        for own in ["127.0.0.1:11434", "[::1]:11434", "10.99.1.1:11434", "127.0.0.1:7861"] {
            assert!(self.reaches("server", own), "the server itself does not reach {own}");
        }
        // Whoever has a route to a container's own address: a packet to it is no published port's.
        for container in ["10.99.3.2", "[fd99:3::2]"] {
            assert!(self.reaches("stranger", &format!("{container}:80")), "that is not the gate's business");
            assert!(self.reaches("friend", &format!("{container}:7860")), "the gate in its container");
            for (name, port) in [("stranger", 7860), ("stranger", 11434), ("friend", 11434)] {
                let to = format!("{container}:{port}");
                assert!(!self.reaches(name, &to), "{name} reaches {to}, past what is published");
            }
        }
        // A container asks the gate, or its clients, as before.
        assert!(self.reaches("inside", "10.99.2.1:9000") && self.reaches("server", "10.99.3.2:11434"));
    }

    #[track_caller]
    fn is_open(&self) {
        for to in [
            "10.99.2.1:7860",
            "10.99.2.1:7861",
            "10.99.2.1:11434",
            "[fd99:2::1]:7860",
            "[fd99:2::1]:11434",
            "10.99.3.2:11434",
        ] {
            until(&format!("{to} to be open, without a rule"), || self.reaches("stranger", to).then_some(()));
        }
    }
}

/// Writes the rules for a tool below a folder.
fn rules(home: &Home, tool: &str) -> PathBuf {
    let root = home.path(tool);
    let words =
        ["deploy", "firewall", "--allow", "10.99.1.0/24,fd99:1::/64", tool, "--write", "--yes", "--root"];
    let written = home.run(&[&words[..], &[root.to_str().unwrap()]].concat());
    assert_eq!(written.code, 0, "{}", written.err);
    root
}

fn has(program: &str) -> bool {
    let found =
        ["/usr/sbin", "/sbin", "/usr/bin"].iter().any(|folder| Path::new(folder).join(program).exists());
    if !found {
        leave_out(&format!("there is no {program}"));
    }
    found
}

#[test]
fn a_table_of_nftables_lets_friends_in_alone_and_goes_without_a_trace() {
    if !has("nft") || !has("iptables") {
        return;
    }
    let Some(town) = Town::build() else { return };
    town.is_open();
    let home = Home::new().settings(SETTINGS);
    let file = rules(&home, "--nftables").join("etc/nftables.d/herdgate.nft");
    // Twice is as good as once.
    town.sh(&format!("nft -f {0} && nft -f {0}", file.display()));
    town.judge(false);
    town.sh("nft delete table inet herdgate");
    town.is_open();
}

#[test]
fn the_script_of_iptables_lets_friends_in_alone_and_goes_without_a_trace() {
    if !has("iptables") {
        return;
    }
    let Some(town) = Town::build() else { return };
    let home = Home::new().settings(SETTINGS);
    let script = rules(&home, "--iptables").join("usr/local/sbin/herdgate-firewall");
    let script = script.display();
    // Without the numbers and times, which change by themselves.
    let saved = |file: &str| {
        format!(
            "(iptables-save; ip6tables-save) | sed -e 's/ *\\[[0-9]*:[0-9]*\\]//' -e '/^#/d' >{}",
            home.path(file).display()
        )
    };
    town.sh(&saved("before"));
    town.sh(&format!("{script} start && {script} start"));
    town.judge(false);
    town.sh(&format!("{script} stop && {script} stop"));
    town.sh(&saved("after"));
    let read = |file: &str| std::fs::read_to_string(home.path(file)).unwrap();
    assert_eq!(read("after"), read("before"));
    town.is_open();
}

#[test]
fn the_rules_of_the_gate_and_of_an_ollama_for_another_gate_hold_together_and_go_apart() {
    for (tool, program) in [("--nftables", "nft"), ("--iptables", "iptables")] {
        if !has(program) || !has("iptables") {
            return;
        }
        let Some(town) = Town::build() else { return };
        let home = Home::new().settings(SETTINGS);
        let root = home.path("root");
        let place = [tool, "--yes", "--root", root.to_str().unwrap()];
        let firewall = ["deploy", "firewall", "--allow", "10.99.1.0/24", "--allow-ollama", "10.99.1.0/24"];
        let ollama = ["deploy", "ollama-override", "--bind", "10.99.1.1", "--allow", "10.99.1.2"];
        for (first, second) in [(&firewall[..], &ollama[..]), (&ollama, &firewall)] {
            for kind in [first, second] {
                let written = home.run(&[kind, &["--write"], &place].concat());
                assert_eq!(written.code, 0, "{}", written.err);
            }
            let both = ["herdgate", "herdgate-ollama"];
            let all = |what: &dyn Fn(&str) -> String| both.map(what).join(" && ");
            let root = root.display();
            let is_nft = program == "nft";
            town.sh(&all(&|name| match is_nft {
                true => format!("nft -f {root}/etc/nftables.d/{name}.nft"),
                false => format!("{root}/usr/local/sbin/{name}-firewall start"),
            }));
            let open = |to: &str| town.reaches("stranger", to);
            assert!(town.reaches("friend", "10.99.1.1:7861") && town.reaches("friend", "10.99.1.1:11434"));
            assert!(!open("10.99.2.1:7861") && !open("10.99.2.1:11434"), "{tool}: both hold");
            // The way back of Ollama's rules leaves the gate's in force.
            let off = |name: &str| match is_nft {
                true => format!("nft delete table inet {name}"),
                false => format!("{root}/usr/local/sbin/{name}-firewall stop"),
            };
            town.sh(&off("herdgate-ollama"));
            assert!(!open("10.99.2.1:7861") && !open("10.99.2.1:11434"), "{tool}: those of the gate hold");
            town.sh(&off("herdgate"));
            town.is_open();
            for kind in [first, second] {
                let back = home.run(&[kind, &["--undo"], &place].concat());
                assert_eq!(back.code, 0, "{}", back.err);
            }
        }
    }
}

#[test]
fn beside_ufw_and_firewalld_the_script_is_for_published_ports_alone() {
    if !has("iptables") {
        return;
    }
    let Some(town) = Town::build() else { return };
    let home = Home::new().settings(SETTINGS);
    let scripts =
        ["--ufw", "--firewalld"].map(|tool| rules(&home, tool).join("usr/local/sbin/herdgate-firewall"));
    let text = |path: &PathBuf| -> String {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().filter(|line| !line.starts_with("# Made by")).collect()
    };
    assert_eq!(text(&scripts[0]), text(&scripts[1]));
    town.sh(&format!("{} start", scripts[0].display()));
    town.judge(true);
    town.sh(&format!("{} stop", scripts[0].display()));
    town.is_open();
}

/// What this suite relies on is installed by `./check`.
#[test]
fn the_tools_are_there_where_they_must_be() {
    if is_required() {
        for program in ["nft", "iptables", "ip6tables", "ufw", "firewall-offline-cmd", "systemd-analyze"] {
            assert!(has(program));
        }
    }
}
