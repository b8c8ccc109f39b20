//! The load of the bench: closed-loop clients over kept connections, and streams whose every line is timed.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use memchr::{memchr, memmem};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::answer::{self, Bounds, Chunks};
use super::stub::{DONE_MARK, SENT_DIGITS, SENT_MARK};

/// A key that every gate under test knows.
pub(crate) const TOKEN: &str = "bench-7Qm2Xf0cVb9sLk4TzW8eRj6N";

/// A chat request of about this many bytes of content, not streamed.
pub(crate) fn whole_request(content: usize) -> Vec<u8> {
    let text = "How do I cancel a request? ".repeat(content.div_ceil(27));
    request(&format!(
        r#"{{"model":"bench","messages":[{{"role":"user","content":"{}"}}],"stream":false,"options":{{"temperature":0,"num_predict":64}}}}"#,
        &text[..content]
    ))
}

/// A chat request for `lines` lines, `pace` apart, the first after `offset`.
pub(crate) fn stream_request(lines: u64, pace: Duration, offset: Duration) -> Vec<u8> {
    request(&format!(
        r#"{{"model":"bench","messages":[{{"role":"user","content":"How do I cancel a request?"}}],"stream":true,"options":{{"num_predict":{lines},"seed":{},"top_k":{}}}}}"#,
        pace.as_micros(),
        offset.as_micros()
    ))
}

/// A chat request for a stream that never ends by itself, whose lines have so many bytes more than a token.
pub(crate) fn flood_request(padding: usize) -> Vec<u8> {
    request(&format!(
        r#"{{"model":"bench","messages":[],"stream":true,"options":{{"num_predict":1000000000,"seed":20000,"num_keep":{padding}}}}}"#
    ))
}

fn request(body: &str) -> Vec<u8> {
    format!(
        "POST /api/chat HTTP/1.1\r\nHost: gate.example\r\nUser-Agent: bench/1\r\nAccept: */*\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Clients that ask again as soon as they are answered.
pub(crate) struct Clients {
    connections: Vec<TcpStream>,
}

/// What a run of clients or streams saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Answers, or lines of streams.
    pub(crate) count: u64,
    /// Nanoseconds from request to last byte, or from a line's sending to its arrival.
    pub(crate) times: Vec<u64>,
    pub(crate) elapsed: Duration,
}

impl Clients {
    pub(crate) async fn connect(address: SocketAddr, count: usize) -> Result<Self> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(connect(address).await?);
        }
        Ok(Self { connections })
    }

    /// Each connection asks once, one after the other.
    pub(crate) async fn once(&mut self, request: &[u8]) -> Result<()> {
        let mut scratch = Vec::new();
        for connection in &mut self.connections {
            ask(connection, request, &mut scratch).await?;
        }
        Ok(())
    }

    /// All ask at once, each so many times.
    pub(crate) async fn times(&mut self, request: &Rc<Vec<u8>>, times: u64) -> Result<()> {
        let mut asking = JoinSet::new();
        for mut connection in self.connections.drain(..) {
            let request = Rc::clone(request);
            asking.spawn_local(async move {
                let mut scratch = Vec::with_capacity(4096);
                for _ in 0..times {
                    ask(&mut connection, &request, &mut scratch).await?;
                }
                anyhow::Ok(connection)
            });
        }
        while let Some(ended) = asking.join_next().await {
            self.connections.push(ended??);
        }
        Ok(())
    }

    /// All ask until the time is over; what was asked by then is still answered and counted.
    pub(crate) async fn run(&mut self, request: &Rc<Vec<u8>>, time: Duration) -> Result<Seen> {
        let begin = Instant::now();
        let mut asking = JoinSet::new();
        for mut connection in self.connections.drain(..) {
            let request = Rc::clone(request);
            asking.spawn_local(async move {
                let (mut times, mut scratch) = (Vec::new(), Vec::with_capacity(4096));
                let mut now = Instant::now();
                while begin.elapsed() < time {
                    ask(&mut connection, &request, &mut scratch).await?;
                    let answered = Instant::now();
                    times.push(nanos(answered - now));
                    now = answered;
                }
                anyhow::Ok((connection, times))
            });
        }
        let mut seen = Seen::default();
        while let Some(ended) = asking.join_next().await {
            let (connection, times) = ended??;
            seen.count += times.len() as u64;
            seen.times.extend(times);
            self.connections.push(connection);
        }
        seen.elapsed = begin.elapsed();
        Ok(seen)
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let connection =
        TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    connection.set_nodelay(true)?;
    Ok(connection)
}

async fn ask(connection: &mut TcpStream, request: &[u8], scratch: &mut Vec<u8>) -> Result<()> {
    connection.write_all(request).await?;
    let status = answer::read_whole(connection, scratch).await?;
    ensure!(status == 200, "answered {status}: {}", String::from_utf8_lossy(scratch));
    Ok(())
}

