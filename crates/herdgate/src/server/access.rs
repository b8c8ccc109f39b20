//! What the settings say of single upstreams, made ready for use: credentials, certificates, shares and limits.
//!
//! Everything is built before anything of it is in force. What an upstream is shown of secrets is shown to it alone.

use super::tls::warn_of_readers;
use anyhow::{Context as _, anyhow};
use gate_config::{Config, SecretFile, Upstream};
use gate_policy::Terms;
use gate_types::UpstreamId;
use gate_upstream::{Access, Endpoint, Identity, Roster, Tls};
use std::time::Duration;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// One upstream of the settings, ready for use.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) endpoint: Endpoint,
    access: Access,
    terms: Terms,
    idle: Option<Duration>,
}

/// Upstreams with their ids; not in force yet.
#[derive(Debug, Default)]
pub(super) struct Enrolled(Vec<(UpstreamId, Ready)>);

/// Makes the upstreams ready that these settings name. `before` are the settings that were in force, whose connections stay
/// where nothing about them changed.
///
/// # Errors
/// Where a file holds no certificate or key, or the two do not match.
pub(super) fn ready(config: &Config, before: Option<(&Config, &Roster)>) -> anyhow::Result<Vec<Ready>> {
    config.upstreams.iter().map(|upstream| one(upstream, config, before)).collect()
}

fn one(upstream: &Upstream, config: &Config, before: Option<(&Config, &Roster)>) -> anyhow::Result<Ready> {
    let has_sockets =
        config.routes.iter().any(|route| route.upgrade && upstream.name.as_ref() == Some(&route.upstream));
    let named = || format!("upstream {upstream}");
    let endpoint = endpoint(upstream)?;
    let token = upstream.token.as_ref().map(|token| format!("Bearer {}", token.text.expose()));
    let fields = upstream.headers.iter().map(|header| (header.name.as_str(), header.value.expose()));
    let fields = token.iter().map(|token| ("Authorization", token.as_str())).chain(fields);
    let old = before.and_then(|before| old_tls(upstream, &endpoint, before));
    let tls = match old {
        Some(tls) => tls,
        None => own_tls(upstream).with_context(named)?,
    };
    let access = Access::default().with_fields(fields).with_context(named)?;
    Ok(Ready {
        endpoint,
        access: access.with_tls(tls).with_connect(upstream.connect),
        terms: Terms {
            weight: upstream.weight,
            slots: upstream.slots.map(|slots| u32::try_from(slots).unwrap_or(u32::MAX)),
            is_ollama: upstream.is_ollama,
            may_hang_up: has_sockets,
        },
        idle: upstream.idle,
    })
}

/// The upstreams of these settings on a roster of their own, in their order, with credentials and certificates: for who asks
/// them something beside the gate.
///
/// # Errors
/// Where a file holds no certificate or key, or the two do not match.
pub(crate) fn roster(config: &Config) -> anyhow::Result<Roster> {
    let roster = Roster::default();
    Enrolled::on(&roster, ready(config, None)?)?.put_in_force(&roster);
    Ok(roster)
}

/// Where an upstream is, and how it is called.
pub(super) fn endpoint(upstream: &Upstream) -> anyhow::Result<Endpoint> {
    let url = &upstream.url;
    let endpoint = Endpoint::new(url.tls, &url.host, url.port, &url.base)
        .with_context(|| format!("upstream {upstream}"))?;
    Ok(match &upstream.name {
        Some(name) => endpoint.named(name),
        None => endpoint,
    })
}

/// The TLS of the same upstream as it is in force, where the new settings want the same.
fn old_tls(
    upstream: &Upstream,
    endpoint: &Endpoint,
    (config, roster): (&Config, &Roster),
) -> Option<Option<Tls>> {
    let was = config.upstreams.iter().find(|was| was.url == upstream.url && was.name == upstream.name)?;
    if was.ca != upstream.ca || was.client != upstream.client {
        return None;
    }
    let id = roster.find(endpoint)?;
    Some(roster.access(id)?.tls().cloned())
}

