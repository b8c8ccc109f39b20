//! Who may go on: the running requests of one core and the keys that they run by.
//!
//! A request takes its lease when it begins and gives it back when it ends, however it ends. `path.rs` polls the lease
//! around everything else, in one place; a key that stops being valid, or the end of the program, ends the request there,
//! whatever it waits for. A poll costs a look at a flag; nothing here touches a request's bytes, or another core.

use gate_keys::{Key, KeyDigest, KeyRing, Kind, UnixSeconds, Verdict};
use gate_wire::Reason;
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The leases of one core.
#[derive(Debug, Default)]
pub struct Leases {
    running: RefCell<Vec<Running>>,
    free: RefCell<Vec<usize>>,
    closed: Cell<bool>,
}

/// Why a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Its key is no longer valid.
    Key,
    /// The gate ends.
    Gate,
}

impl Over {
    /// As the client is told.
    pub(crate) fn reason(self) -> Reason {
        match self {
            Over::Key => Reason::InvalidKey,
            Over::Gate => Reason::ShuttingDown,
        }
    }
}

/// One running request; a place that nobody holds says nothing.
#[derive(Debug, Default)]
struct Running {
    key: Option<KeyInUse>,
    ended: Option<Over>,
    waker: Option<Waker>,
}

/// What is kept of a key: no count of references that cores would share.
#[derive(Debug, Clone, Copy)]
struct KeyInUse {
    kind: Kind,
    digest: KeyDigest,
    expires: Option<UnixSeconds>,
}

impl Leases {
    /// A lease of a request that has shown no key yet.
    pub(crate) fn take(&self) -> Lease<'_> {
        let mut running = self.running.borrow_mut();
        let place = self.free.borrow_mut().pop().unwrap_or_else(|| {
            running.push(Running::default());
            running.len() - 1
        });
        let ended = self.closed.get().then_some(Over::Gate);
        running[place] = Running { ended, ..Running::default() };
        Lease { leases: self, place }
    }

    /// The gate ends: so does every request, those that begin from now on too.
    pub fn end_all(&self) {
        self.closed.set(true);
        self.end_where(|_| Some(Over::Gate));
    }

    /// The keys changed: requests whose key is no longer valid end.
    pub(crate) fn review(&self, ring: &KeyRing, now: UnixSeconds) {
        self.end_where(|running| {
            let held = running.key.as_mut()?;
            match ring.find(held.kind, &held.digest, now) {
                Verdict::Valid(key) => {
                    held.expires = key.expires;
                    None
                }
                Verdict::Expired(_) | Verdict::Revoked(_) | Verdict::Unknown | Verdict::Malformed => {
                    Some(Over::Key)
                }
            }
        });
    }

    /// Time went on: requests whose key has expired end.
    pub(crate) fn expire(&self, now: UnixSeconds) {
        self.end_where(|running| {
            let is_over = running.key?.expires.is_some_and(|end| end <= now);
            is_over.then_some(Over::Key)
        });
    }

    fn end_where(&self, mut why: impl FnMut(&mut Running) -> Option<Over>) {
        // Woken outside of the borrow: what a waker does is not known here. No allocation where nobody ends.
        let mut ended = Vec::new();
        for running in self.running.borrow_mut().iter_mut().filter(|running| running.ended.is_none()) {
            if let Some(over) = why(running) {
                running.ended = Some(over);
                ended.extend(running.waker.take());
            }
        }
        ended.into_iter().for_each(Waker::wake);
    }
}

/// One request's lease; given back when dropped.
#[derive(Debug)]
pub(crate) struct Lease<'l> {
    leases: &'l Leases,
    place: usize,
}

