//! Load on a gate: clients that ask for streams, one after the other, and miss none of a stream's end.

use super::{Ask, Home, PATIENCE, testkit, until};
use gate_testkit::{Ollama, Setup};
use serde_json::{Value, json};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) const TOKEN: &str = "canary-Tr0ub4dor&3-in-the-environment";
/// Tokens of one stream, and the pause before each: a stream takes a tenth of a second.
pub(crate) const TOKENS: usize = 20;
pub(crate) const PACE: Duration = Duration::from_millis(5);

pub(crate) fn home() -> Home {
    Home::new().env("AUTH_TOKEN", TOKEN)
}

pub(crate) fn slow_ollama() -> Ollama {
    testkit(Setup::default().with_tokens(TOKENS).with_pace(PACE))
}

pub(crate) fn chat() -> Ask {
    Ask::post("/api/chat", &json!({"model": "demo", "messages": [{"role": "user", "content": "x"}]}))
        .key(TOKEN)
}

/// A client that keeps its connection for as long as the gate does, or makes a new one for each request.
struct Caller {
    to: SocketAddr,
    keeps: bool,
    wire: Option<BufReader<TcpStream>>,
}

impl Caller {
    fn new(to: SocketAddr, keeps: bool) -> Self {
        Self { to, keeps, wire: None }
    }

    fn connect(&mut self) -> io::Result<()> {
        if self.wire.is_none() {
            let wire = TcpStream::connect(self.to)?;
            wire.set_read_timeout(Some(PATIENCE))?;
            self.wire = Some(BufReader::new(wire));
        }
        Ok(())
    }

    /// One stream, whole, or what was wrong with it. The connection must be there.
    fn stream(&mut self) -> Result<(), String> {
        let mut wire = self.wire.take().ok_or("no connection")?;
        let (answer, stays) = exchange(&mut wire, self.to).map_err(|error| format!("cut: {error}"))?;
        let lines: Vec<Value> = answer
            .lines()
            .map(|line| serde_json::from_str(line).map_err(|error| format!("{error}: {line}")))
            .collect::<Result<_, _>>()?;
        let is_whole = lines.last().is_some_and(|last| last["done"] == true) && lines.len() > TOKENS;
        if !is_whole {
            return Err(format!("not whole: {answer}"));
        }
        if self.keeps && stays {
            self.wire = Some(wire);
        }
        Ok(())
    }
}

/// Sends a chat and reads its answer to the last chunk; also whether the connection stays.
fn exchange(wire: &mut BufReader<TcpStream>, to: SocketAddr) -> io::Result<(String, bool)> {
    let body = r#"{"model":"demo","messages":[{"role":"user","content":"x"}]}"#;
    let request = format!(
        "POST /api/chat HTTP/1.1\r\nHost: {to}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    wire.get_mut().write_all(request.as_bytes())?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if wire.read_line(&mut head)? == 0 {
            return Err(io::Error::other(format!("the connection ended in the head: {head:?}")));
        }
    }
    if !head.starts_with("HTTP/1.1 200 ") || !head.contains("Transfer-Encoding: chunked") {
        let mut rest = String::new();
        let _cut = wire
            .get_mut()
            .set_read_timeout(Some(Duration::from_millis(200)))
            .and_then(|()| wire.read_to_string(&mut rest));
        return Err(io::Error::other(format!("{head}{rest}")));
    }
    let mut answer = Vec::new();
    loop {
        let mut size = String::new();
        wire.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim_end(), 16)
            .map_err(|_| io::Error::other(format!("chunk size {size:?} after {answer:?}")))?;
        let from = answer.len();
        answer.resize(from + size + 2, 0);
        wire.read_exact(&mut answer[from..])?;
        answer.truncate(from + size);
        if size == 0 {
            break;
        }
    }
    let text = String::from_utf8(answer).map_err(io::Error::other)?;
    Ok((text, !head.contains("Connection: close")))
}

/// Clients that ask for streams, one after the other, until they are told to stop or nobody listens any more.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    whole: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    pub(crate) fn start(to: SocketAddr, clients: usize) -> Self {
        let (stop, whole): (Arc<AtomicBool>, Arc<AtomicUsize>) = Default::default();
        let client = |number: usize| {
            let (stop, whole) = (Arc::clone(&stop), Arc::clone(&whole));
            std::thread::spawn(move || {
                let mut caller = Caller::new(to, number.is_multiple_of(2));
                let mut wrong = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match caller.connect() {
                        Ok(()) => {}
                        Err(error) if error.kind() == ErrorKind::ConnectionRefused => break,
                        Err(error) => wrong.push(format!("connecting: {error}")),
                    }
                    match caller.stream() {
                        Ok(()) => drop(whole.fetch_add(1, Ordering::Relaxed)),
                        Err(what) => wrong.push(what),
                    }
                }
                wrong
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, whole, clients }
    }

    pub(crate) fn whole(&self) -> usize {
        self.whole.load(Ordering::Relaxed)
    }

    /// Waits for so many more streams.
    #[track_caller]
    pub(crate) fn goes_on(&self, streams: usize) {
        let until_then = self.whole() + streams;
        until("the load to go on", || (self.whole() >= until_then).then_some(()));
    }

    /// Waits for all clients; nothing may have gone wrong for any of them.
    #[track_caller]
    pub(crate) fn end(self) -> usize {
        let wrong: Vec<String> = self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        let whole = self.whole.load(Ordering::Relaxed);
        assert!(wrong.is_empty(), "{} of {} streams: {wrong:#?}", wrong.len(), whole + wrong.len());
        whole
    }

    #[track_caller]
    pub(crate) fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.end()
    }
}
