//! The one thread that writes log lines. Standard error may stand still for as long as it likes (a pager, a stuck
//! collector of logs): requests and keys must not, so lines wait in a bounded queue and are dropped, and counted, beyond it.

use crate::bars;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Portions of lines that wait, each of 64 KiB or a little more at most.
const PORTIONS: usize = 64;
/// Emptied buffers that are kept for the next lines: one is being filled while another one is written.
const SPARES: usize = 4;
/// How long the end of the program waits for its last lines.
const FINISH_TIME: Duration = Duration::from_millis(500);

static WRITER: OnceLock<SyncSender<Task>> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);
/// Growing a fresh buffer copied every line once more.
static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

enum Task {
    Write(Vec<u8>),
    /// Tell when all before this is written.
    Tell(SyncSender<()>),
}

/// Starts the thread. Until then, and where the system gives no thread, lines are written where they come up.
pub(super) fn start(json: bool) {
    let (tasks, due) = sync_channel(PORTIONS);
    let writing = std::thread::Builder::new().name("log".to_owned()).spawn(move || write_all(&due, json));
    if writing.is_ok() && WRITER.set(tasks).is_err() {
        tracing::debug!("the log writer had been started already");
    }
}

/// Hands whole lines over; `lines` is empty afterwards.
pub(super) fn hand_over(lines: &mut Vec<u8>) {
    if lines.is_empty() {
        return;
    }
    let Some(writer) = WRITER.get() else {
        // Nobody can be told that standard error is closed.
        let _closed = io::stderr().write_all(lines);
        lines.clear();
        return;
    };
    let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
    match writer.try_send(Task::Write(std::mem::replace(lines, spare))) {
        Ok(()) => {}
        Err(TrySendError::Full(Task::Write(lost)) | TrySendError::Disconnected(Task::Write(lost))) => {
            let count = lost.iter().filter(|byte| **byte == b'\n').count() as u64;
            DROPPED.fetch_add(count, Ordering::Relaxed);
        }
        Err(TrySendError::Full(Task::Tell(_)) | TrySendError::Disconnected(Task::Tell(_))) => {}
    }
}

/// Waits until what was handed over is written, but not for a reader that stands still.
pub(super) fn finish() {
    let (written, done) = sync_channel(1);
    if let Some(writer) = WRITER.get()
        && writer.try_send(Task::Tell(written)).is_ok()
    {
        let _late = done.recv_timeout(FINISH_TIME);
    }
}

fn write_all(due: &Receiver<Task>, json: bool) {
    for task in due {
        match task {
            Task::Write(mut lines) => {
                let _closed = bars::aside(|| io::stderr().write_all(&lines));
                lines.clear();
                let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
                if spare.len() < SPARES {
                    spare.push(lines);
                }
            }
            // Nobody waiting any more is fine.
            Task::Tell(written) => drop(written.try_send(())),
        }
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let text = format!("{dropped} log lines were dropped: standard error takes them too slowly");
            let line = if json {
                format!("{{\"level\":\"WARN\",\"message\":\"{text}\"}}\n")
            } else {
                format!(" WARN {text}\n")
            };
            let _closed = io::stderr().write_all(line.as_bytes());
        }
    }
}
