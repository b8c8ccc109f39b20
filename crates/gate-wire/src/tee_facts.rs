//! The facts of one JSON object in an answer: the few fields at its top that say how an answer ended and what it cost.
//!
//! Below the end reader (`tee.rs`). Reads bytes as they come, cut anywhere, keeps nothing but one short word, and looks
//! only where those fields can stand: a `done` within a tool call's arguments is not one. It must never judge whether the
//! JSON is valid, and never fail: what it cannot read has no facts.

mod plain;

use plain::{Plain, Value, is_end, until_mark};

/// What was found so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `done` at the top, the last one given.
    pub(crate) done: bool,
    /// An `error` at the top that is neither null nor empty.
    pub(crate) error: bool,
    /// `status` at the top is `success`.
    pub(crate) success: bool,
    /// `type` at the top.
    pub(crate) kind: Kind,
    /// Tokens of the prompt.
    pub(crate) prompt: Option<u64>,
    /// Tokens of the answer.
    pub(crate) completion: Option<u64>,
}

impl Facts {
    /// A field is given, perhaps again: as in the readers of Ollama and its clients, the last one counts.
    fn forget(&mut self, field: Field) {
        match field {
            Field::Done => self.done = false,
            Field::Error => self.error = false,
            Field::Status => self.success = false,
            Field::Type => self.kind = Kind::Unsaid,
            Field::Prompt => self.prompt = None,
            Field::Completion => self.completion = None,
            Field::Other | Field::Holder | Field::Usage => {}
        }
    }
}

/// The kinds of event that mean something here, by `type` or by the event's name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// None given.
    #[default]
    Unsaid,
    /// Ends an answer: `response.completed`, `response.incomplete`, `message_stop`.
    End,
    /// Ends an answer that failed: `response.failed`, `error`.
    Failure,
    /// May hold counts: `message_start`, `message_delta`.
    Counts,
    /// Any other.
    Other,
}

impl Kind {
    pub(crate) fn of(name: &[u8]) -> Self {
        match name {
            b"response.completed" | b"response.incomplete" | b"message_stop" => Kind::End,
            b"response.failed" | b"error" => Kind::Failure,
            b"message_start" | b"message_delta" => Kind::Counts,
            _ => Kind::Other,
        }
    }
}

/// Which object a field stands in, of those whose fields count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Top,
    /// `response` or `message` at the top: events of `/v1/responses` and `/v1/messages` hold their counts there.
    Holder,
    /// `usage`, at the top or in a holder.
    Usage,
}

/// The fields that count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Field {
    #[default]
    Other,
    Done,
    Error,
    Status,
    Type,
    Holder,
    Usage,
    Prompt,
    Completion,
}

impl Field {
    fn of(place: Place, name: &[u8]) -> Self {
        match (place, name) {
            (Place::Top, b"done") => Field::Done,
            (Place::Top, b"error") => Field::Error,
            (Place::Top, b"status") => Field::Status,
            (Place::Top, b"type") => Field::Type,
            (Place::Top, b"response" | b"message") => Field::Holder,
            (Place::Top | Place::Holder, b"usage") => Field::Usage,
            (Place::Top, b"prompt_eval_count") => Field::Prompt,
            (Place::Top, b"eval_count") => Field::Completion,
            (Place::Usage, b"prompt_tokens" | b"input_tokens") => Field::Prompt,
            (Place::Usage, b"completion_tokens" | b"output_tokens") => Field::Completion,
            _ => Field::Other,
        }
    }

    /// Whether a text in it counts.
    fn is_text(self) -> bool {
        matches!(self, Field::Status | Field::Type | Field::Error)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Between two tokens.
    #[default]
    Between,
    /// Within a string.
    Text,
    /// Behind a backslash within a string.
    Escape,
    /// Within a number or a literal.
    Bare,
}

/// A word as long as the longest that counts; a longer one is no such word.
#[derive(Debug, Clone, Copy, Default)]
struct Word {
    bytes: [u8; Word::ROOM],
    length: u8,
    is_other: bool,
}

impl Word {
    const ROOM: usize = 24;

