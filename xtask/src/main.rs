//! `cargo xtask`: chores of this repository. Each is a subcommand and a module. Never linked into the product.

mod bench;
mod count;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Chores of this repository")]
enum Chore {
    /// Measure herdgate beside nginx with Lua (and HAProxy), one core each, under the same load
    Bench(bench::Options),
    /// Count the instructions and allocations that herdgate itself spends on a request, under callgrind
    Count(count::Options),
}

fn main() -> anyhow::Result<()> {
    match Chore::parse() {
        Chore::Bench(options) => bench::run(&options),
        Chore::Count(options) => count::run(&options),
    }
}
