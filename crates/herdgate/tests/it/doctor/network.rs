//! The same over networks: names, addresses, firewalls, and an Ollama that anybody reaches.

use super::Report;
use crate::harness::{Home, Networks, PATIENCE, front, testkit};
use gate_testkit::{Ollama, Setup};
use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;

const SERVER: &str = "10.77.0.2";

/// A client and a server on one wire. Names are those of the client's own `/etc/hosts`.
pub(super) struct Wire {
    pub(super) net: Networks,
    home: Home,
    hosts: Option<PathBuf>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(folder) = self.hosts.as_ref().and_then(|hosts| hosts.parent()) {
            drop(fs::remove_dir_all(folder));
        }
    }
}

impl Wire {
    #[track_caller]
    pub(super) fn new() -> Option<Self> {
        let net = Networks::make(&["client", "server"])?;
        net.ip("link add eth0 netns client type veth peer name eth0 netns server");
        for (name, four, six) in
            [("client", "10.77.0.1/24", "2001:db8::1/64"), ("server", "10.77.0.2/24", "")]
        {
            net.ip(&format!("-n {name} addr add {four} dev eth0"));
            net.ip(&format!("-n {name} link set eth0 up"));
            if !six.is_empty() {
                net.ip(&format!("-n {name} addr add {six} dev eth0 nodad"));
            }
        }
        let home = Home::new().through(&net.moves_into("client"));
        Some(Self { net, home, hosts: None })
    }

    /// Gives the client names of its own (ip-netns(8)).
    fn named(mut self, hosts: &str) -> Self {
        let folder = self.net.folder("client");
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("hosts");
        fs::write(&file, hosts).unwrap();
        self.hosts = Some(file);
        self
    }

    pub(super) fn ollama(&self, listen: &str) -> Ollama {
        let listen = listen.parse().unwrap();
        self.net.within("server", || testkit(Setup { listen, checks_host: false, ..Setup::default() }))
    }

    #[track_caller]
    pub(super) fn doctor(&self, args: &[&str]) -> Report {
        super::doctor(&self.home, &[args, &["--no-inference"]].concat())
    }

    /// Runs a cure as who is told of it would: `sudo` is whoever runs the tests.
    #[track_caller]
    fn run(&self, name: &str, command: &str) -> String {
        let mut shell = self.net.command(name, "sh");
        let done = shell.args(["-c", &command.replace("sudo ", "")]).output().unwrap();
        assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }
}

/// An Ollama that wants no key is wrong by itself, so a gate stands before the one that shall be found sound.
macro_rules! gate {
    ($wire:expr, $home:ident, $gate:ident, $ollama:ident) => {
        let $ollama = $wire.ollama("127.0.0.1:0");
        let $home = Home::new().through(&$wire.net.moves_into("server"));
        let $gate = $home.begin_at(&format!("{SERVER}:7860"), &["--upstream", &$ollama.url()]);
        let first = $gate.running.says("its upstreams", |line| line.starts_with("  upstream "));
        assert!(first.contains("Ollama"), "{first}");
    };
}

/// The name is unknown. The address comes from the server, as the cure says.
#[test]
fn a_name_that_nobody_knows() {
    let Some(wire) = Wire::new() else { return };
    let wire = wire.named("127.0.0.1 localhost\n");
    gate!(wire, home, gate, ollama);
    let report = wire.doctor(&["http://cuda.local:7860"]);
    let cure = report.cure("name", "cuda.local cannot be looked up");
    assert_eq!(cure.len(), 2, "{cure:?}");
    let address = wire.run("server", &cure[0]);
    wire.run("client", &cure[1].replace("ADDRESS", address.trim()));
    wire.doctor(&["http://cuda.local:7860"]).is_sound();
    gate.end();
}

