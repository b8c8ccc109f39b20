//! Looks at each upstream again and again, and tells the fleet what it saw. Requests never wait for it.

use gate_policy::{Health, Observation, holes, mended_by};
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
    let mut was: Option<State> = None;
    // The version that was looked up last.
    let mut named: Option<String> = None;
    let mut caution = Caution::default();
    let mut doubts = shared.doubts();
    loop {
        doubts.mark_unchanged();
        let found = probe(&client, id).await;
        let refused = caution.refuses(found.leads_back, is_refused(&shared, id), any_number);
        let found = Arc::new(if refused { Probe::leading_back() } else { found });
        // What leaves the machine is known before anybody is sent to it.
        match &found.models {
            Ok(models) => shared.stubs.learn(id, &stubs(models)),
            Err(_) if found.version.is_ok() => shared.stubs.lose(id),
            Err(_) => {}
        }
        shared.observe(id, observation(&found));
        let state = State::of(&found);
        if was != Some(state) && (was.is_some() || tells_first || state == State::Refused) {
            tell(shared.upstream_name(id), &found);
        }
        if let Ok(version) = &found.version
            && named.as_ref() != Some(version)
        {
            named = Some(version.clone());
            warn_of_holes(shared.upstream_name(id), version);
        }
        let never_up = !matches!(was, Some(State::Up { .. })) && state == State::Down;
        was = Some(state);
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

/// What is told of, once each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up {
        lists: bool,
    },
    Down,
    /// It leads back to this gate.
    Refused,
}

impl State {
    fn of(found: &Probe) -> Self {
        match &found.version {
            Ok(_) => State::Up { lists: found.models.is_ok() },
            Err(_) if found.leads_back => State::Refused,
            Err(_) => State::Down,
        }
    }
}

/// How long one that led back is refused still, in looks that found it sound. Two gates that lead to each other would else find
/// each other sound at the same moment, because each refuses the other, and be a loop again at the next: so chance has a say.
#[derive(Debug, Default)]
struct Caution {
    left: u64,
}

impl Caution {
    const LEAST: u64 = 2;
    const SPREAD: u64 = 4;

    /// Whether it is refused after this look; `was_refused` where a request found out that it leads back, or an earlier look.
    fn refuses(&mut self, leads_back: bool, was_refused: bool, chance: impl FnOnce() -> u64) -> bool {
        if leads_back || (was_refused && self.left == 0) {
            self.left = Self::LEAST + chance() % Self::SPREAD;
            return true;
        }
        self.left = self.left.saturating_sub(1);
        self.left > 0
    }
}

fn any_number() -> u64 {
    getrandom::u64().unwrap_or_default()
}

fn is_refused(shared: &Shared, id: UpstreamId) -> bool {
    shared.with_fleet(|fleet| fleet.get(id).is_some_and(|upstream| upstream.health() == Health::Loop))
}

fn observation(found: &Probe) -> Observation {
    if found.leads_back {
        return Observation::Looped;
    }
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
        Err(reason) if found.leads_back => tracing::error!(
            "{name} is refused: {reason}; nothing is sent there: take it out of the settings, here or there"
        ),
        Err(reason) => tracing::warn!("{name} is down: {reason}"),
    }
}

/// Names of holes that one line holds.
const HOLES_SHOWN: usize = 3;

/// Tells what is known against a version, and which one mends it.
fn warn_of_holes(name: &str, version: &str) {
    let holes = holes(version);
    let Some(mended) = mended_by(version).filter(|_| !holes.is_empty()) else { return };
    let ids: Vec<&str> = holes.iter().take(HOLES_SHOWN).map(|hole| hole.id).collect();
    let more = match holes.len().saturating_sub(HOLES_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let ids = ids.join(", ");
    tracing::warn!(
        "{name} runs Ollama {version}, which has known holes ({ids}{more}): Ollama {mended} has none of them"
    );
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
    fn one_that_led_back_is_believed_after_some_sound_looks() {
        for chance in 0..9 {
            let mut caution = Caution::default();
            assert!(!caution.refuses(false, false, || chance));
            assert!(caution.refuses(true, false, || chance));
            let sound = (1..=9).find(|_| !caution.refuses(false, true, || chance)).unwrap();
            assert!((2..=5).contains(&sound), "{sound}");
            assert!(!caution.refuses(false, false, || chance), "and then it is");
            assert!(caution.refuses(false, true, || chance), "a request came back");
        }
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