/// The statuses of a request without a credential, with one of another kind, and with a wrong key.
pub(crate) async fn statuses_without_key(address: SocketAddr) -> Result<[u16; 3]> {
    let right = String::from_utf8(whole_request(100))?;
    let line = format!("Authorization: Bearer {TOKEN}\r\n");
    let mut statuses = [0; 3];
    let others = ["", "Authorization: Digest x\r\n", "Authorization: Bearer wrong-key\r\n"];
    for (status, other) in statuses.iter_mut().zip(others) {
        let mut connection = connect(address).await?;
        connection.write_all(right.replace(&line, other).as_bytes()).await?;
        let mut scratch = Vec::new();
        let head = loop {
            ensure!(connection.read_buf(&mut scratch).await? > 0, "closed instead of refused");
            if let Some(head) = answer::head(&scratch)? {
                break head;
            }
        };
        *status = head.status;
    }
    Ok(statuses)
}

/// The status of `/metrics` for this key.
pub(crate) async fn status_of_metrics(address: SocketAddr, key: &str) -> Result<u16> {
    let mut connection = connect(address).await?;
    let request =
        format!("GET /metrics HTTP/1.1\r\nHost: gate.example\r\nAuthorization: Bearer {key}\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    answer::read_whole(&mut connection, &mut Vec::new()).await
}

/// How many streams, and their shape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) streams: u32,
    pub(crate) pace: Duration,
    pub(crate) lines: u64,
}

/// Streams that are running, each on a connection of its own; dropping them closes all.
pub(crate) struct Streams {
    running: JoinSet<Result<()>>,
    arrived: Rc<Arrived>,
    shape: Shape,
}

#[derive(Default)]
struct Arrived {
    lines: Cell<u64>,
    begun: Cell<u32>,
    lags: RefCell<Vec<u64>>,
}

impl Streams {
    /// Starts all of them, their beginnings spread evenly over one pace.
    pub(crate) fn start(address: SocketAddr, shape: Shape, clock: Instant) -> Self {
        let arrived = Rc::new(Arrived::default());
        let mut running = JoinSet::new();
        for number in 0..shape.streams {
            let offset = shape.pace * number / shape.streams;
            let request = stream_request(shape.lines, shape.pace, offset);
            let arrived = Rc::clone(&arrived);
            running.spawn_local(async move { stream(address, &request, &arrived, clock).await });
        }
        Self { running, arrived, shape }
    }

    /// Lines that have arrived so far, over all streams.
    pub(crate) fn lines(&self) -> u64 {
        self.arrived.lines.get()
    }

    /// Waits until every stream has given its first line.
    pub(crate) async fn begun(&mut self) -> Result<()> {
        let limit = Instant::now() + self.shape.pace * 2 + Duration::from_secs(20);
        while self.arrived.begun.get() < self.shape.streams {
            if let Some(ended) = self.running.try_join_next() {
                ended??;
            }
            ensure!(Instant::now() < limit, "streams did not begin");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Reads all to their ends; an incomplete one is an error.
    pub(crate) async fn finish(mut self) -> Result<Seen> {
        while let Some(ended) = self.running.join_next().await {
            ended??;
        }
        let count = self.arrived.lines.get();
        let asked = u64::from(self.shape.streams) * self.shape.lines;
        ensure!(count == asked, "{count} of {asked} lines arrived");
        Ok(Seen { count, times: self.arrived.lags.take(), elapsed: Duration::ZERO })
    }
}

async fn stream(address: SocketAddr, request: &[u8], arrived: &Arrived, clock: Instant) -> Result<()> {
    let mut connection = connect(address).await?;
    connection.write_all(request).await?;
    let (mut wire, mut data, mut chunks) = (Vec::with_capacity(2048), Vec::new(), Chunks::default());
    let mut in_body = false;
    let mut lines = 0_u64;
    let mut ended = false;
    while !chunks.is_done() {
        ensure!(connection.read_buf(&mut wire).await? > 0, "a stream was cut");
        if !in_body {
            let Some(head) = answer::head(&wire)? else { continue };
            ensure!(head.status == 200, "a stream was answered {}", head.status);
            let Bounds::Chunked = head.bounds else { bail!("a stream that is not in chunks") };
            wire.drain(..head.bytes);
            in_body = true;
        }
        chunks.take(&wire, &mut data)?;
        wire.clear();
        let now = nanos(clock.elapsed());
        while let Some(end) = memchr(b'\n', &data) {
            let line = &data[..end];
            arrived.lags.borrow_mut().push(now.saturating_sub(sent_at(line)?));
            ended = memmem::find(line, DONE_MARK).is_some();
            data.drain(..=end);
            lines += 1;
            arrived.lines.set(arrived.lines.get() + 1);
            if lines == 1 {
                arrived.begun.set(arrived.begun.get() + 1);
            }
        }
    }
    ensure!(ended && data.is_empty(), "a stream without its last line");
    Ok(())
}

fn sent_at(line: &[u8]) -> Result<u64> {
    let start = memmem::find(line, SENT_MARK).context("a line without its time")? + SENT_MARK.len();
    let digits = line.get(start..start + SENT_DIGITS).context("a line that is too short")?;
    std::str::from_utf8(digits)?.parse().context("a line's time")
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
