//! TLS towards https upstreams: rustls with aws-lc-rs, the system's roots, read when first needed.
//!
//! Reading some hundred certificates takes longer than the rest of a start-up, and most fleets have no https upstream:
//! so nothing is read before somebody asks. Certificates are always checked; there is no switch against it.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// The TLS settings that all clients of a gate share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls {
    made: Arc<OnceLock<Result<Arc<ClientConfig>, TlsError>>>,
    /// What it is made of, where that is not the system's roots.
    of: Option<Arc<(Option<RootCertStore>, Option<Identity>)>>,
}

/// The certificate that is shown to an upstream, and its private key.
pub struct Identity {
    /// The certificate, and behind it those that lead to its issuer's.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} certificates)", self.chain.len())
    }
}

/// Why there are no TLS settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The system's trust store could not be read or is empty.
    #[error("no root certificate found: install ca-certificates, or name a file in SSL_CERT_FILE{reasons}")]
    NoRoots {
        /// What failed while reading, `": …"`, or nothing.
        reasons: String,
    },
    /// The key is that of another certificate.
    #[error("the private key is not that of the certificate")]
    NoPair,
    /// The TLS library refused its settings.
    #[error("the TLS library refuses its settings: {0}")]
    Library(String),
}

impl Tls {
    /// The system's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured), read at the first [`Tls::config`].
    #[must_use]
    pub fn system() -> Self {
        Tls { made: Arc::default(), of: None }
    }

    /// Roots and a certificate of one upstream's own: of these roots alone, or of the system's where there are none. Nothing
    /// is made before it is needed.
    #[must_use]
    pub fn own(roots: Option<RootCertStore>, identity: Option<Identity>) -> Self {
        Tls { made: Arc::default(), of: Some(Arc::new((roots, identity))) }
    }

    /// Whether both are the same settings, and not merely equal.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.made, &other.made)
    }

    /// Settings made by the caller.
    #[must_use]
    pub fn with(config: Arc<ClientConfig>) -> Self {
        Tls { made: Arc::new(OnceLock::from(Ok(config))), of: None }
    }

    /// The settings. The first call on [`Tls::system`] reads the system's trust store and blocks for some
    /// milliseconds; a gate with an https upstream calls it at start, to say what is wrong before anybody waits.
    ///
    /// # Errors
    /// [`TlsError`]; the same one at every call.
    pub fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let make = || match self.of.as_deref() {
            None => config_with(system_roots()?),
            Some((roots, identity)) => {
                let roots = roots.clone().map_or_else(system_roots, Ok)?;
                configure(roots, identity.as_ref())
            }
        };
        self.made.get_or_init(make).clone()
    }
}

/// Client settings that trust `roots` and nothing else: TLS 1.2 and 1.3, `http/1.1` by ALPN, no client certificate.
///
/// # Errors
/// [`TlsError::Library`].
pub fn config_with(roots: RootCertStore) -> Result<Arc<ClientConfig>, TlsError> {
    configure(roots, None)
}

fn configure(roots: RootCertStore, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, TlsError> {
    let library = |error: rustls::Error| TlsError::Library(error.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(library)?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some(Identity { chain, key }) => {
            config.with_client_auth_cert(chain.clone(), key.clone_key()).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => TlsError::NoPair,
                error => library(error),
            })?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The system's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured).
///
/// # Errors
/// [`TlsError::NoRoots`].
pub fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Old certificates that webpki cannot read stand in most trust stores: skipping them loses nothing.
    let (_added, _skipped) = roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reasons = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
        return Err(TlsError::NoRoots { reasons });
    }
    Ok(roots)
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        io::Error::other(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_settings_are_used_as_they_are() {
        let config = config_with(RootCertStore::empty()).unwrap();
        let tls = Tls::with(Arc::clone(&config));
        assert!(Arc::ptr_eq(&tls.clone().config().unwrap(), &config));
        assert_eq!(config.alpn_protocols, [b"http/1.1".to_vec()]);
    }

    #[test]
    fn the_system_is_read_once_for_all_clones() {
        let tls = Tls::system();
        // A container without ca-certificates has no roots: then it must say so, each time the same.
        match (tls.config(), tls.clone().config()) {
            (Ok(first), Ok(second)) => assert!(Arc::ptr_eq(&first, &second)),
            (Err(first), Err(second)) => {
                assert_eq!(first, second);
                assert!(first.to_string().contains("ca-certificates"), "{first}");
            }
            (first, second) => panic!("{first:?} then {second:?}"),
        }
    }
}
