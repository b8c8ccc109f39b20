//! An answer's way out over HTTP/2: its head, and its data as the client's windows allow.
//!
//! What the windows do not take stays here and counts as not sent, so that a slow reader stops its upstream. Chunk framing
//! ends here: only data passes.

use super::SEND_BUFFER;
use crate::downstream::{AnswerHead, date};
use ::h2::SendStream;
use ::h2::server::SendResponse;
use bytes::{Buf as _, Bytes};
use gate_h1::Framing;
use http::header::{CONTENT_LENGTH, DATE, HeaderName, STRICT_TRANSPORT_SECURITY};
use http::{HeaderValue, Response, StatusCode};
use std::io;
use std::ops::Range;
use std::task::{Context, Poll, ready};

/// The head of an answer as HTTP/2 sends it.
pub(super) fn head(head: &AnswerHead<'_>, is_head: bool, hsts: Option<&str>) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let fields = response.headers_mut();
    for (name, value) in head.fields {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
            (Ok(name), Ok(value)) => {
                fields.append(name, value);
            }
            _ => tracing::debug!(field = name, "an answer's field cannot be written and is left out"),
        }
    }
    if let Some(hsts) = hsts.and_then(|hsts| HeaderValue::from_str(hsts).ok()) {
        fields.insert(STRICT_TRANSPORT_SECURITY, hsts);
    }
    if !fields.contains_key(DATE)
        && let Some(now) = date::value().and_then(|now| HeaderValue::from_bytes(&now).ok())
    {
        fields.insert(DATE, now);
    }
    let length = match head.framing {
        Framing::Length(length) => Some(length),
        Framing::None if !is_head && !has_no_body(head.status) => Some(0),
        Framing::None | Framing::Chunked | Framing::UntilClose => None,
    };
    if let Some(length) = length.filter(|_| !has_no_body(head.status)) {
        fields.insert(CONTENT_LENGTH, length.into());
    }
    response
}

fn has_no_body(status: u16) -> bool {
    status == 204 || status == 304
}

/// One answer on its way out.
pub(super) struct Out {
    respond: SendResponse<Bytes>,
    /// Put down and not yet sent.
    head: Option<Response<()>>,
    body: Option<SendStream<Bytes>>,
    /// Data is left out: the answer to HEAD, 204, 304.
    is_empty: bool,
    /// Offered and not yet within the client's windows.
    left: Bytes,
    /// All of it was offered.
    pub(super) ended: bool,
    /// The last of it was sent.
    closed: bool,
}

impl Out {
    pub(super) fn new(respond: SendResponse<Bytes>) -> Self {
        Self {
            respond,
            head: None,
            body: None,
            is_empty: false,
            left: Bytes::new(),
            ended: false,
            closed: false,
        }
    }

    /// Asks a client that waits to be asked for its body.
    pub(super) fn ask(&mut self) {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::CONTINUE;
        // One that left is seen where its body is awaited.
        let _gone = self.respond.send_informational(response);
    }

    pub(super) fn begin(&mut self, answer: &AnswerHead<'_>, is_head: bool, hsts: Option<&str>) {
        self.head = Some(head(answer, is_head, hsts));
        self.is_empty = is_head || has_no_body(answer.status);
    }

    /// Takes data; call it only when all before was sent.
    pub(super) fn offer(&mut self, wire: &[u8], pieces: &[Range<usize>], end: bool) {
        self.ended |= end;
        if self.is_empty {
            return;
        }
        let length = self.left.len() + pieces.iter().map(ExactSizeIterator::len).sum::<usize>();
        if length > 0 {
            let mut data = Vec::with_capacity(length);
            data.extend_from_slice(&self.left);
            for piece in pieces {
                data.extend_from_slice(&wire[piece.clone()]);
            }
            self.left = data.into();
        }
    }

    /// Bytes that are not within the client's windows yet.
    pub(super) fn left(&self) -> usize {
        self.left.len()
    }

    /// Whether anything of the answer has been sent.
    pub(super) fn has_begun(&self) -> bool {
        self.body.is_some()
    }

    /// Ready when the client's windows have room for all that was offered.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(head) = self.head.take() {
            self.closed = self.ended && self.left.is_empty();
            self.body = Some(self.respond.send_response(head, self.closed).map_err(io::Error::other)?);
        }
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
        while !self.left.is_empty() {
            let room = match body.capacity() {
                0 => {
                    body.reserve_capacity(self.left.len().min(SEND_BUFFER));
                    match body.capacity() {
                        // The library tells of new room once; none is none of what it told.
                        0 => match ready!(body.poll_capacity(cx)) {
                            Some(room) => room.map_err(io::Error::other)?,
                            None => return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
                        },
                        room => room,
                    }
                }
                room => room,
            };
            let now = self.left.split_to(room.min(self.left.len()));
            self.closed = self.ended && self.left.is_empty();
            if now.has_remaining() {
                body.send_data(now, self.closed).map_err(io::Error::other)?;
            }
        }
        if self.ended && !self.closed {
            self.closed = true;
            body.send_data(Bytes::new(), true).map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the client took its request back, or its connection is gone.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let polled = match &mut self.body {
            Some(body) => body.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        };
        polled.map(|_reset_or_gone| ())
    }

    /// Ends the stream so that nobody takes the answer for whole.
    pub(super) fn reset(&mut self, reason: ::h2::Reason) {
        match &mut self.body {
            Some(body) => body.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }
}
