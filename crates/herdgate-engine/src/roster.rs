//! The models that this engine has: their names, which are loaded, and for how long.
//!
//! One load at a time; a model stays loaded for its keep-alive after its last request. Everything that a request may
//! do to a model goes through a [`Lease`], which gives it back when dropped.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gate_types::ModelName;
use jiff::Timestamp;
use llama_cpp_2::llama_backend::LlamaBackend;
use tokio::sync::Notify;

use crate::file::Facts;
use crate::file::trial::Verdict;
use crate::llama::{self, Loaded, Settings};
use crate::options::{DEFAULT_KEEP_ALIVE, KeepAlive};

/// One model file.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its name, from the file's.
    pub(crate) name: ModelName,
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// What its header says.
    pub(crate) facts: Facts,
    /// The file's time.
    pub(crate) modified: Timestamp,
    /// What its last trial found.
    verdict: Mutex<Option<Verdict>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    loaded: Option<Arc<Loaded>>,
    keep: Option<KeepAlive>,
    /// When the last lease was given back.
    idle_since: Option<Instant>,
    leases: usize,
}

impl State {
    fn keep(&self) -> KeepAlive {
        self.keep.unwrap_or(DEFAULT_KEEP_ALIVE)
    }

    /// When it may be unloaded; `None`: not by time.
    fn expires(&self) -> Option<Instant> {
        match self.keep() {
            KeepAlive::For(time) => self.idle_since.unwrap_or_else(Instant::now).checked_add(time),
            KeepAlive::Forever => None,
        }
    }

    fn is_expired(&self) -> bool {
        self.loaded.is_some() && self.leases == 0 && self.expires().is_some_and(|at| at <= Instant::now())
    }
}

/// A loaded model as `/api/ps` shows it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) entry: Arc<Entry>,
    pub(crate) size: u64,
    pub(crate) context: usize,
    /// From now; `None` for ever.
    pub(crate) remaining: Option<Duration>,
}

/// All models. Shared by all handlers.
#[derive(Debug)]
pub(crate) struct Roster {
    entries: Vec<Arc<Entry>>,
    settings: Settings,
    backend: Arc<LlamaBackend>,
    /// Held while a model loads.
    loading: Arc<tokio::sync::Mutex<()>>,
    /// Rung when an expiry may have changed.
    pub(crate) changed: Arc<Notify>,
}

/// The use of a loaded model. While it lives the model stays.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) entry: Arc<Entry>,
    pub(crate) loaded: Arc<Loaded>,
    changed: Arc<Notify>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.entry.state();
        state.leases = state.leases.saturating_sub(1);
        state.idle_since = Some(Instant::now());
        self.changed.notify_one();
    }
}

