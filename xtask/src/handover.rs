//! `cargo xtask handover`: what clients feel while the gate is handed over to a fresh start of its program. Requests come at a
//! steady rate, whether or not earlier ones were answered, every other one over a connection of its own; beside them
//! streams, one after the other. An answer that is not a 200, and a stream that is not whole, are errors: none is allowed.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use memchr::memmem;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::bench::answer;
use crate::bench::gates::{Gate, Kind, Place, ROOMY};
use crate::bench::load::{Shape, Streams, whole_request};
use crate::bench::settle_on;
use crate::bench::stub::Stub;

/// How much, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The herdgate to hand over
    #[arg(long, value_name = "PATH", default_value = "target/release/herdgate")]
    herdgate: PathBuf,
    /// Requests a second
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,
    /// Streams that run at any time
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    streams: u32,
    /// Hand-overs, one after the other
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    times: u32,
    /// Seconds before the first, between two, and after the last
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    time: u64,
    /// The core for the gate, old and fresh
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    gate_core: usize,
    /// The core for everybody else
    #[arg(long, value_name = "CORE", default_value_t = 1)]
    load_core: usize,
}

/// A stream lasts for so long, and the old gate for as long as those that it has.
const LINES: u64 = 50;
const LINE_EVERY: Duration = Duration::from_millis(20);
/// A hand-over may take so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a gate's log.
const LOOK: Duration = Duration::from_millis(10);

/// Hands a gate over and prints what its clients felt.
pub(crate) fn run(options: &Options) -> Result<()> {
    let herdgate = std::path::absolute(&options.herdgate)?;
    ensure!(
        herdgate.exists(),
        "no {}; build it: cargo build --release --package herdgate",
        herdgate.display()
    );
    settle_on(options.load_core)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, hand_over(options, herdgate))
}

async fn hand_over(options: &Options, herdgate: PathBuf) -> Result<()> {
    let clock = Instant::now();
    let stub = Stub::start(clock).await?;
    let bench = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../bench");
    let place = Place::plain(stub.address, options.gate_core, herdgate, bench);
    let mut gate = Gate::start_with(Kind::Herdgate, &place, ROOMY).await?;
    let load = Rc::new(Load::default());
    let mut tasks = JoinSet::new();
    tasks.spawn_local(requests(gate.address, options.rate, Rc::clone(&load)));
    tasks.spawn_local(streams(gate.address, options.streams, clock, Rc::clone(&load)));

    let time = Duration::from_secs(options.time);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut parts = vec![Part::of("before".to_owned(), time).await];
    let mut serving: Option<Fresh> = None;
    for number in 1..=options.times {
        let begun = Instant::now();
        match &serving {
            Some(fresh) => kill_process(fresh.0, Signal::USR2)?,
            None => gate.signal(Signal::USR2)?,
        }
        let fresh = Fresh::after(&gate, usize::try_from(number - 1)?).await?;
        let took = begun.elapsed();
        let earlier = serving.replace(fresh);
        loop {
            let is_over = match &earlier {
                Some(earlier) => !earlier.is_alive(),
                None => gate.ended()?.is_some(),
            };
            if is_over {
                break;
            }
            ensure!(begun.elapsed() < PATIENCE, "the old gate never ends; it said:\n{}", gate.said());
            tokio::time::sleep(LOOK).await;
        }
        let name = format!("hand-over {number} (taken over in {:.2} s)", took.as_secs_f64());
        parts.push(Part { name, begun, ended: Instant::now() });
        parts.push(Part::of(format!("after {number}"), time).await);
    }
    load.over.set(true);
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    report(&parts, &load)
}

fn report(parts: &[Part], load: &Load) -> Result<()> {
    let mut out = std::io::stdout();
    for part in parts {
        writeln!(out, "{}", part.felt(&load.shots.borrow()))?;
    }
    let wrong = load.wrong.borrow();
    let all = load.shots.borrow().len();
    writeln!(out, "{all} requests and {} streams in all, {} errors", load.streams.get(), wrong.len())?;
    for what in wrong.iter().take(10) {
        writeln!(out, "  {what}")?;
    }
    ensure!(wrong.is_empty(), "somebody noticed");
    Ok(())
}

/// What is asked of the gate all the time, and what came of it.
#[derive(Default)]
struct Load {
    over: Cell<bool>,
    shots: RefCell<Vec<Shot>>,
    streams: Cell<u64>,
    wrong: RefCell<Vec<String>>,
    /// Connections between two requests.
    kept: RefCell<Vec<TcpStream>>,
}

/// One request.
struct Shot {
    begun: Instant,
    took: Duration,
}

impl Load {
    fn is_wrong(&self, what: String) {
        self.wrong.borrow_mut().push(what);
    }

