//! The endpoints of every upstream that there was since the start, by id: a list that only grows, so that an id means the
//! same for good and a running request keeps its upstream while the settings change.
//!
//! Shared by all cores; the endpoints are read without a lock. Which of them are in use is the fleet's to say. How one is got
//! at may change while its id stays: whoever asks it looks that up anew now and then.

use crate::access::Access;
use crate::endpoint::Endpoint;
use crate::marks::{Along, Mark, Marks, Sent};
use gate_types::UpstreamId;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

const PAGE: usize = 64;
const PAGES: usize = 64;

/// Endpoints by id. Holds [`Roster::MOST`] at most, which bounds what reloading for years can gather.
pub struct Roster {
    pages: [OnceLock<Box<[OnceLock<Enrolled>; PAGE]>>; PAGES],
    len: Mutex<usize>,
    marks: Marks,
}

struct Enrolled {
    endpoint: Endpoint,
    /// How often a probe of it has come back that nobody behind it ever saw.
    returns: AtomicU32,
    /// How often one has come back that others behind it saw, too.
    suspicions: AtomicU32,
    /// Whether it may pass requests on, as a gate does: not known of it that it does not.
    is_gate: AtomicBool,
    /// Looked at when settings change, and never by a request.
    access: Mutex<Arc<Access>>,
}

impl Roster {
    /// How many it can hold.
    pub const MOST: usize = PAGE * PAGES;

    /// The endpoint of this id.
    #[must_use]
    pub fn get(&self, id: UpstreamId) -> Option<&Endpoint> {
        self.enrolled(id).map(|enrolled| &enrolled.endpoint)
    }

    fn enrolled(&self, id: UpstreamId) -> Option<&Enrolled> {
        self.pages.get(id.index() / PAGE)?.get()?.get(id.index() % PAGE)?.get()
    }

    /// How this upstream is got at now.
    #[must_use]
    pub fn access(&self, id: UpstreamId) -> Option<Arc<Access>> {
        let enrolled = self.enrolled(id)?;
        Some(Arc::clone(&enrolled.access.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// From now on it is got at so, by every client that is [refreshed](crate::Client::refresh).
    pub fn set_access(&self, id: UpstreamId, access: Access) {
        if let Some(enrolled) = self.enrolled(id) {
            *enrolled.access.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(access);
        }
    }

    /// The id of an endpoint: the one that it has already, or a new one. `None` where the roster is full.
    pub fn enrol(&self, endpoint: Endpoint) -> Option<UpstreamId> {
        let mut len = self.len.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.find_among(*len, &endpoint);
        if known.is_some() {
            return known;
        }
        let page = self.pages.get(*len / PAGE)?;
        let page = page.get_or_init(|| Box::new([const { OnceLock::new() }; PAGE]));
        // Under the lock nobody else can have taken the place.
        page[*len % PAGE].get_or_init(|| Enrolled {
            endpoint,
            returns: AtomicU32::new(0),
            suspicions: AtomicU32::new(0),
            is_gate: AtomicBool::new(true),
            access: Mutex::default(),
        });
        let id = UpstreamId(u16::try_from(*len).ok()?);
        *len += 1;
        Some(id)
    }

    /// What goes along with one exchange with this upstream, to be known again should it come back while that lasts.
    #[must_use]
    pub fn mark(&self, upstream: UpstreamId, along: Along) -> Option<Mark<'_>> {
        self.marks.make(Sent { upstream, along })
    }

    /// What of this gate's own is under way with one of these marks.
    #[must_use]
    pub fn find_marked(&self, marks: impl Iterator<Item = u128>) -> Option<Sent> {
        self.marks.find(marks)
    }

    /// A probe of this upstream came back that nobody else can have brought back.
    pub fn came_back(&self, id: UpstreamId) {
        if let Some(enrolled) = self.enrolled(id) {
            enrolled.returns.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often that has happened.
    #[must_use]
    pub fn returns(&self, id: UpstreamId) -> u32 {
        self.enrolled(id).map_or(0, |enrolled| enrolled.returns.load(Ordering::Relaxed))
    }

    /// A probe's listing came back: from this upstream, or from somebody behind it.
    pub fn suspect(&self, id: UpstreamId) {
        if let Some(enrolled) = self.enrolled(id) {
            enrolled.suspicions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often that has happened.
    #[must_use]
    pub fn suspicions(&self, id: UpstreamId) -> u32 {
        self.enrolled(id).map_or(0, |enrolled| enrolled.suspicions.load(Ordering::Relaxed))
    }

    /// Whether what is sent there may be passed on by another gate. True of one of which nothing is known.
    #[must_use]
    pub fn is_gate(&self, id: UpstreamId) -> bool {
        self.enrolled(id).is_some_and(|enrolled| enrolled.is_gate.load(Ordering::Relaxed))
    }

    /// A probe found out whether it is one.
    pub fn set_gate(&self, id: UpstreamId, is_gate: bool) {
        if let Some(enrolled) = self.enrolled(id) {
            enrolled.is_gate.store(is_gate, Ordering::Relaxed);
        }
    }

    /// The id of an endpoint that has one.
    #[must_use]
    pub fn find(&self, endpoint: &Endpoint) -> Option<UpstreamId> {
        self.find_among(self.len(), endpoint)
    }

    fn find_among(&self, len: usize, endpoint: &Endpoint) -> Option<UpstreamId> {
        (0..).map(UpstreamId).take(len).find(|id| self.get(*id) == Some(endpoint))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        *self.len.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Roster {
    fn default() -> Self {
        Roster { pages: [const { OnceLock::new() }; PAGES], len: Mutex::new(0), marks: Marks::default() }
    }
}

/// The place in the list is the id. Of equal ones each but the first is left out, and what is beyond [`Roster::MOST`] too.
impl FromIterator<Endpoint> for Roster {
    fn from_iter<I: IntoIterator<Item = Endpoint>>(endpoints: I) -> Self {
        let roster = Roster::default();
        for endpoint in endpoints {
            roster.enrol(endpoint);
        }
        roster
    }
}

impl fmt::Debug for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = (0..).map(UpstreamId).map_while(|id| self.get(id));
        f.debug_list().entries(all).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Endpoint {
        Endpoint::new(false, "gpu", port, "").unwrap()
    }

    #[test]
    fn an_id_stays_whose_it_is() {
        let roster: Roster = [at(1), at(2)].into_iter().collect();
        assert_eq!(roster.enrol(at(3)), Some(UpstreamId(2)));
        assert_eq!(roster.enrol(at(1)), Some(UpstreamId(0)));
        assert_eq!(roster.len(), 3);
        assert_eq!(roster.get(UpstreamId(1)), Some(&at(2)));
        assert_eq!(roster.get(UpstreamId(3)), None);
        assert_eq!(roster.get(UpstreamId(u16::MAX)), None);
    }

    #[test]
    fn it_is_full_at_its_bound() {
        let roster: Roster = (1..=4096).map(at).collect();
        assert_eq!(roster.len(), Roster::MOST);
        assert_eq!(roster.enrol(at(5000)), None);
        assert_eq!(roster.enrol(at(4096)), Some(UpstreamId(4095)));
        assert_eq!(roster.get(UpstreamId(4095)), Some(&at(4096)));
    }
}
