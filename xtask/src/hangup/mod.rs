//! `cargo xtask hangup`: how long after a client's hang-up its upstream sees the connection close. One trial at a time: the phase
//! is reached, the client leaves, the clock runs until the upstream reads the end. Client and upstream share one thread
//! and one clock; the gate has a core of its own. nginx stands beside it in the same run, trial by trial.
//!
//! Two phases have no upstream connection that could close: while a request is queued, and while the connect is under way. There
//! the client closes its sending side, and the clock runs until the gate closes the other one.

mod client;
mod upstream;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::AsyncReadExt as _;

use self::client::{Client, Http2};
use self::upstream::{Deaf, Event, Mode, Upstream};
use crate::bench::gates::{Gate, Kind, Place};
use crate::bench::load::TOKEN;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The herdgate to measure
    #[arg(long, value_name = "PATH", default_value = "target/release/herdgate")]
    herdgate: PathBuf,
    /// Trials per phase, dialect and gate
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    trials: u32,
    /// Leave nginx out
    #[arg(long)]
    alone: bool,
    /// The core for the gates
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    gate_core: usize,
}

/// Longest wait for anything in one trial.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a request is when its client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Queued,
    Connecting,
    SendingBody,
    Waiting,
    NotStreamed,
    Streaming,
    Uploading,
}

impl Phase {
    const ALL: [Phase; 7] = [
        Phase::Queued,
        Phase::Connecting,
        Phase::SendingBody,
        Phase::Waiting,
        Phase::NotStreamed,
        Phase::Streaming,
        Phase::Uploading,
    ];

    const fn name(self) -> &'static str {
        match self {
            Phase::Queued => "queued",
            Phase::Connecting => "connecting",
            Phase::SendingBody => "sending a body of 8 MB",
            Phase::Waiting => "waiting for the first byte",
            Phase::NotStreamed => "waiting for a whole answer",
            Phase::Streaming => "streaming",
            Phase::Uploading => "uploading",
        }
    }

    const fn mode(self) -> Mode {
        match self {
            Phase::Queued | Phase::Connecting | Phase::Waiting | Phase::NotStreamed => Mode::Silent,
            Phase::SendingBody => Mode::SlowBody,
            Phase::Streaming => Mode::Stream,
            Phase::Uploading => Mode::Upload,
        }
    }

    /// Whether no upstream can see it.
    const fn is_inside(self) -> bool {
        matches!(self, Phase::Queued | Phase::Connecting)
    }
}

/// How clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Ollama,
    OpenAi,
    Anthropic,
    Http2,
}

impl Way {
    const ALL: [Way; 4] = [Way::Ollama, Way::OpenAi, Way::Anthropic, Way::Http2];

    const fn name(self) -> &'static str {
        match self {
            Way::Ollama => "/api/chat",
            Way::OpenAi => "/v1/chat/completions",
            Way::Anthropic => "/v1/messages",
            Way::Http2 => "/api/chat over h2",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Way::Ollama | Way::Http2 => "/api/chat",
            Way::OpenAi => "/v1/chat/completions",
            Way::Anthropic => "/v1/messages",
        }
    }
}

/// A gate for the phases that an upstream sees, and those for the two that it does not.
struct Stand {
    kind: Kind,
    gate: Gate,
    /// With one slot, which somebody holds.
    narrow: Option<(Gate, Client)>,
    /// Before a port where connecting has no end.
    lost: Gate,
    /// Uploads models.
    manage: String,
}

