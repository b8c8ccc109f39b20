//! A WebSocket (RFC 6455) on a route that lets them pass: it is opened like any other request, with the same key, and then its
//! bytes go both ways, unread, until one side ends it, neither has moved for the limit of silence, or the lease is over.
//!
//! What the client has not taken is not read on from the upstream, and the other way round, so nothing grows here. An idle
//! one holds no buffer.

use super::fields::agreeing;
use crate::downstream::{Downstream, Head};
use crate::outcome::{Done, Ended};
use crate::rules::{ExtraRoute, Rules};
use crate::scratch;
use crate::stages::cors;
use crate::trace::Trace;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gate_upstream::{Switched, UpstreamError};
use gate_wire::{GateError, Reason};
use sha1::{Digest as _, Sha1};
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// The one protocol that a connection may be switched to: others, such as `h2c`, would carry requests past the gate.
pub(super) const PROTOCOL: &str = "websocket";
const KEY: &str = "sec-websocket-key";
const OFFERED: &str = "sec-websocket-protocol";
/// What a server answers a key with is over this, too (RFC 6455, 1.3).
const SALT: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// After so many moves others get their turn.
const MOVES_A_POLL: usize = 32;

/// Whether the request asks for a WebSocket. Other protocols it may ask for are passed over, as a server may do
/// (RFC 9110, section 7.8).
pub(super) fn is_wanted(head: &Head) -> bool {
    let has = |name, token: &str| {
        let mut words = head.all(name).flat_map(|list| list.split(|byte| *byte == b','));
        words.any(|word| word.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    };
    has("upgrade", PROTOCOL) && has("connection", "upgrade")
}

/// Whether one may be opened here, and from where it is asked for. A browser lets any page open one anywhere, and asks nobody
/// before: so the gate must look at the origin, whatever key comes along.
pub(super) fn check<D: Downstream>(rules: &Rules, route: &ExtraRoute, down: &D) -> Result<(), GateError> {
    let refused = |text| Err(GateError::new(Reason::UpgradeRefused).saying(text));
    if !route.upgrade {
        return refused(
            "this route lets no WebSocket pass; its operator can allow that: upgrade = true in its [[route]]",
        );
    }
    if down.head().method() != "GET" || !down.can_switch() {
        return refused("a WebSocket is opened by a GET without a body over HTTP/1.1");
    }
    if only(down.head().all(KEY)).is_none() {
        return refused("a WebSocket is opened with one Sec-WebSocket-Key");
    }
    if cors::is_foreign(rules, down.head()) {
        return Err(GateError::new(Reason::OriginNotAllowed));
    }
    Ok(())
}

/// Whether the upstream's `101` is an answer to this very request, and by nobody who only repeats what it is told to: it answers
/// the client's key, and takes one of the protocols that the client offered, or none.
pub(super) fn is_agreed<'a>(head: &Head, answer: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone) -> bool {
    let all = |wanted: &'static str| {
        let fields = answer.clone().filter(move |(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()));
        fields.map(|(_, value)| value)
    };
    let Some(key) = only(head.all(KEY)) else { return false };
    let due = STANDARD.encode(Sha1::new().chain_update(key).chain_update(SALT).finalize());
    if only(all("sec-websocket-accept")) != Some(due.as_bytes()) {
        return false;
    }
    let mut taken = all(OFFERED);
    match (taken.next(), taken.next()) {
        (None, _) => true,
        (Some(one), None) => {
            let mut offered = head.all(OFFERED).flat_map(|list| list.split(|byte| *byte == b','));
            offered.any(|word| word.trim_ascii() == one) && !one.is_empty()
        }
        (Some(_), Some(_)) => false,
    }
}

fn only<'v>(mut values: impl Iterator<Item = &'v [u8]>) -> Option<&'v [u8]> {
    let one = values.next()?;
    values.next().is_none().then_some(one)
}

/// A WebSocket that both sides have agreed on.
pub(super) struct Socket {
    line: Switched,
    /// What the client sent and the upstream has not taken, from `sent` on.
    held: Vec<u8>,
    sent: usize,
    /// The upstream may hold something back that was written.
    is_unflushed: bool,
    /// The client has ended its side.
    client_ended: bool,
    /// The upstream has.
    line_ended: bool,
}

enum Cut {
    Gone,
    Silent,
    Upstream(UpstreamError),
}

impl Socket {
    /// Tells the client that its WebSocket stands.
    pub(super) fn open<D: Downstream>(
        line: Switched,
        down: &mut D,
        trace: &mut Trace,
        own_idle: Option<Duration>,
    ) -> Self {
        trace.status = line.status();
        let id = trace.id;
        let fields: Vec<_> = agreeing(line.fields()).chain([("x-request-id", id.as_bytes())]).collect();
        down.switch(PROTOCOL, &fields);
        drop(fields);
        if own_idle.is_some() {
            down.limit_silence(own_idle);
        }
        Socket {
            line,
            held: Vec::new(),
            sent: 0,
            is_unflushed: false,
            client_ended: false,
            line_ended: false,
        }
    }

