//! The `herdgate` program: parse, run one command, end with its exit code.
//!
//! Exit codes: 0 done, 1 failed, 64 wrong usage or settings (`EX_USAGE`).

mod backup;
mod bars;
mod cli;
mod client;
mod cmd;
mod connect;
mod deploy;
mod doctor;
mod logging;
mod progress;
mod reach;
mod server;
mod together;
mod user;

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(cli::run())
}
