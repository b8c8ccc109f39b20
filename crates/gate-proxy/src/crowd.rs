//! How many connections clients have open, in all and from each address, and who is turned away.
//!
//! Counted once per connection, under one short lock of all cores; no request comes here. Beyond the bound of one address
//! a connection is closed at once. Beyond the bound of all, the connection that has waited longest for a request makes
//! room; where all are busy the new one is closed: strangers who hold connections and ask nothing lock nobody out.
//!
//! Room is made by a connection of the core that took the new one: the system spreads connections evenly over the cores,
//! and strangers are never busy, so that a core without one that waits is full of known callers' requests.

use crate::anonymous::Keyless;
use crate::clock::unix_now;
use crate::entrance::{Entered, Entrance};
use crate::gate::Gate;
use crate::net::Network;
use crate::seldom::Seldom;
use gate_h1::proxy::Announced;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a connection waits before it is asked again whether it needs a key, and how often.
const MOMENT: Duration = Duration::from_millis(50);
const MOMENTS: usize = 5;

/// The connections of all cores.
#[derive(Debug, Default)]
pub struct Crowd {
    open: AtomicUsize,
    by_net: Mutex<HashMap<Network, u32>>,
    turned_away: [AtomicU64; 2],
    made_room: AtomicU64,
    told: Seldom,
}

/// Why a connection is closed instead of served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnedAway {
    /// Its address has as many as one address may have.
    ByAddress,
    /// There are as many as there may be, and those of this core are all busy.
    ByAll,
}

impl TurnedAway {
    /// All of them, with the setting whose bound was reached.
    pub(crate) const ALL: [(Self, &'static str); 2] =
        [(TurnedAway::ByAddress, "per_address"), (TurnedAway::ByAll, "connections")];
}

impl Crowd {
    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections that were closed as they came, for this reason, since the beginning.
    #[must_use]
    pub fn turned_away(&self, why: TurnedAway) -> u64 {
        self.turned_away[why as usize].load(Ordering::Relaxed)
    }

    /// Connections that were closed while they waited for a request, to make room for others.
    #[must_use]
    pub fn made_room(&self) -> u64 {
        self.made_room.load(Ordering::Relaxed)
    }

    /// Counted always, told once a minute.
    fn turn_away(&self, why: TurnedAway, peer: IpAddr) -> TurnedAway {
        self.turned_away[why as usize].fetch_add(1, Ordering::Relaxed);
        if self.told.is_due(why as usize, unix_now()) {
            match why {
                TurnedAway::ByAddress => {
                    tracing::warn!(
                        "{peer} has as many connections as limits.per_address allows: closing others"
                    );
                }
                TurnedAway::ByAll => tracing::warn!(
                    "limits.connections is reached and every connection of this thread is busy: closing new ones"
                ),
            }
        }
        why
    }

    fn enter(&self, net: Network, most: usize) -> bool {
        let mut by_net = self.by_net.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_net.entry(net).or_default();
        if *count as usize >= most {
            return false;
        }
        *count += 1;
        true
    }

    /// Counts a request for its client's address as if it were a connection from there.
    ///
    /// # Errors
    /// Where that address has as many as one may have.
    pub(crate) fn visit(&self, address: IpAddr, most: usize) -> Result<Visit<'_>, TurnedAway> {
        let net = Network::of(address);
        if self.enter(net, most) {
            Ok(Visit { crowd: self, net })
        } else {
            Err(self.turn_away(TurnedAway::ByAddress, address))
        }
    }

    fn leave(&self, net: Network) {
        let mut by_net = self.by_net.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_net.get_mut(&net) {
            *count -= 1;
            if *count == 0 {
                by_net.remove(&net);
                if by_net.capacity() > 4 * by_net.len().max(64) {
                    by_net.shrink_to_fit();
                }
            }
        }
    }
}

/// A client whose connection is let in: what serving it takes. Counted until it is dropped.
pub struct Guest {
    pub(crate) gate: Rc<Gate>,
    pub(crate) entered: Entered,
    /// It counts for its address: trusted proxies do not, their clients do; nor does what comes from within.
    is_counted: bool,
}

/// A request that counts for its client's address, until it is dropped.
#[derive(Debug)]
pub(crate) struct Visit<'c> {
    crowd: &'c Crowd,
    net: Network,
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.crowd.leave(self.net);
    }
}

impl Guest {
    /// Whether the other end is a proxy that may say where its client is.
    #[must_use]
    pub fn is_proxied(&self) -> bool {
        self.entered.way.is_proxied
    }

    /// It is not known yet whether it needs a key.
    pub(crate) fn is_undecided(&self) -> bool {
        self.entered.way.keyless == Keyless::Later
    }

