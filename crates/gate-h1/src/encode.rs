//! Heads and chunks written into a `Vec<u8>`.
//!
//! What is written here is what the readers of this crate accept: nothing that could end a line early gets through.
//! The functions append; a refused part leaves the buffer as it was.

use std::num::NonZeroUsize;

use crate::{H1Error, chars};

/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Follows the data of each chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// The interim answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// `HTTP/1.1 200 OK` and the line end. A status without a registered reason gets an empty one.
pub fn status_line(out: &mut Vec<u8>, status: u16) {
    if status == 200 {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `POST /api/chat HTTP/1.1` and the line end.
///
/// # Errors
/// [`H1Error::Unwritable`] if the method is not a token, or the target is empty or has a byte other than visible
/// ASCII without `#`.
pub fn request_line(out: &mut Vec<u8>, method: &str, target: &str) -> Result<(), H1Error> {
    if !chars::is_token(method.as_bytes()) || !chars::is_target(target.as_bytes()) {
        return Err(H1Error::Unwritable);
    }
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    Ok(())
}

/// One field line.
///
/// # Errors
/// [`H1Error::Unwritable`] if the name is not a token or the value has a control byte other than tab.
pub fn field(out: &mut Vec<u8>, name: &str, value: impl AsRef<[u8]>) -> Result<(), H1Error> {
    let value = value.as_ref();
    if !chars::is_token(name.as_bytes()) || !chars::is_value(value) {
        return Err(H1Error::Unwritable);
    }
    out.reserve(name.len() + value.len() + 4);
    // Part by part rather than in a loop: the short ones are then written without a call.
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// The field that announces a body of so many bytes.
pub fn content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

/// The field that announces a chunked body.
pub fn chunked(out: &mut Vec<u8>) {
    out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
}

/// The empty line that ends a head.
pub fn end_of_head(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// The line before a chunk's data; [`CHUNK_END`] follows the data. Never zero: that would end the body.
pub fn chunk_head(out: &mut Vec<u8>, length: NonZeroUsize) {
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4);
    for place in (0..digits).rev() {
        let digit = length.get() >> (4 * place) & 0xf;
        out.push(b"0123456789abcdef"[digit]);
    }
    out.extend_from_slice(b"\r\n");
}

/// A whole chunk; nothing at all for empty data, which would end the body.
pub fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    if let Some(length) = NonZeroUsize::new(data.len()) {
        out.reserve(data.len() + 20);
        chunk_head(out, length);
        out.extend_from_slice(data);
        out.extend_from_slice(CHUNK_END);
    }
}

/// The registered reason phrase of a status, or an empty one.
#[must_use]
pub const fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}

fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut from = digits.len();
    loop {
        from -= 1;
        digits[from] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[from..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn first_lines() {
        assert_eq!(written(|out| status_line(out, 200)), "HTTP/1.1 200 OK\r\n");
        assert_eq!(written(|out| status_line(out, 499)), "HTTP/1.1 499 \r\n");
        assert_eq!(
            written(|out| request_line(out, "POST", "/api/chat").unwrap()),
            "POST /api/chat HTTP/1.1\r\n"
        );
        for (method, target) in
            [("", "/"), ("G T", "/"), ("GET", ""), ("GET", "/ HTTP/1.1\r\nX:"), ("GET", "/#a")]
        {
            let mut out = b"before".to_vec();
            assert_eq!(request_line(&mut out, method, target), Err(H1Error::Unwritable), "{method} {target}");
            assert_eq!(out, b"before");
        }
    }

    #[test]
    fn fields_cannot_smuggle_a_line() {
        assert_eq!(written(|out| field(out, "X-A", "b c").unwrap()), "X-A: b c\r\n");
        for (name, value) in [
            ("", "a"),
            ("X Y", "a"),
            ("X:", "a"),
            ("X", "a\r\nY: b"),
            ("X", "a\n"),
            ("X", "a\r"),
            ("X", "\0"),
        ] {
            let mut out = b"before".to_vec();
            assert_eq!(field(&mut out, name, value), Err(H1Error::Unwritable), "{name:?} {value:?}");
            assert_eq!(out, b"before");
        }
    }

    #[test]
    fn numbers() {
        for length in [0, 7, 10, 1234, u64::MAX] {
            assert_eq!(written(|out| content_length(out, length)), format!("Content-Length: {length}\r\n"));
        }
        for length in [1, 15, 16, 255, 4096, usize::MAX] {
            let length = NonZeroUsize::new(length).unwrap();
            assert_eq!(written(|out| chunk_head(out, length)), format!("{length:x}\r\n"));
        }
    }

    #[test]
    fn an_empty_piece_does_not_end_the_body() {
        assert_eq!(written(|out| chunk(out, b"")), "");
        assert_eq!(written(|out| chunk(out, b"hello")), "5\r\nhello\r\n");
    }
}
