//! From a file to a running model: the load itself, and the trial's child side.

use std::path::Path;
use std::sync::Arc;

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use tokio::sync::{mpsc, oneshot};

use crate::file::facts::LONGEST_EMBEDDED;
use crate::file::{Facts, Purpose, memory};
use crate::options::Options;
use crate::prompt::{Marks, Message, Template};
use crate::runner::{Ask, EmbedAsk, Event, Job, Limits, Runner};

/// A model in memory.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// For tokenising; the runner's thread holds it too.
    pub(crate) model: Arc<LlamaModel>,
    /// The thread that computes.
    pub(crate) runner: Runner,
    /// Its chat template.
    pub(crate) template: Template,
    /// Its sizes.
    pub(crate) limits: Limits,
    /// Bytes that it needs, by estimate.
    pub(crate) size: u64,
}

/// What the operator set for all models.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) parallel: u32,
    pub(crate) ctx: u32,
    pub(crate) threads: i32,
    pub(crate) queue: u32,
}

impl Settings {
    /// The sizes for one model.
    pub(crate) fn limits(&self, facts: &Facts) -> Limits {
        let context = u64::from(self.ctx).min(facts.context_length);
        Limits {
            parallel: self.parallel,
            context: usize::try_from(context).unwrap_or(usize::MAX),
            embedded: usize::try_from(context.min(LONGEST_EMBEDDED)).unwrap_or(usize::MAX),
            threads: self.threads,
            queue: self.queue as usize,
        }
    }
}

/// Bytes that a model needs with these limits.
pub(crate) fn needs(facts: &Facts, limits: Limits) -> u64 {
    let contexts = if facts.purpose == Purpose::Embedding { 1 } else { u64::from(limits.parallel) };
    facts.needs(limits.context as u64, contexts)
}

/// Checks that the memory for a model is there.
///
/// # Errors
/// Ollama's text with the amount that is missing.
pub(crate) fn check_memory(needed: u64) -> Result<(), String> {
    match memory::available() {
        Some(available) if needed > available => Err(format!(
            "model requires more system memory ({}) than is available ({}): {} are missing; \
             a smaller --ctx or --parallel needs less",
            memory::human(needed),
            memory::human(available),
            memory::human(needed - available),
        )),
        _ => Ok(()),
    }
}

/// Loads a file that has been tried.
///
/// # Errors
/// The reason, without the path.
pub(crate) fn load(
    backend: &Arc<LlamaBackend>,
    path: &Path,
    facts: &Facts,
    limits: Limits,
) -> Result<Loaded, String> {
    let model = LlamaModel::load_from_file(backend, path, &LlamaModelParams::default())
        .map_err(|e| format!("cannot be loaded by llama.cpp: {e}"))?;
    let vocabulary = model.vocab();
    let mark = |token: LlamaToken| match token.0 {
        0.. => String::from_utf8_lossy(&vocabulary.token_to_piece(token, true, None)).into_owned(),
        _ => String::new(),
    };
    let marks = Marks { bos: mark(vocabulary.bos()), eos: mark(vocabulary.eos()) };
    let template = Template::new(facts.template.as_deref(), marks)?;
    let model = Arc::new(model);
    let runner = Runner::start(Arc::clone(backend), Arc::clone(&model), facts.purpose, limits)?;
    Ok(Loaded { model, runner, template, limits, size: needs(facts, limits) })
}

/// The trial, run in a child process: see [`crate::file::trial`].
///
/// # Errors
/// The reason, without the path.
pub(crate) fn try_file(path: &Path) -> Result<(), String> {
    let facts = Facts::read(path).map_err(|e| e.to_string())?;
    let backend = Arc::new(LlamaBackend::init().map_err(|e| e.to_string())?);
    let settings = Settings { parallel: 1, ctx: 64, threads: 1, queue: 1 };
    let limits = settings.limits(&facts);
    let loaded = load(&backend, path, &facts, limits)?;
    let vocabulary = loaded.model.vocab();
    // Every byte alone: a vocabulary of another kind than the file says fails here, in the child.
    for byte in 0..=u8::MAX {
        vocabulary.tokenize(&[byte], false, true);
    }
    let mut tokens = vocabulary.tokenize(b"Hello, herdgate!", true, true);
    tokens.truncate(8);
    let tokens: Vec<i32> = tokens.iter().map(|token| token.0).collect();
    if tokens.is_empty() {
        return Err("its vocabulary makes no tokens".into());
    }
    for token in &tokens {
        vocabulary.token_to_piece(LlamaToken::new(*token), false, None);
    }
    let greeting = Message { role: "user".into(), content: "Hello, herdgate!".into() };
    loaded.template.render(&[greeting])?;
    match facts.purpose {
        Purpose::Completion => try_answer(&loaded, tokens)?,
        Purpose::Embedding => try_embedding(&loaded, tokens)?,
    }
    loaded.runner.stop();
    Ok(())
}

fn try_answer(loaded: &Loaded, tokens: Vec<i32>) -> Result<(), String> {
    let (reply, mut events) = mpsc::channel(crate::runner::PIECES);
    let ask = Ask {
        tokens,
        window: loaded.limits.context,
        keep: 0,
        slides: false,
        most: 2,
        stops: Vec::new(),
        sampling: Options::default().sampling(&crate::file::Preferred::default()),
        reply,
    };
    loaded.runner.push(Job::Answer(ask)).map_err(|_| "its thread ended".to_owned())?;
    while let Some(event) = events.blocking_recv() {
        match event {
            Event::Text(_) => {}
            Event::Done(_) => return Ok(()),
            Event::Failed(reason) => return Err(reason),
        }
    }
    Err("its thread ended".into())
}

fn try_embedding(loaded: &Loaded, tokens: Vec<i32>) -> Result<(), String> {
    let (reply, vectors) = oneshot::channel();
    let ask = EmbedAsk { texts: vec![tokens], reply };
    loaded.runner.push(Job::Embed(ask)).map_err(|_| "its thread ended".to_owned())?;
    vectors.blocking_recv().map_err(|_| "its thread ended".to_owned())?.map(drop)
}
