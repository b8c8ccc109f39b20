//! How far a pull is: the lines that Ollama writes about it, added up, and the words for it. Pure: time is an argument.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Layers that are counted; a model has about five, a large one of many files some hundreds.
const MOST_LAYERS: usize = 4096;
/// Over how long the speed is measured.
const STRETCH: Duration = Duration::from_secs(5);
/// Characters of a failure that are repeated.
const SAID: usize = 300;

/// One line of `POST /api/pull` (v0.24.0 and v0.32.15): `{status, digest?, total?, completed?}` or `{error}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) status: String,
    pub(crate) error: Option<String>,
    digest: Option<String>,
    total: u64,
    completed: u64,
}

impl Line {
    /// Reads a line; none where it is no JSON object.
    pub(crate) fn read(line: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(line).ok()?;
        let object = value.as_object()?;
        let text = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
        let number = |name: &str| object.get(name).and_then(Value::as_u64).unwrap_or(0);
        Some(Self {
            status: text("status").unwrap_or_default(),
            error: text("error").map(|text| plain(&text)),
            digest: text("digest"),
            total: number("total"),
            completed: number("completed"),
        })
    }

    /// Digest, size and how much of it is there, of a line about a layer.
    pub(crate) fn layer(&self) -> (Option<&str>, u64, u64) {
        (self.digest.as_deref(), self.total, self.completed)
    }
}

/// What somebody else said, on one line that no terminal acts upon, and not at length.
pub(crate) fn plain(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    if line.chars().count() <= SAID { line } else { line.chars().take(SAID).chain(['…']).collect() }
}

/// What has been told of a pull so far.
#[derive(Debug)]
pub(crate) struct Progress {
    layers: BTreeMap<String, (u64, u64)>,
    /// The last words that were no layer: `verifying sha256 digest`.
    stage: String,
    begun: Instant,
    mark: (Instant, u64),
    /// Bytes a second.
    speed: Option<u64>,
}

impl Progress {
    /// Nothing yet.
    pub(crate) fn begin(now: Instant) -> Self {
        Self { layers: BTreeMap::new(), stage: String::new(), begun: now, mark: (now, 0), speed: None }
    }

    /// Takes in a line.
    pub(crate) fn add(&mut self, line: &Line, now: Instant) {
        match &line.digest {
            Some(digest) if line.total > 0 => {
                let known = self.layers.contains_key(digest);
                if known || self.layers.len() < MOST_LAYERS {
                    let done = line.completed.min(line.total);
                    if !known {
                        // What lies there from an earlier try did not come now.
                        self.mark.1 = self.mark.1.saturating_add(done);
                    }
                    self.layers.insert(digest.clone(), (done, line.total));
                }
                self.stage.clear();
            }
            _ => self.stage = plain(&line.status),
        }
        let (since, before) = self.mark;
        let time = now.saturating_duration_since(since);
        if time >= STRETCH {
            let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
            self.speed = Some(self.done().saturating_sub(before).saturating_mul(1000) / millis);
            self.mark = (now, self.done());
        }
    }

    /// Bytes that are there.
    pub(crate) fn done(&self) -> u64 {
        self.layers.values().fold(0, |sum, (done, _)| sum.saturating_add(*done))
    }

    /// All bytes that have been told of. The largest layer comes first, so that later ones change little.
    pub(crate) fn total(&self) -> u64 {
        self.layers.values().fold(0, |sum, (_, total)| sum.saturating_add(*total))
    }

    /// How long the rest takes, where that can be said.
    pub(crate) fn left(&self) -> Option<Duration> {
        let speed = self.speed.filter(|speed| *speed > 0)?;
        Some(Duration::from_secs(self.total().saturating_sub(self.done()).div_ceil(speed)))
    }

    /// In words: `42 %, 2.1 of 5.0 GB, 35 MB/s, 1 min 23 s left`.
    pub(crate) fn words(&self) -> String {
        let Some(percent) = gate_proxy::percent(self.done(), self.total()) else {
            return if self.stage.is_empty() { "begins".to_owned() } else { self.stage.clone() };
        };
        if !self.stage.is_empty() && self.done() == self.total() {
            return self.stage.clone();
        }
        let mut text = format!("{percent} %, {} of {}", bytes(self.done()), bytes(self.total()));
        if let Some(speed) = self.speed {
            let _infallible = write!(text, ", {}/s", bytes(speed));
        }
        if let Some(left) = self.left() {
            let _infallible = write!(text, ", {} left", time(left));
        }
        text
    }

