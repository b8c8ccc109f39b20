//! `herdgate deploy compose`: the gate in a stack of containers, with Ollama behind it, or with programs that use a gate elsewhere.
//!
//! Ollama is never published, and stands in a network of its own with the gate: nobody walks around. Programs that can send no key
//! ask `herdgate connect`, which has it from a file. Follows the Compose Specification, and no more of it than docker-compose 1.29
//! knows.

mod apps;
mod beside;
mod mounts;
mod notes;
mod publish;
mod services;
#[cfg(test)]
mod tests;
mod yaml;

use super::dockerfile::{USER, ports};
use super::{Act, Base, Deployment, Ground, Made, is_loopback, shown, tame, tame_path};
use crate::client::gate_url;
pub(crate) use beside::notes as notes_beside;
use clap::{Args, ValueEnum};
use gate_config::{PlainKeys, UpstreamUrl};
use mounts::Mounts;
use publish::Publish;
use services::{ALONE, MACHINE};
use std::path::{Path, PathBuf};
use yaml::{Map, Node};

/// The word of the command.
pub(crate) const KIND: &str = "compose";
/// Its file.
const FILE: &str = "compose.yaml";
/// The network that a stack has to itself, and the one of Ollama and the gate.
const OWN: &str = "default";
const BEHIND: &str = "models";
/// The variable that leads a stack to another Ollama than its own text does. No program's own: `OLLAMA_URL` in a folder's `.env`
/// would send programs past the gate, or the gate to itself.
const LEAD: &str = "STACK_OLLAMA_URL";

/// Options of `herdgate deploy compose`.
#[derive(Debug, Args)]
pub(crate) struct ComposeArgs {
    /// Gate and Ollama in one container, with AUTH_TOKEN and OLLAMA_MODEL
    #[arg(long, conflicts_with_all = ["provider", "consumer"])]
    pub(crate) all_in_one: bool,
    /// Gate and Ollama for other stacks of this machine
    #[arg(long, conflicts_with = "consumer")]
    pub(crate) provider: bool,
    /// Programs that use a gate elsewhere; their own Ollama only with the profile `ollama`
    #[arg(long)]
    pub(crate) consumer: bool,
    /// What Ollama computes on
    #[arg(long, value_name = "KIND", default_value = "none")]
    pub(crate) gpu: Gpu,
    /// With Open WebUI, which asks the gate
    #[arg(long)]
    pub(crate) open_webui: bool,
    /// With n8n, whose Ollama credential asks the gate
    #[arg(long)]
    pub(crate) n8n: bool,
    /// For Coolify: variables as it fills them, nothing that it wants to choose itself
    #[arg(long)]
    pub(crate) coolify: bool,
    /// A network that stacks share instead of a port of the machine
    #[arg(long, value_name = "NAME")]
    pub(crate) network: Option<String>,
    /// Where the gate is published, as PORT, IP:PORT or none [default: the port of the settings, everywhere]
    #[arg(long, value_name = "ADDR", conflicts_with = "consumer")]
    pub(crate) publish: Option<Publish>,
    /// The gate that programs use, as a URL [default: the one of this machine, or of --network]
    #[arg(long, value_name = "URL", requires = "consumer")]
    pub(crate) gate: Option<String>,
    /// The authority of that gate's certificate, where it is the gate's own (tls-ca.pem), which becomes a secret
    #[arg(long, value_name = "FILE", requires = "consumer", conflicts_with = "coolify")]
    pub(crate) ca: Option<PathBuf>,
    /// A file with one key for every caller, which becomes a secret
    #[arg(long, value_name = "FILE", conflicts_with = "coolify")]
    pub(crate) auth_token_file: Option<PathBuf>,
    /// An image that is there, instead of one built from the folder's Dockerfile
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// A name that containers cannot look up, as NAME:IP or NAME:host-gateway; may be given several times
    #[arg(long, value_name = "NAME:IP", value_parser = publish::host)]
    pub(crate) host: Vec<String>,
}

/// What Ollama computes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Gpu {
    /// NVIDIA, by its container toolkit
    Nvidia,
    /// AMD, by ROCm
    Amd,
    /// The processor alone
    None,
}

