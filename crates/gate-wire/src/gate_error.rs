//! The one error of the data path: a reason, whose doing it is, what the caller may know, what the log may know.

use crate::reason::{Reason, Side};
use crate::routes::Allow;
use crate::shape::Unnamed;
use gate_types::Scope;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// A request that was refused or failed. Told to the client by [`render`](crate::render), to the log by its `Display`
/// and its sources; neither may hold a secret.
#[derive(Debug)]
pub struct GateError {
    /// Why, out of the closed list; fixes status and code.
    pub reason: Reason,
    /// Whose doing it is.
    pub side: Side,
    /// What the caller may know: what is wrong and, where it is short to say, the cure.
    pub public: Cow<'static, str>,
    /// What the log may know beyond that.
    pub source: Option<Box<dyn Error + Send + Sync>>,
    /// How long the caller should wait before the next try.
    pub retry_after: Option<Duration>,
    /// The methods that are open, with [`Reason::MethodNotAllowed`].
    pub allow: Option<Allow>,
}

impl GateError {
    /// The error of this reason with all that is usual for it.
    #[must_use]
    pub fn new(reason: Reason) -> Self {
        let facts = reason.facts();
        GateError {
            reason,
            side: facts.side,
            public: facts.text.into(),
            source: None,
            retry_after: facts.retry_after.map(|seconds| Duration::from_secs(seconds.into())),
            allow: None,
        }
    }

    /// Tells the caller `text` in place of the usual one.
    #[must_use]
    pub fn saying(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.public = text.into();
        self
    }

    /// Keeps `source` for the log.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Asks the caller to wait this long before the next try.
    #[must_use]
    pub fn again_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The path is open to other methods.
    #[must_use]
    pub fn wrong_method(allow: Allow) -> Self {
        let text = format!("this method is not open at this path; use {allow}");
        GateError { allow: Some(allow), ..GateError::new(Reason::MethodNotAllowed).saying(text) }
    }

    /// The key lacks `scope`.
    #[must_use]
    pub fn missing_scope(scope: Scope) -> Self {
        GateError::new(Reason::MissingScope)
            .saying(format!(
                "the API key may not do this: it lacks the scope \"{scope}\"; whoever keeps the keys can make one that has it"
            ))
    }

    /// The key may not use `model`, named as the client spelled it.
    #[must_use]
    pub fn model_not_allowed(model: &str) -> Self {
        GateError::new(Reason::ModelNotAllowed).saying(format!(
            "the API key may not use the model '{model}'; /api/tags lists those that it may use"
        ))
    }

    /// No model was named; says what Ollama says there.
    #[must_use]
    pub fn unnamed(unnamed: Unnamed) -> Self {
        match unnamed {
            Unnamed::NotFound => GateError::new(Reason::ModelNotFound).saying("model '' not found"),
            Unnamed::Required => GateError::new(Reason::ModelRequired),
            Unnamed::Invalid => GateError::new(Reason::InvalidModelName),
        }
    }

    /// No upstream has `model`, named as the client spelled it; `nearest` are names that the key may use, best first.
    #[must_use]
    pub fn model_not_found(model: &str, nearest: &[&str]) -> Self {
        GateError::new(Reason::ModelNotFound).saying(crate::nearest::not_found_text(model, nearest))
    }
}

impl fmt::Display for GateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.code(), self.public)
    }
}

impl Error for GateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
