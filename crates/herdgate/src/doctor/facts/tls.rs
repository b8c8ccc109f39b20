//! The handshake: what the certificate says, and whether it is to be trusted. It is always looked at whole; where it is not to be
//! trusted the connection ends before anything was asked.

use gate_config::{Config, Locations, Upstream};
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// For a handshake: less than for the connection that it belongs to.
const TIME: Duration = Duration::from_secs(3);

/// Why there is no TLS to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::doctor) enum Fault {
    /// What it says is no TLS.
    NoTls,
    /// It closed the connection in the middle.
    Closed,
    /// It took the connection and said nothing: so does what waits for the end of a line that TLS has not.
    Silent,
    /// It wants a certificate of its clients.
    WantsCertificate,
    /// Nobody whom this machine trusts vouches for it.
    UnknownIssuer,
    /// It is for another name.
    Name,
    Expired,
    NotYet,
    /// It is that of an authority, as `openssl req -x509` makes them by itself.
    Authority,
    /// Something else, in the library's words.
    Other(String),
}

/// A handshake, and the certificate that came by it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::doctor) struct TlsFacts {
    /// Why it is not to be trusted; nothing else was asked then.
    pub(in crate::doctor) fault: Option<Fault>,
    /// The names and addresses that the certificate is for.
    pub(in crate::doctor) names: Vec<String>,
    pub(in crate::doctor) issuer: String,
    /// Whether it vouches for itself.
    pub(in crate::doctor) is_self_signed: bool,
    /// How many certificates came.
    pub(in crate::doctor) chain: usize,
    /// Seconds since 1970.
    pub(in crate::doctor) from: i64,
    pub(in crate::doctor) until: i64,
    /// This machine's time then.
    pub(in crate::doctor) now: i64,
    /// Whether plain HTTP is spoken there.
    pub(in crate::doctor) is_plain: bool,
}

/// What one server is shown, and whom its certificate must come from.
#[derive(Clone, Default)]
pub(super) struct Trust {
    /// Credentials of the settings.
    pub(super) fields: Vec<(HeaderName, HeaderValue)>,
    /// In PEM; the system's roots where there are none.
    roots: Vec<u8>,
    /// In PEM: the certificate that is shown, and its key.
    identity: Option<Arc<(Vec<u8>, gate_types::Secret)>>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({} fields)", self.fields.len())
    }
}

impl Trust {
    /// As the gate shows itself to this upstream.
    pub(super) fn of_upstream(upstream: &Upstream) -> Self {
        let token = upstream.token.as_ref().map(|token| format!("Bearer {}", token.text.expose()));
        let fields = upstream.headers.iter().map(|field| (field.name.as_str(), field.value.expose()));
        let fields = token.iter().map(|token| ("Authorization", token.as_str())).chain(fields);
        let fields = fields.filter_map(|(name, value)| {
            let mut value = HeaderValue::from_str(value).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
        });
        let pem = |file: &gate_config::SecretFile| file.text.expose().as_bytes().to_vec();
        Trust {
            fields: fields.collect(),
            roots: upstream.ca.as_ref().map(pem).unwrap_or_default(),
            identity: upstream.client.as_ref().map(|(cert, key)| Arc::new((pem(cert), key.text.clone()))),
        }
    }

    /// As who is told of this gate trusts it: its own authority, where it has one.
    pub(super) fn of_gate(config: &Config, locations: &Locations) -> Self {
        if !config.tls.self_signed {
            return Trust::default();
        }
        let own = locations.data.join(gate_store::TLS_CA_FILE);
        Trust { roots: std::fs::read(own).unwrap_or_default(), ..Trust::default() }
    }

    /// Trusting these authorities alone, in PEM; the system's where there are none. With a key to show.
    pub(super) fn of_target(roots: Vec<u8>, bearer: Option<HeaderValue>) -> Self {
        let fields = bearer.into_iter().map(|bearer| (AUTHORIZATION, bearer)).collect();
        Trust { roots, fields, identity: None }
    }

    /// Trusting the same, with nothing to show: neither a key nor a certificate.
    pub(super) fn without_credentials(&self) -> Self {
        Trust { roots: self.roots.clone(), fields: Vec::new(), identity: None }
    }

