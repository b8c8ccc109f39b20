//! Looks at each upstream again and again, and tells the fleet what it saw. Requests never wait for it.

use gate_policy::Observation;
use gate_proxy::Shared;
use gate_types::{ModelName, UpstreamId};
use gate_upstream::Client;
use gate_upstream::probe::{ModelEntry, Probe, probe};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

/// How often an upstream that never answered yet is looked at, and for how long so often: one that is just starting must
/// not be found five seconds late.
const EAGER: Duration = Duration::from_millis(200);
const EAGER_FOR: Duration = Duration::from_secs(60);
/// No two looks are nearer than this, however often somebody asks for one.
const LEAST: Duration = Duration::from_millis(200);

/// What the latest look found; `None` before the first.
pub(crate) type Latest = watch::Receiver<Option<Arc<Probe>>>;

/// The probers of all upstreams that are in use, one task each.
pub(super) struct Probers {
    client: Rc<Client>,
    shared: Arc<Shared>,
    interval: watch::Sender<Duration>,
    running: BTreeMap<UpstreamId, Running>,
    tasks: JoinSet<()>,
    /// Those of the start are told of by its report; whatever comes later is told of here.
    has_begun: bool,
}

/// The prober of one upstream. Whoever reads what it finds hears of it for as long as the upstream is in use.
struct Running {
    found: Rc<watch::Sender<Option<Arc<Probe>>>>,
    task: AbortHandle,
}

impl Probers {
    /// None yet.
    pub(super) fn new(client: Rc<Client>, shared: Arc<Shared>, interval: Duration) -> Self {
        let interval = watch::Sender::new(interval);
        Self { client, shared, interval, running: BTreeMap::new(), tasks: JoinSet::new(), has_begun: false }
    }

    /// Looks at these upstreams from now on, and at no others.
    pub(super) fn follow(&mut self, upstreams: &[UpstreamId]) {
        self.running.retain(|id, running| {
            let stays = upstreams.contains(id);
            if !stays {
                running.task.abort();
            }
            stays
        });
        while self.tasks.try_join_next().is_some() {}
        for id in upstreams {
            if !self.running.contains_key(id) {
                self.begin(*id, Rc::new(watch::Sender::new(None)));
            }
        }
        self.has_begun = true;
    }

    fn begin(&mut self, id: UpstreamId, found: Rc<watch::Sender<Option<Arc<Probe>>>>) {
        let latest = Rc::clone(&found);
        let (client, shared) = (Rc::clone(&self.client), Arc::clone(&self.shared));
        let look = run(client, id, shared, self.interval.subscribe(), latest, self.has_begun);
        let task = self.tasks.spawn_local(look);
        self.running.insert(id, Running { found, task });
    }

    /// Looks at these at once, and tells what it finds: they are got at otherwise than before.
    pub(super) fn look_anew(&mut self, upstreams: &[UpstreamId]) {
        for id in upstreams {
            if let Some(Running { found, task }) = self.running.remove(id) {
                task.abort();
                self.begin(*id, found);
            }
        }
    }

    /// Looks so often, and bounds connecting by so much.
    pub(super) fn set_times(&self, interval: Duration, connect: Duration) {
        self.interval.send_if_modified(|now| std::mem::replace(now, interval) != interval);
        self.client.set_connect(connect);
        self.client.refresh();
    }

    /// What the latest look at each of these found.
    pub(super) fn latest(&self, upstreams: &[UpstreamId]) -> Vec<Latest> {
        let of = |id| {
            let mut latest = self.running.get(id)?.found.subscribe();
            // What was found before somebody listened is news to them.
            latest.mark_changed();
            Some(latest)
        };
        upstreams.iter().filter_map(of).collect()
    }
}