fn own_tls(upstream: &Upstream) -> anyhow::Result<Option<Tls>> {
    if upstream.ca.is_none() && upstream.client.is_none() {
        return Ok(None);
    }
    let roots = upstream.ca.as_ref().map(roots).transpose()?;
    let identity = upstream.client.as_ref().map(|(cert, key)| identity(cert, key)).transpose()?;
    let tls = Tls::own(roots, identity);
    tls.config()?;
    Ok(Some(tls))
}

fn chain(file: &SecretFile) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let chain = CertificateDer::pem_slice_iter(file.text.expose().as_bytes()).collect::<Result<Vec<_>, _>>();
    let named = || file.path.display();
    match chain {
        Ok(chain) if chain.is_empty() => Err(anyhow!(
            "{}: holds no certificate\nhint: name the file that begins with BEGIN CERTIFICATE",
            named()
        )),
        Ok(chain) => Ok(chain),
        Err(error) => Err(anyhow!("{}: is no certificate in PEM: {error}", named())),
    }
}

fn roots(file: &SecretFile) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(file)? {
        roots.add(certificate).with_context(|| format!("{}: no root", file.path.display()))?;
    }
    Ok(roots)
}

fn identity(cert: &SecretFile, key: &SecretFile) -> anyhow::Result<Identity> {
    let private = PrivateKeyDer::from_pem_slice(key.text.expose().as_bytes())
        .map_err(|error| anyhow!("{}: is no private key in PEM: {error}", key.path.display()))?;
    Ok(Identity { chain: chain(cert)?, key: private })
}

impl Enrolled {
    /// Gives each its id.
    ///
    /// # Errors
    /// Where the roster is full.
    pub(super) fn on(roster: &Roster, ready: Vec<Ready>) -> anyhow::Result<Self> {
        let enrol = |ready: Ready| {
            let id = roster.enrol(ready.endpoint.clone()).with_context(|| {
                format!(
                    "more than {} different upstreams since the start; start herdgate again",
                    Roster::MOST
                )
            })?;
            Ok((id, ready))
        };
        ready.into_iter().map(enrol).collect::<anyhow::Result<_>>().map(Enrolled)
    }

    /// The ids, in the order of the settings.
    pub(super) fn ids(&self) -> Vec<UpstreamId> {
        self.0.iter().map(|(id, _)| *id).collect()
    }

    /// Those that are not like all others beside others.
    pub(super) fn terms(&self) -> Vec<(UpstreamId, Terms)> {
        self.0.iter().map(|(id, ready)| (*id, ready.terms)).collect()
    }

    /// Those with a limit of silence of their own.
    pub(super) fn own_idle(&self) -> Vec<(UpstreamId, Duration)> {
        self.0.iter().filter_map(|(id, ready)| Some((*id, ready.idle?))).collect()
    }

    /// Puts credentials and certificates in force, for the next request of each client that is refreshed.
    pub(super) fn put_in_force(self, roster: &Roster) {
        for (id, ready) in self.0 {
            roster.set_access(id, ready.access);
        }
    }
}

/// Forgets the secrets of upstreams that are in use no more; requests that run there have their own.
pub(super) fn forget(roster: &Roster, in_use: &[UpstreamId]) {
    for id in (0..).map(UpstreamId).take(roster.len()).filter(|id| !in_use.contains(id)) {
        roster.set_access(id, Access::default());
    }
}

/// Secrets that others can read are none.
pub(super) fn warn_of_open_files(upstreams: &[Upstream]) {
    let keys = |upstream: &Upstream| upstream.client.as_ref().map(|(_, key)| key.path.clone());
    for upstream in upstreams {
        let token = upstream.token.as_ref().map(|token| token.path.clone());
        token.into_iter().chain(keys(upstream)).for_each(|path| warn_of_readers(&path));
    }
}
