//! The gate, the Ollama behind it, and the door for programs without a key, as services of a stack.

use super::publish::Publish;
use super::yaml::{Map, Node, words};
use super::{BEHIND, Gpu, LEAD, Mode, OWN, Stack};
use crate::deploy::dockerfile::ports;
use crate::deploy::{is_loopback, shown, tame};
use gate_config::{Place, UpstreamUrl};
use std::time::Duration;

/// Where the machine is, from inside of a container.
pub(super) const MACHINE: &str = "host.docker.internal";
/// The network that the gate alone has, where it asks this machine: its addresses, and the machine's own among them. Docker takes its
/// networks from 172.16.0.0/12 and 192.168.0.0/16, so it is in neither.
pub(super) const ALONE: &str = "machine";
const ALONE_SUBNET: &str = "10.213.77.0/29";
const ALONE_GATEWAY: &str = "10.213.77.1";
/// What Ollama keeps its models in.
const MODELS: &str = "ollama_data:/root/.ollama";

impl Stack<'_> {
    /// Where the gate is published.
    pub(super) fn published(&self) -> Option<Publish> {
        let has_way = match self.mode {
            Mode::Consumer => return None,
            // Other stacks come by the network.
            Mode::Provider => self.asked.network.is_some(),
            // Coolify's proxy comes by its own.
            Mode::Stack | Mode::AllInOne => self.asked.coolify,
        };
        let first = self.inside().first().copied().unwrap_or(7860);
        Some(self.asked.publish.unwrap_or(if has_way { Publish::Nowhere } else { Publish::Port(first) }))
    }

    /// The gate's ports, within its container.
    fn inside(&self) -> Vec<u16> {
        let config = self.ground.config();
        let open = ports(config);
        if !open.is_empty() {
            return open;
        }
        config.listen.iter().map(|one| one.address.address.port()).filter(|port| *port != 0).take(1).collect()
    }

    pub(super) fn gate(&self) -> anyhow::Result<Map> {
        let mut service = Map::default();
        self.program(&mut service);
        service.put("restart", "unless-stopped");
        let publish = self.published().unwrap_or(Publish::Nowhere);
        let map = |(place, port): (usize, u16)| match place {
            0 => publish.to(port),
            _ => publish.beside(port).to(port),
        };
        let published: Vec<String> = self.inside().into_iter().enumerate().filter_map(map).collect();
        service.put("ports", published);
        service.put("environment", self.gate_variables()?);
        service.put("secrets", self.mounts.of_gate());
        let mut volumes = vec!["herdgate_data:/data".to_owned()];
        if self.mode == Mode::AllInOne {
            volumes.insert(0, MODELS.to_owned());
        }
        volumes.extend(self.mounts.volumes());
        service.put("volumes", volumes);
        let mut networks = Map::default();
        networks.put(OWN, Node::Empty);
        if self.mode != Mode::AllInOne {
            networks.put(BEHIND, Node::Empty);
        }
        if self.asks_machine() {
            networks.put(ALONE, Node::Empty);
        }
        if self.asked.network.is_some() {
            let mut shared = Map::default();
            shared.put_with(&["By which other stacks ask for it."], "aliases", &["herdgate"][..]);
            networks.put("shared", shared);
        }
        service.put("networks", networks);
        // By that network, in which nobody else is: what comes from its addresses is the gate.
        let machine = self.asks_machine().then(|| format!("{MACHINE}:{ALONE_GATEWAY}"));
        service.put("extra_hosts", machine.into_iter().chain(self.hosts(false)).collect::<Vec<_>>());
        if self.mode != Mode::AllInOne && !self.is_local_optional() {
            service.put("depends_on", &["ollama"][..]);
        }
        self.bounds(&mut service);
        service.put("healthcheck", check(&["CMD", "/usr/local/bin/herdgate", "health"]));
        // Requests that run have server.grace; Docker would end them after 10 s.
        let grace = self.ground.config().server.grace + Duration::from_secs(5);
        service.put_with(
            &["server.grace, and what ending takes."],
            "stop_grace_period",
            format!("{}s", grace.as_secs()),
        );
        Ok(service)
    }

    /// What a container of the gate may do.
    fn bounds(&self, service: &mut Map) {
        if self.mode == Mode::AllInOne {
            service.put("init", true);
            self.give_gpu(service);
        } else {
            service.put_with(&["It writes to /data alone."], "read_only", true);
            service.put("cap_drop", words(&["ALL"]));
            if self.inside().iter().any(|port| *port < 1024) {
                service.put("sysctls", Map::of("net.ipv4.ip_unprivileged_port_start", "0"));
            }
        }
        service.put("security_opt", words(&["no-new-privileges:true"]));
        service.put("logging", log());
    }

    fn gate_variables(&self) -> anyhow::Result<Vec<String>> {
        let mut lines = Vec::new();
        let config = self.ground.config();
        let inside = self.inside();
        let first = inside.first().copied().unwrap_or(7860);
        let is_said_elsewhere =
            !matches!(self.ground.loaded.origins.get("listen.address"), None | Some(Place::File { .. }));
        if ports(config).is_empty() || is_said_elsewhere {
            // On loopback nobody outside of the container would reach it.
            let all: Vec<String> = inside.iter().map(|port| format!("[::]:{port}")).collect();
            lines.push(format!("HERDGATE_LISTEN__ADDRESS={}", all.join(",")));
        }
        match (self.mounts.key_inside(), self.asked.coolify, self.mode) {
            (Some(file), ..) => lines.push(format!("AUTH_TOKEN_FILE={file}")),
            (None, true, _) => lines.push("AUTH_TOKEN=${SERVICE_PASSWORD_64_HERDGATE}".to_owned()),
            // As the shell or .env has it; without it there is a first key in /data.
            (None, false, Mode::AllInOne) => lines.push("AUTH_TOKEN".to_owned()),
            (None, false, Mode::Stack | Mode::Provider | Mode::Consumer) => {}
        }
        if self.mode == Mode::AllInOne {
            let models: Vec<String> = config.local.models.iter().map(ToString::to_string).collect();
            lines.push(match models.is_empty() {
                true => "OLLAMA_MODEL".to_owned(),
                false => {
                    format!("OLLAMA_MODEL=${{OLLAMA_MODEL:-{}}}", tame("local.models", &models.join(","))?)
                }
            });
            lines.extend(self.tuning()?);
        } else {
            lines.push(format!("HERDGATE_UPSTREAMS=${{{LEAD}:-{}}}", self.upstreams()?));
        }
        if self.asked.coolify && self.mode != Mode::Provider {
            lines.push(format!("SERVICE_URL_HERDGATE_{first}"));
        }
        Ok(lines)
    }

    /// Whether an upstream of the settings is this machine by its loopback.
    pub(super) fn asks_machine(&self) -> bool {
        let config = self.ground.config();
        let is_here = config.upstreams.iter().any(|one| is_loopback(&one.url.host));
        self.mode != Mode::AllInOne && config.upstreams_given && is_here
    }

    /// What stands for [`LEAD`] where nobody says one: nothing where the settings file does.
    fn upstreams(&self) -> anyhow::Result<String> {
        let loaded = self.ground.loaded;
        if !loaded.config.upstreams_given {
            return Ok("http://ollama:11434".to_owned());
        }
        let in_file = matches!(loaded.origins.get("upstreams"), None | Some(Place::File { .. }));
        if in_file && !self.asks_machine() {
            return Ok(String::new());
        }
        let mut all = Vec::new();
        for upstream in &loaded.config.upstreams {
            let mut url = upstream.url.clone();
            if is_loopback(&url.host) {
                MACHINE.clone_into(&mut url.host);
            }
            all.push(tame("an upstream's URL", &url.to_string())?.to_owned());
        }
        Ok(all.join(","))
    }

    /// Names that the containers' own resolver does not know.
    pub(super) fn hosts(&self, has_machine: bool) -> Vec<String> {
        let machine = format!("{MACHINE}:host-gateway");
        let asked = self.asked.host.iter().cloned();
        has_machine.then_some(machine).into_iter().chain(asked).collect()
    }

    pub(super) fn ollama(&self) -> anyhow::Result<Map> {
        let mut service = Map::default();
        let tag = if self.asked.gpu == Gpu::Amd { "rocm" } else { "latest" };
        service.put("image", format!("docker.io/ollama/ollama:{tag}"));
        if self.is_local_optional() {
            service.put("profiles", words(&["ollama"]));
        }
        service.put("restart", "unless-stopped");
        // Within its network alone: nothing of it is published.
        service.put("expose", &["11434"][..]);
        let mut variables = vec!["OLLAMA_HOST=0.0.0.0:11434".to_owned()];
        variables.extend(self.tuning()?);
        service.put("environment", variables).put("volumes", &[MODELS][..]);
        let mut networks = Map::default();
        networks.put(if self.mode == Mode::Consumer { OWN } else { BEHIND }, Node::Empty);
        service.put("networks", networks);
        self.give_gpu(&mut service);
        service.put("security_opt", words(&["no-new-privileges:true"])).put("logging", log());
        service.put("healthcheck", check(&["CMD", "ollama", "list"]));
        Ok(service)
    }

    /// What the settings say to the Ollama that the gate would start. Only Ollama's own: others may hold secrets.
    fn tuning(&self) -> anyhow::Result<Vec<String>> {
        let env = self.ground.config().local.env.iter();
        let own = env.filter(|(name, _)| name.starts_with("OLLAMA_") && *name != "OLLAMA_MODELS");
        own.map(|(name, value)| Ok(format!("{}={}", tame("local.env", name)?, tame(name, value)?))).collect()
    }

    fn give_gpu(&self, service: &mut Map) {
        match self.asked.gpu {
            Gpu::None => {}
            Gpu::Amd => {
                service.put("devices", &["/dev/kfd:/dev/kfd", "/dev/dri:/dev/dri"][..]);
            }
            Gpu::Nvidia => {
                let mut device = Map::default();
                device.put("driver", "nvidia").put("capabilities", words(&["gpu"]));
                let devices = Node::List(vec![device.into()]);
                let deploy = Map::of("resources", Map::of("reservations", Map::of("devices", devices)));
                service.put_with(&["Needs NVIDIA's container toolkit on the machine."], "deploy", deploy);
            }
        }
    }

    pub(super) fn connect(&self) -> Map {
        let mut service = Map::default();
        self.program(&mut service);
        let mut command =
            vec!["connect".to_owned(), self.told_gate(), "--insecure-listen".into(), "0.0.0.0:11434".into()];
        command.extend(["--name".to_owned(), "connect".to_owned()]);
        match self.mounts.key_inside() {
            Some(file) => command.extend(["--key-file".to_owned(), file]),
            None => {
                let key = match self.mode {
                    Mode::Consumer => "HERDGATE_KEY=${HERDGATE_KEY:?a key of the gate}",
                    Mode::Stack | Mode::AllInOne | Mode::Provider => {
                        "HERDGATE_KEY=${SERVICE_PASSWORD_64_HERDGATE}"
                    }
                };
                service.put("environment", &[key][..]);
            }
        }
        if let Some(file) = self.mounts.ca_inside() {
            command.extend(["--ca".to_owned(), file]);
        }
        service.put("command", Node::Words(command)).put("restart", "unless-stopped");
        service.put("expose", &["11434"][..]).put("secrets", self.mounts.of_connect());
        let mut networks = Map::default();
        networks.put(OWN, Node::Empty);
        let by_network = self.mode == Mode::Consumer && self.asked.network.is_some();
        if by_network {
            networks.put("shared", Node::Empty);
        }
        service.put("networks", networks);
        if self.mode == Mode::Consumer {
            let is_machine =
                self.elsewhere.as_ref().map_or(!by_network, |url| url.host.eq_ignore_ascii_case(MACHINE));
            service.put("extra_hosts", self.hosts(is_machine));
        } else {
            service.put("depends_on", &["herdgate"][..]);
        }
        service.put("read_only", true).put("cap_drop", words(&["ALL"]));
        service.put("security_opt", words(&["no-new-privileges:true"])).put("logging", log());
        service.put_with(&["The image's own asks a gate."], "healthcheck", Map::of("disable", true));
        service
    }

    /// Where `connect` is told that the gate is.
    fn told_gate(&self) -> String {
        match self.mode {
            Mode::Consumer => format!("${{GATE_URL:-{}}}", self.asked_gate()),
            Mode::Stack | Mode::AllInOne | Mode::Provider => self.asked_gate(),
        }
    }

    /// Where the gate is for a program of the stack.
    pub(super) fn asked_gate(&self) -> String {
        let port = self.plain_port.unwrap_or(7860);
        match (self.mode, &self.elsewhere) {
            (Mode::Consumer, Some(url)) => shown(url),
            (Mode::Consumer, None) if self.asked.network.is_none() => format!("http://{MACHINE}:{port}"),
            _ => format!("http://herdgate:{port}"),
        }
    }
}

