//! The body of a request over HTTP/1.1: read whole and counted as it grows, or handed on piece by piece, at the least pace
//! that the settings ask for.
//!
//! Must never take a byte that is not of this body: what lies behind it is the next request.

use super::Request;
use crate::downstream::pace::Pace;
use crate::downstream::{BodyError, ClientStream, Downstream as _};
use crate::held::{HeldBody, NoRoom};
use gate_h1::{Body, Framing, encode};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A body that is taken piece by piece.
pub(super) struct Streamed {
    framing: Body,
    /// What is left to say of `100 Continue`; none once it has left.
    asking: Option<&'static [u8]>,
    given: u64,
    pace: Pace,
}

impl<IO: ClientStream> Request<'_, IO> {
    /// The body, read whole.
    pub(super) async fn read_whole(&mut self, limit: usize) -> Result<HeldBody, BodyError> {
        if self.body_read {
            return Ok(HeldBody::default());
        }
        let body = match self.head.framing {
            Framing::None | Framing::UntilClose => HeldBody::default(),
            Framing::Length(length) if length > limit as u64 => {
                return Err(BodyError::TooLarge(limit as u64));
            }
            // Compared with the limit above, which is a usize.
            Framing::Length(length) => match usize::try_from(length).unwrap_or(limit) {
                // Nearly every body comes along with its head.
                length if self.conn.read.len() >= length => self.take_body(length)?,
                length => Box::pin(self.read_length(length)).await?,
            },
            Framing::Chunked => Box::pin(self.read_chunked(limit)).await?,
        };
        self.body_read = true;
        self.conn.trim();
        Ok(body)
    }

    /// The next piece of a body that is not read whole.
    pub(super) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        limit: u64,
    ) -> Poll<Result<(usize, bool), BodyError>> {
        if self.streamed.is_none() && !self.body_read {
            let waits = self.head.expect_continue && self.conn.read.is_empty();
            self.streamed = Some(Box::new(Streamed {
                framing: Body::with_limits(self.head.framing, &self.limits.framing),
                asking: waits.then_some(encode::CONTINUE),
                given: 0,
                pace: self.pace(),
            }));
        }
        loop {
            match self.next_piece(scratch, limit) {
                Ok(None) => {}
                Ok(Some(piece)) => {
                    // From here on the upstream is waited for, not the client.
                    if let Some(streamed) = &mut self.streamed {
                        streamed.pace.pause(self.gate.sweep.now());
                    }
                    self.limit_silence(Some(self.limits.idle));
                    return Poll::Ready(Ok(piece));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
            match self.poll_ask(cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(Err(BodyError::Gone)),
                Poll::Pending => return self.poll_body_late(cx),
            }
            match self.conn.poll_read(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(BodyError::Gone)),
                Poll::Ready(Ok(came)) => {
                    if let Some(streamed) = &mut self.streamed {
                        streamed.pace.came(came, self.gate.sweep.now());
                    }
                }
                Poll::Pending => return self.poll_body_late(cx),
            }
        }
    }

    /// Takes a body of so many bytes, all of which are there.
    fn take_body(&mut self, length: usize) -> Result<HeldBody, NoRoom> {
        // Also where it finds no room: what is left there is the next request.
        self.body_read = true;
        let came = &mut self.conn.read;
        let next = if came.len() > length { came.split_off(length) } else { Vec::new() };
        HeldBody::of(std::mem::replace(came, next), &self.gate.allowance, self.limits.held)
    }

    /// Asks for the body where the client waits for that.
    async fn ask_for_body(&mut self) -> Result<(), BodyError> {
        if !self.head.expect_continue || !self.conn.read.is_empty() {
            return Ok(());
        }
        self.conn.watch.set(Some(self.limits.head_time));
        let asked = self.conn.say(encode::CONTINUE).await;
        if asked { Ok(()) } else { Err(BodyError::Gone) }
    }

    async fn read_length(&mut self, length: usize) -> Result<HeldBody, BodyError> {
        self.ask_for_body().await?;
        let bound = self.limits.held;
        let mut body = HeldBody::of(std::mem::take(&mut self.conn.read), &self.gate.allowance, bound)?;
        let mut pace = self.pace();
        while body.len() < length {
            let mut pushed = Ok(());
            let next = &mut Vec::new();
            self.fill_body(&mut pace, |came| {
                let (ours, behind) = came.split_at(came.len().min(length - body.len()));
                pushed = body.push(ours, length, bound);
                next.extend_from_slice(behind);
            })
            .await?;
            pushed?;
            self.conn.read.append(next);
        }
        Ok(body)
    }

    async fn read_chunked(&mut self, limit: usize) -> Result<HeldBody, BodyError> {
        self.ask_for_body().await?;
        let mut framing = Body::with_limits(Framing::Chunked, &self.limits.framing);
        let bound = self.limits.held;
        let mut body = HeldBody::of(Vec::new(), &self.gate.allowance, bound)?;
        let mut pace = self.pace();
        loop {
            let mut used = 0;
            while used < self.conn.read.len() && !framing.is_done() {
                let input = &self.conn.read[used..];
                let step = framing.step(input).map_err(BodyError::Malformed)?;
                if step.data.len() > limit - body.len() {
                    return Err(BodyError::TooLarge(limit as u64));
                }
                body.push(&input[step.data], limit, bound)?;
                used += step.used;
            }
            self.conn.read.drain(..used);
            if framing.is_done() {
                return Ok(body);
            }
            let mut came = std::mem::take(&mut self.conn.read);
            self.fill_body(&mut pace, |more| came.extend_from_slice(more)).await?;
            self.conn.read = came;
        }
    }

    fn pace(&self) -> Pace {
        Pace::new(self.limits.body_rate, self.limits.head_time, self.gate.sweep.now())
    }

    /// Asks a client that waits to be asked for its body. Ready with false when it left.
    fn poll_ask(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(streamed) = &mut self.streamed else { return Poll::Ready(true) };
        while let Some(left) = streamed.asking {
            let io = Pin::new(&mut self.conn.io);
            if left.is_empty() {
                if ready!(io.poll_flush(cx)).is_err() {
                    return Poll::Ready(false);
                }
                streamed.asking = None;
                break;
            }
            match ready!(io.poll_write(cx, left)) {
                Ok(0) | Err(_) => return Poll::Ready(false),
                Ok(taken) => streamed.asking = Some(&left[taken..]),
            }
        }
        Poll::Ready(true)
    }

    /// Data of the streamed body among what has been read already; none where more must be read.
    fn next_piece(&mut self, scratch: &mut [u8], limit: u64) -> Result<Option<(usize, bool)>, BodyError> {
        let Some(streamed) = &mut self.streamed else { return Ok(Some((0, true))) };
        let mut used = 0;
        let mut piece = None;
        while piece.is_none() && used < self.conn.read.len() && !streamed.framing.is_done() {
            let end = self.conn.read.len().min(used + scratch.len());
            let input = &self.conn.read[used..end];
            let step = streamed.framing.step(input).map_err(BodyError::Malformed)?;
            let data = &input[step.data];
            scratch[..data.len()].copy_from_slice(data);
            streamed.given += data.len() as u64;
            used += step.used;
            piece = (!data.is_empty()).then_some(data.len());
        }
        self.conn.read.drain(..used);
        if streamed.given > limit {
            return Err(BodyError::TooLarge(limit));
        }
        let done = streamed.framing.is_done();
        self.body_read = done;
        Ok(if done { Some((piece.unwrap_or(0), true)) } else { piece.map(|n| (n, false)) })
    }

    /// Whether the client is late with the next piece of a streamed body.
    fn poll_body_late<T>(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, BodyError>> {
        if let Some(streamed) = &mut self.streamed {
            streamed.pace.resume(self.gate.sweep.now());
            self.conn.watch.set_until(streamed.pace.deadline());
        }
        self.conn.watch.poll_late(cx).map(|()| Err(BodyError::TooSlow))
    }

    /// Reads once, for as long as the body's pace allows.
    async fn fill_body(&mut self, pace: &mut Pace, mut take: impl FnMut(&[u8])) -> Result<(), BodyError> {
        let conn = &mut *self.conn;
        conn.watch.set_until(pace.deadline());
        let filled = poll_fn(|cx| match conn.poll_read_into(cx, &mut take) {
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(BodyError::Gone)),
            Poll::Ready(Ok(came)) => Poll::Ready(Ok(came)),
            Poll::Pending => conn.watch.poll_late(cx).map(|()| Err(BodyError::TooSlow)),
        });
        let came = filled.await?;
        pace.came(came, self.gate.sweep.now());
        Ok(())
    }
}
