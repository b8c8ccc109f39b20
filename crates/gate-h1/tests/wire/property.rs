//! What must hold for any bytes whatever: the properties that tests, corpus replay and fuzz targets share.
//!
//! [`read`] is a whole connection in memory. Each check reads the same bytes in several cuts, wants the same result,
//! and looks at the result with rules of its own rather than with the code under test.

use gate_h1::{Body, Framing, H1Error, HeadScan, Limits, Parsed, Version, encode};

/// Which side is reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Requests,
    Responses { to_head: bool },
}

/// One message with its body, as far as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Method and target, or an empty method and the status.
    pub(crate) first: (String, String),
    pub(crate) version: Version,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) framing: Framing,
    pub(crate) keep_alive: bool,
    pub(crate) body: Vec<u8>,
    pub(crate) complete: bool,
}

/// Everything that was read from one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) messages: Vec<Message>,
    /// Bytes that belong to the messages; 0 with a refusal, where it would depend on how the bytes came.
    pub(crate) used: usize,
    pub(crate) refused: Option<H1Error>,
}

struct Connection {
    side: Side,
    limits: Limits,
    scan: HeadScan,
    body: Option<Body>,
    from: usize,
    closed: bool,
    reading: Reading,
}

/// Reads a whole connection whose bytes arrive cut at the given places, then end.
pub(crate) fn read(side: Side, limits: &Limits, bytes: &[u8], cuts: impl Iterator<Item = usize>) -> Reading {
    let mut connection = Connection {
        side,
        limits: *limits,
        scan: HeadScan::default(),
        body: None,
        from: 0,
        closed: false,
        reading: Reading { messages: Vec::new(), used: 0, refused: None },
    };
    for end in cuts.chain([bytes.len()]) {
        if let Err(error) = connection.feed(&bytes[..end]) {
            connection.reading.refused = Some(error);
            connection.reading.used = 0;
            return connection.reading;
        }
    }
    connection.end();
    connection.reading
}

impl Connection {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), H1Error> {
        while !self.closed && self.from < bytes.len() {
            let input = &bytes[self.from..];
            let used = match self.body.take() {
                Some(body) => self.feed_body(body, input)?,
                None => match self.feed_head(input)? {
                    Some(used) => used,
                    None => return Ok(()),
                },
            };
            self.from += used;
            self.reading.used = self.from;
        }
        Ok(())
    }

    fn feed_head(&mut self, input: &[u8]) -> Result<Option<usize>, H1Error> {
        let (message, used) = match self.side {
            Side::Requests => match self.scan.request(input, &self.limits)? {
                Parsed::Partial => return Ok(None),
                Parsed::Done(head, used) => (of_request(&head), used),
            },
            Side::Responses { to_head } => match self.scan.response(input, &self.limits, to_head)? {
                Parsed::Partial => return Ok(None),
                Parsed::Done(head, used) => (of_response(&head), used),
            },
        };
        assert!(used <= input.len() && used <= self.limits.head, "a head beyond its bounds");
        assert!(input[..used].ends_with(b"\r\n\r\n"), "a head that does not end in an empty line");
        let ends = input[..used].iter().filter(|byte| b"\r\n".contains(byte)).collect::<Vec<_>>();
        assert!(ends.chunks(2).all(|end| end == [&b'\r', &b'\n']), "CR and LF that are not line ends");
        assert!(input[..used].windows(2).all(|two| two[0] != b'\r' || two[1] == b'\n'), "a bare CR");
        let body = Body::with_limits(message.framing, &self.limits);
        let complete = body.is_done();
        self.body = (!complete).then_some(body);
        self.reading.messages.push(Message { complete, ..message });
        self.after_message(complete);
        Ok(Some(used))
    }

    fn feed_body(&mut self, mut body: Body, input: &[u8]) -> Result<usize, H1Error> {
        let step = match body.step(input) {
            Ok(step) => step,
            Err(error) => {
                assert_eq!(body.step(input), Err(error), "an error must last");
                assert_eq!(body.end_of_input(), Err(error), "an error must last");
                return Err(error);
            }
        };
        assert!(step.used > 0 && step.used <= input.len(), "no progress, or beyond the input");
        assert!(
            step.data.start <= step.data.end && step.data.end <= step.used,
            "data outside of the used bytes"
        );
        assert_eq!(step.done, body.is_done());
        let message = self.reading.messages.last_mut().expect("a body has a head");
        message.body.extend_from_slice(&input[step.data]);
        message.complete = step.done;
        self.body = (!step.done).then_some(body);
        self.after_message(step.done);
        Ok(step.used)
    }

    fn after_message(&mut self, complete: bool) {
        let message = self.reading.messages.last().expect("called behind a head");
        self.closed = complete && (!message.keep_alive || message.first.1 == "101");
    }

    fn end(&mut self) {
        let Some(body) = &mut self.body else { return };
        let message = self.reading.messages.last_mut().expect("a body has a head");
        match body.end_of_input() {
            Ok(()) => {
                assert_eq!(message.framing, Framing::UntilClose);
                message.complete = true;
            }
            Err(error) => assert_eq!(error, H1Error::Truncated),
        }
    }
}

fn of_request(head: &gate_h1::RequestHead<'_>) -> Message {
    assert_ne!(head.framing, Framing::UntilClose, "a request cannot last until the close");
    assert!(!head.expect_continue || !head.framing.is_empty(), "nobody waits to send nothing");
    Message {
        first: (head.method.to_owned(), head.target.to_owned()),
        version: head.version,
        fields: owned(&head.fields),
        framing: head.framing,
        keep_alive: head.keep_alive,
        body: Vec::new(),
        complete: false,
    }
}

