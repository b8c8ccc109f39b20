//! One loaded model and the thread that computes with it: continuous batching over a fixed number of slots.
//!
//! Handlers push jobs into the [`Queue`]; the thread takes them into free slots, computes one batch for all slots at
//! once, and sends each caller's pieces back. It never waits for a caller: one that reads slowly is left out of the
//! batch, one that left gives its slot back before the next batch.

mod embedder;
mod queue;
mod sampler;
mod slot;
mod text;

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{LlamaContextParams, LlamaPoolingType};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use tokio::sync::{mpsc, oneshot};

use crate::file::Purpose;
use embedder::Embedder;
pub(crate) use queue::{Job, Queue, Refused};
pub(crate) use sampler::Sampling;
use slot::Slot;

/// Pieces of text that may wait for one caller before its slot pauses.
pub(crate) const PIECES: usize = 64;
/// A token can send its text, the held-back rest and the end.
const PIECES_PER_TOKEN: usize = 3;

/// An answer to generate.
#[derive(Debug)]
pub(crate) struct Ask {
    /// The prompt, at least one token, shorter than `window`.
    pub(crate) tokens: Vec<i32>,
    /// How many tokens may be in context at once; at most the slot's size.
    pub(crate) window: usize,
    /// First tokens that stay when the window slides.
    pub(crate) keep: usize,
    /// Whether the window slides; otherwise the answer ends where it is full.
    pub(crate) slides: bool,
    /// Most tokens to generate.
    pub(crate) most: usize,
    /// Texts that end the answer.
    pub(crate) stops: Vec<String>,
    /// How to choose tokens.
    pub(crate) sampling: Sampling,
    /// Where the pieces go; closing it cancels.
    pub(crate) reply: mpsc::Sender<Event>,
}

/// Texts to embed.
#[derive(Debug)]
pub(crate) struct EmbedAsk {
    /// Each at least one token and at most [`Limits::embedded`] long.
    pub(crate) texts: Vec<Vec<i32>>,
    /// Where the vectors go, in the order of the texts; closing it cancels.
    pub(crate) reply: oneshot::Sender<Result<Vec<Vec<f32>>, String>>,
}

/// What a caller hears of its answer.
#[derive(Debug)]
pub(crate) enum Event {
    /// More text, never empty.
    Text(String),
    /// The end.
    Done(Finish),
    /// The end, without success.
    Failed(String),
}

/// How an answer ended.
#[derive(Debug, Clone)]
pub(crate) struct Finish {
    /// Whether the model or a stop string ended it; otherwise a limit did.
    pub(crate) stopped: bool,
    /// Tokens of the prompt.
    pub(crate) prompt_tokens: usize,
    /// From the slot to the first token.
    pub(crate) prompt_time: Duration,
    /// Tokens generated, the end mark included.
    pub(crate) answer_tokens: usize,
    /// From the first token to the last.
    pub(crate) answer_time: Duration,
    /// Prompt and answer, without the end mark.
    pub(crate) context: Vec<i32>,
}

/// Sizes of a loaded model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Slots.
    pub(crate) parallel: u32,
    /// Tokens per slot.
    pub(crate) context: usize,
    /// Tokens of one embedded text.
    pub(crate) embedded: usize,
    /// Threads that compute.
    pub(crate) threads: i32,
    /// Jobs that may wait.
    pub(crate) queue: usize,
}

/// A running model thread. Dropping it without [`Runner::stop`] lets the thread end by itself.
#[derive(Debug)]
pub(crate) struct Runner {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Runner {
    /// Starts the thread and waits until its context is made.
    ///
    /// # Errors
    /// Why llama.cpp would not make a context.
    pub(crate) fn start(
        backend: Arc<LlamaBackend>,
        model: Arc<LlamaModel>,
        purpose: Purpose,
        limits: Limits,
    ) -> Result<Runner, String> {
        let queue = Arc::new(Queue::new(limits.queue));
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let jobs = Arc::clone(&queue);
        let thread = std::thread::Builder::new()
            .name("model".into())
            .spawn(move || {
                // However the thread ends, nobody may be left waiting in its line.
                let _closing = Closing(&jobs);
                let answers = match purpose {
                    Purpose::Embedding => None,
                    Purpose::Completion => match context(&backend, &model, limits) {
                        Ok(context) => Some(Slots::new(context, &model, limits)),
                        Err(reason) => return drop(ready.send(Err(reason))),
                    },
                };
                let embedder = Embedder::new(&backend, &model, limits);
                if ready.send(Ok(())).is_ok() {
                    run(&jobs, answers, embedder);
                }
            })
            .map_err(|e| format!("no thread for the model: {e}"))?;
        is_ready.recv().unwrap_or_else(|_| Err("the model's thread ended at once".into()))?;
        Ok(Runner { queue, thread: Mutex::new(Some(thread)) })
    }

