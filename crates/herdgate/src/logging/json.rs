//! Log lines as JSON, one object each: written straight into the thread's lines, because a record is written for every
//! request and the usual formatter costs a fifth of one.

use super::LINES;
use jiff::Timestamp;
use std::cell::RefCell;
use std::fmt::{self, Write as _};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Writes each event as `{"timestamp":…,"level":…,FIELDS}`.
pub(super) struct Json;

impl<S: Subscriber> Layer<S> for Json {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        LINE.with_borrow_mut(|line| {
            line.clear();
            line.push_str("{\"timestamp\":\"");
            push_now(line);
            line.push_str("\",\"level\":\"");
            line.push_str(event.metadata().level().as_str());
            line.push('"');
            event.record(&mut Fields(line));
            line.push_str("}\n");
            // A thread that is ending has no lines any more.
            let _ending = LINES.try_with(|lines| lines.borrow_mut().take(line.as_bytes()));
        });
    }
}

thread_local! {
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
    /// The second that was written last, and its text: most lines fall into the same one.
    static SECOND: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
}

/// RFC 3339 in UTC, with microseconds.
fn push_now(line: &mut String) {
    let now = Timestamp::now();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != now.as_second() {
            *second = now.as_second();
            text.clear();
            // A time of this century has a text, and a String takes it.
            let _infallible = write!(text, "{}", now.strftime("%Y-%m-%dT%H:%M:%S."));
        }
        line.push_str(text);
    });
    push_digits(line, now.subsec_microsecond().unsigned_abs(), 6);
    line.push('Z');
}

/// `number` with leading zeros, in `width` digits.
fn push_digits(line: &mut String, number: u32, width: u32) {
    for place in (0..width).rev() {
        line.push(char::from(b'0' + (number / 10_u32.pow(place) % 10) as u8));
    }
}

struct Fields<'l>(&'l mut String);

impl Fields<'_> {
    fn name(&mut self, field: &Field) {
        self.0.push_str(",\"");
        self.0.push_str(field.name());
        self.0.push_str("\":");
    }

    fn shown(&mut self, field: &Field, value: impl fmt::Display) {
        self.name(field);
        let _infallible = write!(self.0, "{value}");
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.name(field);
        self.0.push('"');
        push_escaped(self.0, value);
        self.0.push('"');
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.shown(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.shown(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.shown(field, value);
    }

    /// Three decimals: the numbers with a point are milliseconds. JSON knows no NaN.
    fn record_f64(&mut self, field: &Field, value: f64) {
        if !value.is_finite() {
            return self.record_str(field, "none");
        }
        let thousandths = (value.abs() * 1e3).round() as u64;
        self.name(field);
        if value < 0.0 {
            self.0.push('-');
        }
        let _infallible = write!(self.0, "{}.", thousandths / 1000);
        push_digits(self.0, (thousandths % 1000) as u32, 3);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.name(field);
        self.0.push('"');
        let _infallible = write!(Escaping(self.0), "{value:?}");
        self.0.push('"');
    }
}

/// Escapes what is written through it.
struct Escaping<'l>(&'l mut String);

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        push_escaped(self.0, text);
        Ok(())
    }
}

/// As in a JSON string; all control characters are escaped, so that no line can act on a terminal that shows it.
fn push_escaped(line: &mut String, text: &str) {
    let is_plain = |byte: u8| (b' '..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        return line.push_str(text);
    }
    for sign in text.chars() {
        match sign {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            sign if sign.is_control() => {
                let _infallible = write!(line, "\\u{:04x}", u32::from(sign));
            }
            sign => line.push(sign),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    fn line_of(say: impl FnOnce()) -> serde_json::Value {
        let subscriber = tracing_subscriber::registry().with(Json);
        LINES.with_borrow_mut(|lines| lines.gathers = true);
        tracing::subscriber::with_default(subscriber, say);
        let text = LINES.with_borrow_mut(|lines| std::mem::take(&mut lines.text));
        let text = String::from_utf8(text).unwrap();
        assert!(text.ends_with('\n') && text.matches('\n').count() == 1, "{text:?}");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_line_is_one_json_object_whatever_is_in_it() {
        let nasty = "a\"b\\c\nd\u{1b}[31m\u{9b}é";
        let line = line_of(|| {
            tracing::info!(
                text = nasty,
                count = 7_u64,
                left = -3_i64,
                sure = true,
                total_ms = 1.0005_f64,
                missing = None::<&str>,
                "{nasty}"
            );
        });
        assert_eq!(line["message"], nasty);
        assert_eq!(line["text"], nasty);
        assert_eq!((&line["count"], &line["left"], &line["sure"]), (&7.into(), &(-3).into(), &true.into()));
        assert!((line["total_ms"].as_f64().unwrap() - 1.001).abs() < 0.0011, "{line}");
        assert_eq!(line.get("missing"), None);
        assert_eq!(line["level"], "INFO");
        let then: Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
        assert!(Timestamp::now().duration_since(then).as_secs() < 60);
    }

    #[test]
    fn numbers_that_are_none_stay_readable() {
        let line = line_of(|| tracing::info!(a = f64::NAN, b = -0.25_f64, c = 0.0_f64, "x"));
        assert_eq!(
            (&line["a"], line["b"].as_f64(), line["c"].as_f64()),
            (&"none".into(), Some(-0.25), Some(0.0))
        );
    }
}
