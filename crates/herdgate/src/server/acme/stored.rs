//! What is kept of an authority in the data directory: the account, the latest tries, and the certificate with its key in
//! one file, so that the two are always of one pair. Each file is written whole or not at all, and only the owner reads it.

use super::super::with_hint;
use super::pace::Tries;
use anyhow::{Context as _, bail};
use gate_store::{ACME_CERTIFICATE_FILE, ACME_FILE, DataDir};
use gate_types::Secret;
use instant_acme::AccountCredentials;
use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Before the certificate stands where it is from. Readers of PEM pass over what is outside of its lines.
const FROM: &str = "directory: ";

/// The account and the tries with one authority.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Account {
    /// The authority's directory.
    pub(super) directory: String,
    pub(super) credentials: Option<AccountCredentials>,
    pub(super) tries: Tries,
}

impl Account {
    /// The credentials once more: their type can be kept, and not cloned.
    pub(super) fn copy(&self) -> Option<AccountCredentials> {
        let kept = serde_json::to_value(self.credentials.as_ref()?).ok()?;
        serde_json::from_value(kept).ok()
    }
}

/// A certificate as it was kept.
pub(super) struct Kept {
    /// The directory of the authority that gave it.
    pub(super) directory: String,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// The account with the authority of this directory, as far as there is one.
///
/// # Errors
/// Where the file cannot be read or understood: to make another account without a word would lose this one.
pub(super) fn account(dir: &DataDir, directory: &str) -> anyhow::Result<Account> {
    let fresh = || Account { directory: directory.to_owned(), ..Account::default() };
    let Some(text) = dir.read_private(ACME_FILE).map_err(with_hint)? else { return Ok(fresh()) };
    let Ok(read) = serde_json::from_str::<Account>(text.expose()) else {
        // What a reader of JSON says of it could quote the key.
        bail!(
            "{}: is no account that herdgate wrote\n\
             hint: bring it back, or remove it: then a new account is made",
            dir.path().join(ACME_FILE).display()
        );
    };
    Ok(if read.directory == directory { read } else { fresh() })
}

pub(super) fn keep_account(dir: &DataDir, account: &Account) -> anyhow::Result<()> {
    let text = Secret::new(serde_json::to_string(account).context("the account")?);
    dir.write_private(ACME_FILE, text.expose().as_bytes()).map_err(with_hint)?;
    Ok(())
}

/// The certificate that was kept last.
///
/// # Errors
/// Where the file cannot be read.
pub(super) fn certificate(dir: &DataDir) -> anyhow::Result<Option<Kept>> {
    let Some(text) = dir.read_private(ACME_CERTIFICATE_FILE).map_err(with_hint)? else { return Ok(None) };
    let kept = read(text.expose());
    if kept.is_none() {
        // Another one can be had at any time.
        let path = dir.path().join(ACME_CERTIFICATE_FILE);
        tracing::warn!("{}: holds no certificate with its key: another one is asked for", path.display());
    }
    Ok(kept)
}

fn read(text: &str) -> Option<Kept> {
    let directory = text.lines().next()?.strip_prefix(FROM)?.to_owned();
    let (_, pem) = text.split_once('\n')?;
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>().ok()?;
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()?;
    (!chain.is_empty()).then_some(Kept { directory, chain, key })
}

/// A certificate as its file holds it.
pub(super) struct Written(Secret);

/// What was given as a later start will find it, and how it is to be written; none where it is no certificate.
pub(super) fn written(directory: &str, key: &Secret, chain: &str) -> Option<(Kept, Written)> {
    let text = Secret::new(format!("{FROM}{directory}\n{}\n{chain}", key.expose().trim_end()));
    read(text.expose()).map(|kept| (kept, Written(text)))
}

pub(super) fn keep_certificate(dir: &DataDir, written: &Written) -> anyhow::Result<()> {
    dir.write_private(ACME_CERTIFICATE_FILE, written.0.expose().as_bytes()).map_err(with_hint)?;
    Ok(())
}
