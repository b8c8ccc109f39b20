//! The control plane: probes, the supervised local server, keys, signals. One runtime of its own, on the main thread; no
//! request ever waits for it.

use super::admin::{Admin, Operator};
use super::bind::Bound;
use super::core::{Pulse, Stage};
use super::entrances::Unkeyed;
use super::handover::{Offer, Voice};
use super::local::{Care, Hands, Held, Local, Program};
use super::prober::{Latest, Probers};
use super::pulls::{Feeds, Puller};
use super::reload::{Keys, Looks, Settings, Stamp, stamps};
use super::tls::Certificate;
use super::upstreams::Upstreams;
use super::{keys, metrics, notify, report};
use anyhow::Context as _;
use gate_config::{Flags, Loaded};
use gate_proxy::Shared;
use gate_types::UpstreamId;
use gate_upstream::probe::Probe;
use gate_upstream::{Client, ClientLimits, Roster};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::MissedTickBehavior;

/// How often the settings file is looked at. It must stand still from one look to the next.
const FILE_LOOK: Duration = Duration::from_millis(500);
/// How long what is ended after the time of grace has to tell its client, and where somebody has no patience.
const LAST_WORDS: Duration = Duration::from_secs(2);
const LAST_WORDS_AT_ONCE: Duration = Duration::from_secs(1);
/// How long the start-up report waits for the upstreams' first answers.
const REPORT_TIME: Duration = Duration::from_secs(3);
/// The same where a local server is starting: it has to load first.
const REPORT_TIME_LOCAL: Duration = Duration::from_secs(20);

/// What the control plane looks after.
pub(super) struct Duties {
    pub(super) shared: Arc<Shared>,
    pub(super) roster: Arc<Roster>,
    /// The listener of the metrics alone.
    pub(super) metrics: Option<Bound>,
    pub(super) upstreams: Upstreams,
    /// Where clients are spoken to in TLS.
    pub(super) certificate: Option<Certificate>,
    /// Where callers are let in without a key.
    pub(super) unkeyed: Unkeyed,
    /// The data directory, and whoever may open the socket in it.
    pub(super) data: PathBuf,
    pub(super) operator: Operator,
    pub(super) loaded: Loaded,
    /// What the settings are read from once more.
    pub(super) flags: Flags,
    pub(super) file: Option<Stamp>,
    /// The life of each core.
    pub(super) pulses: Vec<Arc<Pulse>>,
    /// Ends the data plane, step by step.
    pub(super) stage: watch::Sender<Stage>,
    /// What a fresh start of the program would get.
    pub(super) offer: Offer,
    /// The gate that this one takes over from.
    pub(super) before: Option<Voice>,
    /// Tells when a data-plane thread has ended, for whatever reason; closed once all have.
    pub(super) core_ended: mpsc::Receiver<()>,
}

/// Runs until SIGINT or SIGTERM and until the last request has ended, then ends everything it started.
pub(super) fn run(keeper: keys::Running, duties: Duties, talk: &mut dyn Write) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let keys::Running { tell, thread } = keeper;
    // The thread ends when what it hears from is dropped.
    let outcome = LocalSet::new().block_on(&runtime, watch_over(duties, Keys::new(tell), talk));
    thread.join().map_err(|_panic| anyhow::anyhow!("the thread that watches the keys panicked"))?;
    outcome
}

