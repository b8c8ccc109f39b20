//! Ejection: who is up, and fails one request after the other all the same, is asked last for a while. Probes do not show
//! it: `/api/version` is answered whatever becomes of the models.
//!
//! Pure: a row of failures, time is an argument. It says who is ejected; that this only means "after all others", and so nothing
//! where there is no other, is `choose`'s doing.

use crate::fleet::Fleet;
use crate::upstream::{Health, Upstream};
use gate_types::{ModelName, UpstreamId};
use std::time::{Duration, Instant};

/// So many failures in a row eject.
pub const FAILURES_UNTIL_EJECTED: u16 = 5;
/// For how long, the first time. Each trial that fails doubles it.
pub const FIRST_EJECTION: Duration = Duration::from_secs(10);
/// Nobody is ejected for longer without another trial.
pub const LONGEST_EJECTION: Duration = Duration::from_mins(5);

/// Most models of one upstream whose failures are counted.
const MOST_ROWS: usize = 64;

/// What has become of who is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    AsBefore,
    /// It is ejected from now on.
    Ejected,
    /// It is ejected no more.
    Readmitted,
}

/// The failures in a row that were known when a request was sent: the upstream's, and those of the request's model there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Failures {
    pub(crate) upstream: u16,
    pub(crate) model: u16,
}

impl Failures {
    /// Whether there were none: then a success is no news.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Failures::default()
    }
}

/// Failures in a row, and what followed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Row {
    failures: u16,
    place: Place,
}

#[derive(Debug, Clone, Copy, Default)]
enum Place {
    #[default]
    In,
    Out {
        until: Instant,
        pause: Duration,
    },
    /// The next request shows whether it is well again.
    OnTrial {
        pause: Duration,
    },
    /// That request is under way.
    Tried {
        pause: Duration,
        /// When there is another one; unknown before the first review.
        again: Option<Instant>,
    },
}

impl Row {
    pub(crate) fn failures(&self) -> u16 {
        self.failures
    }

    pub(crate) fn is_ejected(&self) -> bool {
        matches!(self.place, Place::Out { .. } | Place::Tried { .. })
    }

    /// A request is sent there. Whether it is the trial.
    pub(crate) fn begin(&mut self) -> bool {
        let Place::OnTrial { pause } = self.place else { return false };
        self.place = Place::Tried { pause, again: None };
        true
    }

    /// A request failed that was sent when `before` failures were known. Those that were under way together fail for one
    /// cause and count once: a restart with sixty requests under way is one failure.
    pub(crate) fn fail(&mut self, before: u16, has_other: bool, now: Instant) -> Verdict {
        if before != self.failures {
            return Verdict::AsBefore;
        }
        match self.place {
            Place::In => {
                self.failures = self.failures.saturating_add(1);
                if self.failures < FAILURES_UNTIL_EJECTED || !has_other {
                    return Verdict::AsBefore;
                }
                self.place = Place::Out { until: now + FIRST_EJECTION, pause: FIRST_EJECTION };
                Verdict::Ejected
            }
            Place::Tried { pause, .. } => {
                let pause = (pause * 2).min(LONGEST_EJECTION);
                self.failures = self.failures.saturating_add(1);
                self.place = Place::Out { until: now + pause, pause };
                Verdict::AsBefore
            }
            // Asked because there was no other: shows nothing new.
            Place::Out { .. } | Place::OnTrial { .. } => Verdict::AsBefore,
        }
    }

    /// A request was served.
    pub(crate) fn succeed(&mut self) -> Verdict {
        let was = std::mem::take(self);
        if matches!(was.place, Place::In) { Verdict::AsBefore } else { Verdict::Readmitted }
    }

    /// Time goes by. Where a trial has shown nothing, because its client left or its model takes long, there is another one
    /// after the time of a first ejection, however often somebody looks.
    pub(crate) fn review(&mut self, now: Instant) {
        match self.place {
            Place::Out { until, pause } if now >= until => self.place = Place::OnTrial { pause },
            Place::Tried { pause, again: Some(again) } if now >= again => {
                self.place = Place::OnTrial { pause }
            }
            Place::Tried { pause, again: None } => {
                self.place = Place::Tried { pause, again: Some(now + FIRST_EJECTION) };
            }
            Place::In | Place::Out { .. } | Place::OnTrial { .. } | Place::Tried { .. } => {}
        }
    }
}

