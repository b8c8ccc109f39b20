//! The bounded line in front of one model: handlers push, the model's thread takes.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Ask, EmbedAsk};

/// What is waiting for a model.
#[derive(Debug)]
pub(crate) enum Job {
    /// An answer to generate.
    Answer(Ask),
    /// Texts to embed.
    Embed(EmbedAsk),
}

/// Why a job was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// As many are waiting as may.
    Full,
    /// The model's thread has ended or is ending.
    Closed,
}

/// The line. Jobs whose caller has left give up their place as soon as somebody needs it.
#[derive(Debug)]
pub(crate) struct Queue {
    most: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    answers: VecDeque<Ask>,
    embeds: VecDeque<EmbedAsk>,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(most: usize) -> Queue {
        Queue { most, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Puts a job at the end of the line.
    ///
    /// # Errors
    /// [`Refused`], the job is dropped.
    pub(crate) fn push(&self, job: Job) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.answers.len() + state.embeds.len() >= self.most {
            state.answers.retain(|ask| !ask.reply.is_closed());
            state.embeds.retain(|ask| !ask.reply.is_closed());
        }
        if state.answers.len() + state.embeds.len() >= self.most {
            return Err(Refused::Full);
        }
        match job {
            Job::Answer(ask) => state.answers.push_back(ask),
            Job::Embed(ask) => state.embeds.push_back(ask),
        }
        self.changed.notify_one();
        Ok(())
    }

    /// The next answer that somebody still waits for.
    pub(crate) fn next_answer(&self) -> Option<Ask> {
        let mut state = self.lock();
        std::iter::from_fn(|| state.answers.pop_front()).find(|ask| !ask.reply.is_closed())
    }

    /// The next texts that somebody still waits for.
    pub(crate) fn next_embed(&self) -> Option<EmbedAsk> {
        let mut state = self.lock();
        std::iter::from_fn(|| state.embeds.pop_front()).find(|ask| !ask.reply.is_closed())
    }

    /// Sleeps until there is something to do; `false` when the line was closed.
    pub(crate) fn wait(&self) -> bool {
        let mut state = self.lock();
        while !state.closed && state.answers.is_empty() && state.embeds.is_empty() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.closed
    }

    /// Sleeps a moment, or until something changes.
    pub(crate) fn doze(&self, moment: Duration) {
        let state = self.lock();
        drop(self.changed.wait_timeout(state, moment).unwrap_or_else(PoisonError::into_inner));
    }

    /// No more jobs; those that wait are dropped, which tells their callers.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.answers.clear();
        state.embeds.clear();
        self.changed.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
