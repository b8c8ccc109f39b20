//! The control plane: probes, the supervised local server, keys, signals. One runtime of its own, on the main thread; no
//! request ever waits for it.

use super::bind::Bound;
use super::core::Stage;
use super::prober::{self, Latest};
use super::upstreams::Upstreams;
use super::{keys, metrics, report};
use anyhow::Context as _;
use gate_config::Config;
use gate_proxy::Shared;
use gate_types::UpstreamId;
use gate_upstream::probe::Probe;
use gate_upstream::{Client, ClientLimits};
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet};

/// How long the start-up report waits for the upstreams' first answers.
const REPORT_TIME: Duration = Duration::from_secs(3);
/// The same where a local server is starting: it has to load first.
const REPORT_TIME_LOCAL: Duration = Duration::from_secs(20);

/// What the control plane looks after.
pub(super) struct Duties<'c> {
    pub(super) shared: Arc<Shared>,
    pub(super) keeper: keys::Keeper,
    /// The listener of the metrics alone.
    pub(super) metrics: Option<Bound>,
    pub(super) upstreams: Upstreams,
    pub(super) config: &'c Config,
    /// Ends the data plane, step by step.
    pub(super) stage: watch::Sender<Stage>,
    /// Tells when a data-plane thread has ended, for whatever reason; closed once all have.
    pub(super) core_ended: mpsc::Receiver<()>,
}

/// Runs until SIGINT or SIGTERM and until the last request has ended, then ends everything it started.
pub(super) fn run(duties: Duties<'_>, talk: &mut dyn Write) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (keep, stop) = std::sync::mpsc::sync_channel(0);
    let keys = duties
        .keeper
        .start(Arc::clone(&duties.shared), stop)
        .context("cannot start the thread that watches the keys")?;
    let watched = Watched {
        shared: duties.shared,
        metrics: duties.metrics,
        upstreams: duties.upstreams,
        config: duties.config,
        stage: duties.stage,
        core_ended: duties.core_ended,
    };
    let outcome = LocalSet::new().block_on(&runtime, watch_over(watched, talk));
    drop(keep);
    keys.join().map_err(|_panic| anyhow::anyhow!("the thread that watches the keys panicked"))?;
    outcome
}

struct Watched<'c> {
    metrics: Option<Bound>,
    shared: Arc<Shared>,
    upstreams: Upstreams,
    config: &'c Config,
    stage: watch::Sender<Stage>,
    core_ended: mpsc::Receiver<()>,
}

async fn watch_over(watched: Watched<'_>, talk: &mut dyn Write) -> anyhow::Result<()> {
    let Watched { shared, metrics, upstreams, config, stage, mut core_ended } = watched;
    let mut signals = Signals::listen()?;
    let limits = ClientLimits { connect: config.timeouts.connect, ..ClientLimits::default() };
    let client = Rc::new(Client::new(upstreams.endpoints.clone(), upstreams.tls, limits));

    let (end_local, local_end) = watch::channel(false);
    let mut local = JoinSet::new();
    let started: Vec<_> = upstreams.locals.iter().map(|local| local.program().clone()).collect();
    for program in upstreams.locals {
        local.spawn_local(program.run(local_end.clone()));
    }
    let mut told = JoinSet::new();
    if let Some(bound) = metrics {
        told.spawn_local(metrics::serve(bound, Arc::clone(&shared)));
    }
    let mut probers = JoinSet::new();
    let mut found: Vec<Latest> = Vec::new();
    for id in (0..).map(UpstreamId).take(upstreams.endpoints.len()) {
        let (latest, seen) = watch::channel(None);
        found.push(seen);
        let client = Rc::clone(&client);
        probers.spawn_local(prober::run(
            client,
            id,
            Arc::clone(&shared),
            config.fleet.probe_interval,
            latest,
        ));
    }
    let time = if started.is_empty() { REPORT_TIME } else { REPORT_TIME_LOCAL };
    let report = async {
        first_looks(&mut found, started.len(), time).await;
        report::upstreams(talk, &upstreams.endpoints, &found, &started, &upstreams.not_yet);
        std::future::pending::<()>().await;
    };
    let signal = tokio::select! {
        signal = signals.any() => Some(signal),
        _deaf = core_ended.recv() => None,
        () = report => None,
    };
    match signal {
        Some(signal) => drain(signal, config.server.grace, &stage, &mut core_ended, &mut signals).await,
        None => tracing::error!("a data-plane thread ended: ending"),
    }
    // Where a core has failed, or is still there, it ends now. The doors close first: nobody shall be sent to a server
    // that is being ended.
    stage.send_replace(Stage::End);
    probers.abort_all();
    told.abort_all();
    end_local.send_replace(true);
    while local.join_next().await.is_some() {}
    Ok(())
}

/// Lets every request that runs come to its end, for `grace` at most or until a second signal.
async fn drain(
    signal: &str,
    grace: Duration,
    stage: &watch::Sender<Stage>,
    core_ended: &mut mpsc::Receiver<()>,
    signals: &mut Signals,
) {
    tracing::info!("{signal}: listening no more; what runs has {} to end", gate_config::show_duration(grace));
    stage.send_replace(Stage::Drain);
    tokio::select! {
        () = async { while core_ended.recv().await.is_some() {} } => tracing::info!("every request has ended"),
        () = tokio::time::sleep(grace) => tracing::warn!("the time of grace is over: ending what still runs"),
        signal = signals.any() => tracing::warn!("a second signal, {signal}: ending at once"),
    }
}

/// The signals that end the gate.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
        let terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        Ok(Self { interrupt, terminate })
    }

    async fn any(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Waits until every upstream was looked at; the last `starting` of them are being started, and have time to answer.
async fn first_looks(found: &mut [Latest], starting: usize, time: Duration) {
    let named = found.len() - starting;
    let all = async {
        for (place, latest) in found.iter_mut().enumerate() {
            let must_answer = place >= named;
            let enough = |probe: &Option<Arc<_>>| {
                probe.as_ref().is_some_and(|probe: &Arc<Probe>| !must_answer || probe.version.is_ok())
            };
            if latest.wait_for(enough).await.is_err() {
                return;
            }
        }
    };
    let _late = tokio::time::timeout(time, all).await;
}
