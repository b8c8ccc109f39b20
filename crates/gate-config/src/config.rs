//! The checked settings: one struct per section, used as it is by its consumer. [`Default`] is the one list of defaults.

use crate::keys::KeySetting;
use crate::listen::Listen;
use crate::listener::Listener;
use crate::route::RouteSetting;
use crate::token::AuthToken;
use crate::units::ByteSize;
use crate::upstream::Upstream;
use crate::upstream_url::UpstreamUrl;
use gate_types::{Cidr, ModelName, OriginPattern};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that herdgate was told, checked. Bounds are those of the settings reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to listen; at least one, no two overlap.
    pub listen: Vec<Listener>,
    /// The Ollama servers behind the gate, in the order given; at least one, no two at one address.
    pub upstreams: Vec<Upstream>,
    /// Whether [`Config::upstreams`] was given by somebody; if not, it is the default and the gate may start one itself.
    pub upstreams_given: bool,
    /// Starting a server of our own.
    pub local: Local,
    /// Who is let in.
    pub auth: Auth,
    /// Pages in browsers.
    pub cors: Cors,
    /// Bounds on what clients send.
    pub limits: Limits,
    /// Bounds on waiting.
    pub timeouts: Timeouts,
    /// The data plane.
    pub server: Server,
    /// The upstreams.
    pub fleet: Fleet,
    /// Waiting for an upstream.
    pub queue: Queue,
    /// What keys that manage models may do.
    pub manage: Manage,
    /// Speaking TLS with clients.
    pub tls: Tls,
    /// Telling what is counted.
    pub metrics: Metrics,
    /// What is logged, and how.
    pub log: Log,
    /// The paths that are open beside the built-in ones.
    pub routes: Vec<RouteSetting>,
    /// The keys that stand in the settings.
    pub keys: Vec<KeySetting>,
    /// The one key that comes from the environment, where there is one.
    pub auth_token: Option<AuthToken>,
}

/// `[local]`
#[derive(Clone, PartialEq, Eq)]
pub struct Local {
    /// Whether to start an Ollama or the engine where no upstream was given and none answers.
    pub enabled: bool,
    /// When to start the engine.
    pub engine: EngineStart,
    /// What the Ollama of this machine shall have: what it lacks is pulled.
    pub models: Vec<ModelName>,
    /// Where the program that is started keeps its models.
    pub models_dir: Option<PathBuf>,
    /// Variables of the program that is started, in order of name.
    pub env: BTreeMap<String, String>,
}

impl fmt::Debug for Local {
    /// Without the variables' values, one of which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Local { enabled, engine, models, models_dir, env } = self;
        let env: Vec<&String> = env.keys().collect();
        write!(f, "Local(enabled {enabled}, {engine:?}, models {models:?} in {models_dir:?}, env {env:?})")
    }
}

/// `[auth]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// Wrong credentials a minute from one address that are told that they are wrong.
    pub failures: usize,
    /// The hosts for which clients may take the gate for their proxy; in lower case, without a port.
    pub proxy_names: Vec<String>,
}

/// `[cors]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// The origins whose pages may use the gate from a browser; no two the same.
    pub origins: Vec<OriginPattern>,
}

/// `[limits]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest request head: request line and fields.
    pub head: ByteSize,
    /// Longest request body.
    pub body: ByteSize,
    /// Longest blob that is uploaded.
    pub upload: ByteSize,
    /// All request bodies together that are in memory at one time.
    pub held: ByteSize,
    /// Bytes a second that a request body must bring; 0: any number.
    pub body_rate: ByteSize,
    /// Requests at one time on one HTTP/2 connection.
    pub streams: usize,
    /// Client connections at one time, over all listeners.
    pub connections: usize,
    /// Client connections at one time from one address, or from one /64 of IPv6.
    pub per_address: usize,
}

/// `[timeouts]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection to an upstream to stand, TLS included.
    pub connect: Duration,
    /// For a client's request head to be complete, from its first byte or the connection's beginning.
    pub head: Duration,
    /// Between two bytes of an upstream's answer, and before the first.
    pub idle: Duration,
    /// For a client's connection without a request.
    pub keep_alive: Duration,
}

/// `[server]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Data-plane threads, 1 to 256; `None`: one for each CPU that the process may use.
    pub threads: Option<u16>,
    /// For requests that run when the gate is told to end.
    pub grace: Duration,
    /// For requests that run when another process has taken the gate over.
    pub handover_grace: Duration,
    /// The proxies that may say where a client is, at listeners that name none of their own.
    pub trusted_proxies: Vec<Cidr>,
}

/// `[fleet]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fleet {
    /// Between two looks at an upstream: does it answer, which models has it, which are loaded.
    pub probe_interval: Duration,
    /// Requests that run a model at one upstream at one time.
    pub slots: usize,
}

/// `[queue]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// How long a request may wait for a slot.
    pub max_wait: Duration,
    /// How many requests may wait at one time.
    pub depth: usize,
}

/// `[manage]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manage {
    /// Whether models may be pushed.
    pub push: bool,
    /// The registries that models may be fetched from and sent to: hosts in lower case, with their ports.
    pub registries: Vec<String>,
}

