//! Log lines as JSON, one object each: written straight into the thread's lines, because a record is written for every
//! request and the usual formatter costs a fifth of one.

use super::LINES;
use jiff::Timestamp;
use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Writes each event as `{"timestamp":…,"level":…,FIELDS}`.
pub(super) struct Json;

impl<S: Subscriber> Layer<S> for Json {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        // What is shown may say something to the log itself, so that the thread's lines must be free meanwhile.
        let mut own = Vec::new();
        push_line(&mut own, *event.metadata().level(), |line| event.record(&mut Fields(line)));
        let _ending = LINES.try_with(|lines| lines.borrow_mut().write(|line| line.extend_from_slice(&own)));
    }
}

/// Writes one line; `fill` appends its fields behind the time and the level, and says nothing to the log meanwhile.
pub(super) fn line(level: Level, fill: impl FnOnce(&mut Vec<u8>)) {
    // A thread that is ending has no lines any more.
    let _ending = LINES.try_with(|lines| lines.borrow_mut().write(|line| push_line(line, level, fill)));
}

fn push_line(line: &mut Vec<u8>, level: Level, fill: impl FnOnce(&mut Vec<u8>)) {
    line.extend_from_slice(b"{\"timestamp\":\"");
    push_now(line);
    line.extend_from_slice(b"\",\"level\":\"");
    line.extend_from_slice(level.as_str().as_bytes());
    line.push(b'"');
    fill(line);
    line.extend_from_slice(b"}\n");
}

thread_local! {
    /// The second that was written last, and its text: most lines fall into the same one.
    static SECOND: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
}

/// RFC 3339 in UTC, with microseconds.
fn push_now(line: &mut Vec<u8>) {
    let now = Timestamp::now();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != now.as_second() {
            *second = now.as_second();
            text.clear();
            // A time of this century has a text, and a String takes it.
            let _infallible = write!(text, "{}", now.strftime("%Y-%m-%dT%H:%M:%S."));
        }
        line.extend_from_slice(text.as_bytes());
    });
    push_digits(line, now.subsec_microsecond().unsigned_abs().into(), 6);
    line.push(b'Z');
}

/// `number` with leading zeros, in `width` digits or as many more as it has.
fn push_digits(line: &mut Vec<u8>, number: u64, width: usize) {
    // The greatest has 20 digits. Divided by ten again and again, which compilers make a multiplication.
    let (mut digits, mut from, mut left) = ([b'0'; 20], 20, number);
    while left > 0 && from > 0 {
        from -= 1;
        digits[from] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    let from = from.min(digits.len() - width);
    line.extend_from_slice(&digits[from..]);
}

/// Appends fields to a line: those of an event, or of an access record.
pub(super) struct Fields<'l>(pub(super) &'l mut Vec<u8>);

impl Fields<'_> {
    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn quoted(&mut self, name: &str, value: &str) {
        self.name(name);
        self.0.push(b'"');
        push_escaped(self.0, value);
        self.0.push(b'"');
    }

    fn written(&mut self, name: &str, value: fmt::Arguments<'_>) {
        self.name(name);
        self.0.push(b'"');
        let _infallible = Escaping(self.0).write_fmt(value);
        self.0.push(b'"');
    }

    fn whole(&mut self, name: &str, value: u64) {
        self.name(name);
        push_number(self.0, value);
    }

    fn thousandths(&mut self, name: &str, value: u64) {
        self.whole(name, value / 1000);
        self.0.push(b'.');
        push_digits(self.0, value % 1000, 3);
    }
}

impl gate_proxy::Fields for Fields<'_> {
    fn text(&mut self, name: &'static str, value: &str) {
        self.quoted(name, value);
    }

    fn plain(&mut self, name: &'static str, value: &str) {
        self.name(name);
        self.0.push(b'"');
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'"');
    }

    /// Four numbers are written by hand: the formatter would cost as much as the rest of the line.
    fn address(&mut self, name: &'static str, value: IpAddr) {
        let IpAddr::V4(address) = value else { return self.written(name, format_args!("{value}")) };
        self.name(name);
        let mut before = b'"';
        for number in address.octets() {
            self.0.push(before);
            push_number(self.0, number.into());
            before = b'.';
        }
        self.0.push(b'"');
    }

    fn shown(&mut self, name: &'static str, value: fmt::Arguments<'_>) {
        self.written(name, value);
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.whole(name, value);
    }

    fn millis(&mut self, name: &'static str, value: Duration) {
        self.thousandths(name, value.as_secs() * 1_000_000 + u64::from(value.subsec_micros()));
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.quoted(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.whole(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.name(field.name());
        let _infallible = write!(Plain(self.0), "{value}");
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.name(field.name());
        self.0.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// Three decimals: the numbers with a point are milliseconds. JSON knows no NaN.
    fn record_f64(&mut self, field: &Field, value: f64) {
        if !value.is_finite() {
            return self.quoted(field.name(), "none");
        }
        let thousandths = (value * 1e3).round() as i64;
        self.name(field.name());
        let sign = if thousandths < 0 { "-" } else { "" };
        let thousandths = thousandths.unsigned_abs();
        let _infallible = write!(Plain(self.0), "{sign}{}.{:03}", thousandths / 1000, thousandths % 1000);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.written(field.name(), format_args!("{value:?}"));
    }
}

/// `number` in decimal: the formatter of the standard library costs several times as much.
fn push_number(line: &mut Vec<u8>, number: u64) {
    push_digits(line, number, 1);
}

/// Appends what is written through it as it is.
struct Plain<'l>(&'l mut Vec<u8>);

impl fmt::Write for Plain<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Escapes what is written through it.
struct Escaping<'l>(&'l mut Vec<u8>);

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        push_escaped(self.0, text);
        Ok(())
    }
}

/// As in a JSON string; all control characters are escaped, so that no line can act on a terminal that shows it.
fn push_escaped(line: &mut Vec<u8>, text: &str) {
    // Without an early end, so that the compiler looks at many bytes at once.
    let is_plain = |byte: u8| (b' '..0x7f).contains(&byte) & (byte != b'"') & (byte != b'\\');
    if text.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
        return line.extend_from_slice(text.as_bytes());
    }
    for sign in text.chars() {
        match sign {
            '"' => line.extend_from_slice(b"\\\""),
            '\\' => line.extend_from_slice(b"\\\\"),
            sign if sign.is_control() => {
                let _infallible = write!(Plain(line), "\\u{:04x}", u32::from(sign));
            }
            sign => line.extend_from_slice(sign.encode_utf8(&mut [0; 4]).as_bytes()),
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
    fn fields_of_records_are_written_by_hand() {
        use gate_proxy::Fields as _;
        let mut text = Vec::new();
        let mut fields = Fields(&mut text);
        fields.address("a", "192.0.2.7".parse().unwrap());
        fields.address("b", "2001:db8::1".parse().unwrap());
        fields.number("c", u64::MAX);
        fields.number("d", 0);
        fields.millis("e", Duration::from_micros(1_000_001));
        fields.plain("f", "x-y");
        assert_eq!(
            String::from_utf8(text).unwrap(),
            r#","a":"192.0.2.7","b":"2001:db8::1","c":18446744073709551615,"d":0,"e":1000.001,"f":"x-y""#
        );
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
