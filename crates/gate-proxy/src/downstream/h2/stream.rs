//! One HTTP/2 stream as a request on the path.

use super::FAREWELL;
use super::link::Link;
use super::out::Out;
use crate::downstream::conn::{LINGER_BYTES, LINGER_IN_ALL, LINGER_PAUSE};
use crate::downstream::pace::Pace;
use crate::downstream::silence::Silence;
use crate::downstream::{AnswerHead, BodyError, Downstream, Head};
use crate::entrance::{Entered, Source};
use crate::gate::Gate;
use crate::held::HeldBody;
use crate::rules::Limits;
use crate::sweep::Watch;
use ::h2::server::SendResponse;
use ::h2::{Reason, RecvStream};
use bytes::{Buf as _, Bytes};
use gate_h1::Framing;
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// What becomes of the part of a request's body that was not taken yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Somebody may ask for it.
    Wanted,
    /// It is thrown away as it comes, so that it lies in no memory and takes no other request's part of the windows.
    Unwanted,
    /// It is let be: there is none, or too much.
    LetBe,
}

pub(super) struct Stream<'s> {
    gate: &'s Gate,
    limits: &'s Limits,
    link: &'s Link,
    source: Source,
    head: Rc<Head>,
    /// Its caller has shown a valid key.
    is_known: Cell<bool>,
    body: RecvStream,
    rest: Rest,
    /// Bytes of it that were thrown away.
    passed_over: usize,
    /// What came of a streamed body and was not given on yet, how much was, and how fast it comes.
    came: Bytes,
    given: u64,
    pace: Option<Pace>,
    out: Out,
    watch: Watch,
    silence: Silence,
    is_asked: bool,
    was_reset: bool,
    aborted: bool,
}

impl<'s> Stream<'s> {
    pub(super) fn new(
        gate: &'s Gate,
        limits: &'s Limits,
        link: &'s Link,
        head: Head,
        body: RecvStream,
        respond: SendResponse<Bytes>,
    ) -> Self {
        Self {
            gate,
            limits,
            link,
            source: link.entered.source(&head),
            rest: if head.framing.is_empty() { Rest::LetBe } else { Rest::Wanted },
            passed_over: 0,
            head: Rc::new(head),
            is_known: Cell::new(false),
            body,
            came: Bytes::new(),
            given: 0,
            pace: None,
            out: Out::new(respond),
            watch: gate.sweep.watch(),
            silence: Silence::none(gate.sweep.now()),
            is_asked: false,
            was_reset: false,
            aborted: false,
        }
    }

    /// Ends the stream. True where the client had done so.
    pub(super) async fn finish(mut self) -> bool {
        if self.was_reset {
            return true;
        }
        if self.out.ended && !self.aborted {
            self.linger().await;
            return false;
        }
        if self.out.has_begun() {
            // A reset overtakes what has not been written; the client shall see all there was before it.
            let before = self.link.flushes();
            self.watch.set(Some(FAREWELL));
            poll_fn(|cx| match self.link.poll_flushed(before, cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => self.watch.poll_late(cx),
            })
            .await;
        }
        self.out.reset(Reason::INTERNAL_ERROR);
        false
    }

    /// Takes what a client goes on sending that was answered before its body had come: some see no answer where their
    /// stream is reset while they send.
    async fn linger(&mut self) {
        let end = self.watch.now().plus(LINGER_IN_ALL);
        while !self.body.is_end_stream() && self.passed_over < LINGER_BYTES {
            let now = self.watch.now();
            if now >= end {
                return;
            }
            self.watch.set_until(end.min(now.plus(LINGER_PAUSE)));
            let came = poll_fn(|cx| match self.body.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => Poll::Ready(Some(data.len())),
                Poll::Ready(Some(Err(_)) | None) => Poll::Ready(None),
                Poll::Pending => self.watch.poll_late(cx).map(|()| None),
            });
            let Some(came) = came.await else { return };
            self.release(came);
            self.passed_over += came;
        }
    }

    /// Throws away what has come of a body that nobody wants.
    fn pass_over(&mut self, cx: &mut Context<'_>) {
        while self.rest == Rest::Unwanted {
            match self.body.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    self.release(data.len());
                    self.passed_over += data.len();
                    if self.passed_over >= LINGER_BYTES {
                        self.rest = Rest::LetBe;
                    }
                }
                Poll::Ready(Some(Err(_)) | None) => self.rest = Rest::LetBe,
                Poll::Pending => return,
            }
        }
    }

    /// The next data of the body; none at its end.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        if !self.is_asked {
            self.is_asked = true;
            self.link.widen();
            if self.head.expect_continue && !self.body.is_end_stream() {
                self.out.ask();
            }
        }
        match self.body.poll_data(cx) {
            Poll::Ready(Some(Ok(data))) => Poll::Ready(Ok(Some(data))),
            // Taken back, gone, or of another length than was announced.
            Poll::Ready(Some(Err(_))) => {
                self.was_reset = true;
                Poll::Ready(Err(BodyError::Gone))
            }
            Poll::Ready(None) => {
                self.rest = Rest::LetBe;
                Poll::Ready(Ok(None))
            }
            Poll::Pending => self.watch.poll_late(cx).map(|()| Err(BodyError::TooSlow)),
        }
    }

    /// The client may send as much more.
    fn release(&mut self, bytes: usize) {
        // Fails only where more is given back than came.
        let _sound = self.body.flow_control().release_capacity(bytes);
    }

    fn start_pace(&self) -> Pace {
        Pace::new(self.limits.body_rate, self.limits.head_time, self.gate.sweep.now())
    }
}

