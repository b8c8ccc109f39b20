//! Certificates that the gate's own authority (`own_ca.rs`) makes: another one in time, and where the machine's names change.
//! One that could not be made is tried again, ever more rarely; the one before stays in force.

use super::own_ca::{OwnCa, own_names};
use super::tls::Speaker;
use std::time::{Duration, Instant};

/// How often the machine's own names are looked at.
const LOOK_AT_NAMES: Duration = Duration::from_secs(30);
/// The longest rest between two tries to make one that fail.
const LONGEST_REST: Duration = Duration::from_hours(1);
/// A certificate of our own is made anew after this long; it would be good for more than a year.
const GOOD_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// What the gate's own authority made last, and when.
pub(super) struct Made {
    names: Vec<String>,
    at: Instant,
    looked: Instant,
    /// Until the next look, where the last one came to nothing; none otherwise.
    rest: Option<Duration>,
}

impl Made {
    /// Makes the first one.
    ///
    /// # Errors
    /// Where none can be made.
    pub(super) fn begin(ca: &OwnCa, speaker: &Speaker) -> anyhow::Result<Self> {
        let names = own_names();
        issue(ca, &names, speaker)?;
        let now = Instant::now();
        Ok(Self { names, at: now, looked: now, rest: None })
    }

    /// Makes another one where the machine has other names than before, or the one in force is no longer young. `None` where
    /// there is nothing to do.
    pub(super) fn anew(&mut self, ca: &OwnCa, speaker: &Speaker) -> Option<anyhow::Result<String>> {
        if self.looked.elapsed() < self.rest.unwrap_or(LOOK_AT_NAMES) {
            return None;
        }
        self.looked = Instant::now();
        let now = own_names();
        if now == self.names && self.at.elapsed() < GOOD_FOR {
            self.rest = None;
            return None;
        }
        Some(self.taken(now, |names| issue(ca, names, speaker)))
    }

    /// What came of making one for these names. Where nothing did, the old ones stay, so that it is tried again: later
    /// each time, for whoever lacks memory or entropy has enough to do.
    fn taken(
        &mut self,
        names: Vec<String>,
        make: impl FnOnce(&[String]) -> anyhow::Result<()>,
    ) -> anyhow::Result<String> {
        match make(&names) {
            Ok(()) => {
                (self.names, self.at, self.rest) = (names, self.looked, None);
                Ok(format!("a certificate for {}", self.names.join(", ")))
            }
            Err(error) => {
                let rest = self.rest.map_or(LOOK_AT_NAMES, |rest| (rest * 2).min(LONGEST_REST));
                self.rest = Some(rest);
                let (names, rest) = (names.join(", "), gate_config::show_duration(rest));
                Err(error.context(format!("no certificate for {names}, tried again in {rest}")))
            }
        }
    }
}

fn issue(ca: &OwnCa, names: &[String], speaker: &Speaker) -> anyhow::Result<()> {
    let (cert, key) = ca.issue(names)?;
    speaker.show(vec![cert], key)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[test]
    fn what_could_not_be_made_is_tried_again_ever_more_rarely() {
        let now = Instant::now();
        let mut made = Made { names: vec!["old".to_owned()], at: now, looked: now, rest: None };
        let mut rests = Vec::new();
        for _ in 0..9 {
            let told = made.taken(vec!["new".to_owned()], |_| bail!("no memory")).unwrap_err();
            assert!(format!("{told:#}").contains("new, tried again in"), "{told:#}");
            assert_eq!(made.names, ["old"], "so that the next look sees that others are wanted");
            rests.push(made.rest.unwrap().as_secs());
        }
        assert_eq!(rests, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert!(made.taken(vec!["new".to_owned()], |_| Ok(())).is_ok());
        assert_eq!((made.names.as_slice(), made.rest), (&["new".to_owned()][..], None));
    }
}