/// What the stack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Stack,
    AllInOne,
    Provider,
    Consumer,
}

/// All that the services are made from.
struct Stack<'s> {
    asked: &'s ComposeArgs,
    ground: &'s Ground<'s>,
    mode: Mode,
    /// The gate that `--gate` names.
    elsewhere: Option<UpstreamUrl>,
    /// The image's name, or none for one that is built here.
    image: Option<String>,
    mounts: Mounts,
    /// The port by which the gate is asked within the stack, in clear.
    plain_port: Option<u16>,
}

/// Makes the file.
///
/// # Errors
/// Where options and settings do not go together, or something cannot stand in it.
pub(crate) fn make(asked: &ComposeArgs, ground: &Ground<'_>) -> anyhow::Result<Deployment> {
    let mode = match asked {
        ComposeArgs { all_in_one: true, .. } => Mode::AllInOne,
        ComposeArgs { provider: true, .. } => Mode::Provider,
        ComposeArgs { consumer: true, .. } => Mode::Consumer,
        ComposeArgs { .. } => Mode::Stack,
    };
    let stack = Stack {
        asked,
        ground,
        mode,
        elsewhere: asked.gate.as_deref().map(named_gate).transpose()?,
        image: asked.image.as_deref().map(|image| tame("--image", image)).transpose()?.map(str::to_owned),
        mounts: Mounts::of(asked, ground, mode)?,
        plain_port: plain_port(ground, mode),
    };
    stack.check()?;
    let path = Path::new(FILE);
    let head = ground.head(path, stack.what());
    let text = format!("{head}{}\n{}", stack.steps(), stack.file()?.render());
    let mut deployment = Deployment::new(KIND, Base::Here, vec![Made::new(path, text)]);
    deployment.notes = stack.notes();
    if !asked.coolify {
        let build = if stack.image.is_none() { " --build" } else { "" };
        deployment.then =
            vec![Act::of(&format!("docker compose up --detach{build}")), Act::of("docker compose ps")];
        deployment.before_undo = vec![Act::of("docker compose down")];
    }
    Ok(deployment)
}

fn named_gate(text: &str) -> anyhow::Result<UpstreamUrl> {
    let url = gate_url(text)?;
    tame("--gate", &shown(&url))?;
    Ok(url)
}

/// The first listener that speaks in clear, which programs of the stack ask.
fn plain_port(ground: &Ground<'_>, mode: Mode) -> Option<u16> {
    let config = ground.config();
    let open = ports(config);
    let is_whole = mode != Mode::Consumer && !open.is_empty();
    if !is_whole && config.listen.is_empty() {
        return Some(7860);
    }
    let mut ports = config
        .listen
        .iter()
        .filter(|one| !one.redirect && !one.is_tls(config))
        .map(|one| one.address.address.port());
    // A consumer's gate is somebody else's, or one of this machine.
    ports.find(|port| !is_whole || open.contains(port))
}

