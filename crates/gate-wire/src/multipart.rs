//! What a form says (`multipart/form-data`, RFC 7578): the model in it, and nothing of its files.
//!
//! As strict as the JSON reader, because the very bytes go on: taken is what RFC 2046 writes in one way and what Go's
//! `mime/multipart` reads to the same end. It skips preambles, takes blanks behind boundaries, bare LF and parameters in
//! three encodings, decodes `quoted-printable`, and calls a part with a file name a file; all of that is refused here
//! where it could hide a model.

use crate::called::Reading;
use crate::problem::{BodyProblem, Fault};
use gate_types::{BadName, ModelName};
use std::borrow::Cow;

/// So many parts may stand in a form: the fields of a transcription are six.
pub const MAX_PARTS: usize = 64;
/// Bytes of the head of one part.
pub const MAX_PART_HEAD: usize = 4096;

/// RFC 2046 section 5.1.1.
const LONGEST_BOUNDARY: usize = 70;

/// What a form says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormFacts<'b> {
    /// The model; `None` where the field is not there or empty.
    pub model: Option<ModelName>,
    /// The model as the client spelled it.
    pub model_as_sent: Cow<'b, str>,
}

/// Reads a form. `content_type` is the value of the request's only such field.
///
/// # Errors
/// [`BodyProblem`]: the first thing that is wrong or has two readings.
pub fn read<'b>(content_type: &[u8], body: &'b [u8]) -> Result<FormFacts<'b>, BodyProblem> {
    let boundary = boundary(content_type).map_err(|what| form(what, 0))?;
    let mut delimiter = Vec::with_capacity(boundary.len() + 2);
    delimiter.extend_from_slice(b"--");
    delimiter.extend_from_slice(boundary);
    if body.is_empty() {
        return Err(BodyProblem { fault: Fault::Empty, at: 0 });
    }
    let mut parts = Parts { body, delimiter: &delimiter, at: 0, count: 0 };
    let mut model = None;
    while let Some(part) = parts.next_part()? {
        let head = part_head(&body[part.head.clone()]).map_err(|what| form(what, part.head.start))?;
        if !head.name.eq_ignore_ascii_case(b"model") {
            continue;
        }
        if head.name != b"model" {
            return Err(BodyProblem { fault: Fault::OtherSpelling("model"), at: part.head.start });
        }
        if head.is_file {
            return Err(form("the part \"model\" has a file name", part.head.start));
        }
        if model.is_some() {
            return Err(BodyProblem { fault: Fault::Twice("model".into()), at: part.head.start });
        }
        model = Some(named(&body[part.data.clone()], part.data.start)?);
    }
    let (model, model_as_sent) = model.unwrap_or((None, Cow::Borrowed("")));
    Ok(FormFacts { model, model_as_sent })
}

/// Whether a query, as it came behind its question mark, says a model: Go's form lets it win over the body's.
#[must_use]
pub fn query_names_model(query: &str) -> bool {
    query.split(['&', ';']).any(|pair| {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        decoded(name).eq_ignore_ascii_case(b"model")
    })
}

fn decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, more)) = rest.split_first() {
        let escape = (byte == b'%').then(|| more.get(..2)).flatten();
        let escape = escape.and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = escape.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &more[2..] } else { more };
    }
    out
}

fn named(text: &[u8], at: usize) -> Result<(Option<ModelName>, Cow<'_, str>), BodyProblem> {
    let bad = |bad| BodyProblem { fault: Fault::BadModel(bad), at };
    let text = std::str::from_utf8(text).map_err(|_| bad(BadName::Invalid))?;
    Ok((Reading::Asked.named(text).map_err(bad)?, Cow::Borrowed(text)))
}

fn form(what: &'static str, at: usize) -> BodyProblem {
    BodyProblem { fault: Fault::Form(what), at }
}

type Bad = &'static str;

