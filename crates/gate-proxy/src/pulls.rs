//! The models that are on their way: what the control plane pulls, and how far it is. Requests look here only once no upstream
//! has what they ask for, so that it costs nobody else anything.

use arc_swap::ArcSwap;
use gate_types::{ModelName, UpstreamId};
use gate_wire::{GateError, Reason};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// When a client shall come back that was told of a pull: not at once, and not so late that it misses the end by much.
const SOONEST: Duration = Duration::from_secs(2);
const LATEST: Duration = Duration::from_secs(60);
/// The same while nobody can tell how long it takes.
const USUAL: Duration = Duration::from_secs(10);

/// How it stands with a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pull {
    /// It has not begun: its turn or its upstream is awaited.
    Waiting,
    /// Bytes come.
    Running {
        /// Bytes that are there.
        done: u64,
        /// All bytes, as far as they are known.
        total: u64,
        /// How long it takes yet, where that can be said.
        left: Option<Duration>,
    },
    /// It failed in a way that may pass, and is tried again.
    Again {
        /// Why it failed, for callers.
        why: &'static str,
        /// When it is tried again, from now.
        wait: Duration,
    },
    /// It failed for good.
    Failed {
        /// Why, for callers.
        why: &'static str,
    },
}

/// All pulls that are wanted or under way. A handful at most: told a few times a second, looked at where a model is missing.
#[derive(Debug, Default)]
pub struct Pulls {
    all: ArcSwap<Vec<(UpstreamId, ModelName, Pull)>>,
    /// Those that run now. Whoever writes `all` holds it.
    under_way: Mutex<Vec<Run>>,
}

/// The pulls of one model at one upstream, which several may have asked for.
#[derive(Debug)]
struct Run {
    id: UpstreamId,
    model: ModelName,
    count: usize,
    /// How it stands once the last of them came to nothing; never [`Pull::Running`].
    after: Option<Pull>,
}

/// A pull that is told of while it runs. However it ends, callers are told no longer that it is under way once no other one
/// of the same model is.
#[derive(Debug)]
pub struct UnderWay<'p> {
    pulls: &'p Pulls,
    id: UpstreamId,
    model: &'p ModelName,
}

impl Pulls {
    /// This is how it stands with `model` at upstream `id`, as soon as no pull of it is under way.
    pub fn tell(&self, id: UpstreamId, model: &ModelName, pull: Pull) {
        let mut runs = self.runs();
        match run_of(&mut runs, id, model) {
            Some(run) => run.after = Some(pull),
            None => self.show(id, model, Some(&pull)),
        }
    }

    /// The model is there, or nobody wants it any more but who pulls it now.
    pub fn end(&self, id: UpstreamId, model: &ModelName) {
        let mut runs = self.runs();
        match run_of(&mut runs, id, model) {
            Some(run) => run.after = None,
            None => self.show(id, model, None),
        }
    }

    /// A pull of `model` at upstream `id` begins.
    pub fn begin<'p>(&'p self, id: UpstreamId, model: &'p ModelName) -> UnderWay<'p> {
        let mut runs = self.runs();
        match run_of(&mut runs, id, model) {
            Some(run) => run.count += 1,
            None => {
                let all = self.all.load();
                let known = all.iter().find(|(at, name, _)| *at == id && name == model);
                let after = known.map(|(_, _, pull)| pull.clone());
                runs.push(Run { id, model: model.clone(), count: 1, after });
            }
        }
        UnderWay { pulls: self, id, model }
    }

    fn runs(&self) -> MutexGuard<'_, Vec<Run>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, id: UpstreamId, model: &ModelName, pull: Option<&Pull>) {
        self.all.rcu(|all| {
            let mut all = Vec::clone(all);
            let place = all.iter().position(|(at, name, _)| *at == id && name == model);
            match (place, pull) {
                (Some(place), Some(pull)) => all[place].2 = pull.clone(),
                (Some(place), None) => drop(all.remove(place)),
                (None, Some(pull)) => all.push((id, model.clone(), pull.clone())),
                (None, None) => {}
            }
            Arc::new(all)
        });
    }

    /// How it stands with all of them.
    #[must_use]
    pub fn all(&self) -> Arc<Vec<(UpstreamId, ModelName, Pull)>> {
        self.all.load_full()
    }

    /// What is told of a model that no upstream has, where somebody pulls it or tried to: of several the best news.
    pub(crate) fn told_of(&self, model: &ModelName, as_sent: &str) -> Option<GateError> {
        let all = self.all.load();
        let of_it = all.iter().filter(|(_, name, _)| name == model).map(|(_, _, pull)| pull);
        of_it.max_by_key(|pull| rank(pull)).map(|pull| told(pull, as_sent))
    }
}

fn run_of<'r>(runs: &'r mut [Run], id: UpstreamId, model: &ModelName) -> Option<&'r mut Run> {
    runs.iter_mut().find(|run| run.id == id && run.model == *model)
}

impl UnderWay<'_> {
    /// It is so far.
    pub fn tell(&self, done: u64, total: u64, left: Option<Duration>) {
        let _runs = self.pulls.runs();
        self.pulls.show(self.id, self.model, Some(&Pull::Running { done, total, left }));
    }

    /// The model is there.
    pub fn arrived(self) {
        self.pulls.end(self.id, self.model);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut runs = self.pulls.runs();
        if let Some(run) = run_of(&mut runs, self.id, self.model) {
            run.count -= 1;
            if run.count == 0 {
                self.pulls.show(self.id, self.model, run.after.as_ref());
            }
        }
        runs.retain(|run| run.count > 0);
    }
}

