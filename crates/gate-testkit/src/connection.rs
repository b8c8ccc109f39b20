//! One connection: read a request, play its answer, and know all the while whether the peer is still there. A half-close
//! counts as leaving and ends the answer, as in Ollama.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::net::TcpStream;

use crate::log::Entry;
use crate::order::Then;
use crate::request::{self, Head};
use crate::routes;
use crate::script::{Script, Step};
use crate::shared::Shared;

/// What a connection can run over: a socket, or memory.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {
    /// From now on dropping this is a reset, where the wire knows such a thing.
    fn arm_reset(&self);
}

impl Wire for TcpStream {
    fn arm_reset(&self) {
        // Refused only by a socket that is dead already.
        drop(socket2::SockRef::from(self).set_linger(Some(std::time::Duration::ZERO)));
    }
}

impl Wire for DuplexStream {
    fn arm_reset(&self) {}
}

/// Bytes of later requests that are kept while an answer is playing.
const AHEAD_BYTES: usize = 8 << 20;

/// Serves requests until one side leaves.
pub(crate) async fn serve<W: Wire>(shared: Arc<Shared>, wire: W) {
    let number = shared.log.connected();
    let _open = Open(&shared);
    let mut connection = Connection::new(&shared, wire, number);
    let then = connection.run().await;
    let Connection { reader, writer, last, peer_left, .. } = connection;
    if let (Some(entry), Some(when)) = (last, peer_left) {
        shared.log.edit(entry, |seen| seen.peer_closed = Some(when));
    }
    let mut wire = reader.unsplit(writer);
    match then {
        Then::Reset => wire.arm_reset(),
        // The peer may have closed already: nothing to tell it.
        Then::Close | Then::KeepOpen => drop(wire.shutdown().await),
    }
}

/// Counts the connection as open; also when its task is ended from outside.
struct Open<'s>(&'s Shared);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.log.disconnected();
    }
}

struct Connection<'s, W> {
    shared: &'s Shared,
    number: u64,
    reader: ReadHalf<W>,
    writer: WriteHalf<W>,
    /// Read, and not yet part of a request.
    ahead: Vec<u8>,
    last: Option<Entry>,
    peer_left: Option<Instant>,
}

impl<'s, W: Wire> Connection<'s, W> {
    fn new(shared: &'s Shared, wire: W, number: u64) -> Self {
        let (reader, writer) = tokio::io::split(wire);
        Self { shared, number, reader, writer, ahead: Vec::new(), last: None, peer_left: None }
    }

    async fn run(&mut self) -> Then {
        loop {
            let Some(head) = self.read_head().await else { return Then::Close };
            let entry = self.shared.log.begin(self.number, head.bytes.clone());
            self.last = Some(entry);
            let Some(body) = self.read_body(&head, entry).await else { return Then::Close };
            let script = routes::script(self.shared, &head, &body);
            match self.play(script, entry).await {
                Then::KeepOpen => {}
                end => return end,
            }
        }
    }

    async fn read_head(&mut self) -> Option<Head> {
        loop {
            if let Some(head) = request::take_head(&mut self.ahead) {
                return Some(head);
            }
            if self.ahead.len() > request::HEAD_BYTES {
                return None;
            }
            self.read_more().await?;
        }
    }

    async fn read_body(&mut self, head: &Head, entry: Entry) -> Option<Vec<u8>> {
        let (mut framing, mut body) = (head.framing, Vec::new());
        let expects = head.expects_continue && framing != request::Framing::Length(0);
        if expects && self.ahead.is_empty() {
            self.writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
        }
        loop {
            let taken = request::take_body(&mut framing, &mut self.ahead, &mut body);
            let complete = taken == Ok(true);
            self.shared.log.edit(entry, |seen| {
                seen.body.clone_from(&body);
                seen.complete = complete;
            });
            if complete {
                return Some(body);
            }
            taken.ok()?;
            self.read_more().await?;
        }
    }

    async fn read_more(&mut self) -> Option<()> {
        match self.reader.read_buf(&mut self.ahead).await {
            Ok(0) | Err(_) => {
                self.peer_left = Some(Instant::now());
                None
            }
            Ok(_) => Some(()),
        }
    }

    async fn play(&mut self, script: Script, entry: Entry) -> Then {
        let Self { shared, reader, writer, ahead, .. } = self;
        tokio::select! {
            biased;
            () = watch(reader, ahead) => {
                self.peer_left = Some(Instant::now());
                Then::Close
            }
            // Who left is told of a write before the end of what comes from there is seen, where they left it unread.
            played = write(shared, writer, script, entry) => played.unwrap_or_else(|_gone| {
                self.peer_left = Some(Instant::now());
                Then::Close
            }),
        }
    }
}

/// Ends when the peer has left.
async fn watch<W: Wire>(reader: &mut ReadHalf<W>, ahead: &mut Vec<u8>) {
    while ahead.len() < AHEAD_BYTES {
        if matches!(reader.read_buf(ahead).await, Ok(0) | Err(_)) {
            return;
        }
    }
    std::future::pending().await
}

async fn write<W: Wire>(
    shared: &Shared,
    writer: &mut WriteHalf<W>,
    script: Script,
    entry: Entry,
) -> io::Result<Then> {
    for step in script.steps {
        match step {
            Step::Send(bytes) => {
                writer.write_all(&bytes).await?;
                writer.flush().await?;
                let (now, count) = (Instant::now(), bytes.len() as u64);
                shared.log.edit(entry, |seen| {
                    seen.answering.get_or_insert(now);
                    seen.sent += count;
                });
            }
            Step::Wait(pause) => tokio::time::sleep(pause).await,
            Step::Hang => std::future::pending().await,
            Step::Hold(until) => until.wait().await,
            Step::Happen(effect) => shared.happen(effect),
        }
    }
    shared.log.edit(entry, |seen| seen.answered = Some(Instant::now()));
    Ok(script.then)
}