/// The boundary: `multipart/form-data` and that one parameter.
fn boundary(content_type: &[u8]) -> Result<&[u8], Bad> {
    const NOT_A_FORM: Bad = "the Content-Type must be multipart/form-data with one boundary";
    let mut text = content_type;
    let kind = take_until(&mut text, b";");
    if !trimmed(kind).eq_ignore_ascii_case(b"multipart/form-data") {
        return Err(NOT_A_FORM);
    }
    let (name, boundary) = parameter(&mut text).ok_or(NOT_A_FORM)?;
    if !name.eq_ignore_ascii_case(b"boundary") || !trimmed(text).is_empty() {
        return Err(NOT_A_FORM);
    }
    let is_sound = (1..=LONGEST_BOUNDARY).contains(&boundary.len())
        && boundary.iter().all(|b| b.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(b));
    if is_sound {
        Ok(boundary)
    } else {
        Err("the boundary has a character or a length that RFC 2046 does not allow")
    }
}

/// What stands before the first of `ends`; `text` goes on with it.
fn take_until<'t>(text: &mut &'t [u8], ends: &[u8]) -> &'t [u8] {
    let end = text.iter().position(|byte| ends.contains(byte)).unwrap_or(text.len());
    let (before, rest) = text.split_at(end);
    *text = rest;
    before
}

/// Without the blanks around; nothing else that some call white space is one.
fn trimmed(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| !b" \t".contains(byte)).map_or(0, |last| last + 1);
    trimmed_start(&text[..end])
}

fn trimmed_start(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !b" \t".contains(byte)).unwrap_or(text.len());
    &text[start..]
}

/// `; name=value` at the front of `text`: a token, or text between quotes without a backslash, which readers undo in
/// different ways. Whether there is such a name is the caller's to know.
fn parameter<'t>(text: &mut &'t [u8]) -> Option<(&'t [u8], &'t [u8])> {
    *text = trimmed_start(trimmed_start(text).strip_prefix(b";")?);
    let name = take_until(text, b"=;\" \t");
    *text = text.strip_prefix(b"=")?;
    let value = if let Some(rest) = text.strip_prefix(b"\"") {
        *text = rest;
        let value = take_until(text, b"\"\\");
        *text = text.strip_prefix(b"\"")?;
        value
    } else {
        let value = take_until(text, b"; \t");
        value.iter().all(|b| is_token(*b)).then_some(value).filter(|value| !value.is_empty())?
    };
    let is_value = !value.iter().any(|b| *b < 0x20 || *b == 0x7f);
    is_value.then_some((name, value))
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

struct Part {
    head: std::ops::Range<usize>,
    data: std::ops::Range<usize>,
}

/// Walks from delimiter to delimiter. Every place where the boundary stands must be a delimiter in full.
struct Parts<'b> {
    body: &'b [u8],
    delimiter: &'b [u8],
    /// Where the next delimiter begins.
    at: usize,
    count: usize,
}

impl Parts<'_> {
    fn next_part(&mut self) -> Result<Option<Part>, BodyProblem> {
        let Some(rest) = self.body.get(self.at..).and_then(|rest| rest.strip_prefix(self.delimiter)) else {
            return Err(form("it does not begin with its boundary", self.at));
        };
        let behind = self.at + self.delimiter.len();
        if let Some(epilogue) = rest.strip_prefix(b"--") {
            return match epilogue {
                b"" | b"\r\n" => Ok(None),
                _ => Err(form("bytes behind the last boundary", behind + 2)),
            };
        }
        if !rest.starts_with(b"\r\n") {
            return Err(form("a boundary within a part, or not alone on its line", behind));
        }
        self.count += 1;
        if self.count > MAX_PARTS {
            return Err(form("more than 64 parts", behind));
        }
        let head = behind + 2;
        let bound = self.body.len().min(head + MAX_PART_HEAD);
        let length = self.body[head..bound].windows(4).position(|four| four == b"\r\n\r\n");
        let length = length
            .ok_or(form("a part without the end of its head, or a head of more than 4096 bytes", head))?;
        let data = head + length + 4;
        let Some(next) = find(&self.body[data..], self.delimiter).map(|place| data + place) else {
            return Err(form("the last boundary is missing", self.body.len()));
        };
        let ends_line = next >= data + 2 && self.body[..next].ends_with(b"\r\n");
        if !ends_line {
            return Err(form("a boundary within a part, or not alone on its line", next));
        }
        self.at = next;
        Ok(Some(Part { head: head..head + length, data: data..next - 2 }))
    }
}

