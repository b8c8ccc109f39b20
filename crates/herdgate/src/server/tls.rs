//! The gate's certificate: read at the start, and read anew when its files change; or made by an authority of its own
//! (`own_ca.rs`). A pair that is broken or does not match is told once; the one before stays in force, so that a renewal that
//! went wrong ends no connection.

use super::own_ca::{OwnCa, own_names};
use super::reload::{Looks, Stamp};
use anyhow::{Context as _, anyhow, bail};
use arc_swap::ArcSwap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// What the cores speak TLS with; another one from one connection to the next.
pub(super) type Speaking = Arc<ArcSwap<ServerConfig>>;

/// How often the machine's own names are looked at.
const LOOK_AT_NAMES: Duration = Duration::from_secs(30);
/// A certificate of our own is made anew after this long; it would be good for more than a year.
const GOOD_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// Bytes of a file; a chain with its key has some thousand.
const MOST: u64 = 1 << 20;

/// The gate's certificate, where it comes from, and what is made of it.
pub(super) struct Certificate {
    source: Source,
    speaking: Speaking,
}

enum Source {
    Files { cert: PathBuf, key: PathBuf, looks: Looks<(Stamp, Stamp)> },
    Own { ca: OwnCa, names: Vec<String>, made: Instant, looked: Instant },
}

impl Certificate {
    /// Reads the pair that the settings name, or makes one, if they want either.
    ///
    /// # Errors
    /// Where it cannot be read, is none, or does not match: a gate that was told to speak TLS speaks nothing else.
    pub(super) fn begin(settings: &gate_config::Tls, data: &Path) -> anyhow::Result<Option<Self>> {
        let (source, config) = match (settings.cert.clone(), settings.key.clone()) {
            (Some(cert), Some(key)) => {
                let looks = Looks::new(stamp(&cert, &key));
                let config = read(&cert, &key)?;
                warn_of_readers(&key);
                (Source::Files { cert, key, looks }, config)
            }
            _ if settings.self_signed => {
                let ca = OwnCa::open(data)?;
                let names = own_names();
                let config = issued(&ca, &names)?;
                let now = Instant::now();
                (Source::Own { ca, names, made: now, looked: now }, config)
            }
            _ => return Ok(None),
        };
        Ok(Some(Certificate { source, speaking: Arc::new(ArcSwap::new(config)) }))
    }

    pub(super) fn speaking(&self) -> Speaking {
        Arc::clone(&self.speaking)
    }

    /// The gate's own authority, where it has one.
    pub(super) fn own_ca(&self) -> Option<&OwnCa> {
        match &self.source {
            Source::Files { .. } => None,
            Source::Own { ca, .. } => Some(ca),
        }
    }

    /// Reads the pair anew where its files are others than before and stand still; makes one anew where the machine has
    /// other names than before, or the one in force is no longer young.
    pub(super) fn look(&mut self) {
        let fresh = match &mut self.source {
            Source::Files { cert, key, looks } => {
                if !looks.is_to_be_read(stamp(cert, key)) {
                    return;
                }
                warn_of_readers(key);
                read(cert, key).map(|config| (config, format!("{}: read anew", cert.display())))
            }
            Source::Own { ca, names, made, looked } => {
                if looked.elapsed() < LOOK_AT_NAMES {
                    return;
                }
                *looked = Instant::now();
                let now = own_names();
                if now == *names && made.elapsed() < GOOD_FOR {
                    return;
                }
                (*names, *made) = (now, *looked);
                issued(ca, names).map(|config| (config, format!("a certificate for {}", names.join(", "))))
            }
        };
        match fresh {
            Ok((config, what)) => {
                self.speaking.store(config);
                tracing::info!("{what}, in force from the next connection on");
            }
            Err(error) => tracing::error!("{error:#}; the certificate before stays in force"),
        }
    }
}

fn issued(ca: &OwnCa, names: &[String]) -> anyhow::Result<Arc<ServerConfig>> {
    let (cert, key) = ca.issue(names)?;
    Ok(speak(vec![cert], key)?)
}

/// Of both files, so that a change of either is one. `None` where one is not there: half of a change.
fn stamp(cert: &Path, key: &Path) -> Option<(Stamp, Stamp)> {
    Some((Stamp::at(cert)?, Stamp::at(key)?))
}

fn read(cert: &Path, key: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let named = |path: &Path| format!("{}", path.display());
    let chain = CertificateDer::pem_slice_iter(&bytes(cert)?).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| anyhow!("{}: is no certificate in PEM: {error}", named(cert)))?;
    if chain.is_empty() {
        bail!(
            "{}: holds no certificate\nhint: name the file that begins with BEGIN CERTIFICATE",
            named(cert)
        );
    }
    let private = PrivateKeyDer::from_pem_slice(&bytes(key)?).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            anyhow!("{}: holds no private key\nhint: name the file with BEGIN PRIVATE KEY", named(key))
        }
        error => anyhow!("{}: is no private key in PEM: {error}", named(key)),
    })?;
    speak(chain, private).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => anyhow!(
            "{} is not the key of {}\nhint: name the two files of one certificate",
            named(key),
            named(cert)
        ),
        error => anyhow!("{}: {error}", named(cert)),
    })
}

fn speak(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Ours is an order of strength; and a client may come back without the work of a whole handshake.
    config.ignore_client_order = true;
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}

fn bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    let meta = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if !meta.is_file() || meta.len() > MOST {
        bail!("{}: is no file of a certificate or key", path.display());
    }
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A key that others can read is no secret.
pub(super) fn warn_of_readers(key: &Path) {
    if fs::metadata(key).is_ok_and(|meta| meta.mode() & 0o004 != 0) {
        tracing::warn!("{}: everybody on this machine may read it; chmod o-r ends that", key.display());
    }
}
