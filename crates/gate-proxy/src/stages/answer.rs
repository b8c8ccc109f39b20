//! The answer's way back: checked and forwarded piece by piece as the model makes it, byte for byte, with back-pressure.
//!
//! A read from the upstream happens only when the client has taken all before it, so a slow reader grows no memory and
//! a hang-up is seen in every wait. After the first byte nothing is tried again.

use crate::downstream::{AnswerHead, Downstream};
use crate::outcome::{Done, Ended};
use crate::scratch;
use crate::stages::attempt::Live;
use crate::trace::Trace;
use gate_upstream::UpstreamError;
use gate_wire::{GateError, Reason};
use std::future::poll_fn;
use std::ops::Range;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// The fields of an upstream's answer that reach the client. All others are Ollama's own business, or the gate's.
const PASSED: [&str; 4] = ["content-type", "cache-control", "date", "retry-after"];

/// Sends the answer on, to its last byte.
pub(crate) async fn stream<D: Downstream>(mut live: Live, down: &mut D, trace: &mut Trace) -> Result<Done, Ended> {
    let status = live.answer.status();
    begin(&live, down, trace);
    down.limit_silence(Some(live.idle));
    let mut pieces = Vec::new();
    let streamed = poll_fn(|cx| poll_stream(&mut live, down, &mut pieces, trace, cx)).await;
    match streamed {
        Ok(()) => Ok(Done { status }),
        Err(Cut::Gone) => Err(Ended::Gone),
        Err(Cut::Silent) => Err(Ended::CutShort(Box::new(GateError::new(Reason::UpstreamTimeout)))),
        Err(Cut::Upstream(error)) => {
            Err(Ended::CutShort(Box::new(GateError::new(Reason::UpstreamFailed).because(error))))
        }
    }
}

fn begin<D: Downstream>(live: &Live, down: &mut D, trace: &Trace) {
    let passed = live.answer.fields().filter(|(name, _)| PASSED.iter().any(|kept| kept.eq_ignore_ascii_case(name)));
    let fields: Vec<_> = passed.chain([("x-request-id", trace.id.as_str().as_bytes())]).collect();
    down.begin(&AnswerHead { status: live.answer.status(), fields: &fields, framing: live.answer.framing() });
}

enum Cut {
    Gone,
    Silent,
    Upstream(UpstreamError),
}

fn poll_stream<D: Downstream>(
    live: &mut Live,
    down: &mut D,
    pieces: &mut Vec<Range<usize>>,
    trace: &mut Trace,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Cut>> {
    loop {
        match down.poll_flush(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_closed)) => return Poll::Ready(Err(Cut::Gone)),
            Poll::Pending => return poll_gone(down, cx),
        }
        if live.ended {
            return Poll::Ready(Ok(()));
        }
        let moved = scratch::with_upstream(|scratch| {
            let wire = ready!(live.answer.poll_wire(cx, scratch, pieces)).map_err(Cut::Upstream)?;
            live.ended = wire.end;
            if wire.n > 0 && trace.first_byte.is_none() {
                trace.first_byte = Some(Instant::now());
            }
            let offered = down.offer(cx, &scratch[..wire.n], pieces, wire.end);
            Poll::Ready(offered.map_err(|_closed| Cut::Gone))
        });
        match moved {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(cut)) => return Poll::Ready(Err(cut)),
            Poll::Pending => {
                if down.poll_gone(cx).is_ready() {
                    return Poll::Ready(Err(Cut::Gone));
                }
                return down.poll_silent(cx).map(|()| Err(Cut::Silent));
            }
        }
    }
}

fn poll_gone<D: Downstream>(down: &mut D, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
    down.poll_gone(cx).map(|()| Err(Cut::Gone))
}
