//! The gate's own certificate: read at the start, and read anew when its files change. A pair that is broken or does not
//! match is told once; the one before stays in force, so that a renewal that went wrong ends no connection.

use super::reload::{Looks, Stamp};
use anyhow::{Context as _, anyhow, bail};
use arc_swap::ArcSwap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// What the cores speak TLS with; another one from one connection to the next.
pub(super) type Speaking = Arc<ArcSwap<ServerConfig>>;

/// Bytes of a file; a chain with its key has some thousand.
const MOST: u64 = 1 << 20;

/// The pair of files, and what was made of them.
pub(super) struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    looks: Looks<(Stamp, Stamp)>,
    speaking: Speaking,
}

impl Certificate {
    /// Reads the pair that the settings name, if they name one.
    ///
    /// # Errors
    /// Where it cannot be read, is none, or does not match: a gate that was told to speak TLS speaks nothing else.
    pub(super) fn begin(settings: &gate_config::Tls) -> anyhow::Result<Option<Self>> {
        let (Some(cert), Some(key)) = (settings.cert.clone(), settings.key.clone()) else { return Ok(None) };
        let looks = Looks::new(stamp(&cert, &key));
        let speaking = Arc::new(ArcSwap::new(read(&cert, &key)?));
        warn_of_readers(&key);
        Ok(Some(Certificate { cert, key, looks, speaking }))
    }

    pub(super) fn speaking(&self) -> Speaking {
        Arc::clone(&self.speaking)
    }

    /// Reads the pair anew where its files are others than before and stand still.
    pub(super) fn look(&mut self) {
        if !self.looks.is_to_be_read(stamp(&self.cert, &self.key)) {
            return;
        }
        match read(&self.cert, &self.key) {
            Ok(config) => {
                self.speaking.store(config);
                warn_of_readers(&self.key);
                tracing::info!("{}: read anew, in force from the next connection on", self.cert.display());
            }
            Err(error) => tracing::error!("{error:#}; the certificate before stays in force"),
        }
    }
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
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => anyhow!(
                "{} is not the key of {}\nhint: name the two files of one certificate",
                named(key),
                named(cert)
            ),
            error => anyhow!("{}: {error}", named(cert)),
        })?;
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
fn warn_of_readers(key: &Path) {
    if fs::metadata(key).is_ok_and(|meta| meta.mode() & 0o004 != 0) {
        tracing::warn!("{}: everybody on this machine may read it; chmod o-r ends that", key.display());
    }
}
