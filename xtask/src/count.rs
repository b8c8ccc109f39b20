//! `cargo xtask count`: what herdgate's own code spends on one request, in instructions and allocations, counted by callgrind
//! (package valgrind). Unlike time, the figures are the same on a busy machine; the kernel's work, most of a request, is
//! not in them. Two runs that differ in nothing but the number of requests: starting and ending cancel out.

use std::collections::HashMap;
use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::bench::gates::free_port;
use crate::bench::load::{Clients, Shape, Streams, TOKEN, whole_request};
use crate::bench::process::Process;
use crate::bench::stub::Stub;

/// What to count.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The herdgate to look at
    #[arg(long, value_name = "PATH", default_value = "target/release/herdgate")]
    herdgate: PathBuf,
    /// Requests of the longer run
    #[arg(long, value_name = "N", default_value_t = 6400, value_parser = clap::value_parser!(u64).range(640..=1_000_000))]
    requests: u64,
    /// Keep callgrind's files in this folder, for callgrind_annotate
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
}

const CLIENTS: u64 = 32;

#[derive(Debug, Clone, Copy)]
enum Load {
    /// Requests with so many bytes of content.
    Whole(usize),
    /// Chunks of streams.
    Chunks,
}

/// What a run spent in all.
#[derive(Debug, Clone, Copy)]
struct Spent {
    instructions: u64,
    allocations: u64,
}

/// Counts everything and prints a line each.
pub(crate) fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut out = std::io::stdout().lock();
    for (name, load) in [
        ("per request", Load::Whole(100)),
        ("per request of 20 KB", Load::Whole(20_000)),
        ("per chunk", Load::Chunks),
    ] {
        let local = tokio::task::LocalSet::new();
        let (few, many) = (options.requests / 4, options.requests);
        let (less, more) = local.block_on(&runtime, async {
            let less = spent(options, load, few).await?;
            anyhow::Ok((less, spent(options, load, many).await?))
        })?;
        let per = |less: u64, more: u64| more.saturating_sub(less) as f64 / (many - few) as f64;
        writeln!(
            out,
            "{name:22} {:8.0} instructions {:6.2} allocations",
            per(less.instructions, more.instructions),
            per(less.allocations, more.allocations)
        )?;
    }
    Ok(())
}

async fn spent(options: &Options, load: Load, times: u64) -> Result<Spent> {
    let clock = Instant::now();
    let stub = Stub::start(clock).await?;
    let folder = TempDir::with_prefix("herdgate-count-")?;
    let (address, file) = (free_port()?, folder.path().join("callgrind.out"));
    let process = start(&options.herdgate, folder.path(), &file, address, stub.address)?;
    let mut clients = connect(address).await?;
    match load {
        Load::Whole(content) => clients.times(&Rc::new(whole_request(content)), times / CLIENTS).await?,
        Load::Chunks => {
            let shape = Shape { streams: 32, pace: Duration::from_millis(20), lines: times / CLIENTS };
            Streams::start(address, shape, clock).finish().await?;
        }
    }
    drop(clients);
    drop(process);
    if let Some(keep) = &options.keep {
        std::fs::copy(&file, keep.join(format!("callgrind.{load:?}.{times}")))?;
    }
    read(&file)
}

fn start(
    herdgate: &Path,
    folder: &Path,
    file: &Path,
    address: SocketAddr,
    stub: SocketAddr,
) -> Result<Process> {
    let config = folder.join("herdgate.toml");
    std::fs::write(&config, "[server]\nthreads = 1\n")?;
    let log = std::fs::File::create(folder.join("log"))?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "valgrind", "--tool=callgrind", "-q"]);
    command.arg(format!("--callgrind-out-file={}", file.display()));
    command.arg(herdgate).arg("serve").arg("--config").arg(&config).arg("--data").arg(folder.join("data"));
    command.arg("--listen").arg(address.to_string()).arg("--upstream").arg(format!("http://{stub}"));
    command.env("AUTH_TOKEN", TOKEN).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Ok(Process::new(command.spawn().context("cannot start setpriv and valgrind")?))
}

/// Clients of a gate that answers.
async fn connect(address: SocketAddr) -> Result<Clients> {
    let begun = Instant::now();
    loop {
        let tried = match Clients::connect(address, CLIENTS as usize).await {
            Ok(mut clients) => clients.once(&whole_request(100)).await.map(|()| clients),
            Err(error) => Err(error),
        };
        match tried {
            Ok(clients) => return Ok(clients),
            Err(error) => {
                ensure!(begun.elapsed() < Duration::from_secs(60), error.context("not ready after a minute"))
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Sums a file of callgrind: all instructions, and the calls of allocating functions.
fn read(file: &Path) -> Result<Spent> {
    let text = std::fs::File::open(file).with_context(|| format!("callgrind left no {}", file.display()))?;
    let mut spent = Spent { instructions: 0, allocations: 0 };
    // Names are spelled out once: `cfn=(12) malloc`, then `cfn=(12)`.
    let mut allocates: HashMap<String, bool> = HashMap::new();
    let mut called = false;
    for line in std::io::BufReader::new(text).lines() {
        let line = line?;
        if let Some(totals) = line.strip_prefix("totals: ") {
            spent.instructions = totals.trim().parse().context("callgrind's totals")?;
        } else if let Some(function) = line.strip_prefix("fn=").or_else(|| line.strip_prefix("cfn=")) {
            let (id, name) = function.split_once(' ').unwrap_or((function, ""));
            if !name.is_empty() {
                allocates.insert(
                    id.to_owned(),
                    matches!(name, "malloc" | "calloc" | "realloc" | "posix_memalign"),
                );
            }
            called = line.starts_with('c') && allocates.get(id).copied().unwrap_or(false);
        } else if let Some(calls) = line.strip_prefix("calls=")
            && called
        {
            spent.allocations +=
                calls.split(' ').next().unwrap_or_default().parse::<u64>().context("calls")?;
        }
    }
    Ok(spent)
}
