//! An Ollama with faults that a test can order.
//!
//! [`Ollama::start`] listens on a real loopback socket from a thread of its own, answers as Ollama v0.32.15 does (shapes,
//! framing and error texts taken from recordings of it, see `golden/`), remembers every byte it was sent, and does what
//! [`Order`]s tell it: cut, stall, lie about the framing, die in the middle as Ollama dies, or play exact bytes.
//!
//! Stands outside the floors: tests and the `testkit-ollama` program use it. It must never be linked into the product,
//! reach beyond loopback by itself, or read a request more strictly than it must: what it saw is for the test to judge.

mod answer;
mod connection;
mod embedding;
mod fault;
mod golden;
pub mod installed;
mod listener;
mod listing;
mod log;
mod manage;
mod ollama;
mod order;
mod request;
mod responses;
mod routes;
mod script;
mod setup;
mod shared;

pub use golden::{recorded, recordings};
pub use log::{NotSeen, Seen};
pub use ollama::{NotStarted, Ollama};
pub use order::{Accept, BadFraming, Cuts, Failure, Fault, Order, Release, Then};
pub use setup::{Model, Setup};
