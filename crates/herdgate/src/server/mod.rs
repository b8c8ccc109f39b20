//! Builds everything from a [`Config`], listens, and owns all background work until a signal ends it.
//!
//! Order matters: what can fail for good (store, keys, sockets) comes first; only then is anything started.

mod access;
mod acme;
mod admin;
mod bind;
mod callers;
mod control;
mod core;
mod core_dumps;
mod descriptors;
mod ending;
mod entrances;
mod expiry;
mod first_key;
mod handover;
mod holder;
mod keys;
mod leave;
mod local;
mod memory;
mod metrics;
mod neighbourhood;
mod netlink;
mod notify;
mod own_ca;
mod own_made;
mod prober;
mod pulls;
mod reload;
mod report;
mod rules;
mod store;
mod strangers;
mod tls;
mod upstreams;

pub(crate) use access::roster;
pub(crate) use admin::ShortSocket;
pub(crate) use handover::{Handed, foster};
pub(crate) use reload::Stamp;
pub(crate) use tls::examine as examine_tls;

use anyhow::{Context as _, anyhow};
use gate_config::{Config, Flags, Loaded};
use gate_keys::{KeyRing, State};
use gate_proxy::Shared;
use gate_upstream::Roster;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Settings, and what they are to be read from anew while they are in use.
pub(crate) struct Given {
    pub(crate) loaded: Loaded,
    pub(crate) flags: Flags,
    /// The settings file as it was before it was read.
    pub(crate) file: Option<Stamp>,
    /// What a gate that runs hands over to this one.
    pub(crate) handed: Option<Handed>,
}

/// Serves until SIGINT or SIGTERM, and ends when the last request has.
///
/// # Errors
/// What keeps the gate from starting: the data directory, the database, a taken port.
pub(crate) fn run(given: Given, data: &Path, talk: &mut dyn Write) -> anyhow::Result<()> {
    let Given { loaded, flags, file, handed } = given;
    let origin = handover::Origin::of_this().context("cannot tell which program this is")?;
    let (mut taken, before) = match handed {
        Some(Handed { taken, voice }) => (taken, Some(voice)),
        None => (handover::Taken::default(), None),
    };
    let config = &loaded.config;
    core_dumps::turn_off();
    memory::settle();
    let operator = admin::Operator::new()?;
    let Opened { bound, metrics, certificate, store, upstreams } =
        Opened::new(config, data, &operator, &mut taken)?;
    let store::Begun { keeper, ring, first, lock } = store;
    let (shared, roster) = shared(config, ring, &upstreams, certificate.as_ref())?;
    let keeper = keeper.start(Arc::clone(&shared));
    let keeper = keeper.context("cannot start the thread that watches the keys")?;
    let offer = handover::Offer::of(origin, &bound, metrics.as_ref(), lock);
    let offer = offer.context("no descriptors for a hand-over")?;
    let doors: Vec<_> = bound.iter().map(|bound| report::Door::of(bound, config)).collect();
    let speaking = certificate.as_ref().map(tls::Certificate::speaking);
    let (entrances, unkeyed) = entrances::doors(bound, config, speaking.as_ref(), threads(config))?;
    if let Some(before) = &before {
        let locals: Vec<u64> = upstreams.locals.iter().filter_map(local::Local::place_before).collect();
        before.ready(&locals);
    }
    // What was not taken is not needed: sockets of addresses that the settings no longer name.
    drop(taken);
    let (stage, staged) = watch::channel(core::Stage::Serve);
    let (ended, all_ended) = mpsc::channel(1);
    let plan = core::Plan {
        shared: Arc::clone(&shared),
        roster: Arc::clone(&roster),
        tls: upstreams.tls.clone(),
        stage: staged,
        ended: ended.clone(),
    };
    let (cores, pulses) = core::start_all(entrances, &plan).context("cannot start a data-plane thread")?;
    // Only who serves holds what tells of the end: the cores, and the admin socket.
    drop(plan);
    tell(talk, &shared, &doors, metrics.as_ref(), certificate.as_ref(), first.as_ref());
    let data = data.to_owned();
    let duties = control::Duties {
        shared,
        roster,
        metrics,
        upstreams,
        certificate,
        unkeyed,
        data,
        operator,
        loaded,
        flags,
        file,
        pulses,
    };
    let outcome =
        control::run(keeper, duties, control::Ends { stage, offer, before, ended, all_ended }, talk);
    for core in cores {
        core.join()
            .map_err(|_panic| anyhow!("a data-plane thread panicked"))?
            .context("a data-plane thread failed")?;
    }
    outcome
}

