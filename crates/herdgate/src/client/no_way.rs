//! Why a gate cannot be reached, in words for whoever sits at the terminal, with what to do about it.

use std::error::Error;
use std::io;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as TlsError};

/// Why there is no connection to the gate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoWay {
    /// The name has no address.
    #[error("its name cannot be looked up: {0}")]
    Name(#[source] io::Error),
    /// TCP failed.
    #[error("it cannot be reached: {0}")]
    Tcp(#[source] io::Error),
    /// Nothing came back in time.
    #[error("it does not answer")]
    Silent,
    /// The certificate is not to be trusted.
    #[error("its certificate is not to be trusted: {why}")]
    Certificate {
        /// What is wrong with it.
        why: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// TLS failed for another reason.
    #[error("TLS with it failed: {0}")]
    Tls(#[source] io::Error),
    /// It speaks something else.
    #[error("it does not speak HTTP/2: {0}")]
    Protocol(#[source] hyper::Error),
}

impl NoWay {
    /// What a failed handshake means. `has_ca` tells whether a file with authorities was named.
    pub(super) fn of_tls(error: io::Error, has_ca: bool) -> Self {
        let why = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
        let Some(TlsError::InvalidCertificate(bad)) = why else { return NoWay::Tls(error) };
        let (why, hint) = match bad {
            CertificateError::UnknownIssuer | CertificateError::BadSignature if has_ca => (
                "it does not come from the authority of --ca".to_owned(),
                "take the file from the gate anew: it names it at its start",
            ),
            CertificateError::UnknownIssuer => (
                "nobody whom this machine trusts vouches for it".to_owned(),
                "where the gate has an authority of its own, copy its tls-ca.pem and say --ca tls-ca.pem",
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
                "it is for another name".to_owned(),
                "write the URL with a name or address that the certificate has",
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
                "it has expired".to_owned(),
                "compare the clocks; else whoever runs the gate has to renew it",
            ),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                ("it is not valid yet".to_owned(), "set the clock of this machine")
            }
            other => (other.to_string(), "whoever runs the gate can tell what certificate it has"),
        };
        NoWay::Certificate { why, hint }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            NoWay::Name(_) => "is the name right, and is there a network?",
            NoWay::Tcp(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                "does the gate run, and are address and port right?"
            }
            NoWay::Tcp(_) | NoWay::Silent => "is there a network, and does a firewall let this port pass?",
            NoWay::Certificate { hint, .. } => hint,
            NoWay::Tls(error) => match tls_cause(error) {
                Some(TlsError::InvalidMessage(_)) => "if the gate speaks no TLS there, write http://",
                Some(TlsError::AlertReceived(AlertDescription::CertificateRequired)) => {
                    "the gate wants a certificate of its clients, and this command has none"
                }
                _ => "is that a gate, and does it speak TLS there?",
            },
            NoWay::Protocol(_) => "is that a gate? One that speaks TLS there is an https:// URL",
        }
    }

    /// Whether it may be over in a moment: nobody listens there.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, NoWay::Tcp(error) if error.kind() == io::ErrorKind::ConnectionRefused)
    }
}

fn tls_cause(error: &io::Error) -> Option<&TlsError> {
    let inner: &(dyn Error + 'static) = error.get_ref()?;
    inner.downcast_ref()
}
