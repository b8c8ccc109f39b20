//! The engine from outside: the built program, real files, every byte of its answers.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these files are nothing but tests"
)]

mod damage;
mod embeddings;
mod files;
mod leaving;
mod load;
mod malformed;
mod minilm;
mod models;
mod shapes;
mod texts;
mod wire;
mod written;
