//! What the server saw: every request, byte for byte, and when its peer left. Written by connections, read by tests.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// One request as it came in.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Which connection, counted from 1 in the order of arrival.
    pub connection: u64,
    /// Request line and fields up to and with the empty line, as received.
    pub head: Vec<u8>,
    /// The body with its framing taken off, as far as it came.
    pub body: Vec<u8>,
    /// The body came whole.
    pub complete: bool,
    /// When the head was complete.
    pub arrived: Instant,
    /// When the first byte of the answer was written.
    pub answering: Option<Instant>,
    /// When the last byte of the answer was written.
    pub answered: Option<Instant>,
    /// When the peer closed or reset this connection: during the answer (then `answered` is empty) or later.
    pub peer_closed: Option<Instant>,
    /// Bytes of the answer that were written.
    pub sent: u64,
}

/// What a test waited for did not happen.
#[derive(Debug, thiserror::Error)]
#[error("not seen within {waited:?}; {count} requests so far: {targets:?}")]
pub struct NotSeen {
    waited: Duration,
    count: usize,
    targets: Vec<String>,
}

impl Seen {
    /// First word of the request line.
    #[must_use]
    pub fn method(&self) -> String {
        self.request_line().split(' ').next().unwrap_or_default().to_owned()
    }

    /// Request target as sent, query included.
    #[must_use]
    pub fn target(&self) -> String {
        self.request_line().split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// All fields in order, names as sent, values trimmed.
    #[must_use]
    pub fn fields(&self) -> Vec<(String, String)> {
        let text = String::from_utf8_lossy(&self.head);
        let lines = text.split("\r\n").skip(1);
        lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect()
    }

    /// The first field of this name, in any case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<String> {
        self.fields().into_iter().find(|(sent, _)| sent.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The body as JSON; `Null` where it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Whether these bytes stand anywhere in head or body, in any letter case. For what must never arrive.
    #[must_use]
    pub fn holds(&self, needle: &str) -> bool {
        let needle = needle.to_ascii_lowercase().into_bytes();
        let holds = |bytes: &[u8]| {
            bytes.to_ascii_lowercase().windows(needle.len().max(1)).any(|window| window == needle.as_slice())
        };
        holds(&self.head) || holds(&self.body)
    }

    fn request_line(&self) -> String {
        let line = self.head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        String::from_utf8_lossy(line).into_owned()
    }
}

/// Grows with every event; a test may wait on it from any runtime.
#[derive(Debug)]
pub(crate) struct Log {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    seen: Vec<Seen>,
    connections: u64,
    open: u64,
}

/// The place of a request in the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry(usize);

impl Log {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), changed: watch::Sender::new(()) }
    }

    pub(crate) fn connected(&self) -> u64 {
        let mut state = self.lock();
        state.connections += 1;
        state.open += 1;
        let number = state.connections;
        drop(state);
        self.changed.send_replace(());
        number
    }

    pub(crate) fn disconnected(&self) {
        self.lock().open -= 1;
        self.changed.send_replace(());
    }

    pub(crate) fn begin(&self, connection: u64, head: Vec<u8>) -> Entry {
        let mut state = self.lock();
        state.seen.push(Seen {
            connection,
            head,
            body: Vec::new(),
            complete: false,
            arrived: Instant::now(),
            answering: None,
            answered: None,
            peer_closed: None,
            sent: 0,
        });
        let entry = Entry(state.seen.len() - 1);
        drop(state);
        self.changed.send_replace(());
        entry
    }

    pub(crate) fn edit(&self, entry: Entry, edit: impl FnOnce(&mut Seen)) {
        if let Some(seen) = self.lock().seen.get_mut(entry.0) {
            edit(seen);
        }
        self.changed.send_replace(());
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    pub(crate) fn connections(&self) -> u64 {
        self.lock().connections
    }

    pub(crate) fn open(&self) -> u64 {
        self.lock().open
    }

    pub(crate) async fn until(
        &self,
        limit: Duration,
        fits: impl Fn(&[Seen]) -> bool,
    ) -> Result<Vec<Seen>, NotSeen> {
        let mut changed = self.changed.subscribe();
        let wait = async {
            loop {
                changed.borrow_and_update();
                let seen = self.seen();
                if fits(&seen) {
                    return seen;
                }
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        match tokio::time::timeout(limit, wait).await {
            Ok(seen) => Ok(seen),
            Err(_elapsed) => {
                let seen = self.seen();
                let targets = seen.iter().map(|one| format!("{} {}", one.method(), one.target())).collect();
                Err(NotSeen { waited: limit, count: seen.len(), targets })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
