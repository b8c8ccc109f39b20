//! `cargo xtask bench`: herdgate beside nginx with Lua (and HAProxy) under the same load, each gate alone on one core, load
//! generator and stub upstream on another. Bounded in time; ends only what it has started.

pub(crate) mod answer;
pub(crate) mod gates;
pub(crate) mod load;
mod measure;
pub(crate) mod process;
mod report;
pub(crate) mod stub;
mod tls;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use self::gates::{Gate, Kind, Place};
use self::measure::Amount;
use self::report::Report;
use self::stub::Stub;

/// What to measure, and how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Measure these alone instead of direct, nginx and herdgate
    #[arg(long, value_name = "GATE", value_delimiter = ',')]
    only: Vec<Kind>,
    /// Measure HAProxy too
    #[arg(long, conflicts_with = "only")]
    haproxy: bool,
    /// Measure what TLS costs, too
    #[arg(long)]
    tls: bool,
    /// The herdgate to measure
    #[arg(long, value_name = "PATH", default_value = "target/release/herdgate")]
    herdgate: PathBuf,
    /// Slices per gate and measure
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=100))]
    pairs: u64,
    /// Length of a slice in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=10_000))]
    slice: u64,
    /// Idle connections whose memory is measured
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=8000))]
    idle: u64,
    /// Open streams whose memory is measured
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=4000))]
    open: u32,
    /// The core for the gate
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    gate_core: usize,
    /// The core for load and stub
    #[arg(long, value_name = "CORE", default_value_t = 1)]
    load_core: usize,
    /// All figures, slices included, as JSON on stdout
    #[arg(long)]
    json: bool,
}

impl Options {
    fn kinds(&self) -> Vec<Kind> {
        if !self.only.is_empty() {
            return self.only.clone();
        }
        let mut kinds = vec![Kind::Direct, Kind::Nginx];
        kinds.extend(self.haproxy.then_some(Kind::Haproxy));
        kinds.push(Kind::Herdgate);
        kinds
    }

    fn amount(&self) -> Result<Amount> {
        Ok(Amount {
            pairs: usize::try_from(self.pairs)?,
            slice: Duration::from_millis(self.slice),
            idle: usize::try_from(self.idle)?,
            open: self.open,
        })
    }
}

/// Runs the whole bench and prints its report.
pub(crate) fn run(options: &Options) -> Result<()> {
    let kinds = options.kinds();
    let herdgate = std::path::absolute(&options.herdgate)?;
    ensure!(
        !kinds.contains(&Kind::Herdgate) || herdgate.exists(),
        "no {}; build it: cargo build --release --package herdgate",
        herdgate.display()
    );
    settle_on(options.load_core)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let report = local.block_on(&runtime, measure_all(options, &kinds, herdgate))?;
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{:#}", report.json())?;
    } else {
        report.write(&mut out)?;
    }
    Ok(())
}

async fn measure_all(options: &Options, kinds: &[Kind], herdgate: PathBuf) -> Result<Report> {
    let amount = options.amount()?;
    let clock = Instant::now();
    let stub = Stub::start(clock).await?;
    let bench = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../bench");
    let place = Place::plain(stub.address, options.gate_core, herdgate, bench);
    let mut gates = Vec::new();
    for kind in kinds {
        gates.push(Gate::start(*kind, &place).await?);
    }
    let mut series = Vec::new();
    say(clock, "requests, 32 clients")?;
    series.extend(measure::requests(&gates, 32, 100, "c=32", amount).await?);
    say(clock, "requests, 1 client")?;
    series.extend(measure::requests(&gates, 1, 100, "c=1", amount).await?);
    say(clock, "requests of 20 KB, 32 clients")?;
    series.extend(measure::requests(&gates, 32, 20_000, "20 KB, c=32", amount).await?);
    say(clock, "streams")?;
    series.extend(measure::streams(&gates, amount, clock).await?);
    say(clock, "lag")?;
    series.extend(measure::lags(&gates, amount, clock).await?);
    drop(gates);
    say(clock, "memory")?;
    series.extend(measure::memory(kinds, &place, amount, clock).await?);
    if options.tls {
        say(clock, "TLS")?;
        series.extend(tls::measure(kinds, &place, amount).await?);
    }
    let facts = facts(options, kinds, &place)?;
    say(clock, "done")?;
    Ok(Report { kinds: kinds.to_vec(), series, facts })
}

/// Progress, on stderr.
fn say(clock: Instant, what: &str) -> Result<()> {
    writeln!(std::io::stderr(), "{:4} s  {what}", clock.elapsed().as_secs())?;
    Ok(())
}

/// Puts this whole program on one core; what it starts chooses its own.
pub(crate) fn settle_on(core: usize) -> Result<()> {
    let own = std::process::id().to_string();
    let moved = Command::new("taskset").args(["-a", "-p", "-c", &core.to_string(), &own]).output();
    let moved = moved.context("taskset (package util-linux) is needed")?;
    ensure!(moved.status.success(), "taskset: {}", String::from_utf8_lossy(&moved.stderr).trim());
    Ok(())
}

fn facts(options: &Options, kinds: &[Kind], place: &Place) -> Result<Vec<(String, String)>> {
    let mut facts = Vec::new();
    let mut add = |name: &str, text: String| facts.push((name.to_owned(), text));
    add("date", first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"])?);
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let all_cores = cpu.lines().filter(|line| line.starts_with("processor")).count().max(cores);
    add("machine", format!("{all_cores} × {}", model.map_or("unknown", |(_, name)| name)));
    add("kernel", first_line("uname", &["-r"])?);
    for kind in kinds {
        match kind {
            Kind::Direct => {}
            Kind::Nginx => add("nginx", first_line("nginx", &["-v"])?),
            Kind::Haproxy => add("HAProxy", first_line("haproxy", &["-v"])?),
            Kind::Herdgate => {
                add("herdgate", first_line(&place.herdgate.display().to_string(), &["--version"])?)
            }
        }
    }
    add("load average at the end", first_line("cut", &["-d ", "-f1-3", "/proc/loadavg"])?);
    add("slices", format!("{} of {} ms per gate and measure, alternating", options.pairs, options.slice));
    Ok(facts)
}

/// The first line that a program says, on stdout or else on stderr.
fn first_line(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| program.to_owned())?;
    let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    Ok(String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned())
}
