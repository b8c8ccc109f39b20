//! The small client for talking to a gate from afar: where it is, the key, one connection over TLS or in clear, HTTP/2 or
//! HTTP/1.1. Stands beside the server and shares nothing with its data plane: what a command asks now and then needs no pool.
//!
//! It never checks a certificate loosely, never shows the key, and never sends a request twice; who may do that knows what
//! is in it.

mod key;
mod link;
mod no_way;
#[cfg(test)]
mod tests;

pub(crate) use link::Link;
pub(crate) use no_way::NoWay;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use gate_config::{BadUrl, UpstreamUrl};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Uri, header, request};
use http_body::Body;
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Looking up the name, TCP and TLS together: who waits at a terminal has left by then.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// One address of several: a network without IPv6 shall not use up the time for all.
const ADDRESS_TIME: Duration = Duration::from_secs(3);

/// How a gate is entered from afar; the key itself is in no flag, where every process of the machine could read it.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct Access {
    /// File with the key, which only its owner may read [default: the variable HERDGATE_KEY]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Trust this authority alone, for example a gate's own tls-ca.pem [default: the system's]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Access {
    /// The field's value with the key.
    ///
    /// # Errors
    /// Where there is none, or others may read its file; with its `hint:` lines.
    pub(crate) fn bearer(&self) -> anyhow::Result<HeaderValue> {
        key::bearer(self.key_file.as_deref())
    }

    /// Whether a file with a key was named.
    pub(crate) fn names_key(&self) -> bool {
        self.key_file.is_some()
    }

    /// The authorities that are trusted alone, in PEM, where a file with them was named.
    ///
    /// # Errors
    /// Where it cannot be read or holds none.
    pub(crate) fn roots(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(file) = &self.ca else { return Ok(None) };
        authorities(file)?;
        Ok(Some(key::read_short(file, 1 << 20)?))
    }
}

#[cfg(test)]
impl Access {
    pub(crate) fn with_key_file(file: PathBuf) -> Self {
        Access { key_file: Some(file), ca: None }
    }
}

/// Reads the URL of a gate, which says its scheme and ends before what programs add by themselves.
///
/// # Errors
/// What is wrong with it, with its `hint:` lines.
pub(crate) fn gate_url(url: &str) -> anyhow::Result<UpstreamUrl> {
    if !url.trim().is_empty() && !url.contains("://") {
        bail!("the gate's URL says neither http:// nor https://\nhint: {URL_HINT}");
    }
    let url = UpstreamUrl::parse(url).map_err(|bad| {
        let hint = if bad == BadUrl::Credentials { key::WHERE } else { URL_HINT };
        anyhow!("the gate's URL {bad}\nhint: {hint}")
    })?;
    if let Some(path) = ["/v1", "/api"].into_iter().find(|path| url.base.ends_with(path)) {
        let scheme = if url.tls { "https" } else { "http" };
        let before = url.base.trim_end_matches(path);
        bail!(
            "the gate's URL ends in {path}, which programs add by themselves\nhint: write {scheme}://{}{before}",
            url.authority()
        );
    }
    Ok(url)
}

/// A gate somewhere else, and the key for it.
#[derive(Clone)]
pub(crate) struct Gate {
    url: UpstreamUrl,
    authority: Authority,
    bearer: HeaderValue,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    ca: Option<PathBuf>,
}

/// What to speak where no handshake decides it: over TLS that is the gate's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InClear {
    /// Also to what stands in front of a gate and knows nothing else.
    Http1,
    /// One connection for all requests.
    Http2,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gate({})", self.url)
    }
}

impl Gate {
    /// Reads the URL, the key and the certificates; connects to nothing.
    ///
    /// # Errors
    /// What is wrong with one of them, with its `hint:` lines.
    pub(crate) fn new(url: &str, access: &Access) -> anyhow::Result<Self> {
        let url = gate_url(url)?;
        let authority = url.authority().parse();
        let authority =
            authority.map_err(|_| anyhow!("the gate's URL has no usable host\nhint: {URL_HINT}"))?;
        if access.ca.is_some() && !url.tls {
            bail!("--ca is for https:// URLs, and this one is http://\nhint: {URL_HINT}");
        }
        let bearer = key::bearer(access.key_file.as_deref())?;
        let tls = if url.tls {
            let name = ServerName::try_from(url.host.clone());
            let name = name.with_context(|| format!("{} can stand in no certificate", url.host))?;
            Some((TlsConnector::from(trusting(access.ca.as_deref())?), name))
        } else {
            None
        };
        Ok(Gate { url, authority, bearer, tls, ca: access.ca.clone() })
    }

