//! The models that are on their way: what the control plane pulls, and how far it is. Requests look here only once no upstream
//! has what they ask for, so that it costs nobody else anything.

use arc_swap::ArcSwap;
use gate_types::{ModelName, UpstreamId};
use gate_wire::{GateError, Reason};
use std::sync::Arc;
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
}

impl Pulls {
    /// This is how it stands with `model` at upstream `id`.
    pub fn tell(&self, id: UpstreamId, model: &ModelName, pull: Pull) {
        self.all.rcu(|all| {
            let mut all = Vec::clone(all);
            match all.iter_mut().find(|(at, name, _)| *at == id && name == model) {
                Some((_, _, known)) => *known = pull.clone(),
                None => all.push((id, model.clone(), pull.clone())),
            }
            Arc::new(all)
        });
    }

    /// The model is there, or nobody wants it any more.
    pub fn end(&self, id: UpstreamId, model: &ModelName) {
        self.all.rcu(|all| {
            let others = all.iter().filter(|(at, name, _)| *at != id || name != model);
            Arc::new(others.cloned().collect::<Vec<_>>())
        });
    }

    /// How it stands with `model` at upstream `id`.
    #[must_use]
    pub fn of(&self, id: UpstreamId, model: &ModelName) -> Option<Pull> {
        let all = self.all.load();
        all.iter().find(|(at, name, _)| *at == id && name == model).map(|(_, _, pull)| pull.clone())
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
    fn it_is_not_whole_before_it_is_over() {
        assert_eq!(percent(0, 0), None);
        assert_eq!(percent(20, 20), Some(99));
        assert_eq!(percent(u64::MAX, 1), Some(99));
        assert_eq!(percent(u64::MAX / 2, u64::MAX), Some(49));
    }
}
