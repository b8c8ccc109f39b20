//! `cargo xtask`: chores of this repository. Each is a subcommand and a module. Never linked into the product.

mod bench;
mod count;
mod handover;
mod hangup;
mod siege;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Chores of this repository")]
enum Chore {
    /// Measure herdgate beside nginx with Lua (and HAProxy), one core each, under the same load
    Bench(bench::Options),
    /// Measure how soon a hang-up reaches the upstream, in each phase and dialect, beside nginx
    Hangup(hangup::Options),
    /// Hand herdgate over to a fresh start of itself under load, and time what clients feel of it
    Handover(handover::Options),
    /// Count the instructions and allocations that herdgate itself spends on a request, under callgrind
    Count(count::Options),
    /// Besiege herdgate with slow and idle clients, and time what normal ones feel of it
    Siege(siege::Options),
}

fn main() -> anyhow::Result<()> {
    match Chore::parse() {
        Chore::Bench(options) => bench::run(&options),
        Chore::Hangup(options) => hangup::run(&options),
        Chore::Handover(options) => handover::run(&options),
        Chore::Count(options) => count::run(&options),
        Chore::Siege(options) => siege::run(&options),
    }
}
