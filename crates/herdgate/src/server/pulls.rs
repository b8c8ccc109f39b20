//! Feeds upstreams: what the settings want them to have and they lack is pulled in the background, one model after the other
//! at each upstream. Callers who ask for it meanwhile are told how far it is ([`gate_proxy::Pulls`]).
//!
//! What may pass is tried again with growing pauses. What somebody must mend (a wrong name, a full disk) is said once and left
//! alone until the settings change or somebody asks for the pull.

mod stream;
mod trouble;

pub(super) use trouble::{Cause, Trouble};

use super::prober::Latest;
use crate::bars::Bar;
use crate::progress::{Line, Progress};
use gate_policy::Observation;
use gate_proxy::{Pull, Shared, percent};
use gate_types::{ModelName, UpstreamId};
use gate_upstream::Client;
use gate_upstream::probe::Probe;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};

/// First pause before what may pass is tried again; doubled each time up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// How often a log is told how far it is.
const LINE_TIME: Duration = Duration::from_secs(10);
/// How often callers hear something new.
const TELL_TIME: Duration = Duration::from_millis(200);

/// What somebody wants an upstream to have.
pub(super) type Wanted = Vec<(UpstreamId, Latest, ModelName)>;

/// What every pull needs.
#[derive(Clone)]
pub(super) struct Puller {
    pub(super) shared: Arc<Shared>,
    pub(super) client: Rc<Client>,
}

impl Puller {
    /// Pulls a model, telling callers of the gate and whoever else wants to know how far it is. However it ends, callers are
    /// told no longer that it is under way.
    pub(super) async fn pull(
        &self,
        id: UpstreamId,
        model: &ModelName,
        mut tell: impl FnMut(&Line, &Progress),
    ) -> Result<Progress, Trouble> {
        let mut progress = Progress::begin(Instant::now());
        let under_way = self.shared.pulls.begin(id, model);
        let mut last: Option<(Instant, Option<u64>)> = None;
        stream::pull(&self.client, id, model, |line| {
            let now = Instant::now();
            progress.add(line, now);
            let (done, total, left) = (progress.done(), progress.total(), progress.left());
            let percent = percent(done, total);
            // What stands still shall not stand still a step behind.
            if last.is_none_or(|(then, told)| told != percent || now.duration_since(then) >= TELL_TIME) {
                last = Some((now, percent));
                under_way.tell(done, total, left);
            }
            tell(line, &progress);
        })
        .await?;
        // Requests shall know where to go before they are told no longer that it is on its way.
        self.shared.observe(id, Observation::ModelThere(model.clone()));
        self.shared.doubt();
        under_way.arrived();
        Ok(progress)
    }
}

/// The background pulls, a task for each model of each upstream.
pub(super) struct Feeds {
    puller: Puller,
    running: BTreeMap<(UpstreamId, ModelName), Feed>,
    turns: BTreeMap<UpstreamId, Rc<Semaphore>>,
    /// Nothing begins before the start has been told of.
    may_begin: watch::Receiver<bool>,
    tasks: JoinSet<()>,
}

struct Feed {
    task: AbortHandle,
    has_failed: Rc<Cell<bool>>,
}

impl Feeds {
    /// None yet.
    pub(super) fn new(puller: Puller, may_begin: watch::Receiver<bool>) -> Self {
        Self { puller, running: BTreeMap::new(), turns: BTreeMap::new(), may_begin, tasks: JoinSet::new() }
    }

    /// Wants these from now on, and no others. What had failed is tried once more.
    pub(super) fn follow(&mut self, wanted: Wanted) {
        while self.tasks.try_join_next().is_some() {}
        let pulls = &self.puller.shared.pulls;
        self.running.retain(|(id, model), feed| {
            let is_wanted = wanted.iter().any(|(at, _, name)| at == id && name == model);
            let stays = is_wanted && !feed.has_failed.get();
            if !stays {
                feed.task.abort();
                pulls.end(*id, model);
            }
            stays
        });
        for (id, latest, model) in wanted {
            if self.running.contains_key(&(id, model.clone())) {
                continue;
            }
            pulls.tell(id, &model, Pull::Waiting);
            let turn = Rc::clone(self.turns.entry(id).or_insert_with(|| Rc::new(Semaphore::new(1))));
            let has_failed = Rc::new(Cell::new(false));
            let one = One { puller: self.puller.clone(), id, model: model.clone(), latest, turn };
            let (may_begin, failed) = (self.may_begin.clone(), Rc::clone(&has_failed));
            let task = self.tasks.spawn_local(async move { failed.set(!one.feed(may_begin).await) });
            self.running.insert((id, model), Feed { task, has_failed });
        }
    }
}