impl Stack<'_> {
    fn has_apps(&self) -> bool {
        self.asked.open_webui || self.asked.n8n
    }

    fn check(&self) -> anyhow::Result<()> {
        if let Some(url) = &self.elsewhere {
            anyhow::ensure!(
                !is_loopback(&url.host),
                "--gate {}: in a container that address is the container itself\n\
                 hint: this machine is http://{MACHINE}:{} there, where its gate listens on more than loopback",
                shown(url),
                url.port
            );
        }
        // `connect` would refuse it at each of its starts.
        anyhow::ensure!(
            self.asked.ca.is_none() || self.elsewhere.as_ref().is_some_and(|url| url.tls),
            "--ca is for a gate that is asked by https://, and this one is {}\n\
             hint: name it by its certificate: --gate https://NAME:PORT",
            self.asked_gate()
        );
        if self.mode == Mode::Consumer && self.elsewhere.is_none() && self.plain_port.is_none() {
            anyhow::bail!(
                "the gate of these settings speaks TLS alone: by which name of its certificate do containers ask it?\n\
                 hint: name it: --gate https://NAME:PORT\n\
                 hint: with an authority of its own, containers of this machine: --gate https://{MACHINE}:PORT --ca tls-ca.pem"
            );
        }
        let asks_in_clear = self.has_apps() && self.mode != Mode::Consumer;
        let refuses = self.ground.config().tls.plain_keys == PlainKeys::Refuse;
        if asks_in_clear && (self.plain_port.is_none() || refuses) {
            anyhow::bail!(
                "the programs of the stack ask the gate in clear, and these settings let nobody do that\n\
                 hint: add a [[listen]] with tls = false for the stack, without tls.plain_keys = \"refuse\", \
                 or give the programs a stack of their own: --consumer --gate https://…"
            );
        }
        Ok(())
    }

    /// Whether Ollama waits for its profile: the settings have another one.
    fn is_local_optional(&self) -> bool {
        self.mode == Mode::Consumer || self.ground.config().upstreams_given
    }

    fn file(&self) -> anyhow::Result<Map> {
        let mut services = Map::default();
        if self.mode != Mode::Consumer {
            services.put("herdgate", self.gate()?);
        }
        if self.mode != Mode::AllInOne {
            services.put_with(
                if self.is_local_optional() { &["docker compose --profile ollama up -d"] } else { &[] },
                "ollama",
                self.ollama()?,
            );
        }
        if self.mode == Mode::Consumer || self.has_apps() {
            services.put_with(
                &["Lets the programs of this stack in with its key; none of them needs one."],
                "connect",
                self.connect(),
            );
        }
        if self.asked.open_webui {
            services.put("open-webui", self.open_webui());
        }
        if self.asked.n8n {
            services.put("n8n", self.n8n());
        }
        let mut file = Map::default();
        file.put("services", services)
            .put("networks", self.networks()?)
            .put("volumes", self.volumes())
            .put("secrets", self.mounts.secrets());
        Ok(file)
    }

    fn networks(&self) -> anyhow::Result<Map> {
        let mut networks = Map::default();
        if matches!(self.mode, Mode::Stack | Mode::Provider) {
            networks.put_with(
                &["Ollama and the gate alone; it has a way out, for models."],
                BEHIND,
                Node::Empty,
            );
        }
        if self.asks_machine() && self.mode != Mode::Consumer {
            networks.put_with(
                &["The gate alone, so that this machine knows it by its address."],
                ALONE,
                services::alone(),
            );
        }
        if let Some(name) = &self.asked.network {
            let mut shared = Map::default();
            shared.put("name", tame("--network", name)?);
            // Who provides makes it; Coolify's own are there already.
            if self.mode != Mode::Provider || self.asked.coolify {
                shared.put("external", true);
            }
            networks.put("shared", shared);
        }
        Ok(networks)
    }

    fn volumes(&self) -> Map {
        let mut volumes = Map::default();
        if self.mode != Mode::Consumer {
            volumes.put("herdgate_data", Node::Empty);
        }
        volumes.put("ollama_data", Node::Empty);
        if self.asked.open_webui {
            volumes.put("open_webui_data", Node::Empty);
        }
        if self.asked.n8n {
            volumes.put("n8n_data", Node::Empty);
        }
        volumes
    }

    fn what(&self) -> &'static str {
        match self.mode {
            Mode::Stack => "A stack of herdgate and the Ollama behind it.",
            Mode::AllInOne => "herdgate and Ollama in one container.",
            Mode::Provider => "herdgate and the Ollama behind it, for other stacks of this machine.",
            Mode::Consumer => "A stack whose programs use a herdgate that is somewhere else.",
        }
    }

    /// Who reads secrets in the container that has them.
    fn owner(&self) -> &'static str {
        if self.mode == Mode::AllInOne { "0" } else { USER }
    }

    /// What the services that are this program run.
    fn program(&self, service: &mut Map) {
        match &self.image {
            Some(image) => service.put("image", image.clone()),
            None => service.put("build", "."),
        };
    }
}

/// A path as a word of a volume or a secret: relative ones begin at the file.
fn place(what: &str, path: &Path) -> anyhow::Result<String> {
    let text = tame_path(what, path)?;
    anyhow::ensure!(!text.contains(':'), "{what} {text} has a colon in it, which ends a path in a stack");
    Ok(if path.is_absolute() || text.starts_with('.') { text.to_owned() } else { format!("./{text}") })
}
