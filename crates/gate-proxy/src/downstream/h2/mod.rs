//! HTTP/2 towards clients, with prior knowledge on the plain port: one task per connection, one per request on it, the same
//! path behind the same trait.
//!
//! The protocol is the `h2` library's; the bounds, the time limits and the way from a stream to a request are here. The
//! tasks of a connection's requests are its own: they end before it does. Must never decide anything about a request.

mod head;
mod link;
mod out;
mod stream;

use super::ClientStream;
use super::conn::Conn;
use crate::gate::Gate;
use crate::held::Room;
use crate::path;
use crate::rules::Limits;
use ::h2::server::{Builder, Connection, SendResponse};
use ::h2::{Ping, PingPong, Reason, RecvStream};
use bytes::Bytes;
use http::Request;
use link::{Link, Wire};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use stream::Stream;
use tokio::task::JoinSet;

/// What every HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client may send before anybody knows it, on one stream and in all: the protocol's own least.
const STRANGERS_WINDOW: u32 = 65_535;
/// What one may send ahead on a connection on which a known caller's body was asked for: on one stream, and in all.
const CALLERS_WINDOW: u32 = 256 << 10;
const CALLERS_WINDOW_IN_ALL: u32 = 1 << 20;
/// The part of the bound for bodies in memory up to which that is allowed: one in so many. Others keep the small windows.
const WINDOWS_SHARE: usize = 4;
/// Bytes of one answer that wait in the library for their turn on the connection.
const SEND_BUFFER: usize = 64 << 10;
/// Streams that the library ended because of what came on them, before it ends the connection.
const FAULTY_STREAMS: usize = 64;
/// Requests that a client may take back at once, and how many more with every second: more are an attack (CVE-2023-44487).
const RESETS: u32 = 500;
const RESETS_A_SECOND: u32 = 10;
/// How often a client with requests under way, of which nothing came, is asked whether it lives; the time for its answer.
const PING_EVERY: Duration = Duration::from_secs(30);
const PONG_TIME: Duration = Duration::from_secs(20);
/// How long a last word to the client may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the first bytes of a connection say about its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preface {
    /// HTTP/2.
    Whole,
    /// It may become that.
    Part,
    /// Something else.
    No,
}

/// Looks for HTTP/2's preface.
pub(super) fn preface(came: &[u8]) -> Preface {
    if came.starts_with(PREFACE) {
        Preface::Whole
    } else if PREFACE.starts_with(came) {
        Preface::Part
    } else {
        Preface::No
    }
}

/// Serves a connection whose preface has come, until either side ends it.
pub(super) async fn serve<IO: ClientStream>(conn: Conn<IO>) {
    let Conn { io, guest, read, watch, .. } = conn;
    let gate = &guest.gate;
    let limits = gate.rules().limits.clone();
    let link = Rc::new(Link::new(watch, guest.entered.clone()));
    let mut handshake = builder(&limits).handshake(Wire::new(io, read, Rc::clone(&link)));
    // The first request has what is left of the time that the connection began with.
    let shaken = poll_fn(|cx| match Pin::new(&mut handshake).poll(cx) {
        Poll::Ready(shaken) => Poll::Ready(shaken.ok()),
        Poll::Pending => link.watch.poll_late(cx).map(|()| None),
    });
    let Some(mut wire) = shaken.await else { return };
    let pings = wire.ping_pong();
    let refilled = link.watch.now();
    let mut served = Served {
        wire,
        link,
        streams: JoinSet::new(),
        pings,
        asked: false,
        heard: 0,
        resets: RESETS,
        refilled,
        is_leaving: false,
        is_parting: false,
        room: None,
        gate,
    };
    while let Some((request, respond)) = poll_fn(|cx| served.poll(cx)).await {
        let (gate, link) = (Rc::clone(gate), Rc::clone(&served.link));
        served.streams.spawn_local(answer(gate, link, request, respond));
    }
    // What is left of the requests sees that the client is gone, and ends; then their tasks do.
    let Served { wire, mut streams, .. } = served;
    drop(wire);
    while streams.join_next().await.is_some() {}
}

fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    // The fields as they count here have 32 bytes each on top (RFC 9113, section 6.5.2): what is too long by our own
    // measure shall be told in our own words.
    let fields = limits.framing.head + 32 * (limits.framing.fields + 8);
    builder
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(fields).unwrap_or(u32::MAX))
        .initial_window_size(STRANGERS_WINDOW)
        .initial_connection_window_size(STRANGERS_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_local_error_reset_streams(Some(FAULTY_STREAMS));
    builder
}

/// One request to its end. True where the client took it back.
async fn answer(
    gate: Rc<Gate>,
    link: Rc<Link>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> bool {
    let rules = gate.rules();
    let (head, body) = {
        // The library's own form of the head is gone before the request begins: it may have many KiB.
        let (parts, body) = request.into_parts();
        (head::read(&parts, body.is_end_stream(), &rules.limits.framing), body)
    };
    match head {
        Ok(head) => {
            let mut stream = Stream::new(&gate, &rules.limits, &link, head, body, respond);
            path::handle(&gate, &rules, &mut stream).await;
            stream.finish().await
        }
        Err(error) => {
            head::refuse(&gate, &link.entered, &mut respond, error);
            false
        }
    }
}

/// A request that has come, and the way back.
type Asked = (Request<RecvStream>, SendResponse<Bytes>);

/// A connection under way.
struct Served<'c, IO: ClientStream> {
    wire: Connection<Wire<IO>, Bytes>,
    link: Rc<Link>,
    streams: JoinSet<bool>,
    pings: Option<PingPong>,
    /// The client was asked whether it lives, and has not answered.
    asked: bool,
    /// What had come when that was last considered.
    heard: u64,
    /// Requests that may still be taken back, and when that was last refilled.
    resets: u32,
    refilled: crate::sweep::Tick,
    /// It was told that no further requests are taken.
    is_leaving: bool,
    /// Nothing is left but to say so.
    is_parting: bool,
    /// For what may lie in its wide windows.
    room: Option<Room>,
    gate: &'c Gate,
}