    /// Waits until that is known of its connection to `local`, a few moments at most: after them it needs one.
    pub(crate) async fn decide(&mut self, local: IpAddr) {
        // Any answer is good that is newer than this.
        let since = Instant::now();
        for _ in 0..MOMENTS {
            tokio::time::sleep(MOMENT).await;
            let Some(anonymous) = &self.entered.entrance.anonymous else { return };
            self.entered.way.keyless = anonymous.judge(self.entered.peer, local, since);
            if !self.is_undecided() {
                return;
            }
        }
    }

    /// A trusted proxy has said where its client is: from here on it is as if that one had connected.
    ///
    /// # Errors
    /// Where its address has as many connections as one may have.
    pub(crate) fn announce(&mut self, announced: Announced) -> Result<(), TurnedAway> {
        let Some(source) = announced.source else { return Ok(()) };
        self.entered.peer = source;
        self.entered.way = self.entered.entrance.way(source, None, Some(announced));
        if !self.is_proxied() && !self.is_counted {
            let crowd = &self.gate.shared.crowd;
            if !crowd.enter(Network::of(source), self.gate.rules().limits.per_address) {
                return Err(crowd.turn_away(TurnedAway::ByAddress, source));
            }
            self.is_counted = true;
        }
        Ok(())
    }
}

impl Gate {
    /// Lets in a new connection by this entrance, from `peer`, or says why it must be closed. `local` is the address at which it
    /// arrived, which only entrances ask for that let somebody in without a key.
    ///
    /// # Errors
    /// Where one of the bounds is reached.
    pub fn admit(
        self: &Rc<Self>,
        peer: IpAddr,
        local: Option<IpAddr>,
        entrance: &Rc<Entrance>,
    ) -> Result<Guest, TurnedAway> {
        let rules = self.rules();
        let crowd = &self.shared.crowd;
        let peer = peer.to_canonical();
        let is_counted = !entrance.trusts(peer);
        if is_counted && !crowd.enter(Network::of(peer), rules.limits.per_address) {
            return Err(crowd.turn_away(TurnedAway::ByAddress, peer));
        }
        if crowd.open.fetch_add(1, Ordering::Relaxed) >= rules.limits.connections && !self.make_room() {
            crowd.open.fetch_sub(1, Ordering::Relaxed);
            if is_counted {
                crowd.leave(Network::of(peer));
            }
            return Err(crowd.turn_away(TurnedAway::ByAll, peer));
        }
        // Judged after it was counted: that may ask the kernel, and whom the bounds turn away shall cost nothing.
        let way = entrance.way(peer, local, None);
        // From here on dropping the guest takes back all counts.
        Ok(self.guest(Entered { entrance: Rc::clone(entrance), way, peer, certificate: None }, is_counted))
    }

    /// Lets in a connection of this process's own, always: strangers who hold all that their bounds allow must not lock the
    /// gate's owner out. It counts among all and for no address; whoever opens such connections bounds their number.
    #[must_use]
    pub fn admit_own(self: &Rc<Self>, entrance: &Rc<Entrance>) -> Guest {
        let peer = IpAddr::from(Ipv4Addr::LOCALHOST);
        let way = entrance.way(peer, None, None);
        self.shared.crowd.open.fetch_add(1, Ordering::Relaxed);
        self.guest(Entered { entrance: Rc::clone(entrance), way, peer, certificate: None }, false)
    }

    fn guest(self: &Rc<Self>, entered: Entered, is_counted: bool) -> Guest {
        self.ledger.opened();
        Guest { gate: Rc::clone(self), entered, is_counted }
    }

    /// Has the connection of this core that waited longest for a request end soon; false where none waits.
    pub fn make_room(&self) -> bool {
        let made = self.sweep.end_longest_rest();
        self.shared.crowd.made_room.fetch_add(u64::from(made), Ordering::Relaxed);
        made
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let crowd = &self.gate.shared.crowd;
        crowd.open.fetch_sub(1, Ordering::Relaxed);
        if self.is_counted {
            crowd.leave(Network::of(self.entered.peer));
        }
        self.gate.ledger.closed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_back_and_leave_nothing() {
        let crowd = Crowd::default();
        let nets: Vec<Network> = (0..1000_u32).map(|n| Network::V4(n.to_be_bytes())).collect();
        for net in &nets {
            assert!(crowd.enter(*net, 2) && crowd.enter(*net, 2) && !crowd.enter(*net, 2));
        }
        for net in nets.iter().chain(&nets) {
            crowd.leave(*net);
        }
        let by_net = crowd.by_net.lock().unwrap();
        assert!(by_net.is_empty() && by_net.capacity() < 300, "{}", by_net.capacity());
        assert_eq!(crowd.open(), 0);
    }
}
