//! A listener for callers without a key, in a network like that of containers: a bridge with the gate, a neighbour and a proxy on
//! it, and other networks behind it.

use crate::harness::{Answer, Ask, Gate, Home, Networks, front, testkit, until};
use gate_testkit::{Ollama, Setup};
use serde_json::json;
use std::net::SocketAddr;

/// The machine that has the bridges; the gate, its neighbour and two that may be routers on one, a stranger on the other.
const NAMES: [&str; 6] = ["host", "gate", "neighbour", "stranger", "router", "other"];

/// The gate's address on the bridge, and a public one of the same machine.
const GATE: &str = "172.18.0.2:7861";
const PUBLIC: &str = "198.51.100.2:7861";
const GATE_V6: &str = "[fd77::2]:7861";

fn network() -> Option<Networks> {
    let net = Networks::make(&NAMES)?;
    for (bridge, address) in [("br0", "172.18.0.1/24"), ("br1", "10.55.0.1/24")] {
        net.ip(&format!("-n host link add {bridge} type bridge"));
        net.ip(&format!("-n host addr add {address} dev {bridge}"));
        net.ip(&format!("-n host link set {bridge} up"));
    }
    for (name, bridge, address, router) in [
        ("gate", "br0", "172.18.0.2/24", "172.18.0.1"),
        ("neighbour", "br0", "172.18.0.9/24", "172.18.0.1"),
        ("router", "br0", "172.18.0.50/24", "172.18.0.1"),
        ("other", "br0", "172.18.0.60/24", "172.18.0.1"),
        ("stranger", "br1", "10.55.0.9/24", "10.55.0.1"),
    ] {
        net.ip(&format!("link add eth0 netns {name} type veth peer name to-{name} netns host"));
        net.ip(&format!("-n host link set to-{name} master {bridge} up"));
        net.ip(&format!("-n {name} addr add {address} dev eth0"));
        net.ip(&format!("-n {name} link set eth0 up"));
        net.ip(&format!("-n {name} route add default via {router}"));
    }
    for (name, address) in [("gate", "fd77::2"), ("neighbour", "fd77::9"), ("router", "fd77::20")] {
        net.ip(&format!("-n {name} addr add {address}/64 dev eth0 nodad"));
    }
    net.ip("-n gate addr add 198.51.100.2/32 dev eth0");
    net.ip("-n neighbour route add 198.51.100.2 via 172.18.0.2");
    net.within("host", || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
    Some(net)
}

struct Village {
    net: Networks,
    _ollama: Ollama,
    home: Home,
    url: String,
}

impl Village {
    #[track_caller]
    fn new() -> Option<Self> {
        let net = network()?;
        let ollama = net.within("gate", || testkit(Setup::default()));
        let settings = "[[listen]]\naddress = \":7861\"\n\
                        insecure_anonymous = { networks = [\"172.18.0.0/24\", \"fd77::/64\"], as = \"stack\" }\n";
        let url = ollama.url();
        // Keys are made outside: the data directory is the same.
        let home = Home::new().through(&net.moves_into("gate")).settings(settings);
        Some(Village { net, _ollama: ollama, home, url })
    }

    #[track_caller]
    fn serve(&self) -> Gate<'_> {
        let gate = self.home.serve_as_set(&["--upstream", &self.url]);
        let said = gate.running.err();
        assert!(
            said.contains(
                "warning: [::]:7861 lets callers from 172.18.0.0/24 and fd77::/64 in without a key"
            ),
            "{said}"
        );
        assert!(said.contains("act as the key \"stack\""), "{said}");
        gate
    }

    #[track_caller]
    fn ask(&self, from: &str, to: &str, ask: Ask) -> Answer {
        let to: SocketAddr = to.parse().unwrap();
        self.net.within(from, || ask.send(to))
    }

    #[track_caller]
    fn list(&self, from: &str, to: &str) -> u16 {
        self.ask(from, to, Ask::get("/api/tags")).status
    }
}

#[test]
fn the_neighbours_need_no_key_and_nobody_else_is_let_in() {
    let Some(village) = Village::new() else { return };
    let key = village.home.key("stack", &[]);
    let gate = village.serve();
    let told = village.ask("neighbour", GATE, Ask::get("/api/tags")).ok();
    assert!(told.text().contains("demo"), "{told}");
    gate.running.says("who asked, and as whom", |line| {
        line.contains("\"client\":\"172.18.0.9\"") && line.contains("\"key\":\"stack\"")
    });
    let chat = Ask::post(
        "/v1/chat/completions",
        &json!({"model": "demo", "messages": [{"role": "user", "content": "hi"}]}),
    );
    village.ask("neighbour", GATE, chat.key("ollama")).ok();
    let pull = Ask::post("/api/pull", &json!({"model": "demo"}));
    assert_eq!(village.ask("neighbour", GATE, pull).status, 403, "beyond the key's scopes");

    for (from, to) in [
        ("host", GATE),     // the bridge's own address
        ("stranger", GATE), // another network
        ("gate", GATE),     // the gate's own address
        ("gate", "127.0.0.1:7861"),
        ("neighbour", PUBLIC),
    ] {
        assert_eq!(village.list(from, to), 401, "{from} to {to}");
        assert_eq!(
            village.ask(from, to, Ask::get("/api/tags").key(&key)).status,
            200,
            "{from} to {to}, with a key"
        );
    }
    for (name, value) in [
        ("X-Forwarded-For", "172.18.0.9"),
        ("X-Forwarded-Host", "gate"),
        ("Forwarded", "for=172.18.0.9"),
        ("CF-Connecting-IP", "172.18.0.9"),
        ("Via", "1.1 tunnel"),
        ("X-Real-IP", "172.18.0.9"),
        ("Origin", "https://evil.example"),
        ("Host", "evil.example"),
    ] {
        let told = village.ask("neighbour", GATE, Ask::get("/api/tags").field(name, value));
        assert!(told.status == 401 && told.text().contains("straight from a program"), "{name}: {told}");
    }
    let revoked = village.home.run(&["key", "revoke", "stack"]);
    assert_eq!(revoked.code, 0, "{}", revoked.err);
    until("the end of the key", || (village.list("neighbour", GATE) == 401).then_some(()));
    gate.end();
}

