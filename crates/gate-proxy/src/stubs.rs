//! The models that only stand for one elsewhere: asked for one, an upstream passes the prompt on to another host, at the
//! operator's cost. Which they are, upstreams say in their lists; a probe brings it here, requests only look.

use arc_swap::ArcSwap;
use gate_types::{ModelName, UpstreamId};
use std::sync::Arc;

/// What all upstreams listed as standing for a model elsewhere.
#[derive(Debug, Default)]
pub struct Stubs {
    known: ArcSwap<Known>,
}

/// Canonical names: what an upstream has under one name leaves the machine or not, however the client spells it. What says by
/// itself that it does, `x:cloud`, is another model than `x`.
#[derive(Debug, Clone, Default)]
struct Known {
    /// By upstream.
    of: Vec<Box<[Box<str>]>>,
    /// Of all, in order.
    all: Box<[Box<str>]>,
    /// Those that answer, and whose list could not be read when it was last asked for.
    unread: Vec<UpstreamId>,
}

impl Stubs {
    /// Upstream `id` lists these, and no others.
    pub fn learn(&self, id: UpstreamId, names: &[ModelName]) {
        let mut names: Box<[Box<str>]> = names.iter().map(|name| name.short().into()).collect();
        names.sort_unstable();
        let known = self.known.load();
        if known.of.get(id.index()).map_or(&[][..], |of| of) == &*names && !known.unread.contains(&id) {
            return;
        }
        self.known.rcu(|known| {
            let unread = known.unread.iter().copied().filter(|other| *other != id).collect();
            let mut of = known.of.clone();
            if of.len() <= id.index() {
                of.resize(id.index() + 1, Box::default());
            }
            of[id.index()].clone_from(&names);
            let mut all: Vec<Box<str>> = of.iter().flatten().cloned().collect();
            all.sort_unstable();
            all.dedup();
            Arc::new(Known { of, all: all.into(), unread })
        });
    }

    /// Upstream `id` answers, and its list cannot be read: what it listed before still counts, and of what it did not list
    /// nothing is known.
    pub fn lose(&self, id: UpstreamId) {
        if self.known.load().unread.contains(&id) {
            return;
        }
        self.known.rcu(|known| {
            let mut known = Known::clone(known);
            known.unread.push(id);
            Arc::new(known)
        });
    }

    /// Whether a model that no upstream lists may stand for one elsewhere without anybody knowing.
    pub(crate) fn are_unsure(&self) -> bool {
        !self.known.load().unread.is_empty()
    }

    /// Whether any upstream lists `model` as standing for one elsewhere.
    #[must_use]
    pub fn has(&self, model: &ModelName) -> bool {
        let known = self.known.load();
        !known.all.is_empty() && known.all.binary_search_by(|name| (**name).cmp(model.short())).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[&str]) -> Vec<ModelName> {
        texts.iter().map(|text| ModelName::parse_stored(text).unwrap()).collect()
    }

    #[test]
    fn what_any_upstream_lists_is_known_until_none_does() {
        let stubs = Stubs::default();
        let has = |text: &str| stubs.has(&ModelName::parse(text).unwrap());
        assert!(!has("mine"));
        stubs.learn(UpstreamId(3), &names(&["mine", "gpt-oss:120b-cloud"]));
        stubs.learn(UpstreamId(0), &names(&["mine"]));
        for spelling in ["mine", "MINE:latest", "mine:local", "gpt-oss:120b-cloud", "gpt-oss:120b:cloud"] {
            assert!(has(spelling), "{spelling}");
        }
        assert!(!has("mine:8b"));
        stubs.learn(UpstreamId(3), &[]);
        assert!(has("mine") && !has("gpt-oss:120b-cloud"));
        stubs.learn(UpstreamId(0), &[]);
        assert!(!has("mine"));
    }

    #[test]
    fn a_list_that_cannot_be_read_keeps_what_was_known_and_leaves_the_rest_open() {
        let stubs = Stubs::default();
        stubs.learn(UpstreamId(1), &names(&["mine"]));
        assert!(!stubs.are_unsure());
        for _ in 0..2 {
            stubs.lose(UpstreamId(1));
            assert!(stubs.are_unsure() && stubs.has(&ModelName::parse("mine").unwrap()));
        }
        stubs.learn(UpstreamId(0), &[]);
        assert!(stubs.are_unsure(), "another one's list says nothing about it");
        stubs.learn(UpstreamId(1), &names(&["mine"]));
        assert!(!stubs.are_unsure());
    }

    #[test]
    fn one_that_says_so_does_not_close_the_one_here() {
        let stubs = Stubs::default();
        stubs.learn(UpstreamId(0), &names(&["x:cloud", "y:1b-cloud", "z:local"]));
        for here in ["x", "x:latest", "x:local", "y", "y:1b", "z", "z:local"] {
            assert!(!stubs.has(&ModelName::parse(here).unwrap()), "{here}");
        }
    }
}