impl Entry {
    /// Reads a file's header and names the model after the file.
    ///
    /// # Errors
    /// What is wrong, with the path.
    pub(crate) fn open(path: &Path) -> Result<Entry, String> {
        let shown = path.display();
        let facts = Facts::read(path).map_err(|e| format!("{shown}: {e}"))?;
        let modified =
            path.metadata().and_then(|about| about.modified()).map_err(|e| format!("{shown}: {e}"))?;
        let modified = Timestamp::try_from(modified).unwrap_or_default();
        let name = name_of(path).ok_or_else(|| format!("{shown}: the file's name makes no model name"))?;
        let (verdict, state) = Default::default();
        Ok(Entry { name, path: path.to_owned(), facts, modified, verdict, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lease(self: &Arc<Self>, keep: Option<KeepAlive>, changed: &Arc<Notify>) -> Option<Lease> {
        let mut state = self.state();
        // A runner whose thread died is as good as none.
        let loaded = state.loaded.clone().filter(|loaded| !loaded.runner.has_ended())?;
        state.keep = keep.or(state.keep);
        state.leases += 1;
        drop(state);
        Some(Lease { entry: Arc::clone(self), loaded, changed: Arc::clone(changed) })
    }

    /// Runs the trial, unless its verdict on the file as it is now is known.
    ///
    /// # Errors
    /// The verdict, with the path.
    pub(crate) fn try_once(&self) -> Result<(), String> {
        if let Some(known) = self.known_verdict() {
            return known;
        }
        // The lock is not held meanwhile: a trial takes minutes at worst, and requests look at the verdict.
        let reached = Verdict::reach(&self.path);
        let outcome = reached.outcome().clone();
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(reached);
        outcome.map_err(|reason| self.told(&reason))
    }

    fn known_verdict(&self) -> Option<Result<(), String>> {
        let verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        let known = verdict.as_ref().filter(|verdict| verdict.holds_for(&self.path))?.outcome().clone();
        Some(known.map_err(|reason| self.told(&reason)))
    }

    fn told(&self, reason: &str) -> String {
        format!("{}: {reason}", self.path.display())
    }
}

impl Roster {
    pub(crate) fn new(entries: Vec<Entry>, settings: Settings, backend: LlamaBackend) -> Roster {
        Roster {
            entries: entries.into_iter().map(Arc::new).collect(),
            settings,
            backend: Arc::new(backend),
            loading: Arc::default(),
            changed: Arc::default(),
        }
    }

    /// All models, newest file first.
    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        let mut all = self.entries.clone();
        all.sort_by(|a, b| b.modified.as_second().cmp(&a.modified.as_second()).then(a.name.cmp(&b.name)));
        all
    }

    /// The model that any spelling names.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Entry>> {
        let name = ModelName::parse(name).ok()?;
        self.entries.iter().find(|entry| entry.name.short() == name.short()).cloned()
    }

    /// The loaded models, those that stay longest first.
    pub(crate) fn running(&self) -> Vec<Running> {
        let mut all: Vec<Running> = self.entries.iter().filter_map(running).collect();
        all.sort_by_key(|running| std::cmp::Reverse(running.remaining.unwrap_or(Duration::MAX)));
        all
    }

    /// Takes a lease, loading the model if need be. A load goes on when its caller leaves.
    ///
    /// # Errors
    /// Why it cannot be loaded.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        keep: Option<KeepAlive>,
    ) -> Result<Lease, String> {
        if let Some(answer) = self.at_hand(entry, keep) {
            return answer;
        }
        let loading = Arc::clone(&self.loading).lock_owned().await;
        if let Some(answer) = self.at_hand(entry, keep) {
            return answer;
        }
        let (roster, wanted) = (Arc::clone(self), Arc::clone(entry));
        let load = tokio::task::spawn_blocking(move || {
            let _loading = loading;
            roster.load(&wanted, keep)
        });
        load.await.unwrap_or_else(|e| Err(format!("the load ended: {e}")))
    }

    /// What can be answered without a load: the model is there, or its file is known to be bad. Asking for a bad file
    /// again must neither wait for other loads nor hold them up.
    fn at_hand(&self, entry: &Arc<Entry>, keep: Option<KeepAlive>) -> Option<Result<Lease, String>> {
        let bad = || entry.known_verdict()?.err().map(Err);
        entry.lease(keep, &self.changed).map(Ok).or_else(bad)
    }

    /// Loads now, on this thread.
    fn load(&self, entry: &Arc<Entry>, keep: Option<KeepAlive>) -> Result<Lease, String> {
        let began = Instant::now();
        let limits = self.settings.limits(&entry.facts);
        let needed = llama::needs(&entry.facts, limits);
        let mut room = llama::check_memory(needed);
        while room.is_err() && self.unload_longest_idle() {
            room = llama::check_memory(needed);
        }
        room?;
        entry.try_once()?;
        let loaded = llama::load(&self.backend, &entry.path, &entry.facts, limits)
            .map_err(|reason| entry.told(&reason))?;
        tracing::info!(model = %entry.name, seconds = began.elapsed().as_secs_f64(), "loaded");
        let mut state = entry.state();
        state.loaded = Some(Arc::new(loaded));
        state.keep = keep;
        state.idle_since = Some(Instant::now());
        drop(state);
        entry.lease(keep, &self.changed).ok_or_else(|| "the model ended at once".into())
    }