/// What can fail for good, and has not.
struct Opened {
    bound: Vec<bind::Bound>,
    metrics: Option<bind::Bound>,
    certificate: Option<tls::Certificate>,
    store: store::Begun,
    upstreams: upstreams::Upstreams,
}

impl Opened {
    fn new(
        config: &Config,
        data: &Path,
        operator: &admin::Operator,
        taken: &mut handover::Taken,
    ) -> anyhow::Result<Self> {
        let outside = keys::Outside::of(config)?.with_operator(operator.key());
        let bound = bind::all(&config.listen, threads(config), taken)?;
        let metrics = config.metrics.address.map(|door| bind::metrics(&door, taken)).transpose()?;
        // Before the store: it looks through the whole directory, which takes locks away from an open database.
        let certificate = tls::Certificate::begin(&config.tls, data)?;
        let store = store::begin(data, outside, taken.lock())?;
        let upstreams = upstreams::decide(config, data, taken)?;
        if upstreams.endpoints.iter().any(gate_upstream::Endpoint::is_tls) {
            upstreams.tls.config().context("an upstream is https")?;
        }
        Ok(Self { bound, metrics, certificate, store, upstreams })
    }
}

/// What all cores share, with these settings in force.
fn shared(
    config: &Config,
    ring: KeyRing,
    upstreams: &upstreams::Upstreams,
    certificate: Option<&tls::Certificate>,
) -> anyhow::Result<(Arc<Shared>, Arc<Roster>)> {
    let roster: Arc<Roster> = Arc::new(upstreams.endpoints.iter().cloned().collect());
    let named = config.upstreams_given.then(|| access::ready(config, None)).transpose()?;
    let named = access::Enrolled::on(&roster, named.unwrap_or_default())?;
    access::warn_of_open_files(&config.upstreams);
    let rules = rules::rules(config, &named)?;
    let mut shared = Shared::new(ring, rules, Arc::clone(&roster), upstreams.not_yet.clone());
    shared.certificate = certificate.map(tls::Certificate::watch).unwrap_or_default();
    shared.set_terms(&named.terms());
    named.put_in_force(&roster);
    Ok((Arc::new(shared), roster))
}

/// Tells whoever has started the gate where it listens, whom to trust, and the first key.
fn tell(
    talk: &mut dyn Write,
    shared: &Shared,
    doors: &[report::Door],
    metrics: Option<&bind::Bound>,
    certificate: Option<&tls::Certificate>,
    first: Option<&first_key::FirstKey>,
) {
    report::listening(talk, doors, metrics.map(|door| door.address), |name| {
        let (keys, now) = (shared.keys(), gate_proxy::unix_now());
        keys.iter().any(|key| {
            key.name.as_str() == name && matches!(key.state(now), State::Active | State::Overlapping)
        })
    });
    let own_ca = certificate.and_then(tls::Certificate::own_ca);
    let authority = certificate.and_then(tls::Certificate::authority);
    report::trust(talk, own_ca, authority);
    report::first_key(talk, first, own_ca, authority, doors);
}

/// The error with the line that says what to do about it.
fn with_hint(error: gate_keys::StoreError) -> anyhow::Error {
    match error.hint() {
        Some(hint) => anyhow!("{error}\nhint: {hint}"),
        // Its reason holds what the layer below said.
        None => anyhow!("{error}"),
    }
}

fn threads(config: &Config) -> usize {
    let cpus = || std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    config.server.threads.map_or_else(cpus, usize::from)
}