/// How good the news is.
fn rank(pull: &Pull) -> (u8, u64) {
    match pull {
        Pull::Running { done, .. } => (3, *done),
        Pull::Waiting => (2, 0),
        Pull::Again { .. } => (1, 0),
        Pull::Failed { .. } => (0, 0),
    }
}

fn told(pull: &Pull, name: &str) -> GateError {
    let pulling = |text: String, wait: Duration| {
        GateError::new(Reason::ModelPulling).saying(text).again_after(wait.clamp(SOONEST, LATEST))
    };
    match pull {
        Pull::Waiting => {
            pulling(format!("the model '{name}' is about to be pulled; try again in a moment"), USUAL)
        }
        Pull::Running { done, total, left } => {
            let far = match percent(*done, *total) {
                Some(percent) => format!("{percent} % ({} of {} bytes)", done, total),
                None => "it has just begun".to_owned(),
            };
            pulling(
                format!("the model '{name}' is being pulled: {far}; try again later"),
                left.unwrap_or(USUAL),
            )
        }
        Pull::Again { why, wait } => {
            pulling(format!("the model '{name}' is to be pulled, but {why}; it is tried again"), *wait)
        }
        Pull::Failed { why } => GateError::new(Reason::ModelNotFound)
            .saying(format!("model '{name}' not found: it could not be pulled: {why}")),
    }
}

/// The error for a model that has come while an upstream was about to say that it has not got it.
pub(crate) fn arrived(name: &str) -> GateError {
    GateError::new(Reason::ModelPulling)
        .saying(format!("the model '{name}' has just been pulled; try again"))
        .again_after(SOONEST)
}

/// Hundredths, never a hundred before it is over. None while nothing is known.
#[must_use]
pub fn percent(done: u64, total: u64) -> Option<u64> {
    let hundredths = u128::from(done) * 100 / u128::from(total).max(1);
    (total > 0).then(|| u64::try_from(hundredths).unwrap_or(99).min(99))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ModelName {
        ModelName::parse(text).unwrap()
    }

    fn said(pulls: &Pulls) -> Option<(u16, String, Option<u64>)> {
        let told = pulls.told_of(&name("x"), "X")?;
        Some((told.reason.status(), told.public.into_owned(), told.retry_after.map(|wait| wait.as_secs())))
    }

    #[test]
    fn the_best_news_of_all_upstreams_is_told() {
        let (pulls, one, two) = (Pulls::default(), UpstreamId(0), UpstreamId(1));
        assert_eq!(said(&pulls), None);
        pulls.tell(one, &name("x"), Pull::Failed { why: "the disk there is full" });
        pulls.tell(one, &name("y"), Pull::Waiting);
        let text = "model 'X' not found: it could not be pulled: the disk there is full";
        assert_eq!(said(&pulls), Some((404, text.to_owned(), None)));
        let again = Pull::Again { why: "its registry cannot be reached", wait: Duration::from_secs(300) };
        pulls.tell(two, &name("x"), again);
        let text = "the model 'X' is to be pulled, but its registry cannot be reached; it is tried again";
        assert_eq!(said(&pulls), Some((503, text.to_owned(), Some(60))));
        pulls.tell(two, &name("x"), Pull::Waiting);
        assert_eq!(said(&pulls).unwrap().2, Some(10));
        let left = Some(Duration::from_secs(30));
        pulls.tell(one, &name("x"), Pull::Running { done: 5, total: 20, left });
        let text = "the model 'X' is being pulled: 25 % (5 of 20 bytes); try again later";
        assert_eq!(said(&pulls), Some((503, text.to_owned(), Some(30))));
        pulls.end(one, &name("x"));
        pulls.end(two, &name("x"));
        assert_eq!(said(&pulls), None);
        assert_eq!(pulls.all().len(), 1);
    }

    #[test]
    fn what_two_pull_runs_until_both_have_ended_and_then_no_longer() {
        let (pulls, at, model) = (Pulls::default(), UpstreamId(0), name("x"));
        let runs = |done| Pull::Running { done, total: 20, left: None };
        let shown = || pulls.all().first().map(|(_, _, pull)| pull.clone());
        let first = pulls.begin(at, &model);
        first.tell(5, 20, None);
        let second = pulls.begin(at, &model);
        first.arrived();
        assert_eq!(shown(), Some(runs(5)), "the second goes on");
        second.tell(10, 20, None);
        assert_eq!(shown(), Some(runs(10)));
        drop(second);
        assert_eq!(shown(), None, "the second came to nothing");

        pulls.tell(at, &model, Pull::Waiting);
        let (wanted, by_hand) = (pulls.begin(at, &model), pulls.begin(at, &model));
        by_hand.tell(5, 20, None);
        drop(wanted);
        let failed = Pull::Failed { why: "the disk there is full" };
        pulls.tell(at, &model, failed.clone());
        assert_eq!(shown(), Some(runs(5)), "by hand it still runs");
        drop(by_hand);
        assert_eq!(shown(), Some(failed));

        let unwanted = pulls.begin(at, &model);
        unwanted.tell(5, 20, None);
        pulls.end(at, &model);
        drop(unwanted);
        assert_eq!(shown(), None, "nobody wants it any more");
    }

    #[test]
    fn it_is_not_whole_before_it_is_over() {
        assert_eq!(percent(0, 0), None);
        assert_eq!(percent(20, 20), Some(99));
        assert_eq!(percent(u64::MAX, 1), Some(99));
        assert_eq!(percent(u64::MAX / 2, u64::MAX), Some(49));
    }
}
