//! Looks at one upstream again and again, and tells the fleet what it saw. Requests never wait for it.

use gate_policy::Observation;
use gate_proxy::Shared;
use gate_types::{ModelName, UpstreamId};
use gate_upstream::Client;
use gate_upstream::probe::{Probe, probe};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often an upstream that never answered yet is looked at, and for how long so often: one that is just starting must
/// not be found five seconds late.
const EAGER: Duration = Duration::from_millis(200);
const EAGER_FOR: Duration = Duration::from_secs(60);
/// No two looks are nearer than this, however often somebody asks for one.
const LEAST: Duration = Duration::from_millis(200);

/// What the latest look found; `None` before the first.
pub(crate) type Latest = watch::Receiver<Option<Arc<Probe>>>;

/// Looks for ever.
pub(crate) async fn run(
    client: std::rc::Rc<Client>,
    id: UpstreamId,
    shared: Arc<Shared>,
    interval: Duration,
    latest: watch::Sender<Option<Arc<Probe>>>,
) {
    let begun = Instant::now();
    let mut was_up: Option<bool> = None;
    let mut doubts = shared.doubts();
    loop {
        doubts.mark_unchanged();
        let found = Arc::new(probe(&client, id).await);
        shared.observe(id, observation(&found));
        let is_up = found.version.is_ok();
        if was_up != Some(is_up) && was_up.is_some() {
            tell(shared.upstream_name(id), &found);
        }
        let never_up = was_up != Some(true) && !is_up;
        was_up = Some(is_up);
        // Nobody listening any more is no reason to stop looking.
        let _unread = latest.send_replace(Some(found));
        let wait = if never_up && begun.elapsed() < EAGER_FOR { EAGER.min(interval) } else { interval };
        tokio::time::sleep(LEAST.min(wait)).await;
        tokio::select! {
            () = tokio::time::sleep(wait.saturating_sub(LEAST)) => {}
            // The sender lives as long as `shared` does.
            _doubted = doubts.changed() => {}
        }
    }
}

fn observation(found: &Probe) -> Observation {
    match &found.version {
        Ok(version) => Observation::Probed {
            version: version.clone(),
            models: names(found.models.iter().flatten().map(|model| model.name.as_str())),
            loaded: names(found.loaded.iter().flatten().map(String::as_str)),
        },
        Err(_) => Observation::ProbeFailed,
    }
}

/// A name that this gate cannot read cannot be asked for through it either.
fn names<'a>(listed: impl Iterator<Item = &'a str>) -> Vec<ModelName> {
    listed.filter_map(|name| ModelName::parse(name).ok()).collect()
}

fn tell(name: &str, found: &Probe) {
    match &found.version {
        Ok(version) => tracing::info!(
            "{name} is up: version {version}, {} models",
            found.models.as_ref().map_or(0, Vec::len)
        ),
        Err(reason) => tracing::warn!("{name} is down: {reason}"),
    }
}