    /// Lets its bytes pass until it ends.
    pub(super) async fn run<D: Downstream>(mut self, down: &mut D, trace: &mut Trace) -> Result<Done, Ended> {
        let error = match poll_fn(|cx| self.poll(down, trace, cx)).await {
            Ok(()) => return Ok(Done { status: trace.status }),
            Err(Cut::Gone) => return Err(Ended::Gone),
            Err(Cut::Silent) => {
                GateError::new(Reason::UpstreamTimeout).because("the WebSocket was silent for too long")
            }
            Err(Cut::Upstream(error)) => GateError::new(Reason::UpstreamFailed).because(error),
        };
        Err(Ended::CutShort(Box::new(error)))
    }

    fn poll<D: Downstream>(
        &mut self,
        down: &mut D,
        trace: &mut Trace,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Cut>> {
        for _ in 0..MOVES_A_POLL {
            let back = self.poll_back(down, trace, cx);
            let forth = self.poll_forth(down, cx);
            match (back, forth) {
                (Poll::Ready(Err(cut)), _) | (_, Poll::Ready(Err(cut))) => return Poll::Ready(Err(cut)),
                (Poll::Ready(Ok(true)), _) | (_, Poll::Ready(Ok(true))) => return Poll::Ready(Ok(())),
                (Poll::Pending, Poll::Pending) => return down.poll_silent(cx).map(|()| Err(Cut::Silent)),
                (Poll::Ready(Ok(false)), _) | (_, Poll::Ready(Ok(false))) => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// One move from the upstream to the client; true when all there was has left.
    fn poll_back<D: Downstream>(
        &mut self,
        down: &mut D,
        trace: &mut Trace,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, Cut>> {
        match down.poll_flush(cx) {
            Poll::Ready(Ok(())) if self.line_ended => return Poll::Ready(Ok(true)),
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_closed)) => return Poll::Ready(Err(Cut::Gone)),
            Poll::Pending => return Poll::Pending,
        }
        scratch::with_upstream(|scratch, _| {
            let came = match self.line.poll_read(cx, scratch) {
                Poll::Ready(Ok(came)) => came,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Cut::Upstream(error))),
                Poll::Pending => return Poll::Pending,
            };
            self.line_ended = came == 0;
            if came > 0 && trace.first_byte.is_none() {
                trace.first_byte = Some(Instant::now());
            }
            let offered = down.offer(cx, &scratch[..came], &[], self.line_ended);
            Poll::Ready(offered.map(|()| false).map_err(|_closed| Cut::Gone))
        })
    }

    /// One move from the client to the upstream; true when the client has ended and the upstream has all there was. What comes
    /// once the upstream has ended is nobody's any more.
    fn poll_forth<D: Downstream>(&mut self, down: &mut D, cx: &mut Context<'_>) -> Poll<Result<bool, Cut>> {
        if self.line_ended {
            return Poll::Pending;
        }
        if self.sent < self.held.len() {
            return match self.line.poll_write(cx, &self.held[self.sent..]) {
                Poll::Ready(Ok(taken)) => {
                    self.sent += taken;
                    self.is_unflushed = true;
                    if self.sent == self.held.len() {
                        self.sent = 0;
                        scratch::give_back(std::mem::take(&mut self.held));
                    }
                    Poll::Ready(Ok(false))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(Cut::Upstream(error))),
                Poll::Pending => Poll::Pending,
            };
        }
        if self.is_unflushed {
            match self.line.poll_flush(cx) {
                Poll::Ready(Ok(())) => self.is_unflushed = false,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Cut::Upstream(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.client_ended {
            return Poll::Ready(Ok(true));
        }
        match down.poll_switched(cx, &mut self.held) {
            Poll::Ready(Ok(came)) => {
                self.client_ended = came == 0;
                Poll::Ready(Ok(self.client_ended))
            }
            Poll::Ready(Err(_closed)) => Poll::Ready(Err(Cut::Gone)),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_101_answers_the_clients_own_key_and_takes_what_it_offered() {
        let good = ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let took = |protocol| ("sec-websocket-protocol", protocol);
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let offer = "Sec-WebSocket-Protocol: chat, talk\r\nSec-WebSocket-Protocol: more\r\n";
        let both = format!("{key}{offer}");
        for (asked, answer, agreed) in [
            (key, vec![good], true),
            (&both, vec![good], true),
            (&both, vec![good, took("talk")], true),
            (&both, vec![took("more"), good], true),
            (&both, vec![good, took("Talk")], false),
            (&both, vec![good, took("chat, talk")], false),
            (&both, vec![good, took("chat"), took("talk")], false),
            (&both, vec![good, took("")], false),
            (key, vec![good, took("chat")], false),
            (key, vec![], false),
            (key, vec![good, good], false),
            (key, vec![("Sec-WebSocket-Accept", "S3pPLMBiTxaQ9kYGzzhZRbK+xOo=")], false),
            (key, vec![("Sec-WebSocket-Accept", "dGhlIHNhbXBsZSBub25jZQ==")], false),
            ("Sec-WebSocket-Key: other\r\n", vec![good], false),
            (offer, vec![good], false),
        ] {
            let head = Head::parse(&format!("GET / HTTP/1.1\r\nHost: a\r\n{asked}\r\n"));
            let fields = answer.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            assert_eq!(is_agreed(&head, fields), agreed, "{asked} {answer:?}");
        }
    }
}
