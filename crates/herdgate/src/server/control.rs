//! The control plane: probes, the supervised local server, keys, signals. One runtime of its own, on the main thread; no
//! request ever waits for it.

use super::admin::{Admin, Operator};
use super::bind::Bound;
use super::core::{Pulse, Stage};
use super::ending::{Ending, Signals};
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
}

/// How the gate ends, or is handed over.
pub(super) struct Ends {
    /// Ends the data plane, step by step.
    pub(super) stage: watch::Sender<Stage>,
    /// What a fresh start of the program would get.
    pub(super) offer: Offer,
    /// The gate that this one takes over from.
    pub(super) before: Option<Voice>,
    /// Held by whoever serves, until it has ended.
    pub(super) ended: mpsc::Sender<()>,
    /// Tells when a data-plane thread has ended, for whatever reason; closed once all who serve have.
    pub(super) all_ended: mpsc::Receiver<()>,
}

/// Runs until SIGINT or SIGTERM and until the last request has ended, then ends everything it started.
pub(super) fn run(
    keeper: keys::Running,
    duties: Duties,
    ends: Ends,
    talk: &mut dyn Write,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let keys::Running { tell, thread } = keeper;
    // The thread ends when what it hears from is dropped.
    let outcome = LocalSet::new().block_on(&runtime, watch_over(duties, ends, Keys::new(tell), talk));
    thread.join().map_err(|_panic| anyhow::anyhow!("the thread that watches the keys panicked"))?;
    outcome
}

async fn watch_over(mut duties: Duties, ends: Ends, keys: Keys, talk: &mut dyn Write) -> anyhow::Result<()> {
    let Ends { stage, offer, before, ended, mut all_ended } = ends;
    let mut signals = Signals::listen()?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let mut hand_over = signal(SignalKind::user_defined2()).context("cannot wait for SIGUSR2")?;
    let locals = Locals::start(std::mem::take(&mut duties.upstreams.locals));
    let programs = locals.programs();
    let begin = watch::Sender::new(false);
    let renews = watch::Sender::new(before.is_none());
    let is_first = before.is_none();
    let mut tasks = JoinSet::new();
    let signs =
        Signs { stage: stage.subscribe(), begin: begin.subscribe(), renews: renews.subscribe(), ended };
    let Begun { mut settings, upstreams, found } = start(duties, keys, &programs, signs, &mut tasks);
    let mut told_start = begin.subscribe();
    let handed_over = async {
        is_ours(before, &mut told_start, &mut hand_over).await;
        renews.send_replace(true);
        offer.until_taken(&locals, &renews, &mut hand_over).await;
    };
    let ending = tokio::select! {
        signal = signals.any() => Ending::Signal(signal),
        () = keep_settings(&mut settings, &mut hangup) => Ending::Broken,
        _deaf = all_ended.recv() => Ending::Broken,
        () = tell_start(&upstreams, &programs, (found, is_first), &begin, talk) => Ending::Broken,
        () = handed_over => Ending::HandedOver,
    };
    locals.care.send_replace(Care::LastUse);
    let _lock = offer.close();
    if let Ending::HandedOver = ending {
        // Two would be in each other's way.
        settings.feeds.follow(Vec::new());
    }
    let server = settings.loaded.config.server.clone();
    ending.serve_to_the_end(&server, &stage, &mut all_ended, &mut signals).await;
    // Where a core has failed, or is still there, it ends now. The doors close first: nobody shall be sent to a server
    // that is being ended.
    stage.send_modify(Stage::end);
    drop(settings);
    tasks.abort_all();
    locals.end().await;
    Ok(())
}

/// What the tasks of the control plane are told by, and tell by.
struct Signs {
    stage: watch::Receiver<Stage>,
    /// The start has been told of.
    begin: watch::Receiver<bool>,
    /// Certificates are this gate's to ask for, and the service manager is its to tell.
    renews: watch::Receiver<bool>,
    ended: mpsc::Sender<()>,
}

/// What is under way, and what the start is told from.
struct Begun {
    settings: Settings,
    upstreams: Upstreams,
    found: Vec<Latest>,
}

/// Starts everything that goes on beside the data plane. The last upstreams are the `programs`.
fn start(duties: Duties, keys: Keys, programs: &[Program], signs: Signs, tasks: &mut JoinSet<()>) -> Begun {
    let Duties { shared, roster, upstreams, mut certificate, loaded, operator, .. } = duties;
    if let Some(bound) = duties.metrics {
        let names = loaded.config.metrics.names.clone();
        tasks.spawn_local(metrics::serve(bound, Arc::clone(&shared), names, signs.stage.clone()));
    }
    let (pulses, mut ours) = (duties.pulses, signs.renews.clone());
    tasks.spawn_local(async move {
        // The service manager hears the gate before this one, which leaves last.
        if ours.wait_for(|ours| *ours).await.is_ok() {
            notify::show_life(pulses).await;
        }
    });
    if let Some(acme) = certificate.as_mut().and_then(Certificate::task) {
        tasks.spawn_local(acme.keep(signs.renews));
    }
    let limits = ClientLimits { connect: loaded.config.timeouts.connect, ..ClientLimits::default() };
    let client = Rc::new(Client::of(Arc::clone(&roster), upstreams.tls.clone(), limits));
    let all: Vec<_> = (0..).map(UpstreamId).take(roster.len()).collect();
    let interval = loaded.config.fleet.probe_interval;
    let mut probers = Probers::new(Rc::clone(&client), Arc::clone(&shared), interval);
    probers.follow(&all);
    let found = probers.latest(&all);
    let (named, started) = all.split_at(all.len() - programs.len());
    let is_ollama = |(_, program): &(&UpstreamId, &Program)| matches!(program, Program::Ollama(_));
    let ollamas = started.iter().zip(programs).filter(is_ollama);
    let ollamas: Vec<UpstreamId> = ollamas.map(|(id, _)| *id).collect();
    let puller = Puller { shared: Arc::clone(&shared), client };
    let feeds = Feeds::new(puller.clone(), signs.begin);
    let operators_key = operator.key();
    let admin = Admin::new(puller, Arc::clone(&roster), ollamas.clone(), operator, signs.stage);
    tasks.spawn_local(admin.serve(duties.data, signs.ended));
    let mut settings = Settings {
        flags: duties.flags,
        first: loaded.clone(),
        upstream_files: Looks::new(Some(stamps(&loaded.config))),
        loaded,
        shared,
        roster,
        tls: upstreams.tls.clone(),
        probers,
        started: started.to_vec(),
        ollamas,
        named: named.to_vec(),
        feeds,
        operator: operators_key,
        file: Looks::new(duties.file),
        certificate,
        unkeyed: duties.unkeyed,
        keys,
    };
    let config = settings.loaded.config.clone();
    settings.feed(&config);
    Begun { settings, upstreams, found }
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

/// Tells what the first looks found, then waits for ever; the service manager, too, where no gate came before this one. The last
/// upstreams are the `programs`.
async fn tell_start(
    upstreams: &Upstreams,
    programs: &[Program],
    (mut found, is_first): (Vec<Latest>, bool),
    begin: &watch::Sender<bool>,
    talk: &mut dyn Write,
) {
    let time = if programs.is_empty() { REPORT_TIME } else { REPORT_TIME_LOCAL };
    first_looks(&mut found, programs.len(), time).await;
    report::upstreams(talk, &upstreams.endpoints, &found, programs, &upstreams.not_yet);
    if is_first {
        notify::ready("serving");
    }
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
