//! `herdgate deploy nginx | caddy | traefik | cloudflared`: the gate behind a front that is there already.
//!
//! What a front must not do to answers that come as they are made: gather them, cut them short, read a whole request before it passes it
//! on, or answer in HTML where the gate has a dialect. How long it waits is made from the gate's own times.

mod caddy;
mod cloudflared;
mod nginx;
#[cfg(test)]
mod tests;
mod traefik;

use super::{Deployment, Ground, tame, tame_path};
use anyhow::bail;
use clap::Args;
use gate_config::Listener;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use caddy::make as caddy;
pub(crate) use cloudflared::make as cloudflared;
pub(crate) use nginx::make as nginx;
pub(crate) use traefik::make as traefik;

/// The words of the commands.
pub(crate) const NGINX: &str = "nginx";
pub(crate) const CADDY: &str = "caddy";
pub(crate) const TRAEFIK: &str = "traefik";
pub(crate) const CLOUDFLARED: &str = "cloudflared";

/// What every front must be told.
#[derive(Debug, Args)]
pub(crate) struct FrontArgs {
    /// The name that clients use [default: the first of tls.domain]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Where the front finds the gate [default: the first listener of the settings, on this machine]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) gate: Option<SocketAddr>,
    /// Where the gate sees the front come from [default: loopback]
    #[arg(long, value_name = "CIDR,…", value_delimiter = ',')]
    pub(crate) front: Vec<gate_types::Cidr>,
}

/// Options of `herdgate deploy nginx`.
#[derive(Debug, Args)]
pub(crate) struct NginxArgs {
    #[command(flatten)]
    pub(crate) front: FrontArgs,
    /// The certificate of the name [default: certbot's, /etc/letsencrypt/live/NAME/fullchain.pem]
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
}

/// Options of `herdgate deploy traefik`.
#[derive(Debug, Args)]
pub(crate) struct TraefikArgs {
    #[command(flatten)]
    pub(crate) front: FrontArgs,
    /// The entry point with TLS
    #[arg(long, value_name = "NAME", default_value = "websecure")]
    pub(crate) entry_point: String,
    /// Who gives the certificate [default: one of those that Traefik has]
    #[arg(long, value_name = "NAME")]
    pub(crate) cert_resolver: Option<String>,
}

/// Options of `herdgate deploy cloudflared`.
#[derive(Debug, Args)]
pub(crate) struct CloudflaredArgs {
    #[command(flatten)]
    pub(crate) front: FrontArgs,
    /// The tunnel's id, as `cloudflared tunnel list` shows it; with --credentials also its name
    #[arg(long, value_name = "ID")]
    pub(crate) tunnel: String,
    /// Its credentials [default: /etc/cloudflared/ID.json]
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials: Option<PathBuf>,
}

/// What the gate is to a front.
struct Behind {
    name: String,
    address: SocketAddr,
    /// The front speaks TLS with the gate.
    tls: Option<Vouched>,
    /// Longer than the gate itself is ever silent.
    silence: Duration,
    /// Some route passes WebSockets.
    has_sockets: bool,
    notes: Vec<String>,
}

/// How the front knows that it speaks with the gate.
struct Vouched {
    /// What the gate's certificate is for.
    name: String,
    /// Who vouches for that: a file, or the system's roots.
    roots: Option<String>,
}

impl Behind {
    fn of(asked: &FrontArgs, ground: &Ground<'_>) -> anyhow::Result<Self> {
        let config = ground.config();
        let Some(name) = asked.name.clone().or_else(|| config.tls.domains.first().cloned()) else {
            bail!("what is the name that clients use?\nhint: --name ollama.example.com")
        };
        let is_name = |sign: char| sign.is_ascii_alphanumeric() || "-.".contains(sign);
        if !name.chars().all(is_name) || name.starts_with(['-', '.']) || name.is_empty() {
            bail!("--name {name:?} is no name of a host");
        }
        let listener = listener(asked, ground)?;
        let address = asked.gate.unwrap_or_else(|| reachable(listener.address.address));
        if address.port() == 0 {
            bail!(
                "the gate listens on a port that is chosen at its start\nhint: give it one in [listen], or name it with --gate"
            );
        }
        let tls = listener.is_tls(config).then(|| vouched(&name, ground)).transpose()?;
        let mut behind = Behind {
            name,
            address,
            tls,
            silence: ground.longest_silence(),
            has_sockets: config.routes.iter().any(|route| route.upgrade),
            notes: Vec::new(),
        };
        behind.say_who_is_trusted(asked, ground, &listener);
        let roots = behind.tls.as_ref().and_then(|tls| tls.roots.clone());
        if let (Some(file), Some(gate)) = (roots, asked.gate) {
            behind.notes.push(format!(
                "{file} is on the gate's machine, {}: copy it to the same path here",
                gate.ip()
            ));
        }
        Ok(behind)
    }

