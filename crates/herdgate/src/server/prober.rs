//! Looks at each upstream again and again, and tells the fleet what it saw. Requests never wait for it.

use gate_policy::{Fleet, Observation, holes, mended_by};
use gate_proxy::Shared;
use gate_types::{ModelName, UpstreamId};
use gate_upstream::Client;
use gate_upstream::probe::{ModelEntry, Probe, probe, reach};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
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

/// How often somebody hears again that an upstream may lead back. Whoever is behind it decides whether it looks so.
const TOLD_AGAIN: Duration = Duration::from_secs(3600);

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
    warned: Warned,
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
                self.begin(*id, Rc::new(watch::Sender::new(None)), Warned::default());
            }
        }
        self.has_begun = true;
    }

    fn begin(&mut self, id: UpstreamId, found: Rc<watch::Sender<Option<Arc<Probe>>>>, warned: Warned) {
        let look = Look {
            client: Rc::clone(&self.client),
            id,
            shared: Arc::clone(&self.shared),
            interval: self.interval.subscribe(),
            latest: Rc::clone(&found),
            warned: warned.clone(),
        };
        let task = self.tasks.spawn_local(look.run(self.has_begun));
        self.running.insert(id, Running { found, warned, task });
    }

    /// Looks at these at once, and tells what it finds: they are got at otherwise than before.
    pub(super) fn look_anew(&mut self, upstreams: &[UpstreamId]) {
        for id in upstreams {
            if let Some(Running { found, warned, task }) = self.running.remove(id) {
                task.abort();
                self.begin(*id, found, warned);
            }
        }
    }

    /// Looks so often from now on, gives connections so long to stand, and gets at upstreams as the settings say now.
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

/// What looks at one upstream.
struct Look {
    client: Rc<Client>,
    id: UpstreamId,
    shared: Arc<Shared>,
    interval: watch::Receiver<Duration>,
    latest: Rc<watch::Sender<Option<Arc<Probe>>>>,
    warned: Warned,
}

impl Look {
    /// Looks for ever, and tells of every change; of what the first look found only where nobody else does.
    async fn run(mut self, tells_first: bool) {
        let begun = Instant::now();
        let mut was: Option<State> = None;
        let mut caution = Caution::default();
        let mut suspected: Option<Instant> = None;
        let mut doubts = self.shared.doubts();
        loop {
            doubts.mark_unchanged();
            let found = self.look().await;
            let refused = caution.refuses(found.leads_back, any_number);
            let found = Arc::new(if refused { Probe::leading_back() } else { found });
            self.learn(&found);
            let state = State::of(&found);
            if was != Some(state) && (was.is_some() || tells_first || state == State::Refused) {
                tell(self.shared.upstream_name(self.id), &found);
            }
            if found.may_lead_back && suspected.is_none_or(|told| told.elapsed() >= TOLD_AGAIN) {
                suspected = Some(Instant::now());
                tell_suspicion(self.shared.upstream_name(self.id));
            }
            if let Ok(version) = &found.version
                && self.warned.is_new(version)
            {
                warn_of_holes(self.shared.upstream_name(self.id), version);
            }
            let never_up = !matches!(was, Some(State::Up { .. })) && state == State::Down;
            was = Some(state);
            // Nobody listening any more is no reason to stop looking.
            let _unread = self.latest.send_replace(Some(found));
            let usual = *self.interval.borrow_and_update();
            let wait = if never_up && begun.elapsed() < EAGER_FOR { EAGER.min(usual) } else { usual };
            tokio::time::sleep(LEAST.min(wait)).await;
            tokio::select! {
                () = tokio::time::sleep(wait.saturating_sub(LEAST)) => {}
                // The sender lives as long as `shared` does.
                _doubted = doubts.changed() => {}
                _other = self.interval.changed() => {}
            }
        }
    }

    async fn look(&self) -> Probe {
        // Asked each time: another word in the settings makes it the other.
        let terms = |fleet: &Fleet| {
            fleet.get(self.id).map_or((true, false), |known| (known.is_ollama(), known.may_hang_up()))
        };
        match self.shared.with_fleet(terms) {
            (true, _) => probe(&self.client, self.id).await,
            (false, may_hang_up) => reach(&self.client, self.id, may_hang_up).await,
        }
    }

    fn learn(&self, found: &Probe) {
        // What leaves the machine is known before anybody is sent to it.
        match &found.models {
            Ok(models) => self.shared.stubs.learn(self.id, &stubs(models)),
            Err(_) if found.is_other => self.shared.stubs.learn(self.id, &[]),
            Err(_) if found.version.is_ok() => self.shared.stubs.lose(self.id),
            Err(_) => {}
        }
        self.shared.observe(self.id, observation(found));
    }
}

/// The versions of one upstream that were looked up already, however often it is looked at anew; the last few, for nobody shall
/// fill a list by calling itself something else each time.
#[derive(Debug, Default, Clone)]
struct Warned(Rc<RefCell<VecDeque<String>>>);

impl Warned {
    const MOST: usize = 8;

    fn is_new(&self, version: &str) -> bool {
        let mut known = self.0.borrow_mut();
        if known.iter().any(|one| one == version) {
            return false;
        }
        if known.len() == Self::MOST {
            known.pop_front();
        }
        known.push_back(version.to_owned());
        true
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
            Err(_) if found.is_other => State::Up { lists: true },
            Err(_) if found.leads_back => State::Refused,
            Err(_) => State::Down,
        }
    }
}

/// How long one that led back is refused still, in looks that found it sound: where several stand behind one address, a look may
/// meet one that does not lead back. Chance has a say, so that it keeps no step with a proxy that takes them in turn.
#[derive(Debug, Default)]
struct Caution {
    left: u64,
}

impl Caution {
    const LEAST: u64 = 2;
    const SPREAD: u64 = 4;

    /// Whether it is refused after this look.
    fn refuses(&mut self, leads_back: bool, chance: impl FnOnce() -> u64) -> bool {
        if leads_back {
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

fn observation(found: &Probe) -> Observation {
    if found.leads_back {
        return Observation::Looped;
    }
    if found.is_other {
        return Observation::Reached;
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
        Err(_) if found.is_other => tracing::info!("{name} is up"),
        Err(reason) if found.leads_back => tracing::error!(
            "{name} is refused: {reason}; nothing is sent there: take it out of the settings, here or there"
        ),
        Err(reason) => tracing::warn!("{name} is down: {reason}"),
    }
}

/// A gate that leads back is no reason not to use what else it has: what comes back is refused at its first turn. And somebody
/// behind it may only pretend.
fn tell_suspicion(name: &str) {
    tracing::warn!(
        "{name} may lead back to this gate: a listing that it was asked for came back from it, or from something behind it; it \
         stays in use, and what comes back is refused. Take this gate out of the settings of the gates behind it"
    );
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
            assert!(!caution.refuses(false, || chance));
            assert!(caution.refuses(true, || chance));
            let sound = (1..=9).find(|_| !caution.refuses(false, || chance)).unwrap();
            assert!((2..=5).contains(&sound), "{sound}");
            assert!(!caution.refuses(false, || chance), "and then it is");
        }
    }

    #[test]
    fn a_version_is_new_once() {
        let warned = Warned::default();
        assert!(warned.is_new("0.17.0") && warned.is_new("0.35.0"));
        let anew = warned.clone();
        assert!(!anew.is_new("0.17.0") && !anew.is_new("0.35.0"), "another token makes it no other version");
        assert!((0..99).all(|n| anew.is_new(&n.to_string())));
        assert_eq!(warned.0.borrow().len(), Warned::MOST);
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
