//! Embeds texts, a few at a time, between the batches of the answers.
//!
//! Its own context, made when the first text comes. Three rules of llama.cpp, each of which ends the process if broken:
//! the number of sequences is a power of two, a batch is no longer than the context's, no text is empty.

use std::num::NonZeroU32;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{LlamaContextParams, LlamaPoolingType};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;

use super::{EmbedAsk, Limits, Queue};

/// Texts in one batch.
const SEQUENCES: usize = 8;

pub(super) struct Embedder<'m> {
    backend: &'m LlamaBackend,
    model: &'m LlamaModel,
    limits: Limits,
    context: Option<(LlamaContext<'m>, LlamaBatch<'static>, usize)>,
    work: Option<(EmbedAsk, Vec<Vec<f32>>)>,
}

impl<'m> Embedder<'m> {
    pub(super) fn new(backend: &'m LlamaBackend, model: &'m LlamaModel, limits: Limits) -> Embedder<'m> {
        Embedder { backend, model, limits, context: None, work: None }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.work.is_none()
    }

    /// Embeds a few texts. `false` if there was nothing to do.
    pub(super) fn step(&mut self, queue: &Queue) -> bool {
        if self.work.as_ref().is_some_and(|(ask, _)| ask.reply.is_closed()) {
            self.work = None;
        }
        if self.work.is_none() {
            self.work = queue.next_embed().map(|ask| (ask, Vec::new()));
        }
        let Some((ask, mut done)) = self.work.take() else { return false };
        let outcome = match ask.texts.get(done.len()..) {
            Some(rest) if !rest.is_empty() => self.embed(rest),
            _ => Ok(Vec::new()),
        };
        match outcome {
            Err(reason) => answer(ask, Err(reason)),
            Ok(more) => {
                done.extend(more);
                if done.len() >= ask.texts.len() {
                    answer(ask, Ok(done))
                } else {
                    self.work = Some((ask, done))
                }
            }
        }
        true
    }

    /// Embeds as many of `texts` as go into one batch, at least one.
    fn embed(&mut self, texts: &[Vec<i32>]) -> Result<Vec<Vec<f32>>, String> {
        let (context, batch, room) = match &mut self.context {
            Some(made) => made,
            None => self.context.insert(make(self.backend, self.model, self.limits)?),
        };
        batch.clear();
        let mut used = 0;
        let mut count = 0;
        for text in texts.iter().take(SEQUENCES) {
            if text.is_empty() || text.len() > *room {
                return Err("a text is empty or too long for one batch".into());
            }
            if used + text.len() > *room {
                break;
            }
            for (position, token) in (0i32..).zip(text) {
                batch.add(LlamaToken::new(*token), position, &[count], true).map_err(|e| e.to_string())?;
            }
            used += text.len();
            count += 1;
        }
        context.clear_kv_cache();
        context.decode(batch).map_err(|e| format!("llama.cpp could not embed: {e}"))?;
        (0..count)
            .map(|sequence| match context.embeddings_seq_ith(sequence) {
                Ok(vector) if vector.iter().all(|x| x.is_finite()) => Ok(vector.to_vec()),
                Ok(_) => Err("the model computed no usable number; its file may be damaged".to_owned()),
                Err(e) => Err(format!("llama.cpp gives no embedding: {e}")),
            })
            .collect()
    }
}

fn answer(ask: EmbedAsk, outcome: Result<Vec<Vec<f32>>, String>) {
    // A caller that has left needs no answer.
    drop(ask.reply.send(outcome));
}

/// A context for embeddings. The file's own pooling is used; a model without one gets the mean.
fn make<'m>(
    backend: &LlamaBackend,
    model: &'m LlamaModel,
    limits: Limits,
) -> Result<(LlamaContext<'m>, LlamaBatch<'static>, usize), String> {
    // 256 is what llama.cpp rounds contexts up to, and a multiple of SEQUENCES.
    let room = limits.embedded.next_multiple_of(256);
    let size = u32::try_from(room).map_err(|e| e.to_string())?;
    let arrange = |pooling: LlamaPoolingType| {
        LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(size))
            .with_n_batch(size)
            .with_n_ubatch(size)
            .with_n_seq_max(SEQUENCES as u32)
            .with_kv_unified(true)
            .with_n_threads(limits.threads)
            .with_n_threads_batch(limits.threads)
            .with_embeddings(true)
            .with_pooling_type(pooling)
            .with_no_perf(true)
    };
    let pooling = match model.meta_val_str(&format!("{}.pooling_type", architecture(model))).as_deref() {
        Ok("2") => LlamaPoolingType::Cls,
        Ok("3") => LlamaPoolingType::Last,
        Ok("4") => return Err("this file ranks texts; it does not embed them".into()),
        _ => LlamaPoolingType::Mean,
    };
    let context = model
        .new_context(backend, arrange(pooling))
        .map_err(|e| format!("llama.cpp makes no context for embeddings: {e}"))?;
    let room = room.min(context.n_batch() as usize).min(context.n_ubatch() as usize);
    Ok((context, LlamaBatch::new(room, 1), room))
}

fn architecture(model: &LlamaModel) -> String {
    model.meta_val_str("general.architecture").unwrap_or_default()
}