    /// Where it is, for people.
    pub(crate) fn url(&self) -> &UpstreamUrl {
        &self.url
    }

    /// Whether the key crosses a network in clear.
    pub(crate) fn is_in_clear(&self) -> bool {
        let is_here = self.url.host == "localhost"
            || self.url.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        !self.url.tls && !is_here
    }

    /// Addresses a request for this path and query to the gate and puts the key into it, in the place of every other
    /// credential.
    pub(crate) fn address(&self, parts: &mut request::Parts, path: &PathAndQuery) -> Result<(), http::Error> {
        let path = if self.url.base.is_empty() {
            path.clone()
        } else {
            PathAndQuery::try_from(format!("{}{path}", self.url.base))?
        };
        let scheme = if self.url.tls { Scheme::HTTPS } else { Scheme::HTTP };
        let uri = Uri::builder().scheme(scheme).authority(self.authority.clone());
        parts.uri = uri.path_and_query(path).build()?;
        for credential in key::CREDENTIALS {
            parts.headers.remove(credential);
        }
        parts.headers.insert(header::AUTHORIZATION, self.bearer.clone());
        Ok(())
    }

    /// Opens a connection. It must be held until the last of its answers has been read.
    ///
    /// # Errors
    /// Why there is none, within [`CONNECT_TIME`].
    pub(crate) async fn connect<B>(&self, in_clear: InClear) -> Result<Link<B>, NoWay>
    where
        B: Body + Send + Unpin + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let connecting = async {
            let socket = self.dial().await?;
            let Some((connector, name)) = &self.tls else {
                return Link::begin(TokioIo::new(socket), in_clear == InClear::Http2).await;
            };
            let shaken = connector.connect(name.clone(), socket).await;
            let stream = shaken.map_err(|error| NoWay::of_tls(error, self.ca.is_some()))?;
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            Link::begin(TokioIo::new(stream), is_h2).await
        };
        timeout(CONNECT_TIME, Box::pin(connecting)).await.unwrap_or(Err(NoWay::Silent))
    }

    async fn dial(&self) -> Result<TcpStream, NoWay> {
        let addresses = lookup_host((self.url.host.as_str(), self.url.port)).await.map_err(NoWay::Name)?;
        let mut failed = NoWay::Name(io::Error::other("it has no address"));
        for address in addresses {
            match timeout(ADDRESS_TIME, TcpStream::connect(address)).await {
                Ok(Ok(socket)) => {
                    // A chunk is a word of an answer: it waits for no other.
                    socket.set_nodelay(true).map_err(NoWay::Tcp)?;
                    return Ok(socket);
                }
                Ok(Err(error)) => failed = NoWay::Tcp(error),
                Err(_late) => failed = NoWay::Silent,
            }
        }
        Err(failed)
    }
}

const URL_HINT: &str = "write it like https://gate.example.com or http://127.0.0.1:7860";

/// TLS settings that trust the authorities of this file, or the system's, and offer both versions of HTTP.
fn trusting(ca: Option<&Path>) -> anyhow::Result<Arc<ClientConfig>> {
    let config = match ca {
        Some(file) => gate_upstream::config_with(authorities(file)?)?,
        None => gate_upstream::Tls::system().config()?,
    };
    let mut config = ClientConfig::clone(&config);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn authorities(file: &Path) -> anyhow::Result<RootCertStore> {
    const HINT: &str =
        "hint: the gate names its own authority's file when it starts: tls-ca.pem in its data directory";
    let text = key::read_short(file, 1 << 20).with_context(|| format!("--ca {}", file.display()))?;
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(&text) {
        let cert = cert
            .map_err(|error| anyhow!("--ca {}: is no certificate in PEM: {error}\n{HINT}", file.display()))?;
        roots.add(cert).with_context(|| format!("--ca {}", file.display()))?;
    }
    if roots.is_empty() {
        bail!("--ca {}: holds no certificate\n{HINT}", file.display());
    }
    Ok(roots)
}
