//! Reading an answer's body ahead: a look at what a refusal says, before it is known whether anybody shall have it.
//!
//! What was read stays in the answer, which hands it on afterwards byte for byte, framing included, as if nobody had
//! looked. For short bodies only: everything is held.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::Answer;
use crate::client::Shared;

/// Of a body whose chunks are as small as can be, so many times its data is framing.
const FRAMING_SHARE: usize = 8;

impl Answer {
    /// The body's data up to its end, or the first `max` bytes of them or a little more, or as much as came before the
    /// upstream broke off. Where the body ended, its connection is back in the pool already.
    ///
    /// Dropping the future loses nothing.
    pub async fn read_ahead(&mut self, max: usize) -> Vec<u8> {
        let shared = Rc::clone(&self.shared);
        poll_fn(|cx| self.poll_ahead(cx, &shared, max)).await
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>, shared: &Shared, max: usize) -> Poll<Vec<u8>> {
        loop {
            let (data, goes_on) = self.data_ahead();
            let held = self.came.len() - self.handed;
            if !goes_on || data.len() >= max || held / FRAMING_SHARE >= max {
                return Poll::Ready(data);
            }
            let Some(socket) = &mut self.socket else { return Poll::Ready(data) };
            let scratch = &mut *shared.scratch.borrow_mut();
            match ready!(socket.poll_read(cx, scratch)) {
                // Told by the socket once more, to whoever reads the body itself.
                Ok(0) | Err(_) => return Poll::Ready(data),
                Ok(n) => self.came = [&self.came, &scratch[..n]].concat().into(),
            }
        }
    }

    /// The data among what is held, and whether more may come. The connection is given back behind the last of them.
    fn data_ahead(&mut self) -> (Vec<u8>, bool) {
        let mut body = self.body.clone();
        let held = &self.came[self.handed..];
        let (mut data, mut used) = (Vec::new(), 0);
        while used < held.len() && !body.is_done() {
            // What is wrong with the framing is told to whoever reads the body itself.
            let Ok(step) = body.step(&held[used..]) else { return (data, false) };
            data.extend_from_slice(&held[used..][step.data]);
            used += step.used;
        }
        let strays = used < held.len();
        if body.is_done()
            && let Some(socket) = self.socket.take()
            && self.keep_alive
            && !strays
        {
            self.upstream.put_back(socket);
        }
        (data, !body.is_done())
    }
}
