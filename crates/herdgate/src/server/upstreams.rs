//! Which upstreams there are: those that were given; else the Ollama of this machine where it answers; else one that the
//! gate starts by itself; else none, with a hint that says what was looked for.

use super::local::{Local, Program, find};
use anyhow::Context as _;
use gate_config::{Config, UpstreamUrl};
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
    /// What the gate starts, with its place among the endpoints.
    pub(crate) local: Option<Local>,
    /// What to do when there is no upstream; for callers and for the start-up report.
    pub(crate) hint: String,
}

/// Decides, starting nothing yet.
pub(crate) fn decide(config: &Config, data: &Path) -> anyhow::Result<Upstreams> {
    let given = config.upstreams.iter().map(endpoint).collect::<anyhow::Result<Vec<_>>>()?;
    let mut upstreams = Upstreams { endpoints: given, tls: Tls::system(), local: None, hint: String::new() };
    if config.upstreams_given || config.upstreams.iter().all(answers) {
        return Ok(upstreams);
    }
    upstreams.endpoints.clear();
    if !config.local.enabled {
        upstreams.hint = format!(
            "no Ollama server: nothing answers at {}, and starting one is turned off; name one with --upstream URL",
            list(&config.upstreams)
        );
        return Ok(upstreams);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
    match find(&path, beside.as_deref()) {
        Some(program) => {
            let local = Local::new(program, data.join("models"))?;
            upstreams.endpoints.push(loopback(local.address())?);
            upstreams.local = Some(local);
        }
        None => {
            upstreams.hint = format!(
                "no Ollama server: nothing answers at {}, and neither `ollama` is on PATH nor `herdgate-engine` beside \
                 herdgate or on PATH; install Ollama, build the engine, or name a server with --upstream URL",
                list(&config.upstreams)
            );
        }
    }
    Ok(upstreams)
}

fn endpoint(url: &UpstreamUrl) -> anyhow::Result<Endpoint> {
    Endpoint::new(url.tls, &url.host, url.port, &url.base).with_context(|| format!("upstream {url}"))
}

fn loopback(address: SocketAddr) -> anyhow::Result<Endpoint> {
    Ok(Endpoint::new(false, &address.ip().to_string(), address.port(), "")?)
}

/// Whether something listens there; what it is, the prober finds out.
fn answers(url: &UpstreamUrl) -> bool {
    use std::net::ToSocketAddrs as _;
    let Ok(addresses) = (url.host.as_str(), url.port).to_socket_addrs() else { return false };
    addresses.into_iter().any(|address| TcpStream::connect_timeout(&address, ANSWER_TIME).is_ok())
}

fn list(urls: &[UpstreamUrl]) -> String {
    urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What the gate starts by itself, in words.
pub(crate) fn words(program: &Program) -> String {
    match program {
        Program::Ollama(path) => format!("`{} serve`", path.display()),
        Program::Engine(path) => format!("`{}`", path.display()),
    }
}
