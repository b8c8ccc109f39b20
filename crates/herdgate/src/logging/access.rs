//! Access records on their way into the log. As JSON they are written straight into the thread's lines, past the tracing
//! machinery: one is written for every request, and the detour was a tenth of one.

use super::{json, level};
use gate_proxy::{AccessLog, Fields, Record};
use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tracing::Level;

/// Records are one of the many things that are said at this level.
const LEVEL: Level = Level::INFO;

/// Whether records are JSON; decided once, before the first request.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// From now on records are written in this form.
pub(super) fn start(is_json: bool) {
    IS_JSON.store(is_json, Ordering::Relaxed);
}

/// The log of one data-plane thread.
pub(crate) struct Access;

impl AccessLog for Access {
    fn take(&self, record: &Record<'_>) {
        if !level::is_usual_logged() {
            return;
        }
        if !IS_JSON.load(Ordering::Relaxed) {
            let mut text = Text(String::with_capacity(256));
            record.visit(&mut text);
            tracing::info!(target: "herdgate::access", "request{}", text.0);
            return;
        }
        json::line(LEVEL, |line| record.visit(&mut json::Fields(line)));
    }
}

/// ` name=value` for each field, with quotes where a value is not a plain word.
struct Text(String);

impl Text {
    fn name(&mut self, name: &str) {
        self.0.push(' ');
        self.0.push_str(name);
        self.0.push('=');
    }

    fn push(&mut self, name: &str, value: fmt::Arguments<'_>) {
        self.name(name);
        let _infallible = self.0.write_fmt(value);
    }
}

impl Fields for Text {
    fn text(&mut self, name: &'static str, value: &str) {
        if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"') {
            self.name(name);
            self.0.push_str(value);
        } else {
            // Control characters are escaped: no value can act on the terminal.
            self.push(name, format_args!("{value:?}"));
        }
    }

    fn plain(&mut self, name: &'static str, value: &str) {
        self.text(name, value);
    }

    fn address(&mut self, name: &'static str, value: IpAddr) {
        self.push(name, format_args!("{value}"));
    }

    fn shown(&mut self, name: &'static str, value: fmt::Arguments<'_>) {
        self.text(name, &value.to_string());
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.push(name, format_args!("{value}"));
    }

    fn millis(&mut self, name: &'static str, value: Duration) {
        self.push(name, format_args!("{}.{:03}", value.as_millis(), value.subsec_micros() % 1000));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_where_it_is_no_word() {
        let mut text = Text(String::new());
        text.text("route", "/api/chat");
        text.shown("error", format_args!("broken \"pipe\" \u{1b}[31m"));
        text.number("status", 502);
        text.millis("total_ms", Duration::from_micros(1_234_056));
        assert_eq!(
            text.0,
            " route=/api/chat error=\"broken \\\"pipe\\\" \\u{1b}[31m\" status=502 total_ms=1234.056"
        );
    }
}
