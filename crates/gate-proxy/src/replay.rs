//! The signatures that opened the gate, for as long as they could do so again.
//!
//! Ollama's command line signs whole seconds, so that equal requests of one second have equal signatures: one that was seen
//! before passes again, but only from the address that it came from first. Only signatures that were found valid are
//! remembered, so that nobody without an enrolled key can fill this; and each key has its own room, so that nobody's
//! signatures push out another's. Shared by all cores behind one lock that signed requests alone take.

use gate_keys::{KeyDigest, UnixSeconds};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Signatures of one key that are remembered, the youngest. The command line makes a handful a second.
const MOST_OF_A_KEY: usize = 4096;
/// How often the memories of keys that are not used any more are looked through, in seconds.
const TIDY: i64 = 120;

/// The half of a signature that nobody can choose to be like another's.
type Half = [u8; 32];

/// The signatures of all keys.
#[derive(Debug, Default)]
pub(crate) struct Replays(Mutex<Table>);

impl Replays {
    /// Whether `signature` may open the gate for `from`: it is new, or came from there before. It is remembered to the end
    /// of `until`.
    pub(crate) fn admit(
        &self,
        key: KeyDigest,
        signature: &[u8; 64],
        from: IpAddr,
        until: UnixSeconds,
        now: UnixSeconds,
    ) -> bool {
        // Each change of the table is whole before the lock is given back, so that a panic elsewhere leaves it sound.
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.tidied.saturating_add(TIDY) <= now {
            table.tidied = now;
            table.keys.retain(|_, seen| seen.forget(now));
        }
        let mut half = [0; 32];
        half.copy_from_slice(&signature[..32]);
        table.keys.entry(key).or_default().admit(half, from.to_canonical(), until, now)
    }
}

#[derive(Debug, Default)]
struct Table {
    keys: HashMap<KeyDigest, Seen>,
    tidied: UnixSeconds,
}

/// The signatures of one key.
#[derive(Debug, Default)]
struct Seen {
    from: HashMap<Half, IpAddr>,
    /// The same in the order in which they came, each with its end.
    order: VecDeque<(Half, UnixSeconds)>,
}

impl Seen {
    fn admit(&mut self, half: Half, from: IpAddr, until: UnixSeconds, now: UnixSeconds) -> bool {
        self.forget(now);
        match self.from.entry(half) {
            Entry::Occupied(seen) => *seen.get() == from,
            Entry::Vacant(place) => {
                place.insert(from);
                self.order.push_back((half, until));
                if self.order.len() > MOST_OF_A_KEY
                    && let Some((oldest, _)) = self.order.pop_front()
                {
                    self.from.remove(&oldest);
                }
                true
            }
        }
    }

    /// Forgets what cannot open the gate any more; whether anything is left.
    fn forget(&mut self, now: UnixSeconds) -> bool {
        while let Some((oldest, until)) = self.order.front() {
            if *until >= now {
                return true;
            }
            self.from.remove(oldest);
            self.order.pop_front();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const AWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    fn signature(number: u32) -> [u8; 64] {
        let mut signature = [7; 64];
        signature[..4].copy_from_slice(&number.to_be_bytes());
        signature
    }

    #[test]
    fn a_signature_passes_again_only_from_where_it_came() {
        let (replays, key) = (Replays::default(), KeyDigest::of("key"));
        assert!(replays.admit(key, &signature(1), HOME, 160, 100));
        assert!(replays.admit(key, &signature(1), HOME, 160, 160));
        assert!(replays.admit(
            key,
            &signature(1),
            IpAddr::V6(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped()),
            160,
            100
        ));
        assert!(!replays.admit(key, &signature(1), AWAY, 160, 160));
        assert!(replays.admit(key, &signature(2), AWAY, 160, 160));
        assert!(replays.admit(key, &signature(1), AWAY, 160, 161), "by then its time is over anyway");
    }

    #[test]
    fn memory_is_bounded_for_each_key_by_itself() {
        let (replays, one, other) = (Replays::default(), KeyDigest::of("one"), KeyDigest::of("other"));
        assert!(replays.admit(other, &signature(0), HOME, 160, 100));
        let most = u32::try_from(MOST_OF_A_KEY).unwrap();
        for number in 0..most + 5 {
            assert!(replays.admit(one, &signature(number), HOME, 160, 100));
        }
        assert!(!replays.admit(one, &signature(most), AWAY, 160, 100), "the young ones are remembered");
        assert!(!replays.admit(other, &signature(0), AWAY, 160, 100), "and those of other keys");
        let count = |replays: &Replays| {
            let table = replays.0.lock().unwrap();
            (table.keys.len(), table.keys.values().map(|seen| seen.from.len()).sum::<usize>())
        };
        assert_eq!(count(&replays), (2, MOST_OF_A_KEY + 1));
        assert!(replays.admit(other, &signature(9), HOME, 999, 400));
        assert_eq!(count(&replays), (1, 1), "keys that rest are forgotten");
    }
}
