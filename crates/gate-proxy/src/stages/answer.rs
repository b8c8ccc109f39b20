//! The answer's way back: checked and forwarded piece by piece as the model makes it, byte for byte, with back-pressure.
//!
//! A read from the upstream happens only when the client has taken all before it, so a slow reader grows no memory and
//! a hang-up is seen in every wait. After the first byte nothing is tried again. The data are read for their end record
//! as they pass; where it is missing the end of the framing, which Ollama sends after a crash as well, does not pass.

use crate::downstream::{AnswerHead, Downstream};
use crate::outcome::{Done, Ended};
use crate::passed::Passed;
use crate::scratch;
use crate::stages::attempt::Live;
use crate::stages::extra;
use crate::trace::Trace;
use gate_h1::same_name;
use gate_upstream::UpstreamError;
use gate_wire::{GateError, Reason};
use std::future::poll_fn;
use std::ops::Range;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// The fields of an upstream's answer that reach the client. All others are Ollama's own business, or the gate's.
fn passed(name: &[u8]) -> Option<&'static str> {
    // The lengths first: all others are passed over with one comparison.
    let kept = match name.len() {
        4 => "Date",
        11 => "Retry-After",
        12 => "Content-Type",
        13 => "Cache-Control",
        _ => return None,
    };
    same_name(name, kept.as_bytes()).then_some(kept)
}

/// An answer whose framing ended well without the record that every whole answer ends with.
const UNFINISHED: &str = "the answer ended without its end record; the model's runner has died or given up";

/// Fields of an upstream's answer that are passed on, at most, and those with the gate's own ones.
const MOST_PASSED: usize = 8;
const MOST_FIELDS: usize = 16;

fn begin<D: Downstream>(live: &Live, down: &mut D, trace: &mut Trace) {
    if trace.is_extra() {
        return extra::begin(live, down, trace);
    }
    trace.status = live.answer.status();
    let passed = live.answer.fields().filter_map(|(name, value)| Some((passed(name)?, value)));
    // Of an upstream's own fields not more than ever mean something; ours all have a place.
    let all = passed.take(MOST_PASSED).chain(live.added).chain([("x-request-id", trace.id.as_bytes())]);
    let mut fields: [(&str, &[u8]); MOST_FIELDS] = [("", b""); MOST_FIELDS];
    let mut count = 0;
    for (place, field) in fields.iter_mut().zip(all.chain(trace.cors.fields())) {
        *place = field;
        count += 1;
    }
    let fields = &fields[..count];
    down.begin(&AnswerHead { status: live.answer.status(), fields, framing: live.answer.framing() });
    if live.own_idle.is_some() {
        down.limit_silence(live.own_idle);
    }
}

enum Cut {
    Gone,
    Silent,
    Unfinished,
    Upstream(UpstreamError),
}

/// The answer on its way.
pub(crate) struct Way {
    live: Live,
    /// Framing that waits for the data behind it; empty but where a read ends within it.
    held: Vec<u8>,
}

impl Way {
    pub(crate) fn begin(live: Live, trace: &mut Trace) -> Self {
        trace.passed = trace.route.map(|route| Passed::nothing(route, &live.answer));
        Way { live, held: Vec::new() }
    }

    /// Sends the answer on, to its last byte.
    pub(crate) async fn stream<D: Downstream>(
        &mut self,
        down: &mut D,
        trace: &mut Trace,
    ) -> Result<Done, Ended> {
        let error = match poll_fn(|cx| self.poll(down, trace, cx)).await {
            Ok(()) => return Ok(Done { status: self.live.answer.status() }),
            Err(Cut::Gone) => return Err(Ended::Gone),
            Err(Cut::Silent) => GateError::new(Reason::UpstreamTimeout),
            Err(Cut::Unfinished) => GateError::new(Reason::UpstreamFailed).because(UNFINISHED),
            Err(Cut::Upstream(error)) => GateError::new(Reason::UpstreamFailed).because(error),
        };
        // As long as the client was told nothing, it can be told the truth.
        Err(if trace.status == 0 {
            Ended::Refused(Box::new(error))
        } else {
            Ended::CutShort(Box::new(error))
        })
    }