impl Lease<'_> {
    /// From now on the request runs by `key`.
    pub(crate) fn hold(&self, key: &Key) {
        if let Some(running) = self.leases.running.borrow_mut().get_mut(self.place) {
            running.key = Some(KeyInUse { kind: key.kind, digest: key.digest, expires: key.expires });
        }
    }

    /// Polls what the request does, unless the lease has ended: then why, and `serve` shall be dropped.
    pub(crate) fn poll<F: Future>(
        &self,
        cx: &mut Context<'_>,
        serve: Pin<&mut F>,
    ) -> Poll<Result<F::Output, Over>> {
        if let Some(over) = self.leases.running.borrow().get(self.place).and_then(|running| running.ended) {
            return Poll::Ready(Err(over));
        }
        if let Poll::Ready(done) = serve.poll(cx) {
            return Poll::Ready(Ok(done));
        }
        if let Some(running) = self.leases.running.borrow_mut().get_mut(self.place) {
            match &running.waker {
                Some(waker) if waker.will_wake(cx.waker()) => {}
                _ => running.waker = Some(cx.waker().clone()),
            }
        }
        Poll::Pending
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let given_back = self.leases.running.borrow_mut().get_mut(self.place).map(std::mem::take);
        self.leases.free.borrow_mut().push(self.place);
        // A waker is dropped outside of the borrow.
        drop(given_back);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gate_keys::{KeyId, KeyName, OsEntropy, mint};
    use gate_types::ScopeSet;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn key(expires: Option<UnixSeconds>, revoked: Option<UnixSeconds>, mark: &gate_keys::Mark) -> Key {
        let mut key = Key::new(KeyId(1), KeyName::first(), mark.clone(), ScopeSet::DEFAULT, 0);
        (key.expires, key.revoked) = (expires, revoked);
        key
    }

    /// What a request that waits for ever is told after `happens`, and how often it was woken.
    fn after(happens: impl FnOnce(&Leases, &gate_keys::Mark)) -> (Option<Over>, usize) {
        let mark = mint(&mut OsEntropy).unwrap().mark;
        let leases = Leases::default();
        let lease = leases.take();
        lease.hold(&key(Some(100), None, &mark));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let mut forever = pin!(std::future::pending::<()>());
        assert!(lease.poll(&mut cx, forever.as_mut()).is_pending());
        happens(&leases, &mark);
        let told = match lease.poll(&mut cx, forever) {
            Poll::Ready(told) => told.err(),
            Poll::Pending => None,
        };
        (told, woken.0.load(Ordering::Relaxed))
    }

    #[test]
    fn a_request_ends_with_its_key_and_is_woken_for_it() {
        let over = (Some(Over::Key), 1);
        assert_eq!(after(|leases, _| leases.review(&KeyRing::default(), 5)), over);
        let revoked = |leases: &Leases, mark: &_| leases.review(&KeyRing::new([key(None, Some(4), mark)]), 5);
        assert_eq!(after(revoked), over);
        assert_eq!(after(|leases, _| leases.expire(100)), over);
    }

    #[test]
    fn a_request_goes_on_while_its_key_is_valid() {
        assert_eq!(after(|leases, _| leases.expire(99)), (None, 0));
        // A new ring may have given it more time.
        let prolonged = |leases: &Leases, mark: &_| {
            leases.review(&KeyRing::new([key(Some(200), None, mark)]), 5);
            leases.expire(199);
        };
        assert_eq!(after(prolonged), (None, 0));
    }

    #[test]
    fn the_end_of_the_program_ends_every_request_also_later_ones() {
        assert_eq!(after(|leases, _| leases.end_all()), (Some(Over::Gate), 1));
        let leases = Leases::default();
        leases.end_all();
        let late = leases.take();
        let mut cx = Context::from_waker(Waker::noop());
        let polled = late.poll(&mut cx, pin!(std::future::ready(())));
        assert_eq!(polled, Poll::Ready(Err(Over::Gate)));
    }

    #[test]
    fn a_place_is_used_again_and_forgets_its_key() {
        let leases = Leases::default();
        for _ in 0..100 {
            let lease = leases.take();
            assert!(leases.running.borrow()[lease.place].key.is_none());
            lease.hold(&key(None, None, &mint(&mut OsEntropy).unwrap().mark));
        }
        assert_eq!(leases.running.borrow().len(), 1);
    }
}
