//! Request and response heads: what they say, checked.
//!
//! httparse splits the lines; everything it is lenient about is refused here or was refused by the scan before.
//! The target stays as it was sent: whoever routes on it must forward that very value.

use crate::framing::Facts;
use crate::scan::HeadScan;
use crate::{Fields, Framing, H1Error, Limits, Parsed, Version, chars};

/// The head of a request, borrowed from its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead<'b> {
    /// A token, case kept; any method, known or not.
    pub method: &'b str,
    /// The target as sent: visible ASCII without `#`, never empty. Any of the four forms of RFC 9112 section 3.2.
    pub target: &'b str,
    /// The client's version.
    pub version: Version,
    /// All fields. Host is not checked here; `fields.all("host")` shows duplicates.
    pub fields: Fields<'b>,
    /// Never [`Framing::UntilClose`].
    pub framing: Framing,
    /// Whether the client lets the connection carry another request.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends its body; false where there is no body.
    pub expect_continue: bool,
}

/// The head of a response, borrowed from its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead<'b> {
    /// 100 to 599. A 1xx head is followed by another head (except 101, after which HTTP is over).
    pub status: u16,
    /// The server's version.
    pub version: Version,
    /// All fields.
    pub fields: Fields<'b>,
    /// [`Framing::None`] for 1xx, 204, 304 and every answer to HEAD.
    pub framing: Framing,
    /// Whether the connection may be used again after this answer; false with [`Framing::UntilClose`].
    pub keep_alive: bool,
}

/// Reads the head of a request at the start of `buf`; one empty line before it is passed over.
///
/// For bytes that arrive in pieces [`HeadScan`] does the same without starting over.
///
/// # Errors
/// As soon as the bytes cannot be, or become, a head with exactly one reading within the limits.
pub fn request_head<'b>(buf: &'b [u8], limits: &Limits) -> Result<Parsed<RequestHead<'b>>, H1Error> {
    HeadScan::default().request(buf, limits)
}

/// Reads the head of a response at the start of `buf`. `request_was_head` says that it answers a HEAD request,
/// and so has no body whatever its fields announce.
///
/// # Errors
/// As soon as the bytes cannot be, or become, a head with exactly one reading within the limits.
pub fn response_head<'b>(
    buf: &'b [u8],
    limits: &Limits,
    request_was_head: bool,
) -> Result<Parsed<ResponseHead<'b>>, H1Error> {
    HeadScan::default().response(buf, limits, request_was_head)
}

/// `head` ends with its empty line; `lines` is the number of its other lines.
pub(crate) fn parse_request(head: &[u8], lines: usize) -> Result<RequestHead<'_>, H1Error> {
    let mut fields = Fields::of(lines.saturating_sub(1));
    let mut request = httparse::Request::new(fields.room());
    match request.parse(head) {
        Ok(httparse::Status::Complete(used)) if used == head.len() => {}
        Ok(_) => return Err(H1Error::RequestLine),
        Err(error) => return Err(cause(error, H1Error::RequestLine, head)),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(H1Error::RequestLine);
    };
    let count = request.headers.len();
    // Method, space, target, space and eight bytes of version must be the whole line.
    let line = method.len() + target.len() + 10;
    if head.get(line..line + 2) != Some(b"\r\n") {
        return Err(H1Error::RequestLine);
    }
    if !chars::is_target(target.as_bytes()) {
        return Err(H1Error::Target);
    }
    let version = version(minor)?;
    whole(&fields, count)?;
    let facts = Facts::gather(&fields, version)?;
    Ok(RequestHead {
        method,
        target,
        version,
        framing: facts.of_request(),
        keep_alive: facts.keep_alive(version),
        expect_continue: facts.expect_continue(version)?,
        fields,
    })
}

/// `head` ends with its empty line; `lines` is the number of its other lines.
pub(crate) fn parse_response(
    head: &[u8],
    lines: usize,
    request_was_head: bool,
) -> Result<ResponseHead<'_>, H1Error> {
    let mut fields = Fields::of(lines.saturating_sub(1));
    let mut response = httparse::Response::new(fields.room());
    match response.parse(head) {
        Ok(httparse::Status::Complete(used)) if used == head.len() => {}
        Ok(_) => return Err(H1Error::StatusLine),
        Err(error) => return Err(cause(error, H1Error::StatusLine, head)),
    }
    let (Some(status), Some(minor)) = (response.code, response.version) else {
        return Err(H1Error::StatusLine);
    };
    let count = response.headers.len();
    if !(100..600).contains(&status) {
        return Err(H1Error::StatusLine);
    }
    let version = version(minor)?;
    whole(&fields, count)?;
    let facts = Facts::gather(&fields, version)?;
    let framing = facts.of_response(status, request_was_head)?;
    let keep_alive = facts.keep_alive(version) && framing != Framing::UntilClose;
    Ok(ResponseHead { status, version, fields, framing, keep_alive })
}

/// Every line behind the first must have become a field, or the scan and the parser read different things.
fn whole(fields: &Fields<'_>, count: usize) -> Result<(), H1Error> {
    if count == fields.len() { Ok(()) } else { Err(H1Error::Field) }
}

const fn version(minor: u8) -> Result<Version, H1Error> {
    match minor {
        0 => Ok(Version::H10),
        1 => Ok(Version::H11),
        _ => Err(H1Error::Version),
    }
}

fn cause(error: httparse::Error, first_line: H1Error, head: &[u8]) -> H1Error {
    match error {
        httparse::Error::HeaderName | httparse::Error::HeaderValue => H1Error::Field,
        httparse::Error::TooManyHeaders => H1Error::TooManyFields,
        _ if names_other_version(head) => H1Error::Version,
        _ => first_line,
    }
}

/// True if the first line begins or ends with a well-formed HTTP version that is not spoken here.
fn names_other_version(head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    [words.next(), words.next_back()].into_iter().flatten().any(|word| {
        matches!(word, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() && !(*major == b'1' && *minor <= b'1'))
    })
}
