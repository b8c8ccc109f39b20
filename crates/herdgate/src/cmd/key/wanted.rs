//! Arguments of `herdgate key`, from text to checked values: all problems of a command at once.

use super::CreateArgs;
use super::trouble::{Trouble, both, usage};
use gate_keys::{KeyName, ModelGlob, Span};
use gate_types::ScopeSet;

/// More patterns than this on one key are a mistake, or belong in a pattern.
const MOST_MODELS: usize = 100;

/// Arguments of `create`, checked.
pub(super) struct Wanted {
    pub(super) name: KeyName,
    pub(super) scopes: ScopeSet,
    pub(super) models: Vec<ModelGlob>,
    pub(super) expires: Option<Span>,
}

impl Wanted {
    /// Reads them all, so that all problems are told at once.
    pub(super) fn read(args: &CreateArgs) -> Result<Self, Trouble> {
        let name = read_name(&args.name);
        let scopes = read_scopes(args.scope.as_deref());
        let models = read_models(args.models.as_deref().unwrap_or_default());
        let expires = args.expires.as_deref().map(read_expiry).transpose();
        let ((name, scopes), (models, expires)) = both(both(name, scopes), both(models, expires))?;
        Ok(Wanted { name, scopes, models, expires })
    }
}

/// The name of a key that can be stored.
pub(super) fn read_name(text: &str) -> Result<KeyName, Trouble> {
    KeyName::parse(text).map_err(|bad| usage(&bad, bad.hint()))
}

fn read_scopes(words: Option<&[String]>) -> Result<ScopeSet, Trouble> {
    const HINT: &str = "for example --scope infer,embed,read, which is also what a key gets without it";
    let Some(words) = words else { return Ok(ScopeSet::DEFAULT) };
    let scopes: ScopeSet = words.join(",").parse().map_err(|bad| usage(format!("--scope: {bad}"), HINT))?;
    if scopes.is_empty() { Err(usage("--scope: no scope is named", HINT)) } else { Ok(scopes) }
}

fn read_models(words: &[String]) -> Result<Vec<ModelGlob>, Trouble> {
    if words.len() > MOST_MODELS {
        let reason = format!("--models: {} patterns, {MOST_MODELS} are allowed", words.len());
        return Err(usage(reason, "one pattern may stand for many models: qwen3:*"));
    }
    let mut models: Vec<ModelGlob> = Vec::with_capacity(words.len());
    for word in words {
        let glob = ModelGlob::parse(word).map_err(|bad| usage(format!("--models: {bad}"), bad.hint()))?;
        if !models.contains(&glob) {
            models.push(glob);
        }
    }
    Ok(models)
}

fn read_expiry(text: &str) -> Result<Span, Trouble> {
    let span = Span::parse(text).map_err(|bad| usage(format!("--expires: {bad}"), bad.hint()))?;
    if span.is_zero() {
        return Err(usage(
            "--expires: the key would end at once",
            "write how long it is to be valid: 24h, 30d",
        ));
    }
    Ok(span)
}

/// How long an old secret is to go on working.
pub(super) fn read_overlap(text: &str) -> Result<Span, Trouble> {
    Span::parse(text).map_err(|bad| usage(format!("--overlap: {bad}"), bad.hint()))
}
