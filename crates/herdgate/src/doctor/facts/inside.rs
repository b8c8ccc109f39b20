//! A container, seen from its own network: no program of it is needed, because images have none to look with. A thread of its own
//! enters the container's network namespace and ends there; the container's files and variables say whom it asks, and by which names.
//!
//! Never: a variable that does not name an Ollama, or the user and password of one that does.

use super::Look;
use super::machine::docker::{self, ENGINES};
use super::machine::{Container, sockets, tool};
use super::names::{self, Eyes};
use super::places::{self, Place};
use super::resolver::Root;
use crate::together::together;
use anyhow::{Context as _, anyhow, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Names that are told where there is none of that name.
const SHOWN: usize = 8;

/// The container that is looked from, and what is around it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct Inside {
    pub(in crate::doctor) engine: String,
    pub(in crate::doctor) container: Container,
    /// All others of the same engine.
    pub(in crate::doctor) others: Vec<Container>,
    /// Its addresses, and how many bits of each are its network's.
    pub(in crate::doctor) addresses: Vec<(IpAddr, u8)>,
    /// Where its packets leave: its host, as a rule.
    pub(in crate::doctor) gateway: Option<IpAddr>,
    /// The addresses of its host, and who listens there at the ports that were looked at.
    pub(in crate::doctor) host: Vec<IpAddr>,
    pub(in crate::doctor) host_listens: Vec<SocketAddr>,
}

impl Inside {
    /// Whether it is an address of a container that shares a network with this one.
    pub(in crate::doctor) fn is_neighbour(&self, ip: IpAddr) -> bool {
        let shares = |(own, bits): &(IpAddr, u8)| {
            !own.is_loopback()
                && gate_types::Cidr::of(*own, *bits).is_some_and(|network| network.contains(ip))
        };
        !self.is_host(ip) && self.addresses.iter().any(shares)
    }

    pub(in crate::doctor) fn is_host(&self, ip: IpAddr) -> bool {
        self.gateway == Some(ip) || (!ip.is_loopback() && self.host.contains(&ip))
    }
}

/// Looks from inside that container.
///
/// # Errors
/// In one sentence with a hint, where it cannot be looked from.
pub(super) async fn look(look: &Look, name: &str) -> anyhow::Result<(Inside, Vec<Place>)> {
    let begun = Instant::now();
    let (engine, container, others) = find(name).await?;
    let pid = container.pid;
    let namespace = format!("/proc/{pid}/ns/net");
    let file = File::open(&namespace).map_err(|error| unopened(&error, engine, name))?;
    if !container.on_host && is_own_network(pid) {
        return Err(elsewhere(engine, name));
    }
    let mut inside = Inside { engine: engine.to_owned(), container, others, ..Inside::default() };
    inside.host = own_addresses().into_iter().map(|(ip, _)| ip).filter(|ip| !ip.is_loopback()).collect();
    let root = Root(PathBuf::from(format!("/proc/{pid}/root")));
    let seen = std::thread::scope(|scope| {
        let inside = &inside;
        let work = move || enter(&file, engine, name).and_then(|()| places_from(look, inside, root, begun));
        let looked = std::thread::Builder::new().name("inside".to_owned()).spawn_scoped(scope, work);
        looked
            .context("cannot start a thread")?
            .join()
            .map_err(|_panic| anyhow!("the look from inside broke off"))?
    });
    let (addresses, gateway, mut places) = seen?;
    (inside.addresses, inside.gateway) = (addresses, gateway);
    together(places.iter_mut().map(known_here).collect()).await;
    let is_asked = |address: &SocketAddr| places.iter().any(|place| place.port == address.port());
    let (sockets, _) = sockets::look();
    inside.host_listens = sockets.into_iter().map(|socket| socket.address).filter(is_asked).collect();
    Ok((inside, places))
}

