//! The data path of herdgate: the life of a request, from an accepted connection to the last byte of its answer.
//!
//! Read [`path`](crate) first: `path.rs` is the order of everything. Floor 4: knows the wire, the policy, the keys and the
//! upstream client below it; knows nothing of settings files, databases, probes or the admin side.

mod anonymous;
mod certificate;
mod clock;
mod crowd;
mod downstream;
mod drain;
mod entrance;
mod failures;
mod forwarded;
mod gate;
mod held;
mod host;
mod lease;
mod metrics;
mod net;
mod outcome;
mod passed;
mod path;
mod pulls;
mod record;
mod replay;
mod request_id;
mod rules;
mod scratch;
mod seldom;
mod shared;
mod slots;
mod stages;
mod store_watch;
mod stubs;
mod sweep;
mod trace;

pub use anonymous::{Anonymous, Standing, Strangers};
pub use certificate::{CertificateWatch, Life, Vouched};
pub use clock::unix_now;
pub use crowd::{Crowd, Guest, TurnedAway};
pub use downstream::ClientStream;
pub use downstream::entry::serve_socket;
pub use downstream::h1::serve_connection;
pub use downstream::tls::Handshakes;
pub use drain::Drain;
pub use entrance::Entrance;
pub use gate::Gate;
pub use host::{bare, name_and_port};
pub use lease::Leases;
pub use metrics::{metrics_reference, serve_metrics};
pub use pulls::{Pull, Pulls, UnderWay, percent};
pub use record::{AccessLog, Fields, Outcome, Record};
pub use rules::{DoorRules, ExtraRoute, Limits, Manage, PlainKeys, Rules};
pub use shared::{NotYet, Shared};
pub use store_watch::{Look, StoreWatch};
pub use stubs::Stubs;
pub use sweep::{Sweep, TICK, Watch};