    /// At the end: `5.0 GB in 1 min 23 s`.
    pub(crate) fn summary(&self, now: Instant) -> String {
        format!("{} in {}", bytes(self.total()), time(now.saturating_duration_since(self.begun)))
    }
}

/// A size as people say it, in powers of 1000, as Ollama shows them.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut unit = 0;
    let mut tenths = u128::from(count) * 10;
    while tenths >= 9_995 && unit + 1 < units.len() {
        tenths = (tenths + 500) / 1000;
        unit += 1;
    }
    let (whole, tenth) = (tenths / 10, tenths % 10);
    if unit == 0 || whole >= 10 {
        format!("{whole} {}", units[unit])
    } else {
        format!("{whole}.{tenth} {}", units[unit])
    }
}

/// A time as people say it, in seconds, minutes or hours.
pub(crate) fn time(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn layers_are_added_up_and_the_rest_is_foretold() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut progress = Progress::begin(begun);
        assert_eq!(progress.words(), "begins");
        progress.add(&line(r#"{"status":"pulling manifest"}"#), at(0));
        assert_eq!(progress.words(), "pulling manifest");
        // A quarter lay there already.
        let layer = |done: u64| {
            line(&format!(
                r#"{{"status":"pulling aa","digest":"sha256:aa","total":4000000000,"completed":{done}}}"#
            ))
        };
        progress.add(&layer(1_000_000_000), at(0));
        assert_eq!(progress.words(), "25 %, 1.0 GB of 4.0 GB");
        progress.add(&layer(2_000_000_000), at(10));
        assert_eq!(progress.words(), "50 %, 2.0 GB of 4.0 GB, 100 MB/s, 20 s left");
        assert_eq!(progress.left(), Some(Duration::from_secs(20)));
        progress.add(&layer(4_000_000_000), at(30));
        progress.add(
            &line(r#"{"status":"pulling bb","digest":"sha256:bb","total":100,"completed":100}"#),
            at(30),
        );
        progress.add(&line(r#"{"status":"verifying sha256 digest"}"#), at(31));
        assert_eq!(progress.words(), "verifying sha256 digest");
        assert_eq!(progress.summary(at(90)), "4.0 GB in 1 min 30 s");
    }

    #[test]
    fn no_line_of_a_strange_server_breaks_it() {
        assert_eq!(Line::read(b"[1]"), None);
        assert_eq!(Line::read(b"not JSON"), None);
        let told = line("{\"error\":\"a\\nb\\u001b[2J  c\"}");
        assert_eq!(told.error.as_deref(), Some("a b [2J c"));
        let long = plain(&"x".repeat(1000));
        assert_eq!(long.chars().count(), SAID + 1);
        let mut progress = Progress::begin(Instant::now());
        let huge = format!(r#"{{"digest":"a","total":{},"completed":{}}}"#, u64::MAX, u64::MAX);
        for _ in 0..2 {
            progress.add(&line(&huge), Instant::now());
        }
        progress.add(&line(&huge.replace("\"a\"", "\"b\"")), Instant::now());
        assert_eq!(progress.total(), u64::MAX);
        assert_eq!(progress.done(), u64::MAX);
    }

    #[test]
    fn sizes_and_times_read_well() {
        let sizes = [0, 999, 1_000, 1_540, 15_400, 999_900, 5_200_000_000, 42_000_000_000_000].map(bytes);
        assert_eq!(sizes, ["0 B", "999 B", "1.0 kB", "1.5 kB", "15 kB", "1.0 MB", "5.2 GB", "42 TB"]);
        let times = [0, 59, 60, 3_599, 3_600, 90_000].map(|seconds| time(Duration::from_secs(seconds)));
        assert_eq!(times, ["0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "25 h 0 min"]);
    }
}