async fn find(name: &str) -> anyhow::Result<(&'static str, Container, Vec<Container>)> {
    let mut complaint = None;
    let mut known = Vec::new();
    for engine in ENGINES {
        let Some(mut all) = docker::all(engine).await else {
            if let Some(said) = tool::ask(engine, &["ps", "-q"]).await {
                complaint.get_or_insert((engine, said.err));
            }
            continue;
        };
        let is_it = |one: &Container| one.name == name;
        let at = all.iter().position(is_it).or_else(|| {
            let mut called = all
                .iter()
                .enumerate()
                .filter(|(_, one)| one.is_running && one.aliases.iter().any(|alias| alias == name));
            // A service of which there are several is none of them.
            called.next().filter(|_| called.next().is_none()).map(|(at, _)| at)
        });
        if let Some(at) = at {
            let container = all.remove(at);
            if container.pid == 0 {
                bail!(
                    "the container {name} does not run\nhint: {engine} start {name}; why it ended: {engine} logs --tail 50 {name}"
                );
            }
            return Ok((engine, container, all));
        }
        known.extend(all.into_iter().filter(|one| one.is_running).map(|one| one.name));
    }
    Err(unfound(name, complaint, known))
}

fn unfound(name: &str, complaint: Option<(&str, String)>, mut known: Vec<String>) -> anyhow::Error {
    if !known.is_empty() {
        known.sort_by_key(|one| strsim::osa_distance(one, name));
        known.truncate(SHOWN);
        return anyhow!("there is no container {name}\nhint: those that run: {}", known.join(", "));
    }
    match complaint {
        Some((engine, said)) if said.contains("ermission denied") => anyhow!(
            "{engine} does not tell this user of its containers\nhint: sudo herdgate doctor --from-container {name}"
        ),
        Some((engine, said)) => {
            let line =
                said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it tells of no container");
            let line = crate::progress::plain(line);
            anyhow!("{engine} does not tell of its containers: {line}\nhint: sudo systemctl start {engine}")
        }
        None => anyhow!(
            "there is no container {name}: neither docker nor podman has one that runs\n\
             hint: run this on the machine of the container; those of a user's podman: podman unshare herdgate doctor --from-container {name}"
        ),
    }
}

fn unopened(error: &io::Error, engine: &str, name: &str) -> anyhow::Error {
    if error.kind() == io::ErrorKind::NotFound { elsewhere(engine, name) } else { forbidden(engine, name) }
}

/// A number that is no program of this kernel, or another one.
fn elsewhere(engine: &str, name: &str) -> anyhow::Error {
    anyhow!(
        "the container {name} does not run on this machine's own kernel: {engine} has it in a virtual machine, or elsewhere\n\
         hint: run herdgate doctor there"
    )
}

fn is_own_network(pid: u32) -> bool {
    let network = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    network("thread-self").is_some_and(|own| network(&pid.to_string()) == Some(own))
}

fn forbidden(engine: &str, name: &str) -> anyhow::Error {
    let own =
        if engine == "podman" { "; a user's own podman: podman unshare herdgate doctor ..." } else { "" };
    anyhow!(
        "only root may look from inside a container's network\nhint: sudo herdgate doctor --from-container {name}{own}"
    )
}

/// Moves this thread, and those that it will start, into the container's network.
fn enter(namespace: &File, engine: &str, name: &str) -> anyhow::Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|_errno| forbidden(engine, name))
}

type Seen = (Vec<(IpAddr, u8)>, Option<IpAddr>, Vec<Place>);

/// Runs in the container's network.
fn places_from(look: &Look, inside: &Inside, root: Root, begun: Instant) -> anyhow::Result<Seen> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let addresses = own_addresses();
    let gateway = names::own_gateway().map(IpAddr::V4);
    let places = runtime.block_on(Box::pin(places::from_inside(
        look,
        &inside.container,
        gateway,
        &Eyes::Inside(root),
        begun,
    )));
    runtime.shutdown_timeout(Duration::ZERO);
    Ok((addresses, gateway, places))
}

/// The addresses of this thread's network, and how many bits of each are its network's.
pub(super) fn own_addresses() -> Vec<(IpAddr, u8)> {
    let bits = |address: &if_addrs::IfAddr| match address {
        if_addrs::IfAddr::V4(four) => four.prefixlen,
        if_addrs::IfAddr::V6(six) => six.prefixlen,
    };
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    all.iter().map(|one| (one.ip(), bits(&one.addr))).collect()
}

/// What this machine knows of a name that the container does not.
async fn known_here(place: &mut Place) {
    let host = place.host.clone();
    let Some(unknown) = place.names.as_mut().filter(|names| names.addresses.is_empty()) else { return };
    let here = names::look_up(&Eyes::Here, &host).await;
    unknown.on_host = here.addresses.first().copied().or(here.heard.map(IpAddr::V4));
}