impl<IO: ClientStream> Served<'_, IO> {
    /// The next request; none where the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Asked>> {
        self.link.tend(cx);
        if self.link.watch.is_to_go() {
            self.part(Reason::NO_ERROR);
        }
        self.drain();
        loop {
            match self.wire.poll_accept(cx) {
                Poll::Ready(Some(Ok(asked))) => {
                    if self.streams.is_empty() {
                        self.link.be_busy(PING_EVERY);
                    }
                    return Poll::Ready(Some(asked));
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(None),
                Poll::Pending => {}
            }
            if self.widen() || self.reap(cx) {
                // It may have changed what the connection has to say.
                continue;
            }
            self.hear(cx);
            if self.link.watch.poll_late(cx).is_pending() {
                return Poll::Pending;
            }
            if !self.is_spared() {
                return Poll::Ready(None);
            }
        }
    }

    /// Takes leave of requests that have ended; true where the connection must be looked at again.
    fn reap(&mut self, cx: &mut Context<'_>) -> bool {
        let mut is_again = false;
        while let Poll::Ready(Some(ended)) = self.streams.poll_join_next(cx) {
            if ended.is_ok_and(|was_reset| was_reset) {
                is_again |= self.count_reset();
            }
            if self.streams.is_empty() && !self.is_parting {
                self.asked = false;
                self.link.watch.rest(if self.is_leaving {
                    FAREWELL
                } else {
                    self.gate.rules().limits.keep_alive
                });
            }
        }
        is_again
    }

    /// True where it was one too many.
    fn count_reset(&mut self) -> bool {
        let now = self.link.watch.now();
        let more = self.refilled.seconds_until(now);
        if more > 0 {
            self.refilled = now;
            self.resets = self.resets.saturating_add(more.saturating_mul(RESETS_A_SECOND)).min(RESETS);
        }
        match self.resets.checked_sub(1) {
            Some(left) => {
                self.resets = left;
                false
            }
            None => {
                self.part(Reason::ENHANCE_YOUR_CALM);
                true
            }
        }
    }

    /// A known caller's body is awaited: more of it may be on its way at one time, where there is room for that. True where
    /// the connection must be looked at again.
    fn widen(&mut self) -> bool {
        if !self.link.is_to_widen() {
            return false;
        }
        if self.room.is_none() {
            let bound = self.gate.rules().limits.held / WINDOWS_SHARE;
            let more = (CALLERS_WINDOW_IN_ALL - STRANGERS_WINDOW) as usize;
            let Ok(room) = Room::of(more, &self.gate.allowance, bound) else { return false };
            self.room = Some(room);
            self.wire.set_target_window_size(CALLERS_WINDOW_IN_ALL);
        }
        // Refused until the client has acknowledged what the connection began with.
        let is_told = self.wire.set_initial_window_size(CALLERS_WINDOW).is_ok();
        if is_told {
            self.link.widened();
        }
        is_told
    }

    fn drain(&mut self) {
        if self.gate.drain.has_begun() && !self.is_leaving {
            self.is_leaving = true;
            self.wire.graceful_shutdown();
            if self.streams.is_empty() {
                self.link.watch.rest(FAREWELL);
            }
        }
    }

    /// Takes in the client's answer to a ping.
    fn hear(&mut self, cx: &mut Context<'_>) {
        if let (true, Some(pings)) = (self.asked, &mut self.pings)
            && let Poll::Ready(pong) = pings.poll_pong(cx)
        {
            self.asked = pong.is_err();
            self.link.be_busy(PING_EVERY);
        }
    }

    /// The limit has passed. Says whether the connection goes on for a while.
    fn is_spared(&mut self) -> bool {
        if self.is_parting {
            return false;
        }
        if self.streams.is_empty() {
            self.part(Reason::NO_ERROR);
            return true;
        }
        if self.asked {
            return false;
        }
        let heard = self.link.heard();
        if heard == self.heard
            && let Some(pings) = &mut self.pings
        {
            self.asked = pings.send_ping(Ping::opaque()).is_ok();
        }
        self.heard = heard;
        self.link.be_busy(if self.asked { PONG_TIME } else { PING_EVERY });
        true
    }

    /// Says goodbye: requests that have not been seen may be made elsewhere.
    fn part(&mut self, reason: Reason) {
        self.is_parting = true;
        self.wire.abrupt_shutdown(reason);
        self.link.watch.set(Some(FAREWELL));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_known_by_its_first_bytes_and_believed_when_it_is_whole() {
        for end in 1..PREFACE.len() {
            assert_eq!(preface(&PREFACE[..end]), Preface::Part, "{end}");
        }
        assert_eq!(preface(PREFACE), Preface::Whole);
        assert_eq!(preface(&[PREFACE, b"more"].concat()), Preface::Whole);
        for other in ["POST / HTTP/1.1\r\n", "PR ", "PRI * HTTP/2.0\r\n\r\nGET", "GET"] {
            assert_eq!(preface(other.as_bytes()), Preface::No, "{other}");
        }
    }
}