    /// Nothing of it has come yet.
    fn is_empty(&self) -> bool {
        self.length == 0 && !self.is_other
    }

    fn clear(&mut self) {
        self.length = 0;
        self.is_other = false;
    }

    fn push(&mut self, more: &[u8]) {
        let from = usize::from(self.length);
        match self.bytes.get_mut(from..from + more.len()) {
            Some(room) if !self.is_other => {
                room.copy_from_slice(more);
                self.length += more.len() as u8;
            }
            _ => self.is_other = true,
        }
    }

    /// The word; none where it is too long or has an escape, which no server writes into a word that counts.
    fn get(&self) -> Option<&[u8]> {
        if self.is_other { None } else { self.bytes.get(..usize::from(self.length)) }
    }
}

fn number(word: &[u8]) -> Option<u64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// The reader of one object.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Scan {
    state: State,
    depth: u32,
    /// How many of the enclosing objects are places; a field counts where this is `depth`.
    inside: u32,
    places: [Place; 3],
    wants_name: bool,
    field: Field,
    word: Word,
    begun: bool,
    /// There is more than one value, or none that is an object or array: nothing is believed of it.
    is_odd: bool,
    facts: Facts,
}

impl Scan {
    /// Reads on.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            at = match self.state {
                State::Between if self.depth > self.inside => self.pass_over(bytes, at),
                State::Between if self.wants_name && bytes[at] == b'"' => self.fields_at_once(bytes, at),
                State::Between => self.token(bytes[at], at),
                State::Text => self.text(bytes, at),
                State::Escape => {
                    self.state = State::Text;
                    at + 1
                }
                State::Bare => self.bare(bytes, at),
            };
        }
    }

    /// Whether there was an object or array, and all that was opened is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.begun && self.depth == 0 && self.state == State::Between && !self.is_odd
    }

    /// Whether it is no single object or array.
    pub(crate) fn is_odd(&self) -> bool {
        self.is_odd
    }

    /// Whether nothing has begun.
    pub(crate) fn is_untouched(&self) -> bool {
        !self.begun
    }

    /// What was found; to be believed once the object is closed.
    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Fields from the name whose quote is at `at`, as long as each lies whole in these bytes and has no value of many
    /// parts: nearly all do. What else comes, and what lies behind them, is read step by step, to the same end.
    fn fields_at_once(&mut self, bytes: &[u8], from: usize) -> usize {
        let mut at = from;
        while let Some(plain) = Plain::read(bytes.get(at..).unwrap_or_default()) {
            let field = Field::of(self.place(), plain.name);
            self.field = field;
            self.wants_name = false;
            self.facts.forget(field);
            match plain.value {
                _ if field == Field::Other => {}
                Value::Text(text) => self.text_ended(Some(text)),
                Value::Bare(word) => self.bare_ended(Some(word).filter(|word| word.len() <= Word::ROOM)),
            }
            at += plain.length;
            if bytes.get(at) != Some(&b',') {
                return at;
            }
            at += 1;
            self.wants_name = true;
            self.field = Field::Other;
        }
        // What is no such field may still be one that is read step by step.
        if bytes.get(at) == Some(&b'"') { self.token(b'"', at) } else { at }
    }

    /// Where nothing counts: on to the next string, or out of it.
    fn pass_over(&mut self, bytes: &[u8], from: usize) -> usize {
        for (at, byte) in bytes.iter().enumerate().skip(from) {
            match byte {
                b'"' => {
                    self.state = State::Text;
                    return at + 1;
                }
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == self.inside {
                        return at + 1;
                    }
                }
                _ => {}
            }
        }
        bytes.len()
    }

    /// One byte where fields count.
    fn token(&mut self, byte: u8, at: usize) -> usize {
        let opens = matches!(byte, b'{' | b'[') && !self.begun;
        self.is_odd |= self.depth == 0 && !opens && byte > b' ';
        match byte {
            b'"' => {
                self.word.clear();
                self.state = State::Text;
            }
            b'{' => self.open(),
            b'[' => {
                self.begun = true;
                self.facts.error |= self.field == Field::Error && !self.wants_name;
                self.depth += 1;
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.inside = self.inside.min(self.depth);
                self.wants_name = false;
            }
            b',' => {
                self.wants_name = self.depth > 0;
                self.field = Field::Other;
            }
            b':' => self.wants_name = false,
            0..=b' ' => {}
            _ => {
                self.word.clear();
                self.state = State::Bare;
                return at;
            }
        }
        at + 1
    }

    fn open(&mut self) {
        let place = match (self.depth, self.field) {
            (0, _) => Some(Place::Top),
            (_, Field::Holder) => Some(Place::Holder),
            (_, Field::Usage) => Some(Place::Usage),
            _ => None,
        };
        self.facts.error |= self.field == Field::Error;
        self.begun = true;
        self.depth += 1;
        self.field = Field::Other;
        if let Some(place) = place
            && let Some(kept) = self.places.get_mut(self.inside as usize)
        {
            *kept = place;
            self.inside += 1;
            self.wants_name = true;
        }
    }

    fn text(&mut self, bytes: &[u8], from: usize) -> usize {
        let rest = &bytes[from..];
        let length = until_mark(rest);
        let counts = self.depth == self.inside && (self.wants_name || self.field.is_text());
        // Nearly every word lies in one piece, and is read where it lies.
        let is_whole = rest.get(length) == Some(&b'"') && self.word.is_empty();
        if counts && !is_whole {
            self.word.push(&rest[..length]);
        }
        match rest.get(length) {
            Some(b'"') => {
                self.state = State::Between;
                if counts {
                    let word = self.word;
                    self.text_ended(if is_whole { Some(&rest[..length]) } else { word.get() });
                }
                return self.separator(bytes, from + length + 1);
            }
            Some(_) => {
                self.word.is_other = true;
                self.state = State::Escape;
            }
            None => return bytes.len(),
        }
        from + length + 1
    }

    fn text_ended(&mut self, word: Option<&[u8]>) {
        if self.wants_name {
            self.field = word.map_or(Field::Other, |name| Field::of(self.place(), name));
            self.facts.forget(self.field);
            return;
        }
        match self.field {
            Field::Status => self.facts.success = word == Some(b"success"),
            Field::Type => self.facts.kind = word.map_or(Kind::Other, Kind::of),
            Field::Error => self.facts.error |= word != Some(b""),
            _ => {}
        }
    }

    fn bare(&mut self, bytes: &[u8], from: usize) -> usize {
        let rest = &bytes[from..];
        let length = rest.iter().position(|byte| is_end(*byte)).unwrap_or(rest.len());
        self.word.push(&rest[..length]);
        if length < rest.len() {
            self.state = State::Between;
            let word = self.word;
            self.bare_ended(word.get());
            return self.separator(bytes, from + length);
        }
        from + length
    }

    /// Behind a text or a bare word: steps over the colon or comma that nearly always follows, and into the text that
    /// mostly follows that; whatever else there is, [`Scan::token`] reads.
    fn separator(&mut self, bytes: &[u8], at: usize) -> usize {
        if self.depth == 0 || self.depth != self.inside {
            return at;
        }
        match bytes.get(at) {
            Some(b':') => self.wants_name = false,
            Some(b',') => {
                self.wants_name = true;
                self.field = Field::Other;
            }
            _ => return at,
        }
        if bytes.get(at + 1) != Some(&b'"') {
            return at + 1;
        }
        self.word.clear();
        self.state = State::Text;
        at + 2
    }

    fn bare_ended(&mut self, word: Option<&[u8]>) {
        match self.field {
            Field::Done => self.facts.done = word == Some(b"true"),
            Field::Error => self.facts.error |= !matches!(word, Some(b"null" | b"false")),
            Field::Prompt => self.facts.prompt = word.and_then(number),
            Field::Completion => self.facts.completion = word.and_then(number),
            _ => {}
        }
    }

    fn place(&self) -> Place {
        let innermost = (self.inside as usize).checked_sub(1);
        innermost.and_then(|place| self.places.get(place)).copied().unwrap_or_default()
    }
}
