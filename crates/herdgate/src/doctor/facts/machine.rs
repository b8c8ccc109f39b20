//! This machine around the gate: its services, who listens, what leads past the gate, room, cards, limits. Read only.

mod disks;
pub(super) mod docker;
mod exported;
pub(super) mod files;
mod firewall;
pub(super) mod fronts;
pub(super) mod gpu;
mod own;
mod proxies;
mod services;
pub(super) mod shown;
pub(super) mod sockets;
pub(super) mod tool;

pub(in crate::doctor) use disks::{Disk, Rights};
pub(in crate::doctor) use docker::Container;
pub(in crate::doctor) use firewall::{Firewall, Maker, Rule, Verdict};
pub(in crate::doctor) use fronts::{Front, Tunnel};
pub(in crate::doctor) use gpu::{Answer, Card};
pub(in crate::doctor) use own::{Backups, KeyFacts, LogFile};
pub(in crate::doctor) use services::Service;
pub(in crate::doctor) use sockets::{Program, Socket};

use super::ask::Way;
use super::served::{self, What};
use super::tls::Trust;
use super::{Look, dial, inside, names};
use crate::together::together;
use gate_config::{Config, Locations, UpstreamUrl};
use gate_types::Cidr;
use gpu::Gpu;
use own::Files;
use serde::{Deserialize, Serialize};
use services::Variables;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::time::timeout;

/// For all questions to one kind of tool.
const TIME: Duration = Duration::from_secs(20);
/// Ollama's own port.
const OLLAMA: u16 = 11434;

/// What is known of it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Machine {
    pub(in crate::doctor) is_root: bool,
    pub(in crate::doctor) uid: u32,
    /// Its addresses off loopback.
    pub(in crate::doctor) addresses: Vec<IpAddr>,
    /// Its address in the private network that its packets leave by, and how many bits of it are the network's.
    pub(in crate::doctor) network: Option<(IpAddr, u8)>,
    /// Where the gate shall listen, and how many clients it shall have at a time.
    pub(in crate::doctor) listeners: Vec<SocketAddr>,
    pub(in crate::doctor) connections: usize,
    /// The hosts that the gate asks.
    pub(in crate::doctor) upstreams: Vec<String>,
    /// Where Ollama is on this machine: the ports of upstreams here, and its own.
    pub(in crate::doctor) ollama_ports: Vec<u16>,
    pub(in crate::doctor) services: Vec<Service>,
    /// The sockets at the ports above.
    pub(in crate::doctor) sockets: Vec<Socket>,
    /// The lowest port that this program may listen on.
    pub(in crate::doctor) lowest_port: u16,
    /// The path of this program.
    pub(in crate::doctor) program: String,
    pub(in crate::doctor) fronts: Vec<Front>,
    pub(in crate::doctor) tunnels: Vec<Tunnel>,
    /// A tunnel runs whose routes are not kept on this machine.
    pub(in crate::doctor) has_unseen_tunnel: bool,
    /// The variables of proxies around this program.
    pub(in crate::doctor) proxies: Variables,
    /// Variables of a server of Ollama's around this program.
    pub(in crate::doctor) exported: Variables,
    pub(in crate::doctor) models: Option<Disk>,
    pub(in crate::doctor) data: Option<Disk>,
    pub(in crate::doctor) rights: Option<Rights>,
    pub(in crate::doctor) gpu: Gpu,
    pub(in crate::doctor) containers: Vec<Container>,
    /// Its rules, as far as root sees them.
    pub(in crate::doctor) firewall: Option<Firewall>,
    pub(in crate::doctor) is_synchronised: Option<bool>,
    pub(in crate::doctor) files: Files,
    pub(in crate::doctor) keys: Vec<KeyFacts>,
    /// Looked for where the gate is a service.
    pub(in crate::doctor) backups: Option<Backups>,
    pub(in crate::doctor) logs: Vec<LogFile>,
}

