//! Arguments of `herdgate key`, from text to checked values: all problems of a command at once.

use super::args::SetArgs;
use super::trouble::{Trouble, both, usage};
use gate_config::MOST_MODELS;
use gate_keys::{Change, KeyName, ModelGlob, Span, UnixSeconds};
use gate_types::ScopeSet;

/// The word for no end.
const NEVER: &str = "never";

/// Arguments of `create`, checked.
pub(super) struct Wanted {
    pub(super) name: KeyName,
    pub(super) scopes: ScopeSet,
    pub(super) models: Vec<ModelGlob>,
    pub(super) expires: Option<Span>,
}

impl Wanted {
    /// Reads them all, so that all problems are told at once.
    pub(super) fn read(
        name: &str,
        scopes: Option<&[String]>,
        usual: ScopeSet,
        models: Option<&[String]>,
        expires: Option<&str>,
    ) -> Result<Self, Trouble> {
        let scopes = scopes.map_or(Ok(usual), read_scopes);
        let models = models.map_or_else(|| Ok(Vec::new()), read_models);
        let expires = expires.map(read_expiry).transpose();
        let ((name, scopes), (models, expires)) = both(both(read_name(name), scopes), both(models, expires))?;
        Ok(Wanted { name, scopes, models, expires })
    }
}

/// What `set` is to change, which must be something.
pub(super) fn read_change(args: &SetArgs, now: UnixSeconds) -> Result<Change, Trouble> {
    let scopes = args.scope.as_deref().map(read_scopes).transpose();
    let models = if args.all_models {
        Ok(Some(Vec::new()))
    } else {
        args.models.as_deref().map(read_models).transpose()
    };
    let expires = match args.expires.as_deref() {
        None => Ok(None),
        Some(NEVER) => Ok(Some(None)),
        Some(text) => read_expiry(text).map(|span| Some(Some(span.after(now)))),
    };
    let ((scopes, models), expires) = both(both(scopes, models), expires)?;
    let change = Change { scopes, models, expires };
    if change == Change::default() {
        let hint = "name what is to be different: --scope, --models or --all-models, --expires";
        return Err(usage("there is nothing to change", hint));
    }
    Ok(change)
}

/// The name of a key that can be stored.
pub(super) fn read_name(text: &str) -> Result<KeyName, Trouble> {
    KeyName::parse(text).map_err(|bad| usage(&bad, bad.hint()))
}

fn read_scopes(words: &[String]) -> Result<ScopeSet, Trouble> {
    const HINT: &str = "for example --scope infer,embed,read, which is also what a new key gets without it";
    let scopes: ScopeSet = words.join(",").parse().map_err(|bad| usage(format!("--scope: {bad}"), HINT))?;
    if scopes.is_empty() { Err(usage("--scope: no scope is named", HINT)) } else { Ok(scopes) }
}

/// An empty list is refused, since it would mean every model: that shall not come about by an empty variable.
fn read_models(words: &[String]) -> Result<Vec<ModelGlob>, Trouble> {
    if words.iter().all(|word| word.trim().is_empty()) {
        let hint = "leave it out for every model, or say `herdgate key set NAME --all-models`";
        return Err(usage("--models: no pattern is named", hint));
    }
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
