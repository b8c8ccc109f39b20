//! `herdgate deploy ollama-override`: a drop-in for Ollama's own service, so that it answers to the gate alone. Ollama's installer
//! writes the unit anew at each update and leaves drop-ins as they are.
//!
//! Drop-ins are read in the order of their names and the last one that sets a variable wins (systemd.unit(5)): `override.conf`, which
//! `systemctl edit` makes, comes after any `herdgate.conf`. So ours is called `zz-herdgate.conf`.

#[cfg(test)]
mod tests;

use super::firewall::{self, Names, OLLAMA_PORT, Port, ToolArgs};
use super::{Act, Base, Deployment, Ground, Made, is_loopback};
use anyhow::bail;
use clap::Args;
use gate_types::Cidr;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

/// The word of the command.
pub(crate) const KIND: &str = "ollama-override";
/// What its rules are called.
const NAMES: Names =
    Names { table: "herdgate-ollama", script: "herdgate-ollama-firewall", chain: "HERDGATE-OLLAMA" };
const DROP_IN: &str = "/etc/systemd/system/ollama.service.d/zz-herdgate.conf";

/// Options of `herdgate deploy ollama-override`.
#[derive(Debug, Args)]
pub(crate) struct OllamaArgs {
    /// Listen there instead of loopback, for a gate on another machine: IP or IP:PORT of this one
    #[arg(long, value_name = "IP", requires = "allow")]
    pub(crate) bind: Option<String>,
    /// The addresses of that gate, which alone are let in
    #[arg(long, value_name = "GATE,…", requires = "bind", value_delimiter = ',')]
    pub(crate) allow: Vec<Cidr>,
    /// Requests that one model answers at a time (OLLAMA_NUM_PARALLEL)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) num_parallel: Option<u16>,
    /// Models that are loaded at a time (OLLAMA_MAX_LOADED_MODELS)
    #[arg(long, value_name = "N")]
    pub(crate) max_loaded_models: Option<u16>,
    /// How long a model stays loaded: 5m, 24h; -1 for ever (OLLAMA_KEEP_ALIVE)
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = keep_alive)]
    pub(crate) keep_alive: Option<String>,
    /// Tokens that a model sees unless a request says otherwise (OLLAMA_CONTEXT_LENGTH)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) context_length: Option<u32>,
    /// Where models lie, a folder of the user ollama (OLLAMA_MODELS)
    #[arg(long, value_name = "DIR")]
    pub(crate) models: Option<String>,
    /// Any other variable, as NAME=value; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    #[command(flatten)]
    pub(crate) tool: ToolArgs,
}

/// Makes the drop-in, and for a gate elsewhere the firewall's rules.
///
/// # Errors
/// Where an address or a variable is none, or the gate listens there itself.
pub(crate) fn make(asked: &OllamaArgs, ground: &Ground<'_>) -> anyhow::Result<Deployment> {
    let address = address(asked, ground)?;
    let tool = &asked.tool;
    if asked.bind.is_none() && (tool.ufw || tool.firewalld || tool.iptables || tool.nftables) {
        bail!("a firewall's name goes with --bind: on loopback nobody else reaches Ollama");
    }
    let mut deployment =
        Deployment::new(KIND, Base::System, vec![Made::new(DROP_IN, text(asked, ground, address)?)]);
    if asked.bind.is_some() {
        let (number, at) = (address.port(), Some(address.ip()));
        let port = Port { number, allow: asked.allow.clone(), at, whose: "Ollama's" };
        firewall::guard(&mut deployment, NAMES, &[port], &asked.tool, ground);
        deployment.notes.push(
            "where `herdgate deploy firewall` is in force on this machine as well, both must let that gate in: --allow-ollama there"
                .to_owned(),
        );
    }
    // The rules stand before anybody can come in.
    deployment.then.extend([
        Act::of("systemctl daemon-reload"),
        Act::of("systemctl restart ollama.service"),
        Act::of("systemctl --no-pager status ollama.service"),
    ]);
    deployment
        .after_undo
        .extend([Act::of("systemctl daemon-reload"), Act::of("systemctl try-restart ollama.service")]);
    deployment.notes.push(
        "an EnvironmentFile= of the unit with OLLAMA_HOST in it would count more: systemctl show ollama -p EnvironmentFiles".to_owned(),
    );
    Ok(deployment)
}

