//! Answers an authority that looks whether a name leads here (TLS-ALPN-01, RFC 8737): by the handshake alone, with a
//! certificate that nobody else would take. Shown for as long as an order runs.

use super::super::tls::Speaking;
use anyhow::Context as _;
use gate_proxy::Handshakes;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use std::collections::HashMap;
use std::sync::Arc;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ServerConfig, crypto::aws_lc_rs};

/// What is shown to the authority; no longer once this is dropped.
pub(super) struct Shown {
    speaking: Speaking,
    by_name: HashMap<String, Arc<CertifiedKey>>,
}

#[derive(Debug)]
struct Answers(HashMap<String, Arc<CertifiedKey>>);

impl ResolvesServerCert for Answers {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.get(&hello.server_name()?.to_ascii_lowercase()).cloned()
    }
}

impl Shown {
    pub(super) fn nothing(speaking: &Speaking) -> Self {
        Self { speaking: Arc::clone(speaking), by_name: HashMap::new() }
    }

    /// Shows the proof for `name` from the next connection on.
    ///
    /// # Errors
    /// Where no certificate can be made of it.
    pub(super) fn add(&mut self, name: &str, digest: &[u8]) -> anyhow::Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([name.to_owned()]).context("the name")?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let cert = params.self_signed(&key)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        // Its extension is critical, so that no client takes it; rustls' own reader would not either.
        let key = provider.key_provider.load_private_key(key)?;
        let shown = CertifiedKey::new(vec![cert.der().clone()], key);
        self.by_name.insert(name.to_ascii_lowercase(), Arc::new(shown));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Answers(self.by_name.clone())));
        config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
        self.put(Some(Arc::new(config)));
        Ok(())
    }

    fn put(&self, challenge: Option<Arc<ServerConfig>>) {
        let usual = Arc::clone(&self.speaking.load().usual);
        self.speaking.store(Arc::new(Handshakes { usual, challenge }));
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.put(None);
    }
}
