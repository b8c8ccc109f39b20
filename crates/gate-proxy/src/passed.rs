//! What has gone out of an upstream's answer: read for its end as it passes, and enough of its framing to say something
//! behind it.
//!
//! Kept in the trace, so that an answer under way can be ended in its dialect wherever the request ends: in the last
//! stage, by a key that was revoked, or with the gate. It must never hold a byte of the answer.

use gate_h1::{Framing, encode};
use gate_upstream::Answer;
use gate_wire::{End, EndReader, GateError, Route, RouteId, Tokens, ending};
use std::num::NonZeroUsize;
use std::ops::Range;

/// An open chunk with more left than this stays open: nobody could wait for that many blanks.
const MOST_FILL: usize = 64 << 10;

/// What is known of an answer's bytes that went out.
pub(crate) struct Passed {
    reader: EndReader,
    route: RouteId,
    framing: Framing,
    /// Data that is left of the chunk that the client is in, and behind it a line end.
    pub(crate) open_chunk: Option<u64>,
}

/// Bytes to send behind an answer, and where data lies in them.
pub(crate) struct Ending {
    pub(crate) wire: Vec<u8>,
    pub(crate) pieces: Vec<Range<usize>>,
}

impl Passed {
    /// Nothing of `answer` has gone out yet.
    pub(crate) fn nothing(route: &Route, answer: &Answer) -> Self {
        let framing = answer.framing();
        let is_read = (200..300).contains(&answer.status()) && framing != Framing::None;
        let reader = match is_read {
            true => EndReader::new(route.id, answer.field("content-type")),
            false => EndReader::opaque(),
        };
        Passed { reader, route: route.id, framing, open_chunk: None }
    }

    /// These data go out next.
    pub(crate) fn feed(&mut self, data: &[u8]) {
        self.reader.feed(data);
    }

    /// Whether nothing is missing, as far as the answer itself can tell.
    pub(crate) fn is_whole(&self) -> bool {
        self.reader.is_whole()
    }

    /// Whether the upstream itself ended the answer with an error.
    pub(crate) fn has_failed(&self) -> bool {
        self.reader.end() == Some(End::Failed)
    }

    /// The tokens that the answer said it cost.
    pub(crate) fn tokens(&self) -> Option<Tokens> {
        self.reader.tokens()
    }

    /// How many of the next bytes may go out as long as the answer is not known to be whole: all but the framing behind
    /// the last data, which may be the end that a broken answer must not have. Never holds back data, unless it is the
    /// last byte of an announced length.
    pub(crate) fn clear_bytes(&self, wire: &[u8], pieces: &[Range<usize>], is_end: bool) -> usize {
        match self.framing {
            Framing::Chunked => pieces.last().map_or(0, |last| {
                let has_line_end =
                    wire.get(last.end..).is_some_and(|rest| rest.starts_with(encode::CHUNK_END));
                last.end + if has_line_end { encode::CHUNK_END.len() } else { 0 }
            }),
            Framing::Length(_) if is_end => wire.len().saturating_sub(1),
            Framing::Length(_) | Framing::UntilClose | Framing::None => wire.len(),
        }
    }

    /// What tells the client that its answer is broken; none where the dialect or the framing has no place for it.
    pub(crate) fn ending(&self, error: &GateError, request_id: &str) -> Option<Ending> {
        let text = |fill| {
            let text = ending(self.route, &self.reader, error, request_id, fill);
            (!text.is_empty()).then(|| text.into_bytes())
        };
        match (self.framing, self.open_chunk) {
            (Framing::Length(_) | Framing::None, _) => None,
            (Framing::UntilClose, _) => Some(Ending::bare(text(0)?)),
            (Framing::Chunked, None) => Some(Ending::chunked(&text(0)?, None)),
            (Framing::Chunked, Some(left)) => Some(match usize::try_from(left) {
                // Many clients hand a chunk to their caller only when all of it is there, so it is filled up.
                Ok(left) if left <= MOST_FILL => Ending::chunked(&text(left)?, Some(left)),
                _ => Ending::bare(text(0)?),
            }),
        }
    }
}

impl Ending {
    /// Without any framing of its own.
    fn bare(text: Vec<u8>) -> Self {
        let all = 0..text.len();
        Ending { wire: text, pieces: vec![all] }
    }

    /// What is left of an open chunk, its line end, and a chunk with the rest.
    fn chunked(text: &[u8], open: Option<usize>) -> Self {
        let mut ending = Ending { wire: Vec::with_capacity(text.len() + 32), pieces: Vec::with_capacity(2) };
        let (first, rest) = text.split_at(open.unwrap_or(0).min(text.len()));
        if open.is_some() {
            ending.data(first);
            ending.wire.extend_from_slice(encode::CHUNK_END);
        }
        if let Some(length) = NonZeroUsize::new(rest.len()) {
            encode::chunk_head(&mut ending.wire, length);
            ending.data(rest);
            ending.wire.extend_from_slice(encode::CHUNK_END);
        }
        ending
    }

    fn data(&mut self, data: &[u8]) {
        let from = self.wire.len();
        self.wire.extend_from_slice(data);
        self.pieces.push(from..self.wire.len());
    }
}
