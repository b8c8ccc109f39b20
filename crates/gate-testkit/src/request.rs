//! Reading one request off a connection: just strict enough to find its end. Lenient on purpose: a request that the gate
//! should not have sent must reach the log, not be refused here.

/// A request's head, as far as an answer depends on it.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) bytes: Vec<u8>,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) http10: bool,
    pub(crate) keeps_open: bool,
    pub(crate) expects_continue: bool,
    pub(crate) framing: Framing,
    pub(crate) host: Option<String>,
    pub(crate) origin: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
}

/// Largest head that is waited for; Ollama's own bound (v0.24.0 and v0.32.15: Go's 1 MiB and 4 KiB).
pub(crate) const HEAD_BYTES: usize = (1 << 20) + 4096;

/// Takes a complete head from the front of `buffer`, or leaves it alone.
pub(crate) fn take_head(buffer: &mut Vec<u8>) -> Option<Head> {
    let end = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let bytes: Vec<u8> = buffer.drain(..end).collect();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default();
    let http10 = words.next() == Some("HTTP/1.0");
    let fields: Vec<(String, &str)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
        .collect();
    let field = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value);
    let connection = field("connection").unwrap_or_default().to_ascii_lowercase();
    let chunked = field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let length = field("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    let head = Head {
        method,
        path: target.split('?').next().unwrap_or_default().to_owned(),
        http10,
        keeps_open: if http10 { connection == "keep-alive" } else { connection != "close" },
        expects_continue: field("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")),
        framing: if chunked { Framing::Chunked } else { Framing::Length(length) },
        host: field("host").map(str::to_owned),
        origin: field("origin").map(str::to_owned),
        bytes,
    };
    Some(head)
}

/// Moves body bytes from the front of `buffer` to `body`. `true` when the body is whole; `Err` when its chunks are
/// unreadable.
pub(crate) fn take_body(framing: &mut Framing, buffer: &mut Vec<u8>, body: &mut Vec<u8>) -> Result<bool, ()> {
    match framing {
        Framing::Length(left) => {
            let now = buffer.len().min(*left);
            body.extend(buffer.drain(..now));
            *left -= now;
            Ok(*left == 0)
        }
        Framing::Chunked => take_chunks(buffer, body),
    }
}

fn take_chunks(buffer: &mut Vec<u8>, body: &mut Vec<u8>) -> Result<bool, ()> {
    loop {
        let Some(line) = buffer.windows(2).position(|window| window == b"\r\n") else { return Ok(false) };
        let text = String::from_utf8_lossy(&buffer[..line]).into_owned();
        let size = text.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_unreadable| ())?;
        if size == 0 {
            return Ok(take_trailers(buffer, line));
        }
        let end = line.saturating_add(2).saturating_add(size);
        if buffer.len() < end.saturating_add(2) {
            return Ok(false);
        }
        body.extend_from_slice(&buffer[line + 2..end]);
        buffer.drain(..end + 2);
    }
}

/// After the last chunk's line: either the empty line at once, or trailers up to one.
fn take_trailers(buffer: &mut Vec<u8>, last_line: usize) -> bool {
    if buffer[last_line..].starts_with(b"\r\n\r\n") {
        buffer.drain(..last_line + 4);
        return true;
    }
    let end = buffer[last_line..].windows(4).position(|window| window == b"\r\n\r\n");
    if let Some(end) = end {
        buffer.drain(..last_line + end + 4);
    }
    end.is_some()
}
