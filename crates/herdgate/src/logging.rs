//! Where log lines go: standard error, as text on a terminal and as JSON elsewhere, unless the settings say otherwise.

use gate_config::{Level, Log, LogFormat};
use std::io::IsTerminal;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts logging for the whole process.
pub(crate) fn start(log: Log) {
    let level = match log.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let terminal = std::io::stderr().is_terminal();
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(terminal).with_target(false);
    let lines = if json { lines.json().flatten_event(true).boxed() } else { lines.compact().boxed() };
    if tracing_subscriber::registry().with(lines.with_filter(level)).try_init().is_err() {
        tracing::debug!("logging had been started already");
    }
}
