//! Settings: texts in, one checked [`Config`] out, or every problem at once.
//!
//! Floor 1. [`load`] is the whole of it: flags, environment and file become a `Spec` (what was said, and where), and
//! `check` makes the [`Config`] of it (what it means). Each section is one struct, used as it is by its consumer.
//!
//! Never: opens a file, asks the environment, or shows a secret. File texts and variables are handed in; the one thing
//! that cannot be known beforehand, a token's file, is read through [`FileAccess`] by the caller.

mod changes;
mod check;
mod config;
mod document;
mod held;
mod keys;
mod listen;
mod listener;
mod nearest;
mod ollama_host;
mod paths;
mod problem;
mod read;
mod reference;
mod route;
mod setting;
mod show;
mod spec;
mod statements;
mod tables;
mod token;
mod units;
mod unread;
mod upstream;
mod upstream_url;
mod variables;

pub use changes::{Change, changes};
pub use check::Loaded;
pub use config::{
    Acme, Auth, Config, Cors, EngineStart, Fleet, Level, Limits, Local, Log, LogFormat, Manage, Metrics,
    PlainKeys, Server, Timeouts, Tls,
};
pub use held::{Held, believe};
pub use keys::{KeyForm, KeyPart, KeySetting, MOST_MODELS};
pub use listen::{BadListen, Listen};
pub use listener::{Anonymous, Listener};
pub use nearest::nearest;
pub use ollama_host::{Reading, ollama_host};
pub use paths::{Locations, Surroundings, locate};
pub use problem::{Place, Problem};
pub use reference::reference;
pub use route::{RouteForm, RouteSetting};
pub use show::{Row, Shown, rows, to_toml};
pub use spec::{Flags, Sources, environment};
pub use token::{AuthToken, FileAccess, TokenForm};
pub use units::{BadUnit, ByteSize, duration, show_duration};
pub use upstream::{Header, SecretFile, Upstream};
pub use upstream_url::{BadUrl, UpstreamUrl};

/// Reads all sources and checks them.
///
/// Precedence: flags, `HERDGATE_…` variables, the file, `OLLAMA_URL`, `OLLAMA_BASE_URL` and `OLLAMA_HOST` (the upstream
/// only), defaults. A value is checked wherever it stands, also where a higher source replaces it.
///
/// # Errors
/// Every problem of every source, sorted by place; never empty.
pub fn load(sources: &Sources<'_>) -> Result<Loaded, Vec<Problem>> {
    Config::check(spec::Spec::gather(sources))
}
