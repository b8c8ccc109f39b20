//! A certificate authority of this gate alone, for whoever has no name that a public one could vouch for: made once and kept
//! in the data directory, so that who trusts it once trusts the gate for good. From it comes a certificate for every name
//! and address of this machine, which lives in memory.

use super::with_hint;
use anyhow::{Context as _, bail};
use gate_store::{DataDir, TLS_CA_FILE, TLS_CA_KEY_FILE};
use jiff::{Span, Zoned};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// How long the authority is good for, in years.
const YEARS: i64 = 10;
/// How long a certificate is good for: browsers take none that lasts longer than 398 days.
const DAYS: i64 = 397;

/// The authority.
pub(super) struct OwnCa {
    issuer: Issuer<'static, KeyPair>,
    path: PathBuf,
    fingerprint: Fingerprint,
}

/// The SHA-256 digest of a certificate, as browsers show it.
#[derive(Clone, Copy)]
pub(super) struct Fingerprint([u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if place == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl OwnCa {
    /// That of this data directory; makes it where there never was one.
    ///
    /// # Errors
    /// Where the files cannot be read or written, or do not belong together.
    pub(super) fn open(dir: &DataDir) -> anyhow::Result<Self> {
        let path = dir.path().join(TLS_CA_FILE);
        let files = (
            dir.read_private(TLS_CA_KEY_FILE).map_err(with_hint)?,
            dir.read_private(TLS_CA_FILE).map_err(with_hint)?,
        );
        let (key, cert) = match files {
            (None, None) => make(dir)?,
            (Some(key), Some(cert)) => (
                KeyPair::from_pem(key.expose())
                    .with_context(|| format!("{TLS_CA_KEY_FILE}: is no private key"))?,
                CertificateDer::from_pem_slice(cert.expose().as_bytes())
                    .with_context(|| format!("{}: is no certificate", path.display()))?,
            ),
            // To make a new one would cut off everybody who trusts the old one, without a word.
            (Some(_), None) | (None, Some(_)) => bail!(
                "{}: one of {TLS_CA_FILE} and {TLS_CA_KEY_FILE} is missing\n\
                 hint: bring it back, or remove the other one too: then a new authority is made, which clients must be told of",
                dir.path().display()
            ),
        };
        let public = key.public_key_raw();
        if !cert.windows(public.len()).any(|part| part == public) {
            bail!(
                "{}: is not the certificate of {TLS_CA_KEY_FILE}\n\
                 hint: bring back the two files that belong together, or remove both",
                path.display()
            );
        }
        let fingerprint = Fingerprint(Sha256::digest(&cert).into());
        Ok(OwnCa { issuer: Issuer::new(authority()?, key), path, fingerprint })
    }

    /// The file to give to clients.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// A certificate for these names and addresses, and its key.
    ///
    /// # Errors
    /// Where one of them cannot stand in a certificate.
    pub(super) fn issue(
        &self,
        names: &[String],
    ) -> anyhow::Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names).context("the names of this machine")?;
        params.distinguished_name = named("herdgate");
        set_span(&mut params, DAYS)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok((cert.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
    }
}

fn make(dir: &DataDir) -> anyhow::Result<(KeyPair, CertificateDer<'static>)> {
    let key = KeyPair::generate()?;
    let cert = authority()?.self_signed(&key)?;
    // The key first: a certificate alone would be in clients' hands for nothing.
    dir.write_private(TLS_CA_KEY_FILE, key.serialize_pem().as_bytes()).map_err(with_hint)?;
    dir.write_private(TLS_CA_FILE, cert.pem().as_bytes()).map_err(with_hint)?;
    Ok((key, cert.der().clone()))
}

fn authority() -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = named("herdgate, an authority of its own");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_span(&mut params, 365 * YEARS)?;
    Ok(params)
}

fn named(name: &str) -> DistinguishedName {
    let mut all = DistinguishedName::new();
    all.push(DnType::CommonName, name);
    all
}

/// Good for so many days from now, and from yesterday on: a clock that is behind by some hours shall not refuse it.
fn set_span(params: &mut CertificateParams, days: i64) -> anyhow::Result<()> {
    let today = Zoned::now().with_time_zone(jiff::tz::TimeZone::UTC).date();
    let day = |days: i64| {
        let date = today.checked_add(Span::new().days(days))?;
        let part = |part: i8| u8::try_from(part).context("a date before the calendar");
        anyhow::Ok(rcgen::date_time_ymd(date.year().into(), part(date.month())?, part(date.day())?))
    };
    (params.not_before, params.not_after) = (day(-1)?, day(days)?);
    Ok(())
}

/// Names by which containers ask: their machine, and the gate's service in the stacks of `herdgate deploy compose`.
const OF_CONTAINERS: [&str; 2] = ["host.docker.internal", "herdgate"];

/// Every name and address under which this machine can be reached, in order.
pub(super) fn own_names() -> Vec<String> {
    let host = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let is_name =
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(OF_CONTAINERS.map(str::to_owned));
    if is_name && host != "localhost" {
        if !host.contains('.') {
            names.push(format!("{host}.local"));
        }
        names.push(host);
    }
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let is_usual =
        |ip: &IpAddr| !ip.is_loopback() && !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    names.extend(interfaces.into_iter().map(|own| own.ip()).filter(is_usual).map(|ip| ip.to_string()));
    names.sort();
    names.dedup();
    names
}