fn address(asked: &OllamaArgs, ground: &Ground<'_>) -> anyhow::Result<SocketAddr> {
    let local = ground.config().upstreams.iter().find(|one| is_loopback(&one.url.host));
    let port = local.map_or(OLLAMA_PORT, |one| one.url.port);
    let address = match &asked.bind {
        None => {
            let ip =
                local.and_then(|one| one.url.host.parse().ok()).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
            SocketAddr::new(ip, port)
        }
        Some(text) => {
            let bound =
                text.parse().or_else(|_| text.parse().map(|ip: IpAddr| SocketAddr::new(ip, OLLAMA_PORT)));
            let Ok(bound) = bound else {
                bail!(
                    "--bind {text:?} is no address of this machine\nhint: write it like 192.168.1.100 or 192.168.1.100:11434"
                )
            };
            if bound.ip().is_unspecified() {
                bail!(
                    "--bind {bound} is every address of this machine\nhint: name the one in the network of the gate"
                )
            }
            bound
        }
    };
    if asked.bind.is_none()
        && ground.config().listen.iter().any(|one| one.address.covers(address.ip(), address.port()))
    {
        bail!(
            "the gate listens on {address} itself\nhint: name another port for Ollama: upstreams = [\"http://127.0.0.1:{}\"]",
            if address.port() == 11435 { 11436 } else { 11435 }
        );
    }
    Ok(address)
}

fn text(asked: &OllamaArgs, ground: &Ground<'_>, address: SocketAddr) -> anyhow::Result<String> {
    let what = if asked.bind.is_some() {
        "Ollama, where a gate on another machine reaches it."
    } else {
        "Ollama, on this machine alone: others come by the gate."
    };
    let mut text = ground.head(Path::new(DROP_IN), what);
    text.push_str(
        "# The last drop-in by name that sets a variable wins, so this one sorts after the override.conf of `systemctl edit`.\n\
         # An update of Ollama writes its unit anew and leaves this.\n\n",
    );
    if asked.bind.is_some() {
        // The address must be there when Ollama asks for it.
        text.push_str("[Unit]\nWants=network-online.target\nAfter=network-online.target\n\n");
    }
    text.push_str("[Service]\n");
    for (name, value) in variables(asked, address)? {
        text.push_str(&format!("Environment=\"{name}={value}\"\n"));
    }
    Ok(text)
}

fn variables(asked: &OllamaArgs, address: SocketAddr) -> anyhow::Result<Vec<(String, String)>> {
    let own = [
        ("OLLAMA_HOST", Some(address.to_string())),
        ("OLLAMA_NUM_PARALLEL", asked.num_parallel.map(|number| number.to_string())),
        ("OLLAMA_MAX_LOADED_MODELS", asked.max_loaded_models.map(|number| number.to_string())),
        ("OLLAMA_KEEP_ALIVE", asked.keep_alive.clone()),
        ("OLLAMA_CONTEXT_LENGTH", asked.context_length.map(|number| number.to_string())),
        ("OLLAMA_MODELS", asked.models.clone()),
    ];
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, value) in own.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        all.push((name.to_owned(), quoted(name, &value)?));
    }
    for pair in &asked.env {
        let Some((name, value)) = pair.split_once('=') else {
            bail!("--env {pair:?} has no =\nhint: write it like --env OLLAMA_FLASH_ATTENTION=1")
        };
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name || name.starts_with(|first: char| first.is_ascii_digit()) {
            bail!("--env {name:?} is no name of a variable");
        }
        if all.iter().any(|(known, _)| known == name) {
            bail!(
                "--env {name} is said twice{}",
                if name == "OLLAMA_HOST" { "\nhint: --bind says where Ollama listens" } else { "" }
            );
        }
        all.push((name.to_owned(), quoted(name, value)?));
    }
    Ok(all)
}

/// A time as Ollama reads it: whole seconds, or Go's notation; it takes five minutes for anything else, without a word.
fn keep_alive(text: &str) -> Result<String, &'static str> {
    let bare = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_number = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit());
    if is_number || is_go_time(bare) {
        return Ok(text.to_owned());
    }
    Err("is no time that Ollama reads: write it like 5m, 24h or 1h30m (it knows no days), or -1 for ever")
}

/// `1h30m`, `1.5h`: numbers, each with a unit (Go's `time.ParseDuration`).
fn is_go_time(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = rest.strip_suffix(unit).unwrap_or_default();
        let has_digit = number.bytes().any(|byte| byte.is_ascii_digit());
        if !has_digit || number.matches('.').count() > 1 {
            return false;
        }
        // `ms` before `m`, which begins like it.
        let units = ["ns", "us", "\u{b5}s", "\u{3bc}s", "ms", "s", "m", "h"];
        let Some(next) = units.iter().find_map(|name| unit.strip_prefix(name)) else { return false };
        rest = next;
    }
    !text.is_empty()
}

/// A value between the quotes of a unit, where blanks and dollars mean themselves (systemd.exec(5), `Environment=`).
fn quoted(name: &str, value: &str) -> anyhow::Result<String> {
    match value.chars().find(|sign| sign.is_control() || matches!(sign, '"' | '\\')) {
        Some(sign) => bail!("{name} has {sign:?} in it, which cannot be written down safely"),
        // A % begins a specifier.
        None => Ok(value.replace('%', "%%")),
    }
}