    /// Unloads a model as soon as nobody uses it.
    pub(crate) fn expire(&self, entry: &Entry) {
        entry.state().keep = Some(KeepAlive::For(Duration::ZERO));
        self.changed.notify_one();
    }

    /// Unloads models whose time is over, for as long as the engine lives.
    pub(crate) async fn unload_in_time(self: Arc<Self>) {
        loop {
            for entry in self.entries.iter().filter(|entry| entry.state().is_expired()) {
                let entry = Arc::clone(entry);
                let unloading = tokio::task::spawn_blocking(move || unload(&entry, State::is_expired));
                if let Err(error) = unloading.await {
                    tracing::error!(%error, "unloading failed");
                }
            }
            let next = self.entries.iter().filter_map(|entry| {
                let state = entry.state();
                (state.loaded.is_some() && state.leases == 0).then(|| state.expires()).flatten()
            });
            match next.min() {
                Some(at) => drop(tokio::time::timeout_at(at.into(), self.changed.notified()).await),
                None => self.changed.notified().await,
            }
        }
    }

    fn unload_longest_idle(&self) -> bool {
        let idle = |state: &State| state.loaded.is_some() && state.leases == 0;
        let candidates = self.entries.iter().filter(|entry| idle(&entry.state()));
        let longest = candidates.min_by_key(|entry| entry.state().idle_since);
        longest.is_some_and(|entry| unload(entry, idle))
    }

    /// Ends all models' threads and waits for them, leases or not: a thread that still computes while the process ends
    /// would find llama.cpp's globals gone.
    pub(crate) fn stop(&self) {
        let loaded: Vec<_> = self.entries.iter().filter_map(|entry| entry.state().loaded.take()).collect();
        loaded.iter().for_each(|loaded| loaded.runner.end());
        loaded.iter().for_each(|loaded| loaded.runner.stop());
    }
}

fn running(entry: &Arc<Entry>) -> Option<Running> {
    let state = entry.state();
    let loaded = state.loaded.as_ref().filter(|loaded| !loaded.runner.has_ended())?;
    let remaining = match state.keep() {
        KeepAlive::Forever => None,
        KeepAlive::For(time) if state.leases > 0 => Some(time),
        KeepAlive::For(_) => state.expires().map(|at| at.saturating_duration_since(Instant::now())),
    };
    let (size, context) = (loaded.size, loaded.limits.context);
    Some(Running { entry: Arc::clone(entry), size, context, remaining })
}

fn unload(entry: &Entry, still: impl Fn(&State) -> bool) -> bool {
    let mut state = entry.state();
    if !still(&state) {
        return false;
    }
    let Some(loaded) = state.loaded.take() else { return false };
    state.keep = None;
    drop(state);
    match Arc::try_unwrap(loaded) {
        Ok(loaded) => loaded.runner.stop(),
        // A lease still lives; its drop ends the thread.
        Err(shared) => shared.runner.end(),
    }
    tracing::info!(model = %entry.name, "unloaded");
    true
}

/// `Herdgate Demo.gguf` is `herdgate-demo:latest`.
fn name_of(path: &Path) -> Option<ModelName> {
    let stem = path.file_stem()?.to_str()?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let clean: String = stem.chars().map(|c| if allowed(c) { c } else { '-' }).take(80).collect();
    ModelName::parse(clean.trim_start_matches(['-', '.'])).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_named_after_its_file() {
        for (file, name) in [
            ("/x/herdgate-demo.gguf", "herdgate-demo:latest"),
            ("Qwen3-0.6B-Q4_K_M.gguf", "qwen3-0.6b-q4_k_m:latest"),
            ("My Model (v2).gguf", "my-model--v2-:latest"),
            (".hidden.gguf", "hidden:latest"),
        ] {
            assert_eq!(name_of(Path::new(file)).unwrap().short(), name);
        }
        assert_eq!(name_of(Path::new("---")), None);
    }
}
