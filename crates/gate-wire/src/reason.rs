//! Why a request was refused or failed: the closed list, each reason with one status and one stable code.
//!
//! Status and code are chosen in `facts.rs` alone. Codes are a promise to clients and to whoever searches their logs: they
//! never change their meaning. The page `docs/errors.md` is made from here.

mod facts;

/// Whose doing a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client: the request is refused.
    Downstream,
    /// An Ollama server.
    Upstream,
    /// The gate itself, or how it is set up.
    Gate,
}

impl Side {
    /// One word for records and pages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Side::Downstream => "client",
            Side::Upstream => "upstream",
            Side::Gate => "gate",
        }
    }
}

/// Every reason for which the gate says something other than an upstream's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The HTTP request has no clear meaning.
    BadRequest,
    /// No body where one is needed.
    MissingBody,
    /// A WebSocket where none can be opened.
    UpgradeRefused,
    /// The body is no JSON.
    MalformedJson,
    /// The body is no form of parts, or one that readers disagree on.
    MalformedForm,
    /// The body is JSON that readers disagree on.
    AmbiguousBody,
    /// A field has a type that Ollama does not take.
    WrongType,
    /// The body is nested too deep or has too many fields.
    BodyTooComplex,
    /// The model's name is none.
    InvalidModelName,
    /// No model named where one is needed.
    ModelRequired,
    /// Two credentials that differ, or one given twice.
    ConflictingCredentials,
    /// No credentials.
    NoCredentials,
    /// Credentials of no known form.
    BadCredentialsForm,
    /// An unknown, expired or revoked key.
    InvalidKey,
    /// The key may not do this.
    MissingScope,
    /// The key may not use this model.
    ModelNotAllowed,
    /// A model from a registry that the settings do not name.
    RegistryNotAllowed,
    /// An upstream is asked to skip the check of a registry's certificate.
    InsecureRefused,
    /// Pushing models is not switched on.
    PushDisabled,
    /// The gate is asked to be a proxy to somewhere else.
    ProxyTargetRefused,
    /// A page of an origin that the settings do not name.
    OriginNotAllowed,
    /// A key or a change over a connection without TLS, where the settings want TLS for it.
    TlsRequired,
    /// Nothing is open there.
    UnknownRoute,
    /// No upstream has the model.
    ModelNotFound,
    /// The path is open, the method is not.
    MethodNotAllowed,
    /// The client's body came too slowly or stood still. A late head closes the connection without a word.
    RequestTimeout,
    /// The body is larger than the limit.
    BodyTooLarge,
    /// A `Content-Encoding` that the gate does not decode.
    UnsupportedEncoding,
    /// An `Expect` other than `100-continue`.
    ExpectationFailed,
    /// The request's head is larger than the limit.
    HeadTooLarge,
    /// Too many wrong credentials came from this address.
    TooManyFailures,
    /// As many requests of this address run as may run.
    AddressFull,
    /// A transfer coding other than chunked.
    UnsupportedTransferCoding,
    /// Not HTTP/1.0 or HTTP/1.1.
    UnsupportedHttpVersion,
    /// No upstream to ask: none set up, or none found.
    NoUpstream,
    /// The request came back to this gate, or would.
    UpstreamLoop,
    /// The local model server is starting.
    Loading,
    /// The model is being pulled.
    ModelPulling,
    /// An upstream does not tell its models, so nobody knows whether this one would leave the house.
    ModelsUnlisted,
    /// As many requests wait as may wait.
    QueueFull,
    /// Its turn did not come within the time that a request may wait.
    QueueTimeout,
    /// All request bodies that are held take as much memory as they may.
    BodiesFull,
    /// The key is not known, and the store that might know it cannot be read.
    StoreUnavailable,
    /// The gate is ending.
    ShuttingDown,
    /// No upstream could be connected to.
    UpstreamUnreachable,
    /// An upstream broke off or talked nonsense.
    UpstreamFailed,
    /// An upstream was silent for too long.
    UpstreamTimeout,
    /// A mistake in the gate.
    Internal,
}

impl Reason {
    /// All reasons, in the order of the list above.
    pub const ALL: &[Reason] = {
        use Reason::*;
        &[
            BadRequest,
            MissingBody,
            UpgradeRefused,
            MalformedJson,
            MalformedForm,
            AmbiguousBody,
            WrongType,
            BodyTooComplex,
            InvalidModelName,
            ModelRequired,
            ConflictingCredentials,
            NoCredentials,
            BadCredentialsForm,
            InvalidKey,
            MissingScope,
            ModelNotAllowed,
            RegistryNotAllowed,
            InsecureRefused,
            PushDisabled,
            ProxyTargetRefused,
            OriginNotAllowed,
            TlsRequired,
            UnknownRoute,
            ModelNotFound,
            MethodNotAllowed,
            RequestTimeout,
            BodyTooLarge,
            UnsupportedEncoding,
            ExpectationFailed,
            HeadTooLarge,
            TooManyFailures,
            AddressFull,
            UnsupportedTransferCoding,
            UnsupportedHttpVersion,
            NoUpstream,
            UpstreamLoop,
            Loading,
            ModelPulling,
            ModelsUnlisted,
            QueueFull,
            QueueTimeout,
            BodiesFull,
            StoreUnavailable,
            ShuttingDown,
            UpstreamUnreachable,
            UpstreamFailed,
            UpstreamTimeout,
            Internal,
        ]
    };

    /// The HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.facts().status
    }

    /// The stable code, in snake case.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.facts().code
    }

    /// Whose doing it usually is.
    #[must_use]
    pub const fn side(self) -> Side {
        self.facts().side
    }

    /// What the caller is told where nothing more exact is known.
    #[must_use]
    pub const fn text(self) -> &'static str {
        self.facts().text
    }

    /// What to do about it, in one sentence.
    #[must_use]
    pub const fn cure(self) -> &'static str {
        self.facts().cure
    }
}