/// `[tls]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate and those that lead to its issuer's, in PEM; given with [`Tls::key`] or not at all.
    pub cert: Option<PathBuf>,
    /// Its private key, in PEM.
    pub key: Option<PathBuf>,
    /// Whether certificates come from an authority of this gate alone.
    pub self_signed: bool,
    /// For how long browsers shall speak nothing but TLS with this host.
    pub hsts: Option<Duration>,
    /// What becomes of a key that crosses a network in clear.
    pub plain_keys: PlainKeys,
    /// A file of the authorities that vouch for callers, in PEM.
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate of theirs is refused.
    pub client_required: bool,
    /// The names that a public authority vouches for, in lower case; none where it is not asked.
    pub domains: Vec<String>,
    /// How it is asked.
    pub acme: Acme,
}

/// `[tls.acme]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// The URL of the authority's directory.
    pub directory: String,
    /// A file of certificates, in PEM, that the directory's own may come from beside the system's.
    pub ca: Option<PathBuf>,
    /// Where the authority may write to.
    pub email: Option<String>,
}

impl Default for Acme {
    fn default() -> Self {
        Acme { directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(), ca: None, email: None }
    }
}

impl Tls {
    /// Whether clients are spoken to in TLS.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.self_signed || self.cert.is_some() || !self.domains.is_empty()
    }
}

/// `[metrics]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Where metrics, and nothing else, are told without a key.
    pub address: Option<Listen>,
    /// The hosts by which they are told there besides addresses and names of the house; in lower case, without a port.
    pub names: Vec<String>,
}

/// `[log]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is still logged.
    pub level: Level,
    /// How a record is written.
    pub format: LogFormat,
}

macro_rules! words {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$inner])* $variant,)+
        }

        impl $name {
            pub(crate) const WORDS: &[&str] = &[$($word),+];

            /// The word in the settings.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }

            pub(crate) fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some($name::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

words! {
    /// When to start `herdgate-engine`.
    EngineStart {
        /// Where nothing else can answer.
        Auto = "auto",
        /// Beside whatever else there is.
        Always = "always",
    }
}

words! {
    /// What becomes of a key that crosses a network in clear.
    PlainKeys {
        /// It is served, and told of in the log.
        Warn = "warn",
        /// It is refused where it comes from a public address.
        RefusePublic = "refuse_public",
        /// It is refused wherever it comes from, but from this machine.
        Refuse = "refuse",
    }
}

words! {
    /// How important a log record is.
    Level {
        /// Something failed that should not.
        Error = "error",
        /// Something that somebody should look at.
        Warn = "warn",
        /// What happened: starts, stops, one record per request.
        Info = "info",
        /// What led to a decision.
        Debug = "debug",
        /// Everything, bodies and credentials never.
        Trace = "trace",
    }
}

words! {
    /// How a log record is written.
    LogFormat {
        /// Text on a terminal, JSON otherwise.
        Auto = "auto",
        /// One line of text.
        Text = "text",
        /// One JSON object on a line.
        Json = "json",
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: vec![Listener::at(Listen::DEFAULT)],
            upstreams: vec![Upstream::at(UpstreamUrl::local_ollama())],
            upstreams_given: false,
            local: Local {
                enabled: true,
                engine: EngineStart::Auto,
                models: Vec::new(),
                models_dir: None,
                env: BTreeMap::new(),
            },
            auth: Auth { failures: 30, proxy_names: ["ollama", "herdgate"].map(str::to_owned).to_vec() },
            cors: Cors { origins: Vec::new() },
            limits: Limits {
                head: ByteSize(32 << 10),
                body: ByteSize(64 << 20),
                upload: ByteSize(64 << 30),
                held: ByteSize(512 << 20),
                body_rate: ByteSize(1 << 10),
                streams: 128,
                connections: 20_000,
                per_address: 1024,
            },
            timeouts: Timeouts {
                connect: Duration::from_secs(3),
                head: Duration::from_secs(10),
                idle: Duration::from_mins(10),
                keep_alive: Duration::from_secs(75),
            },
            server: Server {
                threads: None,
                grace: Duration::from_secs(30),
                handover_grace: Duration::from_secs(3600),
                trusted_proxies: Vec::new(),
            },
            fleet: Fleet { probe_interval: Duration::from_secs(5), slots: 64 },
            queue: Queue { max_wait: Duration::from_secs(30), depth: 256 },
            manage: Manage {
                push: false,
                registries: ["registry.ollama.ai", "hf.co", "huggingface.co"].map(str::to_owned).to_vec(),
            },
            tls: Tls {
                cert: None,
                key: None,
                self_signed: false,
                hsts: None,
                plain_keys: PlainKeys::Warn,
                client_ca: None,
                client_required: false,
                domains: Vec::new(),
                acme: Acme::default(),
            },
            metrics: Metrics { address: None, names: Vec::new() },
            log: Log { level: Level::Info, format: LogFormat::Auto },
            routes: Vec::new(),
            keys: Vec::new(),
            auth_token: None,
        }
    }
}
