//! A request head that owns its bytes: what every stage reads, whichever protocol it came in by.

use gate_h1::{Framing, H1Error, HeadScan, Limits, Parsed, RequestHead, Version, same_name};
use std::rc::Rc;

/// So many fields need no room of their own: nearly every head has fewer.
const FEW: usize = 12;

/// A parsed request head. Every text is a slice of one buffer.
pub(crate) struct Head {
    bytes: Bytes,
    method: Place,
    target: Place,
    /// The first fields, and all of them where there are more.
    few: [(Place, Place); FEW],
    many: Box<[(Place, Place)]>,
    count: usize,
    /// How the body is delimited.
    pub(crate) framing: Framing,
    /// Protocol version of the request line.
    pub(crate) version: Version,
    /// Whether the client allows another request on this connection.
    pub(crate) keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(crate) expect_continue: bool,
}

/// The bytes of a head. Nearly always they are text as a whole; then no part of them is ever looked through again to be
/// handed out as such.
enum Bytes {
    Text(Box<str>),
    /// Some value has bytes that are no text.
    Raw(Box<[u8]>),
}

impl Bytes {
    fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Bytes::Text(text.into()),
            Err(_) => Bytes::Raw(bytes.into()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Bytes::Text(text) => text.as_bytes(),
            Bytes::Raw(bytes) => bytes,
        }
    }

    fn text(&self, place: Place) -> Option<&str> {
        match self {
            Bytes::Text(text) => text.get(place.start as usize..(place.start + place.length) as usize),
            Bytes::Raw(bytes) => std::str::from_utf8(place.in_bytes(bytes)).ok(),
        }
    }
}

/// Where a text lies in the bytes of its head, which is far shorter than 4 GiB.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    start: u32,
    length: u32,
}

impl Place {
    /// `text` is a part of `bytes`.
    fn of(text: &[u8], bytes: &[u8]) -> Self {
        let start = text.as_ptr().addr().wrapping_sub(bytes.as_ptr().addr());
        Self { start: start as u32, length: text.len() as u32 }
    }

    fn in_bytes(self, bytes: &[u8]) -> &[u8] {
        let start = self.start as usize;
        bytes.get(start..start + self.length as usize).unwrap_or_default()
    }
}

impl Head {
    /// Reads one head at the front of `bytes`, if all of it is there, and says how long it is. `scan` knows how far earlier
    /// calls looked.
    ///
    /// # Errors
    /// Where the bytes have no reading or more than one.
    pub(crate) fn read(
        bytes: &[u8],
        scan: &mut HeadScan,
        limits: &Limits,
    ) -> Result<Option<(Rc<Self>, usize)>, H1Error> {
        match scan.request(bytes, limits)? {
            Parsed::Partial => Ok(None),
            Parsed::Done(parsed, used) => Ok(Some((Rc::new(Head::places(&bytes[..used], &parsed)), used))),
        }
    }

    /// Takes one head off the front of `buf`, if all of it is there; what follows it stays in `buf`.
    ///
    /// # Errors
    /// As [`Head::read`].
    pub(crate) fn take(
        buf: &mut Vec<u8>,
        scan: &mut HeadScan,
        limits: &Limits,
    ) -> Result<Option<Rc<Self>>, H1Error> {
        let Some((head, used)) = Self::read(buf, scan, limits)? else { return Ok(None) };
        buf.drain(..used);
        Ok(Some(head))
    }

    /// The head of a text, for tests.
    #[cfg(test)]
    pub(crate) fn parse(text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        let head = Self::take(&mut bytes, &mut HeadScan::default(), &Limits::DEFAULT).unwrap().unwrap();
        Rc::into_inner(head).unwrap()
    }

    /// `parsed` was read from `bytes`.
    fn places(bytes: &[u8], parsed: &RequestHead<'_>) -> Self {
        let place = |text: &[u8]| Place::of(text, bytes);
        let count = parsed.fields.len();
        let mut few = [<(Place, Place)>::default(); FEW];
        let mut many = Box::<[_]>::default();
        let room = if count > FEW {
            many = vec![<(Place, Place)>::default(); count].into_boxed_slice();
            &mut many[..]
        } else {
            &mut few[..]
        };
        for (room, (name, value)) in room.iter_mut().zip(parsed.fields.iter()) {
            *room = (place(name.as_bytes()), place(value));
        }
        Self {
            bytes: Bytes::of(bytes),
            method: place(parsed.method.as_bytes()),
            target: place(parsed.target.as_bytes()),
            few,
            many,
            count,
            framing: parsed.framing,
            version: parsed.version,
            keep_alive: parsed.keep_alive,
            expect_continue: parsed.expect_continue,
        }
    }

    /// The method as sent; methods are case-sensitive.
    #[must_use]
    pub(crate) fn method(&self) -> &str {
        self.text(self.method)
    }

    /// The request target as sent.
    #[must_use]
    pub(crate) fn target(&self) -> &str {
        self.text(self.target)
    }

    fn fields(&self) -> &[(Place, Place)] {
        if self.count > FEW { &self.many } else { &self.few[..self.count] }
    }

    /// All values of a field, in order. `name` is matched without regard to case.
    pub(crate) fn all<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
        self.fields()
            .iter()
            .filter(move |(field, _)| self.is_named(*field, name))
            .map(|(_, value)| value.in_bytes(self.bytes.as_bytes()))
    }

    /// The first value of a field.
    #[must_use]
    pub(crate) fn first(&self, name: &str) -> Option<&[u8]> {
        self.fields()
            .iter()
            .find(|(field, _)| self.is_named(*field, name))
            .map(|(_, value)| value.in_bytes(self.bytes.as_bytes()))
    }

    /// The names of all fields that have this byte in them; nearly free where nothing in the head has it.
    pub(crate) fn names_with(&self, byte: u8) -> impl Iterator<Item = &[u8]> {
        let fields = if self.bytes.as_bytes().contains(&byte) { self.fields() } else { &[] };
        fields
            .iter()
            .map(|(name, _)| name.in_bytes(self.bytes.as_bytes()))
            .filter(move |name| name.contains(&byte))
    }

    /// All fields whose values are text, names as sent.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields = self.fields().iter();
        fields.filter_map(|(name, value)| Some((self.bytes.text(*name)?, self.bytes.text(*value)?)))
    }

    /// The names of all fields, as sent.
    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.fields().iter().map(|(name, _)| name.in_bytes(self.bytes.as_bytes()))
    }

    fn is_named(&self, field: Place, name: &str) -> bool {
        // Nearly every other field differs in its length.
        field.length as usize == name.len()
            && same_name(field.in_bytes(self.bytes.as_bytes()), name.as_bytes())
    }

    /// The first value of a field, where it is text.
    #[must_use]
    pub(crate) fn first_text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.fields().iter().find(|(field, _)| self.is_named(*field, name))?;
        self.bytes.text(*value)
    }

    fn text(&self, place: Place) -> &str {
        // The framing crate hands these out as text, so they are ASCII; the empty text is never a known method or target.
        self.bytes.text(place).unwrap_or_default()
    }
}

impl Default for Head {
    /// The head of nothing: no method, no target, no field.
    fn default() -> Self {
        Self {
            bytes: Bytes::Text(Box::default()),
            method: Place::default(),
            target: Place::default(),
            few: Default::default(),
            many: Box::default(),
            count: 0,
            framing: Framing::None,
            version: Version::H11,
            keep_alive: false,
            expect_continue: false,
        }
    }
}

impl std::fmt::Debug for Head {
    /// Shows no field: one of them is a credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Head({} with {} fields)", self.method(), self.count)
    }
}