fn of_response(head: &gate_h1::ResponseHead<'_>) -> Message {
    Message {
        first: (String::new(), head.status.to_string()),
        version: head.version,
        fields: owned(&head.fields),
        framing: head.framing,
        keep_alive: head.keep_alive,
        body: Vec::new(),
        complete: false,
    }
}

fn owned(fields: &gate_h1::Fields<'_>) -> Vec<(String, Vec<u8>)> {
    fields.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect()
}

/// Reads the bytes whole, byte by byte, and in pieces of 2, 3 and 7; wants one result; checks it; gives it back.
pub(crate) fn same_in_any_cut(side: Side, limits: &Limits, bytes: &[u8]) -> Reading {
    let whole = read(side, limits, bytes, std::iter::empty());
    for size in [1, 2, 3, 7] {
        let pieces = read(side, limits, bytes, (size..bytes.len()).step_by(size));
        assert_eq!(pieces, whole, "in pieces of {size}: {}", bytes.escape_ascii());
    }
    for message in &whole.messages {
        check(side, message);
    }
    whole
}

/// Fuzz target and corpus: any bytes as requests.
pub(crate) fn requests(bytes: &[u8]) {
    for limits in [Limits::DEFAULT, TIGHT] {
        same_in_any_cut(Side::Requests, &limits, bytes);
    }
}

/// Fuzz target and corpus: any bytes as responses.
pub(crate) fn responses(bytes: &[u8]) {
    for limits in [Limits::DEFAULT, TIGHT] {
        for to_head in [false, true] {
            same_in_any_cut(Side::Responses { to_head }, &limits, bytes);
        }
    }
}

/// Fuzz target and corpus: any bytes as a chunked body; the first byte says where it is cut once more.
pub(crate) fn bodies(bytes: &[u8]) {
    let Some((&cut, bytes)) = bytes.split_first() else { return };
    let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let message = [head, bytes].concat();
    for limits in [Limits { head: head.len(), ..Limits::DEFAULT }, Limits { head: head.len(), ..TIGHT }] {
        let whole = same_in_any_cut(Side::Requests, &limits, &message);
        let cut = (head.len() + usize::from(cut)).min(message.len());
        assert_eq!(read(Side::Requests, &limits, &message, std::iter::once(cut)), whole, "cut at {cut}");
    }
}

/// Small enough that inputs of a few dozen bytes reach every bound.
pub(crate) const TIGHT: Limits = Limits { head: 64, fields: 3, chunk_line: 8, extensions: 12, trailer: 16 };

/// Rules that an accepted message must obey, said without the code under test.
fn check(side: Side, message: &Message) {
    let named = |wanted: &str| {
        message
            .fields
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.as_slice())
            .collect::<Vec<_>>()
    };
    for (name, value) in &message.fields {
        assert!(http::HeaderName::from_bytes(name.as_bytes()).is_ok(), "name {name:?}");
        assert!(http::HeaderValue::from_bytes(value).is_ok(), "value {:?}", value.escape_ascii());
        assert_eq!(value.trim_ascii(), value.as_slice(), "white space around a value");
    }
    let (lengths, codings) = (named("content-length"), named("transfer-encoding"));
    assert!(lengths.len() + codings.len() <= 1, "more than one field about the framing");
    assert!(codings.iter().all(|coding| coding.eq_ignore_ascii_case(b"chunked")));
    assert!(codings.is_empty() || message.version == Version::H11);
    let announced = lengths.first().map(|digits| {
        assert!(digits.iter().all(u8::is_ascii_digit), "a length that is not digits");
        str::from_utf8(digits).unwrap().parse::<u64>().expect("a length that fits")
    });
    let silent = ["1", "204", "304"].iter().any(|status| message.first.1.starts_with(status));
    let expected = match (side, announced) {
        (Side::Responses { to_head }, _) if to_head || silent => Framing::None,
        (_, Some(length)) => Framing::Length(length),
        _ if !codings.is_empty() => Framing::Chunked,
        (Side::Requests, None) => Framing::None,
        (Side::Responses { .. }, None) => Framing::UntilClose,
    };
    assert_eq!(message.framing, expected);
    if let (Framing::Length(length), true) = (message.framing, message.complete) {
        assert_eq!(message.body.len() as u64, length);
    }
    written_reads_back(side, message);
}

/// What was read can be written again, and is read as the same message.
fn written_reads_back(side: Side, message: &Message) {
    let mut bytes = Vec::new();
    match side {
        Side::Requests => encode::request_line(&mut bytes, &message.first.0, &message.first.1).unwrap(),
        Side::Responses { .. } => encode::status_line(&mut bytes, message.first.1.parse().unwrap()),
    }
    for (name, value) in &message.fields {
        encode::field(&mut bytes, name, value).expect("what was read can be written");
    }
    encode::end_of_head(&mut bytes);
    if message.framing == Framing::Chunked {
        for piece in message.body.chunks(5) {
            encode::chunk(&mut bytes, piece);
        }
        if message.complete {
            bytes.extend_from_slice(encode::LAST_CHUNK);
        }
    } else {
        bytes.extend_from_slice(&message.body);
    }
    let again = read(side, &Limits::DEFAULT, &bytes, std::iter::empty());
    assert_eq!(again.refused, None, "{}", bytes.escape_ascii());
    let [read_back] = again.messages.as_slice() else { panic!("{} messages from one", again.messages.len()) };
    assert_eq!(again.used, bytes.len());
    // It is always written as HTTP/1.1, which keeps alive by itself.
    let (version, keep_alive) = (read_back.version, read_back.keep_alive);
    assert_eq!(*read_back, Message { version, keep_alive, ..message.clone() });
    assert!(version == Version::H11 && (keep_alive || !message.keep_alive));
}
