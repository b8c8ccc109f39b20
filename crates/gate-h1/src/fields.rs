//! The fields of one head, borrowed from its bytes, in the order they were sent.
//!
//! Nothing is merged or renamed here: repeated fields stay visible, so that the caller can refuse them.

use std::fmt;

use crate::chars;

/// So many fields need no place on the heap: nearly every head has fewer.
const FEW: usize = 12;

/// The fields of a head. `Debug` shows names only: values may be credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Fields<'b> {
    few: [httparse::Header<'b>; FEW],
    /// All of them, where there are more.
    many: Vec<httparse::Header<'b>>,
    count: usize,
}

impl<'b> Fields<'b> {
    /// Room for so many.
    pub(crate) fn of(count: usize) -> Self {
        let many = if count > FEW { vec![httparse::EMPTY_HEADER; count] } else { Vec::new() };
        Self { few: [httparse::EMPTY_HEADER; FEW], many, count }
    }

    /// The room, for the parser to fill.
    pub(crate) fn room(&mut self) -> &mut [httparse::Header<'b>] {
        if self.count > FEW { &mut self.many } else { &mut self.few[..self.count] }
    }

    fn list(&self) -> &[httparse::Header<'b>] {
        if self.count > FEW { &self.many } else { &self.few[..self.count] }
    }

    /// All fields as sent: name (a token, case kept) and value without the white space around it. The value may
    /// hold tabs and bytes above ASCII, but no other control byte.
    pub fn iter(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> + '_ {
        self.list().iter().map(|field| (field.name, field.value))
    }

    /// The first value of that name, in whatever case it was sent. [`Fields::all`] shows whether it is the only one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'b [u8]> {
        self.list().iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// All values of that name, in order.
    pub fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'b [u8]> + 'f {
        self.list().iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// True if the comma-separated list that all fields of that name make together has this token, in any case.
    #[must_use]
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name).any(|value| list_has(value, token))
    }

    /// How many fields there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// True if there is no field at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list().iter().map(|field| field.name)).finish()
    }
}

/// True if a comma-separated list has this token, in any case.
pub(crate) fn list_has(value: &[u8], token: &str) -> bool {
    value.split(|&byte| byte == b',').any(|item| chars::trim(item).eq_ignore_ascii_case(token.as_bytes()))
}
