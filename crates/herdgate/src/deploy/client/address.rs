//! Where a client finds the gate, and what it checks it by: from the settings, or from `--gate` where the client is elsewhere.
//!
//! Never an address that means every address: nobody can be found there. Never a name that only the operator knows: that is asked for.

use super::AboutArgs;
use crate::client::gate_url;
use crate::deploy::{Ground, is_loopback, shown, tame, tame_path};
use anyhow::{Context as _, bail};
use gate_config::{Listener, PlainKeys, UpstreamUrl};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// What containers call the machine that they run on.
const MACHINE: &str = "host.docker.internal";

/// Where clients may read the file of the gate's own authority.
const COPY: &str = "/etc/herdgate/tls-ca.pem";

/// A gate as a client needs it.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// Without a slash at the end, and without a port where the scheme says it.
    pub(super) url: String,
    /// The file of the authority that vouches for it, where that is none of the system's.
    pub(super) ca: Option<String>,
    /// The client is a container, and the gate the machine below it.
    pub(super) is_below: bool,
    /// How the address was chosen, and what to know of it: a sentence each.
    pub(super) why: Vec<String>,
}

impl Address {
    /// For a client on the gate's machine, in a container of it, or wherever `--gate` is meant for.
    ///
    /// # Errors
    /// Where the settings do not tell the address, or let nobody in by it.
    pub(super) fn of(asked: &AboutArgs, ground: &Ground<'_>, is_container: bool) -> anyhow::Result<Self> {
        let found = match &asked.gate {
            Some(text) => given(text, ground)?,
            None => chosen(ground, is_container)?,
        };
        let Found { url, is_own, is_below, mut why } = found;
        let config = ground.config();
        let ca = match (&asked.ca, ground.own_authority()) {
            (Some(_), _) if !url.tls => {
                bail!("--ca is for a gate that is asked by https://, and this one is {}", shown(&url))
            }
            (Some(file), _) => Some(ground.absolute(file)),
            (None, Some(file)) if url.tls && is_own => Some(copied(file, ground, is_container, &mut why)),
            (None, Some(_)) if url.tls => {
                why.push(format!(
                    "No listener of the settings has port {}: something else must answer there, with a certificate that the system's \
                     roots vouch for; otherwise say `--ca FILE`.",
                    url.port
                ));
                None
            }
            (None, Some(_) | None) => None,
        };
        let ca = ca
            .map(|file| tame_path("the path of the authority's file", &file).map(str::to_owned))
            .transpose()?;
        let is_here = is_loopback(&url.host);
        if !url.tls && !is_here {
            if is_own && config.tls.plain_keys == PlainKeys::Refuse {
                bail!(
                    "{} is not TLS, and tls.plain_keys = \"refuse\" lets no key in by it\nhint: name the address with TLS: --gate https://NAME:PORT",
                    shown(&url)
                );
            }
            if !is_below {
                why.push(
                    "The key crosses the network in clear: [tls] in the settings changes that.".to_owned(),
                );
            }
        }
        if url.tls && is_own && config.tls.client_required {
            why.push(
                "The gate asks every client for a certificate (tls.client_required), which is not in these settings.".to_owned(),
            );
        }
        Ok(Address { url: shown(&url), ca, is_below, why })
    }
}

/// Where a client reads the file of the gate's own authority: beside the keys it is the gate's user's alone.
fn copied(file: PathBuf, ground: &Ground<'_>, is_container: bool, why: &mut Vec<String>) -> PathBuf {
    let is_service = ground.places.data.starts_with("/var/lib");
    if !is_service && !is_container {
        why.push(format!(
            "The gate's certificate comes from its own authority, {}: for another user or machine, copy it and say `--ca FILE`.",
            file.display()
        ));
        return file;
    }
    why.push(format!(
        "The gate's certificate comes from its own authority. Copy its file to where clients may read it (`--ca FILE` names another place): \
         `sudo install -D -m 0644 {} {COPY}`",
        file.display()
    ));
    COPY.into()
}

