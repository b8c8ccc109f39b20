//! What can go wrong with an upstream, by cause, each in one line that names the endpoint.
//!
//! The texts are for the operator's log, never for a caller. They hold no credential: an endpoint has none, and
//! nothing of a request is quoted.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use gate_h1::H1Error;
use gate_types::UpstreamId;

/// Why an exchange with an upstream failed. `at` is the endpoint as a URL.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The endpoint's name has no address, or the resolver failed.
    #[error("{at}: the name does not resolve: {cause}")]
    Resolve {
        /// The endpoint.
        at: Arc<str>,
        /// What the resolver said.
        cause: io::Error,
    },
    /// No address took the connection; `cause` is the last one's.
    #[error("{at}: cannot connect: {}{}", told(cause), tried(*addresses))]
    Connect {
        /// The endpoint.
        at: Arc<str>,
        /// What the system said of the last address.
        cause: io::Error,
        /// How many addresses were tried.
        addresses: usize,
    },
    /// Resolving, connecting and the TLS handshake took longer than they may together.
    #[error("{at}: no connection within {} ms", after.as_millis())]
    ConnectTimeout {
        /// The endpoint.
        at: Arc<str>,
        /// The limit.
        after: Duration,
    },
    /// The TLS handshake failed, or there are no roots to check a certificate with.
    #[error("{at}: TLS: {cause}")]
    Tls {
        /// The endpoint.
        at: Arc<str>,
        /// What the TLS library said.
        cause: io::Error,
    },
    /// Connected, but closed before any byte of an answer.
    #[error("{at}: closed the connection before any byte of an answer{}", because(cause.as_ref()))]
    ClosedEarly {
        /// The endpoint.
        at: Arc<str>,
        /// What the system said, where it was more than an end of stream.
        cause: Option<io::Error>,
    },
    /// Closed within the head of an answer.
    #[error("{at}: closed the connection within the head of its answer{}", because(cause.as_ref()))]
    ClosedMidHead {
        /// The endpoint.
        at: Arc<str>,
        /// What the system said, where it was more than an end of stream.
        cause: Option<io::Error>,
    },
    /// Closed before the end of the body.
    #[error("{at}: closed the connection in the middle of its answer{}", because(cause.as_ref()))]
    ClosedMidBody {
        /// The endpoint.
        at: Arc<str>,
        /// What the system said, where it was more than an end of stream.
        cause: Option<io::Error>,
    },
    /// The answer is not HTTP/1.1 as it must be written.
    #[error("{at}: malformed answer: {cause}")]
    Malformed {
        /// The endpoint.
        at: Arc<str>,
        /// What is wrong with it.
        cause: H1Error,
    },
    /// Well-formed, but no answer to what was asked.
    #[error("{at}: answered with {what}")]
    Unasked {
        /// The endpoint.
        at: Arc<str>,
        /// What came.
        what: &'static str,
    },
    /// The body is longer than the reader allows.
    #[error("{at}: the answer is longer than {limit} bytes")]
    TooLarge {
        /// The endpoint.
        at: Arc<str>,
        /// The limit in bytes.
        limit: usize,
    },
    /// The source of an upload left before its end: nothing that the upstream did.
    #[error("{at}: upload given up, because its source is gone")]
    SourceGone {
        /// The endpoint.
        at: Arc<str>,
    },
    /// The source of an upload disagreed with the length announced for it: nothing that the upstream did. The upstream
    /// did not get the last byte.
    #[error("{at}: upload given up, because {announced} bytes were announced and {}{given} came", beyond(*announced, *given))]
    SourceLength {
        /// The endpoint.
        at: Arc<str>,
        /// The length announced, in bytes.
        announced: u64,
        /// What the source gave: all of it where it is less, at least so much where it is more.
        given: u64,
    },
    /// The request cannot be written: the gate's own mistake, nothing was sent.
    #[error("{at}: request not sent: {what}")]
    Unsendable {
        /// The endpoint.
        at: Arc<str>,
        /// What is wrong with it.
        what: &'static str,
    },
    /// There is no such upstream in the settings of this client: the gate's own mistake.
    #[error("no upstream has the number {}", id.0)]
    NoSuchUpstream {
        /// The number that was asked for.
        id: UpstreamId,
    },
}