    /// The head waits for the first read, so that it goes out in one write with what came along; where nothing came along
    /// it goes alone.
    fn poll<D: Downstream>(
        &mut self,
        down: &mut D,
        trace: &mut Trace,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Cut>> {
        loop {
            if trace.status != 0 {
                match down.poll_flush(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_closed)) => return Poll::Ready(Err(Cut::Gone)),
                    Poll::Pending => return down.poll_gone(cx).map(|()| Err(Cut::Gone)),
                }
                if self.live.ended {
                    return Poll::Ready(Ok(()));
                }
            }
            match self.poll_piece(down, trace, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(cut)) => return Poll::Ready(Err(cut)),
                Poll::Pending if trace.status == 0 => begin(&self.live, down, trace),
                Poll::Pending => {
                    if down.poll_gone(cx).is_ready() {
                        return Poll::Ready(Err(Cut::Gone));
                    }
                    return down.poll_silent(cx).map(|()| Err(Cut::Silent));
                }
            }
        }
    }

    /// One read from the upstream, offered to the client.
    fn poll_piece<D: Downstream>(
        &mut self,
        down: &mut D,
        trace: &mut Trace,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Cut>> {
        scratch::with_upstream(|scratch, pieces| {
            let wire = ready!(self.live.answer.poll_wire(cx, scratch, pieces)).map_err(Cut::Upstream)?;
            let Self { live, held } = self;
            let came = &scratch[..wire.n];
            let mut clear = wire.n;
            let mut is_whole = true;
            if let Some(passed) = &mut trace.passed {
                pieces.iter().for_each(|piece| passed.feed(&came[piece.clone()]));
                is_whole = passed.is_whole();
                if !is_whole {
                    clear = passed.clear_bytes(came, pieces, wire.end);
                    if let Some(last) = pieces.last_mut() {
                        last.end = last.end.min(clear);
                    }
                }
            }
            let is_broken = wire.end && !is_whole;
            if trace.status == 0 {
                if is_broken && pieces.is_empty() {
                    return Poll::Ready(Err(Cut::Unfinished));
                }
                begin(live, down, trace);
            }
            if !pieces.is_empty() && trace.first_byte.is_none() {
                trace.first_byte = Some(Instant::now());
            }
            let ends = wire.end && is_whole;
            let offered = if clear == 0 && !ends {
                held.extend_from_slice(came);
                Ok(())
            } else if held.is_empty() {
                held.extend_from_slice(&came[clear..]);
                down.offer(cx, &came[..clear], pieces, ends)
            } else {
                let both = joined(held, &came[..clear], pieces);
                held.extend_from_slice(&came[clear..]);
                down.offer(cx, &both, pieces, ends)
            };
            if let Some(passed) = &mut trace.passed {
                passed.open_chunk = open_chunk(live, held);
            }
            live.ended = ends;
            Poll::Ready(match offered {
                Err(_closed) => Err(Cut::Gone),
                Ok(()) if is_broken => Err(Cut::Unfinished),
                Ok(()) => Ok(()),
            })
        })
    }
}

/// What was held and what follows it, with the pieces moved along.
fn joined(held: &mut Vec<u8>, came: &[u8], pieces: &mut [Range<usize>]) -> Vec<u8> {
    let mut both = std::mem::take(held);
    for piece in pieces {
        piece.start += both.len();
        piece.end += both.len();
    }
    both.extend_from_slice(came);
    both
}

/// What is left of the chunk that the client is in. Held framing begins where the data end.
fn open_chunk(live: &Live, held: &[u8]) -> Option<u64> {
    match held.first() {
        None => live.answer.open_chunk(),
        Some(b'\r') => Some(0),
        Some(_) => None,
    }
}