struct Found {
    url: UpstreamUrl,
    /// A listener of these settings answers there.
    is_own: bool,
    is_below: bool,
    why: Vec<String>,
}

fn given(text: &str, ground: &Ground<'_>) -> anyhow::Result<Found> {
    let url = gate_url(text)?;
    if ["//0.0.0.0", "//[::]"].iter().any(|all| text.contains(all)) {
        bail!(
            "--gate {text}: this address means every address of a machine, and no client finds a gate by it\nhint: name the machine"
        );
    }
    if !url.base.is_empty() {
        tame("the path of --gate", &url.base)?;
    }
    let config = ground.config();
    let is_below = url.host == MACHINE;
    let is_own = serving(ground)
        .any(|listener| listener.address.address.port() == url.port && listener.is_tls(config) == url.tls);
    Ok(Found { url, is_own, is_below, why: vec!["The address is the one of `--gate`.".to_owned()] })
}

fn serving<'g>(ground: &'g Ground<'_>) -> impl Iterator<Item = &'g Listener> {
    ground
        .config()
        .listen
        .iter()
        .filter(|listener| !listener.redirect && listener.insecure_anonymous.is_none())
}

/// The first listener with TLS, else the first.
fn chosen(ground: &Ground<'_>, is_container: bool) -> anyhow::Result<Found> {
    let config = ground.config();
    let listener = serving(ground)
        .find(|one| one.is_tls(config))
        .or_else(|| serving(ground).next())
        .context("no listener of these settings takes keys\nhint: name the gate with --gate URL")?;
    let bound = listener.address.address;
    if bound.port() == 0 {
        bail!(
            "the gate listens on a port that is chosen at its start\nhint: give it one in [listen], or name it with --gate URL"
        );
    }
    let tls = listener.is_tls(config);
    let found = |host: String, is_below, why: String| Found {
        url: UpstreamUrl { tls, host, port: bound.port(), base: String::new() },
        is_own: true,
        is_below,
        why: vec![why],
    };
    if let (true, Some(name)) = (tls, config.tls.domains.first()) {
        let which = if config.tls.domains.len() > 1 { "the first name of tls.domain" } else { "tls.domain" };
        return Ok(found(
            name.clone(),
            false,
            format!("The address is {which}; `--gate URL` names another."),
        ));
    }
    if tls && config.tls.cert.is_some() {
        bail!(
            "which name of the gate's certificate do clients use?\nhint: --gate https://NAME:{}",
            bound.port()
        );
    }
    let elsewhere = format!("{}://NAME:{}", if tls { "https" } else { "http" }, bound.port());
    if !bound.ip().is_unspecified() {
        return fixed(bound, is_container, &elsewhere).map(|why| found(bound.ip().to_string(), false, why));
    }
    if !is_container {
        let why = format!(
            "The gate listens on every address: this is the one for programs on its own machine; for others: `--gate {elsewhere}`."
        );
        return Ok(found("127.0.0.1".to_owned(), false, why));
    }
    let why = format!(
        "The gate listens on every address, so containers of its machine find it as {MACHINE}; others: `--gate {elsewhere}`."
    );
    Ok(found(MACHINE.to_owned(), true, why))
}

/// One address of the machine.
fn fixed(bound: SocketAddr, is_container: bool, elsewhere: &str) -> anyhow::Result<String> {
    let ip: IpAddr = bound.ip();
    if !ip.is_loopback() {
        return Ok(format!(
            "The gate listens on this address alone; where clients know it by a name: `--gate {elsewhere}`."
        ));
    }
    if is_container {
        bail!(
            "the gate listens on {bound}, which no container reaches\n\
             hint: have it listen on an address that containers reach ([listen] address = \"172.17.0.1:{port}\"), or name one: --gate {elsewhere}",
            port = bound.port()
        );
    }
    Ok(format!(
        "The gate listens for its own machine alone; a front that others reach is named with `--gate {elsewhere}`."
    ))
}