/// Looks at everything side by side. None where a target is judged, which may be anywhere.
pub(super) async fn gather(look: &Look) -> Option<Machine> {
    let (config, locations) =
        look.settings.as_ref().map(|(config, locations)| (config.as_ref(), locations))?;
    let (services, gpu, is_synchronised, containers, firewall) = tokio::join!(
        within(services::look()),
        within(gpu::look()),
        within(own::is_synchronised()),
        within(docker::look()),
        within(firewall::look()),
    );
    let mut machine = of_settings(config, locations);
    let (sockets, mut programs) = sockets::look();
    machine.has_unseen_tunnel = fronts::has_unseen(&programs);
    // What runs in a container's network has its own localhost.
    programs.retain(sockets::is_in_own_network);
    let is_ours = |socket: &Socket| {
        let port = socket.address.port();
        machine.ollama_ports.contains(&port)
            || machine.listeners.iter().any(|listener| listener.port() == port)
    };
    let is_ollamas = |socket: &Socket| socket.owner.as_ref().is_some_and(|owner| owner.is("ollama"));
    machine.sockets = sockets.into_iter().filter(|socket| is_ours(socket) || is_ollamas(socket)).collect();
    ask_sockets(&mut machine).await;
    let (ports, all) = (machine.ollama_ports.clone(), programs.clone());
    // What lies on a server that is away is not waited for.
    let read = tokio::task::spawn_blocking(move || (fronts::look(&all, &ports), own::logs(&all)));
    ((machine.fronts, machine.tunnels), machine.logs) =
        within(async { read.await.unwrap_or_default() }).await;
    let mut owners = machine.sockets.iter().filter_map(|socket| socket.owner.as_ref());
    machine.files = own::files(owners.find(|owner| owner.is("herdgate")));
    machine.models = disks::models(&services);
    machine.keys = own::keys(machine.rights.as_ref());
    machine.backups = services.iter().find(|service| !service.is_ollama()).and_then(|_| own::backups());
    let proxies = proxies::look();
    Some(Machine { services, gpu, is_synchronised, containers, firewall, proxies, ..machine })
}

/// What is not told by then is not known: the whole of a doctor's look takes a minute at the most.
async fn within<T: Default>(work: impl Future<Output = T>) -> T {
    timeout(TIME, Box::pin(work)).await.unwrap_or_default()
}

fn of_settings(config: &Config, locations: &Locations) -> Machine {
    let is_here = |host: &str| host == "localhost" || host.parse().is_ok_and(dial::is_own);
    let mut ollama_ports: Vec<u16> =
        config.upstreams.iter().filter(|one| is_here(&one.url.host)).map(|one| one.url.port).collect();
    let listeners: Vec<SocketAddr> = config.listen.iter().map(|listener| listener.address.address).collect();
    if !listeners.iter().any(|listener| listener.port() == OLLAMA) {
        ollama_ports.push(OLLAMA);
    }
    ollama_ports.sort_unstable();
    ollama_ports.dedup();
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let addresses = interfaces.iter().filter(|one| !one.is_loopback() && !one.is_link_local());
    Machine {
        is_root: rustix::process::geteuid().is_root(),
        uid: rustix::process::geteuid().as_raw(),
        addresses: addresses.map(if_addrs::Interface::ip).collect(),
        network: private_network(names::own_gateway()),
        listeners,
        connections: config.limits.connections,
        upstreams: config.upstreams.iter().map(|one| one.url.host.clone()).collect(),
        ollama_ports,
        lowest_port: own::lowest_port(),
        program: std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default(),
        data: disks::disk(&locations.data),
        rights: disks::rights(&locations.data),
        exported: exported::look(),
        ..Machine::default()
    }
}

/// Where the way out is: bridges of containers have none, and what is public is nobody's own.
fn private_network(gateway: Option<Ipv4Addr>) -> Option<(IpAddr, u8)> {
    let gateway = gateway.filter(Ipv4Addr::is_private)?.into();
    let is_its =
        |(ip, bits): &(IpAddr, u8)| Cidr::of(*ip, *bits).is_some_and(|network| network.contains(gateway));
    inside::own_addresses().into_iter().find(is_its)
}

/// Asks every socket that others reach, and that is not the gate's, whether it is an Ollama without a key.
async fn ask_sockets(machine: &mut Machine) {
    let own = machine.addresses.iter().find(|ip| ip.is_ipv4()).or_else(|| machine.addresses.first()).copied();
    let asked = machine.sockets.iter().map(|socket| async move {
        let is_gate = socket.owner.as_ref().is_some_and(|owner| owner.is("herdgate"));
        if socket.is_loopback() || is_gate {
            return None;
        }
        let ip = match socket.address.ip() {
            ip if ip.is_unspecified() => {
                own.filter(|own| own.is_ipv4() || ip.is_ipv6()).unwrap_or(Ipv4Addr::LOCALHOST.into())
            }
            ip => ip,
        };
        let (host, port) = (ip.to_string(), socket.address.port());
        let url = UpstreamUrl { tls: false, host, port, base: String::new() };
        let way = Way { address: SocketAddr::new(ip, port), url, trust: Trust::of_target(Vec::new(), None) };
        let (_, served) = served::look(&way).await;
        let is_open = served.keyless.is_some_and(|status| (200..300).contains(&status));
        match served.what {
            What::Ollama(version) | What::Engine(version) if is_open => Some(version),
            _ => None,
        }
    });
    let told = within(together(asked.collect())).await;
    for (socket, version) in machine.sockets.iter_mut().zip(told) {
        socket.keyless_ollama = version;
    }
}
