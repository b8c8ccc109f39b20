//! A request head that owns its bytes: what every stage reads, whichever protocol it came in by.

use gate_h1::{Framing, H1Error, HeadScan, Limits, Parsed, RequestHead, Version};
use std::ops::Range;

/// A parsed request head. Every text is a slice of one buffer.
pub(crate) struct Head {
    bytes: Vec<u8>,
    method: Range<usize>,
    target: Range<usize>,
    fields: Box<[(Range<usize>, Range<usize>)]>,
    /// How the body is delimited.
    pub(crate) framing: Framing,
    /// Protocol version of the request line.
    pub(crate) version: Version,
    /// Whether the client allows another request on this connection.
    pub(crate) keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(crate) expect_continue: bool,
}

impl Head {
    /// Takes one head off the front of `buf`, if all of it is there; what follows it stays in `buf`. `scan` knows how far
    /// earlier calls looked.
    ///
    /// # Errors
    /// Where the bytes have no reading or more than one.
    pub(crate) fn take(
        buf: &mut Vec<u8>,
        scan: &mut HeadScan,
        limits: &Limits,
    ) -> Result<Option<Self>, H1Error> {
        let (mut head, used) = match scan.request(buf, limits)? {
            Parsed::Partial => return Ok(None),
            Parsed::Done(parsed, used) => (Head::places(buf, &parsed), used),
        };
        if used == buf.len() {
            head.bytes = std::mem::take(buf);
        } else {
            // A copy of the few bytes, so that a head does not keep the room of a large body for as long as it lives.
            head.bytes = buf[..used].to_vec();
            buf.drain(..used);
        }
        Ok(Some(head))
    }

    /// The head of a text, for tests.
    #[cfg(test)]
    pub(crate) fn parse(text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        Self::take(&mut bytes, &mut HeadScan::default(), &Limits::DEFAULT).unwrap().unwrap()
    }

    /// Where the texts of `parsed` lie in `buf`; the bytes are filled in by the caller once the borrow is over.
    fn places(buf: &[u8], parsed: &RequestHead<'_>) -> Self {
        let place = |text: &[u8]| {
            let start = text.as_ptr().addr() - buf.as_ptr().addr();
            start..start + text.len()
        };
        Self {
            bytes: Vec::new(),
            method: place(parsed.method.as_bytes()),
            target: place(parsed.target.as_bytes()),
            fields: parsed
                .fields
                .iter()
                .map(|(name, value)| (place(name.as_bytes()), place(value)))
                .collect(),
            framing: parsed.framing,
            version: parsed.version,
            keep_alive: parsed.keep_alive,
            expect_continue: parsed.expect_continue,
        }
    }

    /// The method as sent; methods are case-sensitive.
    #[must_use]
    pub(crate) fn method(&self) -> &str {
        self.text(&self.method)
    }

    /// The request target as sent.
    #[must_use]
    pub(crate) fn target(&self) -> &str {
        self.text(&self.target)
    }

    /// All values of a field, in order. `name` is matched without regard to case.
    pub(crate) fn all<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
        self.fields
            .iter()
            .filter(move |(field, _)| self.bytes[field.clone()].eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| &self.bytes[value.clone()])
    }

    /// The first value of a field.
    #[must_use]
    pub(crate) fn first(&self, name: &str) -> Option<&[u8]> {
        self.fields
            .iter()
            .find(|(field, _)| self.bytes[field.clone()].eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| &self.bytes[value.clone()])
    }

    /// The names of all fields that have this byte in them; nearly free where nothing in the head has it.
    pub(crate) fn names_with(&self, byte: u8) -> impl Iterator<Item = &[u8]> {
        let fields = if self.bytes.contains(&byte) { &self.fields[..] } else { &[] };
        fields.iter().map(|(name, _)| &self.bytes[name.clone()]).filter(move |name| name.contains(&byte))
    }

    fn text(&self, place: &Range<usize>) -> &str {
        // The framing crate hands these out as text, so they are ASCII; the empty text is never a known method or target.
        std::str::from_utf8(&self.bytes[place.clone()]).unwrap_or_default()
    }
}

impl std::fmt::Debug for Head {
    /// Shows no field: one of them is a credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Head({} with {} fields)", self.method(), self.fields.len())
    }
}
