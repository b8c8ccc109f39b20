//! How many wrong credentials came from where: so many a minute are told that they are wrong, all further ones only to wait.
//!
//! Shared by all cores behind one lock, which nobody takes but who has just failed. It never decides about a valid
//! credential.

use crate::net::Network;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The time in which failures are counted together, from an address's first one on.
const WINDOW: Duration = Duration::from_mins(1);
/// Most addresses that are remembered; beyond that the one whose window began first is forgotten.
const MOST_ADDRESSES: usize = 65_536;

/// The failures of the last minute.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<Table>);

impl Failures {
    /// How long an address has to wait that has failed `limit` times; none where another failure would be told.
    pub(crate) fn wait(&self, from: IpAddr, limit: usize, now: Instant) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).wait(Network::of(from), limit, now)
    }

    /// Counts a failure. An error where `limit` were told already: how long until they are told again.
    pub(crate) fn count(&self, from: IpAddr, limit: usize, now: Instant) -> Result<(), Duration> {
        // Each change of the table is whole before the lock is given back, so that a panic elsewhere leaves it sound.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).count(Network::of(from), limit, now)
    }
}

#[derive(Debug, Default)]
struct Table {
    failed: HashMap<Network, Window>,
    /// The same, in the order in which their windows began.
    order: VecDeque<Network>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    count: usize,
}

impl Table {
    fn wait(&self, from: Network, limit: usize, now: Instant) -> Option<Duration> {
        let window = self.failed.get(&from).filter(|window| window.count >= limit)?;
        let left = WINDOW.checked_sub(now.saturating_duration_since(window.began))?;
        Some(left).filter(|left| !left.is_zero())
    }

    fn count(&mut self, from: Network, limit: usize, now: Instant) -> Result<(), Duration> {
        self.forget(now);
        match self.failed.entry(from) {
            Entry::Occupied(mut window) => {
                let window = window.get_mut();
                if window.count >= limit {
                    return Err(WINDOW.saturating_sub(now.saturating_duration_since(window.began)));
                }
                window.count += 1;
            }
            Entry::Vacant(place) => {
                place.insert(Window { began: now, count: 1 });
                self.order.push_back(from);
            }
        }
        Ok(())
    }

    /// Forgets the windows that are over, and makes room for one more.
    fn forget(&mut self, now: Instant) {
        while let Some(oldest) = self.order.front() {
            let is_over = self
                .failed
                .get(oldest)
                .is_none_or(|window| now.saturating_duration_since(window.began) >= WINDOW);
            if !is_over && self.order.len() < MOST_ADDRESSES {
                return;
            }
            self.failed.remove(oldest);
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn v6(text: &str) -> IpAddr {
        IpAddr::V6(text.parse::<Ipv6Addr>().unwrap())
    }

    #[test]
    fn so_many_a_minute_and_then_how_long_to_wait() {
        let (failures, begun) = (Failures::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        for second in 0..30 {
            assert_eq!(failures.wait(ONE, 30, at(second)), None);
            assert_eq!(failures.count(ONE, 30, at(second)), Ok(()));
        }
        assert_eq!(failures.wait(ONE, 30, at(30)), Some(Duration::from_secs(30)));
        assert_eq!(failures.wait(ONE, 31, at(30)), None, "the limit was raised");
        assert_eq!(failures.wait(ONE, 30, at(60)), None);
        assert_eq!(failures.count(ONE, 30, at(30)), Err(Duration::from_secs(30)));
        assert_eq!(failures.count(ONE, 30, at(59)), Err(Duration::from_secs(1)));
        assert_eq!(failures.count(ONE, 30, at(60)), Ok(()), "a new minute");
    }

    #[test]
    fn each_address_has_its_own_count_and_ipv6_its_64() {
        let (failures, now) = (Failures::default(), Instant::now());
        assert_eq!(failures.count(ONE, 1, now), Ok(()));
        assert_eq!(failures.count(v6("2001:db8:0:1::1"), 1, now), Ok(()));
        assert_eq!(failures.count(v6("2001:db8:0:2::1"), 1, now), Ok(()));
        assert!(failures.count(v6("2001:db8:0:1:ffff::9"), 1, now).is_err(), "the same /64");
        assert!(failures.count(v6("::ffff:192.0.2.1"), 1, now).is_err(), "the same IPv4 address");
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes_first() {
        let (mut table, now) = (Table::default(), Instant::now());
        let most = u32::try_from(MOST_ADDRESSES).unwrap();
        let address = |n: u32| Network::V4(n.to_be_bytes());
        for n in 0..most + 10 {
            assert_eq!(table.count(address(n), 1, now), Ok(()));
        }
        assert_eq!((table.failed.len(), table.order.len()), (MOST_ADDRESSES, MOST_ADDRESSES));
        assert!(table.count(address(most + 9), 1, now).is_err(), "the youngest is remembered");
        assert_eq!(table.count(address(0), 1, now), Ok(()), "the oldest is forgotten");
        table.count(address(1), 1, now + WINDOW).unwrap();
        assert_eq!((table.failed.len(), table.order.len()), (1, 1), "what is over is forgotten");
    }
}
