//! `cargo xtask siege`: what normal clients feel while hostile ones hold on to the gate. Thousands of connections that ask
//! nothing, clients that send their heads byte by byte, readers that take almost nothing of their streams; beside them a few
//! who ask and are timed, before and during. Memory is that of herdgate's process.

use std::cell::Cell;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::bench::gates::{Gate, Kind, Place};
use crate::bench::load::{Clients, flood_request, whole_request};
use crate::bench::settle_on;
use crate::bench::stub::Stub;

/// How hard, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The herdgate to besiege
    #[arg(long, value_name = "PATH", default_value = "target/release/herdgate")]
    herdgate: PathBuf,
    /// Connections that ask nothing; fewer where the machine's limits allow no more
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    idle: u64,
    /// Clients that send their heads byte by byte, and as many that hardly read
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..=2000))]
    slow: u64,
    /// Normal clients
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=64))]
    clients: u64,
    /// Seconds for which normal clients are timed, before and during
    #[arg(long, value_name = "S", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=600))]
    time: u64,
    /// The core for the gate
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    gate_core: usize,
    /// The core for everybody else
    #[arg(long, value_name = "CORE", default_value_t = 1)]
    load_core: usize,
}

/// A normal client asks so often.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// A slow head has a byte more so often; a slow reader takes a few.
const DRIP_EVERY: Duration = Duration::from_millis(500);
/// What a slow reader's system holds for it: as little as it can be told to.
const SLOW_BUFFER: u32 = 2048;
/// Their streams' lines are so long, to fill soon what lies between them and their source.
const SLOW_LINE: usize = 4096;
/// How long streams may take to fill what lies between their source and their readers.
const FILL_TIME: Duration = Duration::from_secs(60);
/// Descriptors that are neither the besiegers' nor the clients'.
const OTHERS: u64 = 500;
/// Requests that the upstream may have: the slow readers', and the normal clients'.
const SLOTS: u64 = 2500;
/// Connections from one address; the gate allows 1024.
const PER_ADDRESS: usize = 800;
/// How much longer the slowest percent may take.
const BOUND: f64 = 2.0;

/// Besieges a gate and prints what happened.
pub(crate) fn run(options: &Options) -> Result<()> {
    let herdgate = std::path::absolute(&options.herdgate)?;
    ensure!(
        herdgate.exists(),
        "no {}; build it: cargo build --release --package herdgate",
        herdgate.display()
    );
    let descriptors = raise_descriptors();
    settle_on(options.load_core)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, besiege(options, herdgate, descriptors))
}

/// As many files as the system grants; the gate raises its own.
fn raise_descriptors() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    (if raised { maximum } else { current }).unwrap_or(u64::MAX)
}

async fn besiege(options: &Options, herdgate: PathBuf, descriptors: u64) -> Result<()> {
    let mut out = std::io::stdout();
    let clock = Instant::now();
    let stub = Stub::start(clock).await?;
    let bench = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../bench");
    let place = Place::plain(stub.address, options.gate_core, herdgate, bench);
    // Slow readers have keys and models: how many of them one upstream may carry is another setting.
    let gate = Gate::start_with(Kind::Herdgate, &place, &format!("[fleet]\nslots = {SLOTS}\n")).await?;

    // The gate keeps two for each slot back; here the upstream's end of the slow streams needs them.
    let room = descriptors.saturating_sub(2 * SLOTS + 2 * options.slow + options.clients + OTHERS);
    let idle = options.idle.min(room);
    if idle < options.idle {
        writeln!(
            out,
            "{descriptors} open files are allowed: {idle} idle connections instead of {}",
            options.idle
        )?;
    }
    let resting = megabytes(&gate)?;
    let mut normal = Normal::connect(gate.address, options.clients).await?;
    let time = Duration::from_secs(options.time);
    normal.run(Duration::from_secs(1)).await?;
    let quiet = normal.run(time).await?;
    writeln!(out, "quiet   {quiet}  {resting:.1} MiB")?;

    let begun = Instant::now();
    let held = hold_idle(gate.address, idle).await?;
    let with_idle = megabytes(&gate)?;
    writeln!(
        out,
        "{idle} idle connections within {:.1} s  {with_idle:.1} MiB",
        begun.elapsed().as_secs_f64()
    )?;
    let slow = Slow::start(gate.address, options.slow);
    slow.are_full(&gate).await?;
    let besieged = normal.run(time).await?;
    let with_all = megabytes(&gate)?;
    writeln!(out, "siege   {besieged}  {with_all:.1} MiB")?;
    let seen = &slow.seen;
    writeln!(
        out,
        "{} slow heads: {} connections ended by the gate, the longest after {:.1} s; {} slow readers: {} are still served",
        options.slow,
        seen.ended.get(),
        seen.longest.get().as_secs_f64(),
        options.slow,
        options.slow - seen.readers_ended.get()
    )?;
    let still = held.iter().filter(|connection| is_open(connection)).count();
    writeln!(out, "{still} of {idle} idle connections are still open")?;
    let ratio = besieged.p99 / quiet.p99;
    writeln!(out, "p99 during / before: {ratio:.2} (bound {BOUND})")?;
    drop(slow);
    ensure!(ratio <= BOUND, "normal clients felt the siege");
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "memory of a process is far below 2^53 bytes")]
fn megabytes(gate: &Gate) -> Result<f64> {
    Ok(gate.resident()? as f64 / f64::from(1 << 20))
}

