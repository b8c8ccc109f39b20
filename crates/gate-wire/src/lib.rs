//! The words of the wire: what is open, what a request says, how errors and listings look in each dialect.
//!
//! Floor 2, pure: bytes in, facts and bytes out; no IO, no clock. It states what a request says and never decides who
//! may say it.

mod gate_error;
mod nearest;
mod reason;
mod render;
pub mod routes;
pub mod shape;

pub use gate_error::GateError;
pub use nearest::{nearest, not_found_text};
pub use reason::{Reason, Side};
pub use render::{Rendered, reference, render};
pub use routes::{Answering, BodyKind, Class, Found, Param, ROUTES, Route, RouteId, find};
