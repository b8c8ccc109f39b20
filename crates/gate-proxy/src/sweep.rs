//! Time limits for many waits by one coarse sweep per core, instead of a timer for each.
//!
//! A wait sets its limit on a [`Watch`] and polls it beside what it waits for. Once a [`TICK`] the sweep wakes those whose
//! limit has passed. A limit is met at its time or up to one tick later, never earlier.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

/// How often the sweep looks: the coarseness of all limits that it keeps.
pub const TICK: Duration = Duration::from_millis(500);

/// The watches of one core.
#[derive(Debug, Default)]
pub struct Sweep {
    watched: RefCell<Vec<Option<Watched>>>,
    free: RefCell<Vec<usize>>,
}

#[derive(Debug, Default)]
struct Watched {
    until: Option<Instant>,
    waker: Option<Waker>,
}

impl Sweep {
    /// A watch without a limit. Its place is given back when it is dropped.
    #[must_use]
    pub fn watch(self: &Rc<Self>) -> Watch {
        let mut watched = self.watched.borrow_mut();
        let place = self.free.borrow_mut().pop().unwrap_or_else(|| {
            watched.push(None);
            watched.len() - 1
        });
        watched[place] = Some(Watched::default());
        Watch { sweep: Rc::clone(self), place, until: Cell::new(None) }
    }

    /// Looks at all watches for ever, once a tick. One such task runs per core.
    pub async fn run(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.wake_late(Instant::now());
        }
    }

    /// Wakes every wait, so that it looks around: something has changed that concerns all.
    pub(crate) fn wake_all(&self) {
        let mut wakers = Vec::new();
        for watched in self.watched.borrow_mut().iter_mut().flatten() {
            wakers.extend(watched.waker.take());
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    fn wake_late(&self, now: Instant) {
        // Woken outside of the borrow: what a waker does is not known here. No allocation where nobody is late.
        let mut late = Vec::new();
        for watched in self.watched.borrow_mut().iter_mut().flatten() {
            if watched.until.is_some_and(|until| until <= now) {
                late.extend(watched.waker.take());
            }
        }
        late.into_iter().for_each(Waker::wake);
    }
}

/// One wait's limit.
#[derive(Debug)]
pub struct Watch {
    sweep: Rc<Sweep>,
    place: usize,
    until: Cell<Option<Instant>>,
}

impl Watch {
    /// Sets the limit, counted from now; `None` waits for ever.
    pub fn set(&self, limit: Option<Duration>) {
        self.set_until(limit.map(|limit| Instant::now() + limit));
    }

    /// Sets the moment itself.
    pub fn set_until(&self, until: Option<Instant>) {
        self.until.set(until);
        if let Some(Some(watched)) = self.sweep.watched.borrow_mut().get_mut(self.place) {
            watched.until = until;
        }
    }

    /// Ready once the limit has passed.
    pub fn poll_late(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(until) = self.until.get() else { return Poll::Pending };
        if let Some(Some(watched)) = self.sweep.watched.borrow_mut().get_mut(self.place) {
            match &watched.waker {
                // A waker that is still there has not been woken: the limit has not been seen to pass.
                Some(waker) if waker.will_wake(cx.waker()) => return Poll::Pending,
                _ => {}
            }
            if until > Instant::now() {
                watched.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let watched = self.sweep.watched.borrow_mut().get_mut(self.place).and_then(Option::take);
        self.sweep.free.borrow_mut().push(self.place);
        drop(watched);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn a_limit_ends_a_wait_at_its_time_or_a_tick_later() {
        let sweep = Rc::new(Sweep::default());
        let watch = sweep.watch();
        let local = tokio::task::LocalSet::new();
        let start = Instant::now();
        local
            .run_until(async {
                let sweeping = tokio::task::spawn_local(Rc::clone(&sweep).run());
                watch.set(Some(Duration::from_secs(10)));
                poll_fn(|cx| watch.poll_late(cx)).await;
                sweeping.abort();
            })
            .await;
        let waited = start.elapsed();
        assert!(
            waited >= Duration::from_secs(10) && waited <= Duration::from_secs(10) + 2 * TICK,
            "{waited:?}"
        );
    }

    #[test]
    fn a_dropped_watch_gives_its_place_back() {
        let sweep = Rc::new(Sweep::default());
        for _ in 0..100 {
            drop(sweep.watch());
        }
        assert_eq!(sweep.watched.borrow().len(), 1);
    }
}