/// One model for one upstream.
struct One {
    puller: Puller,
    id: UpstreamId,
    model: ModelName,
    latest: Latest,
    turn: Rc<Semaphore>,
}

impl One {
    /// Sees to it that the upstream has the model; false where that needs somebody's help.
    async fn feed(mut self, mut may_begin: watch::Receiver<bool>) -> bool {
        let (line, mut pause, mut said) = (Rc::clone(&self.turn), FIRST_PAUSE, None);
        loop {
            // In line before anything else is waited for: models come in the order in which the settings name them.
            let Ok(turn) = line.acquire().await else { return false };
            drop(may_begin.wait_for(|may| *may).await);
            if self.is_listed().await {
                self.puller.shared.pulls.end(self.id, &self.model);
                return true;
            }
            let trouble = match self.pull(said.is_none()).await {
                Ok(()) => return true,
                Err(trouble) => trouble,
            };
            drop(turn);
            let cause = trouble.cause;
            if !cause.may_pass() {
                self.say(&trouble, "It is not tried again until the settings change or somebody runs it.");
                self.puller.shared.pulls.tell(self.id, &self.model, Pull::Failed { why: cause.public() });
                return false;
            }
            // Once: it is the same trouble each time.
            if said.replace(cause) != Some(cause) {
                self.say(&trouble, "It is tried again, with longer and longer pauses.");
            }
            let again = Pull::Again { why: cause.public(), wait: pause };
            self.puller.shared.pulls.tell(self.id, &self.model, again);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn say(&self, trouble: &Trouble, then: &str) {
        let (at, model) = (self.puller.shared.upstream_name(self.id), &self.model);
        let cure = trouble.cause.cure(model);
        tracing::error!(
            "cannot pull {model} at {at}: {trouble}  hint: {cure}. {then} By hand: herdgate pull {model}"
        );
    }

    /// Waits until the upstream lists its models, and looks for this one.
    async fn is_listed(&mut self) -> bool {
        let lists = |probe: &Option<Arc<Probe>>| probe.as_ref().is_some_and(|probe| probe.models.is_ok());
        match self.latest.wait_for(lists).await {
            Ok(latest) => latest.as_deref().is_some_and(|probe| has(probe, &self.model)),
            // Nobody looks at it any more: this task is about to be ended.
            Err(_gone) => std::future::pending().await,
        }
    }

    /// One try, told of as it goes.
    async fn pull(&self, is_first: bool) -> Result<(), Trouble> {
        let (at, model) = (self.puller.shared.upstream_name(self.id).to_owned(), self.model.clone());
        let bar = Bar::begin(&format!("pulling {model}"));
        // The others were told of with the trouble that made them needed.
        if is_first {
            tracing::info!("pulling {model} at {at}");
        }
        let mut last = Instant::now();
        let progress = self.puller.pull(self.id, &self.model, |_line, progress| {
            if let Some(bar) = &bar {
                bar.show(progress);
            } else if last.elapsed() >= LINE_TIME {
                last = Instant::now();
                tracing::info!("pulling {model} at {at}: {}", progress.words());
            }
        });
        let progress = progress.await?;
        drop(bar);
        tracing::info!("pulled {model} at {at}: {}", progress.summary(Instant::now()));
        Ok(())
    }
}

fn has(probe: &Probe, model: &ModelName) -> bool {
    let models = probe.models.as_deref().unwrap_or_default();
    models.iter().any(|entry| ModelName::parse_stored(&entry.name).as_ref() == Ok(model))
}
