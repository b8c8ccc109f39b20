//! The text format of Prometheus (version 0.0.4), as far as it is needed.

use super::counts::{BOUNDS, Times};
use std::fmt::Write as _;

/// The page under way.
pub(super) struct Page {
    text: String,
}

/// Labels of one series: names are ours, values may be anything.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

impl Page {
    pub(super) fn new() -> Self {
        Self { text: String::with_capacity(16 << 10) }
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// The lines that stand before the samples of a metric.
    pub(super) fn metric(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail, here and below.
        let _infallible = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    pub(super) fn sample(&mut self, name: &str, labels: Labels<'_>, value: u64) {
        self.series(name, "", labels, None);
        let _infallible = writeln!(self.text, " {value}");
    }

    pub(super) fn histogram(&mut self, name: &str, labels: Labels<'_>, times: &Times) {
        let mut count = 0;
        for (place, bucket) in times.buckets.iter().enumerate() {
            count += bucket;
            let bound = match BOUNDS.get(place) {
                Some(millis) => format!("{}", Seconds(millis * 1000)),
                None => "+Inf".to_owned(),
            };
            self.series(name, "_bucket", labels, Some(&bound));
            let _infallible = writeln!(self.text, " {count}");
        }
        self.series(name, "_sum", labels, None);
        let _infallible = writeln!(self.text, " {}", Seconds(times.micros));
        self.series(name, "_count", labels, None);
        let _infallible = writeln!(self.text, " {count}");
    }

    fn series(&mut self, name: &str, ending: &str, labels: Labels<'_>, bound: Option<&str>) {
        self.text.push_str(name);
        self.text.push_str(ending);
        let bound = bound.map(|bound| ("le", bound));
        let mut open = '{';
        for (label, value) in labels.iter().copied().chain(bound) {
            self.text.push(open);
            self.text.push_str(label);
            self.text.push_str("=\"");
            for sign in value.chars() {
                match sign {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    sign => self.text.push(sign),
                }
            }
            self.text.push('"');
            open = ',';
        }
        if open == ',' {
            self.text.push('}');
        }
    }
}

/// Microseconds, shown as seconds.
struct Seconds(u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fraction = format!("{:06}", self.0 % 1_000_000);
        match fraction.trim_end_matches('0') {
            "" => write!(f, "{}", self.0 / 1_000_000),
            fraction => write!(f, "{}.{fraction}", self.0 / 1_000_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_seconds_exact() {
        let mut page = Page::new();
        page.sample("a_total", &[("b", "c\"d\\e\nf"), ("g", "h")], 7);
        page.sample("b", &[], 0);
        let mut times = Times { micros: 1_500_250, ..Times::default() };
        times.buckets[0] = 2;
        times.buckets[BOUNDS.len()] = 1;
        page.histogram("t_seconds", &[("r", "x")], &times);
        let text = page.into_text();
        assert!(text.starts_with("a_total{b=\"c\\\"d\\\\e\\nf\",g=\"h\"} 7\nb 0\n"), "{text}");
        assert!(text.contains("t_seconds_bucket{r=\"x\",le=\"0.001\"} 2\n"), "{text}");
        assert!(text.contains("t_seconds_bucket{r=\"x\",le=\"+Inf\"} 3\n"), "{text}");
        assert!(text.ends_with("t_seconds_sum{r=\"x\"} 1.50025\nt_seconds_count{r=\"x\"} 3\n"), "{text}");
    }
}