    fn say_who_is_trusted(&mut self, asked: &FrontArgs, ground: &Ground<'_>, listener: &Listener) {
        let own = ["127.0.0.1", "::1"].iter().filter_map(|text| text.parse().ok());
        let fronts: Vec<gate_types::Cidr> =
            if asked.front.is_empty() { own.collect() } else { asked.front.clone() };
        let trusted = listener.trusted(ground.config());
        if !fronts.iter().all(|front| trusted.contains(front)) {
            let list: Vec<String> = fronts.iter().map(|front| format!("\"{front}\"")).collect();
            self.notes.push(format!(
                "so that limits and records see clients instead of the front, herdgate.toml needs, under [server]: trusted_proxies = [{}]",
                list.join(", ")
            ));
        }
        let ip = listener.address.address.ip();
        if asked.gate.is_none() && asked.front.is_empty() && !ip.is_loopback() {
            let port = listener.address.address.port();
            self.notes.push(format!(
                "the gate can be reached past the front; to have it answer the front alone: [listen] address = \"127.0.0.1:{port}\""
            ));
        }
    }

    /// The address with its scheme.
    fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.address)
    }

    fn seconds(&self) -> u64 {
        self.silence.as_secs()
    }

    fn deployment(self, kind: &'static str, files: Vec<super::Made>) -> Deployment {
        let mut deployment = Deployment::new(kind, super::Base::System, files);
        deployment.notes = self.notes;
        deployment
    }
}

/// The listener that the front is to use: the one of `--gate`, else the first that serves, rather one without TLS.
fn listener(asked: &FrontArgs, ground: &Ground<'_>) -> anyhow::Result<Listener> {
    let config = ground.config();
    let serving = || {
        config.listen.iter().filter(|listener| !listener.redirect && listener.insecure_anonymous.is_none())
    };
    let found = match asked.gate {
        Some(gate) => serving().find(|one| {
            one.address.covers(gate.ip(), gate.port()) || one.address.address.port() == gate.port()
        }),
        None => serving().find(|one| !one.is_tls(config)).or_else(|| serving().next()),
    };
    match (found, asked.gate) {
        (Some(found), _) => Ok(found.clone()),
        (None, Some(gate)) => bail!("no listener of these settings has the port of --gate {gate}"),
        (None, None) => bail!(
            "no listener of these settings serves a front\nhint: add a [[listen]] without redirect and insecure_anonymous"
        ),
    }
}

/// How a program of the same machine reaches what is bound there.
fn reachable(bound: SocketAddr) -> SocketAddr {
    match bound.ip() {
        ip if !ip.is_unspecified() => bound,
        // [::] is both families, and IPv4 alone where there is no IPv6.
        IpAddr::V4(_) | IpAddr::V6(_) => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), bound.port()),
    }
}

/// Who vouches for the gate, and by which name.
fn vouched(name: &str, ground: &Ground<'_>) -> anyhow::Result<Vouched> {
    let Some(file) = ground.own_authority() else {
        return Ok(Vouched { name: name.to_owned(), roots: None });
    };
    let roots = Some(tame_path("the data directory", &file)?.to_owned());
    // The gate's own certificate is for the names of its machine. All of them have this one, and its authority makes no others.
    Ok(Vouched { name: "localhost".to_owned(), roots })
}

fn word<'t>(what: &str, text: &'t str) -> anyhow::Result<&'t str> {
    tame(what, text)
}
