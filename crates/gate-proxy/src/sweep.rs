//! Time limits for many waits by one coarse sweep per core, instead of a timer for each.
//!
//! A wait sets its limit on a [`Watch`] and polls it beside what it waits for. Once a [`TICK`] the sweep wakes those whose
//! limit has passed. A limit is met at its time or up to two ticks later, never earlier. Nobody else on the path reads a
//! clock for a limit: the sweep's own count of ticks is fine enough.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

/// How often the sweep looks: the coarseness of all limits that it keeps.
pub const TICK: Duration = Duration::from_millis(500);

/// How many connections that rest are found in one search: the next ones in need of room do without a search.
const FOUND_AT_ONCE: usize = 64;

/// A moment, counted in ticks since the sweep began: 68 years of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Tick(u32);

impl Tick {
    const NEVER: Tick = Tick(u32::MAX);

    /// The first tick that is not earlier than `limit` after this one; this one may have begun up to a tick ago.
    pub(crate) fn plus(self, limit: Duration) -> Self {
        let ticks = limit.as_millis().div_ceil(TICK.as_millis()) + 1;
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
        Tick(self.0.saturating_add(ticks).min(u32::MAX - 1))
    }

    /// Whole seconds from here to there.
    pub(crate) fn seconds_until(self, later: Tick) -> u32 {
        let ticks = u128::from(later.0.saturating_sub(self.0));
        u32::try_from(ticks * TICK.as_millis() / 1000).unwrap_or(u32::MAX)
    }

    /// This moment, moved by as much as lies between `from` and `to`.
    pub(crate) fn moved(self, from: Tick, to: Tick) -> Self {
        Tick(self.0.saturating_add(to.0.saturating_sub(from.0)))
    }
}

/// The watches of one core.
#[derive(Debug)]
pub struct Sweep {
    began: Instant,
    now: Cell<Tick>,
    watched: RefCell<Vec<Watched>>,
    free: RefCell<Vec<u32>>,
    /// Connections that rested longest when they were last looked for, the longest at the end.
    longest: RefCell<Vec<(Tick, u32)>>,
}

/// One watch's place. What is not watched has no limit and no waker.
#[derive(Debug)]
struct Watched {
    until: Tick,
    /// Since when a connection waits for a request, if it does.
    resting: Tick,
    waker: Option<Waker>,
}

/// The limit of a connection whose rest was ended: no other is as early.
const TO_GO: Tick = Tick(0);

const UNWATCHED: Watched = Watched { until: Tick::NEVER, resting: Tick::NEVER, waker: None };

impl Default for Sweep {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            now: Cell::default(),
            watched: RefCell::default(),
            free: RefCell::default(),
            longest: RefCell::default(),
        }
    }
}

impl Sweep {
    /// A watch without a limit. Its place is given back when it is dropped.
    #[must_use]
    pub fn watch(self: &Rc<Self>) -> Watch {
        let mut watched = self.watched.borrow_mut();
        let place = self.free.borrow_mut().pop().unwrap_or_else(|| {
            watched.push(UNWATCHED);
            // More connections than a process can have descriptors.
            u32::try_from(watched.len() - 1).unwrap_or(u32::MAX)
        });
        Watch { sweep: Rc::clone(self), place }
    }

