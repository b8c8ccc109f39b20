//! The connection to the gate: one for everybody, opened when somebody asks and opened anew when it has ended. Where the gate,
//! or what stands in front of it, speaks HTTP/1.1 alone, every request gets one of its own. Over TLS the handshake tells; in clear,
//! the first request does.
//!
//! A task owns it, so that many who ask at once wait for the same one instead of opening many.

use super::body::Upload;
use super::voice::Voice;
use crate::client::{Gate, InClear, Link, NoWay};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

/// Requests that wait for a connection; more programs than that are not let in.
const ASKS: usize = super::PROGRAMS;
/// How long a gate may be gone whose port is closed, after it was there: as long as a restart takes.
const RESTART: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// How often the clock is looked at, and a step of it that only a machine makes that slept: what lay idle meanwhile may be
/// dead, and nobody would hear of it.
const LOOK: Duration = Duration::from_secs(10);
const SLEPT: Duration = Duration::from_secs(30);

type Reply = oneshot::Sender<Result<Link<Upload>, Arc<NoWay>>>;

/// The way to ask for it.
pub(super) struct Line {
    asks: mpsc::Sender<Reply>,
    is_http1: Arc<AtomicBool>,
}

impl Line {
    /// A connection that stands as far as is known. `None` where everything ends.
    pub(super) async fn link(&self) -> Option<Result<Link<Upload>, Arc<NoWay>>> {
        let (reply, link) = oneshot::channel();
        self.asks.send(reply).await.ok()?;
        link.await.ok()
    }

    /// Speaks HTTP/1.1 from now on, for what answered in clear did not know HTTP/2.
    pub(super) fn fall_back(&self) {
        self.is_http1.store(true, Ordering::Relaxed);
    }
}

/// The way to ask, and the task that answers until nobody can ask any more.
pub(super) fn keep(gate: Gate, voice: Arc<Voice>) -> (Line, impl Future<Output = ()> + Send) {
    let (asks, asked) = mpsc::channel(ASKS);
    let is_http1 = Arc::new(AtomicBool::new(false));
    let line = Line { asks, is_http1: Arc::clone(&is_http1) };
    (line, Keeper { gate, voice, is_http1, kept: None, was_there: false }.run(asked))
}

struct Keeper {
    gate: Gate,
    voice: Arc<Voice>,
    is_http1: Arc<AtomicBool>,
    kept: Option<Link<Upload>>,
    /// Whether the last connection that was wanted was had.
    was_there: bool,
}

impl Keeper {
    async fn run(mut self, mut asked: mpsc::Receiver<Reply>) {
        let mut clock = SystemTime::now();
        loop {
            let next = timeout(LOOK, asked.recv()).await;
            let now = SystemTime::now();
            if has_slept(clock, now) {
                self.kept = None;
            }
            if let Ok(asks) = next {
                let Some(reply) = asks else { return };
                self.give(reply, &mut asked).await;
            }
            clock = SystemTime::now();
        }
    }

    async fn give(&mut self, reply: Reply, asked: &mut mpsc::Receiver<Reply>) {
        let kept = self.kept.as_ref().filter(|link| !link.is_closed()).and_then(Link::share);
        let link = match kept {
            Some(link) => Ok(link),
            None => self.open().await,
        };
        // Who left meanwhile needs no reply.
        match link {
            Ok(link) => drop(reply.send(Ok(link))),
            Err(no_way) => {
                // Who asked meanwhile would wait for the same end.
                while let Ok(other) = asked.try_recv() {
                    drop(other.send(Err(Arc::clone(&no_way))));
                }
                drop(reply.send(Err(no_way)));
            }
        }
    }

    async fn open(&mut self) -> Result<Link<Upload>, Arc<NoWay>> {
        self.kept = None;
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let in_clear =
                if self.is_http1.load(Ordering::Relaxed) { InClear::Http1 } else { InClear::Http2 };
            match self.gate.connect(in_clear).await {
                Ok(link) => {
                    self.was_there = true;
                    self.kept = link.share();
                    return Ok(link);
                }
                Err(no_way) if self.was_there && no_way.is_refused() && begun.elapsed() < RESTART => {
                    sleep(pause).await;
                    pause *= 2;
                }
                Err(no_way) => {
                    self.was_there = false;
                    self.voice.no_way(&no_way);
                    return Err(Arc::new(no_way));
                }
            }
        }
    }
}

/// Whether the clock went on far more than it can have done between two looks.
fn has_slept(before: SystemTime, now: SystemTime) -> bool {
    now.duration_since(before).is_ok_and(|span| span > SLEPT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_step_of_the_clock_is_a_sleep_and_one_back_is_none() {
        let now = SystemTime::now();
        assert!(has_slept(now, now + Duration::from_secs(31)));
        assert!(!has_slept(now, now + LOOK));
        assert!(!has_slept(now, now - Duration::from_secs(3600)));
    }
}