/// Looks for ever, and tells of every change; of what the first look found only where nobody else does.
async fn run(
    client: Rc<Client>,
    id: UpstreamId,
    shared: Arc<Shared>,
    mut interval: watch::Receiver<Duration>,
    latest: Rc<watch::Sender<Option<Arc<Probe>>>>,
    tells_first: bool,
) {
    let begun = Instant::now();
    let mut was_up: Option<bool> = None;
    let mut listed = true;
    let mut doubts = shared.doubts();
    loop {
        doubts.mark_unchanged();
        let found = Arc::new(probe(&client, id).await);
        // What leaves the machine is known before anybody is sent to it.
        match &found.models {
            Ok(models) => shared.stubs.learn(id, &stubs(models)),
            Err(_) if found.version.is_ok() => shared.stubs.lose(id),
            Err(_) => {}
        }
        shared.observe(id, observation(&found));
        let is_up = found.version.is_ok();
        let lists = found.models.is_ok() || !is_up;
        if (was_up != Some(is_up) || listed != lists) && (was_up.is_some() || tells_first) {
            tell(shared.upstream_name(id), &found);
        }
        let never_up = was_up != Some(true) && !is_up;
        (was_up, listed) = (Some(is_up), lists);
        // Nobody listening any more is no reason to stop looking.
        let _unread = latest.send_replace(Some(found));
        let usual = *interval.borrow_and_update();
        let wait = if never_up && begun.elapsed() < EAGER_FOR { EAGER.min(usual) } else { usual };
        tokio::time::sleep(LEAST.min(wait)).await;
        tokio::select! {
            () = tokio::time::sleep(wait.saturating_sub(LEAST)) => {}
            // The sender lives as long as `shared` does.
            _doubted = doubts.changed() => {}
            _other = interval.changed() => {}
        }
    }
}

fn observation(found: &Probe) -> Observation {
    match &found.version {
        Ok(version) => Observation::Probed {
            version: version.clone(),
            models: names(&found.models, |model| &model.name),
            loaded: names(&found.loaded, |name| name),
        },
        Err(_) => Observation::ProbeFailed,
    }
}

/// The names in a list; `None` if it could not be had. A name that this gate cannot read cannot be asked for through it
/// either.
fn names<T, E>(listed: &Result<Vec<T>, E>, name: impl Fn(&T) -> &str) -> Option<Vec<ModelName>> {
    let listed = listed.as_ref().ok()?;
    Some(listed.iter().filter_map(|entry| ModelName::parse_stored(name(entry)).ok()).collect())
}

/// Those that only stand for a model elsewhere.
fn stubs(models: &[ModelEntry]) -> Vec<ModelName> {
    models
        .iter()
        .filter(|model| model.is_stub)
        .filter_map(|model| ModelName::parse_stored(&model.name).ok())
        .collect()
}

fn tell(name: &str, found: &Probe) {
    match &found.version {
        Ok(version) => match &found.models {
            Ok(models) => tracing::info!("{name} is up: version {version}, {} models", models.len()),
            Err(reason) => tracing::warn!("{name} is up: version {version}, but lists no models: {reason}"),
        },
        Err(reason) => tracing::warn!("{name} is down: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_failed_is_not_an_empty_one() {
        let names = |listed: Result<Vec<&str>, ()>| names(&listed, |name| name);
        assert_eq!(names(Err(())), None);
        assert_eq!(names(Ok(vec![])), Some(vec![]));
        assert_eq!(names(Ok(vec!["demo", "no name"])), Some(vec![ModelName::parse("demo").unwrap()]));
    }

    #[test]
    fn a_tag_in_a_list_is_a_tag() {
        let listed =
            |name: &str| ModelEntry { name: name.into(), size: 0, digest: String::new(), is_stub: true };
        let stubs = stubs(&[listed("x:cloud"), listed("y:local"), listed("z:latest"), listed("no name")]);
        let short: Vec<_> = stubs.iter().map(ModelName::short).collect();
        assert_eq!(short, ["x:cloud", "y:local", "z:latest"]);
    }
}
