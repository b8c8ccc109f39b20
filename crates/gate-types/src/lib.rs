//! The nouns of herdgate: what every other crate names and none of them owns.
//!
//! Floor 0. Parsing a noun from text is here; deciding anything with it is not. No IO, no clock, no chance.

mod cidr;
mod model_name;
mod origin;
mod scope;
mod secret;

pub use cidr::{BadCidr, Cidr, is_public};
pub use model_name::{BadName, ModelName};
pub use origin::{BadOrigin, OriginPattern};
pub use scope::{Scope, ScopeSet, UnknownScope};
pub use secret::Secret;

/// The three ways in which clients speak to an Ollama server; errors are told in the one that was asked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Ollama's own API under `/` and `/api`: NDJSON streams, errors as `{"error":"text"}`.
    Ollama,
    /// `OpenAI`'s API under `/v1`: server-sent events, errors as `{"error":{"message":…}}`.
    OpenAi,
    /// Anthropic's API at `/v1/messages`: named events, errors as `{"type":"error","error":{…}}`.
    Anthropic,
}

/// The place of an upstream in the settings, counted from 0. Stable while the settings stay loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamId(pub u16);

impl UpstreamId {
    /// As an index into per-upstream tables.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}
