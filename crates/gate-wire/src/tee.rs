//! The end reader: looks at an answer's data as it passes and knows whether it is whole, whether a line is open, and what
//! it cost in tokens.
//!
//! Stands beside the path's last stage. Ollama ends a broken stream with correct framing: the missing end record is the
//! only sign. The reader works on any bytes, cut anywhere, with the same result; it keeps a few fixed arrays and
//! allocates nothing. It must never change or hold back a byte.

use crate::routes::RouteId;
use crate::tee_facts::{Facts, Kind, Scan};

/// The tokens that an answer says it cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tokens {
    /// Of the prompt, those from a cache included.
    pub prompt: u64,
    /// Of the answer.
    pub completion: u64,
}

/// How an answer ended by its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With its end record.
    Done,
    /// With an error record in its dialect.
    Failed,
}

/// What the bytes of an answer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Nothing that is read: its end is where the framing says so.
    Opaque,
    /// One JSON value.
    Whole,
    /// One JSON object a line.
    Lines,
    /// Server-sent events.
    Events,
}

/// What ends a stream of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speech {
    /// `"done":true`.
    Native,
    /// `"status":"success"`.
    Progress,
    /// `data: [DONE]`.
    V1,
    /// An event with a name: `/v1/responses` and `/v1/messages`.
    Named,
}

/// How much of a line's beginning is kept: the longest end record that is told by it, `event: response.incomplete`, and more.
const HEAD: usize = 32;
/// How much of a line's end is kept: the longest of [`is_ordinary`].
const TAIL: usize = 20;

/// The line that is being read.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    length: usize,
    head: [u8; HEAD],
    tail: [u8; TAIL],
}

impl Line {
    fn push(&mut self, part: &[u8]) {
        if let Some(room) = self.head.get_mut(self.length..) {
            let kept = room.len().min(part.len());
            room[..kept].copy_from_slice(&part[..kept]);
        }
        let kept = part.len().min(TAIL);
        self.tail.copy_within(kept.., 0);
        self.tail[TAIL - kept..].copy_from_slice(&part[part.len() - kept..]);
        self.length = self.length.saturating_add(part.len());
    }

    fn head(&self) -> &[u8] {
        &self.head[..self.length.min(HEAD)]
    }

    fn tail(&self) -> &[u8] {
        &self.tail[TAIL - self.length.min(TAIL)..]
    }

    /// The line, where it is short enough to be known by heart; a carriage return before the line feed is not part of it.
    fn short(&self) -> Option<&[u8]> {
        (self.length <= HEAD).then(|| trimmed(self.head()))
    }
}

/// The reader of one answer.
#[derive(Debug, Clone)]
pub struct EndReader {
    form: Form,
    speech: Speech,
    line: Line,
    /// What is open of the line or value; started anew for each line.
    scan: Scan,
    /// The name of the event that is open.
    event: Kind,
    event_is_open: bool,
    records: u32,
    end: Option<End>,
    prompt: Option<u64>,
    completion: Option<u64>,
}

impl EndReader {
    /// A reader for the answer of `route` with this content type, which alone says whether it is streamed.
    #[must_use]
    pub fn new(route: RouteId, content_type: Option<&[u8]>) -> Self {
        let speech = match route {
            RouteId::Generate | RouteId::Chat => Some(Speech::Native),
            RouteId::Pull | RouteId::Push | RouteId::Create => Some(Speech::Progress),
            RouteId::V1Chat | RouteId::V1Completions => Some(Speech::V1),
            RouteId::V1Responses | RouteId::V1Messages => Some(Speech::Named),
            _ => None,
        };
        let form = match (kind_of(content_type.unwrap_or_default()), speech) {
            (Form::Whole, _) => Form::Whole,
            (Form::Lines, Some(Speech::Native | Speech::Progress)) => Form::Lines,
            (Form::Events, Some(Speech::V1 | Speech::Named)) => Form::Events,
            _ => Form::Opaque,
        };
        EndReader { speech: speech.unwrap_or(Speech::Native), ..EndReader::of(form) }
    }

    /// A reader for what is not to be read: answers that are no success, and those without a body.
    #[must_use]
    pub fn opaque() -> Self {
        EndReader::of(Form::Opaque)
    }

