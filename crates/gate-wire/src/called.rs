//! What a call calls its model: the text of a field that names one, read as Ollama reads it there. JSON and forms come
//! through here; whether the model may be used is not asked.

use gate_types::{BadName, ModelName};

/// Longer texts are no model's name: the longest has 350 bytes of host, three parts of 80, and a scheme.
pub(crate) const LONGEST: usize = 1024;

/// How Ollama reads the name of a call's model. A create's `from` is always one that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// As one that is asked for: a final `:local` or `:cloud` says where to run it.
    Asked,
    /// As one that a model is stored under: such an ending is its tag.
    Stored,
}

impl Reading {
    /// Reads a name in this way; an empty text names no model.
    ///
    /// # Errors
    /// [`BadName`] where Ollama reads none.
    pub fn named(self, text: &str) -> Result<Option<ModelName>, BadName> {
        match self {
            _ if text.is_empty() => Ok(None),
            _ if text.len() > LONGEST => Err(BadName::Invalid),
            Reading::Asked => ModelName::parse(text).map(Some),
            Reading::Stored => ModelName::parse_stored(text).map(Some),
        }
    }
}
