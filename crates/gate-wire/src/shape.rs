//! What the gate needs to know of each JSON route's body: which fields name the model, and what they mean when absent.
//!
//! Field names and defaults as Ollama v0.24.0 to v0.32.15 reads them. Deciding with it is the reader's job.

use crate::called::Reading;

/// The body of one route.
#[derive(Debug, PartialEq, Eq)]
pub struct JsonShape {
    /// Where the model's name stands.
    pub naming: Naming,
    /// How Ollama reads it there.
    pub reading: Reading,
    /// Whether the answer streams when `stream` is absent or null; `None` where the route reads no such field.
    pub stream: Option<bool>,
    /// What Ollama answers when no model is named.
    pub unnamed: Unnamed,
    /// Whether the route reads `options`.
    pub has_options: bool,
    /// Whether `from` names a second model.
    pub has_from: bool,
    /// Which fields it reads that a policy may look at.
    pub also: Also,
}

/// The fields of a route that ask for something that not every key may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Also {
    /// None.
    Nothing,
    /// `_debug_render_only`, and the types of `tools`.
    Rendering,
    /// `verbose`.
    Verbose,
    /// `insecure`.
    Registry,
    /// `insecure`, `remote_host`, and the maps of files.
    Making,
}

/// Which fields name the model of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// None: the call is for no model.
    Nothing,
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
    reading: Reading::Asked,
    stream: None,
    unnamed: Unnamed::NotFound,
    has_options: true,
    has_from: false,
    also: Also::Nothing,
};

const ALIASED: JsonShape =
    JsonShape { naming: Naming::ModelOrName, unnamed: Unnamed::Invalid, has_options: false, ..NATIVE };

pub(crate) const GENERATE: JsonShape = JsonShape { stream: Some(true), also: Also::Rendering, ..NATIVE };
pub(crate) const CHAT: JsonShape = JsonShape { unnamed: Unnamed::Required, ..GENERATE };
pub(crate) const EMBED: JsonShape = NATIVE;
pub(crate) const EMBEDDINGS: JsonShape = JsonShape { unnamed: Unnamed::Required, ..NATIVE };
pub(crate) const SHOW: JsonShape =
    JsonShape { unnamed: Unnamed::Required, has_options: true, also: Also::Verbose, ..ALIASED };
pub(crate) const PULL: JsonShape = JsonShape { stream: Some(true), also: Also::Registry, ..ALIASED };
pub(crate) const PUSH: JsonShape = JsonShape { reading: Reading::Stored, unnamed: Unnamed::Required, ..PULL };
pub(crate) const CREATE: JsonShape =
    JsonShape { reading: Reading::Stored, has_from: true, also: Also::Making, ..PULL };
pub(crate) const COPY: JsonShape =
    JsonShape { naming: Naming::SourceAndDestination, reading: Reading::Stored, ..ALIASED };
pub(crate) const DELETE: JsonShape = ALIASED;
pub(crate) const V1: JsonShape = JsonShape {
    naming: Naming::Model,
    reading: Reading::Asked,
    stream: Some(false),
    unnamed: Unnamed::Required,
    has_options: false,
    has_from: false,
    also: Also::Rendering,
};
pub(crate) const V1_EMBEDDINGS: JsonShape = JsonShape { stream: None, also: Also::Nothing, ..V1 };
/// A search in the cloud or a page from there.
pub(crate) const WEB: JsonShape = JsonShape { naming: Naming::Nothing, has_options: false, ..NATIVE };
