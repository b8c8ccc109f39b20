//! One place in a context: the answer that is being computed there, and what stays cached of the last one.

use std::time::{Duration, Instant};

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;

use super::sampler::Sampler;
use super::text::Voice;
use super::{Ask, Event, Finish, PIECES_PER_TOKEN, send};

/// A slot; its number is the sequence's number in the context.
pub(super) struct Slot {
    id: i32,
    /// The tokens whose keys and values lie in the context, in order.
    cached: Vec<i32>,
    work: Option<Box<Work>>,
}

struct Work {
    ask: Ask,
    /// Prompt and answer, as far as they are in the window; `cached` is a beginning of it.
    window: Vec<i32>,
    /// Prompt and answer, whole.
    all: Vec<i32>,
    written: usize,
    prompt_tokens: usize,
    began: Instant,
    first: Option<Instant>,
    sampler: Sampler,
    voice: Voice,
    /// Where in the batch the logits of the window's last token are.
    logits: Option<i32>,
    /// How many tokens of the window are in the batch.
    sent: usize,
}

impl Slot {
    pub(super) fn new(id: i32) -> Slot {
        Slot { id, cached: Vec::new(), work: None }
    }

    pub(super) fn is_free(&self) -> bool {
        self.work.is_none()
    }

    /// Whether the prompt is read and tokens come one by one.
    pub(super) fn is_writing(&self) -> bool {
        self.work.as_ref().is_some_and(|work| work.window.len() == self.cached.len() + 1)
    }

    /// How many tokens at the beginning need not be computed again.
    pub(super) fn shared_with(&self, tokens: &[i32]) -> usize {
        self.cached.iter().zip(tokens).take_while(|(a, b)| a == b).count()
    }

    pub(super) fn take(&mut self, ask: Ask, context: &mut LlamaContext<'_>) {
        self.reuse(&ask.tokens, context);
        self.work = Some(Box::new(Work {
            window: ask.tokens.clone(),
            all: ask.tokens.clone(),
            written: 0,
            prompt_tokens: ask.tokens.len(),
            began: Instant::now(),
            first: None,
            sampler: Sampler::new(ask.sampling.clone()),
            voice: Voice::new(ask.stops.clone()),
            logits: None,
            sent: 0,
            ask,
        }));
    }

    /// Keeps what the context holds of `tokens`, at least one short so that there are logits, and removes the rest.
    fn reuse(&mut self, tokens: &[i32], context: &mut LlamaContext<'_>) {
        let shared = self.shared_with(tokens).min(tokens.len().saturating_sub(1));
        if shared == self.cached.len() {
            return;
        }
        // Sliding attention may have dropped the beginning, recurrent models cannot go back: then all is read anew.
        let whole = context.kv_cache_seq_pos_min(self.id) == 0;
        let from = u32::try_from(shared).ok().filter(|_| whole);
        let sequence = u32::try_from(self.id).ok();
        let kept = from.is_some() && context.clear_kv_cache_seq(sequence, from, None).unwrap_or(false);
        if kept {
            self.cached.truncate(shared);
        } else {
            self.forget(context);
        }
    }

    fn forget(&mut self, context: &mut LlamaContext<'_>) {
        self.cached.clear();
        // Removing a whole sequence cannot fail.
        if !context.clear_kv_cache_seq(u32::try_from(self.id).ok(), None, None).unwrap_or(false) {
            tracing::warn!(slot = self.id, "llama.cpp kept a sequence that should go");
        }
    }

    pub(super) fn leave_if_abandoned(&mut self) {
        if self.work.as_ref().is_some_and(|work| work.ask.reply.is_closed()) {
            tracing::debug!(slot = self.id, "the caller left");
            self.work = None;
        }
    }

    /// Puts the next tokens into the batch, up to `room` in all.
    pub(super) fn fill(&mut self, batch: &mut LlamaBatch<'_>, room: usize) {
        let Some(work) = &mut self.work else { return };
        if work.sent > 0 || work.ask.reply.capacity() < PIECES_PER_TOKEN {
            return;
        }
        let free = room.saturating_sub(usize::try_from(batch.n_tokens()).unwrap_or(room));
        let from = self.cached.len();
        for (at, token) in work.window.iter().enumerate().skip(from).take(free) {
            let last = at + 1 == work.window.len();
            let position = i32::try_from(at).unwrap_or(i32::MAX);
            if batch.add(LlamaToken::new(*token), position, &[self.id], last).is_err() {
                break;
            }
            work.sent += 1;
            if last {
                work.logits = Some(batch.n_tokens() - 1);
            }
        }
    }

    /// Takes the result of the batch: the next token, if the window's last one was in it.
    pub(super) fn read(&mut self, context: &mut LlamaContext<'_>, model: &LlamaModel) {
        let Some(work) = &mut self.work else { return };
        let from = self.cached.len();
        self.cached.extend(work.window.iter().skip(from).take(std::mem::take(&mut work.sent)));
        let Some(index) = work.logits.take() else { return };
        work.first.get_or_insert_with(Instant::now);
        let chosen = work.sampler.choose(context.get_logits_ith(index), &work.all);
        let Some(token) = chosen else {
            self.fail(context, "the model computed no usable number; its file may be damaged");
            return;
        };
        work.written += 1;
        let vocabulary = model.vocab();
        if vocabulary.is_eog(LlamaToken::new(token)) {
            return self.finish(true);
        }
        work.all.push(token);
        let (text, stopped) =
            work.voice.push(&vocabulary.token_to_piece(LlamaToken::new(token), false, None));
        if !text.is_empty() {
            send(&work.ask.reply, Event::Text(text));
        }
        if stopped || work.written >= work.ask.most {
            return self.finish(stopped);
        }
        work.window.push(token);
        if work.window.len() >= work.ask.window {
            if work.ask.slides { self.slide(context) } else { self.finish(false) }
        }
    }

    /// Drops the older half of the window behind the kept beginning. What stays is read again: slower than moving it
    /// inside llama.cpp, which some models cannot do and then end the process.
    fn slide(&mut self, context: &mut LlamaContext<'_>) {
        let Some(work) = &mut self.work else { return };
        let keep = work.ask.keep.min(work.ask.window / 2);
        let drop = (work.window.len() - keep).div_ceil(2);
        work.window.drain(keep..keep + drop);
        let window = std::mem::take(&mut work.window);
        self.reuse(&window, context);
        if let Some(work) = &mut self.work {
            work.window = window;
        }
    }

    fn finish(&mut self, stopped: bool) {
        let Some(mut work) = self.work.take() else { return };
        let rest = work.voice.finish();
        if !rest.is_empty() {
            send(&work.ask.reply, Event::Text(rest));
        }
        let first = work.first.unwrap_or(work.began);
        let finish = Finish {
            stopped,
            prompt_tokens: work.prompt_tokens,
            prompt_time: first.saturating_duration_since(work.began).max(Duration::from_nanos(1)),
            answer_tokens: work.written,
            answer_time: first.elapsed().max(Duration::from_nanos(1)),
            context: work.all,
        };
        send(&work.ask.reply, Event::Done(finish));
    }

    pub(super) fn fail(&mut self, context: &mut LlamaContext<'_>, reason: &str) {
        if let Some(work) = self.work.take() {
            send(&work.ask.reply, Event::Failed(reason.to_owned()));
        }
        self.forget(context);
    }
}