async fn watch_over(duties: Duties, keys: Keys, talk: &mut dyn Write) -> anyhow::Result<()> {
    let Duties {
        shared, roster, metrics, mut upstreams, mut certificate, unkeyed, loaded, flags, file, ..
    } = duties;
    let (stage, mut core_ended, offer, operator) =
        (duties.stage, duties.core_ended, duties.offer, duties.operator);
    let mut signals = Signals::listen()?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let mut hand_over = signal(SignalKind::user_defined2()).context("cannot wait for SIGUSR2")?;
    let locals = Locals::start(std::mem::take(&mut upstreams.locals));
    let mut told = JoinSet::new();
    if let Some(bound) = metrics {
        told.spawn_local(metrics::serve(bound, Arc::clone(&shared), stage.subscribe()));
    }
    told.spawn_local(notify::show_life(duties.pulses));
    let renews = watch::Sender::new(duties.before.is_none());
    if let Some(acme) = certificate.as_mut().and_then(Certificate::task) {
        told.spawn_local(acme.keep(renews.subscribe()));
    }

    let limits = ClientLimits { connect: loaded.config.timeouts.connect, ..ClientLimits::default() };
    let client = Rc::new(Client::of(Arc::clone(&roster), upstreams.tls.clone(), limits));
    let all: Vec<_> = (0..).map(UpstreamId).take(roster.len()).collect();
    let mut probers =
        Probers::new(Rc::clone(&client), Arc::clone(&shared), loaded.config.fleet.probe_interval);
    probers.follow(&all);
    let found = probers.latest(&all);
    let programs = locals.programs();
    let (named, started) = all.split_at(all.len() - programs.len());
    let is_ollama = |(_, program): &(&UpstreamId, &Program)| matches!(program, Program::Ollama(_));
    let ollamas = started.iter().zip(&programs).filter(is_ollama);
    let ollamas: Vec<UpstreamId> = ollamas.map(|(id, _)| *id).collect();
    let (named, started) = (named.to_vec(), started.to_vec());
    let (begin, may_begin) = watch::channel(false);
    let puller = Puller { shared: Arc::clone(&shared), client };
    let feeds = Feeds::new(puller.clone(), may_begin);
    let operators_key = operator.key();
    let admin = Admin::new(puller, Arc::clone(&roster), ollamas.clone(), operator);
    let commands = told.spawn_local(admin.serve(duties.data));
    let (tls, first, file) = (upstreams.tls.clone(), loaded.clone(), Looks::new(file));
    let upstream_files = Looks::new(Some(stamps(&loaded.config)));
    let mut settings = Settings {
        flags,
        loaded,
        first,
        shared,
        roster,
        tls,
        probers,
        started,
        ollamas,
        named,
        feeds,
        operator: operators_key,
        file,
        upstream_files,
        certificate,
        unkeyed,
        keys,
    };
    let config = settings.loaded.config.clone();
    settings.feed(&config);
    let mut told_start = begin.subscribe();
    let handed_over = async {
        is_ours(duties.before, &mut told_start, &mut hand_over).await;
        renews.send_replace(true);
        offer.until_taken(&locals, &renews, &mut hand_over).await;
    };
    let ending = tokio::select! {
        signal = signals.any() => Ending::Signal(signal),
        () = keep_settings(&mut settings, &mut hangup) => Ending::Broken,
        _deaf = core_ended.recv() => Ending::Broken,
        () = tell_start(&upstreams, &programs, found, &begin, talk) => Ending::Broken,
        () = handed_over => Ending::HandedOver,
    };
    locals.care.send_replace(Care::LastUse);
    let server = settings.loaded.config.server.clone();
    // Copies of the sockets that are about to be closed: while one is held, all stay open, and nobody is refused there.
    let Offer { lock: _lock, origin: _, listening, metrics } = offer;
    drop((listening, metrics));
    match ending {
        Ending::Signal(signal) => drain(signal, server.grace, &stage, &mut core_ended, &mut signals).await,
        Ending::HandedOver => {
            // Two would be in each other's way.
            commands.abort();
            settings.feeds.follow(Vec::new());
            leave(server.handover_grace, &stage, &mut core_ended, &mut signals).await;
        }
        Ending::Broken => tracing::error!("a data-plane thread ended: ending"),
    }
    // Where a core has failed, or is still there, it ends now. The doors close first: nobody shall be sent to a server
    // that is being ended.
    stage.send_modify(Stage::end);
    drop(settings);
    told.abort_all();
    locals.end().await;
    Ok(())
}

/// Why the gate ends.
enum Ending {
    /// Somebody wants it to.
    Signal(&'static str),
    /// Another gate is there in its place.
    HandedOver,
    /// It cannot go on.
    Broken,
}

/// The servers that the gate started by itself.
pub(super) struct Locals {
    pub(super) all: Vec<Started>,
    care: watch::Sender<Care>,
    pub(super) hands: watch::Sender<Hands>,
    running: JoinSet<()>,
}

/// One of them.
pub(super) struct Started {
    pub(super) program: Program,
    pub(super) address: SocketAddr,
    pub(super) held: Held,
}

impl Locals {
    fn start(locals: Vec<Local>) -> Self {
        let (care, cared) = watch::channel(Care::Keep);
        let (hands, handed) = watch::channel(Hands::Own);
        let started = |local: &Local| Started {
            program: local.program().clone(),
            address: local.address(),
            held: local.held(),
        };
        let all = locals.iter().map(started).collect();
        let mut running = JoinSet::new();
        for (place, local) in locals.into_iter().enumerate() {
            running.spawn_local(local.run(place, cared.clone(), handed.clone()));
        }
        Self { all, care, hands, running }
    }

