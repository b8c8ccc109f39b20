//! The way of every generated answer: model, prompt, slot, pieces. The dialects differ only in how they ask and how
//! they write the pieces down.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;

use super::refusal::Refusal;
use crate::options::{KeepAlive, Options};
use crate::prompt::Message;
use crate::roster::{Entry, Lease, Roster};
use crate::runner::{Ask, Event, Finish, Job, PIECES, Refused};

/// The most bytes of text that one token can stand for, generously: what is longer cannot fit into the context.
const BYTES_PER_TOKEN: usize = 256;
/// Ollama bounds answers without limit by this many contexts.
const CONTEXTS_PER_ANSWER: usize = 10;

/// What to answer.
#[derive(Debug)]
pub(super) enum Prompt {
    /// A conversation, for the model's template; `before` are tokens of an earlier one.
    Chat {
        /// The conversation.
        messages: Vec<Message>,
        /// Tokens that come first.
        before: Vec<i32>,
    },
    /// Text as it is.
    Raw(String),
}

/// A request for an answer.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) prompt: Prompt,
    pub(super) options: Options,
    pub(super) keep_alive: Option<KeepAlive>,
    /// Whether a prompt that is too long is cut.
    pub(super) cuts: bool,
    /// Whether the window slides when it is full.
    pub(super) slides: bool,
}

/// An answer under way. Dropping it ends the computation and gives the model back.
#[derive(Debug)]
pub(super) struct Answer {
    events: mpsc::Receiver<Event>,
    first: Option<Event>,
    _lease: Lease,
    began: Instant,
    load_time: Duration,
}

/// The end of an answer with what only the handler knows.
#[derive(Debug)]
pub(super) struct End {
    pub(super) finish: Finish,
    pub(super) total: Duration,
    pub(super) load: Duration,
}

impl End {
    /// Ollama's `done_reason`.
    pub(super) fn reason(&self) -> &'static str {
        if self.finish.stopped { "stop" } else { "length" }
    }
}

impl Answer {
    /// Takes the model, reads the prompt and waits for the first piece.
    ///
    /// # Errors
    /// All that can go wrong before a byte is sent.
    pub(super) async fn begin(
        roster: &Arc<Roster>,
        entry: &Arc<Entry>,
        request: Request,
    ) -> Result<Answer, Refusal> {
        let began = Instant::now();
        let lease = roster.lease(entry, request.keep_alive).await.map_err(Refusal::broken)?;
        let load_time = began.elapsed().max(Duration::from_nanos(1));
        let (reply, mut events) = mpsc::channel(PIECES);
        let loaded = Arc::clone(&lease.loaded);
        let preferred = entry.facts.preferred.clone();
        // Tokenising megabytes takes its time, and other callers' pieces must not wait for it.
        let reading = tokio::task::spawn_blocking(move || {
            let window = window(&request.options, loaded.limits.context);
            let tokens =
                super::tokens::of_prompt(&loaded, request.prompt, &request.options, window, request.cuts)?;
            let limit = window.saturating_mul(CONTEXTS_PER_ANSWER);
            let most = match request.options.num_predict {
                Some(n) if n > 0 => usize::try_from(n).unwrap_or(usize::MAX).min(limit),
                _ => limit,
            };
            let keep = usize::try_from(request.options.num_keep.unwrap_or(4)).unwrap_or(tokens.len());
            let sampling = request.options.sampling(&preferred);
            let stops = request.options.stop;
            let ask = Ask { tokens, window, keep, slides: request.slides, most, stops, sampling, reply };
            loaded.runner.push(Job::Answer(ask)).map_err(refused)
        });
        reading.await.map_err(|e| Refusal::broken(e.to_string()))??;
        match events.recv().await {
            None => Err(ended()),
            Some(Event::Failed(reason)) => Err(Refusal::broken(reason)),
            first => Ok(Answer { events, first, _lease: lease, began, load_time }),
        }
    }

    /// The whole answer at once.
    ///
    /// # Errors
    /// A failure on the way.
    pub(super) async fn whole(mut self) -> Result<(String, End), Refusal> {
        let mut text = String::new();
        let mut next = self.first.take();
        loop {
            match next {
                None => return Err(ended()),
                Some(Event::Failed(reason)) => return Err(Refusal::broken(reason)),
                Some(Event::Text(more)) => text.push_str(&more),
                Some(Event::Done(finish)) => return Ok((text, self.end(finish))),
            }
            next = self.events.recv().await;
        }
    }

    /// The answer as a stream, written down by `writer`.
    pub(super) fn stream<W: Writer>(self, kind: &'static str, writer: W) -> Response<Body> {
        let mut response =
            Response::new(Body::new(Stream { answer: self, writer, out: Out::new(), ended: false }));
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }

    fn end(&self, finish: Finish) -> End {
        End { finish, total: self.began.elapsed(), load: self.load_time }
    }
}

/// Lines or events on their way out. Each becomes one chunk on the wire.
pub(super) type Out = VecDeque<String>;

/// How a dialect writes an answer down.
pub(super) trait Writer: Send + Unpin + 'static {
    /// More text.
    fn text(&mut self, text: &str, out: &mut Out);
    /// The end.
    fn done(&mut self, end: &End, out: &mut Out);
    /// A failure after the beginning.
    fn failed(&mut self, refusal: &Refusal, out: &mut Out);
}

#[derive(Debug)]
struct Stream<W> {
    answer: Answer,
    writer: W,
    out: Out,
    ended: bool,
}

impl<W: Writer> HttpBody for Stream<W> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        loop {
            if let Some(piece) = this.out.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece.into()))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let event = match this.answer.first.take() {
                Some(event) => Some(event),
                None => match this.answer.events.poll_recv(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(event) => event,
                },
            };
            this.write(event);
        }
    }
}

impl<W: Writer> Stream<W> {
    fn write(&mut self, event: Option<Event>) {
        self.ended = !matches!(event, Some(Event::Text(_)));
        match event {
            Some(Event::Text(text)) => self.writer.text(&text, &mut self.out),
            Some(Event::Done(finish)) => self.writer.done(&self.answer.end(finish), &mut self.out),
            Some(Event::Failed(reason)) => self.writer.failed(&Refusal::broken(reason), &mut self.out),
            None => self.writer.failed(&ended(), &mut self.out),
        }
    }
}

/// The context that one answer may use: what the request wants, within what a slot has. Ollama's least is 4.
fn window(options: &Options, slot: usize) -> usize {
    match options.num_ctx {
        None => slot,
        Some(wanted) => usize::try_from(wanted).unwrap_or(0).clamp(4.min(slot), slot),
    }
}

/// Longest text that can matter for `tokens` tokens.
pub(super) fn most_bytes(tokens: usize) -> usize {
    tokens.saturating_mul(BYTES_PER_TOKEN)
}

pub(super) fn refused(why: Refused) -> Refusal {
    match why {
        Refused::Full => Refusal::busy(),
        Refused::Closed => ended(),
    }
}

fn ended() -> Refusal {
    Refusal::broken("model runner has unexpectedly stopped")
}
