//! What all cores share: keys, rules, what is known of upstreams, and the counts that hold for the whole gate.

use crate::certificate::CertificateWatch;
use crate::crowd::Crowd;
use crate::failures::Failures;
use crate::held::Taken;
use crate::metrics::Metrics;
use crate::pulls::Pulls;
use crate::replay::Replays;
use crate::rules::Rules;
use crate::seldom::Seldom;
use crate::slots::Slots;
use crate::stages::auth::Told;
use crate::store_watch::StoreWatch;
use crate::stubs::Stubs;
use arc_swap::{ArcSwap, Guard};
use gate_keys::KeyRing;
use gate_policy::{FAILURES_UNTIL_EJECTED, Fleet, Grant, Health, Observation, Terms, Upstream, Verdict};
use gate_types::{ModelName, UpstreamId};
use gate_upstream::Roster;
use gate_wire::{GateError, Reason};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;
/// What callers are told while no upstream has ever answered.
#[derive(Debug, Clone)]
pub enum NotYet {
    /// Nothing in particular: the upstreams were named by somebody and cannot be reached.
    Named,
    /// Nothing was found to pass requests to; the text says what was looked for and what to do.
    NothingFound(String),
    /// These the gate started by itself: where none answers, one is still starting, or again.
    Starting(Vec<UpstreamId>),
}

/// What all cores see. No lock in here is held across a wait.
#[derive(Debug)]
pub struct Shared {
    keys: ArcSwap<KeyRing>,
    pub(crate) keys_changed: watch::Sender<()>,
    /// How the store of keys is.
    pub store: StoreWatch,
    /// How the certificate is that clients see.
    pub certificate: Arc<CertificateWatch>,
    /// Models that stand for one elsewhere.
    pub stubs: Stubs,
    /// Models that are on their way.
    pub pulls: Pulls,
    pub(crate) failures: Failures,
    pub(crate) replays: Replays,
    /// Which upstreams were told of that list nonsense, by their ids.
    pub(crate) nonsense: Seldom,
    /// Which keys were told of that came in clear.
    pub(crate) told_clear: Told,
    /// The rules in force.
    pub(crate) rules: ArcSwap<Rules>,
    /// The connections of all clients.
    pub crowd: Crowd,
    pub(crate) held: Taken,
    pub(crate) slots: Slots,
    roster: Arc<Roster>,
    doubted: watch::Sender<()>,
    not_yet: ArcSwap<NotYet>,
    pub(crate) metrics: Metrics,
}

impl Shared {
    /// State for these upstreams, of which nothing is known yet.
    #[must_use]
    pub fn new(keys: KeyRing, rules: Rules, roster: Arc<Roster>, not_yet: NotYet) -> Self {
        let count = u16::try_from(roster.len()).unwrap_or(u16::MAX);
        Self {
            keys: ArcSwap::from_pointee(keys),
            keys_changed: watch::Sender::new(()),
            slots: Slots::new(count, rules.queue),
            rules: ArcSwap::from_pointee(rules),
            store: StoreWatch::default(),
            certificate: Arc::default(),
            stubs: Stubs::default(),
            pulls: Pulls::default(),
            failures: Failures::default(),
            replays: Replays::default(),
            nonsense: Seldom::default(),
            told_clear: Told::default(),
            crowd: Crowd::default(),
            held: Taken::default(),
            roster,
            doubted: watch::Sender::new(()),
            not_yet: ArcSwap::from_pointee(not_yet),
            metrics: Metrics::default(),
        }
    }

    /// The rules in force now.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// Other rules are in force from now on. Requests that are under way keep those they began with, but for the number of
    /// slots, which the upstreams have and not the requests.
    pub fn set_rules(&self, rules: Rules) {
        let slots = rules.queue.slots;
        self.rules.store(Arc::new(rules));
        self.slots.change(|fleet| fleet.set_slots(slots));
    }

    /// Each core looks anew, before its next request, at how upstreams are got at.
    pub fn refresh(&self) {
        // Others of the same words: a core sees by that alone that there is something to look at.
        self.rules.rcu(|rules| Rules::clone(rules));
    }

    /// From now on this holds for these upstreams, and nothing in particular for any other.
    pub fn set_terms(&self, terms: &[(UpstreamId, Terms)]) {
        self.slots.change(|fleet| fleet.set_terms(terms));
    }

    /// From now on requests go to these upstreams alone; those of them that were not among them before are heard of first
    /// by a probe or a request. What is under way elsewhere ends there. `not_yet` is what callers are told until one of
    /// them has answered.
    pub fn follow(&self, upstreams: &[UpstreamId], terms: &[(UpstreamId, Terms)], not_yet: NotYet) {
        self.not_yet.store(Arc::new(not_yet));
        for id in (0..).map(UpstreamId).take(self.roster.len()) {
            if !upstreams.contains(&id) {
                self.stubs.learn(id, &[]);
            }
        }
        self.slots.change(|fleet| {
            fleet.follow(upstreams);
            // In one step: nobody is sent to one that is no Ollama because nothing was said of it yet.
            fleet.set_terms(terms);
        });
    }

    /// The keys as the store last had them.
    #[must_use]
    pub fn keys(&self) -> Guard<Arc<KeyRing>> {
        self.keys.load()
    }

    /// Puts other keys in force, for requests that run too: those whose key is no longer valid end. Returns the keys before.
    pub fn replace_keys(&self, keys: KeyRing) -> Arc<KeyRing> {
        let before = self.keys.swap(Arc::new(keys));
        self.keys_changed.send_replace(());
        before
    }