    /// Shakes hands.
    pub(super) async fn shake(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> (Option<TlsStream<TcpStream>>, TlsFacts) {
        let bare = host.split('%').next().unwrap_or(host);
        let made = self.config().and_then(|made| {
            let name = ServerName::try_from(bare.to_owned());
            name.map(|name| (made, name)).map_err(|error| error.to_string())
        });
        let ((config, seen), name) = match made {
            Ok(made) => made,
            Err(why) => return (None, TlsFacts { fault: Some(Fault::Other(why)), ..TlsFacts::default() }),
        };
        let shaking = TlsConnector::from(config).connect(name, stream);
        let shaken = timeout(TIME, shaking).await.unwrap_or_else(|_late| Err(ErrorKind::TimedOut.into()));
        let mut facts = std::mem::take(&mut *seen.facts.lock().unwrap_or_else(PoisonError::into_inner));
        match shaken {
            Ok(stream) => (Some(stream), facts),
            Err(error) => {
                facts.fault.get_or_insert_with(|| fault_of(&error));
                (None, facts)
            }
        }
    }

    fn config(&self) -> Result<(Arc<ClientConfig>, Arc<Look>), String> {
        let said = |error: &dyn fmt::Display| error.to_string();
        let roots = if self.roots.is_empty() {
            gate_upstream::system_roots().map_err(|error| said(&error))?
        } else {
            let mut roots = RootCertStore::empty();
            for cert in CertificateDer::pem_slice_iter(&self.roots) {
                roots.add(cert.map_err(|error| said(&error))?).map_err(|error| said(&error))?;
            }
            roots
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let inner = verifier.build().map_err(|error| said(&error))?;
        let look = Arc::new(Look { inner, provider: Arc::clone(&provider), facts: Mutex::default() });
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| said(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&look) as Arc<dyn ServerCertVerifier>);
        let mut config = match self.identity.as_deref() {
            None => config.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = CertificateDer::pem_slice_iter(cert).collect::<Result<Vec<_>, _>>();
                let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes());
                let chain = chain.map_err(|error| said(&error))?;
                config
                    .with_client_auth_cert(chain, key.map_err(|error| said(&error))?)
                    .map_err(|error| said(&error))?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok((Arc::new(config), look))
    }
}

fn fault_of(error: &io::Error) -> Fault {
    use tokio_rustls::rustls::AlertDescription;
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidMessage(_)) => Fault::NoTls,
        Some(Error::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::BadCertificate,
        )) => Fault::WantsCertificate,
        Some(error) => Fault::Other(error.to_string()),
        None if error.kind() == ErrorKind::TimedOut => Fault::Silent,
        None => Fault::Closed,
    }
}

/// Looks at the certificate as any client does, remembers what was wrong, and lets the handshake go on to its end: who shook hands
/// looks at the fault before anything is asked.
struct Look {
    inner: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
    facts: Mutex<TlsFacts>,
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Look")
    }
}

impl ServerCertVerifier for Look {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let mut facts = read(end_entity);
        facts.chain = intermediates.len() + 1;
        facts.now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        facts.fault = judged.err().map(|error| match error {
            Error::InvalidCertificate(bad) => fault(bad),
            other => Fault::Other(other.to_string()),
        });
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = facts;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn fault(bad: CertificateError) -> Fault {
    match bad {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Fault::UnknownIssuer,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Fault::Name,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Fault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Fault::NotYet,
        // webpki has it as an error of its own, which this one only wraps.
        other if other.to_string().contains("CaUsedAsEndEntity") => Fault::Authority,
        other => Fault::Other(other.to_string()),
    }
}

/// What the certificate says; nothing where it cannot be read.
fn read(cert: &CertificateDer<'_>) -> TlsFacts {
    let Ok((_, cert)) = X509Certificate::from_der(cert) else { return TlsFacts::default() };
    let names = cert.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) if is_plain(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    });
    TlsFacts {
        names: names.take(64).collect(),
        issuer: cert.issuer().to_string(),
        is_self_signed: cert.issuer() == cert.subject(),
        from: cert.validity().not_before.timestamp(),
        until: cert.validity().not_after.timestamp(),
        ..TlsFacts::default()
    }
}

/// A name of a host, or of all in a domain: it stands in commands that people copy into a shell.
fn is_plain(name: &str) -> bool {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    !rest.starts_with('-') && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

fn address(bytes: &[u8]) -> Option<String> {
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
    };
    Some(ip.to_string())
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn only_names_of_hosts_are_taken_from_a_certificate() {
        assert!(["gate.example", "*.example", "gpu_1"].iter().all(|name| is_plain(name)));
        assert!(["a;id", "$(id)", "a b", "-x", "*.*", "a'b"].iter().all(|name| !is_plain(name)));
    }
}
