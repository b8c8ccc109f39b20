//! Where log lines go: standard error, as text on a terminal and as JSON elsewhere, unless the settings say otherwise.
//!
//! A data-plane thread gathers its lines and hands them over a few times a second: doing so for each request would be a
//! tenth of its cost. On a terminal every line shows at once.

mod access;
mod json;
mod level;
mod writer;

pub(crate) use access::Access;
pub(crate) use level::set as set_level;

use crate::bars;
use gate_config::{Log, LogFormat};
use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Bytes of gathered lines that are written at once, whenever they come together. Each time wakes the thread that writes, on
/// whose core there may be better things to do.
const GATHERED_BYTES: usize = 64 * 1024;
/// How long a gathered line waits at most.
const GATHER_TIME: Duration = Duration::from_millis(200);

/// Starts logging for the whole process.
pub(crate) fn start(log: Log) {
    level::set(log.level);
    let terminal = io::stderr().is_terminal();
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    let lines = if json {
        json::Json.boxed()
    } else {
        let text = tracing_subscriber::fmt::layer().compact().with_writer(|| ThisThread);
        text.with_ansi(terminal).with_target(false).boxed()
    };
    if tracing_subscriber::registry().with(lines.with_filter(level::InForce)).try_init().is_err() {
        tracing::debug!("logging had been started already");
    }
    if terminal && !json {
        bars::allow();
    }
    access::start(json);
    writer::start(json);
}

/// Waits for the last lines, at the end of the program.
pub(crate) fn finish() {
    LINES.with_borrow_mut(Lines::write_out);
    writer::finish();
}

/// Gathers this thread's lines from now on and hands them over every [`GATHER_TIME`], for ever, and when the thread ends.
/// On a terminal it does nothing, for ever.
pub(crate) async fn gather() {
    if io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    LINES.with_borrow_mut(|lines| lines.gathers = true);
    loop {
        tokio::time::sleep(GATHER_TIME).await;
        LINES.with_borrow_mut(Lines::write_out);
    }
}

thread_local! {
    static LINES: RefCell<Lines> = RefCell::default();
}

#[derive(Default)]
struct Lines {
    gathers: bool,
    text: Vec<u8>,
}

impl Lines {
    fn write(&mut self, line: impl FnOnce(&mut Vec<u8>)) {
        line(&mut self.text);
        if !self.gathers || self.text.len() >= GATHERED_BYTES {
            self.write_out();
        }
    }

    fn write_out(&mut self) {
        writer::hand_over(&mut self.text);
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.write_out();
    }
}

/// Writes to the lines of whichever thread it is used on.
struct ThisThread;

impl Write for ThisThread {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let taken = LINES.try_with(|lines| lines.borrow_mut().write(|lines| lines.extend_from_slice(line)));
        if taken.is_err() {
            // The thread is ending.
            io::stderr().write_all(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