    fn of(form: Form) -> Self {
        EndReader {
            form,
            speech: Speech::Native,
            line: Line::default(),
            scan: Scan::default(),
            event: Kind::Unsaid,
            event_is_open: false,
            records: 0,
            end: None,
            prompt: None,
            completion: None,
        }
    }

    /// What the answer's bytes are.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// Looks at the next data of the answer.
    pub fn feed(&mut self, data: &[u8]) {
        match self.form {
            Form::Opaque => {}
            Form::Whole => self.scan.feed(data),
            Form::Lines | Form::Events => self.feed_lines(data),
        }
    }

    /// How the answer ended, if it did: its end record or an error record was seen, if need be without a line's end.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        match self.form {
            Form::Opaque => Some(End::Done),
            Form::Whole => {
                let scan = &self.scan;
                (scan.is_closed() || scan.is_untouched() || scan.is_odd()).then_some(End::Done)
            }
            Form::Lines | Form::Events => self.end.or_else(|| self.verdict()),
        }
    }

    /// Whether nothing is missing.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.end().is_some()
    }

    /// Whether a line was begun and not ended.
    #[must_use]
    pub fn line_is_open(&self) -> bool {
        self.line.length > 0
    }

    /// Whether an event was begun that no empty line has ended; a line of it may be open too.
    #[must_use]
    pub fn event_is_open(&self) -> bool {
        self.form == Form::Events && (self.event_is_open || self.line_is_open())
    }

    /// How many records have ended: lines, or data of events. `/v1/responses` counts its events by it.
    #[must_use]
    pub fn records(&self) -> u32 {
        self.records
    }

    /// The tokens, where the answer has told them.
    #[must_use]
    pub fn tokens(&self) -> Option<Tokens> {
        let facts = self.scan.facts();
        let (prompt, completion) = match self.form {
            Form::Whole if self.scan.is_closed() => (facts.prompt, facts.completion),
            Form::Whole | Form::Opaque => (None, None),
            Form::Lines | Form::Events => (self.prompt, self.completion),
        };
        let any = prompt.or(completion).is_some();
        any.then(|| Tokens { prompt: prompt.unwrap_or(0), completion: completion.unwrap_or(0) })
    }

    fn feed_lines(&mut self, data: &[u8]) {
        let mut rest = data;
        while let Some(length) = memchr::memchr(b'\n', rest) {
            let line = &rest[..length];
            // Nearly every line comes whole and is an ordinary one: then nothing is kept of it.
            if self.line.length > 0 || !self.pass_whole(line) {
                self.take(line);
                self.end_line();
            }
            rest = &rest[length + 1..];
        }
        if !rest.is_empty() {
            self.take(rest);
        }
    }

    /// Deals with a line that came whole, if there is nothing to be read in it.
    fn pass_whole(&mut self, line: &[u8]) -> bool {
        let (head, tail) = (&line[..line.len().min(HEAD)], &line[line.len() - line.len().min(TAIL)..]);
        let passes = match self.form {
            Form::Events => match (head.starts_with(b"data:"), self.event) {
                (true, Kind::Other) if self.speech == Speech::Named => true,
                (true, _) => is_ordinary(self.speech, head, tail),
                (false, _) => false,
            },
            Form::Lines | Form::Opaque | Form::Whole => is_ordinary(self.speech, head, tail),
        };
        if passes {
            self.event_is_open = true;
            self.records = self.records.saturating_add(1);
        }
        passes
    }

    /// Part of a line.
    fn take(&mut self, part: &[u8]) {
        let from = self.line.length;
        if part.is_empty() {
            return;
        }
        if from == 0 {
            self.scan = Scan::default();
        }
        self.line.push(part);
        match self.form {
            Form::Lines => self.scan.feed(part),
            Form::Events if self.event != Kind::Other && self.line.head().starts_with(DATA) => {
                let skipped = DATA.len().saturating_sub(from);
                self.scan.feed(part.get(skipped..).unwrap_or_default());
            }
            Form::Events | Form::Opaque | Form::Whole => {}
        }
    }

    fn end_line(&mut self) {
        if self.form == Form::Events {
            match self.line.short() {
                Some(b"") => {
                    self.event = Kind::Unsaid;
                    self.event_is_open = false;
                }
                Some(short) if short.starts_with(EVENT) => {
                    self.event = Kind::of(after_blank(&short[EVENT.len()..]));
                    self.event_is_open = true;
                }
                // A name of that length is none of those that count.
                None if self.line.head().starts_with(EVENT) => {
                    self.event = Kind::Other;
                    self.event_is_open = true;
                }
                _ => self.event_is_open = true,
            }
        }
        if self.is_record() {
            self.records = self.records.saturating_add(1);
            if let Some(facts) = self.facts() {
                count(&mut self.prompt, facts.prompt);
                count(&mut self.completion, facts.completion);
            }
            self.end = self.end.or_else(|| self.verdict());
        }
        self.line.length = 0;
    }

    fn is_record(&self) -> bool {
        match self.form {
            Form::Events => self.line.head().starts_with(DATA),
            Form::Lines | Form::Opaque | Form::Whole => self.line.length > 0,
        }
    }

    /// What the line says, if it is one that is read and its object is closed.
    fn facts(&self) -> Option<Facts> {
        let passes = (self.form == Form::Events && self.event == Kind::Other)
            || is_ordinary(self.speech, self.line.head(), self.line.tail());
        (!passes && self.is_record() && self.scan.is_closed()).then(|| *self.scan.facts())
    }

    /// How the answer ends with the line that is open, if it ended here.
    fn verdict(&self) -> Option<End> {
        if self.line.length == 0 {
            return None;
        }
        if self.speech == Speech::V1 && self.is_done_mark() {
            return Some(End::Done);
        }
        let facts = self.facts()?;
        let is_done = match self.speech {
            Speech::Native => facts.done,
            Speech::Progress => facts.success,
            Speech::V1 => false,
            Speech::Named => facts.kind == Kind::End || self.event == Kind::End,
        };
        let kinds = [facts.kind, self.event];
        let has_failed = facts.error || (self.speech == Speech::Named && kinds.contains(&Kind::Failure));
        if has_failed { Some(End::Failed) } else { is_done.then_some(End::Done) }
    }

    fn is_done_mark(&self) -> bool {
        let data = self.line.short().and_then(|line| line.strip_prefix(DATA));
        data.is_some_and(|data| after_blank(data) == b"[DONE]")
    }
}