impl Fleet {
    /// A request that ran a model failed, by the fault of upstream `id`, or of `model` there alone. `before` is what was known
    /// when it was sent.
    pub fn failed(
        &mut self,
        id: UpstreamId,
        model: Option<&ModelName>,
        before: Failures,
        now: Instant,
    ) -> Verdict {
        let is_other = |other: UpstreamId, upstream: &Upstream| {
            let has = model.is_none_or(|model| upstream.has(model));
            other != id && has && upstream.health == Health::Up
        };
        let has_other = self.iter().any(|(other, upstream)| is_other(other, upstream));
        let known = self.upstreams.get_mut(id.index()).filter(|upstream| !upstream.is_retired);
        let Some(upstream) = known else { return Verdict::AsBefore };
        let Some(model) = model else { return upstream.row.fail(before.upstream, has_other, now) };
        let at = upstream.rows.iter().position(|(name, _)| name == model).unwrap_or_else(|| {
            if upstream.rows.len() >= MOST_ROWS {
                upstream.rows.remove(0);
            }
            upstream.rows.push((model.clone(), Row::default()));
            upstream.rows.len() - 1
        });
        upstream.rows[at].1.fail(before.model, has_other, now)
    }

    /// A request that ran `model` was served by upstream `id`.
    pub fn served(&mut self, id: UpstreamId, model: Option<&ModelName>) -> Verdict {
        let Some(upstream) = self.upstreams.get_mut(id.index()) else { return Verdict::AsBefore };
        let of_upstream = upstream.row.succeed();
        let at = upstream.rows.iter().position(|(name, _)| Some(name) == model);
        let of_model = at.map_or(Verdict::AsBefore, |at| upstream.rows.remove(at).1.succeed());
        if of_upstream == Verdict::AsBefore { of_model } else { of_upstream }
    }

    /// Time goes by: who was ejected at upstream `id` for long enough is tried again.
    pub fn review(&mut self, id: UpstreamId, now: Instant) {
        if let Some(upstream) = self.upstreams.get_mut(id.index()) {
            upstream.row.review(now);
            upstream.rows.iter_mut().for_each(|(_, row)| row.review(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays failures `f`, those of an earlier time `o`, successes `s`, requests sent `b`, looks `r`, and seconds that go by;
    /// what is told, and `-` or `+` for who is out or in at the end.
    fn played(script: &str, has_other: bool) -> String {
        let (mut row, mut now) = (Row::default(), Instant::now());
        let mut told = String::new();
        for word in script.split(' ') {
            let verdict = match word {
                "f" => row.fail(row.failures(), has_other, now),
                "o" => row.fail(0, has_other, now),
                "s" => row.succeed(),
                "b" => {
                    told.push_str(if row.begin() { "trial " } else { "" });
                    Verdict::AsBefore
                }
                "r" => {
                    row.review(now);
                    Verdict::AsBefore
                }
                seconds => {
                    now += Duration::from_secs(seconds.parse().unwrap());
                    Verdict::AsBefore
                }
            };
            told.push_str(match verdict {
                Verdict::AsBefore => "",
                Verdict::Ejected => "out ",
                Verdict::Readmitted => "in ",
            });
        }
        told + if row.is_ejected() { "-" } else { "+" }
    }

    #[test]
    fn five_in_a_row_eject_and_a_trial_decides() {
        for (script, told) in [
            ("f f f f", "+"),
            ("f f f f f", "out -"),
            ("f f f f s f f f f", "+"),
            ("o o o o o o o o", "+"),
            ("f f f f f 9 r b", "out -"),
            ("f f f f f 10 b", "out -"),
            ("f f f f f 10 r", "out +"),
            ("f f f f f 10 r b b b", "out trial -"),
            ("f f f f f 10 r b s", "out trial in +"),
            ("f f f f f 10 r b s f f f f", "out trial in +"),
            ("f f f f f 10 r b f 19 r b", "out trial -"),
            ("f f f f f 10 r b f 20 r b f 39 r b", "out trial trial -"),
            ("f f f f f 10 r b f 20 r b f 40 r b", "out trial trial trial -"),
            ("f f f f f f f f 10 r b", "out trial -"),
            ("f f f f f 10 r b r b 9 r b s", "out trial in +"),
            ("f f f f f 10 r b r b 10 r b r 10 r b s", "out trial trial trial in +"),
            ("f f f f f 10 r b o r 10 r b", "out trial trial -"),
        ] {
            assert_eq!(played(script, true), told, "{script}");
        }
        assert_eq!(played("f f f f f f f f", false), "+", "the last one stays");
    }

    #[test]
    fn nobody_is_out_for_longer_than_the_longest() {
        let trial = |seconds: u32| format!("{seconds} r b f");
        let script =
            ["f f f f f".to_owned(), trial(10), trial(20), trial(40), trial(80), trial(160)].join(" ");
        let out = |then: &str| played(&format!("{script} {then}"), true);
        assert_eq!(out("299 r b"), out("0"));
        assert_eq!(out("300 r b"), out("0").replace('-', "trial -"));
        assert_eq!(out("300 r b f 300 r b"), out("0").replace('-', "trial trial -"));
    }
}