    /// Looks at all watches for ever, once a tick. One such task runs per core.
    pub async fn run(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let since = self.began.elapsed().as_millis() / TICK.as_millis();
            self.now.set(Tick(u32::try_from(since).unwrap_or(u32::MAX - 1)));
            self.wake_late();
        }
    }

    /// Wakes every wait, so that it looks around: something has changed that concerns all.
    pub(crate) fn wake_all(&self) {
        let mut wakers = Vec::new();
        for watched in self.watched.borrow_mut().iter_mut() {
            wakers.extend(watched.waker.take());
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The tick that it is: it began up to a tick ago, or a little more where the core is busy.
    pub(crate) fn now(&self) -> Tick {
        self.now.get()
    }

    fn wake_late(&self) {
        // Woken outside of the borrow: what a waker does is not known here. No allocation where nobody is late.
        let mut late = Vec::new();
        for watched in self.watched.borrow_mut().iter_mut() {
            if watched.until <= self.now() {
                late.extend(watched.waker.take());
            }
        }
        late.into_iter().for_each(Waker::wake);
    }

    /// Ends the rest of the connection that has waited longest for a request; false where none rests.
    pub(crate) fn end_longest_rest(&self) -> bool {
        loop {
            if self.longest.borrow().is_empty() {
                self.find_resting();
            }
            let Some((since, place)) = self.longest.borrow_mut().pop() else { return false };
            if self.end_rest(place, since) {
                return true;
            }
        }
    }

    fn find_resting(&self) {
        let watched = self.watched.borrow();
        let mut found: Vec<_> = (0..)
            .zip(watched.iter())
            .filter(|(_, watched)| watched.resting != Tick::NEVER)
            .map(|(place, watched)| (watched.resting, place))
            .collect();
        if found.len() > FOUND_AT_ONCE {
            found.select_nth_unstable(FOUND_AT_ONCE);
            found.truncate(FOUND_AT_ONCE);
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        *self.longest.borrow_mut() = found;
    }

    /// False where the connection there is not the one that has rested since then.
    fn end_rest(&self, place: u32, since: Tick) -> bool {
        let waker = {
            let mut watched = self.watched.borrow_mut();
            let Some(watched) = watched.get_mut(place as usize).filter(|watched| watched.resting == since)
            else {
                return false;
            };
            watched.until = TO_GO;
            watched.resting = Tick::NEVER;
            watched.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }
}

/// One wait's limit.
#[derive(Debug)]
pub struct Watch {
    sweep: Rc<Sweep>,
    place: u32,
}

impl Watch {
    /// Sets the limit, counted from now; `None` waits for ever.
    pub fn set(&self, limit: Option<Duration>) {
        self.set_until(limit.map_or(Tick::NEVER, |limit| self.now().plus(limit)));
    }

    /// Sets the moment itself.
    pub(crate) fn set_until(&self, until: Tick) {
        self.change(until, Tick::NEVER);
    }

    /// As [`Watch::set`], for a connection that waits for a request: it may be ended early to make room for others.
    pub(crate) fn rest(&self, limit: Duration) {
        self.change(self.now().plus(limit), self.now());
    }

    /// Another limit for one that rests.
    pub(crate) fn rest_until(&self, until: Tick) {
        if let Some(watched) = self.sweep.watched.borrow_mut().get_mut(self.place as usize)
            // One whose rest was ended stays so.
            && watched.resting != Tick::NEVER
        {
            watched.until = until;
        }
    }

    /// It rests no more and keeps its limit. One whose rest was ended stays so.
    pub(crate) fn keep_busy(&self) {
        if let Some(watched) = self.sweep.watched.borrow_mut().get_mut(self.place as usize) {
            watched.resting = Tick::NEVER;
        }
    }

    /// Whether its rest was ended to make room, and nothing was set since.
    pub(crate) fn is_to_go(&self) -> bool {
        self.sweep.watched.borrow().get(self.place as usize).is_some_and(|watched| watched.until == TO_GO)
    }

    fn change(&self, until: Tick, resting: Tick) {
        if let Some(watched) = self.sweep.watched.borrow_mut().get_mut(self.place as usize) {
            watched.until = until;
            watched.resting = resting;
        }
    }

    /// The tick that it is.
    pub(crate) fn now(&self) -> Tick {
        self.sweep.now()
    }

    /// Ready once the limit has passed.
    pub fn poll_late(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut watched = self.sweep.watched.borrow_mut();
        let Some(watched) = watched.get_mut(self.place as usize) else { return Poll::Pending };
        if watched.until <= self.now() {
            return Poll::Ready(());
        }
        if watched.until != Tick::NEVER
            && !watched.waker.as_ref().is_some_and(|old| old.will_wake(cx.waker()))
        {
            watched.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.sweep.watched.borrow_mut();
        let old = watched.get_mut(self.place as usize).map(|place| std::mem::replace(place, UNWATCHED));
        drop(watched);
        self.sweep.free.borrow_mut().push(self.place);
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::task::LocalSet;

    #[tokio::test(start_paused = true)]
    async fn a_limit_ends_a_wait_at_its_time_or_two_ticks_later() {
        for begin in [0, 200, 499, 500, 750] {
            let sweep = Rc::new(Sweep::default());
            let watch = sweep.watch();
            let local = LocalSet::new();
            local
                .run_until(async {
                    let sweeping = tokio::task::spawn_local(Rc::clone(&sweep).run());
                    tokio::time::sleep(Duration::from_millis(begin)).await;
                    let start = Instant::now();
                    watch.set(Some(Duration::from_secs(10)));
                    poll_fn(|cx| watch.poll_late(cx)).await;
                    sweeping.abort();
                    let waited = start.elapsed();
                    let latest = Duration::from_secs(10) + 2 * TICK;
                    assert!(waited >= Duration::from_secs(10) && waited <= latest, "{begin}: {waited:?}");
                })
                .await;
        }
    }

    #[test]
    fn a_dropped_watch_gives_its_place_back() {
        let sweep = Rc::new(Sweep::default());
        for _ in 0..100 {
            drop(sweep.watch());
        }
        assert_eq!(sweep.watched.borrow().len(), 1);
    }

    fn is_late(watch: &Watch) -> bool {
        watch.poll_late(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn room_is_made_by_the_one_that_has_rested_longest() {
        let sweep = Rc::new(Sweep::default());
        let watches: Vec<Watch> = (0..200).map(|_| sweep.watch()).collect();
        for (since, watch) in (0..).zip(&watches) {
            sweep.now.set(Tick(1000 - since));
            watch.rest(Duration::from_secs(600));
        }
        sweep.now.set(Tick(1000));
        watches[199].set(Some(Duration::from_secs(600)));
        let ended = |watches: &[Watch]| watches.iter().filter(|watch| is_late(watch)).count();
        for expected in 1..=150 {
            assert!(sweep.end_longest_rest());
            assert_eq!(ended(&watches), expected);
            assert!(is_late(&watches[199 - expected]), "{expected}");
        }
        watches[0].set(None);
        for _ in 0..48 {
            assert!(sweep.end_longest_rest());
        }
        assert!(!sweep.end_longest_rest(), "nobody rests any more");
        assert!(!is_late(&watches[199]) && !is_late(&watches[0]), "those with a request are let be");
    }
}