    fn programs(&self) -> Vec<Program> {
        self.all.iter().map(|started| started.program.clone()).collect()
    }

    async fn end(mut self) {
        self.care.send_replace(Care::End);
        while self.running.join_next().await.is_some() {}
    }
}

/// Tells what the first looks found, then waits for ever. The last upstreams are the `programs`.
async fn tell_start(
    upstreams: &Upstreams,
    programs: &[Program],
    mut found: Vec<Latest>,
    begin: &watch::Sender<bool>,
    talk: &mut dyn Write,
) {
    let time = if programs.is_empty() { REPORT_TIME } else { REPORT_TIME_LOCAL };
    first_looks(&mut found, programs.len(), time).await;
    report::upstreams(talk, &upstreams.endpoints, &found, programs, &upstreams.not_yet);
    notify::ready("serving");
    begin.send_replace(true);
    std::future::pending().await
}

/// Waits until the gate is this one's alone: until then nothing can be handed over.
async fn is_ours(before: Option<Voice>, told_start: &mut watch::Receiver<bool>, hand_over: &mut Signal) {
    let Some(before) = before else { return };
    let ours = async {
        let _told = told_start.wait_for(|told| *told).await;
        before.serving();
        before.until_ours().await;
        notify::ready("serving");
    };
    tokio::pin!(ours);
    loop {
        tokio::select! {
            () = &mut ours => return,
            _ = hand_over.recv() => tracing::warn!("SIGUSR2: the gate is being handed over already"),
        }
    }
}

/// Reads the settings anew when somebody asks for it or their file has changed, for ever.
async fn keep_settings(settings: &mut Settings, hangup: &mut Signal) {
    let mut looks = tokio::time::interval(FILE_LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = hangup.recv() => settings.reload_now("SIGHUP"),
            _ = looks.tick() => settings.look(),
        }
    }
}

/// Ends as [`drain`] does, while another gate accepts at the same sockets. The service manager has no longer to do with it.
async fn leave(
    grace: Duration,
    stage: &watch::Sender<Stage>,
    core_ended: &mut mpsc::Receiver<()>,
    signals: &mut Signals,
) {
    tracing::info!("what still runs here has {} to end", gate_config::show_duration(grace));
    stage.send_replace(Stage::Pass);
    end_requests(grace, stage, core_ended, signals).await;
}

/// Lets every request that runs come to its end.
async fn drain(
    signal: &str,
    grace: Duration,
    stage: &watch::Sender<Stage>,
    core_ended: &mut mpsc::Receiver<()>,
    signals: &mut Signals,
) {
    notify::stopping("ending: what runs has its time", grace);
    let again = if signal == INTERRUPT { "Ctrl-C again" } else { "a second signal" };
    tracing::info!(
        "{signal}: listening no more; what runs has {} to end ({again} ends it at once)",
        gate_config::show_duration(grace)
    );
    stage.send_replace(Stage::Drain);
    end_requests(grace, stage, core_ended, signals).await;
}

/// Waits for `grace` at most or until a signal, after the one that there may have been; what still runs then is told so
/// before it is cut.
async fn end_requests(
    grace: Duration,
    stage: &watch::Sender<Stage>,
    core_ended: &mut mpsc::Receiver<()>,
    signals: &mut Signals,
) {
    let all_ended = async { while core_ended.recv().await.is_some() {} };
    tokio::pin!(all_ended);
    let last_words = tokio::select! {
        () = &mut all_ended => return tracing::info!("every request has ended"),
        () = tokio::time::sleep(grace) => {
            tracing::warn!("the time of grace is over: ending what still runs");
            LAST_WORDS
        }
        signal = signals.any() => {
            tracing::warn!("a second signal, {signal}: ending at once");
            LAST_WORDS_AT_ONCE
        }
    };
    stage.send_modify(Stage::cut);
    tokio::select! {
        () = all_ended => {}
        () = tokio::time::sleep(last_words) => {}
        _impatient = signals.any() => {}
    }
}

const INTERRUPT: &str = "SIGINT";

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
            _ = self.interrupt.recv() => INTERRUPT,
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
