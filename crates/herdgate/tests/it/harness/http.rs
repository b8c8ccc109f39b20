//! A client that knows what came over the wire: status, fields, the pieces of a stream, and whether the answer was whole.
//! Written apart from the product's own framing, so that a mistake there cannot hide itself.

use super::PATIENCE;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    method: String,
    path: String,
    fields: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Ask {
    pub(crate) fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// A POST of this JSON.
    pub(crate) fn post(path: &str, body: &Value) -> Self {
        Self { body: Some(body.to_string().into_bytes()), ..Self::new("POST", path) }
    }

    pub(crate) fn new(method: &str, path: &str) -> Self {
        Self { method: method.to_owned(), path: path.to_owned(), fields: Vec::new(), body: None }
    }

    pub(crate) fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn bytes(mut self, body: Vec<u8>) -> Self {
        self.body = Some(body);
        self
    }

    pub(crate) fn key(self, key: &str) -> Self {
        let value = format!("Bearer {key}");
        self.field("Authorization", &value)
    }

    /// Sends it and reads the whole answer.
    #[track_caller]
    pub(crate) fn send(&self, to: SocketAddr) -> Answer {
        self.open(to).rest()
    }

    /// Sends it and reads the head of the answer.
    #[track_caller]
    pub(crate) fn open(&self, to: SocketAddr) -> Stream {
        let stream = self.try_open(to);
        stream.unwrap_or_else(|error| panic!("{} {}: no answer: {error}", self.method, self.path))
    }

    /// As [`Ask::open`], for where there may be nobody.
    pub(crate) fn try_open(&self, to: SocketAddr) -> std::io::Result<Stream> {
        let mut wire = TcpStream::connect_timeout(&to, PATIENCE)?;
        wire.set_read_timeout(Some(PATIENCE))?;
        wire.write_all(&self.wire(to))?;
        Stream::open(BufReader::new(wire), self.method == "HEAD")
    }

    /// Sends it over a connection of the test's own.
    #[track_caller]
    pub(crate) fn write_to(&self, mut stream: &TcpStream, to: SocketAddr) {
        stream.write_all(&self.wire(to)).unwrap();
    }

    fn wire(&self, to: SocketAddr) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        if !self.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            text.push_str(&format!("Host: {to}\r\n"));
        }
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            text.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        [text.as_bytes(), self.body.as_deref().unwrap_or_default()].concat()
    }
}

/// An answer whose head has come.
#[derive(Debug)]
pub(crate) struct Stream {
    wire: BufReader<TcpStream>,
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    framing: Framing,
    left: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
    UntilClose,
}

impl Stream {
    fn open(mut wire: BufReader<TcpStream>, is_head: bool) -> std::io::Result<Self> {
        let head = line(&mut wire)?;
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| broken(format!("no status line: {head:?}")))?;
        let mut fields = Vec::new();
        loop {
            let text = line(&mut wire)?;
            if text.is_empty() {
                break;
            }
            let (name, value) = text.split_once(':').ok_or_else(|| broken(format!("no field: {text:?}")))?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let find = |name: &str| fields.iter().find(|(sent, _)| sent == name).map(|(_, value)| value.as_str());
        let length = find("content-length").map(str::parse::<u64>).transpose().map_err(broken)?;
        let framing = match (find("transfer-encoding"), length) {
            (Some("chunked"), None) => Framing::Chunked,
            (None, Some(_)) => Framing::Length,
            (None, None) => Framing::UntilClose,
            (Some(other), _) => return Err(broken(format!("Transfer-Encoding: {other}, length {length:?}"))),
        };
        let (framing, left) = if is_head { (Framing::Length, 0) } else { (framing, length.unwrap_or(0)) };
        Ok(Self { wire, status, fields, framing, left })
    }

    /// The next piece as it was framed; `Ok(None)` after the last, an error where the answer was cut off.
    pub(crate) fn piece(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut piece = Vec::new();
        match self.framing {
            Framing::UntilClose => {
                self.wire.read_to_end(&mut piece)?;
            }
            Framing::Length => {
                piece.resize(usize::try_from(std::mem::take(&mut self.left)).map_err(broken)?, 0);
                self.wire.read_exact(&mut piece)?;
            }
            Framing::Chunked => {
                let size = line(&mut self.wire)?;
                let size =
                    usize::from_str_radix(&size, 16).map_err(|_| broken(format!("chunk size {size:?}")))?;
                piece.resize(size, 0);
                self.wire.read_exact(&mut piece)?;
                let end = line(&mut self.wire)?;
                if !end.is_empty() {
                    return Err(broken(format!("after a chunk: {end:?}")));
                }
            }
        }
        Ok((!piece.is_empty()).then_some(piece))
    }

    /// Reads to the end, or to where the answer breaks off.
    pub(crate) fn rest(mut self) -> Answer {
        let mut pieces = Vec::new();
        let cut = loop {
            match self.piece() {
                Ok(Some(piece)) => pieces.push(piece),
                Ok(None) => break None,
                Err(error) => break Some(error.to_string()),
            }
        };
        let is_chunked = self.framing == Framing::Chunked;
        Answer { status: self.status, fields: self.fields, pieces, is_chunked, cut }
    }
}

fn line(wire: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut line = Vec::new();
    wire.read_until(b'\n', &mut line)?;
    let text = line.strip_suffix(b"\r\n").ok_or_else(|| broken("closed"))?;
    String::from_utf8(text.to_vec()).map_err(broken)
}

fn broken(why: impl ToString) -> std::io::Error {
    std::io::Error::other(why.to_string())
}

/// An answer as far as it came.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    /// The body, by its chunks where it was chunked.
    pub(crate) pieces: Vec<Vec<u8>>,
    /// It was sent in chunks, as streams are.
    pub(crate) is_chunked: bool,
    /// Why the body ended before its framing did.
    pub(crate) cut: Option<String>,
}

impl Answer {
    /// The first field of this name, which is given in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(sent, _)| sent == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.pieces.concat()).into_owned()
    }

    /// The body as one JSON value.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text()).unwrap_or_else(|error| panic!("no JSON: {error}: {self}"))
    }

    /// The body as the JSON of each of its lines.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = self.text();
        let parsed = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        text.lines().map(parsed).collect()
    }

    /// The `data:` of each server-sent event; `[DONE]` as the text that it is.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = self.text();
        let data = text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
        data.map(|data| match data {
            "[DONE]" => Value::from(data),
            _ => serde_json::from_str(data).unwrap_or_else(|error| panic!("{data:?}: {error}")),
        })
        .collect()
    }

    /// It came whole and says 200.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.status == 200 && self.cut.is_none(), "{self}");
        self
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}\n{}\ncut: {:?}", self.status, self.fields, self.text(), self.cut)
    }
}
