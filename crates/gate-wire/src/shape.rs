//! What the gate needs to know of each JSON route's body: which fields name the model, and what they mean when absent.
//!
//! Field names and defaults as Ollama v0.24.0 to v0.32.15 reads them. Deciding with it is the reader's job.

/// The body of one route.
#[derive(Debug, PartialEq, Eq)]
pub struct JsonShape {
    /// Where the model's name stands.
    pub naming: Naming,
    /// Whether the answer streams when `stream` is absent or null; `None` where the route reads no such field.
    pub stream: Option<bool>,
    /// What Ollama answers when no model is named.
    pub unnamed: Unnamed,
    /// Whether the route reads `options`.
    pub has_options: bool,
    /// Whether `from` names a second model.
    pub has_from: bool,
}

/// Which fields name the model of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// `model` alone; a `name` beside it is not read.
    Model,
    /// `model`, on Ollama's own routes: `name` is not read, but must not say another model.
    ModelNative,
    /// `model`, or the older `name`.
    ModelOrName,
    /// `source` and `destination`.
    SourceAndDestination,
}

/// What Ollama answers to a call that names no model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unnamed {
    /// 404 `model '' not found`.
    NotFound,
    /// 400 `model is required`.
    Required,
    /// 400 `invalid model name`.
    Invalid,
}

const NATIVE: JsonShape = JsonShape {
    naming: Naming::ModelNative,
    stream: None,
    unnamed: Unnamed::NotFound,
    has_options: true,
    has_from: false,
};

const ALIASED: JsonShape =
    JsonShape { naming: Naming::ModelOrName, unnamed: Unnamed::Invalid, has_options: false, ..NATIVE };

pub(crate) const GENERATE: JsonShape = JsonShape { stream: Some(true), ..NATIVE };
pub(crate) const CHAT: JsonShape = JsonShape { stream: Some(true), unnamed: Unnamed::Required, ..NATIVE };
pub(crate) const EMBED: JsonShape = NATIVE;
pub(crate) const EMBEDDINGS: JsonShape = JsonShape { unnamed: Unnamed::Required, ..NATIVE };
pub(crate) const SHOW: JsonShape = JsonShape { unnamed: Unnamed::Required, has_options: true, ..ALIASED };
pub(crate) const PULL: JsonShape = JsonShape { stream: Some(true), ..ALIASED };
pub(crate) const PUSH: JsonShape = JsonShape { unnamed: Unnamed::Required, ..PULL };
pub(crate) const CREATE: JsonShape = JsonShape { has_from: true, ..PULL };
pub(crate) const COPY: JsonShape = JsonShape { naming: Naming::SourceAndDestination, ..ALIASED };
pub(crate) const DELETE: JsonShape = ALIASED;
pub(crate) const V1: JsonShape = JsonShape {
    naming: Naming::Model,
    stream: Some(false),
    unnamed: Unnamed::Required,
    has_options: false,
    has_from: false,
};
pub(crate) const V1_EMBEDDINGS: JsonShape = JsonShape { stream: None, ..V1 };