    /// The error for callers while no upstream has ever answered, or none does and one is being started; none where there is
    /// nothing to explain.
    pub(crate) fn none_yet(&self) -> Option<GateError> {
        let is_any = |fits: fn(&Upstream) -> bool| {
            self.with_fleet(|fleet| fleet.ollamas().any(|(_, upstream)| fits(upstream)))
        };
        match &**self.not_yet.load() {
            NotYet::NothingFound(hint) if !is_any(|upstream| upstream.version().is_some()) => {
                Some(GateError::new(Reason::NoUpstream).saying(hint.clone()))
            }
            NotYet::Starting(_) if !is_any(|upstream| upstream.health() == Health::Up) => {
                Some(GateError::new(Reason::Loading))
            }
            NotYet::Named | NotYet::NothingFound(_) | NotYet::Starting(_) => None,
        }
    }

    /// Whether the gate started this upstream by itself, and so starts it again where it ends.
    pub(crate) fn has_started(&self, id: UpstreamId) -> bool {
        matches!(&**self.not_yet.load(), NotYet::Starting(started) if started.contains(&id))
    }

    /// The models that a key may use, of all upstreams, each once, in order of name. Under the lock they are only copied.
    pub(crate) fn models(&self, may_use: impl Fn(&ModelName) -> bool) -> Vec<ModelName> {
        let mut names: Vec<ModelName> = self
            .with_fleet(|fleet| fleet.iter().flat_map(|(_, upstream)| upstream.models()).cloned().collect());
        names.retain(may_use);
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether a list of any upstream names the model.
    pub(crate) fn lists(&self, model: &ModelName) -> bool {
        self.with_fleet(|fleet| fleet.iter().any(|(_, upstream)| upstream.lists(model)))
    }

    /// What was known of an upstream was wrong: whoever probes shall look again now rather than at the next turn.
    pub fn doubt(&self) {
        self.doubted.send_replace(());
    }

    /// For a prober: changes whenever a request found that what is known of the upstreams is out of date. A doubt that came
    /// up during a probe is not lost.
    #[must_use]
    pub fn doubts(&self) -> watch::Receiver<()> {
        self.doubted.subscribe()
    }

    /// Bytes of request bodies that are in memory, up to a few hundred KiB per core too many.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.bytes()
    }

    /// Takes in what was seen of an upstream. Requests that waited for that are called.
    pub fn observe(&self, id: UpstreamId, seen: Observation) {
        let now = Instant::now().into_std();
        self.slots.change(|fleet| {
            fleet.apply(id, seen);
            fleet.review(id, now);
        });
    }

    /// A request that ran a model failed, by the fault of its upstream, or of this model there alone.
    pub(crate) fn failed(&self, grant: &Grant, model: Option<&ModelName>) {
        let (id, before, now) = (grant.id, grant.begun.failures, Instant::now().into_std());
        if self.slots.judge(|fleet| fleet.failed(id, model, before, now)) == Verdict::Ejected {
            let what = model.map(|model| format!(" for {model}")).unwrap_or_default();
            let name = self.upstream_name(id);
            tracing::warn!(
                "{name} failed {FAILURES_UNTIL_EJECTED} times in a row{what}: it is asked last now"
            );
        }
    }

    /// A request that ran a model was served.
    pub(crate) fn served(&self, id: UpstreamId, model: Option<&ModelName>) {
        if self.slots.judge(|fleet| fleet.served(id, model)) == Verdict::Readmitted {
            let what = model.map(|model| format!(" for {model}")).unwrap_or_default();
            tracing::info!("{} serves again{what}: it is asked as usual", self.upstream_name(id));
        }
    }

    /// Reads the fleet. Keep `read` short: requests of all cores wait for it.
    pub fn with_fleet<T>(&self, read: impl FnOnce(&Fleet) -> T) -> T {
        self.slots.with_fleet(read)
    }

    /// How many requests wait for a slot.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.slots.waiting()
    }

    /// How logs, records and metrics call an upstream: its name, or its URL where it has none.
    #[must_use]
    pub fn upstream_name(&self, id: UpstreamId) -> &str {
        self.roster.get(id).map_or("an upstream of other settings", |endpoint| endpoint.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gate_upstream::Endpoint;

    fn told(not_yet: NotYet) -> (Option<Reason>, Option<Reason>) {
        let rules = Rules::for_tests(&[], &[]);
        let roster = Arc::new(Endpoint::new(false, "up", 11434, "").into_iter().collect());
        let shared = Shared::new(KeyRing::default(), rules, roster, not_yet);
        let before = shared.none_yet().map(|error| error.reason);
        let probed = Observation::Probed { version: "0.32.15".to_owned(), models: None, loaded: None };
        shared.observe(UpstreamId(0), probed);
        shared.observe(UpstreamId(0), Observation::ConnectFailed);
        (before, shared.none_yet().map(|error| error.reason))
    }

    #[test]
    fn why_nothing_answers_is_told_until_something_did() {
        assert_eq!(told(NotYet::Named), (None, None));
        // One that ended is started again.
        let starting = NotYet::Starting(vec![UpstreamId(0)]);
        assert_eq!(told(starting), (Some(Reason::Loading), Some(Reason::Loading)));
        assert_eq!(told(NotYet::NothingFound("install it".to_owned())), (Some(Reason::NoUpstream), None));
    }
}