/// Where `needle` first stands. The dashes that all boundaries begin with are too common to look for: the last byte is
/// looked for.
fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    let (&last, before) = needle.split_last()?;
    let mut from = before.len();
    while let Some(found) = text.get(from..)?.iter().position(|byte| *byte == last) {
        let end = from + found;
        if text[..end].ends_with(before) {
            return Some(end - before.len());
        }
        from = end + 1;
    }
    None
}

struct PartHead<'b> {
    name: &'b [u8],
    is_file: bool,
}

/// The head of a part: one Content-Disposition, and of the other fields those that change nothing.
fn part_head(head: &[u8]) -> Result<PartHead<'_>, Bad> {
    let mut disposition = None;
    let (mut has_type, mut has_encoding, mut has_length) = (false, false, false);
    for line in lines(head) {
        let colon = line
            .iter()
            .position(|byte| *byte == b':')
            .ok_or("a line without a colon in the head of a part")?;
        let (name, value) = (&line[..colon], trimmed(&line[colon + 1..]));
        if value.iter().any(|b| *b < 0x20 && *b != b'\t' || *b == 0x7f) {
            return Err("a control character in the head of a part");
        }
        let twice = if name.eq_ignore_ascii_case(b"content-disposition") {
            disposition.replace(value).is_some()
        } else if name.eq_ignore_ascii_case(b"content-type") {
            if starts_with_ignoring_case(value, b"multipart/")
                || starts_with_ignoring_case(value, b"message/")
            {
                return Err("a part that is made of parts");
            }
            std::mem::replace(&mut has_type, true)
        } else if name.eq_ignore_ascii_case(b"content-transfer-encoding") {
            if ![&b"binary"[..], b"8bit", b"7bit"].iter().any(|plain| value.eq_ignore_ascii_case(plain)) {
                return Err("a part with a Content-Transfer-Encoding");
            }
            std::mem::replace(&mut has_encoding, true)
        } else if name.eq_ignore_ascii_case(b"content-length") {
            std::mem::replace(&mut has_length, true)
        } else {
            return Err("a field in the head of a part that no form needs");
        };
        if twice {
            return Err("a field twice in the head of a part");
        }
    }
    named_part(disposition.ok_or("a part without a Content-Disposition")?)
}

fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(head);
    std::iter::from_fn(move || {
        let text = rest?;
        match text.windows(2).position(|two| two == b"\r\n") {
            Some(end) => {
                rest = Some(&text[end + 2..]);
                Some(&text[..end])
            }
            None => {
                rest = None;
                Some(text)
            }
        }
    })
}

fn starts_with_ignoring_case(text: &[u8], start: &[u8]) -> bool {
    text.get(..start.len()).is_some_and(|front| front.eq_ignore_ascii_case(start))
}

/// `form-data`, one `name`, perhaps one `filename`, and no other parameter: `name*` and `name*0` would be names, too.
fn named_part(disposition: &[u8]) -> Result<PartHead<'_>, Bad> {
    const UNCLEAR: Bad = "a Content-Disposition other than form-data with one name and one file name at most";
    let mut text = disposition;
    if !trimmed(take_until(&mut text, b";")).eq_ignore_ascii_case(b"form-data") {
        return Err(UNCLEAR);
    }
    let (mut name, mut is_file) = (None, false);
    while !trimmed(text).is_empty() {
        let (parameter, value) = parameter(&mut text).ok_or(UNCLEAR)?;
        let twice = if parameter.eq_ignore_ascii_case(b"name") {
            name.replace(value).is_some()
        } else if parameter.eq_ignore_ascii_case(b"filename") {
            std::mem::replace(&mut is_file, true)
        } else {
            return Err(UNCLEAR);
        };
        if twice {
            return Err(UNCLEAR);
        }
    }
    let name = name.filter(|name| !name.is_empty()).ok_or(UNCLEAR)?;
    // Some writers escape with per cent signs, some do not, and readers leave them alone or not.
    if name.contains(&b'%') || !name.is_ascii() {
        return Err(UNCLEAR);
    }
    Ok(PartHead { name, is_file })
}