    /// One that the gate has not closed, as every client looks before it asks.
    fn kept(&self) -> Option<TcpStream> {
        let mut kept = self.kept.borrow_mut();
        while let Some(connection) = kept.pop() {
            let read = connection.try_read(&mut [0; 1]);
            if matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock) {
                return Some(connection);
            }
        }
        None
    }
}

/// Asks at this rate, whatever becomes of it.
async fn requests(to: SocketAddr, rate: u32, load: Rc<Load>) -> Result<()> {
    let request = Rc::new(whole_request(100));
    let begin = Instant::now();
    let mut asking = JoinSet::new();
    for number in 0_u32.. {
        let due = begin + Duration::from_secs(1) * number / rate;
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            tokio::time::sleep(wait).await;
        }
        if load.over.get() {
            break;
        }
        let (load, request, begun) = (Rc::clone(&load), Rc::clone(&request), Instant::now());
        asking.spawn_local(async move {
            let keeps = number.is_multiple_of(2);
            match ask(to, keeps, &request, &load).await {
                Ok(()) => load.shots.borrow_mut().push(Shot { begun, took: begun.elapsed() }),
                Err(error) => load.is_wrong(format!("a request: {error:#}")),
            }
        });
        while asking.try_join_next().is_some() {}
    }
    asking.join_all().await;
    Ok(())
}

async fn ask(to: SocketAddr, keeps: bool, request: &[u8], load: &Load) -> Result<()> {
    let kept = if keeps { load.kept() } else { None };
    let mut connection = match kept {
        Some(connection) => connection,
        None => TcpStream::connect(to).await.context("connecting")?,
    };
    connection.set_nodelay(true)?;
    connection.write_all(request).await.context("sending")?;
    let mut came = Vec::new();
    let status = answer::read_whole(&mut connection, &mut came).await?;
    ensure!(status == 200, "answered {status}");
    if keeps && memmem::find(&came, b"Connection: close").is_none() {
        load.kept.borrow_mut().push(connection);
    }
    Ok(())
}

/// Streams, one after the other; a line that is missing is an error.
async fn streams(to: SocketAddr, count: u32, clock: Instant, load: Rc<Load>) -> Result<()> {
    let shape = Shape { streams: 1, pace: LINE_EVERY, lines: LINES };
    let mut running = JoinSet::new();
    for number in 0..count {
        let load = Rc::clone(&load);
        running.spawn_local(async move {
            // Ends are spread, as beginnings are.
            tokio::time::sleep(LINE_EVERY * 50 * number / count).await;
            while !load.over.get() {
                match Streams::start(to, shape, clock).finish().await {
                    Ok(_whole) => load.streams.set(load.streams.get() + 1),
                    Err(error) => load.is_wrong(format!("a stream: {error:#}")),
                }
            }
        });
    }
    running.join_all().await;
    Ok(())
}

/// A time that is told of.
struct Part {
    name: String,
    begun: Instant,
    ended: Instant,
}

impl Part {
    async fn of(name: String, time: Duration) -> Self {
        let begun = Instant::now();
        tokio::time::sleep(time).await;
        Self { name, begun, ended: Instant::now() }
    }

    /// What those felt who asked in this time.
    fn felt(&self, shots: &[Shot]) -> String {
        let within = shots.iter().filter(|shot| shot.begun >= self.begun && shot.begun < self.ended);
        let mut times: Vec<f64> = within.map(|shot| shot.took.as_secs_f64() * 1e3).collect();
        times.sort_unstable_by(f64::total_cmp);
        let at = |percent: usize| {
            let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
            times.get(place).copied().unwrap_or_default()
        };
        let seconds = (self.ended - self.begun).as_secs_f64();
        let count = u32::try_from(times.len()).unwrap_or(u32::MAX);
        format!(
            "{:<36} {seconds:5.2} s  {:5.0} req/s  p50 {:6.2} ms  p99 {:6.2} ms  longest {:6.2} ms",
            self.name,
            f64::from(count) / seconds,
            at(50),
            at(99),
            at(100)
        )
    }
}

/// A gate that took over: nobody's child, so ended by its id.
struct Fresh(Pid);

impl Fresh {
    /// Waits for the one after so many earlier ones.
    async fn after(gate: &Gate, earlier: usize) -> Result<Self> {
        let begun = Instant::now();
        loop {
            let said = gate.said();
            let found = said.split("the gate was handed over to process ").nth(earlier + 1);
            let digits = found.and_then(|rest| rest.split(|sign: char| !sign.is_ascii_digit()).next());
            if let Some(pid) = digits.and_then(|digits| Pid::from_raw(digits.parse().ok()?)) {
                return Ok(Self(pid));
            }
            ensure!(begun.elapsed() < PATIENCE, "nobody took over; the gate said:\n{said}");
            tokio::time::sleep(LOOK).await;
        }
    }

    fn is_alive(&self) -> bool {
        std::path::Path::new(&format!("/proc/{}/exe", self.0.as_raw_nonzero())).exists()
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = kill_process(self.0, Signal::TERM);
    }
}