impl Downstream for Stream<'_> {
    fn head(&self) -> &Rc<Head> {
        &self.head
    }

    fn entered(&self) -> &Entered {
        &self.link.entered
    }

    fn source(&self) -> Source {
        self.source
    }

    fn know(&self) {
        self.is_known.set(true);
        self.link.know();
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.pass_over(cx);
        let polled = self.out.poll_reset(cx);
        self.was_reset |= polled.is_ready();
        polled
    }

    fn poll_silent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.silence.poll(&self.watch, cx)
    }

    fn limit_silence(&mut self, limit: Option<Duration>) {
        self.silence = Silence::begin(limit, &self.watch);
    }

    async fn read_body(&mut self, limit: usize) -> Result<HeldBody, BodyError> {
        let most = match self.head.framing {
            Framing::None => return Ok(HeldBody::default()),
            Framing::Length(length) if length > limit as u64 => {
                return Err(BodyError::TooLarge(limit as u64));
            }
            Framing::Length(length) => usize::try_from(length).unwrap_or(limit),
            Framing::Chunked | Framing::UntilClose => limit,
        };
        let mut body = HeldBody::of(Vec::new(), &self.gate.allowance, self.limits.held)?;
        let mut pace = self.start_pace();
        loop {
            self.watch.set_until(pace.deadline());
            let Some(data) = poll_fn(|cx| self.poll_data(cx)).await? else { return Ok(body) };
            if data.len() > most - body.len() {
                return Err(BodyError::TooLarge(limit as u64));
            }
            body.push(&data, most, self.limits.held)?;
            self.release(data.len());
            pace.came(data.len(), self.gate.sweep.now());
        }
    }

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        limit: u64,
    ) -> Poll<Result<(usize, bool), BodyError>> {
        let now = self.gate.sweep.now();
        let mut pace = self.pace.take().unwrap_or_else(|| self.start_pace());
        let mut ended = false;
        while self.came.is_empty() && !ended {
            pace.resume(now);
            self.watch.set_until(pace.deadline());
            let polled = self.poll_data(cx);
            self.pace = Some(pace);
            match ready!(polled)? {
                Some(data) => {
                    pace.came(data.len(), now);
                    self.given += data.len() as u64;
                    if self.given > limit {
                        return Poll::Ready(Err(BodyError::TooLarge(limit)));
                    }
                    self.came = data;
                }
                None => ended = true,
            }
        }
        pace.pause(now);
        self.pace = Some(pace);
        let n = self.came.len().min(scratch.len());
        self.came.copy_to_slice(&mut scratch[..n]);
        self.release(n);
        // From here on the upstream is waited for, not the client.
        self.limit_silence(Some(self.limits.idle));
        let end = ended || (self.came.is_empty() && self.body.is_end_stream());
        Poll::Ready(Ok((n, end)))
    }

    fn want_no_body(&mut self) {
        if self.rest == Rest::Wanted {
            self.rest = Rest::Unwanted;
        }
    }

    fn begin(&mut self, head: &AnswerHead<'_>) {
        self.out.begin(head, self.head.method() == "HEAD", self.link.entered.hsts());
        self.head = Rc::clone(&self.gate.no_head);
        self.want_no_body();
        if self.is_known.get() {
            self.limit_silence(Some(self.limits.idle));
        } else {
            self.watch.set(Some(self.limits.head_time));
        }
    }

    fn offer(
        &mut self,
        cx: &mut Context<'_>,
        wire: &[u8],
        pieces: &[Range<usize>],
        end: bool,
    ) -> io::Result<()> {
        self.silence.moved(self.gate.sweep.now());
        self.out.offer(wire, pieces, end);
        match self.out.poll_flush(cx) {
            Poll::Ready(Err(error)) => {
                self.was_reset = true;
                Err(error)
            }
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let left = self.out.left();
        let polled = self.out.poll_flush(cx);
        if self.out.left() < left {
            self.silence.moved(self.gate.sweep.now());
        }
        if let Poll::Ready(flushed) = polled {
            self.was_reset |= flushed.is_err();
            return Poll::Ready(flushed);
        }
        self.pass_over(cx);
        // Nothing else is waited for while the client takes nothing, so this is where a standing client is noticed.
        self.poll_silent(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// The connection is that of other requests, too. Extended CONNECT (RFC 8441) is not offered.
    fn can_switch(&self) -> bool {
        false
    }

    fn switch(&mut self, _protocol: &str, _fields: &[(&str, &[u8])]) {
        self.abort();
    }

    fn poll_switched(&mut self, _cx: &mut Context<'_>, _into: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(0))
    }

    fn abort(&mut self) {
        self.aborted = true;
    }
}
