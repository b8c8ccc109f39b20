//! The control plane: probes, the supervised local server, keys, signals. One runtime of its own, on the main thread; no
//! request ever waits for it.

use super::prober::{self, Latest};
use super::upstreams::Upstreams;
use super::{keys, report};
use anyhow::Context as _;
use gate_config::Config;
use gate_keys::EnvKey;
use gate_proxy::Shared;
use gate_store::SqliteStore;
use gate_types::UpstreamId;
use gate_upstream::probe::Probe;
use gate_upstream::{Client, ClientLimits};
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinSet, LocalSet};

/// How long the start-up report waits for the upstreams' first answers.
const REPORT_TIME: Duration = Duration::from_secs(3);
/// The same where a local server is starting: it has to load first.
const REPORT_TIME_LOCAL: Duration = Duration::from_secs(20);

/// What the control plane looks after.
pub(super) struct Duties<'c> {
    pub(super) shared: Arc<Shared>,
    pub(super) store: SqliteStore,
    pub(super) env_key: Option<EnvKey>,
    pub(super) upstreams: Upstreams,
    pub(super) config: &'c Config,
    /// Ends the data plane when it turns true.
    pub(super) stop: watch::Sender<bool>,
    /// A data-plane thread has ended, for whatever reason.
    pub(super) core_ended: Arc<Notify>,
}

/// Runs until SIGINT or SIGTERM, then ends everything it started.
pub(super) fn run(duties: Duties<'_>, talk: &mut dyn Write) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (keep, stop) = std::sync::mpsc::sync_channel(0);
    let keys = keys::start(duties.store, duties.env_key, Arc::clone(&duties.shared), stop)
        .context("cannot start the thread that watches the keys")?;
    let watched = Watched {
        shared: duties.shared,
        upstreams: duties.upstreams,
        config: duties.config,
        stop: duties.stop,
        core_ended: duties.core_ended,
    };
    let outcome = LocalSet::new().block_on(&runtime, watch_over(watched, talk));
    drop(keep);
    keys.join().map_err(|_panic| anyhow::anyhow!("the thread that watches the keys panicked"))?;
    outcome
}

struct Watched<'c> {
    shared: Arc<Shared>,
    upstreams: Upstreams,
    config: &'c Config,
    stop: watch::Sender<bool>,
    core_ended: Arc<Notify>,
}

async fn watch_over(watched: Watched<'_>, talk: &mut dyn Write) -> anyhow::Result<()> {
    let Watched { shared, upstreams, config, stop, core_ended } = watched;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let limits = ClientLimits { connect: config.timeouts.connect, ..ClientLimits::default() };
    let client = Rc::new(Client::new(upstreams.endpoints.clone(), upstreams.tls, limits));

    let (end_local, local_end) = watch::channel(false);
    let mut local = JoinSet::new();
    let started: Vec<_> = upstreams.locals.iter().map(|local| local.program().clone()).collect();
    for program in upstreams.locals {
        local.spawn_local(program.run(local_end.clone()));
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
    let ended = async {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
            () = core_ended.notified() => "a data-plane thread ended",
        }
    };
    tokio::pin!(ended);
    let time = if started.is_empty() { REPORT_TIME } else { REPORT_TIME_LOCAL };
    let signal = tokio::select! {
        signal = &mut ended => signal,
        () = first_looks(&mut found, started.len(), time) => {
            report::upstreams(talk, &upstreams.endpoints, &found, &started, &upstreams.not_yet);
            ended.await
        }
    };
    tracing::info!("{signal}: ending");
    // The doors close first: nobody shall be sent to a server that is being ended.
    stop.send_replace(true);
    probers.abort_all();
    end_local.send_replace(true);
    while local.join_next().await.is_some() {}
    Ok(())
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