#[test]
fn who_comes_through_a_proxy_in_the_network_is_not_let_in() {
    let (Some(nginx), Some(caddy)) = (front::find("nginx"), front::find("caddy")) else { return };
    let Some(village) = Village::new() else { return };
    village.home.key("stack", &[]);
    let gate = village.serve();
    assert_eq!(village.list("neighbour", GATE), 200);
    let servers = format!(
        "server {{ listen 8081; location / {{ proxy_pass http://{GATE}; proxy_set_header X-Forwarded-For \
         $proxy_add_x_forwarded_for; proxy_http_version 1.1; }} }}\n\
         server {{ listen 8082; location / {{ proxy_pass http://{GATE}; }} }}"
    );
    let net = &village.net;
    let _nginx = front::nginx(&village.home, net.command("neighbour", &nginx), &servers);
    let site = format!("http://:8083 {{\n\treverse_proxy {GATE}\n}}");
    let _caddy = front::caddy(&village.home, net.command("neighbour", &caddy), &site);
    for port in 8081..=8083 {
        let proxy: SocketAddr = format!("172.18.0.9:{port}").parse().unwrap();
        net.within("neighbour", || front::listens(proxy));
        for from in ["stranger", "neighbour", "host"] {
            let told = village.ask(from, &proxy.to_string(), Ask::get("/api/tags"));
            assert!(
                told.status == 401 && told.text().contains("straight from a program"),
                "{from}, {port}: {told}"
            );
        }
    }
    gate.end();
}

#[test]
fn an_address_that_the_machine_gets_later_is_its_own_too() {
    let Some(village) = Village::new() else { return };
    village.home.key("stack", &[]);
    let gate = village.serve();
    // As a container that joins another network would: the gate's own machine asks from its new address.
    village.net.ip("-n gate addr add 172.18.0.77/24 dev eth0");
    village.net.ip("-n gate route replace local 172.18.0.2 dev lo table local src 172.18.0.77");
    until("the new address to be known", || (village.list("gate", GATE) == 401).then_some(()));
    gate.running.says("where it came from", |line| line.contains("\"client\":\"172.18.0.77\""));
    assert_eq!(village.list("neighbour", GATE), 200);
    gate.end();
}

#[test]
fn a_router_is_one_by_whatever_address_and_in_whatever_table() {
    let Some(village) = Village::new() else { return };
    village.home.key("stack", &[]);
    village.net.ip("-n router addr add fe80::50/64 dev eth0 nodad");
    let gate = village.serve();
    for name in ["neighbour", "router", "other"] {
        assert_eq!(village.list(name, GATE), 200, "{name} is a neighbour like any other");
    }
    // Each time it is a neighbour again once no route names it.
    for (route, name) in [
        ("-6 -n gate route {} default via fe80::50 dev eth0", "router"),
        ("-n gate route {} 10.66.0.0/16 via inet6 fe80::50 dev eth0", "router"),
        ("-n gate route {} default via 172.18.0.60 table 77", "other"),
        ("-n gate route {} 10.67.0.0/16 nexthop via 172.18.0.1 nexthop via 172.18.0.60", "other"),
    ] {
        village.net.ip(&route.replace("{}", "add"));
        until(route, || (village.list(name, GATE) == 401).then_some(()));
        // The router of another turn is told from others once it has told its link address.
        until("the words for it", || {
            let told = village.ask(name, GATE, Ask::get("/api/tags"));
            told.text().contains("this one comes from a router").then_some(())
        });
        // Who just came, and was never seen before.
        village.net.ip("-n gate neigh flush all");
        assert_eq!(village.list(name, GATE), 401, "{route}");
        // Until the router has told its link address again, it might be anybody there.
        until("the neighbour", || (village.list("neighbour", GATE) == 200).then_some(()));
        village.net.ip(&route.replace("{}", "del"));
        until(route, || (village.list(name, GATE) == 200).then_some(()));
    }
    gate.end();
}

#[test]
fn while_a_router_does_not_tell_its_link_address_nobody_beside_it_is_let_in() {
    let Some(village) = Village::new() else { return };
    village.home.key("stack", &[]);
    for (route, address, gate_at) in [
        ("-n gate route {} 10.66.0.0/16 via 172.18.0.254", "172.18.0.254/24", GATE),
        ("-6 -n gate route {} default via fd77::254", "fd77::254/64", GATE_V6),
    ] {
        // The router is there, but not under the address that the route names.
        village.net.ip(&route.replace("{}", "add"));
        let gate = village.serve();
        for name in ["router", "neighbour"] {
            let told = village.ask(name, gate_at, Ask::get("/api/tags"));
            assert!(
                told.status == 401 && told.text().contains("may come from a router"),
                "{name} may be {address}: {told}"
            );
        }
        // Its other address stays its first one.
        let nodad = if address.contains(':') { " nodad" } else { "" };
        village.net.ip(&format!("-n router addr add {address} dev eth0{nodad}"));
        until("the router to tell", || (village.list("neighbour", gate_at) == 200).then_some(()));
        let told = village.ask("router", gate_at, Ask::get("/api/tags"));
        assert!(
            told.status == 401 && told.text().contains("this one comes from a router"),
            "{address}: {told}"
        );
        gate.end();
        village.net.ip(&route.replace("{}", "del"));
    }
}
