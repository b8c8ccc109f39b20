//! Which upstreams there are: those that were given; else the Ollama of this machine where it answers; else one that the
//! gate starts by itself; else none, with a hint that says what was looked for.

use super::access::endpoint;
use super::handover::Taken;
use super::local::{Local, Program, Surroundings, find, find_engine};
use anyhow::Context as _;
use gate_config::{Config, EngineStart, Upstream};
use gate_proxy::NotYet;
use gate_types::UpstreamId;
use gate_upstream::{Endpoint, Tls};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

/// How long the usual address of Ollama may take to accept a connection. Loopback answers or refuses at once.
const ANSWER_TIME: Duration = Duration::from_millis(500);

/// The upstreams of this run.
#[derive(Debug)]
pub(crate) struct Upstreams {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) tls: Tls,
    /// What the gate starts; each answers at one of the endpoints.
    pub(crate) locals: Vec<Local>,
    /// What callers are told before any of them has answered.
    pub(crate) not_yet: NotYet,
}

/// Decides, starting nothing yet.
pub(crate) fn decide(config: &Config, data: &Path, before: &mut Taken) -> anyhow::Result<Upstreams> {
    let mut upstreams =
        Upstreams { endpoints: Vec::new(), tls: Tls::system(), locals: Vec::new(), not_yet: NotYet::Named };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
    let given = Surroundings::of(&config.local, data)?;
    // Where nothing is found the usual address stays an upstream: an Ollama that starts after the gate is used as well.
    let usual = || config.upstreams.iter().map(endpoint).collect::<anyhow::Result<Vec<_>>>();
    // An Ollama that a gate before this one started goes on, whatever answers at the usual address by now.
    let is_ours = config.local.enabled && before.has_local(Program::OLLAMA);
    if config.upstreams_given || (!is_ours && config.upstreams.iter().all(answers)) {
        upstreams.endpoints = usual()?;
    } else if !config.local.enabled {
        upstreams.endpoints = usual()?;
        upstreams.not_yet = NotYet::NothingFound(format!(
            "no Ollama server: nothing answers at {}, and starting one is turned off; start Ollama, or name another \
             server with --upstream URL",
            list(&config.upstreams)
        ));
    } else if let Some(program) = find(&path, beside.as_deref()) {
        upstreams.start(program, given.clone(), before)?;
    } else {
        upstreams.endpoints = usual()?;
        upstreams.not_yet = NotYet::NothingFound(format!(
            "no Ollama server: nothing answers at {}, and neither `ollama` is on PATH nor `herdgate-engine` beside \
             herdgate or on PATH; start Ollama, build the engine, or name another server with --upstream URL",
            list(&config.upstreams)
        ));
    }
    let has_engine = upstreams.locals.iter().any(|local| matches!(local.program(), Program::Engine(_)));
    if config.local.enabled && config.local.engine == EngineStart::Always && !has_engine {
        let engine = find_engine(&path, beside.as_deref()).context(
            "local.engine = \"always\", but there is no herdgate-engine beside herdgate or on PATH\n\
             hint: build it with `cargo build --release -p herdgate-engine`",
        )?;
        upstreams.start(Program::Engine(engine), given, before)?;
    }
    Ok(upstreams)
}

impl Upstreams {
    /// Has the program started, unless a gate `before` this one has done that already.
    fn start(&mut self, program: Program, given: Surroundings, before: &mut Taken) -> anyhow::Result<()> {
        let local = match before.local(program.name()) {
            Some(running) => Local::handed_over(program, given, running),
            None => Local::new(program, given)?,
        };
        self.endpoints.push(loopback(local.address())?);
        self.locals.push(local);
        let first = self.endpoints.len() - self.locals.len();
        let ids = (0..).map(UpstreamId).take(self.endpoints.len()).skip(first);
        self.not_yet = NotYet::Starting(ids.collect());
        Ok(())
    }
}

fn loopback(address: SocketAddr) -> anyhow::Result<Endpoint> {
    Ok(Endpoint::new(false, &address.ip().to_string(), address.port(), "")?)
}

/// Whether something listens there; what it is, the prober finds out.
fn answers(upstream: &Upstream) -> bool {
    use std::net::ToSocketAddrs as _;
    let url = &upstream.url;
    let Ok(addresses) = (url.host.as_str(), url.port).to_socket_addrs() else { return false };
    addresses.into_iter().any(|address| TcpStream::connect_timeout(&address, ANSWER_TIME).is_ok())
}

/// Addresses in words.
pub(super) fn list(upstreams: &[Upstream]) -> String {
    upstreams.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What the gate starts by itself, in words.
pub(crate) fn words(program: &Program) -> String {
    match program {
        Program::Ollama(path) => format!("`{} serve`", path.display()),
        Program::Engine(path) => format!("`{}`", path.display()),
    }
}
