//! An answer on its way to bytes: [`Reply`] is what is said, [`Script`] is which bytes are written when. Faults change the
//! script; the connection plays it and knows nothing else.

use std::time::Duration;

use crate::order::{Release, Then};

/// An answer as meant, before any framing.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Between the status line and `Date`, in the order in which Ollama sends them.
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) content: Content,
    /// What becomes true of the server once the answer is out.
    pub(crate) effect: Option<Effect>,
}

#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// No body and no length either: `HEAD` of a blob.
    None,
    Whole(Vec<u8>),
    /// One chunk each.
    Stream(Vec<Vec<u8>>),
}

#[derive(Debug, Clone)]
pub(crate) enum Effect {
    Load(String),
    Unload(String),
    Add(String),
    Remove(String),
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Send(Vec<u8>),
    Wait(Duration),
    /// Until the peer leaves.
    Hang,
    Hold(Release),
    Happen(Effect),
}

#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) steps: Vec<Step>,
    pub(crate) then: Then,
}

/// How the request bounds the answer's form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    pub(crate) http10: bool,
    pub(crate) head_only: bool,
    pub(crate) keeps_open: bool,
    pub(crate) pace: Duration,
}

/// The day on which the recordings were made; a fixed date keeps answers the same from run to run.
const DATE: &str = "Fri, 20 Nov 2026 12:58:10 GMT";

/// Go's `net/http` announces the length of a body it holds whole, up to this; longer ones go out chunked.
const WHOLE_BYTES: usize = 2048;

impl Reply {
    pub(crate) fn whole(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let fields = vec![("Content-Type", content_type.to_owned())];
        Self { status, fields, content: Content::Whole(body.into()), effect: None }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self { status, fields: Vec::new(), content: Content::Whole(Vec::new()), effect: None }
    }

    pub(crate) fn stream(content_type: &str, pieces: Vec<Vec<u8>>) -> Self {
        let fields = vec![("Content-Type", content_type.to_owned())];
        Self { status: 200, fields, content: Content::Stream(pieces), effect: None }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.fields.push((name, value.to_owned()));
        self.fields.sort_by_key(|(name, _)| *name);
        self
    }

    pub(crate) fn then(mut self, effect: Effect) -> Self {
        self.effect = Some(effect);
        self
    }

    pub(crate) fn script(self, form: Form) -> Script {
        let framing = self.framing(form);
        let closes = !form.keeps_open || framing == Framed::UntilClose;
        let mut head = self.head(form);
        match framing {
            Framed::Length(length) => head.push_str(&format!("Content-Length: {length}\r\n")),
            Framed::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
            Framed::UntilClose | Framed::Nothing => {}
        }
        if closes && !form.http10 {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        let mut steps = Vec::new();
        match self.content {
            _ if form.head_only => steps.push(Step::Send(head.into_bytes())),
            Content::None => steps.push(Step::Send(head.into_bytes())),
            Content::Whole(body) => whole_steps(&mut steps, head, &body, framing),
            Content::Stream(pieces) => stream_steps(&mut steps, head, pieces, framing, form.pace),
        }
        steps.extend(self.effect.map(Step::Happen));
        Script { steps, then: if closes { Then::Close } else { Then::KeepOpen } }
    }

    fn framing(&self, form: Form) -> Framed {
        match &self.content {
            Content::None => Framed::Nothing,
            Content::Whole(body) if body.len() <= WHOLE_BYTES => Framed::Length(body.len()),
            Content::Whole(_) | Content::Stream(_) if form.http10 => Framed::UntilClose,
            Content::Whole(_) | Content::Stream(_) => Framed::Chunked,
        }
    }

    /// Status line and fields, without the framing fields and the empty line.
    pub(crate) fn head(&self, form: Form) -> String {
        let version = if form.http10 { "HTTP/1.0" } else { "HTTP/1.1" };
        let mut head = format!("{version} {} {}\r\n", self.status, phrase(self.status));
        for (name, value) in &self.fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Date: {DATE}\r\n"));
        head
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framed {
    Nothing,
    Length(usize),
    Chunked,
    UntilClose,
}

fn whole_steps(steps: &mut Vec<Step>, head: String, body: &[u8], framing: Framed) {
    let mut bytes = head.into_bytes();
    if framing == Framed::Chunked {
        bytes.extend(chunk(body));
        bytes.extend_from_slice(LAST_CHUNK);
    } else {
        bytes.extend_from_slice(body);
    }
    steps.push(Step::Send(bytes));
}

fn stream_steps(steps: &mut Vec<Step>, head: String, pieces: Vec<Vec<u8>>, framing: Framed, pace: Duration) {
    // Go writes the head together with the first flushed line.
    let mut next = head.into_bytes();
    for piece in pieces {
        if !pace.is_zero() {
            steps.push(Step::Wait(pace));
        }
        next.extend(if framing == Framed::Chunked { chunk(&piece) } else { piece });
        steps.push(Step::Send(std::mem::take(&mut next)));
    }
    if framing == Framed::Chunked {
        next.extend_from_slice(LAST_CHUNK);
    }
    if !next.is_empty() {
        steps.push(Step::Send(next));
    }
}

impl Script {
    /// The steps up to this many bytes, and those after.
    pub(crate) fn split_at(self, bytes: usize) -> (Vec<Step>, Vec<Step>) {
        let (mut before, mut after, mut left) = (Vec::new(), Vec::new(), bytes);
        for step in self.steps {
            match step {
                _ if left == 0 => after.push(step),
                Step::Send(mut first) => {
                    let rest = first.split_off(left.min(first.len()));
                    left -= first.len();
                    before.push(Step::Send(first));
                    if !rest.is_empty() {
                        after.push(Step::Send(rest));
                    }
                }
                other => before.push(other),
            }
        }
        (before, after)
    }
}

pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

pub(crate) fn chunk(piece: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
    chunk.extend_from_slice(piece);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "status code",
    }
}
