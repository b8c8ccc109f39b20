//! What is known of the certificate that clients see: whether there is one, and when it expires. For `/readyz` and `/metrics`.
//!
//! Written by whoever has the certificates, read by whoever is asked. Here nothing is verified.

use arc_swap::ArcSwap;
use std::rc::Rc;
use std::sync::Arc;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

/// How the certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vouched {
    /// Clients are not spoken to in TLS.
    Plain,
    /// There is none yet: handshakes fail.
    NotYet,
    /// There is one.
    For(Life),
}

/// The latest of what is known of it.
#[derive(Debug)]
pub struct CertificateWatch(ArcSwap<Vouched>);

impl Default for CertificateWatch {
    fn default() -> Self {
        Self(ArcSwap::from_pointee(Vouched::Plain))
    }
}

impl CertificateWatch {
    /// How it is now.
    #[must_use]
    pub fn get(&self) -> Vouched {
        **self.0.load()
    }

    /// It is so from now on.
    pub fn set(&self, vouched: Vouched) {
        self.0.store(Arc::new(vouched));
    }
}

/// From when until when a certificate is good, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// The first second.
    pub from: u64,
    /// The last.
    pub until: u64,
}

impl Life {
    /// Reads it from a certificate in DER; `None` where it is none.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (_, read) = X509Certificate::from_der(certificate).ok()?;
        let second = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        Some(Self { from: second(read.validity.not_before), until: second(read.validity.not_after) })
    }

    /// Whether it is over at `now`.
    #[must_use]
    pub fn is_over(&self, now: u64) -> bool {
        self.until < now
    }

    /// How many seconds it lasts.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        self.until.saturating_sub(self.from)
    }
}

/// Longest name of a caller that is kept, in characters.
const LONGEST: usize = 200;

/// Whose certificate this is, for records: its subject, or its number where that is empty. It was verified before.
pub(crate) fn subject(certificate: &[u8]) -> Option<Rc<str>> {
    let (_, read) = X509Certificate::from_der(certificate).ok()?;
    let subject = read.subject().to_string();
    let told = if subject.is_empty() { format!("serial {}", read.raw_serial_as_string()) } else { subject };
    Some(told.chars().take(LONGEST).collect::<String>().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_has_no_life() {
        assert_eq!((Life::of(b""), subject(b"")), (None, None));
        assert_eq!(Life::of(&[0x30, 0x82, 0xff, 0xff, 0x30]), None);
    }
}
