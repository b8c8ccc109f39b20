//! The client side of the data plane: connect, pool, send, stream.
//!
//! Floor 3. Our own HTTP/1.1 on `gate-h1`: `gate-proxy` sends each call through a [`Client`] and forwards what
//! [`Answer::poll_wire`] gives it, byte for byte. One client per current-thread runtime; nothing in it is shared between
//! cores but the TLS settings and the texts of the endpoints. A body too large to be held is sent piece by piece with
//! [`Client::upload`].
//!
//! It never decides which upstream is asked, never adds a field that identifies a caller, and never half-closes a
//! connection. Dropping a pending [`Client::send`], a pending upload or an unfinished [`Answer`] closes the connection at once: that is
//! how a departed client's model stops.

mod access;
mod answer;
mod client;
mod connect;
mod endpoint;
mod error;
mod exchange;
mod marks;
mod pool;
pub mod probe;
mod request;
mod roster;
mod socket;
mod switched;
mod tls;
mod upload;

pub use access::{Access, BadField};
pub use answer::{Answer, Wire};
pub use client::{Client, ClientLimits, Counts, Dial};
pub use endpoint::{BadEndpoint, Endpoint};
pub use error::UpstreamError;
pub use marks::{Along, Mark, Sent};
pub use request::Ask;
pub use roster::Roster;
pub use socket::Transport;
pub use switched::{Reply, Switched};
pub use tls::{Identity, Tls, TlsError, config_with, system_roots};
pub use upload::{BodySource, SourceGone, SourcePiece, UploadFraming};
