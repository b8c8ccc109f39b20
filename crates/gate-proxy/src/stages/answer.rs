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
pub(crate) async fn stream<D: Downstream>(
    mut live: Live,
    down: &mut D,
    trace: &mut Trace,
) -> Result<Done, Ended> {
    let status = live.answer.status();
    let mut pieces = Vec::new();
    let streamed = poll_fn(|cx| poll_stream(&mut live, down, &mut pieces, trace, cx)).await;
    let error = match streamed {
        Ok(()) => return Ok(Done { status }),
        Err(Cut::Gone) => return Err(Ended::Gone),
        Err(Cut::Silent) => GateError::new(Reason::UpstreamTimeout),
        Err(Cut::Upstream(error)) => GateError::new(Reason::UpstreamFailed).because(error),
    };
    // As long as the client was told nothing, it can be told the truth.
    Err(if trace.status == 0 { Ended::Refused(Box::new(error)) } else { Ended::CutShort(Box::new(error)) })
}

fn begin<D: Downstream>(live: &Live, down: &mut D, trace: &mut Trace) {
    trace.status = live.answer.status();
    let passed =
        live.answer.fields().filter(|(name, _)| PASSED.iter().any(|kept| kept.eq_ignore_ascii_case(name)));
    let fields: Vec<_> = passed
        .chain(live.added)
        .chain([("x-request-id", trace.id.as_str().as_bytes())])
        .chain(trace.cors.fields())
        .collect();
    down.begin(&AnswerHead { status: live.answer.status(), fields: &fields, framing: live.answer.framing() });
}

enum Cut {
    Gone,
    Silent,
    Upstream(UpstreamError),
}

/// The head waits for the first read, so that it goes out in one write with what came along; where nothing came along it
/// goes alone.
fn poll_stream<D: Downstream>(
    live: &mut Live,
    down: &mut D,
    pieces: &mut Vec<Range<usize>>,
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
            if live.ended {
                return Poll::Ready(Ok(()));
            }
        }
        match poll_piece(live, down, pieces, trace, cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(cut)) => return Poll::Ready(Err(cut)),
            Poll::Pending if trace.status == 0 => begin(live, down, trace),
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
    live: &mut Live,
    down: &mut D,
    pieces: &mut Vec<Range<usize>>,
    trace: &mut Trace,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Cut>> {
    scratch::with_upstream(|scratch| {
        let wire = ready!(live.answer.poll_wire(cx, scratch, pieces)).map_err(Cut::Upstream)?;
        live.ended = wire.end;
        if trace.status == 0 {
            begin(live, down, trace);
        }
        if wire.n > 0 && trace.first_byte.is_none() {
            trace.first_byte = Some(Instant::now());
        }
        let offered = down.offer(cx, &scratch[..wire.n], pieces, wire.end);
        Poll::Ready(offered.map_err(|_closed| Cut::Gone))
    })
}