const DATA: &[u8] = b"data:";
const EVENT: &[u8] = b"event:";

/// The form that a content type stands for.
fn kind_of(content_type: &[u8]) -> Form {
    let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    for (name, form) in [
        (&b"application/x-ndjson"[..], Form::Lines),
        (b"text/event-stream", Form::Events),
        (b"application/json", Form::Whole),
    ] {
        if essence.eq_ignore_ascii_case(name) {
            return form;
        }
    }
    Form::Opaque
}

/// Whether a line's two ends show that it is one of the many in which nothing is to be read: told so cheaply because one
/// comes with each token. Both ends together are needed: an error line has another beginning.
fn is_ordinary(speech: Speech, head: &[u8], tail: &[u8]) -> bool {
    match speech {
        // The last field of the object itself: within a string its quotes would have backslashes, deeper there would be
        // another brace behind it.
        Speech::Native => head.starts_with(b"{\"model\":") && tail.ends_with(b"\"done\":false}"),
        // Behind the choices only counts could stand; those of zero tokens come with each chunk of `/v1/completions`.
        Speech::V1 => {
            head.starts_with(b"data: {\"id\":")
                && (tail.ends_with(b"}]}")
                    || tail.ends_with(b"\"fp_ollama\"}")
                    || tail.ends_with(b"\"total_tokens\":0}}"))
        }
        // Told by its event's name, or rare.
        Speech::Named | Speech::Progress => false,
    }
}

/// Later counts replace earlier ones, but for those that are not known yet: `/v1/completions` sends zeros with each chunk.
fn count(known: &mut Option<u64>, told: Option<u64>) {
    if let Some(told) = told
        && (told > 0 || known.is_none())
    {
        *known = Some(told);
    }
}

/// One blank behind a field's colon is not part of its value.
fn after_blank(value: &[u8]) -> &[u8] {
    value.strip_prefix(b" ").unwrap_or(value)
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}
