//! The engine as a child process, and a client that sees every byte and chunk of its answers.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// A running engine. It ends with the test.
pub(crate) struct Engine {
    child: Child,
    pub(crate) address: String,
    _files: tempfile::TempDir,
}

/// Where the demo model lies.
pub(crate) fn demo_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/demo-model/herdgate-demo.gguf")
}

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_herdgate-engine"));
    command.env_remove("RUST_LOG");
    command
}

impl Engine {
    /// Serves files with these names and bytes.
    pub(crate) fn start(models: &[(&str, Vec<u8>)], more: &[&str]) -> Engine {
        let files = tempfile::tempdir().unwrap();
        let mut command = program();
        for (name, bytes) in models {
            let path = files.path().join(format!("{name}.gguf"));
            std::fs::write(&path, bytes).unwrap();
            command.arg("--model").arg(path);
        }
        command.args(["--listen", "127.0.0.1:0", "--exit-with-parent"]).args(more);
        let mut child =
            command.env("RUST_LOG", "error").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").expect("the one line on stdout");
        Engine { address: address.to_owned(), child, _files: files }
    }

    pub(crate) fn demo(more: &[&str]) -> Engine {
        Engine::start(&[("demo", std::fs::read(demo_file()).unwrap())], more)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether the process still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Sends bytes as they are and reads one answer.
    pub(crate) fn send(&self, request: &[u8]) -> Response {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        Response::read(&mut BufReader::new(stream), request.starts_with(b"HEAD "))
    }

    pub(crate) fn post(&self, path: &str, body: &[u8]) -> Response {
        self.send(&post(path, body))
    }

    /// Sends JSON and expects a 200.
    pub(crate) fn ask(&self, path: &str, body: &Value) -> Value {
        let response = self.post(path, body.to_string().as_bytes());
        assert_eq!(response.status, 200, "{path} {body} -> {}", response.text());
        response.json()
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Ending standard input is how the engine is told to go; a test may have ended it already.
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

pub(crate) fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut request = head.into_bytes();
    request.extend(body);
    request
}

/// An answer, chunk by chunk.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    /// Chunks as they were framed; one piece if the answer has a length.
    pub(crate) chunks: Vec<Vec<u8>>,
    pub(crate) is_chunked: bool,
}

impl Response {
    pub(crate) fn read(input: &mut impl BufRead, no_body: bool) -> Response {
        let mut line = String::new();
        input.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {line:?}")).parse().unwrap();
        let mut fields = Vec::new();
        loop {
            let mut line = String::new();
            input.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut response = Response { status, fields, chunks: Vec::new(), is_chunked: false };
        response.is_chunked = response.field("transfer-encoding") == Some("chunked");
        if status == 100 {
            // The interim answer is the server's, not the route's.
            return Response::read(input, no_body);
        }
        if no_body {
            return response;
        }
        if response.is_chunked {
            while let Some(chunk) = chunk(input) {
                response.chunks.push(chunk);
            }
        } else if let Some(length) = response.field("content-length") {
            let mut body = vec![0; length.parse().unwrap()];
            input.read_exact(&mut body).unwrap();
            response.chunks.push(body);
        }
        response
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.chunks.concat()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text()).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

/// The next chunk; `None` after the last.
pub(crate) fn chunk(input: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = String::new();
    input.read_line(&mut line).unwrap();
    let length =
        usize::from_str_radix(line.trim(), 16).unwrap_or_else(|e| panic!("{e}: chunk line {line:?}"));
    let mut bytes = vec![0; length + 2];
    input.read_exact(&mut bytes).unwrap();
    bytes.truncate(length);
    (length > 0).then_some(bytes)
}
