//! Idle connections of one upstream: last in, first out, bounded in number and in time.
//!
//! The connection used last is the likeliest to be open still and in the caches; the oldest ones fall out. Never hands
//! out a connection with something to read on it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::socket::Socket;

pub(crate) struct Pool {
    idle: VecDeque<Idle>,
    most: usize,
    idle_for: Duration,
}

struct Idle {
    socket: Socket,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(most: usize, idle_for: Duration) -> Self {
        Pool { idle: VecDeque::new(), most, idle_for }
    }

    /// The connection used last that is still open and silent.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Socket> {
        while let Some(mut idle) = self.idle.pop_back() {
            if now.saturating_duration_since(idle.since) >= self.idle_for {
                // Everything in front of it is older still.
                self.idle.clear();
                return None;
            }
            if idle.socket.is_quiet() {
                return Some(idle.socket);
            }
        }
        None
    }

    /// Keeps a connection whose exchange ended cleanly.
    pub(crate) fn put(&mut self, socket: Socket, now: Instant) {
        if self.most == 0 {
            return;
        }
        if self.idle.len() >= self.most {
            self.idle.pop_front();
        }
        self.idle.push_back(Idle { socket, since: now });
    }

    /// Closes what has been idle for too long.
    pub(crate) fn sweep(&mut self, now: Instant) {
        let fresh =
            self.idle.partition_point(|idle| now.saturating_duration_since(idle.since) >= self.idle_for);
        self.idle.drain(..fresh);
        if self.idle.is_empty() {
            self.idle.shrink_to_fit();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.idle.len()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use tokio::io::AsyncWrite;

    use super::*;

    fn socket() -> (Socket, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(64);
        (Socket::Given(Box::new(near)), far)
    }

    /// The near end has been dropped: nothing can be written any more.
    fn is_closed(far: &mut tokio::io::DuplexStream) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        matches!(Pin::new(far).poll_write(&mut cx, b"x"), Poll::Ready(Err(_)))
    }

    #[tokio::test]
    async fn the_oldest_falls_out_and_the_youngest_comes_first() {
        let mut pool = Pool::new(2, Duration::from_secs(60));
        let now = Instant::now();
        let mut fars = Vec::new();
        for _ in 0..3 {
            let (near, far) = socket();
            pool.put(near, now);
            fars.push(far);
        }
        assert_eq!(pool.len(), 2);
        assert!(is_closed(&mut fars[0]));
        let youngest = pool.take(now).unwrap();
        drop(youngest);
        assert!(is_closed(&mut fars[2]));
        assert!(!is_closed(&mut fars[1]));
    }

    #[tokio::test]
    async fn what_was_idle_for_too_long_is_closed() {
        let mut pool = Pool::new(8, Duration::from_secs(60));
        let start = Instant::now();
        let (near, mut old) = socket();
        pool.put(near, start);
        let (near, mut young) = socket();
        pool.put(near, start + Duration::from_secs(30));
        pool.sweep(start + Duration::from_secs(59));
        assert_eq!(pool.len(), 2);
        pool.sweep(start + Duration::from_secs(60));
        assert_eq!(pool.len(), 1);
        assert!(is_closed(&mut old));
        assert!(!is_closed(&mut young));
        assert!(pool.take(start + Duration::from_secs(90)).is_none());
        assert!(is_closed(&mut young));
    }

    #[tokio::test]
    async fn bytes_or_an_end_between_two_exchanges_spoil_a_connection() {
        use tokio::io::AsyncWriteExt;
        let mut pool = Pool::new(8, Duration::from_secs(60));
        let now = Instant::now();
        let (near, closed) = socket();
        pool.put(near, now);
        let (near, mut noisy) = socket();
        pool.put(near, now);
        drop(closed);
        noisy.write_all(b"x").await.unwrap();
        assert!(pool.take(now).is_none());
        assert_eq!(pool.len(), 0);
    }

    #[tokio::test]
    async fn a_pool_of_none_keeps_none() {
        let mut pool = Pool::new(0, Duration::from_secs(60));
        let (near, mut far) = socket();
        pool.put(near, Instant::now());
        assert!(is_closed(&mut far));
    }
}