    /// Puts a job in line.
    ///
    /// # Errors
    /// [`Refused`].
    pub(crate) fn push(&self, job: Job) -> Result<(), Refused> {
        self.queue.push(job)
    }

    /// Whether the thread has ended, by itself or by [`Runner::stop`].
    pub(crate) fn has_ended(&self) -> bool {
        self.queue.is_closed()
    }

    /// Lets the thread end after the batch that it computes, without waiting for it.
    pub(crate) fn end(&self) {
        self.queue.close();
    }

    /// Drops all jobs, and waits until the batch that is being computed is done and the memory is given back.
    pub(crate) fn stop(&self) {
        self.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("a model's thread had panicked");
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.queue.close();
    }
}

struct Closing<'a>(&'a Queue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn context<'m>(
    backend: &LlamaBackend,
    model: &'m LlamaModel,
    limits: Limits,
) -> Result<LlamaContext<'m>, String> {
    let all = u32::try_from(limits.context).unwrap_or(u32::MAX).saturating_mul(limits.parallel);
    let params = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(all))
        .with_n_seq_max(limits.parallel)
        .with_n_batch(crate::file::facts::BATCH as u32)
        .with_n_ubatch(crate::file::facts::BATCH as u32)
        .with_n_threads(limits.threads)
        .with_n_threads_batch(limits.threads)
        .with_pooling_type(LlamaPoolingType::None)
        .with_embeddings(false)
        .with_no_perf(true);
    model.new_context(backend, params).map_err(|e| format!("llama.cpp makes no context: {e}"))
}

fn run(queue: &Queue, mut answers: Option<Slots<'_>>, mut embedder: Embedder<'_>) {
    const MOMENT: Duration = Duration::from_millis(2);
    loop {
        let idle = answers.as_ref().is_none_or(Slots::is_idle) && embedder.is_idle();
        let open = if idle { queue.wait() } else { !queue.is_closed() };
        if !open {
            return;
        }
        let mut worked = embedder.step(queue);
        match &mut answers {
            Some(slots) => {
                slots.admit(queue);
                worked |= slots.step();
            }
            None => {
                while let Some(ask) = queue.next_answer() {
                    send(&ask.reply, Event::Failed("this model only embeds".into()));
                }
            }
        }
        if !worked {
            // Every caller reads slowly, or has just left.
            queue.doze(MOMENT);
        }
    }
}

/// Sends to a caller that may have left; then nobody needs to know.
fn send(reply: &mpsc::Sender<Event>, event: Event) {
    drop(reply.try_send(event));
}

/// The slots of one context.
struct Slots<'m> {
    context: LlamaContext<'m>,
    model: &'m LlamaModel,
    slots: Vec<Slot>,
    batch: LlamaBatch<'static>,
    room: usize,
}

impl<'m> Slots<'m> {
    fn new(context: LlamaContext<'m>, model: &'m LlamaModel, limits: Limits) -> Slots<'m> {
        let room = context.n_batch() as usize;
        let ids = 0..i32::try_from(limits.parallel).unwrap_or(1);
        Slots { context, model, slots: ids.map(Slot::new).collect(), batch: LlamaBatch::new(room, 1), room }
    }

    fn is_idle(&self) -> bool {
        self.slots.iter().all(Slot::is_free)
    }

    fn admit(&mut self, queue: &Queue) {
        while self.slots.iter().any(Slot::is_free) {
            let Some(ask) = queue.next_answer() else { return };
            let free = self.slots.iter_mut().filter(|slot| slot.is_free());
            if let Some(best) = free.max_by_key(|slot| slot.shared_with(&ask.tokens)) {
                best.take(ask, &mut self.context);
            }
        }
    }

    /// Computes one batch. `false` if there was nothing to compute.
    fn step(&mut self) -> bool {
        self.batch.clear();
        for slot in &mut self.slots {
            slot.leave_if_abandoned();
        }
        // One token for each answer that is being written comes first, so that long prompts do not hold them up.
        for writing in [true, false] {
            for slot in &mut self.slots {
                if slot.is_writing() == writing {
                    slot.fill(&mut self.batch, self.room);
                }
            }
        }
        if self.batch.n_tokens() == 0 {
            return false;
        }
        if let Err(error) = self.context.decode(&mut self.batch) {
            tracing::error!(%error, "llama.cpp could not compute a batch");
            for slot in &mut self.slots {
                slot.fail(&mut self.context, &format!("llama.cpp could not compute: {error}"));
            }
            return true;
        }
        for slot in &mut self.slots {
            slot.read(&mut self.context, self.model);
        }
        true
    }
}