/// The network of [`ALONE`].
pub(super) fn alone() -> Map {
    let mut addresses = Map::default();
    addresses.put("subnet", ALONE_SUBNET).put("gateway", ALONE_GATEWAY);
    Map::of("ipam", Map::of("config", Node::List(vec![addresses.into()])))
}

/// What must be done for an upstream at the machine's loopback, so that the gate alone reaches it.
pub(super) fn machine_note(url: &UpstreamUrl) -> String {
    format!(
        "{url} is the machine's loopback, which no container reaches: it became {MACHINE}, where an Ollama must listen. Once the \
         stack runs: sudo herdgate deploy ollama-override --bind {ALONE_GATEWAY}:{} --allow {ALONE_SUBNET} --write --run (that \
         network has the gate alone; other containers stay out)",
        url.port
    )
}

/// How it is looked whether a service is well.
fn check(command: &[&str]) -> Map {
    let mut check = Map::default();
    check.put("test", words(command)).put("interval", "30s").put("timeout", "5s");
    check.put("retries", Node::Number(3)).put("start_period", "30s");
    check
}

/// A log that does not fill the disk.
pub(super) fn log() -> Map {
    let mut options = Map::default();
    options.put("max-size", "10m").put("max-file", "3");
    let mut log = Map::of("driver", "local");
    log.put("options", options);
    log
}
