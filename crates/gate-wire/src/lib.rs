//! The words of the wire: what is open, what a request says, how errors and listings look in each dialect.
//!
//! Floor 2, pure: bytes in, facts and bytes out; no IO, no clock. It states what a request says and never decides who
//! may say it.

mod called;
mod ending;
mod fields;
mod find;
mod gate_error;
mod listing;
mod load;
pub mod multipart;
mod nearest;
mod nested;
mod problem;
mod reason;
mod render;
pub mod request;
pub mod routes;
mod scan;
pub mod shape;
pub mod show;
mod tee;
mod tee_facts;
mod template;

pub use called::Reading;
pub use ending::ending;
pub use fields::{MAX_FIELDS, MAX_NAME};
pub use find::{Found, Param, find};
pub use gate_error::GateError;
pub use listing::{MaySee, Merged, merge_models, merge_v1_models, v1_model};
pub use load::is_load_failure;
pub use nearest::{nearest, not_found_text};
pub use problem::{BodyProblem, Fault};
pub use reason::{Reason, Side};
pub use render::{Rendered, reference, render};
pub use request::{Asks, CallFacts, Spans};
pub use routes::{Allow, Answering, BodyKind, Class, Greeting, ROUTES, Route, RouteId};
pub use scan::MAX_DEPTH;
pub use shape::{Also, JsonShape, Naming, Unnamed};
pub use tee::{End, EndReader, Form, Tokens};
pub use template::{BadTemplate, Template};
