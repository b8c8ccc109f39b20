//! Models that were pulled and that no list has named yet. An answer or a list that was asked for before the pull ended lacks
//! what it brought; this is what keeps such a one from being believed, for two looks at the upstream and no longer.

use gate_types::ModelName;

/// So many looks that do not find it may have begun before it came: the one under way, and no other.
const LOOKS: u8 = 1;

/// What an upstream got since it was listed; one entry a model.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrived(Vec<(ModelName, u8)>);

impl Arrived {
    /// It is there from now on.
    pub(crate) fn add(&mut self, model: ModelName) {
        self.remove(&model);
        self.0.push((model, 0));
    }

    /// A list came; gives what it lacks and may lack, because it was asked for before.
    pub(crate) fn listed(&mut self, list: &[ModelName]) -> Vec<ModelName> {
        self.0.retain(|(model, looks)| *looks < LOOKS && !list.contains(model));
        self.looked();
        self.0.iter().map(|(model, _)| model.clone()).collect()
    }

    /// A look that brought no list.
    pub(crate) fn looked(&mut self) {
        self.0.iter_mut().for_each(|(_, looks)| *looks = looks.saturating_add(1));
    }

    /// Whether an answer that knows nothing of it may be from before.
    pub(crate) fn is_new(&self, model: &ModelName) -> bool {
        self.0.iter().any(|(name, looks)| name == model && *looks <= LOOKS)
    }

    /// Whether no list has named it yet.
    pub(crate) fn has(&self, model: &ModelName) -> bool {
        self.0.iter().any(|(name, _)| name == model)
    }

    pub(crate) fn remove(&mut self, model: &ModelName) {
        self.0.retain(|(name, _)| name != model);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