impl UpstreamError {
    /// Whether no connection came about, so that the upstream has seen nothing of the request.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        match self {
            UpstreamError::Resolve { .. }
            | UpstreamError::Connect { .. }
            | UpstreamError::ConnectTimeout { .. }
            | UpstreamError::Tls { .. } => true,
            UpstreamError::ClosedEarly { .. }
            | UpstreamError::ClosedMidHead { .. }
            | UpstreamError::ClosedMidBody { .. }
            | UpstreamError::Malformed { .. }
            | UpstreamError::Unasked { .. }
            | UpstreamError::TooLarge { .. }
            | UpstreamError::SourceGone { .. }
            | UpstreamError::SourceLength { .. }
            | UpstreamError::Unsendable { .. }
            | UpstreamError::NoSuchUpstream { .. } => false,
        }
    }

    /// Whether an upload ended because of its source: nothing to hold against the upstream.
    #[must_use]
    pub fn is_source(&self) -> bool {
        matches!(self, UpstreamError::SourceGone { .. } | UpstreamError::SourceLength { .. })
    }

    /// Whether this process has no descriptor left (`EMFILE`, `ENFILE`): nothing is known of the upstream then.
    #[must_use]
    pub fn is_shortage(&self) -> bool {
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        match self {
            UpstreamError::Resolve { cause, .. } | UpstreamError::Connect { cause, .. } => {
                matches!(cause.raw_os_error(), Some(ENFILE | EMFILE))
            }
            UpstreamError::ConnectTimeout { .. }
            | UpstreamError::Tls { .. }
            | UpstreamError::ClosedEarly { .. }
            | UpstreamError::ClosedMidHead { .. }
            | UpstreamError::ClosedMidBody { .. }
            | UpstreamError::Malformed { .. }
            | UpstreamError::Unasked { .. }
            | UpstreamError::TooLarge { .. }
            | UpstreamError::Unsendable { .. }
            | UpstreamError::NoSuchUpstream { .. }
            | UpstreamError::SourceGone { .. }
            | UpstreamError::SourceLength { .. } => false,
        }
    }

    /// Whether the upstream failed before it had sent a byte: another one may be asked. It may have begun to work all
    /// the same, unless [`UpstreamError::is_connect`] holds too. An upload can be sent to another one only if that holds:
    /// otherwise a part of its body has been used up.
    #[must_use]
    pub fn before_first_byte(&self) -> bool {
        self.is_connect() || matches!(self, UpstreamError::ClosedEarly { .. })
    }
}

/// The system's words for a failed connect, without its error number.
fn told(cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to the host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "the network is unreachable".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        _ => cause.to_string(),
    }
}

fn tried(addresses: usize) -> String {
    if addresses > 1 { format!(" ({addresses} addresses tried)") } else { String::new() }
}

fn beyond(announced: u64, given: u64) -> &'static str {
    if given > announced { "at least " } else { "only " }
}

fn because(cause: Option<&io::Error>) -> String {
    cause.map_or_else(String::new, |cause| format!(": {}", told(cause)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_descriptors_says_nothing_of_the_upstream() {
        let failed =
            |cause: io::Error| UpstreamError::Connect { at: "http://up".into(), cause, addresses: 1 };
        for (errno, is_shortage) in [(24, true), (23, true), (111, false)] {
            let error = failed(io::Error::from_raw_os_error(errno));
            assert!(error.is_connect());
            assert_eq!(error.is_shortage(), is_shortage, "{error}");
        }
    }
}