/// The same, and the machine that has the name says so to who asks on the network (RFC 6762).
#[test]
fn a_local_name_that_only_the_network_knows() {
    let Some(wire) = Wire::new() else { return };
    let wire = wire.named("127.0.0.1 localhost\n");
    gate!(wire, home, gate, ollama);
    let socket = wire.net.within("server", || {
        let socket = UdpSocket::bind("0.0.0.0:5353").unwrap();
        socket.join_multicast_v4(&[224, 0, 0, 251].into(), &[10, 77, 0, 2].into()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    });
    let responder = std::thread::spawn(move || {
        let mut question = [0; 512];
        let (length, from) = socket.recv_from(&mut question).unwrap();
        assert_eq!(&question[12..length], b"\x04cuda\x05local\x00\x00\x01\x00\x01");
        let mut answer = question[..length].to_vec();
        answer[2..8].copy_from_slice(&[0x84, 0, 0, 1, 0, 1]);
        answer.extend_from_slice(&[192, 12, 0, 1, 0x80, 1, 0, 0, 0, 120, 0, 4, 10, 77, 0, 2]);
        socket.send_to(&answer, from).unwrap();
    });
    let cure = wire.doctor(&["http://cuda.local:7860"]).cure("name", "cuda.local cannot be looked up");
    responder.join().unwrap();
    assert_eq!(cure, [format!("echo \"{SERVER} cuda.local\" | sudo tee -a /etc/hosts")]);
    wire.run("client", &cure[0]);
    wire.doctor(&["http://cuda.local:7860"]).is_sound();
    gate.end();
}

/// A slip in the name.
#[test]
fn a_name_that_is_misspelt() {
    let Some(wire) = Wire::new() else { return };
    let wire = wire.named(&format!("{SERVER} gpu-server\n"));
    gate!(wire, home, gate, ollama);
    let cure = wire.doctor(&["http://gpu-sever:7860"]).cure("name", "gpu-sever cannot be looked up");
    assert_eq!(cure, ["herdgate doctor gpu-server:7860"]);
    super::follow(&wire.home, &cure[0]).is_sound();
    gate.end();
}

/// IPv6 first, where the server has IPv4 alone.
#[test]
fn ipv6_first_and_the_server_has_ipv4_alone() {
    let Some(wire) = Wire::new() else { return };
    let wire = wire.named(&format!("2001:db8::2 gpu1\n{SERVER} gpu1\n"));
    gate!(wire, home, gate, ollama);
    let cure =
        wire.doctor(&["http://gpu1:7860"]).cure("name", "gpu1 is 2001:db8::2 first, which does not answer");
    wire.run("client", &cure[0]);
    wire.doctor(&["http://gpu1:7860"]).is_sound();
    gate.end();
}

/// A firewall turns it away, or drops it without a word.
#[test]
fn a_firewall_between() {
    let Some(iptables) = front::find("iptables") else { return };
    let Some(wire) = Wire::new() else { return };
    gate!(wire, home, gate, ollama);
    let url = format!("http://{SERVER}:7860");
    for (way, seen) in [
        ("REJECT --reject-with icmp-admin-prohibited", "turned away"),
        ("DROP", "other ports of that machine answer"),
    ] {
        wire.run(
            "server",
            &format!("{iptables} -F INPUT && {iptables} -A INPUT -p tcp --dport 7860 -j {way}"),
        );
        let cure = wire.doctor(&[&url]).cure("port", seen);
        wire.run("server", &cure[0]);
        wire.doctor(&[&url]).is_sound();
    }
    gate.end();
}

/// An Ollama on loopback, where others shall reach it.
#[test]
fn an_ollama_on_loopback_alone() {
    let Some(wire) = Wire::new() else { return };
    let ollama = wire.ollama("127.0.0.1:11434");
    let here = Home::new().through(&wire.net.moves_into("server"));
    let cure = super::doctor(&here, &["http://10.77.0.2:11434"])
        .cure("port", "refuses, while 127.0.0.1:11434 of this machine answers");
    let words: Vec<&str> = cure[0].split(' ').collect();
    assert_eq!(words[..4], ["herdgate", "serve", "--listen", "10.77.0.2:11434"]);
    let gate = here.begin_at(words[3], &words[4..]);
    gate.running.says("its upstreams", |line| line.starts_with("  upstream "));
    wire.doctor(&["http://10.77.0.2:11434"]).is_sound();
    gate.end();
    drop(ollama);
}

/// The gate has its own port, and was asked for at Ollama's; and below `/v1`, as clients of OpenAI's dialect are told.
#[test]
fn a_port_and_a_path_that_were_not_meant() {
    let Some(wire) = Wire::new() else { return };
    gate!(wire, home, gate, ollama);
    let cure = wire
        .doctor(&["http://10.77.0.2:11434"])
        .cure("port", "while port 7860 there, which a gate has by itself");
    assert_eq!(cure, ["herdgate doctor http://10.77.0.2:7860"]);
    super::follow(&wire.home, &cure[0]).is_sound();
    gate.end();
    let open = wire.ollama("127.0.0.1:11434");
    let here = Home::new().through(&wire.net.moves_into("server"));
    let cure = super::doctor(&here, &["http://127.0.0.1:11434/v1"])
        .cure("answer", "below http://127.0.0.1:11434/v1");
    super::follow(&here, &cure[0]).is_sound();
    drop(open);
}