/// Measures everything and prints a table.
pub(crate) fn run(options: &Options) -> Result<()> {
    let herdgate = std::path::absolute(&options.herdgate)?;
    ensure!(herdgate.exists(), "no {}; build it: cargo build --release -p herdgate", herdgate.display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let table = tokio::task::LocalSet::new().block_on(&runtime, measure(options, herdgate))?;
    std::io::stdout().lock().write_all(table.as_bytes())?;
    Ok(())
}

async fn measure(options: &Options, herdgate: PathBuf) -> Result<String> {
    let mut upstream = Upstream::start()?;
    let deaf = Deaf::start().await?;
    let bench = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../bench");
    let place = |stub| Place::plain(stub, options.gate_core, herdgate.clone(), bench.clone());
    let mut stands = vec![
        Stand::start(Kind::Herdgate, &place(upstream.address), &place(deaf.address), &mut upstream).await?,
    ];
    if !options.alone {
        stands.push(
            Stand::start(Kind::Nginx, &place(upstream.address), &place(deaf.address), &mut upstream).await?,
        );
    }
    let mut table = String::from(
        "| phase | way | gate | p50 (ms) | p99 (ms) | worst (ms) |\n|---|---|---|---|---|---|\n",
    );
    for phase in Phase::ALL {
        for way in Way::ALL {
            let mut times: Vec<Vec<Duration>> = stands.iter().map(|_| Vec::new()).collect();
            for _ in 0..options.trials {
                // Neighbours in time: noise of the machine hits both alike.
                for (stand, times) in stands.iter_mut().zip(&mut times) {
                    if stand.can(phase, way) {
                        let name = stand.kind.name();
                        let took = trial(stand, phase, way, &mut upstream).await;
                        times
                            .push(took.with_context(|| format!("{name}, {}, {}", phase.name(), way.name()))?);
                    }
                }
            }
            for (stand, mut times) in stands.iter().zip(times).filter(|(_, times)| !times.is_empty()) {
                times.sort_unstable();
                let at = |percent: usize| {
                    times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e3
                };
                writeln!(
                    table,
                    "| {} | `{}` | {} | {:.2} | {:.2} | {:.2} |",
                    phase.name(),
                    way.name(),
                    stand.kind.name(),
                    at(50),
                    at(99),
                    at(100)
                )?;
            }
        }
    }
    Ok(table)
}

impl Stand {
    async fn start(kind: Kind, seen: &Place, lost: &Place, upstream: &mut Upstream) -> Result<Self> {
        let gate = Gate::begin(kind, seen, "")?;
        gate.listens().await?;
        let lost = Gate::begin(kind, lost, "[timeouts]\nconnect = \"60s\"\n")?;
        lost.listens().await?;
        let narrow = match kind {
            Kind::Herdgate => {
                let gate = Gate::begin(kind, seen, "[fleet]\nslots = 1\n")?;
                gate.listens().await?;
                upstream.mode.set(Mode::Silent);
                let mut holder = Client::connect(gate.address).await?;
                holder.ask(Way::Ollama.path(), true, 100).await?;
                until(&mut upstream.events, |event| *event == Event::Reached).await?;
                Some((gate, holder))
            }
            Kind::Nginx | Kind::Haproxy | Kind::Direct => None,
        };
        let manage = match kind {
            Kind::Herdgate => gate.manage_key(&seen.herdgate).await?,
            Kind::Nginx | Kind::Haproxy | Kind::Direct => TOKEN.to_owned(),
        };
        Ok(Self { kind, gate, narrow, lost, manage })
    }

    /// nginx has no queue, and its h2 wants TLS; a body's way and an upload's do not depend on the dialect.
    fn can(&self, phase: Phase, way: Way) -> bool {
        match (phase, way) {
            (Phase::Queued, Way::Ollama | Way::OpenAi | Way::Anthropic) => self.narrow.is_some(),
            (Phase::Waiting | Phase::Streaming, Way::Http2) => self.kind == Kind::Herdgate,
            (_, Way::Http2) => false,
            (Phase::Uploading, way) => way == Way::Ollama,
            (_, Way::Ollama | Way::OpenAi | Way::Anthropic) => true,
        }
    }

    fn address(&self, phase: Phase) -> Result<std::net::SocketAddr> {
        Ok(match (phase, &self.narrow) {
            (Phase::Queued, Some((narrow, _))) => narrow.address,
            (Phase::Queued, None) => bail!("nobody queues here"),
            (Phase::Connecting, _) => self.lost.address,
            _ => self.gate.address,
        })
    }
}

/// Waits for an event that fits; others are left over from before.
async fn until(
    events: &mut tokio::sync::mpsc::Receiver<Event>,
    fits: impl Fn(&Event) -> bool,
) -> Result<Event> {
    let wait = async {
        loop {
            let event = events.recv().await.context("the upstream has ended")?;
            if fits(&event) {
                return anyhow::Ok(event);
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.context("the upstream saw nothing")?
}

/// One hang-up.
async fn trial(stand: &Stand, phase: Phase, way: Way, upstream: &mut Upstream) -> Result<Duration> {
    upstream.mode.set(phase.mode());
    let address = stand.address(phase)?;
    if way == Way::Http2 {
        let mut client = Http2::connect(address).await?;
        let mut asked = client.ask(way.path()).await?;
        until(&mut upstream.events, |event| *event == Event::Reached).await?;
        if phase == Phase::Streaming {
            asked.first_piece().await?;
        }
        let left = Instant::now();
        drop(asked);
        return seen(upstream, left).await;
    }
    let mut client = Client::connect(address).await?;
    match phase {
        Phase::Uploading => client.upload(&stand.manage).await?,
        Phase::SendingBody => client.ask(way.path(), true, 8 << 20).await?,
        Phase::NotStreamed => client.ask(way.path(), false, 100).await?,
        Phase::Queued | Phase::Connecting | Phase::Waiting | Phase::Streaming => {
            client.ask(way.path(), true, 100).await?;
        }
    }
    if phase.is_inside() {
        // Nobody tells when it has come so far; a few milliseconds are plenty on one machine.
        tokio::time::sleep(Duration::from_millis(3)).await;
        let left = Instant::now();
        client.half_close().await?;
        let mut rest = Vec::new();
        // A reset is a close, too.
        let closed = tokio::time::timeout(PATIENCE, client.stream.read_to_end(&mut rest)).await;
        ensure!(closed.is_ok(), "the gate does not close");
        return Ok(left.elapsed());
    }
    until(&mut upstream.events, |event| *event == Event::Reached).await?;
    if phase == Phase::Streaming {
        client.first_piece().await?;
    }
    let left = Instant::now();
    drop(client);
    upstream.left.notify_waiters();
    seen(upstream, left).await
}

/// From `left` until the upstream saw it.
async fn seen(upstream: &mut Upstream, left: Instant) -> Result<Duration> {
    match until(&mut upstream.events, |event| matches!(event, Event::Left(at) if *at >= left)).await? {
        Event::Left(at) => Ok(at - left),
        Event::Reached => bail!("two requests at once"),
    }
}