/// Whether nothing has come on a connection on which nothing was to come.
fn is_open(connection: &TcpStream) -> bool {
    let read = connection.try_read(&mut [0; 1]);
    matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// A connection from an address of its own for every [`PER_ADDRESS`] of them.
async fn connect(to: SocketAddr, number: usize, buffer: Option<u32>) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    let host = u8::try_from(2 + number / PER_ADDRESS).context("more connections than addresses")?;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 1, host), 0)))?;
    Ok(socket.connect(to).await?)
}

/// Connections that have had an answer and rest.
async fn hold_idle(to: SocketAddr, count: u64) -> Result<Vec<TcpStream>> {
    let mut held = Vec::new();
    for number in 0..usize::try_from(count)? {
        let mut connection = connect(to, number, None).await?;
        connection.write_all(b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n").await?;
        let mut came = [0; 512];
        let read = connection.read(&mut came).await?;
        ensure!(came[..read].starts_with(b"HTTP/1.1 200"), "an idle connection was not answered");
        held.push(connection);
    }
    Ok(held)
}

/// Clients that ask now and then and are timed.
struct Normal {
    clients: Vec<Clients>,
    request: Rc<Vec<u8>>,
}

/// What normal clients felt.
struct Felt {
    count: usize,
    p50: f64,
    p99: f64,
}

impl std::fmt::Display for Felt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} requests, p50 {:.0} µs, p99 {:.0} µs", self.count, self.p50, self.p99)
    }
}

impl Normal {
    async fn connect(to: SocketAddr, count: u64) -> Result<Self> {
        let mut clients = Vec::new();
        for _ in 0..count {
            clients.push(Clients::connect(to, 1).await?);
        }
        Ok(Self { clients, request: Rc::new(whole_request(100)) })
    }

    async fn run(&mut self, time: Duration) -> Result<Felt> {
        let end = Instant::now() + time;
        let mut asking = JoinSet::new();
        for (number, mut client) in (0_u32..).zip(self.clients.drain(..)) {
            let request = Rc::clone(&self.request);
            asking.spawn_local(async move {
                let mut times = Vec::new();
                tokio::time::sleep(ASK_EVERY * number / 8).await;
                while Instant::now() < end {
                    let begun = Instant::now();
                    client.once(&request).await?;
                    times.push(begun.elapsed());
                    tokio::time::sleep(ASK_EVERY.saturating_sub(begun.elapsed())).await;
                }
                anyhow::Ok((client, times))
            });
        }
        let mut times = Vec::new();
        while let Some(ended) = asking.join_next().await {
            let (client, more) = ended??;
            self.clients.push(client);
            times.extend(more);
        }
        times.sort_unstable();
        let at = |percent: usize| {
            let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
            times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e6)
        };
        Ok(Felt { count: times.len(), p50: at(50), p99: at(99) })
    }
}

/// The slow ones, until this is dropped.
struct Slow {
    seen: Rc<Seen>,
    _tasks: JoinSet<()>,
}

/// What became of them.
#[derive(Default)]
struct Seen {
    ended: Cell<u64>,
    longest: Cell<Duration>,
    readers_ended: Cell<u64>,
}

impl Slow {
    fn start(to: SocketAddr, count: u64) -> Self {
        let seen = Rc::new(Seen::default());
        let mut tasks = JoinSet::new();
        // From other addresses than the idle ones.
        for number in 0..usize::try_from(count).unwrap_or_default() {
            let seen = Rc::clone(&seen);
            tasks.spawn_local(async move {
                loop {
                    let begun = Instant::now();
                    if slow_head(to, 150 * PER_ADDRESS + number).await.is_ok() {
                        seen.ended.set(seen.ended.get() + 1);
                        seen.longest.set(seen.longest.get().max(begun.elapsed()));
                    }
                    tokio::time::sleep(DRIP_EVERY).await;
                }
            });
        }
        for number in 0..usize::try_from(count).unwrap_or_default() {
            let seen = Rc::clone(&seen);
            tasks.spawn_local(async move {
                drop(slow_reader(to, 160 * PER_ADDRESS + number).await);
                seen.readers_ended.set(seen.readers_ended.get() + 1);
            });
        }
        Self { seen, _tasks: tasks }
    }

    /// Waits until the streams stand: their readers' pace is the gate's.
    async fn are_full(&self, gate: &Gate) -> Result<()> {
        let begun = Instant::now();
        let second = Duration::from_secs(1);
        let mut before = gate.run_time()?;
        tokio::time::sleep(second).await;
        loop {
            let now = gate.run_time()?;
            let busy = Duration::from_nanos(now - before);
            before = now;
            if busy < second / 20 {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < FILL_TIME,
                "the streams never stood still; the gate is busy for {busy:?} a second"
            );
            tokio::time::sleep(second).await;
        }
    }
}

/// One connection's life, whose end is the gate's doing.
async fn slow_head(to: SocketAddr, number: usize) -> Result<()> {
    let mut connection = connect(to, number, None).await?;
    let head = b"POST /api/chat HTTP/1.1\r\nHost: gate\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'x'));
    for byte in head {
        tokio::time::sleep(DRIP_EVERY).await;
        if connection.write_all(&[*byte]).await.is_err() || !is_open(&connection) {
            break;
        }
    }
    Ok(())
}

async fn slow_reader(to: SocketAddr, number: usize) -> Result<()> {
    let mut connection = connect(to, number, Some(SLOW_BUFFER)).await?;
    connection.write_all(&flood_request(SLOW_LINE)).await?;
    let mut few = [0; 16];
    loop {
        tokio::time::sleep(DRIP_EVERY).await;
        ensure!(connection.read(&mut few).await? > 0, "the stream ended");
    }
}
