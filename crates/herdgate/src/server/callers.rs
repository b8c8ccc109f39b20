//! Callers by certificate: whose certificates are believed, beside their keys. The file is read anew when it changes; one that
//! is broken is told, and whom it named before stays believed.

use super::reload::{Looks, Stamp};
use super::tls::add_roots;
use anyhow::Context as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;

/// What judges the certificates of clients.
pub(super) type Verifier = Arc<dyn ClientCertVerifier>;

/// Who vouches for callers.
pub(super) struct Callers {
    file: PathBuf,
    is_required: bool,
    looks: Looks,
}

impl Callers {
    /// As the settings say, if they say anything.
    ///
    /// # Errors
    /// Where the file holds no certificate of an authority.
    pub(super) fn begin(settings: &gate_config::Tls) -> anyhow::Result<Option<(Self, Verifier)>> {
        let Some(file) = settings.client_ca.clone() else { return Ok(None) };
        let looks = Looks::new(Stamp::at(&file));
        let verifier = read(&file, settings.client_required)?;
        Ok(Some((Self { file, is_required: settings.client_required, looks }, verifier)))
    }

    /// What judges them from now on, where the file is another one than before and stands still.
    pub(super) fn look(&mut self) -> Option<anyhow::Result<Verifier>> {
        self.looks.is_to_be_read(Stamp::at(&self.file)).then(|| read(&self.file, self.is_required))
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

fn read(file: &Path, is_required: bool) -> anyhow::Result<Verifier> {
    let mut roots = RootCertStore::empty();
    add_roots(&mut roots, file)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let judge = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let judge = if is_required { judge } else { judge.allow_unauthenticated() };
    judge.build().with_context(|| format!("{}: cannot vouch for callers", file.display()))
}
